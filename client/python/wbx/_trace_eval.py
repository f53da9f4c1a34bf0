"""Prompts and datasets that are published, and evaluations that are logged prediction by prediction."""
from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any, Iterable, Iterator

from . import _native, _run, _trace, _trace_client
from ._trace import Call, Op, _clean

_META = {"_weave_eval_meta": {"imperative": True}}
_NOT_SET: Any = object()


# -- what is published ---------------------------------------------------------------------------------------------

class Object:
    """Something with a name that is published."""

    _type = "Object"

    def __init__(self, name: str | None = None, description: str | None = None, **fields: Any):
        self.name = name
        self.description = description
        self.__dict__.update(fields)

    def _data(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("name",) and not k.startswith("_") and v is not None}


class Prompt(Object):
    _type = "Prompt"

    def format(self, **values: Any) -> Any:
        raise NotImplementedError


class StringPrompt(Prompt):
    """A text with {places}."""

    _type = "StringPrompt"

    def __init__(self, content: str, name: str | None = None, description: str | None = None):
        super().__init__(name, description)
        self.content = content

    def format(self, **values: Any) -> str:
        return self.content.format(**values)


class MessagesPrompt(Prompt):
    """Messages of a chat, with {places} in their texts."""

    _type = "MessagesPrompt"

    def __init__(self, messages: list[dict[str, Any]], name: str | None = None, description: str | None = None):
        super().__init__(name, description)
        self.messages = messages

    def format(self, **values: Any) -> list[dict[str, Any]]:
        return [{k: v.format(**values) if isinstance(v, str) else v for k, v in message.items()} for message in self.messages]


class Dataset(Object):
    """Rows, each a dict."""

    _type = "Dataset"

    def __init__(self, name: str | None = None, rows: Iterable[dict[str, Any]] = (), description: str | None = None):
        super().__init__(name, description)
        self.rows = [dict(row) for row in rows]

    @classmethod
    def from_pandas(cls, frame: Any, name: str | None = None) -> "Dataset":
        return cls(name=name, rows=frame.to_dict(orient="records"))

    def add_rows(self, rows: Iterable[dict[str, Any]]) -> "Dataset":
        return type(self)(self.name, [*self.rows, *rows], self.description)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> dict[str, Any]:
        return self.rows[at]


class Model(Object):
    """What makes predictions; its fields are its settings."""

    _type = "Model"


class Scorer(Object):
    """Has a method score(output, ...)."""

    _type = "Scorer"


class ObjectRef:
    """What was published. Its digest is W&B's to make, so it has none here."""

    def __init__(self, entity: str, project: str, name: str):
        self.entity, self.project, self.name = entity, project, name

    def uri(self) -> str:
        return f"weave:///{self.entity}/{self.project}/object/{self.name}:latest"

    def __repr__(self) -> str:
        return f"<wbx.ObjectRef {self.uri()}>"


def publish(obj: Any, name: str | None = None, **ignored: Any) -> ObjectRef:
    """Publishes a prompt, a dataset, or another object under its name; the daemon brings it to W&B. A list of dicts is a dataset."""
    native = _trace._find_run()
    if native is None:
        raise _run.UsageError("call weave.init() or wbx.init() before publish()")
    if isinstance(obj, (list, tuple)) and all(isinstance(row, dict) for row in obj):
        obj = Dataset(rows=obj)
    kind = obj._type if isinstance(obj, Object) else "Object"
    data = obj._data() if isinstance(obj, Object) else obj if isinstance(obj, dict) else {"value": obj}
    name = name or getattr(obj, "name", None) or kind
    name = re.sub(r"[^\w.-]+", "-", _clean(name), flags=re.ASCII).strip("-")[:128] or kind
    _run._look(_native.publish(native, name, kind, data), "an object")
    client = _trace_client.get_client()
    return ObjectRef(client.entity if client else "", client.project if client else "", name)


# -- evaluations ---------------------------------------------------------------------------------------------------

_EVALUATE = Op(None, "Evaluation.evaluate")
_PREDICT_AND_SCORE = Op(None, "Evaluation.predict_and_score")
_PREDICT = Op(None, "Model.predict")
_SUMMARIZE = Op(None, "Evaluation.summarize")


def _named(value: Any, kind: str) -> Any:
    """A model, dataset or scorer as it stands in inputs: with its name."""
    if value is None:
        return {"_class": kind}
    if isinstance(value, Object):
        return {"_class": value._type, "name": value.name} | ({} if isinstance(value, Dataset) else value._data())
    return {"_class": kind, "name": value} if isinstance(value, str) else value


def _name_of(scorer: Any) -> str:
    if isinstance(scorer, str):
        return scorer
    name = scorer.get("name") if isinstance(scorer, dict) else getattr(scorer, "name", None) or getattr(scorer, "__name__", None)
    return str(name or type(scorer).__name__)


class _DeferredScore:
    """with pred.log_score("quality") as score: score.value = ..."""

    def __init__(self, prediction: "ScoreLogger", scorer: Any):
        self._prediction = prediction
        self._scorer = scorer
        self.value: Any = None

    def __enter__(self) -> "_DeferredScore":
        self._call = self._prediction._begin_score(self._scorer)
        self._token = _trace._current.set(self._call if isinstance(self._call, Call) else _trace._OFF)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        _trace._current.reset(self._token)
        self._prediction._end_score(self._scorer, self._call, self.value, error)
        return False


class ScoreLogger:
    """One prediction of an evaluation, and its scores."""

    def __init__(self, evaluation: "EvaluationLogger", inputs: dict[str, Any], output: Any):
        client = evaluation._client
        self._client = client
        self._scores: dict[str, Any] = {}
        self._has_finished = False
        self._inputs = inputs
        self.output = output
        attributes = evaluation.attributes
        self.predict_and_score_call = client.create_call(_PREDICT_AND_SCORE, {"self": evaluation._about, "model": evaluation._model, "example": inputs},
                                                         parent=evaluation._evaluate_call, attributes=attributes, use_stack=False)
        self.predict_call = client.create_call(_PREDICT, {"self": evaluation._model, "inputs": inputs}, parent=self.predict_and_score_call,
                                               attributes=attributes, use_stack=False)
        self._attributes = attributes
        self._token: Any = None

    def _begin_score(self, scorer: Any) -> Any:
        return self._client.create_call(_trace_client._op_of(_name_of(scorer)), {"self": _named(scorer, "Scorer"), "output": self.output, "inputs": self._inputs},
                                        parent=self.predict_and_score_call, attributes=self._attributes, use_stack=False)

    def _end_score(self, scorer: Any, call: Any, score: Any, error: BaseException | None) -> None:
        self._client.finish_call(call, score, error)
        if error is not None:
            return
        name = _name_of(scorer)
        self._scores[name] = score
        if isinstance(self.predict_call, Call):
            self.predict_call.set_score(name, score, scorer=call if isinstance(call, Call) else None)

    def log_score(self, scorer: Any, score: Any = _NOT_SET) -> Any:
        """A score; without one, a context whose ``value`` becomes it, in which calls nest."""
        if self._has_finished:
            raise ValueError("the prediction is finished")
        if score is _NOT_SET:
            return _DeferredScore(self, scorer)
        self._end_score(scorer, self._begin_score(scorer), score, None)
        return None

    async def alog_score(self, scorer: Any, score: Any) -> None:
        await asyncio.sleep(0)
        self.log_score(scorer, score)

    def finish(self, output: Any = None) -> None:
        """The prediction is whole."""
        if self._has_finished:
            return
        self._has_finished = True
        if output is not None:
            self.output = output
        self._client.finish_call(self.predict_call, self.output)
        self._client.finish_call(self.predict_and_score_call, {"output": self.output, "scores": self._scores, "model_latency": None})
        self._inputs = {}

    def __enter__(self) -> "ScoreLogger":
        """Calls inside nest in the prediction."""
        self._token = _trace._current.set(self.predict_call if isinstance(self.predict_call, Call) else _trace._OFF)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        _trace._current.reset(self._token)
        self.finish()
        return False


class _Sums:
    """What scores come to: truth counts, numbers' means; nested ones by key. So many that there need not be any list of them."""

    def __init__(self) -> None:
        self.true = self.truths = self.numbers = 0
        self.sum = 0.0
        self.inside: dict[str, "_Sums"] = {}

    def add(self, score: Any) -> None:
        if isinstance(score, bool):
            self.truths += 1
            self.true += score
        elif isinstance(score, (int, float)):
            self.numbers += 1
            self.sum += score
        elif isinstance(score, dict):
            for key, value in score.items():
                self.inside.setdefault(str(key), _Sums()).add(value)

    def result(self) -> Any:
        if self.truths:
            return {"true_count": self.true, "true_fraction": self.true / self.truths}
        if self.numbers:
            return {"mean": self.sum / self.numbers}
        found = {key: value for key, sums in self.inside.items() if (value := sums.result()) is not None}
        return found or None


class EvaluationLogger:
    """An evaluation whose predictions and scores are logged as they come: log_prediction(), log_score(), log_summary()."""

    def __init__(self, name: str | None = None, model: Any = None, dataset: Any = None, eval_attributes: dict[str, Any] | None = None,
                 scorers: list[str] | None = None, trace_scores: bool = True):
        self.name = name
        self.eval_attributes = dict(eval_attributes or {})
        self.attributes = self.eval_attributes | _META
        self._client = _trace_client.require_client()
        self._model = _named(model, "Model")
        self._about = {"_class": "Evaluation", "name": name, "dataset": _named(dataset, "Dataset") if not isinstance(dataset, list) else {"rows": len(dataset)},
                       "metadata": {"scorers": scorers, **self.eval_attributes}}
        self._open: dict[int, ScoreLogger] = {}
        self._sums = _Sums()
        self._is_finalized = False
        if isinstance(dataset, (list, Dataset)) and len(dataset) > 0:
            publish(dataset, name=getattr(dataset, "name", None) or f"{name or 'evaluation'}-dataset")
        self._evaluate_call = self._client.create_call(_EVALUATE, {"self": self._about, "model": self._model}, attributes=self.attributes,
                                                       display_name=name, use_stack=False)
        if isinstance(self._evaluate_call, Call):
            self._evaluate_call.start()

    @property
    def ui_url(self) -> str | None:
        return self._evaluate_call.ui_url if isinstance(self._evaluate_call, Call) else None

    def log_prediction(self, inputs: dict[str, Any], output: Any = None, **ignored: Any) -> ScoreLogger:
        """A prediction; its scores are logged on what this returns."""
        if self._is_finalized:
            raise ValueError("the evaluation is finished")
        prediction = ScoreLogger(self, inputs, output)
        self._open[id(prediction)] = prediction
        self._collect()
        return prediction

    def _collect(self) -> None:
        """Those that are finished are not kept, but what their scores come to."""
        for key, prediction in list(self._open.items()):
            if prediction._has_finished:
                self._sums.add(prediction._scores)
                del self._open[key]

    def log_example(self, inputs: dict[str, Any], output: Any, scores: dict[str, Any]) -> None:
        """A prediction with all of its scores."""
        prediction = self.log_prediction(inputs, output)
        for name, score in scores.items():
            prediction.log_score(name, score)
        prediction.finish()

    def log_summary(self, summary: dict[str, Any] | None = None, auto_summarize: bool = True) -> None:
        """Ends the evaluation, with what its scores come to and what is said here."""
        if self._is_finalized:
            return
        self._finish_predictions()
        found = (self._sums.result() if auto_summarize else summary) or {}
        if summary is not None:
            found = {**found, "output": summary}
        call = self._client.create_call(_SUMMARIZE, {"self": self._about}, parent=self._evaluate_call, attributes=self.attributes, use_stack=False)
        self._client.finish_call(call, found)
        self._finalize(found, None)

    def _finish_predictions(self) -> None:
        for prediction in self._open.values():
            prediction.finish()
        self._collect()

    def _finalize(self, output: Any, exception: BaseException | None) -> None:
        self._is_finalized = True
        self._client.finish_call(self._evaluate_call, output, exception)

    def finish(self, exception: BaseException | None = None) -> None:
        """Ends the evaluation without a summary."""
        if not self._is_finalized:
            self._finish_predictions()
            self._finalize(None, exception)

    def fail(self, exception: BaseException) -> None:
        self.finish(exception)

    def __enter__(self) -> "EvaluationLogger":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        self.finish(error)
        return False

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            if not self._is_finalized:
                self.finish()
