"""Traces of LLM calls with the names of ``weave``: ``import wbx.weave as weave``.

    weave.init("entity/project")     # not needed when wbx.init() opened a run: calls go there

    @weave.op
    def judge(prompt: str) -> dict: ...

What is recorded survives the process and W&B's outages: the local daemon has it. What reads from W&B (ref, get, query of calls) is not here.
``install()`` makes it the module ``weave`` of this process, for code that imports that.
"""
from __future__ import annotations

import sys
import types
from typing import Any

from . import _trace, _trace_client, _trace_eval
from ._native import version as __version__
from ._run import _open_runs as _runs  # noqa: F401
from ._trace import (Call, NoCurrentCallError, Op, Thread, ThreadContext, ThreadPoolExecutor, attributes, call_attributes, get_current_call, is_op, op,
                     require_current_call, thread, tracing_disabled)
from ._trace_client import WeaveClient, finish, get_client, init, require_client
from ._trace_eval import Dataset, EvaluationLogger, MessagesPrompt, Model, Object, ObjectRef, Prompt, Scorer, ScoreLogger, StringPrompt, publish

__all__ = ["Call", "Dataset", "EvaluationLogger", "MessagesPrompt", "Model", "NoCurrentCallError", "Object", "ObjectRef", "Op", "Prompt", "ScoreLogger",
           "Scorer", "StringPrompt", "Thread", "ThreadContext", "ThreadPoolExecutor", "WeaveClient", "as_op", "attributes", "call_attributes", "finish",
           "get_client", "get_current_call", "init", "install", "is_op", "op", "publish", "require_current_call", "thread", "tracing_disabled"]
ImperativeEvaluationLogger = EvaluationLogger


def as_op(function: Any) -> Any:
    """What op() returned, as it is."""
    if not is_op(function):
        raise ValueError("that is no op")
    return function


def _module(name: str, **names: Any) -> types.ModuleType:
    module = types.ModuleType(f"{__name__}.{name}")
    module.__dict__.update(names)
    module.__path__ = []  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return module


def _no_stack() -> list[Call]:
    call = get_current_call()
    return [call] if call is not None else []


# where frameworks reach into the package
_call_context = _module("trace.context.call_context", call_attributes=call_attributes, get_current_call=get_current_call,
                        require_current_call=require_current_call, get_call_stack=_no_stack, tracing_disabled=tracing_disabled)
_client_context = _module("trace.context.weave_client_context", get_weave_client=get_client, require_weave_client=require_client)
_context = _module("trace.context", call_context=_call_context, weave_client_context=_client_context)
weave_client_context = _client_context
_call = _module("trace.call", Call=Call)
_weave_client = _module("trace.weave_client", WeaveClient=WeaveClient, Call=Call)
_op = _module("trace.op", op=op, Op=Op, is_op=is_op, as_op=as_op)
_api = _module("trace.api", init=init, op=op, attributes=attributes, thread=thread, publish=publish, finish=finish, get_current_call=get_current_call)
trace = _module("trace", context=_context, call=_call, weave_client=_weave_client, op=_op, api=_api)
evaluation = _module("evaluation", eval_imperative=_module("evaluation.eval_imperative", EvaluationLogger=EvaluationLogger, ScoreLogger=ScoreLogger))
__path__: list[str] = []


def install() -> None:
    """``import weave`` gives this, unless the real one was imported before."""
    if "weave" in sys.modules and sys.modules["weave"] is not sys.modules[__name__]:
        raise _trace._run.UsageError("the package weave is imported already")
    for name, module in [*sys.modules.items()]:
        if name == __name__ or name.startswith(__name__ + "."):
            sys.modules["weave" + name[len(__name__):]] = module
