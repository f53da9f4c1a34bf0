"""One process whose functions are traced, with wbx or with weave: trace_worker.py JOB, a JSON object. Says "ready", waits for a line, works, says
"done" and what it has seen as JSON, waits for a line, and ends. The times of the calls go to a file of doubles (us)."""
from __future__ import annotations

import array
import json
import mmap
import os
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

WARM_UP = 400  # 12 KB each go once through the journal, whose pages count as memory


def rss_kb() -> int:
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))


def op_of(job: dict) -> Any:
    def judge(prompt: str, n: int) -> dict:
        return {"score": 0.5, "n": n}

    if job["with"] == "wbx":
        import wbx
        wbx.init(project="bench", id=job["run"], console="off")
        return wbx.op(judge)
    import weave
    weave.init("acme/bench")
    return weave.op(judge)


def burst(op: Any, count: int, payload: str, times: array.array) -> None:
    clock = time.perf_counter
    for n in range(count):
        began = clock()
        op(payload, n)
        times.append((clock() - began) * 1e6)


def until_killed(op: Any, job: dict) -> None:
    """Notes in a mapped file how many calls have returned."""
    fd = os.open(job["notes"], os.O_RDWR)
    notes = mmap.mmap(fd, 8)
    pause_s, start, n = 1 / job["rate"], time.monotonic(), 0
    while True:
        time.sleep(max(0.0, start + n * pause_s - time.monotonic()))
        op("x" * 20, n)
        n += 1
        notes[:8] = struct.pack("=Q", n)


def main() -> None:
    job = json.loads(sys.argv[1])
    op = op_of(job)
    payload = "x" * job.get("payload", 20)
    burst(op, WARM_UP, payload, array.array("d"))
    print("ready", flush=True)
    sys.stdin.readline()
    if "rate" in job:
        until_killed(op, job)
    before = rss_kb()
    times = [array.array("d") for _ in range(job["threads"])]
    threads = [threading.Thread(target=burst, args=(op, job["count"] // job["threads"], payload, t)) for t in times]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    grown = rss_kb() - before
    with open(job["times"], "wb") as f:
        for t in times:
            t.tofile(f)
    print("done", flush=True)
    sys.stdin.readline()
    print(json.dumps({"grown_kb": grown}), flush=True)


main()
