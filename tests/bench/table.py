#!/usr/bin/env python3
"""Makes the table of docs/BENCHMARKS.md from the JSON lines of ./dev bench: table.py <FILE"""
from __future__ import annotations

import json
import sys
from typing import Any


def text(value: Any) -> str:
    """Three digits are enough for what moves with the machine."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    return f"{int(rounded):,}" if rounded >= 100 or rounded == int(rounded) else f"{rounded:g}"


def target(line: dict) -> str:
    if line.get("target") is None:
        return "-"
    return ("≥ " if line.get("more_is_better") else "≤ ") + text(line["target"])


def measured(line: dict) -> str:
    """The median, the best round, and whether the median missed what was aimed at."""
    rounds = line.get("wbx_rounds")
    best = f" ({text((max if line.get('more_is_better') else min)(rounds))})" if rounds else ""
    return text(line.get("wbx")) + best + (" **missed**" if line.get("met") is False else "")


def sdk(line: dict) -> str:
    raised = line.get("sdk_raised")
    return text(line.get("sdk")) + (f", and {text(raised)} raised" if raised else "")


def main() -> None:
    print("| figure | unit | floor | wbx, at least | measured (best round) | wandb SDK | ratio | others' load |")
    print("|---|---|---|---|---|---|---|---|")
    for line in map(json.loads, sys.stdin):
        if "case" in line:
            cells = [f"{line['figure']}: {line['case']}", line["unit"], text(line.get("floor")), target(line), measured(line), sdk(line),
                     text(line.get("ratio")), text(line.get("foreign_cores"))]
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
