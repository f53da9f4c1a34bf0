"""Processes of a test: started with their output in a file or a pipe, watched by pidfd, ended by pid."""
from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Mapping, Sequence

from tap import WAIT_SECONDS, Box, pause

BUILD = Path(os.environ.get("WBX_BUILD") or Path(__file__).resolve().parents[2] / "build/release")


def build_option(name: str) -> str:
    """An option of the build that is tested, such as b_sanitize."""
    options = json.loads((BUILD / "meson-info/intro-buildoptions.json").read_text())
    return next(str(o["value"]) for o in options if o["name"] == name)


SANITIZER = build_option("b_sanitize")  # none, address,undefined, thread
# gcc's AddressSanitizer does not hold its allocator's locks over fork(): the child of a process with threads may hang in it
FORK_IS_SAFE = not SANITIZER.startswith("address")
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": f"second_deadlock_stack=1:die_after_fork=0:suppressions={Path(__file__).parent}/tsan.supp",
}


def clean_env(**more: str) -> dict[str, str]:
    """This process's environment without what would change wbx or W&B, and with `more`."""
    unwanted = ("WBX_", "WBXD_", "WANDB_", "PYTHON", "NOTIFY_SOCKET", "LISTEN_", "XDG_", "RANK", "WORLD_SIZE")
    env = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
    return env | SANITIZER_ENV | more


class Process:
    """A child of the test. Killed with its box when it still runs."""

    def __init__(self, box: Box, args: Sequence[str | Path], *, env: Mapping[str, str] | None = None, log: Path | None = None,
                 stdin: int | None = subprocess.DEVNULL, stdout: int | None = None, pass_fds: Sequence[int] = (),
                 cwd: Path | None = None) -> None:
        with open(log or os.devnull, "ab") as out:
            self._popen = subprocess.Popen([str(a) for a in args], env=dict(env if env is not None else clean_env()),
                                           stdin=stdin, stdout=out if stdout is None else stdout, stderr=out, pass_fds=pass_fds, cwd=cwd)
        self.pid = self._popen.pid
        self.stdin = self._popen.stdin
        self.stdout = self._popen.stdout
        self._pidfd = os.pidfd_open(self.pid)
        box.defer(self._end)

    @property
    def pidfd(self) -> int:
        """Readable when the process has ended."""
        return self._pidfd

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def signal(self, number: int) -> None:
        if self.running:
            os.kill(self.pid, number)

    def stop_running(self) -> None:
        """SIGSTOP, and returns when the whole process stands still."""
        self.signal(signal.SIGSTOP)
        self.await_state("T")

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def await_state(self, letter: str) -> None:
        """Waits until every thread is in a state as /proc shows it."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not all(state == letter for state in self.states()):
            assert time.monotonic() < deadline, f"pid {self.pid} does not come into state {letter}"
            pause(0.001)

    def states(self) -> list[str]:
        return [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{self.pid}/task").iterdir()]

    def kill9(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, seconds: float = WAIT_SECONDS) -> int:
        """Exit code, negative for a signal. AssertionError when the process goes on for too long."""
        if self._popen.returncode is None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            assert poll.poll(seconds * 1000), f"pid {self.pid} has not ended after {seconds:.0f} s"
        return self._popen.wait()

    def read_line(self, seconds: float = WAIT_SECONDS) -> str:
        """The next line of an unbuffered stdout pipe, "" at its end."""
        assert self.stdout is not None
        line = b""
        poll = select.poll()
        poll.register(self.stdout.fileno(), select.POLLIN | select.POLLHUP)
        while not line.endswith(b"\n"):
            assert poll.poll(seconds * 1000), f"pid {self.pid} has written nothing for {seconds:.0f} s"
            byte = os.read(self.stdout.fileno(), 1)
            if not byte:
                break
            line += byte
        return line.decode().rstrip("\n")

    def expect_line(self, want: str) -> None:
        line = self.read_line()
        assert line == want, f"pid {self.pid} wrote {line!r}, not {want!r}"

    def tell(self, line: str) -> None:
        """Writes a line to the process's stdin."""
        assert self.stdin is not None
        self.stdin.write(line.encode() + b"\n")
        self.stdin.flush()

    def memory_bytes(self) -> int:
        """Resident memory, from /proc."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"pid {self.pid} has no memory")

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def _end(self) -> None:
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        for pipe in (self.stdin, self.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
        os.close(self._pidfd)


def raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
