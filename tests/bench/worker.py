"""One process that logs, with wbx or with W&B's own SDK: worker.py JOB, a JSON object. Says "ready", waits for a line, works, says
"done", waits for a line, finishes, and says as JSON what it has seen. The times of the calls go to a file of doubles (us)."""
from __future__ import annotations

import array
import json
import mmap
import os
import struct
import sys
import time
from typing import Any

VALUES = 40
WARM_UP = 50


def row(n: int) -> dict[str, float]:
    """40 floats under names as GRPO trainers use them."""
    return {f"train/metric_{i:02d}/mean": (n + 1) / (i + 3) for i in range(VALUES)}


def table_data(rows: int, cell: int) -> tuple[list[str], list[list]]:
    text = "the quick brown fox jumps over the lazy dog; " * (cell // 45 + 1)
    return ["step", "prompt", "completion", "reward"], [[i, text[i % 40:][:cell // 2], text[i % 37:][:cell // 2], i / 7] for i in range(rows)]


class Wbx:
    def __init__(self) -> None:
        import wbx
        self.module = wbx

    def init(self, job: dict) -> None:
        self.run = self.module.init(project="bench", id=job["run"])

    def flush(self) -> None:
        if not self.run.flush(60):
            raise RuntimeError("not on disk after 60 s")


class Sdk:
    """wandb, as it is unless told otherwise: offline with its own settings."""

    def __init__(self) -> None:
        import wandb
        self.module = wandb

    def init(self, job: dict) -> None:
        self.run = self.module.init(project="bench", id=job["run"], mode=job.get("mode", "offline"), dir=job["dir"],
                                    settings=self.module.Settings(silent=True))

    def flush(self) -> None:
        pass


def burst(sdk: Any, job: dict, times: array.array) -> dict:
    """Calls one after the other, or at a pace; flush: and waits for the disk each time."""
    log, flush, clock = sdk.run.log, job.get("flush"), time.perf_counter
    pause_s, start = job.get("pause_us", 0) / 1e6, time.monotonic()
    for n in range(job["count"]):
        data = row(n)
        if pause_s:
            time.sleep(max(0.0, start + n * pause_s - time.monotonic()))
        began = clock()
        log(data)
        if flush:
            sdk.flush()
        times.append((clock() - began) * 1e6)
    return {}


def tables(sdk: Any, job: dict, times: array.array) -> dict:
    columns, data = table_data(job["rows"], job["cell"])
    for n in range(job["count"]):
        data[0][0] = n
        table = sdk.module.Table(columns=columns, data=data)
        began = time.perf_counter()
        sdk.run.log({"rollouts": table, "n": n})
        times.append((time.perf_counter() - began) * 1e6)
    return {}


STEP_S = 10.0
LOGS_A_STEP = 33  # TRL with 8 accumulations and 3 rewards
CALLS_A_STEP = 4632  # 512 rollouts, 3 judges, each a scorer and 2 requests, of all ranks


def heavy(sdk: Any, job: dict, times: array.array) -> dict:
    """One of 8 ranks under the heaviest load that trainers make: rank 0 logs metrics and a table of 31 MB a step, all trace their
    judges, in a quarter of the step."""
    run, rank, clock = sdk.run, job["rank"], time.monotonic
    text = "the judge sees a prompt and a completion and gives its reasons; " * 160  # 10 KB
    seen = {"rows": 0, "calls": 0, "bytes": 0, "tables": []}
    columns, data = table_data(6400, 4800) if rank == 0 else ([], [])
    start, steps = clock(), int(job["seconds"] / STEP_S)
    for step in range(steps):
        began = start + step * STEP_S
        for n in range(CALLS_A_STEP // job["world"]):
            time.sleep(max(0.0, began + n * (STEP_S / 4) / (CALLS_A_STEP // job["world"]) - clock()))
            call = run.call_start("judge", {"prompt": text, "n": n}, step=step)
            run.call_end(call, {"score": n / 7, "reason": text[:2000]})
            seen["calls"] += 1
            seen["bytes"] += len(text) + 2000
        for n in range(LOGS_A_STEP if rank == 0 else 0):
            time.sleep(max(0.0, began + STEP_S / 4 + n * (STEP_S * 3 / 4) / LOGS_A_STEP - clock()))
            before = time.perf_counter()
            run.log(row(n))
            times.append((time.perf_counter() - before) * 1e6)
            seen["rows"] += 1
        if rank == 0:
            data[0][0] = step
            table = sdk.module.Table(columns=columns, data=data)
            before = time.perf_counter()
            run.log({"rollouts": table})
            seen["tables"].append(time.perf_counter() - before)
            seen["rows"] += 1
            seen["bytes"] += 31_000_000
    return seen


def until_killed(sdk: Any, job: dict, times: array.array) -> dict:
    """Logs until told to stop, and notes in a shared file how many calls have returned, and how many raised."""
    with open(job["notes"], "r+b") as f:
        notes = mmap.mmap(f.fileno(), 16)
    returned = raised = 0
    start = time.monotonic()
    while not os.path.exists(job["stop"]):
        time.sleep(max(0.0, start + (returned + raised) * job["pause_us"] / 1e6 - time.monotonic()))
        try:
            sdk.run.log(row(returned))
            returned += 1
        except Exception:  # noqa: BLE001: what a trainer would have died of
            raised += 1
        notes[0:16] = struct.pack("<QQ", returned, raised)
    return {}


def main() -> None:
    job = json.loads(sys.argv[1])
    times = array.array("d")
    sdk = {"wbx": Wbx, "sdk": Sdk}[job["with"]]()
    began = time.perf_counter()
    sdk.init(job)
    init_s = time.perf_counter() - began
    act = {"burst": burst, "tables": tables, "heavy": heavy, "until_killed": until_killed}[job["act"]]
    if job["act"] == "burst":
        for n in range(WARM_UP):
            sdk.run.log(row(n))
        sdk.flush()
    print("ready", flush=True)
    sys.stdin.readline()
    seen = act(sdk, job, times)
    print("done", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    sdk.run.finish()
    finish_s = time.perf_counter() - began
    with open(job["times"], "wb") as f:
        times.tofile(f)
    print(json.dumps(seen | {"init_ms": init_s * 1e3, "finish_ms": finish_s * 1e3}), flush=True)


if __name__ == "__main__":
    main()
