"""A workload that the recording lacks: eight workers log one run with explicit steps, which merge into rows; values that are
NaN and infinite, nested, text; configuration that changes on the way; a summary of their own. All of it follows from the seed."""
from __future__ import annotations

import math
import random

PROJECT = "grpo-demo"
RUN = "seeded-workers"
WORKERS = 8
STEPS = 240
HISTOGRAM_EVERY = 20
TEXTS = ["naïve", "日本語 の 説明", "line\nbreak\ttab", 'quote " and \\', "🙂", ""]


def _steps(rng: random.Random) -> list[int]:
    """Rising, with gaps."""
    steps = [0]
    while len(steps) < STEPS:
        steps.append(steps[-1] + rng.choice([1, 1, 1, 2, 5]))
    return steps


def _row(rng: random.Random, worker: int, index: int) -> dict:
    me = f"worker{worker}"
    row: dict = {f"{me}/reward": rng.gauss(0, 1), f"{me}/tokens": rng.randrange(1 << 40),
                 "rollouts": {me: {"length": rng.randrange(512), "done": rng.random() < 0.5}}}
    if rng.random() < 0.1:
        row[f"{me}/kl"] = rng.choice([math.nan, math.inf, -math.inf, 1e-308, 0.1 + 0.2])
    if rng.random() < 0.1:
        row[f"{me}/sample"] = rng.choice(TEXTS)
    if rng.random() < 0.05:
        row[f"{me}/mixed"] = [rng.random(), rng.choice(TEXTS), None, {"deep": [1, {"er": rng.random()}]}]
    if worker == 0 and index % HISTOGRAM_EVERY == 0:
        row["lengths"] = {"_type": "histogram", "values": [rng.randrange(100) for _ in range(8)], "bins": [i * 64.0 for i in range(9)]}
    return row


def _worker(seed: int, worker: int, steps: list[int], seconds: float) -> list[dict]:
    """The events of one worker. Its first row comes before the start, so that each waits for all."""
    rng = random.Random(f"{seed}/{worker}")
    rewards: list[float] = []
    events: list[dict] = [{"t": 0.0, "kind": "init", "project": PROJECT, "name": "eight workers", "id": RUN, "group": None,
                           "tags": ["seeded"], "resume": None}]

    def add(index: int, kind: str, **more: object) -> None:
        events.append({"t": index * seconds / STEPS, "kind": kind, **more})

    add(0, "config", data={f"worker{worker}": {"seed": rng.getrandbits(62), "weight": rng.random()}, "workers": WORKERS})
    add(0, "define_metric", name=f"worker{worker}/reward", step_metric=None, step_sync=None, summary="min,max")
    for index, step in enumerate(steps):
        if index > 0 and rng.random() < 0.1:
            continue  # this worker has nothing to say about this step
        row = _row(rng, worker, index)
        rewards.append(row[f"worker{worker}/reward"])
        add(index, "log", data=row, step=step, commit=None)
        if rng.random() < 0.2:
            add(index, "log", data={f"worker{worker}/second_call": rng.random()}, step=step, commit=None)
        if rng.random() < 0.05:
            add(index, "config", data={f"phase{worker}": {"from_step": step, "temperature": rng.random()}})
    add(STEPS, "summary", data={f"best_of_worker{worker}": max(rewards), f"last_words_of_worker{worker}": rng.choice(TEXTS)})
    add(STEPS, "finish", exit_code=0)
    return events


def make(seed: int, seconds: float) -> list[list[dict]]:
    """The events of each worker, over so many seconds at pace 1."""
    steps = _steps(random.Random(seed))
    return [_worker(seed, worker, steps, seconds) for worker in range(WORKERS)]
