"""Metrics on their way to W&B: everything that was logged arrives, once, and as it was logged."""
from __future__ import annotations

import math
from collections import Counter

from client import Client, greeted, now_us, opened, record
from ctl import Ctl
from daemon import Daemon, started
from tap import Box, main, test, until
from trainer import trainer
from wandb import KEY, Fake, forwarding, key_file, own, same


def sending(box: Box, *fake_args: str, **settings: object) -> tuple[Fake, Daemon]:
    """A fake W&B, and a daemon that has a key for it."""
    fake = Fake(box, *fake_args)
    return fake, started(box, models__key_file=key_file(box), **forwarding(fake, **settings))


def log_run(daemon: Daemon, run: str, count: int, **more: object) -> list[dict]:
    """A whole run through the socket, finished; gives what was logged."""
    rows = [{"n": i, "loss": 1 / (i + 1), "nested": {"a": i, "b": [i, "x"]}} for i in range(count)]
    with greeted(daemon.socket) as c:
        c.open_run(run, **more)
        for row in rows:
            c.send("log", run=run, t=now_us(), data=row)
        c.finish(run)
    return rows


def arrives(fake: Fake, run: str, rows: list[dict]) -> None:
    """The run ends there with exactly these rows, numbered from 0."""
    fake.await_run(run, "finished")
    got = fake.rows(run)
    assert [r["_step"] for r in got] == list(range(len(rows))), [r["_step"] for r in got]
    for have, want in zip(got, rows):
        assert same(own(have), want), f"{have} is not {want}"


def with_three_rows_there(fake: Fake, daemon: Daemon) -> Client:
    """A client whose run r has three rows at W&B."""
    client = opened(daemon.socket)
    client.log_many(3)
    client.flush()
    fake.await_rows("r", 3)
    return client


@test
def a_run_arrives_whole(box: Box) -> None:
    fake, daemon = sending(box)
    with greeted(daemon.socket) as c:
        c.open_run("r", name="a name", group="g", job_type="train", notes="n", tags=["x", "y"], host="h", program="t.py",
                   config={"lr": 1e-6, "model": {"name": "q", "layers": 3}, "list": [1, 2], "none": None, "nan": math.nan,
                           "empty": {}})
        data = {"a": 0.1, "b": -3, "c": True, "d": None, "e": "tschüß \U0001f600 \x01\"\\", "f": {"g": {"h": 2**60}},
                "i": [1, [2.5, "z"]], "nan": math.nan, "inf": [math.inf, -math.inf], "dot": {"ted": 1e300},
                "h": {"_type": "histogram", "values": [1, 2], "bins": [0.5, 1, 1.5]}}
        c.send("log", run="r", t=1_795_346_659_146_402, data=data)
        c.send("log", run="r", t=1_795_346_660_146_402, data={"a": 0.2})
        c.finish("r")
    run = fake.await_run("r", "finished")
    first, second = fake.rows("r")
    assert same(own(first), data), first
    assert first["_timestamp"] == 1795346659.146402 and first["_runtime"] >= 0 and first["_step"] == 0
    assert second["_step"] == 1 and own(second) == {"a": 0.2}
    assert fake.config("r") == {"lr": 1e-6, "model": {"name": "q", "layers": 3}, "list": [1, 2], "none": None, "nan": None,
                                "empty": {}}
    summary = fake.summary("r")
    assert summary["a"] == 0.2 and summary["b"] == -3 and math.isnan(summary["nan"]) and summary["_step"] == 1
    assert "d" not in summary, "a value of None makes no summary"
    assert run["displayName"] == "a name" and run["tags"] == ["x", "y"] and run["exitcode"] == 0
    assert [run[k] for k in ("groupName", "jobType", "notes", "host", "jobProgram")] == ["g", "train", "n", "h", "t.py"]
    fake.check()


@test
def many_rows_arrive_once_each_and_in_order(box: Box) -> None:
    fake, daemon = sending(box)
    rows = log_run(daemon, "many", 5000)
    arrives(fake, "many", rows)
    fake.check()


@test
def runs_go_side_by_side(box: Box) -> None:
    fake, daemon = sending(box)
    logged = {f"run{i}": log_run(daemon, f"run{i}", 50 + i) for i in range(12)}
    for run, rows in logged.items():
        arrives(fake, run, rows)
    fake.check()


@test
def without_a_key_everything_waits_and_with_one_it_goes(box: Box) -> None:
    fake = Fake(box)
    key = box.dir / "key"
    daemon = started(box, **forwarding(fake, models__key_file=key))
    rows = log_run(daemon, "r", 20)
    daemon.await_log('state="no key"')
    assert fake.requests() == []
    assert daemon.store.query("SELECT count(*) FROM line") == [(0,)], "nothing is planned that cannot be sent"
    key_file(box)  # found within seconds, without a word to the daemon
    arrives(fake, "r", rows)
    fake.check()


@test
def the_key_appears_nowhere(box: Box) -> None:
    fake = Fake(box, "--api-key", KEY)
    daemon = Daemon(box, **forwarding(fake), daemon__log_level="debug").start(WANDB_API_KEY=KEY)
    log_run(daemon, "r", 5)
    fake.await_run("r", "finished")
    pid = daemon.process.pid
    for name in ("environ", "cmdline"):
        with open(f"/proc/{pid}/{name}", "rb") as f:
            assert KEY.encode() not in f.read(), f"/proc/{pid}/{name} shows the key"
    daemon.stop()
    for path in [daemon.log_path, *daemon.dir.rglob("*")]:
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), f"{path} holds the key"
    fake.check()


@test
def producers_merge_their_explicit_steps(box: Box) -> None:
    fake, daemon = sending(box, models__merge_max="1h")
    ranks = []
    for rank in range(4):
        c = box.enter(greeted(daemon.socket, rank=rank))
        c.open_run("r")
        c.flush()
        ranks.append(c)
    for step in range(30):
        for rank, c in enumerate(ranks):
            c.send("log", run="r", t=now_us(), step=step * 2, data={f"rank{rank}": step, "shared": {str(rank): step}})
    for rank, c in enumerate(ranks):
        c.finish("r", 0 if rank != 2 else 3)
    run = fake.await_run("r", "failed")
    assert run["exitcode"] == 3, "the first code that is not 0 is the run's"
    rows = fake.rows("r")
    assert [r["_step"] for r in rows] == [s * 2 for s in range(30)]
    for step, row in enumerate(rows):
        assert own(row) == {f"rank{r}": step for r in range(4)} | {"shared": {str(r): step for r in range(4)}}
    fake.check()


@test
def a_trainer_that_logs_one_value_a_call_gets_one_row_a_step_if_it_wants(box: Box) -> None:
    fake, daemon = sending(box)
    t = trainer(box, """\
        run = wbx.init(project="p", id="r", merge_rows=True)
        run.define_metric("train/*", step_metric="train/global_step")
        def step(n):
            for section in ("generate", "logps", "loss"):
                run.log({f"profiling/{section}": n})
            for key in ("loss", "reward", "kl"):
                run.log({f"train/{key}": n, "train/global_step": n})
        for n in range(10):
            step(n)
        say("logged")
        hear()
        for n in range(10, 20):
            step(n)
        run.log({"last": 1}, commit=True)
        run.log({"end": 1})
        if (child := os.fork()) == 0:
            run.log({"child/a": 1})
            run.log({"child/b": 1})
            os._exit(0 if run.flush(30) else 1)
        assert os.waitpid(child, 0)[1] == 0
        run.finish()
    """, socket=daemon.socket)
    t.expect_line("logged")
    fake.await_rows("r", 9)  # the tenth may get more
    daemon.kill9()
    t.tell("go on")  # what it logs now waits in its journal, and is one row a step as well
    daemon.start()
    assert t.wait() == 0
    rows = [own(r) for r in fake.await_rows("r", 22)]
    assert rows[19].pop("last") == 1  # commit=True ends the row it is in
    for n, row in enumerate(rows[:20]):
        assert row == {f"profiling/{s}": n for s in ("generate", "logps", "loss")} | {f"train/{k}": n for k in ("loss", "reward", "kl", "global_step")}, row
    assert {"end": 1} in rows[20:] and {"child/a": 1, "child/b": 1} in rows[20:], rows[20:]
    fake.check(final=False)


@test
def metrics_that_are_defined_arrive_as_defined(box: Box) -> None:
    fake, daemon = sending(box)
    t = trainer(box, """\
        run = wbx.init(project="p", id="r")
        run.define_metric("gs")
        run.define_metric("train/*", step_metric="gs")
        run.define_metric("eval/acc", summary="max")
        for i, acc in enumerate([0.5, 0.9, 0.7]):
            run.log({"gs": i * 10, "eval/acc": acc})
            run.log({"train/loss": i})
        run.summary["mine"] = 1
        run.finish()
    """, socket=daemon.socket)
    assert t.wait() == 0
    fake.await_run("r", "finished")
    rows = fake.rows("r")
    assert [own(r) for r in rows[:2]] == [{"gs": 0, "eval/acc": 0.5}, {"train/loss": 0, "gs": 0}]
    assert own(rows[5]) == {"train/loss": 2, "gs": 20}
    summary = fake.summary("r")
    assert summary["eval/acc"] == {"max": 0.9} and summary["mine"] == 1 and summary["train/loss"] == 2
    raw = fake.ask("/__config?run=wbx-team/p/r&raw=1")
    assert raw["_wandb"]["value"]["m"] == [{"1": "gs", "6": [3], "7": []}, {"2": "train/*", "5": 1, "6": [1], "7": []},
                                           {"1": "eval/acc", "6": [3], "7": [2]}]
    fake.check()


@test
def config_tags_and_summary_may_change_in_between(box: Box) -> None:
    fake, daemon = sending(box)
    with greeted(daemon.socket) as c:
        c.open_run("r", config={"a": 1, "gone": 2}, tags=["first"])
        c.log("r")
        c.flush()
        fake.await_rows("r", 1)
        fake.ask("/__run", {"run": "wbx-team/p/r", "tags": ["first", "by-hand"]})
        c.send("config", run="r", t=now_us(), data={"b": {"c": 3}}, remove=["gone"])
        c.send("tags", run="r", t=now_us(), add=["second"], remove=["first"])
        c.send("summary", run="r", t=now_us(), data={"best": {"x": 1, "y": 2}})
        c.send("summary", run="r", t=now_us(), remove=[["best", "y"]])
        c.finish("r")
    run = fake.await_run("r", "finished")
    assert fake.config("r") == {"a": 1, "b": {"c": 3}}
    assert sorted(run["tags"]) == ["by-hand", "second"], "tags made in the browser stay"
    assert fake.summary("r")["best"] == {"x": 1}
    fake.check()


@test
def a_run_with_a_table_lives_until_that_is_there(box: Box) -> None:
    fake, daemon = sending(box, models__heartbeat="500ms")
    broken = fake.fault({"kind": "storage"}, {"status": 503}, count=-1)
    t = trainer(box, """\
        run = wbx.init(project="p", id="r")
        run.log({"loss": 1, "rollouts": wbx.Table(columns=["p", "r"], data=[["x", 1.5], ["y", None]])})
        run.log({"loss": 2})
        run.finish()
    """, socket=daemon.socket)
    assert t.wait() == 0
    first, second = fake.await_rows("r", 2)
    table = first["rollouts"]
    assert table["_type"] == "table-file" and table["ncols"] == 2 and table["nrows"] == 2
    assert table["path"] == f"media/table/rollouts_0_{table['sha256'][:20]}.table.json"
    assert table["artifact_path"].startswith("wandb-client-artifact://") and table["log_mode"] == "IMMUTABLE"
    assert own(second) == {"loss": 2}
    until(lambda: fake.run("r")["heartbeats"] >= 3, "heartbeats go on")
    assert fake.run("r")["state"] == "running"
    assert daemon.store.query("SELECT state FROM run") == [(3,)], "finishing"
    assert daemon.store.query("SELECT key FROM upload") == [("rollouts",)]
    fake.await_hits(broken)
    fake.clear_faults()
    fake.await_run("r", "finished")
    [table] = fake.ask("/__tables?run=wbx-team/p/r")
    assert table["data"] == [["x", 1.5], ["y", None]] and table["source"] == "file"


@test
def a_run_lives_by_heartbeats(box: Box) -> None:
    fake, daemon = sending(box, models__heartbeat="500ms")
    with opened(daemon.socket) as c:
        until(lambda: fake.run("r") and fake.run("r")["heartbeats"] >= 3, "three heartbeats")
        c.finish("r")
        fake.await_run("r", "finished")
    fake.check()


@test
def a_record_for_a_done_run_opens_it_again(box: Box) -> None:
    fake, daemon = sending(box)
    log_run(daemon, "r", 3)
    fake.await_run("r", "finished")
    with opened(daemon.socket) as c:
        c.log("r")
        c.flush()
        fake.await_rows("r", 4)
        assert fake.run("r")["state"] == "running"
        c.finish("r", 1)
    fake.await_run("r", "failed")
    assert [r["_step"] for r in fake.rows("r")] == [0, 1, 2, 3]
    fake.check()


@test
def a_killed_trainer_s_run_ends_as_failed(box: Box) -> None:
    fake, daemon = sending(box, daemon__gone_after="1s")
    t = trainer(box, """\
        run = wbx.init(project="p", id="r")
        for i in range(100):
            run.log({"i": i})
        say("logged")
        hear()
    """, socket=daemon.socket)
    t.expect_line("logged")
    t.kill9()
    run = fake.await_run("r", "failed")
    assert run["exitcode"] == 137
    assert [own(r) for r in fake.rows("r")] == [{"i": i} for i in range(100)]
    fake.check()


@test
def clients_without_a_journal_that_are_gone_at_once_end_their_runs_too(box: Box) -> None:
    fake, daemon = sending(box, daemon__gone_after="1s")
    for i in range(20):
        with Client(daemon.socket) as c:
            c.send_bytes(record("hello", 0, v=1, producer=c.producer, pid=1) + record("run", 1, run=f"r{i}", project="p", t=now_us()) +
                         record("log", 2, run=f"r{i}", t=now_us(), data={"a": 1}))
    for i in range(20):
        fake.await_run(f"r{i}", "failed")
    fake.check()


@test
def more_runs_than_requests_at_a_time_all_live_by_heartbeats(box: Box) -> None:
    fake, daemon = sending(box, models__heartbeat="500ms", models__requests_per_s=1000)
    runs = [f"r{i}" for i in range(24)]
    with greeted(daemon.socket) as c:
        for run in runs:
            c.open_run(run)
            c.log(run)
        c.flush()
        for run in runs:
            fake.await_rows(run, 1)
        fake.fault({"kind": "filestream"}, {"delay": 0.1}, count=-1)
        seen = max(e["seq"] for e in fake.requests())

        def heartbeats() -> Counter:
            return Counter(e["path"].split("/")[-2] for e in fake.requests("filestream") if e["seq"] > seen)

        until(lambda: all(heartbeats()[run] >= 3 for run in runs), "three heartbeats of every run")


@test
def a_run_that_w_and_b_has_already_is_gone_on_with_and_not_written_over(box: Box) -> None:
    fake, daemon = sending(box)
    fake.ask("/__run", {"run": "wbx-team/p/r", "create": True,
                        "foreign_rows": [{"_step": s, "_timestamp": 1, "_runtime": 1, "x": s} for s in range(5)]})
    rows = log_run(daemon, "r", 3)
    fake.await_run("r", "finished")
    got = fake.rows("r")
    assert [r["_step"] for r in got] == list(range(8))
    assert [own(r) for r in got[5:]] == rows
    fake.check()


@test
def rows_that_somebody_else_added_meanwhile_are_not_written_over(box: Box) -> None:
    fake, daemon = sending(box)
    client = with_three_rows_there(fake, daemon)
    until(lambda: daemon.store.query("SELECT done_offset FROM run") == [(3,)], "the daemon knows that they are there")
    daemon.kill9()
    fake.ask("/__run", {"run": "wbx-team/p/r", "foreign_rows": [{"_step": s, "_timestamp": 1, "_runtime": 1, "x": s} for s in (3, 4)]})
    daemon.start()
    with greeted(daemon.socket, client.producer) as client:
        client.log_many(2)
        client.finish("r")
    fake.await_run("r", "finished")
    assert [r["_step"] for r in fake.rows("r")] == list(range(7))
    assert [r["x"] for r in fake.rows("r")[3:5]] == [3, 4]
    daemon.await_log("somebody else wrote")
    fake.check()


@test
def rows_whose_answer_was_lost_with_the_daemon_are_there_once(box: Box) -> None:
    fake, daemon = sending(box)
    with with_three_rows_there(fake, daemon) as client:
        fault = fake.fault({"kind": "filestream", "body": "wandb-history"}, {"hang": 60})
        client.log_many(4)
        client.flush()
        fake.await_rows("r", 7)
        fake.await_hits(fault)
        daemon.kill9()
    daemon.start()
    with greeted(daemon.socket, client.producer) as client:
        client.log_many(2)
        client.finish("r")
    fake.await_run("r", "finished")
    assert [r["_step"] for r in fake.rows("r")] == list(range(9))
    assert "somebody else wrote" not in daemon.log()
    fake.check()


@test
def a_run_that_w_and_b_has_lost_is_parked_and_told(box: Box) -> None:
    fake, daemon = sending(box)
    client = with_three_rows_there(fake, daemon)
    daemon.kill9()
    fake.ask("/__reset", {})
    daemon.start()
    with greeted(daemon.socket, client.producer) as client:
        client.log_many(2)
        client.flush()
    daemon.await_log("parked: W&B has no such run any more")
    assert fake.run("r") is None


@test
def a_late_row_stays_here_and_takes_no_other_row_s_step(box: Box) -> None:
    fake, daemon = sending(box)
    with opened(daemon.socket) as c:
        for step in (0, 1, 2, 10, 1, 11):
            c.send("log", run="r", t=now_us(), step=step, data={"v": step, "seq": c.seq})
            c.flush()
            if step == 2:
                fake.await_rows("r", 2)
            if step == 10:
                fake.await_rows("r", 3)
        c.send("log", run="r", t=now_us(), step=2, data={"v": "too late"})
        c.finish("r")
    fake.await_run("r", "finished")
    rows = fake.rows("r")
    assert [(r["_step"], r["v"]) for r in rows] == [(0, 0), (1, 1), (2, 2), (3, 1), (10, 10), (11, 11)], rows
    fake.check()
    ctl = Ctl(daemon)
    [late] = ctl.lines("late", "list")
    assert late["body"]["step"] == 2 and late["body"]["data"] == {"v": "too late"}, late
    assert ctl.lines("late", "list", "--run", "other") == []
    assert "late list" in ctl("status")
    ctl("late", "drop", "other", code=65)
    assert ctl("late", "drop", "wbx-team/p/r") == "late rows given up: 1\n"
    assert ctl("late", "list") == "no late rows\n" and ctl.lines("late", "list") == [] and "late list" not in ctl("status")


main()
