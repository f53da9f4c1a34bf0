"""What was logged beside what the fake W&B holds: every row, every value, every config key, every summary value."""
from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Iterator
from urllib.parse import quote

from reference import Held, Table
from wandb import ENTITY, own, same

ABSENT = "(not there)"
ARTIFACT = re.compile(r"wandb-client-artifact://[0-9a-z]{128}/\w+\.table\.json")
LATEST = re.compile(r"wandb-client-artifact://[0-9a-z]{128}:latest/\w+\.table\.json")
OURS = ("_step", "_timestamp", "_runtime", "_wandb")  # keys of a summary that W&B's clients add


@dataclass
class Verdict:
    """Counts of what was compared, and every difference in words."""

    rows: int = 0
    values: int = 0
    config: int = 0
    summary: int = 0
    cells: int = 0
    missing: int = 0
    twice: int = 0
    different: int = 0
    words: list[str] = field(default_factory=list)

    def differ(self, where: str, want: Any, have: Any) -> None:
        self.different += 1
        self.words.append(f"{where}: logged {_short(want)}, W&B holds {_short(have)}")

    @property
    def good(self) -> bool:
        return not self.words


def _short(value: Any) -> str:
    text = value if value is ABSENT else json.dumps(value, ensure_ascii=False, default=lambda t: t.values())
    return text if len(text) <= 200 else text[:200] + "..."


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything inside nested maps; an empty map, a list or a media object is one value."""
    if isinstance(value, dict) and value and "_type" not in value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path} > {key}" if path else key)
    else:
        yield path, value


def is_table(want: Table, have: Any) -> bool:
    """The artifact's names are random, all else follows from the table."""
    if not isinstance(have, dict):
        return False
    rest = {k: v for k, v in have.items() if k not in ("artifact_path", "_latest_artifact_path")}
    return (same(rest, want.values()) and ARTIFACT.fullmatch(have.get("artifact_path", "")) is not None
            and LATEST.fullmatch(have.get("_latest_artifact_path", "")) is not None)


def _compare_maps(verdict: Verdict, where: str, want: dict, have: dict) -> int:
    """Value by value, in both directions; how many are equal."""
    wanted, held = dict(leaves(want)), dict(leaves(have))
    equal = 0
    for path, value in wanted.items():
        other = held.get(path, ABSENT)
        if is_table(value, other) if isinstance(value, Table) else other is not ABSENT and same(value, other):
            equal += 1
        else:
            verdict.differ(f"{where}, {path}", value, other)
    for path in held.keys() - wanted.keys():
        verdict.differ(f"{where}, {path}", ABSENT, held[path])
    return equal


def _compare_rows(verdict: Verdict, want: dict[int, dict], have: list[dict], began: float, ended: float) -> None:
    steps = [row.get("_step") for row in have]
    for step, count in Counter(steps).items():
        if count > 1:
            verdict.twice += count - 1
            verdict.words.append(f"step {step} stands there {count} times")
        if step not in want:
            verdict.differ(f"step {step}", ABSENT, next(own(row) for row in have if row.get("_step") == step))
    held = {row.get("_step"): row for row in have}
    for step, row in want.items():
        if step not in held:
            verdict.missing += 1
            verdict.words.append(f"step {step} is missing: {_short(row)}")
            continue
        verdict.rows += 1
        verdict.values += _compare_maps(verdict, f"step {step}", row, own(held[step]))
        if not began <= held[step]["_timestamp"] <= ended or held[step]["_runtime"] < 0:
            verdict.differ(f"step {step}, _timestamp", began, held[step]["_timestamp"])
    if steps != sorted(steps):
        verdict.words.append("the steps do not rise")


def _compare_tables(verdict: Verdict, want: Held, fake: Any, project: str, run: str) -> int:
    """Cell by cell, as the run's file and the table's artifact have them; how many are equal."""
    have = fake.ask(f"/__tables?run={quote(f'{ENTITY}/{project}/{run}')}")
    if [(t["key"], t["columns"]) for t in have] != [(t.key, t.columns) for t in want.tables]:
        verdict.differ("tables", [(t.key, t.step) for t in want.tables], [(t["key"], t["step"], t.get("error")) for t in have])
        return 0
    equal = 0
    for table, there in zip(want.tables, have):
        where = f"step {there['step']}, {table.key}"
        if there["source"] != "file" or there["artifact_agrees"] is None or len(there["data"]) != len(table.data):
            verdict.differ(where, f"{len(table.data)} rows, in a file and an artifact", {k: there[k] for k in ("source", "artifact_agrees", "nrows")})
            continue
        for number, (row, got) in enumerate(zip(table.data, there["data"])):
            equal += sum(map(same, row, got))
            if not same(row, got):
                verdict.differ(f"{where}, row {number}", row, got)
    return equal


def compare(want: Held, fake: Any, project: str, run: str, began: float, ended: float) -> Verdict:
    """Asks the fake for the run. began and ended: when it was logged."""
    verdict = Verdict()
    _compare_rows(verdict, want.rows, fake.rows(run, project), began, ended)
    verdict.config = _compare_maps(verdict, "config", want.config, fake.config(run, project))
    summary = fake.summary(run, project)
    verdict.summary = _compare_maps(verdict, "summary", want.summary, {k: v for k, v in summary.items() if k not in OURS})
    if summary.get("_step") != max(want.rows):
        verdict.differ("summary, _step", max(want.rows), summary.get("_step", ABSENT))
    verdict.cells = _compare_tables(verdict, want, fake, project, run)
    return verdict
