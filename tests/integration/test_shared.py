"""W&B's shared mode: writers on several machines log metrics to one run, each in a line space of its own."""
from __future__ import annotations

import json
import textwrap
import uuid
from typing import Any

from client import Client, greeted, now_us
from ctl import Ctl
from daemon import Daemon, started
from delivery import some_rows
from process import Process, clean_env
from sdk import sdk_python
from tap import FULL, Box, Skip, main, test, until
from trainer import trainer
from wandb import ENTITY, KEY, Fake, forwarding, key_file, own

PRIMARY = {"shared": True, "label": "one", "primary": True, "update_finish_state": True}
SECOND = {"shared": True, "label": "two", "primary": False, "update_finish_state": False}


def node(box: Box, fake: Fake, name: str, **more: Any) -> Daemon:
    """The daemon of one of several machines."""
    return started(box, name=name, models__key_file=key_file(box), models__requests_per_s=0, **forwarding(fake, **more))


def log_rows(c: Client, rows: list[dict]) -> None:
    for row in rows:
        c.send("log", run="r", t=now_us(), data=row)


def await_end(daemon: Daemon) -> None:
    until(lambda: daemon.store.query("SELECT state, parked FROM run") == [(4, None)], f"{daemon.name} has told all")


def spaces(fake: Fake, kind: str = "history") -> dict[str, list[dict]]:
    """Lines of each writer, in the order of their offsets, which have no gap. Ours begin with 0; the SDK's (0.31.0) with the run's count of lines
    when it came, as it is in the answer to its upsert."""
    found: dict[str, list[dict]] = {}
    run = fake.run("r")
    for one in (run or {kind: []})[kind]:
        at = one["offset"]
        assert isinstance(at, dict), f"a line that is no shared writer's: {one}"
        found.setdefault(at["client"], []).append((at["offset"], one["line"]))
    for lines in found.values():
        lines.sort(key=lambda line: line[0])
        first = lines[0][0] if any("sdk" in line for _, line in lines) else 0
        assert [at for at, _ in lines] == list(range(first, first + len(lines))), lines
    return {client: [line for _, line in lines] for client, lines in found.items()}


def rows_of(fake: Fake, key: str) -> list[dict]:
    """Rows of the one writer who logs this key; their steps count them."""
    [lines] = [lines for lines in spaces(fake).values() if any(key in line for line in lines)]
    assert [line["_step"] for line in lines] == list(range(len(lines)))
    return [own(line) for line in lines]


def requests(fake: Fake, kind: str) -> list[tuple[dict[str, str], dict]]:
    """Of a run: W&B's headers and the body."""
    return [({k.lower(): v for k, v in e["headers"].items() if k.lower().startswith("x-wandb-")}, e["body"]) for e in fake.ask("/__log")
            if e["kind"] == kind and e.get("op") not in ("WbxViewer", "WbxVerify")]


def writers(fake: Fake) -> set[str]:
    """The ids that requests came with; each of them had one."""
    found = [headers["x-wandb-client-id"] for headers, _ in requests(fake, "graphql")]
    found += [headers["x-wandb-async-client-id"] for headers, _ in requests(fake, "filestream")]
    assert all(headers["x-wandb-use-async-filestream"] == "true" for kind in ("graphql", "filestream") for headers, _ in requests(fake, kind))
    assert all(uuid.UUID(writer).version == 7 for writer in found)
    return set(found)


@test
def two_machines_that_log_at_once_are_in_nobody_s_way(box: Box) -> None:
    fake = Fake(box)
    first, second = node(box, fake, "first", models__self_report="1s"), node(box, fake, "second")
    with greeted(first.socket) as one, greeted(second.socket) as two:
        one.open_run("r", config={"a": 1}, tags=["x"], **PRIMARY)
        two.open_run("r", config={"b": 2}, tags=["y"], **SECOND)
        for n in range(20):
            log_rows(one, [{"one": n}])
            log_rows(two, [{"two": n}, {"two": 100 + n}])
            two.send("stats", run="r", t=now_us(), data={"cpu": n}, label="two")
            if n % 5 == 0:
                one.flush()
                two.flush()
        two.send("output", run="r", t=now_us(), stream="stdout", text="said\n", label="two")
        two.finish("r", 3)
        await_end(second)
        run = fake.run("r")
        assert run and run["state"] == "running", "who has update_finish_state=False says nothing of the end"
        one.finish("r")
    fake.await_run("r", "finished")
    await_end(first)
    assert rows_of(fake, "one") == [{"one": n} for n in range(20)]
    assert rows_of(fake, "two") == [{"two": n + more} for n in range(20) for more in (0, 100)]
    assert fake.config("r") == {"a": 1, "b": 2} and sorted(fake.run("r")["tags"]) == ["x", "y"]
    keys = {key for line in fake.events("r") for key in line if key.startswith("system.")}
    assert "system.cpu/l:two" in keys and all("/l:" in key for key in keys), keys
    [said] = [json.loads(line) for line in fake.console("r")]
    assert said["label"] == "two" and said["content"] == "said"
    summaries = [body["files"]["wandb-summary.json"]["content"][0] for _, body in requests(fake, "filestream") if "wandb-summary.json" in body.get("files", {})]
    assert any('"wbx/complete/l:one":true' in text for text in summaries), summaries
    t = fake.config("r", raw=True)["_wandb"]["value"]["t"]
    assert t["3"] == [67, 69], t
    for daemon in (first, second):
        verified = Ctl(daemon).run("verify", "r")
        assert verified.code == 0 and "all writers" in verified.out, verified
    assert writers(fake) == set(spaces(fake))
    fake.check()


@test
def rows_of_both_are_there_once_whatever_is_cut_and_killed(box: Box) -> None:
    fake = Fake(box)
    daemons = [node(box, fake, name, models__heartbeat="1s") for name in ("first", "second")]
    clients = [greeted(d.socket) for d in daemons]
    told = [0, 0]
    for i, c in enumerate(clients):
        c.open_run("r", config={f"c{i}": i}, **(SECOND if i else PRIMARY))
        c.flush()
    faults = ({"reset": "after"}, {"reset": "before"}, {"status": 503}, {"hang": 60}, {"truncate": 3}, {"garbage": True})
    for life, then in enumerate(faults):
        fault = fake.fault({"kind": "filestream", "body": "wandb-history"}, then, count=2)
        for i, c in enumerate(clients):
            log_rows(c, [{f"w{i}": told[i] + n} for n in range(5)])
            told[i] += 5
            c.flush()
        fake.await_hits(fault)
        for i in ((0, 1), (life % 2,))[life % 3 > 0]:
            daemons[i].kill9()
            daemons[i].start()
            clients[i].close()
            clients[i] = greeted(daemons[i].socket, clients[i].producer)
        fake.clear_faults()
    for i in (1, 0):
        clients[i].finish("r")
        await_end(daemons[i])
        clients[i].close()
    fake.await_run("r", "finished")
    for i in range(2):
        assert rows_of(fake, f"w{i}") == [{f"w{i}": n} for n in range(told[i])]
    assert len(fake.run("r")["clients"]) == 2, "a writer keeps its id over its restarts"
    assert fake.config("r") == {"c0": 0, "c1": 1}
    fake.check()


@test
def what_is_said_of_the_run_at_the_same_moment_is_all_there(box: Box) -> None:
    fake = Fake(box)
    fake.fault({"kind": "graphql", "op": "WbxUpsertRun"}, {"delay": 0.3}, count=2)  # both have read before either has written
    first, second = node(box, fake, "first"), node(box, fake, "second")
    with greeted(first.socket) as one, greeted(second.socket) as two:
        one.open_run("r", config={"a": 1}, tags=["x"], **PRIMARY)
        two.open_run("r", config={"b": 2}, tags=["y"], **SECOND)
        one.flush()
        two.flush()
        until(lambda: fake.run("r") and fake.config("r") == {"a": 1, "b": 2} and sorted(fake.run("r")["tags"]) == ["x", "y"], "what both said")
        two.finish("r")
        await_end(second)
        one.finish("r")
    fake.await_run("r", "finished")
    fake.check()


@test
def the_steps_of_a_shared_run_count_its_rows_alone(box: Box) -> None:
    fake = Fake(box)
    first = node(box, fake, "first")
    with greeted(first.socket) as c, greeted(first.socket) as rank:
        c.open_run("r", **PRIMARY)
        rank.open_run("r")  # of the same machine: through the same writer
        c.send("log", run="r", t=now_us(), data={"n": 0}, step=70)
        c.send("log", run="r", t=now_us(), data={"n": 1}, step=5)
        c.send("log", run="r", t=now_us(), data={"n": 2}, commit=False)
        c.send("log", run="r", t=now_us(), data={"m": 2})
        c.flush()
        rank.send("log", run="r", t=now_us(), data={"n": 3}, step=70)
        rank.finish("r")
        c.finish("r")
    fake.await_run("r", "finished")
    assert rows_of(fake, "n") == [{"n": 0}, {"n": 1}, {"n": 2, "m": 2}, {"n": 3}]
    Ctl(first).await_healthy()
    fake.check()


@test
def with_a_derived_summary_only_what_was_set_by_hand_is_sent(box: Box) -> None:
    fake = Fake(box)
    first = node(box, fake, "first")
    with greeted(first.socket) as c:
        c.open_run("r", derived_summary=True, **PRIMARY)
        log_rows(c, some_rows(3))
        c.flush()
        fake.await_rows("r", 3)
        assert not fake.run("r")["summary_lines"]
        c.send("summary", run="r", t=now_us(), data={"best": 7})
        c.finish("r")
    fake.await_run("r", "finished")
    assert fake.summary("r") == {"best": 7}
    for kind in ("graphql", "filestream"):
        assert all(headers["x-wandb-server-side-derived-summary"] == "true" for headers, _ in requests(fake, kind))
    fake.check()


@test
def a_run_that_w_and_b_lost_begins_anew(box: Box) -> None:
    fake = Fake(box)
    first = node(box, fake, "first")
    with greeted(first.socket) as c:
        c.open_run("r", **PRIMARY)
        log_rows(c, some_rows(3))
        c.flush()
        fake.await_rows("r", 3)
        until(lambda: first.store.query("SELECT done_offset FROM run") == [(3,)], "they are confirmed")
        fake.ask("/__reset", {})
        log_rows(c, some_rows(2, 3))
        first.await_log("parked:")
        Ctl(first)("retry", "--run", "r")
        fake.await_rows("r", 2)
        c.finish("r")
    fake.await_run("r", "finished")
    [lines] = spaces(fake).values()
    assert [(line["n"], line["_step"]) for line in lines] == [(3, 3), (4, 4)]


# -- with those who do not share

@test
def who_does_not_share_a_shared_run_waits_for_a_person(box: Box) -> None:
    fake = Fake(box)
    first, second = node(box, fake, "first"), node(box, fake, "second")
    with greeted(first.socket) as one, greeted(second.socket) as two:
        one.open_run("r", config={"a": 1}, **PRIMARY)
        log_rows(one, some_rows(2))
        one.flush()
        fake.await_rows("r", 2)
        two.open_run("r", config={"b": 2})
        log_rows(two, some_rows(2, 100))
        two.finish("r")
        second.await_log("parked: W&B has this run in shared mode, and it was opened here without")
        assert len(fake.rows("r")) == 2 and fake.config("r") == {"a": 1}
        Ctl(second)("retry", "--run", "r")
        fake.await_rows("r", 4)
        await_end(second)
        one.finish("r")


@test
def who_shares_a_run_of_an_ordinary_writer_waits_for_a_person(box: Box) -> None:
    fake = Fake(box)
    first, second = node(box, fake, "first"), node(box, fake, "second")
    with greeted(first.socket) as one, greeted(second.socket) as two:
        one.open_run("r", config={"a": 1})
        log_rows(one, some_rows(2))
        one.flush()
        fake.await_rows("r", 2)
        two.open_run("r", config={"b": 2}, **SECOND)
        log_rows(two, some_rows(2, 100))
        two.finish("r")
        second.await_log("parked: opened in shared mode, and W&B has this run of a writer who does not share")
        assert len(fake.rows("r")) == 2 and fake.config("r") == {"a": 1}
        Ctl(second)("retry", "--run", "r")
        fake.await_rows("r", 4)
        await_end(second)
        one.finish("r")


@test
def a_process_that_would_share_what_began_without_stops_it(box: Box) -> None:
    fake = Fake(box)
    first = node(box, fake, "first")
    with greeted(first.socket) as one, greeted(first.socket) as two:
        one.open_run("r")
        log_rows(one, some_rows(2))
        one.flush()
        fake.await_rows("r", 2)
        two.open_run("r", **PRIMARY)
        two.flush()
        first.await_log("parked: a process opens it in shared mode, and it had begun without")
        log_rows(two, some_rows(1, 2))
        two.finish("r")
        Ctl(first)("retry", "--run", "r")
        fake.await_rows("r", 3)
        one.finish("r")
    fake.await_run("r", "finished")
    assert [r["n"] for r in fake.rows("r")] == [0, 1, 2] and not fake.run("r")["clients"]
    fake.check()


@test
def who_attaches_to_a_shared_run_from_elsewhere_shares_it(box: Box) -> None:
    fake = Fake(box)
    first, judges = node(box, fake, "first"), node(box, fake, "judges")
    with greeted(first.socket) as one, greeted(judges.socket) as two:
        one.open_run("r", config={"a": 1}, **PRIMARY)
        log_rows(one, [{"one": 0}])
        one.flush()
        fake.await_rows("r", 1)
        two.send("attach", run="r", t=now_us(), project="p", entity=ENTITY)
        for n in range(3):
            log_rows(two, [{"judged": n}])
            log_rows(one, [{"one": 1 + n}])
            two.flush()
            one.flush()
        fake.await_rows("r", 7)
        two.finish("r", 5)
        await_end(judges)
        one.finish("r")
    run = fake.await_run("r", "finished")
    assert rows_of(fake, "one") == [{"one": n} for n in range(4)] and rows_of(fake, "judged") == [{"judged": n} for n in range(3)]
    assert run["exitcode"] == 0
    fake.check()


# -- from Python

@test
def the_python_package_takes_the_options_by_the_sdk_s_names(box: Box) -> None:
    fake = Fake(box)
    first, second = node(box, fake, "first"), node(box, fake, "second")
    code = """
        settings = dict(mode="shared", x_label="two", x_primary=False, x_update_finish_state=False)
        run = wbx.init(project="p", id="r", settings=settings) if sys.argv[1] == "two" else wbx.init(project="p", id="r", mode="shared", x_label="one")
        for n in range(3):
            run.log({sys.argv[1]: n}, step=10 * n)
        print("printed by", sys.argv[1])
        say("logged")
        hear()
        run.finish()
    """
    one = trainer(box, code, "one", socket=first.socket, name="one", WBX_FILES="on")
    two = trainer(box, code, "two", socket=second.socket, name="two", WBX_FILES="on")
    for t in (one, two):
        t.expect_line("logged")
    two.tell("end")
    await_end(second)
    one.tell("end")
    fake.await_run("r", "finished")
    for name in ("one", "two"):
        assert rows_of(fake, name) == [{name: n} for n in range(3)]
    said = {json.loads(line)["label"]: json.loads(line)["content"] for line in fake.console("r") if "printed by" in line}
    assert said == {"one": "printed by one", "two": "printed by two"}
    until(lambda: first.store.rows(kind="file"), "the run's own files")
    assert not second.store.rows(kind="file"), "they are the primary's affair"
    assert "left out of account" in box.log_file("one.err").read_text()
    fake.check()


SDK_WRITER = """
    import sys, wandb
    s = wandb.Settings(mode="shared", x_label="sdk", x_primary=False, x_update_finish_state=False, x_disable_stats=True, console="off")
    run = wandb.init(project="p", entity="wbx-team", id="r", settings=s, config={"sdk": 1})
    for n in range(int(sys.argv[1])):
        run.log({"sdk": n})
    run.finish()
"""


@test
def the_sdk_in_shared_mode_and_wbx_write_one_run(box: Box) -> None:
    if not FULL:
        raise Skip("./dev test --full runs the wandb SDK")
    fake = Fake(box)
    first = node(box, fake, "first")
    script = box.dir / "sdk.py"
    script.write_text(textwrap.dedent(SDK_WRITER))
    with greeted(first.socket) as c:
        c.open_run("r", config={"a": 1}, **PRIMARY)
        log_rows(c, [{"one": n} for n in range(10)])
        c.flush()
        fake.await_rows("r", 10)
        sdk = Process(box, [sdk_python(), script, "20"], log=box.log_file("sdk.log"),
                      env=clean_env(HOME=str(box.dir), WANDB_BASE_URL=fake.url, WANDB_API_KEY=KEY, WANDB_DIR=str(box.dir), WANDB_SILENT="true"))
        for n in range(10, 30):
            log_rows(c, [{"one": n}])
            c.flush()
            if n == 20:
                first.kill9()
                first.start()
                c.close()
                c = greeted(first.socket, c.producer)
        assert sdk.wait(120) == 0
        c.finish("r")
    fake.await_run("r", "finished")
    assert rows_of(fake, "one") == [{"one": n} for n in range(30)] and rows_of(fake, "sdk") == [{"sdk": n} for n in range(20)]
    assert fake.config("r")["a"] == 1
    fake.check(warnings=("unknown path",))  # the SDK's own telemetry


main()
