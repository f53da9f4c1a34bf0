"""Console output of this process, as the wandb SDK's console="wrap" takes it: sys.stdout.write and sys.stderr.write hand over
what they wrote. Nothing here may raise into a print(), and nothing that is printed here is taken again."""
from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Any, Callable, Iterator

_STREAMS = ("stdout", "stderr")
_lock = threading.RLock()  # of what is below; never held while somebody else's code runs
_takers: list[Callable[[str, bytes], None]] = []
_wrapped: dict[str, tuple[Any, Any, Any]] = {}  # name: the stream, our write, the one that it had of its own (None: its class's)
_pid = 0
_inside = threading.local()  # a thread that hands over: what it prints meanwhile is its own


def mode_of(wanted: str | None) -> bool:
    """Whether output is captured: "auto", "wrap" and the SDK's other ways are one here. Raises ValueError for what is none."""
    if wanted in (None, "", "auto", "wrap", "wrap_raw", "wrap_emu", "redirect"):
        return True
    if wanted == "off":
        return False
    raise ValueError(f"console must be auto, wrap or off, not {wanted!r}")


def _hand_over(name: str, text: Any) -> None:
    if not _takers or getattr(_inside, "now", False) or os.getpid() != _pid:
        return  # in a forked child: the run is its parent's
    _inside.now = True
    try:
        data = text.encode("utf-8", "replace") if isinstance(text, str) else bytes(text)
        for take in list(_takers):
            take(name, data)
    except Exception:
        del _takers[:]  # a print() that fails again and again helps nobody
    finally:
        _inside.now = False


def _wrap(name: str) -> None:
    stream = getattr(sys, name)
    before = stream.write
    had_own = "write" in getattr(stream, "__dict__", {})

    def write(text: Any, *more: Any) -> Any:
        written = before(text, *more)
        _hand_over(name, text)
        return written

    stream.write = write
    _wrapped[name] = (stream, write, before if had_own else None)


def _unwrap(name: str) -> None:
    """Puts the stream's own write back, unless somebody else has wrapped it since: then ours stays and hands over nothing."""
    stream, write, own = _wrapped.pop(name)
    if stream.__dict__.get("write") is not write:
        return
    if own is None:
        del stream.write
    else:
        stream.write = own


def capture(take: Callable[[str, bytes], None]) -> None:
    """From now on take("stdout" or "stderr", bytes) gets what is written. A stream that cannot be wrapped is left alone."""
    global _pid
    with _lock:
        _pid = os.getpid()
        _takers.append(take)
        for name in _STREAMS:
            try:
                if name not in _wrapped or _wrapped[name][0] is not getattr(sys, name):
                    _wrap(name)
            except Exception:
                pass  # None, or something without a write of its own


def release(take: Callable[[str, bytes], None]) -> None:
    """It gets no more. The streams are as they were when nobody does."""
    with _lock:
        if take in _takers:
            _takers.remove(take)
        if _takers:
            return
        for name in list(_wrapped):
            try:
                _unwrap(name)
            except Exception:
                pass  # what is left hands over nothing


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """What this thread prints meanwhile is no run's: words of wbx itself."""
    before = getattr(_inside, "now", False)
    _inside.now = True
    try:
        yield
    finally:
        _inside.now = before


def _after_fork() -> None:
    """In a child: the thread that may have held the lock is not here."""
    global _lock, _inside
    _lock = threading.RLock()
    _inside = threading.local()


os.register_at_fork(after_in_child=_after_fork)
