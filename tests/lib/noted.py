"""A trainer that notes in a shared file, which outlives it, what calls of it returned (tests/crash/trainer.c)."""
from __future__ import annotations

import struct
from pathlib import Path

from process import Process
from tap import until

SLOT_BYTES = 16  # of a thread in the notes


class Trainer:
    """A trainer, the run it logs to, and its notes of the calls that returned."""

    def __init__(self, process: Process, run: str, notes: Path, threads: dict[int, int]) -> None:
        self.process = process
        self.run = run
        self.notes = notes
        self.threads = threads  # the number it logs: the slot of its notes
        self.killed = False
        process.expect_line("durable 1")

    def returned(self, thread: int) -> int:
        return struct.unpack_from("<Q", self.notes.read_bytes(), self.threads[thread] * SLOT_BYTES)[0]

    def all_returned(self) -> int:
        return sum(self.returned(t) for t in self.threads)

    def refused(self) -> int:
        """Calls that gave an error; a notes file of a Python trainer has none of them."""
        data = self.notes.read_bytes()
        return sum(struct.unpack_from("<Q", data, slot * SLOT_BYTES + 8)[0] for slot in self.threads.values())

    def await_progress(self, count: int) -> None:
        until(lambda: self.all_returned() >= count, f"{count} calls of {self.run} return")

    def kill9(self) -> None:
        self.process.kill9()
        self.killed = True

    def flush(self) -> None:
        self.process.tell("f")
        self.process.expect_line("flushed 0")

    def end_well(self) -> None:
        self.process.tell("q")
        line = self.process.read_line()
        assert line.startswith("closed"), line
        assert self.process.wait() == 0

    def check(self, numbers: dict[int, list[int]]) -> None:
        """numbers: of each thread, in the order of the store. Exactly those that returned, and at most the one call
        that a kill cut off after its record was kept and before it was noted."""
        for thread in self.threads:
            got = numbers.get(thread, [])
            returned = self.returned(thread)
            more = 1 if self.killed else 0
            assert got == list(range(1, len(got) + 1)), f"run {self.run}, thread {thread}: {holes(got)}"
            assert returned <= len(got) <= returned + more, f"run {self.run}, thread {thread}: {returned} returned, {len(got)} kept"


def holes(got: list[int]) -> str:
    """What is wrong with numbers that should be 1, 2, 3 ..."""
    seen: dict[int, int] = {}
    for n in got:
        seen[n] = seen.get(n, 0) + 1
    missing = [n for n in range(1, max(got, default=0) + 1) if n not in seen]
    twice = [n for n, times in seen.items() if times > 1]
    order = [(a, b) for a, b in zip(got, got[1:]) if b <= a]
    return f"{len(missing)} missing {missing[:8]}, {len(twice)} twice {twice[:8]}, {len(order)} out of order {order[:5]}"
