"""Traces: calls arrive at the trace server once, whole, with the run and the step, whatever happens on the way."""
from __future__ import annotations

import json
import os
import signal
from typing import Any

from client import Client, greeted, now_us
from ctl import Ctl
from daemon import Daemon
from process import build_option
from tap import Box, Skip, main, test, until
from wandb import ENTITY, Fake
from weave import Call, Weave, tracing, uuid7

RUN = f"{ENTITY}/p/r"


def train_step(c: Client, step: int, run: str = "r") -> None:
    """What a trainer says when a step is over."""
    c.send("log", run=run, t=now_us(), data={"train/loss": 0.5, "train/global_step": step})


def define_step(c: Client, run: str = "r") -> None:
    c.send("define", run=run, t=now_us(), name="*", step_metric="train/global_step", step_sync=True)


def judge(c: Client, rank: int | None = None, score: float = 0.7, **more: Any) -> list[Call]:
    """The user's nested example: a reward function that asks two judges."""
    root = Call(c, "reward_fn", inputs={"prompts": ["Q1"], "completions": ["a"]}, attributes={"group_id": "g0"}, **more).start()
    calls = [root]
    for model in ("judge-a", "judge-b"):
        scorer = Call(c, "get_score", root, inputs={"prompt": "Q1"}, **more).start()
        chat = Call(c, "chat", scorer, inputs={"model": model}, attributes={"weave": {"kind": "llm"}}, **more).start()
        usage = {model: {"requests": 1, "prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}}
        chat.end({"score": score}, summary={"usage": usage})
        scorer.end({"score": score})
        calls += [scorer, chat]
    root.end([score])
    return calls


def nothing_waits(ctl: Ctl) -> None:
    until(lambda: ctl.sink("weave")["waiting"] == 0, "no trace waits")


@test
def a_nested_trace_arrives_whole_with_its_run_and_step(box: Box) -> None:
    fake, weave, daemon = tracing(box)
    with greeted(daemon.socket, rank=0, host="gpu07", pid=7) as c:
        c.open_run("r")
        define_step(c)
        first = judge(c)
        train_step(c, 1)
        second = judge(c)
        c.flush()
        calls = weave.await_calls(10)
        assert set(calls) == {x.id for x in first + second}
        for x in first + second:
            got = calls[x.id]
            assert (got["trace_id"], got.get("parent_id"), got["wb_run_id"]) == (x.trace, x.parent, RUN), got
            assert got["wb_run_step"] == got["wb_run_step_end"] == (1 if x in first else 2), got
            assert (got["attributes"]["step"], got["attributes"]["rank"]) == (got["wb_run_step"], 0)
            assert got["attributes"]["weave"]["source"] == "wbx"
            assert got["op_name"].startswith(f"weave:///{ENTITY}/p/op/{x.op}:")
        root = calls[first[0].id]
        assert root["inputs"] == {"prompts": ["Q1"], "completions": ["a"]} and root["output"] == [0.7]
        assert root["attributes"]["group_id"] == "g0"
        assert root["summary"]["status_counts"] == {"success": 5, "error": 0}
        assert root["summary"]["usage"]["judge-a"] == {"requests": 1, "prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
        assert set(root["summary"]["usage"]) == {"judge-a", "judge-b"}
        assert calls[first[2].id]["attributes"]["weave"]["kind"] == "llm"
        nothing_waits(Ctl(daemon))
    weave.check()


@test
def the_server_fails_in_every_way_and_each_call_is_there_once(box: Box) -> None:
    fake, weave, daemon = tracing(box)
    for kind, more in (("status", {"status": 503}), ("status", {"status": 429, "headers": {"Retry-After": "0"}}), ("reset", {}),
                       ("commit_reset", {}), ("commit_status", {"status": 502}), ("status", {"status": 409})):
        weave.break_down(kind, **more)
    with greeted(daemon.socket) as c:
        c.open_run("r")
        sent = [x for _ in range(4) for x in judge(c)]
        c.flush()
        calls = weave.await_calls(20)
        assert set(calls) == {x.id for x in sent}
        nothing_waits(Ctl(daemon))
    weave.check(warnings=("written",))


def _kill_at(box: Box, point: str) -> None:
    if build_option("faults") != "True":
        raise Skip("this build has no fault points")
    fake, weave, daemon = tracing(box)
    daemon.stop()
    daemon.start(WBX_FAULT=point)
    with greeted(daemon.socket) as c:
        c.open_run("r")
        sent = judge(c)
        c.flush()
    assert daemon.process is not None
    daemon.process.wait()
    daemon.start()
    calls = weave.await_calls(5)
    assert set(calls) == {x.id for x in sent}
    nothing_waits(Ctl(daemon))
    weave.check(warnings=("written",))


@test
def a_kill_after_the_records_became_rows_loses_nothing(box: Box) -> None:
    _kill_at(box, "weave.committed:1")


@test
def a_kill_after_a_plan_loses_and_doubles_nothing(box: Box) -> None:
    _kill_at(box, "weave.committed:3")


@test
def a_kill_before_the_mark_sends_the_same_again(box: Box) -> None:
    _kill_at(box, "weave.answered:7")


if __name__ == "__main__":
    main()
