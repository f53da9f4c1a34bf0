"""Benchmarks: a score, and a table that joins across runs."""
from __future__ import annotations

from typing import Any, Iterable, Mapping

from ._table import Table

COLUMNS = ["question", "thought", "answer", "score"]
_BEGIN, _END = "<think>", "</think>"


def split_thought(answer: Any) -> tuple[Any, Any]:
    """Thought and answer of a text that begins with its thought. A template may have taken the opening tag away; a thought that does
    not end is all thought."""
    if not isinstance(answer, str):
        return "", answer
    begin, end = answer.find(_BEGIN), answer.find(_END)
    if end >= 0 and (begin < 0 or begin < end):
        before = answer[:begin] if begin >= 0 else ""
        start = begin + len(_BEGIN) if begin >= 0 else 0
        return answer[start:end].strip(), (before + answer[end + len(_END):]).strip()
    if begin >= 0 and answer[:begin].strip() == "":
        return answer[begin + len(_BEGIN):].strip(), ""
    return "", answer


def _cells(row: Any) -> list[Any]:
    if isinstance(row, Mapping):
        thought, answer = row.get("thought"), row.get("answer", row.get("completion"))
        question, score = row.get("question", row.get("prompt")), row.get("score")
    else:
        cells = list(row)
        if len(cells) == 3:
            (question, answer, score), thought = cells, None
        elif len(cells) == 4:
            question, thought, answer, score = cells
        else:
            raise ValueError(f"a row is a dict, (question, answer, score) or (question, thought, answer, score), not {len(cells)} values")
    if thought is None:
        thought, answer = split_thought(answer)
    return [question, thought, answer, score]


def row(name: str, score: float | None, rows: Iterable[Any] | None) -> dict[str, Any]:
    """What is logged."""
    if not isinstance(name, str) or not name:
        raise ValueError("a benchmark needs a name")
    values: dict[str, Any] = {}
    if score is not None:
        values[f"benchmark/{name}"] = score
    if rows is not None:
        values[f"bench/{name}"] = Table(columns=list(COLUMNS), data=[_cells(one) for one in rows])
    return values
