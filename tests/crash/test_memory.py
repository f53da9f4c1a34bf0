"""Allocations that fail: a unit test may fail then, and never crashes or hangs; the daemon and a trainer go on, and what
they said they have is kept.

The code promises an error (-ENOMEM, or a connection that ends without an ack) wherever it allocates; nothing aborts.
Only what wbx allocates itself fails here, not what SQLite, libuv, libcurl and the C library do."""
from __future__ import annotations

import bisect
import mmap
import os
import random
import re
import struct
import subprocess
import time
from pathlib import Path

from daemon import Daemon
from noted import Trainer, holes
from process import BUILD, SANITIZER, clean_env
from tap import FULL, Box, Skip, main, test, until
from trainer import c_program

SHIM = BUILD / "tests/crash/alloc_shim.so"
SEED = int(os.environ.get("WBX_CRASH_SEED") or random.SystemRandom().randrange(1 << 32))
UNIT_SECONDS = 15.0 if FULL else 0.2  # for each program of unit tests
ROOT = Path(__file__).resolve().parents[2]


class Hits:
    """How many allocations failed, counted by the processes themselves."""

    def __init__(self, box: Box) -> None:
        if SANITIZER != "none":
            raise Skip("a sanitizer must be loaded first")
        self.path = box.dir / "hits"
        self.path.write_bytes(bytes(8))
        with open(self.path, "r+b") as f:
            self._map = mmap.mmap(f.fileno(), 0)

    @property
    def count(self) -> int:
        return struct.unpack("<Q", self._map)[0]

    def env(self, **more: str) -> dict[str, str]:
        return {"LD_PRELOAD": str(SHIM), "WBX_ALLOC_HITS": str(self.path)} | more


def unit_tests() -> list[Path]:
    return sorted(p for p in (BUILD / "tests").glob("test_*") if p.is_file() and os.access(p, os.X_OK))


class Symbols:
    """Which function of a program an offset lies in, and whether it is the test's own."""

    def __init__(self, program: Path) -> None:
        self.found = sorted((int(f[0], 16), f[2]) for f in self._nm(program) if len(f) == 3 and f[1] in "tT")
        self.addresses = [a for a, _ in self.found]
        objects = [*(program.parent / f"{program.name}.p").glob("*.o"), *program.parent.glob("libstorebox.a")]
        self.own = {f[-1] for o in objects for f in self._nm(o) if len(f) == 3 and f[1] in "tT"}

    @staticmethod
    def _nm(path: Path) -> list[list[str]]:
        out = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
        return [line.split() for line in out.splitlines()]

    def names(self, offsets: list[str]) -> list[str]:
        at = [bisect.bisect(self.addresses, int(o, 16)) for o in offsets]
        return [self.found[i - 1][1].partition(".")[0] if i else "?" for i in at]

    def is_ours(self, crash: str) -> bool:
        """Not when the test itself fell over what it did not get, or handed it to a function of ours."""
        top = self.names(crash.split()[1:3])
        return len(top) == 2 and not any(name in self.own or f"{name}_fn" in self.own for name in top)


@test(seconds=60 * 60 if FULL else 600)
def no_unit_test_crashes_or_hangs_when_an_allocation_fails(box: Box) -> None:
    hits = Hits(box)
    bad: list[str] = []
    for program in unit_tests():
        began = time.monotonic()
        n = total = 0
        symbols = Symbols(program)
        while not bad or len(bad) < 20:
            n += 1
            before = hits.count
            env = clean_env(CK_TAP_LOG_FILE_NAME="-", CK_VERBOSITY="silent", CK_DEFAULT_TIMEOUT="60", WBX_ALLOC_CHILDREN="1",
                            WBX_ALLOC_FAIL=str(n), TMPDIR=str(box.dir), **hits.env())
            r = subprocess.run([program], env=env, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False, timeout=300)
            assert r.returncode in (0, 1), f"{program.name}, allocation {n}: ended with {r.returncode}\n{r.stderr[-500:]}"
            bad += [f"{program.name}, allocation {n}: {line}" for line in r.stdout.splitlines()
                    if line.startswith("not ok") and re.search(r"signal (?!11\b)|timeout expired", line)]
            bad += [f"{program.name}, allocation {n}: crash in " + " < ".join(symbols.names(line.split()[1:9]))
                    for line in r.stderr.splitlines() if line.startswith("crash:") and symbols.is_ours(line)]
            total += hits.count - before
            if hits.count == before or time.monotonic() - began > UNIT_SECONDS:
                break
        print(f"# {program.name}: {total} allocations of {n} rounds failed", flush=True)
    assert hits.count > 0
    assert not bad, "\n".join(bad)


def numbers_of(daemon: Daemon, run: str) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row in daemon.store.rows(kind="log"):
        if row.body["run"] == run:
            found.setdefault(row.body["data"]["thread"], []).append(row.body["data"]["n"])
    return found


def a_trainer(box: Box, daemon: Daemon, run: str, count: int, table_every: int, table_bytes: int, **env: str) -> Trainer:
    notes = box.dir / f"{run}.notes"
    process = c_program(box, "trainer", run, notes, 2, count, 50, table_every, table_bytes, 1 << 20, socket=daemon.socket, log=f"{run}.err", **env)
    return Trainer(process, run, notes, {0: 0, 1: 1})


@test(seconds=600)
def a_daemon_that_finds_no_memory_now_and_then_goes_on_and_loses_nothing(box: Box) -> None:
    hits = Hits(box)
    print(f"# WBX_CRASH_SEED={SEED}", flush=True)
    for turn, every in enumerate([300, 100, 30, 10] * (3 if FULL else 1)):
        daemon = Daemon(box, name=f"every{turn}")
        daemon.start().stop()  # at a start there is memory, or it does not start
        until(lambda: start_at_last(daemon, hits, every, turn), "the daemon starts")
        trainers = [a_trainer(box, daemon, f"t{turn}-{i}", 1500, 200 if i == 0 else 0, 300_000) for i in range(2)]
        for t in trainers:
            t.await_progress(3000)
            t.flush()
        assert daemon.process is not None and daemon.process.running, "the daemon died"
        daemon.kill9()
        daemon.env = {}
        daemon.start()
        for t in trainers:
            t.flush()
            t.end_well()
            assert t.refused() == 0
            t.check(numbers_of(daemon, t.run))
        daemon.await_no_kept_files()
        daemon.store.check()
        daemon.stop()
    print(f"# {hits.count} allocations failed", flush=True)
    assert hits.count > (50 if FULL else 5)


def start_at_last(daemon: Daemon, hits: Hits, every: int, turn: int) -> bool:
    """A start may fail for lack of memory, and then says so and ends in order."""
    daemon.env = hits.env(WBX_ALLOC_EVERY=str(every), WBX_ALLOC_SEED=str(SEED + turn * 1000 + hits.count))
    process = daemon.launch()
    until(lambda: not process.running or daemon.socket.exists() and daemon.log().count(f"pid={process.pid} "), "it starts or ends")
    if process.running:
        return True
    assert process.wait() in (64, 69, 78), f"the start ended with {process.wait()}"
    return False


@test(seconds=600)
def a_trainer_that_finds_no_memory_now_and_then_gets_errors_and_loses_nothing_that_returned(box: Box) -> None:
    hits = Hits(box)
    print(f"# WBX_CRASH_SEED={SEED}", flush=True)
    daemon = Daemon(box).start()
    refused = 0
    for turn, every in enumerate([100, 20, 10] * (5 if FULL else 1)):
        for attempt in range(50):  # it may find none for its start
            try:
                t = a_trainer(box, daemon, f"t{turn}-{attempt}", 1500, 100, 100_000,
                              **hits.env(WBX_ALLOC_EVERY=str(every), WBX_ALLOC_SEED=str(SEED + 1000 * turn + attempt)))
                break
            except AssertionError:
                continue
        else:
            raise AssertionError("no start of 50 found memory")
        t.await_progress(2000)
        if turn % 2:
            daemon.kill9()
            daemon.start()
        t.await_progress(3000)
        for word in ("f", "q"):  # one that found no memory for its journal has the newest in its own; its end would take that away
            t.process.tell(word)
            assert t.process.read_line().startswith("flushed" if word == "f" else "closed")
        assert t.process.wait() == 0
        refused += t.refused()
        daemon.await_no_kept_files()
        for thread, got in numbers_of(daemon, t.run).items():
            assert got == list(range(1, 1501)), f"thread {thread}: {holes(got)}"
    print(f"# {hits.count} allocations failed, {refused} calls returned an error", flush=True)
    assert hits.count > 3
    daemon.store.check()


main()
