"""A small test runner: `@test` collects functions, `main()` runs them and prints TAP for meson and count.py.

A test is a function that takes a Box: its temporary directory, and whatever is to be undone when it ends. Its name is
a sentence. It passes when it returns; an exception fails it, and the traceback, with what the box's processes wrote,
stands below `not ok` as diagnostics.
"""
from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, TypeVar

T = TypeVar("T")

TEST_SECONDS = 120  # a test that takes longer hangs
WAIT_SECONDS = 40.0  # so long until() waits for an event; sanitizers on two busy cores are slow
FULL = bool(os.environ.get("WBX_TEST_FULL"))  # ./dev test --full
DIAGNOSTIC_LINES = 60
WHY_LINES = 20  # of a traceback, on standard error

# what sanitizers print, and a failed assert; no test ends well with one of these in a log
ALARM = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|: Assertion .* failed|SUMMARY: \w+Sanitizer")


class Skip(Exception):
    """The test cannot run here."""


class TimeIsUp(Exception):
    """The whole test took too long."""


@dataclass
class Case:
    run: Callable[["Box"], None]
    seconds: int
    bug: str | None  # what the test waits for

    @property
    def sentence(self) -> str:
        return self.run.__name__.replace("_", " ")


_cases: list[Case] = []


def test(function: Callable[["Box"], None] | None = None, *, seconds: int = TEST_SECONDS, bug: str | None = None) -> Any:
    """Collects a test. bug: it is known to fail, for this reason; once it passes the mark has to go."""

    def add(f: Callable[["Box"], None]) -> Callable[["Box"], None]:
        _cases.append(Case(f, seconds, bug))
        return f

    return add if function is None else add(function)


class Box:
    """What one test has: a directory below /tmp (short, for sockets), and an end."""

    def __init__(self, prefix: str = "wbxt-") -> None:
        self.dir = Path(tempfile.mkdtemp(prefix=prefix))
        self._ends = contextlib.ExitStack()
        self._logs: list[Path] = []

    def defer(self, function: Callable[..., Any], *args: Any) -> None:
        """Calls function at the end of the test, the last one deferred first."""
        self._ends.callback(function, *args)

    def enter(self, manager: contextlib.AbstractContextManager[T]) -> T:
        return self._ends.enter_context(manager)

    def log_file(self, name: str) -> Path:
        """A file that is shown when the test fails, and in which no sanitizer may have found anything."""
        path = self.dir / name
        path.touch()
        if path not in self._logs:
            self._logs.append(path)
        return path

    def end(self) -> None:
        self._ends.close()
        for pid in children():  # orphans of the test's processes: main() made them ours
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def alarms(self) -> list[str]:
        found = []
        for path in self._logs:
            found += [f"{path.name}: {line}" for line in read_text(path).splitlines() if ALARM.search(line)]
        return found

    def show_logs(self) -> Iterator[str]:
        for path in self._logs:
            lines = read_text(path).splitlines()
            yield f"--- {path.name}: the last {min(len(lines), DIAGNOSTIC_LINES)} of {len(lines)} lines"
            yield from lines[-DIAGNOSTIC_LINES:]

    def remove(self) -> None:
        shutil.rmtree(self.dir, ignore_errors=True)


def read_text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def children() -> list[int]:
    """Every process whose parent is this one."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone in between
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
    return found


def become_subreaper() -> None:
    """Grandchildren whose parent died become children of this process, so that it can end them by their pid."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def pause(seconds: float = 0.01) -> None:
    """The only wait without an event: a moment between two looks at a condition."""
    select.poll().poll(seconds * 1000)


def until(condition: Callable[[], T], what: str, seconds: float = WAIT_SECONDS) -> T:
    """Looks again and again until the condition holds; gives what it yielded. AssertionError when it never does."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain: {what}")
        pause()


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def on_alarm(_number: int, _frame: Any) -> None:
        raise TimeIsUp(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _say(text: str) -> None:
    print(text, flush=True)


def _explain(lines: Iterator[str] | list[str]) -> None:
    for line in lines:
        _say(f"# {line}")


def _attempt(case: Case, box: Box) -> str | None:
    """None, or why it failed. Skip goes through."""
    why: str | None = None
    try:
        with time_limit(case.seconds):
            case.run(box)
    except Skip:
        raise
    except (Exception, KeyboardInterrupt):  # noqa: BLE001: whatever it was, the next test runs
        why = traceback.format_exc()
    finally:
        try:
            with time_limit(TEST_SECONDS):
                box.end()
        except Exception:  # noqa: BLE001
            why = (why or "") + "at the end of the test: " + traceback.format_exc()
    alarms = box.alarms()
    if alarms:
        why = (why or "") + "\n".join(alarms[:5])
    return why


def _run(number: int, case: Case) -> bool:
    box = Box()
    began = time.monotonic()
    try:
        why = _attempt(case, box)
    except Skip as skip:
        box.remove()
        _say(f"ok {number} - {case.sentence} # SKIP {skip}")
        return True
    todo = f" # TODO {case.bug}" if case.bug else ""
    _say(f"{'not ok' if why else 'ok'} {number} - {case.sentence}{todo}")
    if why:
        _explain(why.splitlines())
        if not case.bug:
            print(f"not ok: {case.sentence}", *why.splitlines()[-WHY_LINES:], sep="\n  ", file=sys.stderr, flush=True)  # meson shows it
            _explain(box.show_logs())
    _explain([f"{time.monotonic() - began:.2f} s"])
    if why and os.environ.get("WBX_TEST_KEEP"):
        _explain([f"kept: {box.dir}"])
    else:
        box.remove()
    return bool(why) == bool(case.bug)


def main() -> None:
    """Runs every collected test, or those whose name holds one of the arguments."""
    words = [a.replace(" ", "_") for a in sys.argv[1:]]
    become_subreaper()
    chosen = [c for c in _cases if not words or any(w in c.run.__name__ for w in words)]
    _say(f"1..{len(chosen)}")
    good = [_run(number, case) for number, case in enumerate(chosen, 1)]
    sys.exit(0 if all(good) else 1)
