"""The recorded run: a real GRPO training by TRL on two ranks (tests/data/README.md)."""
from __future__ import annotations

import json
import lzma
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "data/grpo-run.jsonl.xz"


def load() -> list[list[dict]]:
    """The events of each rank. Only rank 0 opens the run; the others join it, as Weave's calls do in the recording."""
    with lzma.open(FILE, "rt", encoding="utf-8") as f:
        events = [json.loads(line) for line in f]
    ranks: list[list[dict]] = [[] for _ in range(1 + max(e["rank"] for e in events))]
    for event in events:
        ranks[event["rank"]].append(event)
    init = next(e for e in events if e["kind"] == "init")
    for rank in ranks[1:]:
        rank.insert(0, {"t": 0.0, "kind": "attach", "project": init["project"], "id": init["id"]})
    return ranks
