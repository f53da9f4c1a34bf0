#!/usr/bin/env python3
"""./dev bench [NAME ...]: figures of wbx as JSON lines, beside the wandb SDK in the same run (docs/BENCHMARKS.md tells of them)."""
from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterable

sys.dont_write_bytecode = True
TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(1, str(TESTS / "lib"))  # behind this directory

from ctl import Ctl
from daemon import Daemon
from life import Life
from links import run_links
from measure import Foreign, await_idle, database_bytes, descendants, disk_bytes, emit, fdatasync_us, memory_mb, percentile, wandb_rows
from process import BUILD
from round import PATIENCE_S, Round, flood, many
from sdk import sdk_python
from tap import become_subreaper, pause, until
from traces import Traces
from wandb import Fake, forwarding, key_file

ROOT = TESTS.parent
WRITERS = 8
VICTIMS = ("trainer", "daemon", "both")
KILL_AFTER_S = (1, 4, 8, 16)
WARM_UP = 50  # calls of each worker before those that count (worker.py)

Found = dict[str, dict[str, list[float]]]  # figure: subject: a value of each round


class Bench(Life, Traces):
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.rounds = options.rounds
        self.huge = options.huge
        self.subjects = ["wbx"] if options.no_sdk else ["wbx", "sdk"]

    # -- the machine

    def machine(self) -> None:
        """The machine, its disk, its sockets: what no program here can beat."""
        foreign = Foreign()
        with Round("none", "floor") as r:
            floors = {"4 KiB written over and synced": fdatasync_us(r.box.dir),
                      "500 bytes to another process and back": self._floor(r, "floor"),
                      "40 doubles packed and copied": self._floor(r, "encode")}
        cores = foreign.cores()
        print(json.dumps({"figure": "machine", "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(),
                          "build": BUILD.name, "load": os.getloadavg()[0], "foreign_cores": cores}), flush=True)
        for name, times in floors.items():
            for stat, part in (("p50", 0.5), ("p99", 0.99)):
                emit("floor", f"{name}, {stat}", "us", floor=percentile(times, part), foreign_cores=cores)

    @staticmethod
    def _floor(r: Round, mode: str) -> list[float]:
        """Times of the C client in a mode that needs no daemon."""
        r.workers, r.jobs = [], []
        r.add_c(mode, 20000)
        r.each_says("ready")
        r.tell("go")
        r.each_says()
        return r.times()

    # -- what a call costs

    def _several(self, act: Callable[[str], dict[str, float]], subjects: Iterable[str] | None = None) -> tuple[Found, float]:
        """act for each subject in turn, several rounds. What was found, and how busy others were."""
        found: Found = {}
        foreign = Foreign()
        for _ in range(self.rounds):
            for subject in subjects or self.subjects:
                for figure, value in act(subject).items():
                    found.setdefault(figure, {}).setdefault(subject, []).append(value)
        return found, foreign.cores()

    def log_c(self) -> None:
        """Logging 40 doubles, in C."""
        for writers in (1, WRITERS):
            def act(_subject: str) -> dict[str, float]:
                with Round("wbx", "c") as r:
                    for _ in range(writers):
                        r.add_c("log", 20000 // writers, 0, 0)
                    r.each_says("ready")
                    r.tell("go")
                    r.each_says()
                    times, floor = r.times(), self._floor(r, "encode")
                    return {"p50": percentile(times, 0.5), "p99": percentile(times, 0.99), "floor": percentile(floor, 0.5)}
            found, foreign = self._several(act, ["wbx"])
            for stat in ("p50", "p99"):
                first = (stat, writers) == ("p50", 1)
                emit("log_c", f"{many(writers, 'writer')}, {stat}", "us", wbx=found[stat]["wbx"], floor=found["floor"]["wbx"] if first else None,
                     target=2.5 if first else None, foreign_cores=foreign)

    def log(self) -> None:
        """Logging 40 floats flat out, in Python: the call, the CPU of all processes, memory, disk."""
        targets = {(1, "p50"): 15, (1, "p99"): 150, (8, "p50"): 200, (8, "p99"): 1500, (1, "cpu"): 60, (8, "cpu"): 60, (8, "memory"): 25,
                   (1, "idle"): 10, (8, "disk"): 1450}
        for writers, count in ((1, 2000), (WRITERS, 1000)):
            found, foreign = self._several(lambda subject: self._burst(subject, writers, count))
            for stat, unit, what in (("p50", "us", "call p50"), ("p99", "us", "call p99"), ("max", "us", "longest call"),
                                     ("cpu", "ms", "CPU of all processes for 1,000"), ("idle", "MB", "memory of the service before"),
                                     ("memory", "MB", "memory of the service after"),
                                     ("disk", "bytes", "disk for a record"),
                                     ("wal", "MB", "write-ahead log beside it"), ("init", "ms", "init"), ("finish", "ms", "finish")):
                emit("log", f"{many(writers, 'writer')}, {what}", unit, **found[stat], target=targets.get((writers, stat)), foreign_cores=foreign)

    def _burst(self, subject: str, writers: int, count: int) -> dict[str, float]:
        with Round(subject, "burst") as r:
            for _ in range(writers):
                r.add(act="burst", count=count)
            cpu = r.go()
            memory = memory_mb(r.service_pids())
            ends = r.end()
            times = r.times()
            disk, log = database_bytes(r.daemon.store.path) if r.daemon else (disk_bytes(r.sdk_dir), 0)
            return {"p50": percentile(times, 0.5), "p99": percentile(times, 0.99), "max": max(times), "cpu": cpu * 1e6 / (writers * count),
                    "idle": r.idle_mb, "memory": memory, "disk": disk / (writers * (count + WARM_UP)), "wal": log / 1e6,
                    "init": max(e["init_ms"] for e in ends), "finish": max(e["finish_ms"] for e in ends)}

    def flush(self) -> None:
        """A row on disk before the next: log and flush. W&B's SDK has no such call."""
        for writers, target in ((1, 0.5), (WRITERS, 1.5)):
            def act(_subject: str) -> dict[str, float]:
                with Round("wbx", "flush") as r:
                    floor = percentile(fdatasync_us(r.box.dir), 0.5) / 1e3
                    for _ in range(writers):
                        r.add(act="burst", count=2000 // writers, flush=True)
                    r.go()
                    r.end()
                    times = [t / 1e3 for t in r.times()]
                    return {"p50": percentile(times, 0.5), "p99": percentile(times, 0.99), "floor": floor}
            found, foreign = self._several(act, ["wbx"])
            floor = min(found.pop("floor")["wbx"])  # others sync too: the least that was seen
            for stat, values in found.items():
                emit("flush", f"{many(writers, 'writer')}, {stat}", "ms", wbx=values["wbx"], floor=floor, target=target if stat == "p50" else None,
                     foreign_cores=foreign)

    def paced(self) -> None:
        """8 writers with 25 calls a second each, as trainers do it: the call, and the CPU of all processes."""
        def act(subject: str) -> dict[str, float]:
            with Round(subject, "paced") as r:
                for _ in range(WRITERS):
                    r.add(act="burst", count=150, pause_us=40000)
                cpu = r.go()
                r.end()
                times = r.times()
                return {"p50": percentile(times, 0.5), "p99": percentile(times, 0.99), "cpu": cpu * 1e6 / (WRITERS * 150)}
        found, foreign = self._several(act)
        for stat, unit, what in (("p50", "us", "call p50"), ("p99", "us", "call p99"), ("cpu", "ms", "CPU of all processes for 1,000")):
            emit("paced", what, unit, **found[stat], foreign_cores=foreign)

    def forwarded(self) -> None:
        """1 writer, and the fake W&B takes it all: CPU of the trainer and of what sends, not of the fake."""
        count = 4000

        def act(subject: str) -> dict[str, float]:
            with Round("none", "sent") as r:
                r.subject = subject
                r.fake = Fake(r.box)
                r.outside = {r.fake.process.pid}
                if subject == "wbx":
                    settings = forwarding(r.fake) | {"models__interval": "5s"}
                    r.daemon = Daemon(r.box, models__key_file=key_file(r.box), **settings).start()
                r.add(act="burst", count=count, mode="online")
                r.each_says("ready")
                before = await_idle(r.outside)
                r.tell("go")
                r.each_says("done")
                r.end()
                until(lambda: any(len(r.fake.rows(x["name"], "bench")) >= count + WARM_UP for x in r.fake.runs().values()), "all rows", PATIENCE_S)
                return {"cpu": (await_idle(r.outside) - before) * 1e6 / count}
        found, foreign = self._several(act)
        emit("forwarded", "1 writer, CPU of all but the fake W&B for 1,000", "ms", **found["cpu"], target=120, foreign_cores=foreign)

    def table(self) -> None:
        """Logging tables of 1.2 and 31 MB, in Python."""
        for rows, cell, count, what, target in ((256, 4500, 20, "1.2 MB", 5), (6400, 4800, 3, "31 MB", 150)):
            def act(subject: str) -> dict[str, float]:
                with Round(subject, "table") as r:
                    r.add(act="tables", rows=rows, cell=cell, count=count)
                    r.go()
                    r.end()
                    disk = disk_bytes(r.sdk_dir)
                    if r.daemon is not None:
                        disk = database_bytes(r.daemon.store.path)[0] + disk_bytes(r.daemon.store.path / "blobs")
                    return {"p50": percentile(r.times(), 0.5) / 1e3, "disk": disk / count / 1e6}
            found, foreign = self._several(act)
            emit("table", f"{what}, call p50", "ms", **found["p50"], target=target, foreign_cores=foreign)
            emit("table", f"{what}, disk for one", "MB", **found["disk"], target=1.2 if count == 20 else None, foreign_cores=foreign)

    # -- what the daemon takes

    def ingest(self) -> None:
        """Records of 500 bytes as fast as the daemon has them on disk: 1, 8 and 64 clients."""
        for clients, count, target in ((1, 100000, None), (8, 25000, 130000), (64, 3000, None)):
            def act(_subject: str) -> dict[str, float]:
                with Round("wbx", "flood") as r:
                    return flood(r, clients, count, 64)
            self._emit_flood(f"{many(clients, 'client')}, 64 in flight", self._several(act, ["wbx"]), {"rate": target})

        def paced(_subject: str) -> dict[str, float]:
            with Round("wbx", "flood") as r:
                return flood(r, 8, 4000, 64, 1000)
        self._emit_flood("8 clients at 1 kHz", self._several(paced, ["wbx"]), {"cpu": 25, "ack_p50": 5})

    @staticmethod
    def _emit_flood(case: str, measured: tuple, targets: dict[str, Any], figure: str = "ingest") -> None:
        found, foreign = measured
        for stat, unit, what in (("rate", "records/s", "durable"), ("ack_p50", "ms", "until acknowledged p50"),
                                 ("ack_p99", "ms", "until acknowledged p99"), ("cpu", "us", "CPU of wbxd for a record"),
                                 ("memory", "MB", "memory of wbxd")):
            more = {"more_is_better": True} if stat == "rate" else {}
            emit(figure, f"{case}, {what}", unit, wbx=found[stat]["wbx"], target=targets.get(stat), foreign_cores=foreign, **more)

    def backlog(self) -> None:
        """How cost grows with what waits: 10 thousand and 1 million records, 10 million with --huge."""
        levels = [10_000, 1_000_000] + ([10_000_000] if self.huge else [])
        with Round("none", "backlog") as r:
            r.subject = "wbx"
            r.fake = Fake(r.box, "--heartbeat-gap", "0")
            r.outside = {r.fake.process.pid}
            r.daemon = Daemon(r.box, models__key_file=r.box.dir / "key", **forwarding(r.fake)).start()
            there = 0
            for level in levels:
                flood(r, 8, (level - there) // 8, 512)
                there = level
                self._at_backlog(r, level)
            self._drain(r, levels[-1])

    def _at_backlog(self, r: Round, level: int) -> None:
        foreign = Foreign()
        ctl = Ctl(r.daemon)
        status = []
        for _ in range(7):
            began = time.perf_counter()
            ctl.run("status")
            status.append((time.perf_counter() - began) * 1e3)
        began = time.perf_counter()
        r.daemon.restart()
        start_ms = (time.perf_counter() - began) * 1e3
        memory = memory_mb([r.daemon.process.pid])
        disk = database_bytes(r.daemon.store.path)[0]
        cores = foreign.cores()
        case = f"{level:,} records wait"
        emit("backlog", f"{case}, wbxctl status", "ms", wbx=percentile(status, 0.5), target=50, foreign_cores=cores)
        emit("backlog", f"{case}, stop and start", "ms", wbx=start_ms, foreign_cores=cores)
        emit("backlog", f"{case}, memory of wbxd", "MB", wbx=memory, target=40, foreign_cores=cores)
        emit("backlog", f"{case}, disk for a record of 500 bytes", "bytes", wbx=disk / level, foreign_cores=cores)
        self._emit_flood(case + ", 8 clients", self._several(lambda _s: flood(r, 8, 10000, 64), ["wbx"]), {}, "backlog")

    def _drain(self, r: Round, level: int) -> None:
        """For a while: what the daemon spends on a row, whatever the fake can take."""
        ctl = Ctl(r.daemon)

        def waiting() -> int:
            return next(s["waiting"] for s in json.loads(ctl.run("--json", "status").out)["sinks"] if s["name"] == "models")
        foreign = Foreign()
        pid = r.daemon.process.pid
        key_file(r.box)
        first = waiting()
        until(lambda: waiting() < first, "the first rows are sent", PATIENCE_S)
        began, before, cpu = time.monotonic(), waiting(), descendants(os.getpid())[pid]
        until(lambda: time.monotonic() - began > 10 or waiting() == 0, "ten seconds", PATIENCE_S)
        sent, seconds = before - waiting(), time.monotonic() - began
        cpu = descendants(os.getpid())[pid] - cpu
        cores = foreign.cores()
        case = f"{level:,} records waited, the fake W&B takes what it can"
        if sent <= 0:
            return
        emit("backlog", f"{case}, rows sent", "rows/s", wbx=sent / seconds, more_is_better=True, foreign_cores=cores)
        emit("backlog", f"{case}, CPU of wbxd for a row", "us", wbx=cpu * 1e6 / sent, foreign_cores=cores)
        emit("backlog", f"{case}, memory of wbxd", "MB", wbx=memory_mb([pid]), target=40, foreign_cores=cores)

    # -- what is lost

    def kill(self) -> None:
        """kill -9 of trainers, of the daemon, of both: calls that returned and are not there, and calls that raised."""
        for victim in VICTIMS:
            for seconds in KILL_AFTER_S:
                foreign = Foreign()
                results = {subject: self._killed(subject, victim, seconds) for subject in self.subjects}
                lost = {subject: found[0] for subject, found in results.items()}
                raised = {f"{subject}_raised": found[1] for subject, found in results.items()}
                returned = {f"{subject}_returned": found[2] for subject, found in results.items()}
                emit("kill", f"{victim} after {seconds} s, lost", "calls", **lost, **raised, **returned, target=0, foreign_cores=foreign.cores())

    def _killed(self, subject: str, victim: str, seconds: float) -> tuple[int, int, int]:
        """8 writers with 100 calls a second each. Calls lost, calls that raised, calls that returned."""
        with Round(subject, "kill") as r:
            notes = [r.box.dir / f"notes{i}" for i in range(WRITERS)]
            stop = r.box.dir / "stop"
            for path in notes:
                path.write_bytes(bytes(16))
                r.add(act="until_killed", notes=str(path), stop=str(stop), pause_us=10000)
            r.each_says("ready")
            r.tell("go")
            self._let_run(seconds)
            self._kill(r, victim)
            if victim == "daemon":
                self._let_run(1)
            stop.touch()
            if victim == "daemon":
                r.each_says("done")
            if r.daemon is not None and victim != "trainer":
                r.daemon.start()
            if victim == "daemon":
                r.tell("end")
                self._await_ends(r)
            counts = [struct.unpack("<QQ", path.read_bytes()) for path in notes]
            returned, raised = sum(c[0] for c in counts), sum(c[1] for c in counts)
            return max(0, returned - self._stored(r, returned)), raised, returned

    @staticmethod
    def _let_run(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pause(0.02)

    @staticmethod
    def _kill(r: Round, victim: str) -> None:
        workers = [w.pid for w in r.workers]
        pids = {"trainer": workers, "daemon": r.service_pids(), "both": workers + r.service_pids()}[victim]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for process in r.workers if victim != "daemon" else []:
            process.wait()
        if r.daemon is not None and victim != "trainer":
            r.daemon.process.wait()

    @staticmethod
    def _await_ends(r: Round) -> None:
        """The SDK's finish may not come back without its service."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and any(w.running for w in r.workers):
            pause(0.05)
        for worker in r.workers:
            worker.kill9()

    @staticmethod
    def _stored(r: Round, want: int) -> int:
        """Rows in the store, or in the SDK's files, when nothing more comes."""
        def count() -> int:
            if r.daemon is None:
                return wandb_rows(r.sdk_dir)
            [(found,)] = r.daemon.store.query("SELECT count(*) FROM record WHERE substr(payload, 1, 5) = x'93a36c6f67'")
            return found
        deadline = time.monotonic() + 5
        while (found := count()) < want and time.monotonic() < deadline:
            pause(0.2)
        return found

    def offline(self) -> None:
        """The network is gone: init and finish. (W&B's SDK in its online mode takes minutes, and is not tried here.)"""
        def act(_subject: str) -> dict[str, float]:
            with Round("wbx", "offline") as r:
                key_file(r.box)
                r.daemon.settings["models.key_file"] = r.box.dir / "key"
                r.daemon.restart()
                r.add(act="burst", count=100)
                r.go()
                return {k: v for k, v in r.end()[0].items()}
        found, foreign = self._several(act, ["wbx"])
        emit("offline", "init", "ms", wbx=found["init_ms"]["wbx"], target=10, foreign_cores=foreign)
        emit("offline", "finish", "ms", wbx=found["finish_ms"]["wbx"], target=50, foreign_cores=foreign)


NAMES = ("machine", "log_c", "log", "flush", "paced", "forwarded", "table", "ingest", "backlog", "felt", "unpark", "heavy", "kill", "offline", "traces")


def main() -> int:
    names = "\n".join(f"  {name:10} {(getattr(Bench, name).__doc__ or '').strip().splitlines()[0]}" for name in NAMES)
    parser = argparse.ArgumentParser(prog="./dev bench", description=f"{__doc__}\n\n{names}", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (all)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each, of which the median counts (3)")
    parser.add_argument("--huge", action="store_true", help="also a backlog of 10 million records (8 GB of disk)")
    parser.add_argument("--heavy-seconds", type=int, default=60, help="how long the heavy load lasts, in all (60; the documents say 600)")
    parser.add_argument("--link", type=float, nargs="?", const=600, metavar="SECONDS", help="only: tables over narrow links, so long each (600); needs root")
    parser.add_argument("--no-sdk", action="store_true", help="without the wandb SDK")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no figure is called {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    become_subreaper()
    if options.link:
        run_links(options.link)
        return 0
    bench = Bench(options)
    if not options.no_sdk and options.names != ["traces"]:
        sdk_python()
    for name in NAMES:
        if not options.names or name in options.names:
            getattr(bench, name)()
    return 0


if __name__ == "__main__":
    sys.exit(main())
