"""Runs that are logged through a daemon to a fake W&B, and the proof that W&B has exactly what was logged."""
from __future__ import annotations

from typing import Any

from client import Client, greeted, now_us
from ctl import Ctl
from daemon import Daemon, started
from tap import Box
from wandb import Fake, forwarding, key_file, own, same


def sending(box: Box, *fake_args: str, fake: Fake | None = None, **settings: Any) -> tuple[Fake, Daemon]:
    """A fake W&B, and a daemon that has a key for it, waits for next to nothing and has no limit of its own."""
    fake = fake or Fake(box, *fake_args)
    short = {"models__backoff_max": "100ms", "models__requests_per_s": 0}
    return fake, started(box, models__key_file=key_file(box), **forwarding(fake, **(short | settings)))


def steered(box: Box, *fake_args: str, **settings: Any) -> tuple[Fake, Daemon, Ctl]:
    """As sending(), with wbxctl for the daemon."""
    fake, daemon = sending(box, *fake_args, **settings)
    return fake, daemon, Ctl(daemon)


class Logged:
    """A run and everything that was logged to it: rows, config, summary."""

    def __init__(self, name: str, /, **more: Any) -> None:
        self.name = name
        self.more = more
        self.entity = more.get("entity", "wbx-team")
        self.rows: list[dict] = []
        self.config = {"lr": 1e-6, "model": {"name": name, "layers": [1, 2]}}
        self.summary: dict[str, Any] = {}

    def open(self, c: Client) -> "Logged":
        c.open_run(self.name, config=self.config, **self.more)
        return self

    def log(self, c: Client, *rows: dict) -> "Logged":
        for row in rows:
            c.send("log", run=self.name, t=now_us(), data=row)
            self.rows.append(row)
            self.summary |= row
        return self

    def set_summary(self, c: Client, **values: Any) -> "Logged":
        c.send("summary", run=self.name, t=now_us(), data=values)
        self.summary |= values
        return self

    def finish(self, c: Client, exit_code: int = 0) -> "Logged":
        c.finish(self.name, exit_code)
        return self

    def arrive(self, c: Client, fake: Fake) -> "Logged":
        """Waits until W&B has all rows so far."""
        c.flush()
        fake.await_rows(self.name, len(self.rows))
        return self

    def is_delivered(self, fake: Fake, steps: list[int] | None = None) -> None:
        """Waits for the run's end, and compares every value. steps: of the rows, when not 0, 1, 2..."""
        fake.await_run(self.name, "finished")
        self.is_held(fake, steps)

    def is_held(self, fake: Fake, steps: list[int] | None = None) -> None:
        got = fake.rows(self.name)
        assert [r["_step"] for r in got] == (steps or list(range(len(self.rows)))), [r["_step"] for r in got]
        for have, want in zip(got, self.rows):
            assert same(own(have), want), f"{self.name}: {have} is not {want}"
        config = fake.config(self.name)
        assert same(config, self.config), f"{self.name}: {config} is not {self.config}"
        summary = {k: v for k, v in fake.summary(self.name).items() if not k.startswith("_")}
        assert same(summary, self.summary), f"{self.name}: {summary} is not {self.summary}"


def some_rows(count: int, first: int = 0) -> list[dict]:
    return [{"n": i, "loss": 1 / (i + 1), "deep": {"a": i, "b": f"text {i}"}} for i in range(first, first + count)]


def log_whole(daemon: Daemon, *names: str, count: int = 3) -> list[Logged]:
    """Whole runs of few rows, by one producer; returns when all is on the daemon's disk."""
    with greeted(daemon.socket) as c:
        runs = [Logged(name).open(c).log(c, *some_rows(count)).set_summary(c, best=0.5) for name in names]
        for run in runs:
            run.finish(c)
    return runs


def all_is_well(fake: Fake, ctl: Ctl, *runs: Logged, warnings: tuple[str, ...] = ()) -> None:
    """These runs are delivered, the daemon is healthy, and the fake's judge has nothing to say but these warnings."""
    for run in runs:
        run.is_delivered(fake)
    ctl.await_healthy()
    fake.check(warnings=warnings)


# -- which requests a fault meets

KINDS = ("status", "upsert", "stream")
OPERATIONS = {"status": "WbxRunStatus", "upsert": "WbxUpsertRun"}


def request_of(kind: str, run: str) -> dict:
    """Matches the requests of this kind and run."""
    if kind == "stream":
        return {"kind": "filestream", "run": run}
    return {"kind": "graphql", "op": OPERATIONS[kind], "body": f'"run":"{run}"'}


VIEWER = {"kind": "graphql", "op": "WbxViewer"}
EVERYTHING = {"kind": "any"}


def requests_of(fake: Fake, kind: str, run: str) -> list[dict]:
    """What the fake has seen of these requests, oldest first."""
    if kind == "stream":
        return [e for e in fake.requests("filestream") if e["path"].endswith(f"/{run}/file_stream")]
    log = fake.ask("/__log")
    return [e for e in log if e.get("op") == OPERATIONS[kind] and e["body"]["variables"].get("run") == run]
