"""A traced call as Python shows it, and what somebody thinks of it."""
from __future__ import annotations

import datetime
import inspect
from typing import Any

from . import _native, _run


def _clean(text: Any) -> str:
    """As C takes it."""
    text = str(text)
    return text if text.isascii() and "\0" not in text else text.replace("\0", "").encode("utf-8", "replace").decode()

class Call(_native.Call):
    """A traced call, under way or ended: id, trace_id, parent_id, op_name, inputs as they were recorded, summary (to be added to),
    feedback."""

    _summary: dict[str, Any] | None = None
    _display: str | None = None
    _op: Any = None
    _ended: int = 0
    output: Any = None  # of Op.call() only
    exception: str | None = None
    attributes: dict[str, Any] | None = None
    wb_run_step: int | None = None

    @property
    def inputs(self) -> dict[str, Any]:
        return self.recorded()

    @property
    def summary(self) -> dict[str, Any]:
        """May be added to while the call is under way; ``usage`` is what the model used."""
        if self._summary is None:
            self._summary = {}
        return self._summary

    @summary.setter
    def summary(self, value: dict[str, Any] | None) -> None:
        self._summary = value

    @property
    def started_at(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._started_us / 1e6, datetime.timezone.utc)

    @property
    def ended_at(self) -> datetime.datetime | None:
        return datetime.datetime.fromtimestamp(self._ended / 1e6, datetime.timezone.utc) if self._ended else None

    @property
    def func_name(self) -> str:
        return self.op_name

    @property
    def display_name(self) -> str | None:
        return self._display

    @display_name.setter
    def display_name(self, name: str | None) -> None:
        self.set_display_name(name)

    def set_display_name(self, name: str | None) -> None:
        """How it is shown; counts until the call ends."""
        self._display = None if name is None else _clean(name)

    def remove_display_name(self) -> None:
        self._display = None

    @property
    def feedback(self) -> "Feedback":
        return Feedback(self)

    def set_score(self, name: str, value: Any, reason: str | None = None, scorer: "Call | None" = None) -> str:
        """A score of this call, shown in a column of its name; the feedback's id."""
        output = value if reason is None else {"score": value, "reason": reason}
        return self.feedback._add(f"wandb.runnable.{name}", {"output": output}, op=name, scorer=scorer)

    async def apply_scorer(self, scorer: Any, additional_scorer_kwargs: dict[str, Any] | None = None) -> Any:
        """Calls the scorer with this call's output and inputs, as far as it has parameters for them, and keeps what it says as a score."""
        function = scorer.score if hasattr(scorer, "score") else scorer
        wanted = set(inspect.signature(function).parameters)
        given = {"output": self.output, "inputs": self.inputs} | self.inputs | (additional_scorer_kwargs or {})
        result = function(**{k: v for k, v in given.items() if k in wanted})
        if inspect.isawaitable(result):
            result = await result
        self.set_score(getattr(scorer, "name", None) or getattr(scorer, "__name__", None) or type(scorer).__name__, result)
        return result

    @property
    def ui_url(self) -> str:
        """Where it is in the browser, as far as W&B has answered for its run; "" before."""
        return _ui_url(self)

    @property
    def project_id(self) -> str:
        info = self._native_run.info()
        return f"{info['entity']}/{info['project']}" if info["project"] else ""

    def __repr__(self) -> str:
        return f"<wbx.Call {self.op_name} {self.id}>"


def _ui_url(call: Call) -> str:
    url = call._native_run.info()["url"]
    base, found, _ = url.partition("/runs/")
    return f"{base}/r/call/{call.id}" if found else ""


class Feedback:
    """What somebody thinks of a call."""

    def __init__(self, call: Call):
        self._call = call

    def _add(self, kind: str, payload: dict[str, Any], op: str | None = None, scorer: Call | None = None) -> str:
        result, feedback_id = _native.feedback(self._call._native_run, self._call.id, _clean(kind), payload, op and _clean(op), scorer and scorer.id)
        _run._look(result, "feedback")
        return feedback_id

    def add(self, feedback_type: str, payload: dict[str, Any] | None = None, creator: str | None = None, annotation_ref: str | None = None,
            **more: Any) -> str:
        """Feedback of a type of your own; names that begin with wandb. are W&B's."""
        return self._add(feedback_type, dict(payload or {}, **more))

    def add_reaction(self, emoji: str, creator: str | None = None) -> str:
        return self._add("wandb.reaction.1", {"emoji": emoji})

    def add_note(self, note: str, creator: str | None = None) -> str:
        return self._add("wandb.note.1", {"note": note[:1024]})


class NoCall:
    """What Op.call() gives when nothing was traced."""

    id = trace_id = parent_id = exception = display_name = thread_id = turn_id = None
    output: Any = None

    def __init__(self) -> None:
        self.summary: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {}

    def set_display_name(self, name: str | None) -> None:
        """Nothing to name."""
