"""Traced calls: the decorator op, and the context that calls nest in.

What is traced gets its result and its exceptions as if nothing were here, whatever goes wrong with the record of it. A call belongs to the
run that is open when its root begins; without one, and without weave.init(), nothing is traced.
"""
from __future__ import annotations

import _thread
import atexit
import contextlib
import contextvars
import hashlib
import functools
import inspect
import json
import os
import random
import textwrap
import threading
import time
import traceback
from typing import Any, Callable

from . import _native, _run, _trace_values  # noqa: F401: the last sets what describes arguments
from ._trace_call import Call, Feedback, NoCall, _clean
from ._trace_context import (_OFF, NoCurrentCallError, Thread, ThreadContext, ThreadPoolExecutor, _current, _thread_id, attributes, call_attributes,
                             get_current_call, require_current_call, thread, tracing_disabled)

FRAMES_MAX = 50  # of an exception
ITEMS_MAX = 10_000  # of a generator, that are recorded
MESSAGE_MAX = 16_000
TELL_AFTER_S = 1.0  # the start of a call that takes longer gets a record of its own

_IS_OTHER_RANK = os.environ.get("RANK", "0") != "0"

_clock = time.time_ns


# -- where calls go ------------------------------------------------------------------------------------------------

class _Target:
    """What weave.init() set; without it calls go to the open run."""

    native: Any = None  # a project without a run
    attributes: dict[str, Any] = {}
    post_inputs: Callable[[dict], dict] | None = None
    post_output: Callable[[Any], Any] | None = None
    is_off = os.environ.get("WEAVE_DISABLED", "").lower() in ("1", "true", "yes")


_target = _Target()


def _find_run() -> Any:
    """The native run that a new root belongs to, or None."""
    if _target.is_off:
        return None
    runs = _run._open_runs
    if runs:
        return runs[-1]._native
    if _target.native is None and _IS_OTHER_RANK:
        from . import _trace_ranks

        _target.native = _trace_ranks.look()
    return _target.native


# -- calls that take long ------------------------------------------------------------------------------------------

_teller_runs = False
_forks = 0
_source_lock = threading.Lock()


def _after_fork() -> None:
    global _teller_runs, _forks, _source_lock
    _teller_runs = False
    _source_lock = threading.Lock()
    _forks += 1


os.register_at_fork(after_in_child=_after_fork)


def _tell() -> None:
    while True:
        time.sleep(TELL_AFTER_S)
        _native.tell_calls(int(TELL_AFTER_S * 1e6))


def _start_teller() -> None:
    """Not a threading.Thread: it is nobody's business, and never joined."""
    global _teller_runs
    _teller_runs = True
    try:
        _thread.start_new_thread(_tell, ())
    except RuntimeError:  # no more threads: starts are told by calls inside
        pass


# -- beginning -----------------------------------------------------------------------------------------------------

def step_of(parent: Any, attributes: dict[str, Any], inputs: dict[str, Any]) -> int:
    """The training's step, where the caller knows it: what attributes() says, what the call above has, what TRL hands to reward
    functions (its count of finished steps); else -1, and the daemon finds it."""
    step = attributes.get("step", -1)
    if type(step) is int and step >= 0:
        return step
    if parent is not None:
        return parent.step
    state = inputs.get("trainer_state")
    done = getattr(state, "global_step", None) if state is not None else None
    return int(done) + 1 if isinstance(done, int) and done >= 0 else -1


def begin(op: "Op", inputs: dict[str, Any], *, parent: Any = None, native: Any = None, attributes: dict[str, Any] | None = None,
          display_name: str | None = None, started_us: int = 0, is_root: bool = False) -> Call:
    """A call of op begins. native: of a root. attributes: beside those of the context."""
    global _teller_runs
    if not _teller_runs:
        _start_teller()
    above = call_attributes.get()
    merged = {**op.attributes, **_target.attributes, **above, **(attributes or {})} if attributes or op.attributes or _target.attributes else above
    thread_id = _thread_id.get()
    turn_id: Any = None
    if thread_id is not None:
        turn_id = parent.turn_id if parent is not None and parent.thread_id == thread_id and parent.turn_id else True
    source = None
    if parent is not None:
        native = parent._native_run
    if op.told is not native or op.told_forks != _forks:
        source = op.tell_source(native)
    call = Call(native, op.clean_name, inputs, parent, merged or None, display_name or op.display_name, thread_id, turn_id,
                step_of(parent, merged, inputs), source, op.source_sha256, started_us)
    if merged:
        call.attributes = merged
    if op.display_function is not None:
        call.set_display_name(op.display_function(call))
    return call


def _begin_call(op: "Op", args: tuple, kwargs: dict[str, Any]) -> Any:
    """A Call; None: not traced; _OFF: neither is what is inside."""
    try:
        parent = _current.get()
        if parent is _OFF or op.is_off:
            return None
        native = None
        if parent is None:
            native = _find_run()
            if native is None:
                return None
            if op.rate < 1.0 and random.random() >= op.rate:
                return _OFF
        inputs = op.bind(args, kwargs)
        post = op.postprocess_inputs
        if post is not None:
            inputs = post(inputs)
        if _target.post_inputs is not None:
            inputs = _target.post_inputs(inputs)
        return begin(op, inputs if type(inputs) is dict else {"inputs": inputs}, parent=parent, native=native)
    except Exception as e:  # noqa: BLE001: whatever it is, the function is called
        _say_failed(op, e)
        return None


def _say_failed(op: Any, error: BaseException) -> None:
    try:
        _run._say_once(f"a call of {op.name} was not traced: {type(error).__name__}: {error} (said once)")
    except Exception:  # noqa: BLE001: stderr is gone, or the error has no text
        pass


# -- ending --------------------------------------------------------------------------------------------------------

_COUNTS = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens", "cache_read_input_tokens",
           "cache_creation_input_tokens", "requests")


def usage_of(model: Any, usage: Any) -> dict[str, Any] | None:
    """As it stands in a summary: whole numbers by model."""
    if usage is None or not isinstance(model, str):
        return None
    get = usage.get if isinstance(usage, dict) else lambda key: getattr(usage, key, None)
    counts = {key: value for key in _COUNTS if type(value := get(key)) is int}
    details = get("prompt_tokens_details") or get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else getattr(details, "cached_tokens", None)
    if type(cached) is int and cached > 0:
        counts.setdefault("cache_read_input_tokens", cached)
    return {model: {"requests": 1} | counts} if counts else None


def _usage_in(output: Any) -> dict[str, Any] | None:
    """Of a result that says what a model used."""
    if type(output) is dict:
        return usage_of(output.get("model"), output.get("usage")) if "usage" in output else None
    if hasattr(output, "model_dump") and hasattr(output, "usage") and hasattr(output, "model"):
        return usage_of(output.model, output.usage)
    return None


def exception_text(error: BaseException) -> str:
    """As W&B shows it."""
    try:
        message = str(error)[:MESSAGE_MAX]
    except Exception:  # noqa: BLE001
        message = "<an exception without a text>"
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
    here = os.path.dirname(__file__)
    lines = [{"filename": f.filename, "line_number": f.lineno, "function_name": f.name, "text": f.line} for f in frames
             if os.path.dirname(f.filename) != here]
    return json.dumps({"type": type(error).__name__, "message": message, "traceback": lines})


def finish(call: Call, output: Any, exception: str | None = None, ended_us: int = 0) -> None:
    summary = call._summary
    if output is not None and (usage := _usage_in(output)) is not None:
        summary = {**(summary or {})}
        summary.setdefault("usage", usage)
    call.exception = exception
    call._ended = ended_us or _clock() // 1000
    _run._look(call.end(output, exception, summary, call._display, call._ended), "a call")


def _end_call(op: "Op", call: Call, output: Any) -> None:
    try:
        post = op.postprocess_output
        if post is not None:
            output = post(output)
        if _target.post_output is not None:
            output = _target.post_output(output)
        finish(call, output)
    except Exception as e:  # noqa: BLE001
        _say_failed(op, e)
        _end_somehow(call)


def _fail_call(op: "Op", call: Call, error: BaseException, output: Any = None) -> None:
    try:
        finish(call, output, exception_text(error))
    except Exception as e:  # noqa: BLE001
        _say_failed(op, e)
        _end_somehow(call)


def _end_somehow(call: Call) -> None:
    with contextlib.suppress(Exception):
        call.end(None, None)


# -- ops -----------------------------------------------------------------------------------------------------------

class Op:
    """What is known of a traced function. Attributes of the function that op() makes lead here."""

    def __init__(self, function: Callable | None, name: str, *, display_name: Any = None, postprocess_inputs: Any = None,
                 postprocess_output: Any = None, rate: float = 1.0, code: bool = True, kind: str | None = None, color: str | None = None,
                 attributes: dict[str, Any] | None = None, accumulator: Any = None):
        self.function = function
        self.name = name
        self.clean_name = _clean(name)[:128]
        self.display_name = _clean(display_name) if isinstance(display_name, str) else None
        self.display_function = display_name if callable(display_name) else None
        self.postprocess_inputs = postprocess_inputs
        self.postprocess_output = postprocess_output
        self.rate = rate
        self.accumulator = accumulator
        self.is_off = False
        self.attributes = dict(attributes or {})
        if kind or color:
            self.attributes["weave"] = {k: v for k, v in (("kind", kind), ("color", color)) if v}
        self.told: Any = None  # the run that has the source
        self.told_forks = 0
        self.source_sha256: bytes | None = None
        self._source: str | None = None
        self._has_code = code and function is not None
        if function is not None:
            self._read_signature(function)

    def __getstate__(self) -> dict[str, Any]:
        """For who sends functions to other processes (ray, cloudpickle): a run stays where it is."""
        return self.__dict__ | {"told": None}

    def _read_signature(self, function: Callable) -> None:
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # of C
            parameters = [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL), inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)]
        plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self.signature = inspect.Signature(parameters)
        self.is_plain = all(p.kind is plain for p in parameters)
        self.names = tuple(p.name for p in parameters)
        self.defaults = tuple((p.name, p.default) for p in parameters if p.default is not p.empty)

    def bind(self, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name, with defaults. TypeError as the function would raise it."""
        if self.is_plain and len(args) <= len(self.names):
            inputs = dict(zip(self.names, args))
            if kwargs:
                inputs.update(kwargs)
            if len(inputs) != len(self.names):
                for name, value in self.defaults:
                    inputs.setdefault(name, value)
            return inputs
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def tell_source(self, native: Any) -> str | None:
        """The text of the function, for one call of a run and process."""
        with _source_lock:
            if self._has_code:
                self._has_code = False
                with contextlib.suppress(OSError, TypeError, IndexError, SyntaxError):
                    source = inspect.getsource(self.function)  # type: ignore[arg-type]
                    self._source = _clean(textwrap.dedent(source))
                    self.source_sha256 = hashlib.sha256(self._source.encode()).digest()
            is_told = self.told is native and self.told_forks == _forks
            self.told, self.told_forks = native, _forks
        return None if is_told else self._source


def _reset(token: contextvars.Token) -> None:
    """Of a coroutine, which somebody else may close, in another context."""
    with contextlib.suppress(ValueError):
        _current.reset(token)


def _wrap_plain(op: Op, function: Callable) -> Callable:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = _begin_call(op, args, kwargs)
        if call is None:
            return function(*args, **kwargs)
        token = _current.set(call)
        if call is _OFF:
            try:
                return function(*args, **kwargs)
            finally:
                _current.reset(token)
        try:
            output = function(*args, **kwargs)
        except BaseException as e:
            _current.reset(token)
            _fail_call(op, call, e)
            raise
        _current.reset(token)
        _end_call(op, call, output)
        return output

    return wrapper


def _wrap_async(op: Op, function: Callable) -> Callable:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = _begin_call(op, args, kwargs)
        if call is None:
            return await function(*args, **kwargs)
        token = _current.set(call)
        if call is _OFF:
            try:
                return await function(*args, **kwargs)
            finally:
                _reset(token)
        try:
            output = await function(*args, **kwargs)
        except BaseException as e:
            _reset(token)
            _fail_call(op, call, e)
            raise
        _reset(token)
        _end_call(op, call, output)
        return output

    return wrapper


class Items:
    """What a generator or a stream gave, as far as it is recorded."""

    def __init__(self, accumulator: Any):
        self.accumulator = accumulator
        self.state: Any = None
        self.items: list[Any] = []
        self.count = 0

    def add(self, item: Any) -> None:
        self.count += 1
        if self.accumulator is not None:
            try:
                self.state = self.accumulator(self.state, item)
            except Exception as e:  # noqa: BLE001
                self.accumulator = None
                _run._say_once(f"an accumulator raised {type(e).__name__}: {e} (said once)")
        elif self.count <= ITEMS_MAX:
            self.items.append(item)

    def output(self) -> Any:
        if self.accumulator is not None:
            return self.state
        if self.count > ITEMS_MAX:
            return [*self.items, f"<and {self.count - ITEMS_MAX} more>"]
        return self.items


def _wrap_generator(op: Op, function: Callable) -> Callable:
    """The call is current while the generator's body runs, and not while it waits."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = _begin_call(op, args, kwargs)
        if call is None:
            return (yield from function(*args, **kwargs))
        generator = function(*args, **kwargs)
        items = Items(op.accumulator)
        step, value = generator.send, None
        try:
            while True:
                token = _current.set(call)
                try:
                    item = step(value)
                except StopIteration as stop:
                    result = stop.value
                    break
                finally:
                    _current.reset(token)
                items.add(item)
                try:
                    step, value = generator.send, (yield item)
                except GeneratorExit:
                    generator.close()
                    raise
                except BaseException as e:  # noqa: BLE001: thrown in, for the generator
                    step, value = generator.throw, e
        except GeneratorExit:
            if call is not _OFF:
                _end_call(op, call, items.output())
            raise
        except BaseException as e:
            if call is not _OFF:
                _fail_call(op, call, e, items.output())
            raise
        if call is not _OFF:
            _end_call(op, call, items.output())
        return result

    return wrapper


def _wrap_async_generator(op: Op, function: Callable) -> Callable:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = _begin_call(op, args, kwargs)
        generator = function(*args, **kwargs)
        items = Items(op.accumulator)
        step, value = generator.asend, None
        try:
            while True:
                token = _current.set(call) if call is not None else None
                try:
                    item = await step(value)
                except StopAsyncIteration:
                    break
                finally:
                    if token is not None:
                        _current.reset(token)
                items.add(item)
                try:
                    step, value = generator.asend, (yield item)
                except GeneratorExit:
                    await generator.aclose()
                    raise
                except BaseException as e:  # noqa: BLE001: thrown in, for the generator
                    step, value = generator.athrow, e
        except GeneratorExit:
            if call is not None and call is not _OFF:
                _end_call(op, call, items.output())
            raise
        except BaseException as e:
            if call is not None and call is not _OFF:
                _fail_call(op, call, e, items.output())
            raise
        if call is not None and call is not _OFF:
            _end_call(op, call, items.output())

    return wrapper


def _call_plain(op: Op, function: Callable) -> Callable:
    """Op.call(): result and Call; what is raised stands in Call.exception."""

    def call_of(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        call = _begin_call(op, args, kwargs)
        if call is None or call is _OFF:
            return function(*args, **kwargs), NoCall()
        token = _current.set(call)
        output = None
        try:
            output = function(*args, **kwargs)
        except Exception as e:  # noqa: BLE001: as weave does it
            _fail_call(op, call, e)
        else:
            _end_call(op, call, output)
            call.output = output
        finally:
            _current.reset(token)
        return output, call

    async def async_call_of(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        call = _begin_call(op, args, kwargs)
        if call is None or call is _OFF:
            return await function(*args, **kwargs), NoCall()
        token = _current.set(call)
        output = None
        try:
            output = await function(*args, **kwargs)
        except Exception as e:  # noqa: BLE001
            _fail_call(op, call, e)
        else:
            _end_call(op, call, output)
            call.output = output
        finally:
            _reset(token)
        return output, call

    return async_call_of if inspect.iscoroutinefunction(function) else call_of


def make_op(function: Any, name: str | None = None, **options: Any) -> Any:
    """The traced function."""
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(make_op(function.__func__, name, **options))
    if is_op(function):
        return function
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"op() takes a function, not {type(function).__name__}")
    op = Op(function, name or getattr(function, "__qualname__", type(function).__name__).rpartition("<locals>.")[2], **options)
    if inspect.isasyncgenfunction(function):
        wrapper = _wrap_async_generator(op, function)
    elif inspect.isgeneratorfunction(function):
        wrapper = _wrap_generator(op, function)
    elif inspect.iscoroutinefunction(function):
        wrapper = _wrap_async(op, function)
    else:
        wrapper = _wrap_plain(op, function)
    traced: Any = wrapper
    traced.op = op
    traced.name = op.name
    traced.resolve_fn = function
    traced.call = _call_plain(op, function)
    return traced


def op(func: Any = None, *, name: str | None = None, call_display_name: str | Callable[[Call], str] | None = None,
       postprocess_inputs: Callable[[dict[str, Any]], dict[str, Any]] | None = None, postprocess_output: Callable[[Any], Any] | None = None,
       tracing_sample_rate: float = 1.0, enable_code_capture: bool = True, accumulator: Callable[[Any, Any], Any] | None = None,
       kind: str | None = None, color: str | None = None, attributes: dict[str, Any] | None = None, eager_call_start: bool = False) -> Any:
    """Traces a function: sync or async, a generator of either kind, a method. ``@op`` or ``@op(...)``; names and meaning are those of weave.

    ``call_display_name``: a text, or a function of the Call. ``postprocess_inputs`` and ``postprocess_output`` change what is recorded, not what the
    function gets and gives. ``tracing_sample_rate``: of calls that are roots, so many are traced, with all that is inside. ``kind``: agent, llm, tool, search, scorer.
    """
    if not isinstance(tracing_sample_rate, (int, float)):
        raise TypeError("tracing_sample_rate must be a number")
    if not 0 <= tracing_sample_rate <= 1:
        raise ValueError("tracing_sample_rate must be between 0 and 1")
    if attributes is not None and "weave" in attributes:
        raise ValueError("the attribute weave is W&B's")
    from . import _trace_openai

    _trace_openai.watch()
    options: dict[str, Any] = {"display_name": call_display_name, "postprocess_inputs": postprocess_inputs, "postprocess_output": postprocess_output,
                               "rate": float(tracing_sample_rate), "code": enable_code_capture, "accumulator": accumulator, "kind": kind, "color": color,
                               "attributes": attributes}
    if func is None:
        return lambda function: make_op(function, name, **options)
    return make_op(func, name, **options)


def is_op(function: Any) -> bool:
    return isinstance(getattr(function, "op", None), Op)


def tell_open_calls() -> None:
    """At the end of the process: what is under way is not forgotten."""
    _native.tell_calls(0)


atexit.register(tell_open_calls)

__all__ = ["Call", "Feedback", "NoCurrentCallError", "Op", "Thread", "ThreadContext", "ThreadPoolExecutor", "attributes", "get_current_call", "is_op", "op",
           "require_current_call", "thread", "tracing_disabled"]
