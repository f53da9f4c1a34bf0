"""The fake trace server as a process of a test, and calls as a client logs them."""
from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from client import Client, now_us
from daemon import Daemon
from tap import WAIT_SECONDS, Box, until
from wandb import Fake, forwarding, key_file


def uuid7() -> str:
    raw = bytearray(int(time.time() * 1000).to_bytes(6, "big") + os.urandom(10))
    raw[6] = 0x70 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Weave(Fake):
    program = Path(__file__).with_name("fake_weave.py")

    def __init__(self, box: Box, *args: str) -> None:
        super().__init__(box, *args, name="weave")

    def break_down(self, kind: str, path: str = "/v2/", count: int = 1, **more: Any) -> int:
        """Injects a fault; gives its number."""
        return self.ask("/__fault", {"kind": kind, "path": path, "count": count, **more})["id"]

    def fault_hits(self, number: int) -> int:
        return self.ask("/__fault")[number]["hits"]

    def calls(self) -> dict[str, dict]:
        return self.ask("/__state")["calls"]

    def await_calls(self, count: int, seconds: float = WAIT_SECONDS) -> dict[str, dict]:
        """Until so many calls have an end; gives all."""
        def look() -> dict[str, dict] | None:
            calls = self.calls()
            return calls if sum("ended_at" in c for c in calls.values()) >= count else None
        return until(look, f"{count} calls", seconds)  # type: ignore[return-value]

    def check(self, final: bool = True, warnings: tuple[str, ...] = ()) -> None:
        verdict = self.ask("/__check")
        left = [w for w in verdict["warnings"] if not any(text in w for text in warnings)]
        assert not verdict["errors"] and not left, json.dumps({"errors": verdict["errors"], "warnings": left}, indent=1)


class Call:
    """A call as a client logs it."""

    def __init__(self, c: Client, op: str, parent: "Call | None" = None, run: str | None = "r", **more: Any) -> None:
        self.c = c
        self.id = uuid7()
        self.trace = parent.trace if parent is not None else uuid7()
        self.parent = parent.id if parent is not None else None
        self.op = op
        self.run = {} if run is None else {"run": run}
        self.started = now_us()
        self.more = more

    def _about(self) -> dict:
        return {**self.run, "id": self.id, "trace_id": self.trace, "parent_id": self.parent, "op": self.op, "started_at": self.started,
                "inputs": {}, **self.more}

    def start(self) -> "Call":
        self.c.send("call", phase="start", t=now_us(), **self._about())
        return self

    def end(self, output: Any = None, **more: Any) -> "Call":
        self.c.send("call", **({"phase": "end", "t": now_us(), "ended_at": now_us(), "output": output, "id": self.id} | self.run | more))
        return self

    def complete(self, output: Any = None, **more: Any) -> "Call":
        self.c.send("call", **({"phase": "complete", "t": now_us(), "ended_at": now_us(), "output": output} | self._about() | more))
        return self


def tracing(box: Box, *weave_args: str, **settings: Any) -> tuple[Fake, Weave, Daemon]:
    """Both fakes, and a daemon that sends to them."""
    fake, weave = Fake(box), Weave(box, *weave_args)
    more: dict[str, Any] = {"models__key_file": key_file(box), "weave__base_url": weave.url}
    daemon = Daemon(box, **forwarding(fake, **more | settings))
    daemon.start()
    return fake, weave, daemon
