"""Runs that W&B has already, and runs to which several write: what was there stays, and nothing is written over."""
from __future__ import annotations

import json
from typing import Any

from client import greeted, now_us
from ctl import Ctl
from daemon import Daemon, started
from delivery import Logged, some_rows
from tap import Box, main, test, until
from wandb import ENTITY, Fake, forwarding, key_file, own, same


def node(box: Box, fake: Fake, name: str, **more: Any) -> Daemon:
    """The daemon of one of several machines."""
    return started(box, name=name, models__key_file=key_file(box), models__requests_per_s=0, **forwarding(fake, **more))


def first_life(box: Box, fake: Fake) -> Logged:
    """A run that another machine wrote, with everything that a run can have."""
    away = node(box, fake, "before")
    run = Logged("r", name="its name", notes="its notes", tags=["grpo"], group="g")
    with greeted(away.socket) as c:
        run.open(c)
        c.send("define", run="r", t=now_us(), name="acc", summary=["max", "first"])
        c.send("define", run="r", t=now_us(), name="eval/*", step_metric="gs", step_sync=True)
        run.log(c, {"acc": 0.9, "gs": 1}, {"acc": 0.5}, {"other": {"deep": 1}})
        run.set_summary(c, best=7).finish(c)
        fake.await_run("r", "finished")
    away.stop()
    return run


@test
def a_run_of_another_machine_is_gone_on_with_and_keeps_what_it_had(box: Box) -> None:
    fake = Fake(box)
    before = first_life(box, fake)
    fake.ask("/__run", {"run": f"{ENTITY}/p/r", "tags": ["grpo", "status:staged"]})
    here = node(box, fake, "here")
    with greeted(here.socket) as c:
        c.open_run("r", resume="must", config={"b": 2, "model": "new"}, tags=["second"])
        c.send("log", run="r", t=now_us(), data={"acc": 0.7})
        c.finish("r")
        run = until(lambda: (r := fake.run("r")) and r["state"] == "finished" and len(fake.rows("r")) == 4 and r, "the second end")
    rows = fake.rows("r")
    assert [r["_step"] for r in rows] == [0, 1, 2, 3] and own(rows[3]) == {"acc": 0.7}
    assert rows[3]["_runtime"] >= rows[2]["_runtime"], "its clock goes on"
    assert fake.config("r") == before.config | {"b": 2, "model": "new"}
    raw = fake.ask(f"/__config?run={ENTITY}/p/r&raw=1")
    assert [m.get("1") or m.get("2") for m in raw["_wandb"]["value"]["m"]] == ["acc", "eval/*", "gs"]
    summary = {k: v for k, v in fake.summary("r").items() if not k.startswith("_")}
    assert summary == {"acc": {"max": 0.9, "first": 0.9}, "gs": 1, "other": {"deep": 1}, "best": 7}, summary
    assert sorted(run["tags"]) == ["grpo", "second", "status:staged"]
    assert (run["displayName"], run["notes"], run["groupName"]) == ("its name", "its notes", "g")
    fake.check(warnings=("opened again",))


@test
def what_w_and_b_has_goes_back_as_it_was_byte_for_byte(box: Box) -> None:
    fake = Fake(box)
    odd = {"big": 2**80, "nan": float("nan"), "deep": [[[[[{"a": "tschüß \" \\ \U0001f600"}]]]]]}
    fake.ask("/__run", {"run": f"{ENTITY}/p/r", "create": True,
                        "config": json.dumps({k: {"value": v} for k, v in odd.items()} |
                                             {"_wandb": {"value": {"t": {"1": 1}, "viz": {"chart": {"x": 1}}}}}),
                        "summaryMetrics": json.dumps(odd | {"_step": 41, "_wandb": {"runtime": 100}})})
    here = node(box, fake, "here")
    with greeted(here.socket) as c:
        c.open_run("r", config={"mine": 1})
        c.send("log", run="r", t=now_us(), data={"a": 1})
        c.finish("r")
    fake.await_run("r", "finished")
    raw = fake.ask(f"/__config?run={ENTITY}/p/r&raw=1")
    assert same({k: v["value"] for k, v in raw.items() if k != "_wandb"}, odd | {"mine": 1}), raw
    assert raw["_wandb"]["value"]["viz"] == {"chart": {"x": 1}}
    [row] = fake.rows("r")
    assert row["_step"] == 42 and row["_runtime"] >= 100
    assert same({k: v for k, v in fake.summary("r").items() if not k.startswith("_")}, odd | {"a": 1})


@test
def a_key_that_is_taken_out_goes_also_when_only_w_and_b_has_it(box: Box) -> None:
    fake = Fake(box)
    before = first_life(box, fake)
    here = node(box, fake, "here")
    with greeted(here.socket) as c:
        c.open_run("r", resume="allow")
        c.send("config", run="r", t=now_us(), remove=["lr"])
        c.finish("r")
    until(lambda: "lr" not in fake.config("r"), "the key is gone")
    assert fake.config("r") == {k: v for k, v in before.config.items() if k != "lr"}


@test
def what_is_taken_out_here_stays_out_when_others_write_too(box: Box) -> None:
    fake = Fake(box)
    first_life(box, fake)
    here = node(box, fake, "here")
    with greeted(here.socket) as c:
        c.open_run("r", resume="allow", config={"deep": {"x": 1}})
        c.send("log", run="r", t=now_us(), data={"mine": 1, "map": {"y": 1}})
        until(lambda: fake.summary("r").get("mine") == 1 and "deep" in fake.config("r"), "both are there")
        c.send("config", run="r", t=now_us(), remove=[["deep", "x"]])
        c.send("summary", run="r", t=now_us(), remove=["mine", "best", ["other", "deep"], ["map", "y"]])
        c.finish("r")
    fake.await_run("r", "finished")
    assert "deep" not in fake.config("r"), fake.config("r")
    assert {k for k in fake.summary("r") if not k.startswith("_")} == {"acc", "gs"}, fake.summary("r")


@test
def a_process_that_comes_again_goes_on_with_its_run(box: Box) -> None:
    fake = Fake(box)
    here = node(box, fake, "here")
    for life in range(3):
        with greeted(here.socket) as c:
            c.open_run("r", resume="allow" if life else None, config={f"life{life}": life})
            c.log_many(2)
            c.finish("r", 1 if life == 1 else 0)
        fake.await_run("r", "failed" if life == 1 else "finished")
    assert [r["_step"] for r in fake.rows("r")] == list(range(6))
    assert fake.config("r") == {"life0": 0, "life1": 1, "life2": 2}
    fake.check()


@test
def what_was_added_to_a_summary_while_the_run_was_over_stays(box: Box) -> None:
    fake = Fake(box)
    here = node(box, fake, "here")
    with greeted(here.socket) as c:
        c.open_run("r")
        c.send("log", run="r", t=now_us(), data={"a": 1})
        c.finish("r")
    fake.await_run("r", "finished")
    fake.ask("/__run", {"run": f"{ENTITY}/p/r", "summaryMetrics": json.dumps({"a": 1, "reviewed_by": "a person"})})
    with greeted(here.socket) as c:
        c.open_run("r", resume="allow")
        c.send("log", run="r", t=now_us(), data={"a": 2})
        c.finish("r")
    fake.await_rows("r", 2)
    fake.await_run("r", "finished")
    summary = {k: v for k, v in fake.summary("r").items() if not k.startswith("_")}
    assert summary == {"a": 2, "reviewed_by": "a person"}, summary


# -- must and never

@test
def must_without_a_run_waits_for_a_person_when_there_are_rows(box: Box) -> None:
    fake = Fake(box)
    here = node(box, fake, "here")
    with greeted(here.socket) as c:
        c.open_run("typo", resume="must")
        c.send("log", run="typo", t=now_us(), data={"a": 1})
        c.finish("typo")
    here.await_log("parked: resume=must, and W&B has no such run")
    assert fake.run("typo") is None
    Ctl(here)("retry", "--run", "typo")
    fake.await_run("typo", "finished")
    assert [own(r) for r in fake.rows("typo")] == [{"a": 1}]
    fake.check()


@test
def must_without_a_run_leaves_nothing_behind_when_nothing_was_logged(box: Box) -> None:
    fake = Fake(box)
    here = node(box, fake, "here")
    with greeted(here.socket) as c:
        c.open_run("typo", resume="must", config={"a": 1})
        c.finish("typo", 1)
    until(lambda: here.store.query("SELECT state, parked FROM run") == [(4, None)], "the run is over")
    assert fake.run("typo") is None
    Ctl(here).await_healthy()


@test
def who_was_refused_leaves_nothing_that_the_next_one_meets(box: Box) -> None:
    fake = Fake(box)
    here = node(box, fake, "here")
    for resume in ("must", "allow"):
        with greeted(here.socket) as c:
            c.open_run("r", resume=resume, config={resume: 1}, name=resume)
            if resume == "allow":
                c.log_many(2)
            c.finish("r")
        until(lambda: here.store.query("SELECT state, parked FROM run") == [(4, None)], f"the run of {resume} is over")
    fake.await_run("r", "finished")
    assert fake.config("r") == {"allow": 1} and fake.run("r")["displayName"] == "allow" and len(fake.rows("r")) == 2
    fake.check()


@test
def who_was_refused_a_run_of_w_and_b_changes_nothing_of_it_later_either(box: Box) -> None:
    fake = Fake(box)
    before = first_life(box, fake)
    here = node(box, fake, "here")
    for life in range(2):
        with greeted(here.socket) as c:
            c.open_run("r", resume="never", config={"lr": 0}, name="another")
            c.finish("r", 3)
        until(lambda: here.store.query("SELECT state, parked FROM run") == [(4, None)] and
              here.store.query("SELECT lsn FROM cursor WHERE stream % 4 = 0") == here.store.query("SELECT max(lsn) FROM record"), "it is over")
    Ctl(here)("tag", "r", "+looked-at")
    until(lambda: "looked-at" in fake.run("r")["tags"], "the tag is there")
    run = fake.run("r")
    assert run["displayName"] == "its name" and run["exitcode"] == 0 and run["state"] == "finished" and fake.config("r") == before.config
    with greeted(here.socket) as c:
        c.open_run("r", resume="allow", config={"b": 2})
        c.send("log", run="r", t=now_us(), data={"acc": 0.7})
        c.finish("r")
    fake.await_rows("r", 4)
    fake.await_run("r", "finished")
    assert fake.config("r") == before.config | {"b": 2}
    assert fake.summary("r")["acc"] == {"max": 0.9, "first": 0.9}


@test
def who_attaches_and_leaves_before_the_run_is_opened_is_in_nobody_s_way(box: Box) -> None:
    fake = Fake(box)
    here = node(box, fake, "here")
    with greeted(here.socket) as c:
        c.send("attach", run="r", t=now_us(), project="p")
        c.finish("r")
    until(lambda: here.store.query("SELECT state FROM run") == [(4,)], "it is over")
    with greeted(here.socket) as c:
        c.open_run("r")
        c.log_many(3)
        c.finish("r")
    fake.await_run("r", "finished")
    assert len(fake.rows("r")) == 3
    fake.check()


@test
def never_with_a_run_waits_for_a_person_and_changes_nothing(box: Box) -> None:
    fake = Fake(box)
    before = first_life(box, fake)
    here = node(box, fake, "here")
    with greeted(here.socket) as c:
        c.open_run("r", resume="never", config={"lr": 0}, name="another")
        c.log_many(2)
        c.finish("r")
    here.await_log("parked: resume=never, and W&B has this run")
    run = fake.run("r")
    assert run and len(fake.rows("r")) == 3 and run["displayName"] == "its name" and fake.config("r") == before.config
    Ctl(here)("retry", "--run", "r")
    assert [r["_step"] for r in fake.await_rows("r", 5)] == list(range(5))
    assert fake.config("r") == before.config | {"lr": 0}


@test
def never_with_a_run_of_this_machine_does_not_touch_its_end(box: Box) -> None:
    fake = Fake(box)
    here = node(box, fake, "here")
    with greeted(here.socket) as c:
        c.open_run("r", config={"a": 1})
        c.log_many(2)
        c.finish("r", 3)
    fake.await_run("r", "failed")
    with greeted(here.socket) as c:
        c.open_run("r", resume="never", config={"a": 2}, name="another")
        c.finish("r", 0)
    until(lambda: here.store.query("SELECT state FROM run") == [(4,)] and
          here.store.query("SELECT lsn FROM cursor WHERE stream % 4 = 0") == here.store.query("SELECT max(lsn) FROM record"), "it was looked at")
    run = fake.run("r")
    assert run and run["state"] == "failed" and run["exitcode"] == 3 and fake.config("r") == {"a": 1}
    fake.check()


# -- attached

@test
def who_attaches_and_adds_a_tag_changes_nothing_else(box: Box) -> None:
    fake = Fake(box)
    before = first_life(box, fake)
    streams = len(fake.requests("filestream"))
    was = fake.run("r")
    here = node(box, fake, "here", models__heartbeat="500ms")
    with greeted(here.socket) as c:
        c.send("attach", run="r", t=now_us(), project="p", entity=ENTITY)
        c.send("tags", run="r", t=now_us(), add=["status:staged"])
        c.finish("r", 5)
    until(lambda: here.store.query("SELECT state FROM run") == [(4,)], "the run is over here")
    run = fake.run("r")
    assert was and run and sorted(run["tags"]) == ["grpo", "status:staged"]
    assert {k: run[k] for k in ("state", "exitcode", "displayName", "notes")} == \
        {k: was[k] for k in ("state", "exitcode", "displayName", "notes")}
    assert fake.config("r") == before.config
    assert len(fake.requests("filestream")) == streams, "not even a heartbeat"
    fake.check()


@test
def who_attaches_and_adds_rows_leaves_the_run_as_ended_as_it_was(box: Box) -> None:
    fake = Fake(box)
    before = first_life(box, fake)
    here = node(box, fake, "here")
    with greeted(here.socket) as c:
        c.send("attach", run="r", t=now_us(), project="p", entity=ENTITY)
        c.send("log", run="r", t=now_us(), data={"eval": 1})
        c.send("config", run="r", t=now_us(), data={"added": True})
        c.send("summary", run="r", t=now_us(), data={"score": 3})
        c.finish("r", 5)
    until(lambda: here.store.query("SELECT state FROM run") == [(4,)], "the run is over here")
    run = fake.run("r")
    assert run and run["state"] == "finished" and run["exitcode"] == 0
    rows = fake.rows("r")
    assert [r["_step"] for r in rows] == [0, 1, 2, 3] and own(rows[3]) == {"eval": 1}
    assert fake.config("r") == before.config | {"added": True}
    summary = fake.summary("r")
    assert summary["acc"] == {"max": 0.9, "first": 0.9} and summary["best"] == 7 and summary["eval"] == 1 and summary["score"] == 3
    fake.check(warnings=("opened again",))


@test
def what_a_run_and_one_attached_from_elsewhere_log_is_all_there(box: Box) -> None:
    fake = Fake(box)
    here, there = node(box, fake, "here"), node(box, fake, "there")
    with greeted(here.socket) as owner, greeted(there.socket) as guest:
        owner.open_run("r", config={"a": 1})
        for n in range(4):
            owner.send("log", run="r", t=now_us(), data={"loss": n})
            owner.flush()
            fake.await_rows("r", 2 * n + 1)
            until(lambda: here.store.query("SELECT done_offset = next_offset FROM run") == [(1,)], "and the daemon knows it")
            if n == 0:
                guest.send("attach", run="r", t=now_us(), project="p", entity=ENTITY)
            guest.send("log", run="r", t=now_us(), data={"eval": n})
            guest.flush()
            fake.await_rows("r", 2 * n + 2)
            if n == 0:  # the owner does not know of the guest until it looks: here, because its link was gone
                here.kill9()
                here.start()
                owner.close()
                owner = greeted(here.socket, owner.producer)
        owner.finish("r")
        guest.finish("r")
    fake.await_run("r", "finished")
    rows = fake.rows("r")
    assert [own(r) for r in rows] == [v for n in range(4) for v in ({"loss": n}, {"eval": n})], rows
    assert [r["_step"] for r in rows] == list(range(8))


# -- several daemons on one run

@test
def the_rows_of_two_daemons_are_all_there_when_one_was_cut_off(box: Box) -> None:
    fake = Fake(box)
    first, second = node(box, fake, "first"), node(box, fake, "second")
    one, two = greeted(first.socket), greeted(second.socket)
    with one, two:
        one.open_run("r", config={"a": 1})
        for row in some_rows(5):
            one.send("log", run="r", t=now_us(), data=row)
        one.flush()
        fake.await_rows("r", 5)
        until(lambda: first.store.query("SELECT done_offset FROM run") == [(5,)], "the first knows that they are there")
        cut = fake.fault({"kind": "any", "run": "r"}, {"close": True}, count=-1)
        for row in some_rows(5, 5):
            one.send("log", run="r", t=now_us(), data=row)
        one.flush()
        fake.await_hits(cut)
        first.process.stop_running()  # its link is gone, while the second one's is not
        fake.clear_faults()
        two.open_run("r", resume="allow", config={"b": 2})
        for row in some_rows(7, 100):
            two.send("log", run="r", t=now_us(), data=row)
        two.finish("r")
        fake.await_run("r", "finished")
        first.process.go_on()
        one.finish("r")
    rows = fake.await_rows("r", 17)
    until(lambda: first.store.query("SELECT state FROM run") == [(4,)], "the first has told all")
    rows = fake.rows("r")
    assert sorted(r["n"] for r in rows) == sorted([*range(10), *range(100, 107)]), [r["n"] for r in rows]
    assert [r["_step"] for r in rows] == list(range(17)), "planned rows move behind those that took their steps"
    assert fake.config("r") == {"a": 1, "b": 2}


@test
def rows_whose_answer_was_lost_are_there_once_also_when_others_wrote_behind_them(box: Box) -> None:
    fake = Fake(box)
    here = node(box, fake, "here")
    with greeted(here.socket) as c:
        c.open_run("r")
        for row in some_rows(3):
            c.send("log", run="r", t=now_us(), data=row)
        c.flush()
        fake.await_rows("r", 3)
        until(lambda: here.store.query("SELECT done_offset FROM run") == [(3,)], "they are confirmed")
        fault = fake.fault({"kind": "filestream", "body": "wandb-history"}, {"hang": 60})
        for row in some_rows(4, 3):
            c.send("log", run="r", t=now_us(), data=row)
        c.flush()
        fake.await_hits(fault)
        there = len(fake.await_rows("r", 4))
        here.kill9()
    fake.clear_faults()
    fake.ask("/__run", {"run": f"{ENTITY}/p/r", "foreign_rows": [{"_step": there + i, "_timestamp": 1, "_runtime": 1, "n": 100 + i} for i in range(3)]})
    here.start()
    with greeted(here.socket, c.producer) as c:
        for row in some_rows(2, 7):
            c.send("log", run="r", t=now_us(), data=row)
        c.finish("r")
    fake.await_run("r", "finished")
    rows = fake.rows("r")
    assert sorted(r["n"] for r in rows) == [*range(9), 100, 101, 102], [r["n"] for r in rows]
    assert [r["_step"] for r in rows] == list(range(12))
    fake.check()


@test
def rows_that_wait_for_a_server_in_trouble_go_behind_those_that_came_meanwhile(box: Box) -> None:
    fake = Fake(box)
    first_life(box, fake)
    here = node(box, fake, "here", models__backoff_max="100ms")
    with greeted(here.socket) as c:
        c.open_run("r", resume="allow")
        fault = fake.fault({"kind": "filestream"}, {"status": 503}, count=-1)
        for row in some_rows(5, 50):
            c.send("log", run="r", t=now_us(), data=row)
        c.flush()
        fake.await_hits(fault)
        fake.ask("/__run", {"run": f"{ENTITY}/p/r", "foreign_rows": [{"_step": 3 + i, "_timestamp": 1, "_runtime": 1, "n": 100 + i} for i in range(4)]})
        fake.await_hits(fault, 3)
        fake.clear_faults()
        c.finish("r")
    fake.await_rows("r", 12)
    fake.await_run("r", "finished")
    assert [r["n"] for r in fake.rows("r")[3:]] == [100, 101, 102, 103, 50, 51, 52, 53, 54]


@test
def the_clock_of_a_run_that_is_tried_again_is_its_own(box: Box) -> None:
    fake = Fake(box)
    here = node(box, fake, "here")
    start = now_us()
    with greeted(here.socket) as c:
        c.send("run", run="r", t=start, project="p")
        c.send("log", run="r", t=start + 3_600_000_000, data={"n": 0})
        c.flush()
        fake.await_rows("r", 1)
        fake.fault({"kind": "filestream"}, {"status": 404}, count=1)
        c.send("log", run="r", t=start + 3_601_000_000, data={"n": 1})
        c.flush()
        here.await_log("parked:")
        Ctl(here)("retry", "--run", "r")
        fake.await_rows("r", 2)
        c.send("log", run="r", t=start + 3_602_000_000, data={"n": 2})
        c.finish("r")
    fake.await_run("r", "finished")
    assert [round(r["_runtime"]) for r in fake.rows("r")] == [3600, 3601, 3602]


@test
def a_run_of_which_w_and_b_lost_rows_waits_and_goes_on_when_told(box: Box) -> None:
    fake = Fake(box)
    here = node(box, fake, "here")
    with greeted(here.socket) as c:
        c.open_run("r")
        c.log_many(4)
        c.flush()
        fake.await_rows("r", 4)
        until(lambda: here.store.query("SELECT done_offset FROM run") == [(4,)], "they are confirmed")
        here.kill9()
    fake.ask("/__reset", {})
    fake.ask("/__run", {"run": f"{ENTITY}/p/r", "create": True, "foreign_rows": [{"_step": 0, "_timestamp": 1, "_runtime": 1, "n": 0}]})
    here.start()
    with greeted(here.socket, c.producer) as c:
        c.log_many(2)
        c.flush()
        here.await_log("parked: W&B has 1 rows and had confirmed 4")
        Ctl(here)("retry", "--run", "r")
        c.finish("r")
    fake.await_run("r", "finished")
    assert [r["_step"] for r in fake.rows("r")] == [0, 4, 5]


main()
