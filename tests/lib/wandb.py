"""The fake W&B as a process of a test, and what one asks it: is what it holds what was logged?"""
from __future__ import annotations

import json
import math
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from process import Process
from tap import WAIT_SECONDS, Box, until

FAKE = Path(__file__).with_name("fake_wandb.py")
KEY = "0123456789abcdef0123456789abcdef01234567"
ENTITY = "wbx-team"


class Fake:
    """A fake W&B on a port of its own; stop() and start() take it off the net and back, with an empty memory."""

    context: ssl.SSLContext | None = None  # of one that speaks TLS
    program = FAKE

    def __init__(self, box: Box, *args: str, name: str = "fake") -> None:
        self.box = box
        self.name = name
        self.args = list(args)
        self.port = 0
        self.url = ""
        self.process: Process | None = None
        self.start()

    def start(self) -> None:
        self.process = Process(self.box, [sys.executable, self.program, "--port", str(self.port), *self.args],
                               log=self.box.log_file(f"{self.name}.log"), stdout=subprocess.PIPE)
        line = self.process.read_line()
        assert "listening on" in line, line
        self.url = line.split()[-1]
        self.port = int(self.url.rpartition(":")[2])

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill9()

    def freeze(self) -> None:
        """The link hangs: connections are taken by the kernel and nothing answers."""
        assert self.process is not None
        self.process.stop_running()

    def thaw(self) -> None:
        assert self.process is not None
        self.process.go_on()

    # -- asking

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS, context=self.context) as answer:
            return json.load(answer)

    def fault(self, match: dict, then: dict, count: int = 1, skip: int = 0) -> int:
        """Injects a fault; gives its number."""
        return self.ask("/__fault", {"match": match, "then": then, "count": count, "skip": skip})["ids"][0]

    def clear_faults(self) -> None:
        self.ask("/__fault", method="DELETE")

    def hits(self, number: int) -> int:
        return next(f.get("hits", 0) for f in self.ask("/__fault") if f["id"] == number)

    def await_hits(self, number: int, count: int = 1) -> None:
        until(lambda: self.hits(number) >= count, f"{count} hits of fault {number}")

    def runs(self) -> dict[str, dict]:
        return self.ask("/__state")["runs"]

    def run(self, run: str, project: str = "p", entity: str = ENTITY) -> dict | None:
        return self.runs().get(f"{entity}/{project}/{run}")

    def await_run(self, run: str, state: str, project: str = "p", seconds: float = WAIT_SECONDS) -> dict:
        """Until the run is in that state; gives it."""
        return until(lambda: (r := self.run(run, project)) and r["state"] == state and r or None,
                     f"run {run} is {state}", seconds)

    def rows(self, run: str, project: str = "p", entity: str = ENTITY) -> list[dict]:
        return self.ask(f"/__rows?run={quote(f'{entity}/{project}/{run}')}")

    def await_rows(self, run: str, count: int, project: str = "p", seconds: float = WAIT_SECONDS) -> list[dict]:
        return until(lambda: self.run(run, project) and len(rows := self.rows(run, project)) >= count and rows or None,
                     f"{count} rows of run {run}", seconds)

    def summary(self, run: str, project: str = "p", entity: str = ENTITY) -> dict:
        """Without what wbx says of itself there (models.self_report)."""
        return {k: v for k, v in self.whole_summary(run, project, entity).items() if not k.startswith("wbx/")}

    def whole_summary(self, run: str, project: str = "p", entity: str = ENTITY) -> dict:
        return self.ask(f"/__summary?run={quote(f'{entity}/{project}/{run}')}")

    def config(self, run: str, project: str = "p", entity: str = ENTITY, raw: bool = False) -> dict:
        """{key: value}; raw: as it was sent, with `_wandb`."""
        return self.ask(f"/__config?run={quote(f'{entity}/{project}/{run}')}" + "&raw=1" * raw)

    def console(self, run: str, project: str = "p") -> list[str]:
        """The lines of output.log as they were sent."""
        return (self.run(run, project) or {"console": []})["console"]

    def contents(self, run: str, project: str = "p") -> list[str]:
        """What structured lines of output.log say."""
        return [json.loads(line)["content"] for line in self.console(run, project)]

    def events(self, run: str, project: str = "p") -> list[dict]:
        """Lines of system metrics."""
        return [e["line"] for e in (self.run(run, project) or {"events": []})["events"]]

    def alerts(self, run: str) -> list[dict]:
        return [a for a in self.ask("/__state")["alerts"] if a["runName"] == run]

    def check(self, final: bool = True, warnings: tuple[str, ...] = ()) -> None:
        """The judge has nothing to say, but for warnings that hold one of these texts."""
        verdict = self.ask("/__check?final=1" if final else "/__check")
        left = [w for w in verdict["warnings"] if not any(text in json.dumps(w) for text in warnings)]
        assert not verdict["errors"] and not left, json.dumps({"errors": verdict["errors"], "warnings": left}, indent=1)

    def requests(self, kind: str | None = None) -> list[dict]:
        return [e for e in self.ask("/__log?bodies=0") if kind is None or e["kind"] == kind]


def own(row: dict) -> dict:
    """A row without the keys that W&B's clients add."""
    return {k: v for k, v in row.items() if k not in ("_step", "_timestamp", "_runtime")}


def same(a: Any, b: Any) -> bool:
    """Equal, with NaN equal to NaN and 1 to 1.0, and nothing else bent."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and a == b


def key_file(box: Box, key: str = KEY, name: str = "key") -> Path:
    path = box.dir / name
    path.touch(mode=0o600)
    path.write_text(key + "\n")
    return path


def forwarding(fake: Fake, **more: Any) -> dict[str, Any]:
    """Settings of a daemon that sends to this fake without long waits."""
    return {"models__base_url": fake.url, "models__interval": "50ms", "models__backoff_max": "200ms"} | more
