"""Traces: calls arrive at the trace server once, whole, with the run and the step, whatever happens on the way."""
from __future__ import annotations

import hashlib
import json
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


def traced(box: Box, *args: str, **settings: Any) -> tuple[Weave, Daemon, Client, Ctl]:
    """A run that is open, with its client."""
    _, weave, daemon = tracing(box, *args, **settings)
    c = box.enter(greeted(daemon.socket, rank=0, host="gpu07", pid=7))
    c.open_run("r")
    return weave, daemon, c, Ctl(daemon)


# -- odd orders and deaths

@test
def ends_may_come_before_starts_and_children_before_parents(box: Box) -> None:
    weave, _, c, ctl = traced(box)
    root = Call(c, "root")
    child = Call(c, "child", root)
    child.end(1)
    root.end(2)
    child.start()
    root.start()
    late = Call(c, "late", root).complete("x")
    c.flush()
    calls = weave.await_calls(3)
    assert calls[root.id]["summary"]["status_counts"] == {"success": 3, "error": 0}
    assert calls[late.id]["output"] == "x" and calls[child.id]["output"] == 1
    nothing_waits(ctl)
    weave.check()


@test
def a_parent_elsewhere_makes_a_local_root(box: Box) -> None:
    weave, _, c, ctl = traced(box)
    elsewhere = Call(c, "never logged here")
    child = Call(c, "child", elsewhere).complete(1)
    c.flush()
    until(lambda: ctl("flush") is not None and weave.calls(), "it does not wait for its parent when asked to")
    calls = weave.calls()
    assert calls[child.id]["parent_id"] == elsewhere.id and calls[child.id]["trace_id"] == elsewhere.trace
    weave.check(warnings=("never came",))


@test
def calls_of_a_dead_process_end_with_a_word_and_a_real_end_replaces_it(box: Box) -> None:
    weave, daemon, c, ctl = traced(box, daemon__gone_after="0")
    other = greeted(daemon.socket, host="gpu08", pid=4711)
    other.send("attach", run="r", t=now_us(), project="p")
    root = Call(other, "root", inputs={"a": 1}).start()
    other.flush()
    other.close()
    gone = until(lambda: ctl("flush") is not None and (x := weave.calls().get(root.id)) and "ended_at" in x and x or None,
                 "the dead one's call has an end")
    assert json.loads(gone["exception"])["type"] == "ProcessGone" and "4711 on gpu08" in gone["exception"], gone
    assert gone["summary"]["status_counts"] == {"success": 0, "error": 1} and gone["inputs"] == {"a": 1}
    back = greeted(daemon.socket, producer=other.producer)
    back.seq = other.seq
    back.send("attach", run="r", t=now_us(), project="p")
    back.send("call", phase="end", run="r", id=root.id, t=now_us(), ended_at=now_us(), output=7)
    back.flush()
    real = until(lambda: ctl("flush") is not None and (x := weave.calls()[root.id]).get("output") == 7 and x or None, "the real end")
    assert real["started_at"] == gone["started_at"] and "exception" not in real
    nothing_waits(ctl)
    back.close()


@test
def a_call_that_is_open_for_long_is_started_and_what_ends_below_it_follows(box: Box) -> None:
    weave, _, c, ctl = traced(box)
    root = Call(c, "train")
    root.started -= 60_000_000
    root.start()
    child = Call(c, "judge", root).start().end(1, summary={"usage": {"m": {"requests": 1}}})
    c.flush()
    calls = weave.await_calls(1)
    assert calls[child.id]["parent_id"] == root.id
    until(lambda: "op_name" in weave.calls().get(root.id, {}), "the start of the root")
    assert "ended_at" not in weave.calls()[root.id]
    root.end("done")
    c.flush()
    calls = weave.await_calls(2)
    assert calls[root.id]["writes"] == ["start", "end"] and calls[root.id]["output"] == "done"
    assert calls[root.id]["summary"] == {"usage": {"m": {"requests": 1}}, "status_counts": {"success": 2, "error": 0}}
    nothing_waits(ctl)
    weave.check()


@test
def an_end_without_a_start_and_a_bad_id_are_dead_letters_and_nothing_else_waits_for_them(box: Box) -> None:
    weave, _, c, ctl = traced(box)
    c.send("call", phase="start", run="r", t=now_us(), id="c3650db30e5e4df7ba6fc0e1080af002", trace_id=uuid7(), op="x")
    c.send("call", phase="middle", run="r", t=now_us(), id=uuid7())
    fine = Call(c, "fine").complete(1)
    c.flush()
    assert set(weave.await_calls(1)) == {fine.id}
    nothing_waits(ctl)
    assert len(ctl.lines("dead", "list")) == 2


# -- big and odd values

@test
def ten_thousand_children_go_from_below_and_are_summed_up(box: Box) -> None:
    weave, _, c, ctl = traced(box)
    root = Call(c, "root").start()
    for i in range(10_000):
        Call(c, "child", root).complete(i, exception="{}" if i % 1000 == 0 else None,
                                        summary={"usage": {"m": {"requests": 1, "total_tokens": 2}}})
    root.end(0)
    c.flush()
    calls = weave.await_calls(10_001, 60)
    assert calls[root.id]["summary"] == {"usage": {"m": {"requests": 10_000, "total_tokens": 20_000}},
                                         "status_counts": {"success": 9_991, "error": 10}}
    assert max(r["calls"] for r in weave.ask("/__log")) <= 1000
    nothing_waits(ctl)
    weave.check()


@test
def a_huge_output_is_cut_with_a_word_and_kept_whole(box: Box) -> None:
    weave, daemon, c, ctl = traced(box)
    huge = b"\xc3\xa4" * (15 << 20)
    digest = c.blob(1, huge)
    text = {"_type": "text", "blob": digest, "size": len(huge), "head": "x"}
    one = Call(c, "one").complete({"text": text, "short": "s"}, blobs=[digest])
    c.flush()
    got = weave.await_calls(1, 30)[one.id]
    assert got["output"]["short"] == "s" and len(json.dumps(got)) < 4 << 20
    assert got["output"]["text"].endswith(f"of {len(huge)} bytes; whole: wbxctl trace]")
    nothing_waits(ctl)
    assert daemon.store.blobs(), "the whole is here"


@test
def values_come_as_the_server_takes_them_and_secrets_do_not(box: Box) -> None:
    weave, _, c, ctl = traced(box)
    png = b"\x89PNG\r\n\x1a\n" + bytes(100)
    one = Call(c, "one", inputs={"api_key": "sk-secret", "nan": float("nan"), "img": png}, display_name="shown", thread_id="t1", turn_id="u1",
               attributes={"Authorization": "Bearer secret", "rollout_id": "r7"}).complete({"x": {"client_secret": "secret"}, "y": 1})
    c.flush()
    got = weave.await_calls(1)[one.id]
    assert "secret" not in json.dumps(got).replace("client_secret", ""), got
    assert got["inputs"]["nan"] is None and got["inputs"]["img"].startswith("data:image/png;base64,iVBORw0KGgo")
    assert (got["display_name"], got["thread_id"], got["turn_id"], got["attributes"]["rollout_id"]) == ("shown", "t1", "u1", "r7")
    weave.check()


@test
def feedback_objects_costs_and_sources_go_with_the_calls(box: Box) -> None:
    weave, _, c, ctl = traced(box)
    source = "def judge(x):\n    return 1\n"
    sha = hashlib.sha256(source.encode()).digest()
    one = Call(c, "judge", source=source, source_sha256=sha).complete(0.5)
    two = Call(c, "judge", source_sha256=sha).complete(0.6)
    c.send("feedback", run="r", t=now_us(), id=uuid7(), call_id=one.id, type="wandb.runnable.judge", payload={"output": {"score": 0.5}})
    c.send("feedback", run="r", t=now_us(), id=uuid7(), call_id=two.id, type="wandb.runnable.judge", payload={"output": 1}, op="judge",
           scorer_call_id=one.id)
    c.send("feedback", run="r", t=now_us(), id=uuid7(), call_id=two.id, type="wandb.note.1", payload={"note": "odd"})
    c.send("object", run="r", t=now_us(), name="prompt", type="StringPrompt", data={"content": "Judge {x}"})
    c.send("object", run="r", t=now_us(), name="rollouts", type="Dataset", data={"rows": [{"a": 1}, {"a": "\u00e4"}]})
    c.send("cost", run="r", t=now_us(), model="own", prompt_token_cost=1e-7, completion_token_cost=2e-7, provider="vllm")
    c.flush()
    weave.await_calls(2)
    nothing_waits(ctl)
    state = weave.ask("/__state")
    assert sorted(f["feedback_type"] for f in state["feedback"]) == ["wandb.note.1", "wandb.runnable.judge", "wandb.runnable.judge"]
    assert source in state["files"].values()
    names = sorted(o["object_id"] for o in state["objects"])
    assert names == ["judge", "prompt", "rollouts"], names
    [rows] = [o["val"]["rows"] for o in state["objects"] if o["object_id"] == "rollouts"]
    assert rows.rpartition("/")[2] in state["tables"] and state["costs"][0]["costs"]["own"]["provider_id"] == "vllm"
    weave.check()


# -- what the server says

@test
def a_poisoned_call_is_set_aside_and_the_rest_arrives(box: Box) -> None:
    weave, _, c, ctl = traced(box)
    weave.break_down("poison", count=-1, match="POISON")
    bad = Call(c, "bad", inputs={"x": "POISON"}).complete(1)
    fine = [Call(c, "fine").complete(i) for i in range(20)]
    c.flush()
    calls = weave.await_calls(20)
    assert set(calls) == {x.id for x in fine}
    nothing_waits(ctl)
    [letter] = ctl.lines("dead", "list")
    assert letter["what"] == "call" and letter["sink"] == "weave" and bad.id not in calls
    weave.check()


@test
def too_big_a_body_is_halved(box: Box) -> None:
    weave, _, c, ctl = traced(box, "--max-body", "100000")
    sent = [Call(c, "one", inputs={"x": "y" * 20_000}).complete(i) for i in range(20)]
    c.flush()
    assert set(weave.await_calls(20)) == {x.id for x in sent}
    nothing_waits(ctl)
    weave.check()


@test
def an_old_server_gets_the_routes_of_before(box: Box) -> None:
    weave, _, c, ctl = traced(box, "--old")
    sent = judge(c)
    c.flush()
    calls = weave.await_calls(5)
    assert set(calls) == {x.id for x in sent}
    assert calls[sent[0].id]["writes"] == ["start", "end"] and calls[sent[0].id]["output"] == [0.7]
    nothing_waits(ctl)


@test
def a_project_that_is_not_there_parks_the_traces_and_retry_sends_them(box: Box) -> None:
    weave, daemon, c, ctl = traced(box)
    weave.break_down("status", status=404, count=1, body={"reason": "Project not found: wbx-team/p"})
    sent = judge(c)
    c.flush()
    daemon.await_log("traces are parked")
    assert weave.calls() == {}
    daemon.kill9()
    daemon.start()
    assert weave.calls() == {}
    ctl("retry", "--run", "r")
    assert set(weave.await_calls(5)) == {x.id for x in sent}


@test
def a_refused_key_loses_nothing(box: Box) -> None:
    weave, daemon, c, ctl = traced(box)
    weave.break_down("status", status=401, count=2)
    sent = judge(c)
    c.flush()
    assert set(weave.await_calls(5)) == {x.id for x in sent}
    nothing_waits(ctl)
    weave.check()


@test
def a_trace_waits_for_its_run_and_for_the_link(box: Box) -> None:
    fake, weave, daemon = tracing(box)
    fake.stop()
    weave.stop()
    with greeted(daemon.socket) as c:
        c.open_run("r")
        sent = judge(c)
        c.flush()
        daemon.kill9()
        daemon.start()
        weave.start()
        assert weave.calls() == {}
        fake.start()
        assert set(weave.await_calls(5)) == {x.id for x in sent}
    weave.check()


@test
def a_judge_on_another_machine_that_only_attaches_is_traced_into_the_run(box: Box) -> None:
    fake, weave, daemon = tracing(box)
    fake.ask("/__run", {"run": RUN, "create": True})
    with greeted(daemon.socket) as c:
        c.send("attach", run="r", t=now_us(), project="p", entity=ENTITY)
        sent = judge(c)
        c.finish("r")
        calls = weave.await_calls(5)
    assert set(calls) == {x.id for x in sent} and all(call["wb_run_id"] == RUN for call in calls.values())
    until(lambda: daemon.store.query("SELECT state FROM run") == [(4,)], "the run is over here")
    nothing_waits(Ctl(daemon))
    assert not fake.requests("filestream"), "a guest that adds no row opens no stream"
    weave.check()


# -- sampling and budgets

def rules(**lines: str) -> dict[str, str]:
    return {f"sampling__{op}": words for op, words in lines.items()}


@test
def what_sampling_leaves_out_stays_is_counted_and_can_be_sent(box: Box) -> None:
    weave, daemon, c, ctl = traced(box, **rules(few="roots=1000000 low=0.1 high=0.9", other="step=2"))
    plain = [Call(c, "few").complete({"score": 0.5}) for _ in range(20)]
    failed = Call(c, "few").complete(exception="{}")
    low = Call(c, "few").complete({"score": 0.1})
    high = Call(c, "few").complete([0.5, 0.95])
    nested = Call(c, "few").start()
    Call(c, "inner", nested).complete(0.99)
    nested.end(0.5)
    other = [Call(c, "other", step=step).complete(1) for step in (1, 1, 1, 2)]
    free = Call(c, "free").complete(1)
    c.flush()
    calls = weave.await_calls(9)
    nothing_waits(ctl)
    calls = weave.calls()
    kept = {x.id for x in (failed, low, high, nested, free)}
    assert kept <= set(calls) and not {x.id for x in plain} & set(calls), len(calls)
    assert len([x for x in other if x.id in calls]) == 3 and other[3].id in calls
    assert ctl.sink("weave")["held"] == 21 and ctl.sink("weave")["day_bytes"] > 0
    assert "21 left out" in ctl("status")
    daemon.kill9()
    daemon.start()
    assert "21" in ctl("traces", "--op", "few", "--all", "--send", "r")
    weave.await_calls(9 + 20)
    assert "1" in ctl("traces", "--send", "r")
    weave.await_calls(9 + 21)
    nothing_waits(ctl)
    assert ctl.sink("weave")["held"] == 0
    weave.check()


@test
def a_budget_of_bytes_is_a_wall(box: Box) -> None:
    weave, _, c, ctl = traced(box, **rules(**{"*": "day=64K"}))
    for _ in range(20):
        Call(c, "one", inputs={"x": "y" * 10_000}).complete(exception="{}")
    c.flush()
    nothing_waits(ctl)
    assert 3 <= len(weave.calls()) <= 6 and ctl.sink("weave")["held"] == 20 - len(weave.calls())


if __name__ == "__main__":
    main()
