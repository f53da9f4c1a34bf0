"""What one measurement of ./dev bench is made of: a directory, a daemon, workers; and a flood of records."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from daemon import Daemon
from measure import await_idle, descendants, memory_mb, percentile, read_times
from process import BUILD, Process, clean_env
from sdk import sdk_python
from tap import Box
from trainer import python_env
from wandb import KEY, Fake

CLIENT = BUILD / "tests/bench_client"
PATIENCE_S = 120.0


def many(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("s" if count != 1 else "")


class Round:
    """One measurement: a directory, a daemon (for wbx), workers, and the end of all of them."""

    def __init__(self, subject: str, name: str, **settings: Any) -> None:
        self.subject = subject
        self.box = Box("wbx-bench-")
        self.name = name
        self.workers: list[Process] = []
        self.jobs: list[dict] = []
        self.outside: set[int] = set()  # processes that do not count: the fake W&B
        self.daemon: Daemon | None = None
        self.fake: Fake | None = None
        self.settings = settings
        self.idle_mb = 0.0  # of the service, before the work

    def __enter__(self) -> "Round":
        if self.subject == "wbx":
            self.daemon = Daemon(self.box, **self.settings).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.box.end()
        self.box.remove()

    @property
    def sdk_dir(self) -> Path:
        path = self.box.dir / "sdk"
        path.mkdir(exist_ok=True)
        return path

    def env(self, **more: str) -> dict[str, str]:
        if self.daemon is not None:
            return python_env(WBX_SOCKET=str(self.daemon.socket), HOME=str(self.box.dir), **more)
        return clean_env(HOME=str(self.sdk_dir), WANDB_ERROR_REPORTING="false", **more)

    def add(self, **job: Any) -> None:
        """A worker in Python."""
        number = len(self.workers)
        job = {"with": self.subject, "run": f"{self.name}{number}", "dir": str(self.sdk_dir),
               "times": str(self.box.dir / f"times{number}")} | job
        python = sys.executable if self.subject == "wbx" else sdk_python()
        more = {"WANDB_BASE_URL": self.fake.url, "WANDB_API_KEY": KEY} if self.fake and self.subject == "sdk" else {}
        self._start([python, Path(__file__).with_name("worker.py"), json.dumps(job)], job, **more)

    def add_c(self, *args: Any) -> None:
        """A worker in C: args end with the file of times."""
        times = str(self.box.dir / f"times{len(self.workers)}")
        self._start([CLIENT, *args, times], {"times": times})

    def _start(self, args: list, job: dict, **env: str) -> None:
        number = len(self.workers)
        self.workers.append(Process(self.box, args, env=self.env(**env), log=self.box.log_file(f"worker{number}.log"),
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        self.jobs.append(job)

    def each_says(self, word: str | None = None) -> list[str]:
        lines = [w.read_line(PATIENCE_S) for w in self.workers]
        if word is not None and set(lines) != {word}:
            raise AssertionError(f"{lines}\n" + "\n".join(self.box.show_logs()))
        return lines

    def tell(self, line: str) -> None:
        for worker in self.workers:
            worker.tell(line)

    def go(self) -> float:
        """Ready, go, done; the CPU seconds of all processes from go on until all is quiet."""
        self.each_says("ready")
        before = await_idle(self.outside)
        self.idle_mb = memory_mb(self.service_pids())
        self.tell("go")
        self.each_says("done")
        return await_idle(self.outside) - before

    def end(self) -> list[dict]:
        self.tell("end")
        return [json.loads(line) for line in self.each_says()]

    def times(self) -> list[float]:
        return [t for job in self.jobs for t in read_times(Path(job["times"]))]

    def service_pids(self) -> list[int]:
        return [pid for pid in descendants(os.getpid(), self.outside) if pid not in {w.pid for w in self.workers}]


def flood(r: Round, clients: int, count: int, window: int, pause_us: int = 0) -> dict[str, float]:
    """count records of 500 bytes from each client; rate, acknowledgements, CPU of the daemon, its memory."""
    r.workers, r.jobs = [], []
    r.add_c("flood", clients, count, 500, window, pause_us)
    r.each_says("ready")
    before = descendants(os.getpid())[r.daemon.process.pid]
    r.tell("go")
    seconds = float(r.each_says()[0])
    cpu = descendants(os.getpid())[r.daemon.process.pid] - before
    times = r.times()
    return {"rate": clients * count / seconds, "ack_p50": percentile(times, 0.5) / 1e3, "ack_p99": percentile(times, 0.99) / 1e3,
            "cpu": cpu * 1e6 / (clients * count), "memory": memory_mb([r.daemon.process.pid])}
