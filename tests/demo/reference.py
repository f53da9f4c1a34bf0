"""What W&B must hold after a run, worked out from what was logged and from nothing else: rows, config and summary."""
from __future__ import annotations

import copy
import json
import math
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any


def json_text(value: Any) -> str:
    """JSON as wbx writes it into files: no spaces, UTF-8 as it is, control characters as \\n \\r \\t \\u00xx, doubles as the shortest of
    15, 16 and 17 digits that reads back."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json_text(k)}:{json_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(json_text, value)) + "]"
    if isinstance(value, float) and math.isfinite(value):
        return next(text for digits in (15, 16, 17) if float(text := f"{value:.{digits}g}") == value)
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"\\[\\bf]", lambda m: {"\\b": "\\u0008", "\\f": "\\u000c"}.get(m[0], m[0]), text) if isinstance(value, str) else text


@dataclass
class Table:
    """A table as it was logged: what stands in a row for it."""

    key: str
    step: int
    columns: list
    data: list

    def text(self) -> bytes:
        """The run file of the table."""
        return json_text({"columns": self.columns, "data": self.data}).encode()

    def values(self) -> dict[str, Any]:
        """What the row says, but for the artifact's random names."""
        text = self.text()
        digest = sha256(text).hexdigest()
        return {"_type": "table-file", "path": f"media/table/{self.key}_{self.step}_{digest[:20]}.table.json", "sha256": digest,
                "size": len(text), "ncols": len(self.columns), "nrows": len(self.data), "log_mode": "IMMUTABLE"}


def merge(into: dict, data: dict) -> None:
    """Values of the same row: nested keys side by side, the later value wins."""
    for key, value in data.items():
        old = into.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and "_type" not in value:
            merge(old, value)
        else:
            into[key] = copy.deepcopy(value)


@dataclass
class Held:
    """A run as W&B holds it."""

    rows: dict[int, dict] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)  # as they were logged


class Reference:
    """Plays the events of all processes of one run into a Held."""

    def __init__(self) -> None:
        self.held = Held()
        self.synced: str | None = None  # the step metric of "*", whose last value is filled in
        self.kinds: dict[str, list[str]] = {}  # what the summary of a metric holds
        self.said: dict[str, Any] = {}  # the summary that was set by hand

    def play(self, event: dict) -> None:
        kind = event["kind"]
        if kind == "config":
            self.held.config.update(event["data"])
        elif kind == "summary":
            self.said.update(event["data"])
        elif kind == "define_metric":
            self._define(event)
        elif kind == "log":
            step = event["step"] if event["step"] is not None else len(self.held.rows)
            data = {k: self._value(k, v, step) for k, v in event["data"].items()}
            merge(self.held.rows.setdefault(step, {}), data)

    def end(self) -> Held:
        """When all was played: fills in the step metric, and sums up."""
        self.held.rows = dict(sorted(self.held.rows.items()))
        last: Any = 0  # what W&B's own client fills in before there is a value
        for row in self.held.rows.values():
            if self.synced is not None:
                last = row.setdefault(self.synced, last)
            for key, value in row.items():
                self._sum_up(key, value)
        self.held.summary.update(self.said)
        return self.held

    def _define(self, event: dict) -> None:
        if event["name"] == "*" and event["step_sync"]:
            self.synced = event["step_metric"]
        if event.get("summary"):
            self.kinds[event["name"]] = event["summary"].split(",")

    def _value(self, key: str, value: Any, step: int) -> Any:
        if isinstance(value, dict) and value.get("_type") == "table":
            table = Table(key, step, value["columns"], value["data"])
            self.held.tables.append(table)
            # the same table again is the same file: trainers log one twice
            same = [t for t in self.held.tables if (t.key, t.columns, t.data) == (key, table.columns, table.data)]
            return same[0]
        return value

    def _sum_up(self, key: str, value: Any) -> None:
        old = self.held.summary.get(key)
        if key in self.kinds:
            old = old or {}
            self.held.summary[key] = {k: value if k not in old else {"min": min, "max": max}[k](old[k], value) for k in self.kinds[key]}
        elif value is not None:
            merge(self.held.summary, {key: value})


def hold(processes: list[list[dict]]) -> Held:
    """The run that these processes log. Rows without a step number come from one process only."""
    reference = Reference()
    for event in sorted((e for events in processes for e in events), key=lambda e: e["t"]):
        reference.play(event)
    return reference.end()
