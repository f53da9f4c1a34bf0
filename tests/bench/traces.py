"""Figures of ./dev bench traces: what a traced call costs, and what is lost, beside weave from PyPI in the same run."""
from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from measure import Foreign, emit, percentile
from process import Process
from round import PATIENCE_S, Round
from sdk import weave_python
from tap import pause
from wandb import key_file

COUNT = 6000
DEAD_COUNT = 2000
WARM_UP = 400  # of each worker (trace_worker.py)
KILL_AFTER_S = 6
HERE = Path(__file__).parent


class TraceRound(Round):
    """Workers with traced functions; for weave a service that takes everything, or answers with one status, or (None) goes away."""

    def __init__(self, subject: str, name: str, status: int | None = 200) -> None:
        super().__init__(subject, name)
        self.status = status
        self.url = ""
        self.service: Process | None = None

    def __enter__(self) -> "TraceRound":
        super().__enter__()
        if self.daemon is not None:
            key_file(self.box)
        else:
            self.service = Process(self.box, [sys.executable, HERE / "fake_traces.py", str(self.status or 200)], log=self.box.log_file("service.log"),
                                   stdout=subprocess.PIPE)
            self.url = f"http://127.0.0.1:{self.service.read_line(PATIENCE_S)}"
            self.outside.add(self.service.pid)
        return self

    def add_traced(self, **job: Any) -> None:
        number = len(self.workers)
        job = {"with": self.subject, "run": f"{self.name}{number}", "times": str(self.box.dir / f"times{number}"), "threads": 1, "count": COUNT} | job
        python = sys.executable if self.subject == "wbx" else weave_python()
        more = {}
        if self.subject == "weave":
            more = {"WANDB_BASE_URL": self.url, "WF_TRACE_SERVER_URL": self.url, "WANDB_API_KEY": "k" * 40, "WEAVE_PRINT_CALL_LINK": "false"}
        self._start([python, HERE / "trace_worker.py", json.dumps(job)], job, **more)

    def work(self) -> None:
        """As go(), without looking for quiet. A service that is not to be there goes when weave.init() has seen it."""
        self.each_says("ready")
        if self.service is not None and self.status is None:
            self.service.kill9()
        self.tell("go")
        self.each_says("done")

    def kept(self, want: int, seconds: float = 10.0) -> int:
        """Ended calls that are in the store, or with the service, when nothing more comes."""
        deadline = time.monotonic() + seconds
        while (found := self._count()) < want and time.monotonic() < deadline:
            pause(0.2)
        return found

    def _count(self) -> int:
        if self.daemon is not None:
            return sum(row.body["phase"] != "start" for row in self.daemon.store.rows(kind="call"))
        if self.service is None or self.status is None:
            return 0
        with urllib.request.urlopen(f"{self.url}/__count", timeout=20) as answer:
            return json.loads(answer.read())["count"]


class Traces:
    """A part of Bench."""

    options: Any
    rounds: int

    def _both(self, act: Any) -> tuple[dict[str, dict[str, list[float]]], float]:
        """By figure and subject, the values of the rounds; weave stands where other figures have the SDK."""
        subjects = ["wbx"] if self.options.no_sdk else ["wbx", "weave"]
        found: dict[str, dict[str, list[float]]] = {}
        foreign = Foreign()
        for _ in range(self.rounds):
            for subject in subjects:
                for figure, value in act(subject).items():
                    found.setdefault(figure, {}).setdefault({"weave": "sdk"}.get(subject, subject), []).append(value)
        return found, foreign.cores()

    def traces(self) -> None:
        """Traced calls beside weave (PyPI): time in the caller, CPU, memory, time to exit, what is lost."""
        for threads in (1, 8):
            self._traced_burst(threads)
        for name, status in (("dead", None), ("answers 503", 503)):
            self._traced_outage(name, status)
        for rate in (10, 100, 500):
            self._traced_kill(rate)

    def _traced_burst(self, threads: int) -> None:
        def act(subject: str) -> dict[str, float]:
            with TraceRound(subject, "burst") as r:
                r.add_traced(threads=threads)
                cpu = r.go()
                times = r.times()
                r.tell("end")
                return {"p50": percentile(times, 0.5), "p99": percentile(times, 0.99), "cpu": cpu * 1e6 / len(times)}

        found, foreign = self._both(act)
        case = f"{threads} thread" + ("s" if threads > 1 else "")
        emit("traces", f"{case}, call p50", "us", **found["p50"], target=30, foreign_cores=foreign)
        emit("traces", f"{case}, call p99", "us", **found["p99"], foreign_cores=foreign)
        emit("traces", f"{case}, CPU of all processes for one", "us", **found["cpu"], foreign_cores=foreign)

    def _traced_outage(self, name: str, status: int | None) -> None:
        def act(subject: str) -> dict[str, float]:
            with TraceRound(subject, "outage", status) as r:
                r.add_traced(count=DEAD_COUNT, payload=12_000)
                r.work()
                began = time.monotonic()
                grown = r.end()[0]["grown_kb"] / DEAD_COUNT
                for worker in r.workers:
                    worker.wait(900)
                seconds = time.monotonic() - began
                want = DEAD_COUNT + WARM_UP
                return {"exit": seconds, "grown": grown, "lost": want - r.kept(want, 10 if subject == "wbx" else 1)}

        found, foreign = self._both(act)
        emit("traces", f"service {name}, memory a call of 12 KB", "KB", **found["grown"], foreign_cores=foreign)
        emit("traces", f"service {name}, time to exit", "s", **found["exit"], target=1, foreign_cores=foreign)
        emit("traces", f"service {name}, lost of {DEAD_COUNT + WARM_UP:,} when the process has ended", "calls", **found["lost"], target=0, foreign_cores=foreign)

    def _traced_kill(self, rate: int) -> None:
        def act(subject: str) -> dict[str, float]:
            with TraceRound(subject, "kill") as r:
                notes = r.box.dir / "notes"
                notes.write_bytes(bytes(8))
                r.add_traced(rate=rate, notes=str(notes))
                r.each_says("ready")
                r.tell("go")
                deadline = time.monotonic() + KILL_AFTER_S
                while time.monotonic() < deadline:
                    pause(0.05)
                r.workers[0].kill9()
                [returned] = struct.unpack("=Q", notes.read_bytes())
                return {"lost": max(0, returned + WARM_UP - r.kept(returned + WARM_UP)), "returned": returned}

        found, foreign = self._both(act)
        emit("traces", f"kill -9 at {rate} calls/s, lost", "calls", **found["lost"], returned=found["returned"]["wbx"], target=0, foreign_cores=foreign)
