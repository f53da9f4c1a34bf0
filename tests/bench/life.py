"""Figures of a daemon's life: what ingest feels of other work, how fast a run goes on, ten minutes of heavy load."""
from __future__ import annotations

import argparse
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from client import greeted, now_us
from ctl import Ctl, ctl_env
from daemon import Daemon
from delivery import OPERATIONS
from link import Relay
from measure import Foreign, emit, memory_mb, percentile, read_times
from round import PATIENCE_S, Round, flood
from tap import pause, until
from wandb import Fake, forwarding, key_file

PARKED_RUNS = 64
PARKED_ROWS = 500
DELIVERED = 1_000_000
PHASES = ("up", "down", "flapping")
FLAP_S = 5.0


class Beside:
    """A command again and again while something is measured; how often it ended."""

    def __init__(self, ctl: Ctl, *words: str) -> None:
        self.ctl, self.words, self.times, self.is_over = ctl, words, 0, False
        self.thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self.is_over:
            done = subprocess.run(self.ctl.args(*self.words), env=ctl_env(self.ctl.box), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            if done.returncode > 1:
                raise AssertionError(f"wbxctl {self.words}: {done.returncode} {done.stderr}")
            self.times += 1

    def __enter__(self) -> "Beside":
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.is_over = True
        self.thread.join()


def checkpoints(store: Path) -> int:
    """How often the write-ahead log has begun anew: its header counts it."""
    return struct.unpack(">I", (store / "wbx.db-wal").read_bytes()[12:16])[0]


class Life:
    options: argparse.Namespace

    # -- is other work felt?

    def felt(self) -> None:
        """Acknowledgements of 8 clients at 1 kHz: alone, and while retention, an export or wbxctl are at work."""
        with Round("none", "felt") as r:
            r.subject = "wbx"
            r.fake = Fake(r.box, "--heartbeat-gap", "0")
            r.outside = {r.fake.process.pid}
            r.daemon = Daemon(r.box, models__key_file=key_file(r.box), models__requests_per_s=0, **forwarding(r.fake)).start()
            ctl = Ctl(r.daemon)
            flood(r, 8, DELIVERED // 8, 512)
            until(lambda: ctl.sink()["waiting"] == 0, "all is delivered", PATIENCE_S * 3)
            ctl("pause", "models")
            r.fake.stop()
            self._feel(r, "alone", None)
            self._feel(r, "beside wbxctl export", ("export", "flood", "--jsonl"))
            self._feel(r, "beside wbxctl status", ("status",))
            before = self._records(r.daemon)
            self._feel(r, "while retention removes what is delivered", ("store", "prune", "--all-delivered", "--yes"))
            gone = before - self._records(r.daemon)
            emit("felt", "records that retention removed meanwhile", "records", wbx=gone)

    @staticmethod
    def _records(daemon: Daemon) -> int:
        return daemon.store.query("SELECT count(*) FROM record")[0][0]

    def _feel(self, r: Round, case: str, words: tuple[str, ...] | None) -> None:
        foreign = Foreign()
        restarts = checkpoints(r.daemon.store.path)
        if words is None:
            found, times = flood(r, 8, 8000, 64, 1000), None
        else:
            with Beside(Ctl(r.daemon), *words) as beside:
                found = flood(r, 8, 8000, 64, 1000)
            times = beside.times
        restarts = checkpoints(r.daemon.store.path) - restarts
        for stat in ("ack_p50", "ack_p99"):
            emit("felt", f"{case}, until acknowledged {stat[-3:]}", "ms", wbx=found[stat], checkpoints=restarts, commands=times,
                 foreign_cores=foreign.cores())

    # -- one of many parked runs

    def unpark(self) -> None:
        """64 parked runs, and many records that wait: from `wbxctl retry` to the first line of one of them."""
        waiting = 10_000_000 if self.options.huge else 1_000_000
        with Round("none", "unpark") as r:
            r.subject = "wbx"
            r.fake = Fake(r.box, "--heartbeat-gap", "0")
            r.daemon = Daemon(r.box, models__key_file=r.box.dir / "key", models__requests_per_s=0,
                              **forwarding(r.fake, models__interval="5s")).start()
            flood(r, 8, waiting // 8, 512)
            with greeted(r.daemon.socket) as c:
                for n in range(PARKED_RUNS):
                    c.open_run(f"parked{n}")
                    for i in range(PARKED_ROWS):
                        c.send("log", run=f"parked{n}", t=now_us(), data={"n": i})
                c.flush()
            r.fake.fault({"kind": "graphql", "op": OPERATIONS["status"]}, {"status": 404, "body": {"error": "not found"}}, count=-1)
            key_file(r.box)
            ctl = Ctl(r.daemon)
            until(lambda: ctl.status()["runs"]["parked"] == PARKED_RUNS + 1, "all runs are parked", PATIENCE_S)
            r.fake.clear_faults()
            foreign = Foreign()
            found = [self._first_line(r, ctl, f"parked{n}") for n in range(0, PARKED_RUNS, 8)]
            for stat, part in (("p50", 0.5), ("longest", 1.0)):
                emit("unpark", f"{waiting:,} records wait, one of {PARKED_RUNS + 1} parked runs goes on: its first line, {stat}", "ms",
                     wbx=percentile(found, part), target=100 if part == 0.5 else None, foreign_cores=foreign.cores())

    @staticmethod
    def _first_line(r: Round, ctl: Ctl, run: str) -> float:
        """Milliseconds from before the command until the fake has taken the request that brings the first line."""
        last = max((e["seq"] for e in r.fake.ask("/__log?bodies=0")), default=0)
        began = time.perf_counter()
        ctl("retry", "--run", run)
        until(lambda: any(e["kind"] == "filestream" and f"/{run}/" in e["path"] for e in r.fake.ask(f"/__log?bodies=0&since={last}")),
              "the first line")
        return (time.perf_counter() - began) * 1e3

    # -- the heavy judge and the largest tables of research on trainers

    def heavy(self) -> None:
        """The heaviest load of real trainers, with the link up, down, and flapping."""
        seconds = self.options.heavy_seconds / len(PHASES)
        with Round("none", "heavy") as r:
            r.subject = "wbx"
            r.fake = Fake(r.box, "--heartbeat-gap", "0")
            r.outside = {r.fake.process.pid}
            link = Relay(r.box, r.fake.port)
            settings = forwarding(r.fake) | {"models__base_url": link.url, "models__interval": "5s", "models__backoff_max": "60s"}
            r.daemon = Daemon(r.box, models__key_file=key_file(r.box), **settings).start()
            for rank in range(8):
                r.add(act="heavy", rank=rank, world=8, seconds=seconds * len(PHASES))
            r.each_says("ready")
            r.tell("go")
            watch = Watch(r, "heavy0")
            for phase in PHASES:
                watch.during(phase, seconds, link)
            r.each_says("done")
            ends = r.end()
            self._emit_heavy(r, watch, ends, seconds * len(PHASES))

    @staticmethod
    def _emit_heavy(r: Round, watch: "Watch", ends: list[dict], seconds: float) -> None:
        ctl, rows = Ctl(r.daemon), ends[0]["rows"]
        began = time.monotonic()
        until(lambda: len(r.fake.rows("heavy0", "bench")) >= rows, "all rows", PATIENCE_S * 5)
        emit("heavy", "all rows are at W&B, after the end", "s", wbx=time.monotonic() - began)
        times = [t for job in r.jobs for t in read_times(Path(job["times"]))]
        emit("heavy", "seconds of load", "s", wbx=seconds)
        emit("heavy", "records of traces", "records/s", wbx=sum(e["calls"] for e in ends) * 2 / seconds)
        emit("heavy", "text of traces and tables", "MB/s", wbx=sum(e["bytes"] for e in ends) / seconds / 1e6)
        for stat, part in (("p50", 0.5), ("p99", 0.99), ("longest", 1.0)):
            emit("heavy", f"log of metrics, {stat}", "us", wbx=percentile(times, part))
        emit("heavy", "31 MB table, longest", "ms", wbx=max(ends[0]["tables"], default=0.0) * 1e3, target=150)
        emit("heavy", "rows late or dead", "rows", wbx=ctl.run_state("heavy0")["late"] + len(ctl.dead()), target=0)
        for phase in PHASES:
            memory, lag = watch.memory[phase], watch.lag[phase]
            emit("heavy", f"link {phase}: memory of wbxd, most", "MB", wbx=max(memory), target=40)
            emit("heavy", f"link {phase}: memory of wbxd, at its end", "MB", wbx=memory[-1])
            if phase == "up":
                emit("heavy", "link up: age of the newest row at W&B, p99 of looks", "s", wbx=percentile(lag, 0.99) if lag else None)


class Watch:
    """Once a second: the memory of wbxd, and how old the newest row is that W&B has (one is logged every 0.3 s)."""

    def __init__(self, r: Round, run: str) -> None:
        self.r, self.run = r, run
        self.memory: dict[str, list[float]] = {}
        self.lag: dict[str, list[float]] = {}

    def during(self, phase: str, seconds: float, link: Relay) -> None:
        self.memory[phase], self.lag[phase] = [], []
        began, is_up = time.monotonic(), True
        while (passed := time.monotonic() - began) < seconds:
            wants = phase == "up" or (phase == "flapping" and int(passed / FLAP_S) % 2 == 1)
            if wants != is_up:
                (link.mend if wants else link.cut)()
                is_up = wants
            self._look(phase)
            pause(max(0.0, 1.0 - (time.monotonic() - began - passed)))
        if not is_up:
            link.mend()

    def _look(self, phase: str) -> None:
        self.memory[phase].append(memory_mb([self.r.daemon.process.pid]))
        if self.r.fake.run(self.run, "bench") and (rows := self.r.fake.rows(self.run, "bench")):
            self.lag[phase].append(time.time() - rows[-1]["_timestamp"])
