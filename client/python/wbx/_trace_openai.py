"""Calls of the client ``openai`` (and so of vLLM and others that speak its protocol) are traced by themselves: sync, async, streams, tools.

They are traced where ops are used: from the first op() or weave.init() on. WBX_TRACE_OPENAI=false leaves the client alone. What the client
returns is what it returned before; a stream is recorded while it is read.
"""
from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import os
import sys
from typing import Any, AsyncIterator, Callable, Iterator

from . import _run, _trace

_METHODS = [  # module, class, methods, name in W&B, is it async
    ("openai.resources.chat.completions.completions", "Completions", ("create", "parse"), "openai.chat.completions", False),
    ("openai.resources.chat.completions.completions", "AsyncCompletions", ("create", "parse"), "openai.chat.completions", True),
    ("openai.resources.completions", "Completions", ("create",), "openai.completions", False),
    ("openai.resources.completions", "AsyncCompletions", ("create",), "openai.completions", True),
    ("openai.resources.responses.responses", "Responses", ("create", "parse"), "openai.responses", False),
    ("openai.resources.responses.responses", "AsyncResponses", ("create", "parse"), "openai.responses", True),
    ("openai.resources.embeddings", "Embeddings", ("create",), "openai.embeddings", False),
    ("openai.resources.embeddings", "AsyncEmbeddings", ("create",), "openai.embeddings", True),
]
_SECRET = ("extra_headers", "extra_query", "timeout")  # are not recorded
_watching = False


# -- what is recorded ----------------------------------------------------------------------------------------------

def _inputs(inputs: dict[str, Any]) -> dict[str, Any]:
    """Without the client, which has the key, and without what was not given."""
    merged = {k: v for k, v in inputs.items() if k not in ("self", *_SECRET) and type(v).__name__ not in ("NotGiven", "Omit") and v is not None}
    merged.update(merged.pop("kwargs", None) or {})
    return merged


def _output(value: Any) -> Any:
    """Of a response; raw ones are looked into, where that costs nothing."""
    if type(value).__name__ in ("LegacyAPIResponse", "APIResponse") and hasattr(value, "parse"):
        value = value.parse()
    if hasattr(value, "model_dump"):
        value = value.model_dump(exclude_unset=True, exclude_none=True)
    return _short(value)


def _short(value: Any) -> Any:
    """Embeddings are numbers that nobody reads."""
    if isinstance(value, dict) and value.get("object") == "list" and isinstance(value.get("data"), list):
        rows = [{**row, "embedding": f"<{len(row['embedding'])} numbers>"} if isinstance(row, dict) and isinstance(row.get("embedding"), list)
                else row for row in value["data"]]
        return {**value, "data": rows}
    return value


class _Chunks:
    """Pieces of a stream, put together as the response that would have come at once."""

    def __init__(self) -> None:
        self.head: dict[str, Any] = {}
        self.choices: dict[int, dict[str, Any]] = {}
        self.usage: Any = None
        self.whole: Any = None

    def add(self, chunk: Any) -> None:
        response = getattr(chunk, "response", None)  # of the responses API: the last event has all of it
        if response is not None:
            self.whole = response
            return
        for key in ("id", "model", "created", "system_fingerprint"):
            value = getattr(chunk, key, None)
            if value is not None:
                self.head[key] = value
        if getattr(chunk, "usage", None) is not None:
            self.usage = chunk.usage
        for choice in getattr(chunk, "choices", None) or ():
            self._add_choice(choice)

    def _add_choice(self, choice: Any) -> None:
        index = getattr(choice, "index", 0) or 0
        mine = self.choices.setdefault(index, {"index": index, "finish_reason": None})
        if getattr(choice, "finish_reason", None) is not None:
            mine["finish_reason"] = choice.finish_reason
        delta = getattr(choice, "delta", None)
        if delta is None:  # of completions without chat
            mine["text"] = mine.get("text", "") + (getattr(choice, "text", None) or "")
            return
        message = mine.setdefault("message", {"role": "assistant", "content": None})
        if getattr(delta, "role", None):
            message["role"] = delta.role
        for key in ("content", "refusal", "reasoning_content", "reasoning"):
            piece = getattr(delta, key, None)
            if isinstance(piece, str):
                message[key] = (message.get(key) or "") + piece
        for call in getattr(delta, "tool_calls", None) or ():
            self._add_tool_call(message.setdefault("tool_calls", []), call)

    @staticmethod
    def _add_tool_call(calls: list[dict[str, Any]], call: Any) -> None:
        index = getattr(call, "index", None)
        mine = next((c for c in calls if c["index"] == index), None)
        if mine is None:
            mine = {"index": index, "id": None, "type": "function", "function": {"name": "", "arguments": ""}}
            calls.append(mine)
        mine["id"] = getattr(call, "id", None) or mine["id"]
        function = getattr(call, "function", None)
        if function is not None:
            mine["function"]["name"] += getattr(function, "name", None) or ""
            mine["function"]["arguments"] += getattr(function, "arguments", None) or ""

    def output(self) -> Any:
        if self.whole is not None:
            return _output(self.whole)
        result = {**self.head, "object": "chat.completion", "choices": [self.choices[i] for i in sorted(self.choices)]}
        if self.usage is not None:
            result["usage"] = _output(self.usage)
        return result


# -- streams -------------------------------------------------------------------------------------------------------

class _Stream:
    """A call whose response is still being read."""

    def __init__(self, op: _trace.Op, call: _trace.Call):
        self.op = op
        self.call = call
        self.chunks = _Chunks()
        self.is_broken = False
        self.has_ended = False

    def closes(self, close: Callable[[], Any]) -> Callable[[], Any]:
        """The stream's close(), which need not read to the end."""

        def closing() -> Any:
            self.end()
            return close()

        return closing

    def add(self, chunk: Any) -> None:
        if self.is_broken:
            return
        try:
            self.chunks.add(chunk)
        except Exception as e:  # noqa: BLE001
            self.is_broken = True
            _trace._say_failed(self.op, e)

    def end(self, error: BaseException | None = None) -> None:
        if self.has_ended:
            return
        self.has_ended = True
        try:
            output = self.chunks.output()
        except Exception as e:  # noqa: BLE001
            output = None
            _trace._say_failed(self.op, e)
        if error is None or isinstance(error, GeneratorExit):
            _trace._end_call(self.op, self.call, output)
        else:
            _trace._fail_call(self.op, self.call, error, output)

    def read(self, chunks: Iterator[Any]) -> Iterator[Any]:
        try:
            for chunk in chunks:
                self.add(chunk)
                yield chunk
        except BaseException as e:
            self.end(e)
            raise
        self.end()

    async def read_async(self, chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        try:
            async for chunk in chunks:
                self.add(chunk)
                yield chunk
        except BaseException as e:
            self.end(e)
            raise
        self.end()


def _take(op: _trace.Op, call: _trace.Call, value: Any) -> None:
    """The call ends with its response, or with the last of its stream."""
    try:
        kind = [base.__name__ for base in type(value).__mro__]
        if not {"Stream", "AsyncStream"} & set(kind) or not hasattr(value, "_iterator"):
            _trace._end_call(op, call, value)
            return
        stream = _Stream(op, call)
        value._iterator = stream.read(value._iterator) if "Stream" in kind else stream.read_async(value._iterator)
        value.close = stream.closes(value.close)
    except Exception as e:  # noqa: BLE001
        _trace._say_failed(op, e)
        _trace._end_somehow(call)


def _wrap(op: _trace.Op, function: Callable) -> Callable:
    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        call = _trace._begin_call(op, args, kwargs)
        if call is None or call is _trace._OFF:
            return function(*args, **kwargs)
        token = _trace._current.set(call)
        try:
            value = function(*args, **kwargs)
        except BaseException as e:
            _trace._current.reset(token)
            _trace._fail_call(op, call, e)
            raise
        _trace._current.reset(token)
        _take(op, call, value)
        return value

    return traced


def _wrap_async(op: _trace.Op, function: Callable) -> Callable:
    @functools.wraps(function)
    async def traced(*args: Any, **kwargs: Any) -> Any:
        call = _trace._begin_call(op, args, kwargs)
        if call is None or call is _trace._OFF:
            return await function(*args, **kwargs)
        token = _trace._current.set(call)
        try:
            value = await function(*args, **kwargs)
        except BaseException as e:
            _trace._current.reset(token)
            _trace._fail_call(op, call, e)
            raise
        _trace._current.reset(token)
        _take(op, call, value)
        return value

    return traced


# -- patching ------------------------------------------------------------------------------------------------------

def _patch(module: Any, class_name: str, methods: tuple[str, ...], name: str, is_async: bool) -> None:
    owner = getattr(module, class_name, None)
    for method in methods:
        function = inspect.getattr_static(owner, method, None) if owner is not None else None
        if function is None or hasattr(function, "_wbx_traced") or not callable(function):
            continue
        op = _trace.Op(function, f"{name}.{method}", postprocess_inputs=_inputs, postprocess_output=_output, kind="llm", code=False)
        wrapped: Any = (_wrap_async if is_async else _wrap)(op, function)
        wrapped._wbx_traced = True
        setattr(owner, method, wrapped)


def patch() -> None:
    """Of the client, which is imported."""
    for module_name, class_name, methods, name, is_async in _METHODS:
        try:
            _patch(importlib.import_module(module_name), class_name, methods, name, is_async)
        except Exception as e:  # noqa: BLE001: another version of it
            if not isinstance(e, ImportError):
                _run._say_once(f"{name} of the client openai cannot be traced: {type(e).__name__}: {e}")


class _Finder(importlib.abc.MetaPathFinder):
    """Patches the client when somebody imports it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != "openai":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            patch()

        try:
            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        except AttributeError:  # a loader of some other kind
            pass
        return spec


def watch() -> None:
    """From now on."""
    global _watching
    if _watching or os.environ.get("WBX_TRACE_OPENAI", "").lower() in ("0", "false", "no"):
        return
    _watching = True
    if "openai" in sys.modules:
        patch()
    else:
        sys.meta_path.insert(0, _Finder())
