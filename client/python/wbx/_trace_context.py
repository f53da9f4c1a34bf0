"""The context that traced calls nest in: it follows tasks, and threads that are made with the classes here."""
from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import threading
import uuid
from typing import Any, Callable, Iterator

from ._trace_call import Call, _clean

_current: contextvars.ContextVar[Any] = contextvars.ContextVar("wbx_call", default=None)  # a Call, or _OFF below a root that is left out
call_attributes: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("wbx_call_attributes", default={})  # noqa: B039: nobody changes it
_thread_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("wbx_thread_id", default=None)
_OFF: Any = object()


def get_current_call() -> Call | None:
    """The call that is under way here, or None."""
    call = _current.get()
    return None if call is _OFF else call


class NoCurrentCallError(Exception):
    """There is no call here."""


def require_current_call() -> Call:
    if (call := get_current_call()) is None:
        raise NoCurrentCallError("no traced call is under way here")
    return call


@contextlib.contextmanager
def attributes(values: dict[str, Any] | None = None, /, **more: Any) -> Iterator[None]:
    """Calls that begin inside have these attributes, in all that they call. ``step`` is the training's; ``group_id`` and ``rollout_id`` are
    found again in W&B."""
    token = call_attributes.set({**call_attributes.get(), **(values or {}), **more})
    try:
        yield
    finally:
        call_attributes.reset(token)


class ThreadContext:
    """A conversation: its id, and the turn that is under way."""

    def __init__(self, thread_id: str | None):
        self.thread_id = thread_id

    @property
    def turn_id(self) -> str | None:
        call = get_current_call()
        return call.turn_id if call is not None else None


_NEW: Any = object()


@contextlib.contextmanager
def thread(thread_id: Any = _NEW) -> Iterator[ThreadContext]:
    """Calls that begin inside are turns of one conversation. Without an id a new one is made; with None they are of none."""
    text = str(uuid.uuid4()) if thread_id is _NEW else None if thread_id is None else _clean(thread_id)
    token = _thread_id.set(text)
    try:
        yield ThreadContext(text)
    finally:
        _thread_id.reset(token)


def _run_in(context: contextvars.Context, function: Callable, *args: Any, **kwargs: Any) -> Any:
    return context.run(function, *args, **kwargs)


class ThreadPoolExecutor(concurrent.futures.ThreadPoolExecutor):
    """The standard one, whose calls nest in the call that submits them."""

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Any:
        return super().submit(_run_in, contextvars.copy_context(), fn, *args, **kwargs)


class Thread(threading.Thread):
    """The standard one, whose calls nest in the call that makes it."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._wbx_context = contextvars.copy_context()

    def run(self) -> None:
        self._wbx_context.run(super().run)


@contextlib.contextmanager
def tracing_disabled() -> Iterator[None]:
    """Nothing is traced inside."""
    token = _current.set(_OFF)
    try:
        yield
    finally:
        _current.reset(token)
