"""What the demo says: one sentence a line with the seconds that have passed, and the output of commands set in."""
from __future__ import annotations

import os
import sys
import time
from typing import Sequence

GREEN, RED, BOLD, DIM = "32", "31", "1", "2"


class Screen:
    def __init__(self) -> None:
        self.began = time.monotonic()
        self.colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colours else text

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def say(self, text: str, colour: str = BOLD) -> None:
        self.line(f"{self.elapsed:6.1f} s  {self.paint(text, colour)}")

    def note(self, text: str) -> None:
        self.line(f"          {text}")

    def output(self, command: str, text: str, code: int) -> None:
        """A command and what it printed."""
        bar = self.paint("  |", DIM)
        self.line(f"{bar} {self.paint('$ ' + command, BOLD)}")
        for line in text.rstrip().splitlines():
            self.line(f"{bar} {line}".rstrip())
        self.line(f"{bar} {self.paint(f'exit {code}', DIM)}")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """First column to the left, the others to the right."""
        widths = [max(len(r[i]) for r in (head, *rows)) for i in range(len(head))]
        for number, row in enumerate((head, *rows)):
            cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
            text = "  " + "  ".join(cells)
            self.line(self.paint(text, BOLD) if number == 0 else text)
