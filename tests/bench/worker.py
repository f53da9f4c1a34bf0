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
    act = {"burst": burst, "tables": tables, "until_killed": until_killed}[job["act"]]
    if job["act"] == "burst":
        for n in range(WARM_UP):
            sdk.run.log(row(n))
        sdk.flush()
    print("ready", flush=True)
    sys.stdin.readline()
    act(sdk, job, times)
    print("done", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    sdk.run.finish()
    finish_s = time.perf_counter() - began
    with open(job["times"], "wb") as f:
        times.tofile(f)
    print(json.dumps({"init_ms": init_s * 1e3, "finish_ms": finish_s * 1e3}), flush=True)


if __name__ == "__main__":
    main()
