"""wbxctl traces and wbxctl trace: what judges did, from this machine's store."""
from __future__ import annotations

import json
from typing import Any

from ctl import WBXCTL, Ctl, ctl_env
from daemon import Daemon, started
from process import Process
from tap import Box, main, test, until
from trainer import trainer

GROUP = """
    import wbx.weave as weave
    run = wbx.init(project="p", id="r", console="off")
    @weave.op
    def ask(prompt):
        return {"choices": [{"message": {"content": "they said: \\x1b[31mred"}}], "model": "m", "usage": {"prompt_tokens": 10, "completion_tokens": 5}}
    @weave.op
    def judge(prompt, score):
        ask(prompt)
        if score > 1:
            raise ValueError("no such \\x1b]0;score\\x07")
        return {"score": score, "reason": "because \\u202e of " + prompt}
    @weave.op
    def reward(step, scores):
        with weave.attributes({"step": step}):
            return group(scores)
    @weave.op
    def group(scores):
        out = []
        for i, s in enumerate(scores):
            try:
                out.append(judge(f"p{i}", s)["score"])
            except ValueError:
                out.append(None)
        return out
"""


def filled(box: Box, code: str) -> tuple[Daemon, Ctl]:
    daemon = started(box)
    t = trainer(box, GROUP + code + """
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    t.expect_line("bye")
    assert t.wait() == 0
    return daemon, Ctl(daemon)


def objects(ctl: Ctl, *words: Any) -> list[dict]:
    return [json.loads(line) for line in ctl(*words).splitlines()]


def is_clean(text: str) -> bool:
    """Nothing that steers a terminal."""
    return all(c == "\n" or (c.isprintable() and c not in "\u202e") for c in text)


@test
def traces_are_trees_with_score_reason_time_and_tokens(box: Box) -> None:
    _, ctl = filled(box, """
    for step in range(3):
        with weave.attributes({"step": step}):
            group([0.1 * step, 0.9, 2])
    """)
    text = ctl("traces", "r")
    assert is_clean(text), text
    lines = text.splitlines()
    assert lines[0].split() == ["CALL", "STEP", "SCORE", "TIME", "TOKENS", "ID", "WHY"] and len(lines) == 1 + 3 * 7
    tree = [line[:20].rstrip() for line in lines[1:8]]
    assert ["group" if "group" in t else t for t in tree] == [
        "group", "├─ judge", "│  └─ ask", "├─ judge", "│  └─ ask", "└─ judge", "   └─ ask"], tree
    assert "45" in lines[1].split() and "0.9" in lines[4].split() and "15" in lines[3].split()
    assert "because \\u{202e} of p1" in lines[4] and "they said: \\x1b[31mred" in lines[3] and "ValueError: no such \\x1b]0;score\\x07" in lines[6], text
    found = objects(ctl, "traces", "r", "--jsonl")
    assert len(found) == 21 and len({c["trace_id"] for c in found}) == 3 and {c["step"] for c in found} == {0, 1, 2}
    by_id = {c["id"]: c for c in found}
    assert all(by_id[c["parent_id"]]["trace_id"] == c["trace_id"] for c in found if c["parent_id"])
    bad = next(c for c in found if c["status"] == "error")
    assert bad["op"] == "judge" and json.loads(bad["exception"])["type"] == "ValueError" and bad["score"] is None and bad["latency_ms"] >= 0
    assert len(ctl("traces", "r", "-n", "1").splitlines()) == 8


@test
def calls_are_found_by_step_op_score_error_and_text(box: Box) -> None:
    daemon, ctl = filled(box, """
    for step in range(10):
        with weave.attributes({"step": step}):
            group([step / 10, 2 if step == 7 else 1])
    judge("a needle in the hay", 0.5)
    judge("n" * 100_000 + "eedle", 0.6)
    call = weave.get_client().create_call("noted", {})
    weave.get_client().finish_call(call, {"nothing": 1})
    call.set_score("truth", 0.05, reason="made up")
    """)

    def ops(*words: str) -> list[tuple[Any, ...]]:
        return [(c["op"], c["step"], c["score"]) for c in objects(ctl, "traces", "r", "--jsonl", *words) if c["op"] != "group"]

    assert ops("--step", "3", "--op", "judge") == [("judge", 3, 0.3), ("judge", 3, 1)]
    assert {s for _, s, _ in ops("--step", "8..")} == {8, 9} and {s for _, s, _ in ops("--step", "..1")} == {0, 1}
    assert ops("--score", "<0.2") == [("judge", 0, 0), ("judge", 1, 0.1), ("noted", None, 0.05)]
    assert ops("--score", "0.5..0.6", "--op", "j*") == [("judge", 5, 0.5), ("judge", 6, 0.6), ("judge", None, 0.5), ("judge", None, 0.6)]
    assert ops("--errors") == [("judge", 7, None)]
    assert ops("--grep", "a needle in") == [("judge", None, 0.5), ("ask", None, None)]
    assert ops("--grep", "neednt") == [] and len(ops("--grep", "nneedle")) == 2, "a text that stands apart is searched, too"
    assert "calls fits" in ctl.run("traces", "r", "--errors", "--op", "ask").err
    took = [c["latency_ms"] for c in objects(ctl, "traces", "r", "--slow", "--jsonl") if c["parent_id"] is None]
    assert took == sorted(took, reverse=True) and len(took) == 13
    for wrong in (["--step", "x"], ["--step", "5..2"], ["--score", "high"], ["--grep", ""], ["-n", "0"]):
        ctl("traces", "r", *wrong, code=64)
    ctl("traces", "nothing", code=65)


@test
def one_trace_is_shown_whole(box: Box) -> None:
    daemon, ctl = filled(box, """
    @weave.op
    def long(text):
        try:
            judge("inside", 3)
        except ValueError:
            pass
        return text * 2
    long("line one\\nline two \\x1b[2J\\n" + "x" * 200_000)
    result, call = judge.call("scored", 0.4)
    call.feedback.add_note("looks \\x07 right")
    """)
    found = objects(ctl, "traces", "r", "--jsonl")
    root = next(c for c in found if c["op"] == "long")
    for name in (root["id"], root["trace_id"], root["id"][-12:], next(c["id"] for c in found if c["trace_id"] == root["trace_id"] and c["op"] == "ask")):
        whole = objects(ctl, "trace", name, "--jsonl")
        assert [c["op"] for c in whole] == ["long", "judge", "ask"]
    assert whole[0]["inputs"]["text"] == "line one\nline two \x1b[2J\n" + "x" * 200_000 and whole[0]["output"] == whole[0]["inputs"]["text"] * 2
    assert whole[0]["source"].startswith("@weave.op") and whole[2]["summary"]["usage"]["m"]["prompt_tokens"] == 10
    text = ctl("trace", root["id"])
    assert is_clean(text) and "    line two \\x1b[2J\n" in text and "ValueError: no such" in text and "x" * 200_000 in text
    scored = next(c for c in found if c["op"] == "judge" and c["parent_id"] is None)
    [whole, _] = objects(ctl, "trace", scored["id"], "--jsonl")
    assert whole["feedback"] == [{"type": "wandb.note.1", "payload": {"note": "looks \x07 right"}}]
    assert "looks \\u0007 right" in ctl("trace", scored["id"])
    assert "no call that is yours" in ctl.run("trace", "01a20621-6c1a-750a-be7f-c1842d36011a").err
    ctl("trace", "short", code=65)
    daemon.stop()
    offline = Ctl(daemon, "--store", daemon.store.path)
    assert [c["op"] for c in objects(offline, "trace", root["id"], "--jsonl")] == ["long", "judge", "ask"]


@test
def a_call_under_way_and_one_whose_parent_is_elsewhere_are_shown(box: Box) -> None:
    daemon = started(box)
    t = trainer(box, GROUP + """
    @weave.op
    def hangs():
        judge("first", 0.1)
        say("inside")
        hear()
    hangs()
    """, socket=daemon.socket)
    t.expect_line("inside")
    ctl = Ctl(daemon)
    until(lambda: len(objects(ctl, "traces", "r", "--jsonl")) == 3, "the calls are there")
    text = ctl("traces", "r")
    assert "hangs" in text and "open" in text
    [root, *_] = objects(ctl, "traces", "r", "--jsonl")
    assert root["status"] == "running" and root["latency_ms"] is None
    assert "not ended" in ctl("trace", root["id"])
    t.kill9()


if __name__ == "__main__":
    main()
