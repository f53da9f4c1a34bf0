"""A program that traces, run with weave from PyPI and with wbx.weave: the same trees, names, inputs, outputs and exceptions.

What wbx leaves out or bends on purpose: docs/ARCHITECTURE.md, "Not as the SDK does it".
"""
from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from daemon import started
from process import Process, clean_env
from sdk import weave_python
from tap import FULL, Box, Skip, main, test, until
from trainer import python_env

SERVICE = Path(__file__).parents[1] / "bench/fake_traces.py"

PROGRAM = """
import asyncio, sys, os
if sys.argv[1] == "wbx":
    import wbx, wbx.weave as weave
else:
    import weave
client = weave.init("acme/bench")

@weave.op
def leaf(n, scale=2):
    if n == 13:
        raise ValueError("unlucky")
    return n * scale

@weave.op(name="renamed", call_display_name="shown")
def named(text, *more, **others):
    return [text, *more, others]

@weave.op(postprocess_inputs=lambda i: {"only": i["a"]}, postprocess_output=lambda o: {"was": o})
def changed(a, b):
    return a + b

@weave.op
def root(values):
    with weave.ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(leaf, values))

@weave.op
async def task(n):
    await asyncio.sleep(0)
    return leaf(n)

@weave.op
async def tasks(n):
    return await asyncio.gather(*(task(i) for i in range(n)))

@weave.op
def count(n):
    for i in range(n):
        yield leaf(i)

@weave.op
def usage():
    return {"model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}

class Judge:
    @weave.op
    def score(self, x):
        return {"score": x}

@weave.op
def fails():
    leaf(13)

@weave.op(tracing_sample_rate=0.0)
def never():
    leaf(99)

root([1, 2, 3])
named("a", "b", "c", key=1)
changed(1, 2)
asyncio.run(tasks(3))
list(count(3))
usage()
Judge().score(0.5)
try:
    fails()
except ValueError:
    pass
never()
with weave.attributes({"step": 7, "rank": 1}):
    leaf(5)
with weave.thread("talk"):
    leaf(6)
    root([7])
call = client.create_call("by.hand", {"x": 1}, attributes={"k": "v"}, display_name="hand")
leaf(8)
client.finish_call(call, output={"done": True})
failed = client.create_call("by.hand.failed", {})
client.fail_call(failed, KeyError("no"))
result, call = leaf.call(21)
call.feedback.add_note("well")
thread = weave.Thread(target=leaf, args=(9,))
thread.start()
thread.join()
client.flush()
if sys.argv[1] == "wbx":
    client.finish()
else:
    weave.finish()
"""


def op_of(name: str) -> str:
    return name.rpartition("/op/")[2].partition(":")[0] if name.startswith("weave:///") else name


def tidy(value: Any) -> Any:
    """Without what is another thing for good reasons: descriptions of objects, refs."""
    if isinstance(value, dict):
        return {k: tidy(v) for k, v in value.items() if k not in ("self",)}
    return [tidy(v) for v in value] if isinstance(value, list) else value


def shape(call: dict[str, Any]) -> dict[str, Any]:
    exception = json.loads(call["exception"]) if call.get("exception") else None
    usage = {model: {k: v for k, v in counts.items() if v} for model, counts in ((call.get("summary") or {}).get("usage") or {}).items()}
    is_generator = op_of(call["op_name"]) == "count"  # weave keeps nothing of it without an accumulator
    return {"inputs": tidy(call.get("inputs")), "output": None if is_generator else tidy(call.get("output")), "display": call.get("display_name"),
            "attributes": {k: v for k, v in (call.get("attributes") or {}).items() if k != "weave"}, "thread": call.get("thread_id"),
            "is_turn": bool(call.get("turn_id")) and call["turn_id"] == call["id"], "error": exception and (exception["type"], exception["message"]),
            "usage": usage if not call.get("has_children") else None}


def trees(calls: list[dict[str, Any]]) -> list[Any]:
    """Roots in an order that is the same for both."""
    parents = {c.get("parent_id") for c in calls}
    children: dict[Any, list[dict]] = {}
    for c in calls:
        c["has_children"] = c["id"] in parents
        children.setdefault(c.get("parent_id"), []).append(c)

    def tree(c: dict[str, Any]) -> Any:
        return [op_of(c["op_name"]), shape(c), sorted((tree(x) for x in children.get(c["id"], [])), key=str)]

    return sorted((tree(c) for c in children[None]), key=str)


def by_weave(box: Box) -> list[dict]:
    service = Process(box, [sys.executable, SERVICE, "200", "KEEP"], log=box.log_file("service.log"), stdout=subprocess.PIPE)
    url = f"http://127.0.0.1:{service.read_line()}"
    script = box.dir / "program.py"
    script.write_text(PROGRAM)
    env = clean_env(HOME=str(box.dir), WANDB_BASE_URL=url, WF_TRACE_SERVER_URL=url, WANDB_API_KEY="k" * 40, WEAVE_PRINT_CALL_LINK="false", TMPDIR=str(box.dir))
    assert Process(box, [weave_python(), script, "weave"], env=env, log=box.log_file("weave.log")).wait(90) == 0
    with urllib.request.urlopen(url + "/__calls", timeout=20) as answer:
        return json.loads(answer.read())


def by_wbx(box: Box) -> list[dict]:
    daemon = started(box)
    script = box.dir / "program.py"
    script.write_text(PROGRAM)
    process = Process(box, [sys.executable, script, "wbx"], env=python_env(WBX_SOCKET=str(daemon.socket), HOME=str(box.dir)), log=box.log_file("wbx.log"))
    assert process.wait() == 0
    calls: dict[str, dict] = {}
    for row in daemon.store.rows(kind="call"):
        body = row.body
        calls.setdefault(body["id"], {}).update(body, **({"op_name": body["op"]} if "op" in body else {}))
    return list(calls.values())


@test(seconds=240)
def the_same_program_gives_the_same_traces_as_weave(box: Box) -> None:
    if not FULL:
        raise Skip("weave from PyPI: ./dev test --full")
    ours, theirs = trees(by_wbx(box)), trees(by_weave(box))
    assert len(ours) == len(theirs), ([t[0] for t in ours], [t[0] for t in theirs])
    pairs = [(json.dumps(mine, sort_keys=True), json.dumps(other, sort_keys=True)) for mine, other in zip(ours, theirs, strict=True)]
    assert all(mine == other for mine, other in pairs), "\n".join(f"wbx   {mine}\nweave {other}" for mine, other in pairs if mine != other)


if __name__ == "__main__":
    main()
