"""init() of weave and what it returns: calls that are begun and ended by hand, costs, and where calls go when no run is open."""
from __future__ import annotations

import datetime
import os
from typing import Any, Callable

from . import _native, _run, _trace
from ._trace import Call, Op, _clean, _target

_client: "WeaveClient | None" = None
_ops: dict[str, Op] = {}  # those that are names only
OPS_MAX = 10_000


def _micros(when: datetime.datetime | None) -> int:
    if when is None:
        return 0
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.timezone.utc)
    return int(when.timestamp() * 1e6)


def _op_of(op: Any) -> Op:
    if isinstance(op, Op):
        return op
    if _trace.is_op(op):
        return op.op
    name = op if isinstance(op, str) else getattr(op, "__qualname__", None) or type(op).__name__
    name = name.rpartition("/op/")[2].partition(":")[0] if name.startswith("weave:///") else name
    found = _ops.get(name)
    if found is None:
        if len(_ops) >= OPS_MAX:
            _ops.clear()
        found = _ops[name] = Op(None, name)
    return found


class _NoCall(_trace.NoCall):
    """What create_call() gives when nothing is traced; finish_call() takes it."""

    _above: Any = None


class WeaveClient:
    """Begins and ends calls by hand. Nothing here waits for W&B: what is recorded is on its way to the local daemon."""

    def __init__(self, entity: str, project: str):
        self.entity = entity
        self.project = project

    @property
    def project_id(self) -> str:
        return f"{self.entity}/{self.project}"

    def create_call(self, op: Any, inputs: dict[str, Any], parent: Call | None = None, attributes: dict[str, Any] | None = None,
                    display_name: str | Callable[[Call], str] | None = None, *, use_stack: bool = True,
                    started_at: datetime.datetime | None = None, _call_id_override: str | None = None) -> Any:
        """A call of op, a traced function or a name, begins; with use_stack calls that begin before finish_call() nest in it."""
        try:
            return self._create(_op_of(op), inputs, parent, attributes, display_name, use_stack, _micros(started_at))
        except Exception as e:  # noqa: BLE001
            _trace._say_failed(_op_of(op) if op else self, e)
            return _NoCall()

    def _create(self, op: Op, inputs: dict[str, Any], parent: Any, attributes: Any, display_name: Any, use_stack: bool, started_us: int) -> Any:
        above = _trace._current.get()
        if parent is None:
            parent = above
        if parent is _trace._OFF:
            return _NoCall()
        if not isinstance(parent, Call):
            parent = None
        native = None if parent is not None else _trace._find_run()
        if parent is None and native is None:
            return _NoCall()
        call = _trace.begin(op, dict(inputs), parent=parent, native=native, attributes=attributes,
                            display_name=_clean(display_name) if isinstance(display_name, str) else None, started_us=started_us)
        call._op = op
        if callable(display_name):
            call.set_display_name(display_name(call))
        if use_stack:
            call._above = above
            _trace._current.set(call)
        return call

    def finish_call(self, call: Any, output: Any = None, exception: BaseException | None = None, *, op: Any = None,
                    ended_at: datetime.datetime | None = None) -> None:
        """The call ends. A second time says nothing."""
        if not isinstance(call, Call):
            return
        try:
            if _trace._current.get() is call:
                _trace._current.set(call._above)
            call._above = None
            post = call._op.postprocess_output if call._op is not None else None
            if post is not None and exception is None:
                output = post(output)
            _trace.finish(call, output, _trace.exception_text(exception) if exception is not None else None, _micros(ended_at))
        except Exception as e:  # noqa: BLE001
            _trace._say_failed(call._op or self, e)
            _trace._end_somehow(call)

    def fail_call(self, call: Any, exception: BaseException) -> None:
        self.finish_call(call, exception=exception)

    def add_cost(self, llm_id: str, prompt_token_cost: float, completion_token_cost: float, effective_date: Any = None,
                 prompt_token_cost_unit: str | None = "USD", completion_token_cost_unit: str | None = "USD", provider_id: str | None = "default",
                 **ignored: Any) -> None:
        """What a token of your own model costs, in USD."""
        if (native := _trace._find_run()) is not None:
            _run._look(_native.cost(native, _clean(llm_id), float(prompt_token_cost), float(completion_token_cost),
                                    None if provider_id is None else _clean(provider_id)), "a cost")

    def set_wandb_run_context(self, run_id: str, step: int | None = None) -> None:
        """Calls that begin from now on belong to this run of the project, and to this step."""
        if run_id not in (run.id for run in _run._open_runs):
            from . import attach

            attach(project=self.project, entity=self.entity or None, id=run_id)
        _target.attributes = {k: v for k, v in _target.attributes.items() if k != "step"} | ({"step": step} if step is not None else {})

    def clear_wandb_run_context(self) -> None:
        _target.attributes = {k: v for k, v in _target.attributes.items() if k != "step"}

    def flush(self, timeout: float = 10.0) -> bool:
        """Waits until everything recorded before is on the daemon's disk, which sends it; False when it took longer."""
        return _run.client().flush(int(timeout * 1000)) == 0

    def finish(self, use_progress_bar: bool = True, callback: Any = None) -> None:
        _trace.tell_open_calls()
        self.flush()

    @property
    def name(self) -> str:
        return "weave"


Call._above = None


def init(project_name: str, *, settings: Any = None, autopatch_settings: Any = None, postprocess_inputs: Any = None, postprocess_output: Any = None,
         attributes: dict[str, Any] | None = None, global_postprocess_inputs: Any = None, global_postprocess_output: Any = None,
         global_attributes: dict[str, Any] | None = None) -> WeaveClient:
    """From now on ops are traced: into the open run when there is one, else into the project, "project" or "entity/project"."""
    global _client
    from . import _trace_openai

    entity, _, project = project_name.rpartition("/")
    if not project:
        raise _run.UsageError('init() wants "project" or "entity/project"')
    entity = entity or os.environ.get("WANDB_ENTITY", "")
    _target.native = _native.project(_run.client(), _clean(entity) or None, _clean(project))
    _target.post_inputs = postprocess_inputs or global_postprocess_inputs
    _target.post_output = postprocess_output or global_postprocess_output
    _target.attributes = dict(attributes or global_attributes or {})
    _trace_openai.watch()
    _client = WeaveClient(entity, project)
    return _client


def finish() -> None:
    """Ops are not traced any more, unless a run is open."""
    global _client
    client, _client = _client, None
    _target.native = _target.post_inputs = _target.post_output = None
    _target.attributes = {}
    if client is not None:
        client.finish()


def get_client() -> WeaveClient | None:
    """What init() returned; with a run open and no init(), one for its project."""
    global _client
    if _client is None and (run := _run.open_run()) is not None:
        return WeaveClient(run.entity, run.project)
    return _client


def require_client() -> WeaveClient:
    client = get_client()
    if client is None:
        raise _run.UsageError("call weave.init() or wbx.init() first")
    return client
