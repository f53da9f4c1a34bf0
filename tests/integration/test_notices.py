"""What those who log to a run are told about it, and what the package makes of that: resume, URL, Stop, the last word."""
from __future__ import annotations

from client import greeted, now_us, opened
from ctl import Ctl
from daemon import started
from delivery import Logged, sending
from process import Process
from tap import Box, main, read_text, test, until
from trainer import trainer
from wandb import ENTITY, Fake, forwarding, key_file, own


@test
def who_opens_a_run_is_told_where_it_is(box: Box) -> None:
    fake, daemon = sending(box)
    with greeted(daemon.socket) as first:
        first.open_run("r", name="a name")
        assert first.await_notice(known=False)["run"] == "r"
        told = first.await_notice(state="created")
        assert (told["entity"], told["project"], told["name"]) == (ENTITY, "p", "a name")
        assert told["url"] == f"{fake.url}/{ENTITY}/p/runs/r" and told["resumed"] is False and told["reason"] is None
        with greeted(daemon.socket) as second:
            second.open_run("r")
            second.await_notice(known=True)
            assert second.await_notice(url=told["url"])["resumed"] is False


@test
def who_comes_again_is_told_again(box: Box) -> None:
    _, daemon = sending(box)
    with opened(daemon.socket) as c:
        c.await_notice(state="created")
    daemon.kill9()
    daemon.start()
    with greeted(daemon.socket, c.producer) as again:
        assert again.await_notice(run="r", entity=ENTITY)["url"]


@test
def who_finishes_is_told_what_waits(box: Box) -> None:
    fake, daemon = sending(box, models__interval="1h")
    with opened(daemon.socket) as c:
        c.await_notice(state="created")
        fake.await_run("r", "running")
        fault = fake.fault({"kind": "filestream"}, {"status": 503}, count=-1)
        c.log_many(5)
        c.finish("r")
        fake.await_hits(fault)
        before = len(c.notices)
        assert until(lambda: len(c.notices) > before or c.flush() or [n for n in c.notices if n.get("waiting", 0) >= 5], "a word on what waits")


@test
def a_parked_run_s_processes_are_told_why(box: Box) -> None:
    fake, daemon = sending(box)
    fake.fault({"kind": "graphql", "op": "WbxUpsertRun"}, {"status": 404, "body": '{"error":"no such project"}'}, count=-1)
    with opened(daemon.socket) as c:
        until(lambda: c.flush() or [n for n in c.notices if n.get("reason") and "no such project" in n["reason"]], "the reason")
        fake.clear_faults()
        Ctl(daemon)("retry", "--run", "r")
        assert c.await_notice(state="created", reason=None)


@test
def without_a_key_that_is_said(box: Box) -> None:
    daemon = started(box, models__key_file=box.dir / "none")
    with opened(daemon.socket) as c:
        assert until(lambda: c.flush() or [n for n in c.notices if n.get("reason")], "a reason")[0]["reason"].startswith("there is no key")


@test
def stop_reaches_the_processes(box: Box) -> None:
    fake, daemon = sending(box, models__heartbeat="500ms")
    with opened(daemon.socket) as c, greeted(daemon.socket) as guest:
        guest.send("attach", run="r", t=now_us(), project="p")
        guest.await_notice(known=True)
        c.await_notice(stopped=False)
        fake.await_run("r", "running")
        fake.ask("/__run", {"run": f"{ENTITY}/p/r", "stopped": True})
        c.await_notice(stopped=True)
        guest.await_notice(stopped=True)


# -- the package

@test
def who_attaches_to_what_is_not_there_is_told(box: Box) -> None:
    fake, daemon = sending(box)
    t = trainer(box, """\
        import time
        for name, token in (("mine", None), ("theirs", "no such token, or is there?")):
            run = wbx.attach("p", name, token=token)
            run.log({"score": 1})
            while not run.waiting_because:
                time.sleep(0.01)
            print(run.waiting_because, flush=True)
            run.finish()
    """, socket=daemon.socket)
    mine, theirs = t.read_line().strip(), t.read_line().strip()
    assert t.wait() == 0
    assert mine == "W&B has no such run, and nobody here has opened it: only attached to"
    assert theirs == "no run of that name has this token; its owner's process has it (run.token)"
    assert f"wbx: run mine: {mine}; what is added to it is kept on this machine" in said(box), said(box)
    assert f"the daemon refused a record (1 so far): {theirs}" in said(box) and "run theirs:" not in said(box), said(box)
    assert fake.run("mine") is None


def said(box: Box, name: str = "trainer") -> str:
    return read_text(box.log_file(f"{name}.err"))


def lived(box: Box, fake: Fake, daemon: object) -> Process:
    """A first life of run r."""
    t = trainer(box, """\
        run = wbx.init(project="p", id="r", config={"a": 1, "b": {"c": [1, None]}})
        run.log({"loss": 0.5})
        run.log({"loss": float("nan")}, step=7)
        run.summary["best"] = 3
        run.finish()
    """, socket=daemon.socket, name="first")
    assert t.wait() == 0
    fake.await_run("r", "finished")
    return t


@test
def a_resumed_run_brings_its_past_along(box: Box) -> None:
    fake, daemon = sending(box)
    lived(box, fake, daemon)
    t = trainer(box, """\
        run = wbx.init(project="p", id="r", resume="must", config={"a": 2})
        say(run.resumed, run.step, dict(run.config.items()), run.summary["best"], run.summary["loss"] != run.summary["loss"])
        say(run.url, run.path, run.waiting_because)
        run.log({"loss": 1})
        run.finish()
    """, socket=daemon.socket)
    t.expect_line("True 8 {'a': 2, 'b': {'c': [1, None]}} 3 True")
    t.expect_line(f"{fake.url}/{ENTITY}/p/runs/r {ENTITY}/p/r None")
    assert t.wait() == 0
    fake.await_run("r", "finished")
    assert [(r["_step"], own(r).get("loss")) for r in fake.rows("r")][2] == (8, 1)
    text = said(box)
    assert "run r of project p is kept by the daemon at" in text and f"run r is at {fake.url}/{ENTITY}/p/runs/r" in text, text


@test
def a_run_of_another_machine_brings_its_past_along(box: Box) -> None:
    fake, daemon = sending(box)
    lived(box, fake, daemon)
    other = started(box, name="other", models__key_file=key_file(box), **forwarding(fake))
    t = trainer(box, """\
        run = wbx.init(project="p", id="r", resume="allow")
        say(run.resumed, run.step, dict(run.config.items()), run.summary["best"])
        run.finish()
    """, socket=other.socket)
    t.expect_line("True 8 {'a': 1, 'b': {'c': [1, None]}} 3")
    assert t.wait() == 0


@test
def must_raises_when_w_and_b_has_no_such_run(box: Box) -> None:
    fake, daemon = sending(box)
    t = trainer(box, """\
        try:
            wbx.init(project="p", id="typo", resume="must")
        except wbx.UsageError as e:
            say(e)
        say(wbx.run)
    """, socket=daemon.socket)
    t.expect_line("run typo: resume=must, and W&B has no such run; a retry makes it")
    t.expect_line("None")
    assert t.wait() == 0
    until(lambda: daemon.store.query("SELECT state, parked FROM run") == [(4, None)], "it is over here")
    assert fake.run("typo") is None


@test
def never_raises_when_the_run_is_there(box: Box) -> None:
    fake, daemon = sending(box)
    lived(box, fake, daemon)
    t = trainer(box, """\
        try:
            wbx.init(project="p", id="r", resume="never")
        except wbx.UsageError as e:
            say(e)
        with wbx.init(project="p", id="fresh", resume="never") as run:
            run.log({"a": 1})
            say("fresh")
    """, socket=daemon.socket)
    t.expect_line("run r: resume=never, and the run exists; use another id, or resume=allow")
    t.expect_line("fresh")
    assert t.wait() == 0
    fake.await_run("fresh", "finished")
    assert len(fake.rows("r")) == 2


@test
def auto_goes_on_with_the_run_that_did_not_end_well(box: Box) -> None:
    fake, daemon = sending(box, daemon__gone_after="500ms")
    (box.dir / "work").mkdir()
    ids = []
    for life in range(6):
        t = trainer(box, """\
            os.chdir(sys.argv[1])
            run = wbx.init(project="p", resume="auto")
            say(run.id)
            run.log({"life": int(sys.argv[2])})
            run.flush()
            if sys.argv[2] == "0": os._exit(9)
            if sys.argv[2] == "1": raise ValueError("it ends so")
            if sys.argv[2] == "3": raise SystemExit(2)
            if sys.argv[2] == "4": sys.exit(0)  # without finish()
            run.finish()
        """, box.dir / "work", life, socket=daemon.socket, name=f"life{life}")
        ids.append(t.read_line().strip())
        t.wait()
    assert ids[0] == ids[1] == ids[2] != ids[3] == ids[4] != ids[5], ids
    until(lambda: daemon.store.query("SELECT state FROM run WHERE name = ?", ids[0]) == [(4,)], "the run is over")
    assert [own(r) for r in fake.rows(ids[0])] == [{"life": n} for n in range(3)]


@test
def with_the_link_down_a_resume_goes_on_and_says_so(box: Box) -> None:
    fake, daemon = sending(box)
    fake.stop()
    t = trainer(box, """\
        run = wbx.init(project="p", id="r", resume="allow")
        say("opened", run.url)
        run.log({"a": 1})
        run.finish()
    """, socket=daemon.socket)
    t.expect_line("opened None")
    assert t.wait() == 0
    assert "what is logged is kept" in said(box) and "wait for W&B" in said(box), said(box)
    fake.start()
    fake.await_run("r", "finished")


@test
def without_a_daemon_a_resume_goes_on(box: Box) -> None:
    t = trainer(box, """\
        run = wbx.init(project="p", id="r", resume="allow")
        run.log({"a": 1})
        say("done")
    """, socket=box.dir / "nobody.sock")
    t.expect_line("done")


@test
def stop_is_seen_and_raised_when_asked_for(box: Box) -> None:
    fake, daemon = sending(box, models__heartbeat="500ms")
    t = trainer(box, """\
        run = wbx.init(project="p", id="r", raise_on_stop=True)
        say("opened", run.stopped)
        hear()
        while not run.stopped:
            threading.Event().wait(0.01)
        try:
            run.log({"a": 1})
        except wbx.Stopped as e:
            say(e)
        run.log({"b": 1})
        run.finish()
    """, socket=daemon.socket)
    t.expect_line("opened False")
    fake.await_run("r", "running")
    fake.ask("/__run", {"run": f"{ENTITY}/p/r", "stopped": True})
    t.tell("go")
    t.expect_line("run r was stopped in W&B")
    assert t.wait() == 0
    fake.await_run("r", "finished")
    assert [own(r) for r in fake.rows("r")] == [{"a": 1}, {"b": 1}], "the row is kept before it is raised"
    assert "somebody pressed Stop for run r" in said(box)


@test
def the_last_word_says_what_w_and_b_has_and_silence_is_kept(box: Box) -> None:
    fake, daemon = sending(box)
    code = """\
        run = wbx.init(project="p", id=sys.argv[1])
        run.finish()
    """
    assert trainer(box, code, "loud", socket=daemon.socket).wait() == 0
    assert "run loud: " in said(box), said(box)
    fake.await_run("loud", "finished")
    assert trainer(box, code, "still", socket=daemon.socket, name="still", WANDB_SILENT="true").wait() == 0
    assert said(box, "still") == ""


main()
