#!/usr/bin/env python3
"""Inputs that a fuzz target begins with: seeds.py NAME DIRECTORY. Some are made here, of what the protocol's vectors and the
tests' writers say; a target that has files in tests/fuzz/corpus/NAME takes those too."""
from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Iterable

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lib"))

from journal import journal_bytes, spool_bytes  # noqa: E402
from msgpack_lite import frame, pack  # noqa: E402


def vectors() -> list[bytes]:
    """Whole frames of PROTOCOL.md, section 8."""
    text = (ROOT / "proto/PROTOCOL.md").read_text()
    found = re.findall(r"^```vector \S+\n((?:[0-9a-f ]+\n)+)", text, re.M)
    return [bytes.fromhex(v.replace("\n", " ")) for v in found]


def payloads() -> list[bytes]:
    return [v[{0xc4: 2, 0xc5: 3, 0xc6: 5}.get(v[0], 0):] for v in vectors() if v]


def sink(name: str, state: str, **more: object) -> dict:
    return {"name": name, "state": state, "state_ms": 986, "error": "HTTP 503", "http": 503, "in_flight": 2, "last_ok_us": 1,
            "next_try_ms": 250, "oldest_us": 7, "paused_until_us": 0, "retries_per_s": 0.5, "retry_after_ms": 30, "sent": 9,
            "sent_per_s": 1.5, "spacing_ms": 3, "tries": 4, "waiting": 12, "waiting_bytes": 3456} | more


def status(**more: object) -> bytes:
    store = {"dir": "/s", "space": 0, "fault": "", "dead": 2, "dead_bytes": 10, "late": 1, "limit_bytes": 1 << 30, "used_bytes": 1 << 20,
             "reserve_bytes": 1 << 20, "disk_free_bytes": 1 << 33, "disk_total_bytes": 1 << 40, "wal_bytes": 1, "blob_bytes": 2,
             "database_bytes": 3, "commit_failures": 0}
    ingest = {"clients": 3, "users": 1, "records": 4, "records_per_s": 1.0, "bytes_per_s": 100.0, "rejected_ever": 1, "refused_ever": 2,
              "lost_ever": 3, "refused_since_us": 5, "refused_bulk": 1, "refused_traces": 2, "ack_p50_ms": 1.0, "ack_p99_ms": 2.0}
    return pack({"schema": 1, "version": "1", "host": "h", "pid": 7, "running": True, "time_us": 1 << 50, "up_ms": 5, "store": store,
                 "ingest": ingest, "account": {"base_url": "https://x", "user": "u", "key_tail": "1234"},
                 "runs": {"live": 1, "finishing": 1, "done": 2, "parked": 1},
                 "dead": [{"sink": "models", "status": 400, "count": 2, "reason": "no\x1b[0m", "run": "r"}],
                 "notable": [{"run": "r", "project": "p", "state": "live", "parked": "HTTP 404", "uploads": 3, "late": 1}],
                 "sinks": [sink("models", "link down"), sink("artifacts", "stored only"), sink("weave", "paused", paused_until_us=-1)],
                 "spool_producers": 1, "spool_bytes": 2, "spool_oldest_us": 3} | more)


def planner_state() -> bytes:
    """What forward/models/plan.c stores of a run."""
    about = {"name": "n", "group": None, "dirty": 3, "config": {"lr": 0.5, "m": {"x": [1]}}, "tags": {"t": True}, "no_tags": {"u": True}}
    metric = {"name": "x*", "step_metric": "s", "step_sync": True, "hidden": False, "has_summary": True, "kinds": 2, "goal": 1}
    leaf = [1, 0.5, 0.5, 1.0, 1.5, 2, 3, False, True, False, True]
    rows = {"next_step": 4, "producers": [1, False, False, True, True, 5, 900, [], 2, True, False, False, False, 0, 0, [7, 50]],
            "open": [5, 0, [8, 60, 9, 70]], "implicit": [-1, [3, 40]], "late": [2, [4, 40]], "clock": 900,
            "gathers": [2, 1, 900, 1000900, [1 << 63, 0, 5, 7]]}
    return pack({"v": 1, "start": 1, "newest": 2, "has_run": True, "summary_dirty": True, "has_exit_code": False, "exit_code": 0,
                 "side_records": 1, "side_bytes": 9, "about": about,
                 "shared": {"is_on": True, "writer": "0" * 36, "label": "l", "derives_summary": True}, "metrics": {"defined": [metric], "steps": {"s": 0.5}},
                 "summary": {"x": leaf, "n": {"y": leaf}}, "rows": rows})


def run_records() -> list[bytes]:
    """One run's records, from two producers: the seq's remainder by 4 says which."""
    table = {"_type": "table", "blob": bytes(32), "size": 1, "ncols": 1, "nrows": 1}
    return [pack([kind, seq, {"run": "r", "t": seq} | body]) for kind, seq, body in (
        ("run", 1, {"project": "p", "config": {"lr": 0.5}, "tags": ["t"]}),
        ("run", 2, {"project": "p", "shared": True, "label": "l", "primary": False, "update_finish_state": False, "derived_summary": True}),
        ("attach", 3, {"project": "p", "merge_rows": True}),
        ("define", 5, {"name": "x*", "step_metric": "s", "step_sync": True, "summary": ["max"]}),
        ("log", 9, {"data": {"x": 1, "s": 2.5, "n": {"y": None}}, "step": 3}),
        ("log", 6, {"data": {"x": 2}, "step": 3, "commit": True}),
        ("log", 13, {"data": {"z": "late"}, "step": 0}),
        ("log", 10, {"data": {"p": [1, 2]}, "commit": False}),
        ("log", 17, {"data": {"t": table}, "step": 4, "blobs": [bytes(32)]}),
        ("log", 23, {"data": {"a": 1}}),
        ("log", 27, {"data": {"b": 1, "s": 3}}),
        ("log", 31, {"data": {"a": 1}}),
        ("summary", 14, {"data": {"best": 1}, "remove": ["x", ["n", "y"]]}),
        ("config", 18, {"data": {"m": {"a": 1}}, "remove": ["lr"]}),
        ("tags", 21, {"add": ["u"], "remove": ["t"]}),
        ("finish", 22, {"exit_code": 1}),
        ("finish", 25, {}))]


def side_records() -> list[bytes]:
    """What goes beside a run's history; the seq says who writes and what goes wrong meanwhile."""
    return [pack([kind, seq, {"run": "r", "t": seq * 1000} | body]) for kind, seq, body in (
        ("output", 9, {"stream": "stdout", "text": "one\ntwo\r\nth"}),
        ("output", 20, {"stream": "stderr", "text": "\r50%|\r\u6f22|", "label": "rank1"}),
        ("stats", 26, {"data": {"cpu": 1.5, "gpu": {"0": {"temp": 60}}}, "label": "n"}),
        ("output", 12, {"stream": "stdout", "text": "ree\n\n"}),
        ("alert", 3, {"title": "t", "text": "x", "level": "WARN", "wait_ms": 60000}),
        ("alert", 30, {"title": "t", "text": "y", "wait_ms": 60000}),
        ("alert", 31, {"title": "u", "text": "z", "level": "no"}))]


def call_records() -> list[bytes]:
    """Traced calls, and what is said about them."""
    about = {"t": 1, "id": "i", "trace_id": "t", "op": "judge", "started_at": 5, "step": 3}
    return [pack([kind, 1, body]) for kind, body in (
        ("call", about | {"phase": "start", "inputs": {"prompt": "x"}, "attributes": {"a": [1]}}),
        ("call", about | {"phase": "complete", "ended_at": 9, "output": {"score": {"value": 0.5}, "reasoning": "so"}, "exception": "{}",
                          "summary": {"usage": {"m": {"total_tokens": 5}, "n": {"input_tokens": 1}}}}),
        ("call", {"t": 1, "phase": "end", "id": "i", "output": {"choices": [{"message": {"content": "said"}}]}}),
        ("call", {"t": 1, "phase": "end", "id": "i", "output": {"_type": "text", "blob": bytes(32), "size": 9, "head": "begin"}}),
        ("feedback", {"t": 1, "id": "f", "call_id": "i", "type": "wandb.runnable.x", "payload": {"output": {"score": True, "reason": "r"}}}))]


def seeds(name: str) -> Iterable[bytes]:
    if name == "frame":
        yield b"".join(vectors())
        yield from vectors()
    if name == "record":
        yield from payloads()
    if name == "brief":
        yield from call_records()
    if name == "journal":
        producer = bytes(range(16))
        yield journal_bytes(producer, vectors()[1:], 1 << 13)
        yield journal_bytes(producer, vectors()[1:2], 1 << 12, 77)
        yield spool_bytes(producer, vectors()[1:])
    if name == "facts":
        yield status()
        yield status(running=False, pid=0)
    if name == "control":
        for verb in ("status", "tail", "dead show", "pause"):
            yield pack([verb, 1, {"run": "p/r", "sink": "models", "id": 3, "for_ms": 5}])
    if name == "http_get":
        yield b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9464\r\nAccept: text/plain;version=0.0.4\r\n\r\n"
        yield b"GET http://[::1]:9464/readyz?verbose HTTP/1.0\r\n\r\n"
        yield b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
        yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        yield b"GET /" + b"a" * 260 + b" HTTP/1.1\r\n\r\n"
        yield b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 4096
    if name == "jsonrow":
        yield b'{"_step": 3, "_commit": false, "loss": 0.5, "t": {"a": [1, null, "x"]}}'
        yield b'{"_kind": "summary", "a": NaN, "b": -Infinity, "c": true}'
        yield from payloads()
    if name == "config":
        yield (ROOT / "systemd/wbxd.conf").read_bytes().replace(b"\n#", b"\n")
        yield b"[store]\nlimit = 5G ; much\nkeep_age=1d\n[models]\nbase_url: http://127.0.0.1:1\n"
        yield b"store.limit=10G"
        yield b"models.interval=1500ms"
    if name == "value":
        yield pack({"a": {"b": [1, -2.5, None, True, b"x"], "c": {}}, "d": "text", "": float("nan")})
        yield pack(["a", ["a", "b"], ["x"]])
    if name == "table":
        yield pack({"columns": ["a", "b"], "data": [[1, "x"], [2.5, {"k": [None]}]]})
        yield pack({"columns": [], "data": []})
        image = {"_type": "image-file", "ext": ".png", "width": 1, "data": b"x"}
        chat = [{"role": "user", "content": "a"}, {"role": "user", "content": None}]
        artifact = pack({"columns": ["a", 2, "c"], "types": {"optional": [True, False], "mixed": False, "log_mode": "MUTABLE"}, "parts": [bytes(32), bytes(32)],
                         "data": [[1, image, chat], [float("nan"), [image], []], [None, {"a": [[1], ["x"]]}, [True, 2]], 3]})
        time = b"\xc7\x0c\x01\x00\x00\x00\x00\x00\x00\x03\xe8then"
        for data in (artifact, artifact.replace(pack(True), time)):
            yield data
            yield b"\xc1" + data  # the artifact's form
    if name == "planner":
        yield planner_state()
    if name == "plan":
        yield b"".join(run_records())
        yield b"".join(reversed(run_records()))
    if name == "side":
        yield b"".join(side_records())
        yield b"".join(reversed(side_records()))


def main() -> None:
    name, target = sys.argv[1], Path(sys.argv[2])
    for number, data in enumerate(seeds(name)):
        (target / f"seed-{number}").write_bytes(data)
    for file in sorted((ROOT / "tests/fuzz/corpus" / name).glob("*")):
        shutil.copy(file, target)
    assert any(target.iterdir()), f"fuzz target {name} has nothing to begin with"


if __name__ == "__main__":
    main()
