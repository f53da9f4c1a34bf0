"""Prometheus's text format 0.0.4, read strictly: what it does not allow, or what our names promise and do not keep, is an error."""
from __future__ import annotations

import re

NAME = r"[a-z][a-z0-9_]*"
SAMPLE = re.compile(rf'({NAME})(?:\{{((?:{NAME}="(?:[^"\\\n]|\\[\\"n])*",?)+)\}})? (-?\d+(?:\.\d+)?)')
LABEL = re.compile(rf'({NAME})="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)')
SUFFIXES = ("_bucket", "_sum", "_count")

Labels = frozenset[tuple[str, str]]


class Exposition:
    """samples[name][labels] = value; types[family] = counter, gauge or histogram."""

    def __init__(self, text: str) -> None:
        self.types: dict[str, str] = {}
        self.samples: dict[str, dict[Labels, float]] = {}
        self.text = text
        assert text.endswith("\n"), "the last line has no end"
        lines = text.splitlines()
        while lines:
            self._family(lines)
        self._check_names()
        for family, kind in self.types.items():
            if kind == "histogram":
                self._check_histogram(family)

    def _family(self, lines: list[str]) -> None:
        family = re.fullmatch(rf"# HELP ({NAME}) (.+)", lines.pop(0))[1]
        kind = re.fullmatch(rf"# TYPE {family} (counter|gauge|histogram)", lines.pop(0))[1]
        assert family not in self.types, f"{family} stands twice"
        self.types[family] = kind
        count = 0
        while lines and not lines[0].startswith("#"):
            name, labels, value = SAMPLE.fullmatch(lines.pop(0)).groups()
            assert name in [family + s for s in (SUFFIXES if kind == "histogram" else ("",))], f"{name} below {family}"
            key = frozenset(LABEL.findall(labels or ""))
            assert key not in self.samples.setdefault(name, {}), f"{name}{labels} stands twice"
            self.samples[name][key] = float(value)
            count += 1
        assert count > 0, f"{family} has no sample"

    def _check_names(self) -> None:
        for family, kind in self.types.items():
            assert family.startswith("wbx_"), family
            assert family.endswith("_total") == (kind == "counter"), f"{family} is a {kind}"
            assert not re.search(r"_(ms|us|ns|milliseconds|minutes|kib|mib|gib|mb|gb)(_|$)", family), f"{family}: no base unit"
            assert not family.endswith(SUFFIXES), family

    def _check_histogram(self, family: str) -> None:
        buckets = self.samples[f"{family}_bucket"]
        rising = sorted((float(dict(labels)["le"]), value) for labels, value in buckets.items())
        assert [v for _, v in rising] == sorted(v for _, v in rising), f"{family} does not rise: {rising}"
        assert rising[-1] == (float("inf"), self.value(f"{family}_count")), f"{family}: count and +Inf differ"
        assert (self.value(f"{family}_sum") > 0) == (rising[-1][1] > 0), family

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name][frozenset(labels.items())]

    def label_names(self) -> set[str]:
        return {label for family in self.samples.values() for labels in family for label, _ in labels}
