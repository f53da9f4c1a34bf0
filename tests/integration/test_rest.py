"""What goes beside the history: console output, system metrics, alerts. All of it arrives, once, in order, behind what is there."""
from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

from client import Client, greeted, now_us
from ctl import Ctl
from daemon import Daemon
from delivery import Logged, log_whole, sending, some_rows, steered
from process import BUILD, build_option, clean_env
from tap import Box, Skip, main, test, until
from trainer import trainer
from wandb import Fake

ENDINGS = 12
T0 = 1_795_346_659_146_402  # 2026-11-22T11:24:19.146402


def say(c: Client, text: str, run: str = "r", stream: str = "stdout", **more: Any) -> None:
    c.send("output", **({"run": run, "t": now_us(), "stream": stream, "text": text} | more))


def is_empty(ctl: Ctl) -> None:
    """Nothing waits any more, and the counters know it."""
    until(lambda: ctl.sink()["waiting"] == 0, "nothing waits")
    assert ctl.lines("backlog") == []


# -- console

@test
def output_arrives_line_by_line(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(2))
        say(c, "hello\nhalf", t=T0)
        say(c, " a line\n\nbad news\n", t=T0 + 1_000_000)
        say(c, "Traceback\n", stream="stderr", t=T0 + 2_000_000)
        say(c, "of rank 3\n", label="rank3", t=T0 + 2_000_000)
        say(c, "\x1b[31mtsch\u00fcss \u6f22\u5b57 \x00\"\\\x1b[0m\r\n", t=T0 + 2_000_000)
        run.finish(c)
    run.is_delivered(fake)
    lines = [json.loads(line) for line in fake.console("r")]
    assert lines == [
        {"ts": "2026-11-22T11:24:19.146402", "content": "hello"},
        {"ts": "2026-11-22T11:24:19.146402", "content": "half a line"},
        {"ts": "2026-11-22T11:24:20.146402", "content": ""},
        {"ts": "2026-11-22T11:24:20.146402", "content": "bad news"},
        {"level": "error", "ts": "2026-11-22T11:24:21.146402", "content": "Traceback"},
        {"ts": "2026-11-22T11:24:21.146402", "label": "rank3", "content": "of rank 3"},
        {"ts": "2026-11-22T11:24:21.146402", "content": "\x1b[31mtsch\u00fcss \u6f22\u5b57 \x00\"\\\x1b[0m"},
    ], lines
    is_empty(ctl)
    fake.check()


@test
def a_server_without_the_feature_gets_plain_lines(box: Box) -> None:
    fake = Fake(box)
    fake.ask("/__feature", {"STRUCTURED_CONSOLE_LOGS": False})
    fake, daemon = sending(box, fake=fake)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c)
        say(c, "a \"b\"\n", t=T0)
        say(c, "c\n", t=T0, stream="stderr", label="rank 1")
        run.finish(c)
    run.is_delivered(fake)
    assert fake.console("r") == ["2026-11-22T11:24:19.146402 a \"b\"", "ERROR 2026-11-22T11:24:19.146402 [rank 1] c"]
    fake.check()


@test
def what_the_server_announces_is_asked_for_once(box: Box) -> None:
    fake, daemon = sending(box)
    with greeted(daemon.socket) as c:
        quiet = Logged("quiet").open(c).log(c, *some_rows(1)).finish(c)
        quiet.is_delivered(fake)
        assert not [e for e in fake.ask("/__log") if e.get("op") == "WbxFeatures"], "nobody has asked for it"
        for name in ("a", "b"):
            run = Logged(name).open(c)
            say(c, "x\n", name)
            run.finish(c).is_delivered(fake)
    assert len([e for e in fake.ask("/__log") if e.get("op") == "WbxFeatures"]) == 1
    fake.check()


@test
def a_server_that_does_not_know_the_question_gets_plain_lines(box: Box) -> None:
    fake = Fake(box)
    fake.ask("/__feature", {"STRUCTURED_CONSOLE_LOGS": False})
    fake.fault({"kind": "graphql", "op": "WbxFeatures"}, {"gql_errors": [{"message": "no field serverInfo"}]}, count=-1)
    fake, daemon = sending(box, fake=fake)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(3))
        say(c, "x\n", t=T0)
        run.finish(c)
    run.is_delivered(fake)
    assert fake.console("r") == ["2026-11-22T11:24:19.146402 x"]
    fake.check()


@test
def output_that_comes_with_the_end_is_not_left_behind_by_it(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    names = [f"r{n}" for n in range(ENDINGS)]
    with greeted(daemon.socket) as c:
        for name in names:
            run = Logged(name).open(c)
            for n in range(20):  # the run is planned on and on, between two looks for what else there is
                run.log(c, *some_rows(10, 10 * n))
                c.flush()
            say(c, "x\n", run=name, t=T0)
            run.finish(c)
    for name in names:
        fake.await_run(name, "finished")
        until(lambda: fake.contents(name) == ["x"], "its line is there")
    until(lambda: ctl.status()["runs"]["done"] == ENDINGS, "all are over")
    ends = [e["path"].split("/")[-2] for e in fake.ask("/__log") if e["kind"] == "filestream" and e["body"].get("complete")]
    assert sorted(ends) == sorted(names), f"each has ended once: {ends}"
    fake.check()


@test
def a_line_that_has_not_ended_is_shown_and_rewritten(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c)
        for percent in (0, 50):
            say(c, f"\r{percent:3}%|", stream="stderr")
            until(lambda: fake.contents("r") == [f"{percent:3}%|"], f"the bar is at {percent}")
        say(c, "printed\n")
        until(lambda: fake.contents("r") == ["printed", " 50%|"], "what is printed stands above the bar")
        is_empty(ctl)
        say(c, "\r100%|", stream="stderr")
        run.finish(c)
    run.is_delivered(fake)
    assert fake.contents("r") == ["printed", "100%|"]
    is_empty(ctl)
    fake.check()


@test
def text_without_a_newline_outlives_its_process_and_the_daemon(box: Box) -> None:
    fake, daemon = sending(box, daemon__gone_after="300ms")
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(1))
        say(c, "last words")
        c.flush()
        until(lambda: fake.contents("r") == ["last words"], "they are shown")
        daemon.kill9()
    daemon.start()  # its client does not come back: it was killed, too
    fake.await_run("r", "failed")
    assert fake.contents("r") == ["last words"]
    run.is_held(fake)
    fake.check()


@test
def lines_of_many_processes_are_not_mixed(box: Box) -> None:
    fake, daemon = sending(box)
    with greeted(daemon.socket) as a, greeted(daemon.socket) as b:
        for c in (a, b):
            c.open_run("r")
        say(a, "a1 ")
        say(b, "b1 ")
        say(a, "a2\n")
        say(b, "b2\n")
        for c in (a, b):
            c.finish("r")
    fake.await_run("r", "finished")
    assert sorted(fake.contents("r")) == ["a1 a2", "b1 b2"]
    fake.check()


@test
def a_flood_of_output_does_not_delay_rows(box: Box) -> None:
    fake, daemon, ctl = steered(box, models__bytes_per_s="2M")
    lines = [f"{i:06} " + "x" * 90 for i in range(40_000)]
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c)
        for i in range(0, len(lines), 8000):
            say(c, "\n".join(lines[i:i + 8000]) + "\n")
        c.flush()
        until(lambda: fake.console("r"), "the flood has begun")
        run.log(c, *some_rows(5))
        c.flush()
        fake.await_rows("r", 5)
        assert len(fake.console("r")) < len(lines), "rows have passed the output"
        run.finish(c)
    run.is_delivered(fake)
    assert fake.contents("r") == lines
    is_empty(ctl)
    fake.check()


# -- system metrics

@test
def system_metrics_arrive_as_events(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        run = Logged("r")
        c.send("run", run="r", t=T0, project="p", config=run.config)
        c.send("stats", run="r", t=T0 + 1_500_000, data={"cpu": 12.5, "gpu": {"0": {"temp": 60}, "1": {"temp": 61}}})
        c.send("stats", run="r", t=T0 + 2_500_000, data={"cpu": 1, "disk./.usageGB": 2}, label="node1")
        run.finish(c)
    run.is_delivered(fake)
    assert fake.events("r") == [
        {"_wandb": True, "_timestamp": (T0 + 1_500_000) / 1e6, "_runtime": 1.5, "system.cpu": 12.5, "system.gpu.0.temp": 60,
         "system.gpu.1.temp": 61},
        {"_wandb": True, "_timestamp": (T0 + 2_500_000) / 1e6, "_runtime": 2.5, "system.cpu/l:node1": 1,
         "system.disk./.usageGB/l:node1": 2},
    ], fake.events("r")
    is_empty(ctl)
    fake.check()


@test
def wbxcat_takes_system_metrics(box: Box) -> None:
    fake, daemon = sending(box)
    cat = subprocess.run([BUILD / "client/wbxcat", "-p", "p", "--id", "r", "--socket", daemon.socket],
                         input=b'{"a":1}\n{"_kind":"system","gpu":{"0":{"temp":61}}}\n{"_kind":"systems","x":1}\n',
                         capture_output=True, env=clean_env(HOME=str(box.dir)))
    assert cat.returncode == 65 and b"line 3: _kind is not log, summary, config or system" in cat.stderr, cat
    fake.await_run("r", "finished")
    assert [e["system.gpu.0.temp"] for e in fake.events("r")] == [61] and len(fake.rows("r")) == 1
    fake.check()


# -- alerts

def warn(c: Client, title: str, text: str = "text", **more: Any) -> None:
    c.send("alert", **({"run": "r", "t": now_us(), "title": title, "text": text} | more))


@test
def alerts_arrive_in_order_and_once(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c)
        for i, level in enumerate(("INFO", "WARN", "ERROR", None)):
            warn(c, f"a{i}", f"text \"{i}\"\n", level=level, wait_ms=i * 1000)
        run.log(c, *some_rows(3)).finish(c)
    run.is_delivered(fake)
    got = [(a["title"], a["text"], a["severity"], a["waitDuration"]) for a in fake.alerts("r")]
    assert got == [(f"a{i}", f"text \"{i}\"\n", s, i * 1000) for i, s in enumerate(("INFO", "WARN", "ERROR", "INFO"))], got
    is_empty(ctl)
    fake.check()


@test
def an_alert_is_not_repeated_within_its_wait(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c)
        for at, title in ((0, "a"), (59, "a"), (59, "b"), (61, "a"), (100, "a"), (122, "a")):
            warn(c, title, str(at), t=T0 + at * 1_000_000, wait_ms=60_000)
        run.finish(c)
    run.is_delivered(fake)
    assert [a["text"] for a in fake.alerts("r")] == ["0", "59", "61", "122"], fake.alerts("r")
    assert "alerts=2 not repeated" in daemon.log_path.read_text()
    is_empty(ctl)
    fake.check()


@test
def a_refused_alert_is_a_dead_letter_and_can_be_sent_again(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.fault({"kind": "graphql", "op": "WbxAlert", "body": "second"}, {"gql_errors": [{"message": "no alerts today"}]})
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(2))
        for title in ("first", "second", "third"):
            warn(c, title)
        run.finish(c)
    run.is_delivered(fake)
    assert [a["title"] for a in fake.alerts("r")] == ["first", "third"]
    [letter] = ctl.dead()
    assert letter["what"] == "alert" and "no alerts today" in letter["reason"], letter
    ctl("dead", "retry", letter["id"])
    until(lambda: len(fake.alerts("r")) == 3, "it is sent again")
    fake.await_run("r", "finished")
    assert ctl.dead() == []
    fake.check()


@test
def an_alert_of_an_unknown_level_is_a_dead_letter(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c)
        warn(c, "a", level="FATAL")
        run.finish(c)
    run.is_delivered(fake)
    [letter] = ctl.dead()
    assert "INFO, WARN or ERROR" in letter["reason"] and fake.alerts("r") == []


# -- what goes wrong

@test
def lost_answers_and_kills_make_no_line_twice(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.fault({"kind": "filestream"}, {"reset": "after"}, count=-1)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(4))
        say(c, "one\ntwo\nthr")
        c.send("stats", run="r", t=now_us(), data={"cpu": 1})
        c.flush()
        until(lambda: len(fake.console("r")) == 3, "it is there, and the daemon does not know")
        daemon.kill9()
    daemon.start()
    with greeted(daemon.socket, c.producer) as c:
        say(c, "ee\n")
        c.flush()
        fake.clear_faults()
        run.finish(c)
    run.is_delivered(fake)
    assert fake.contents("r") == ["one", "two", "three"]
    assert len(fake.events("r")) == 1
    is_empty(ctl)
    fake.check()


TALKER = """
import select
sys.stdout = open(os.devnull, "w")
run = wbx.init(project="p", id="r")
stop = select.poll()
stop.register(0, select.POLLIN)
n = 0
while not stop.poll(1):
    print(f"\\r{n}%", end="", file=sys.stdout)
    print(f"\\rline {n}")
    run.log_system({"n": n})
    if n % 50 == 0:
        run.alert(f"alert {n}", "x")
    n += 1
say(n)
run.finish()
"""


@test(seconds=300)
def output_survives_kills_of_the_daemon_at_any_moment(box: Box) -> None:
    if build_option("faults") != "True":
        raise Skip("a build without -Dfaults=true has no named points")
    fake, daemon, ctl = steered(box)
    program = trainer(box, TALKER, socket=daemon.socket)
    until(lambda: len(fake.console("r")) > 20, "the first lines are there")
    for hits in range(1, 7):
        for point in ("side.committed", "side.answered"):
            daemon.kill9()
            process = daemon.launch(WBX_FAULT=f"{point}:{hits}")
            assert process.wait() == -signal.SIGKILL, point
    daemon.start()
    program.tell("stop")
    count = int(program.read_line())
    assert program.wait() == 0 and count > 20
    fake.await_run("r", "finished", seconds=120)
    assert fake.contents("r") == [f"line {n}" for n in range(count)], fake.contents("r")[:50]
    assert [e["system.n"] for e in fake.events("r") if "system.n" in e] == list(range(count))
    raised = [a["title"] for a in fake.alerts("r")]  # one whose answer was lost is sent again
    assert list(dict.fromkeys(raised)) == [f"alert {n}" for n in range(0, count, 50)], raised
    is_empty(ctl)
    fake.check()


@test
def one_refused_line_does_not_stop_the_others(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.fault({"kind": "filestream", "body": "poison"}, {"status": 422, "body": {"error": "poisoned"}}, count=-1)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(3))
        for i in range(7):
            c.send("stats", run="r", t=now_us(), data={"poison" if i == 3 else "cpu": i})
            say(c, f"poison {i}\n" if i == 5 else f"line {i}\n")
        run.finish(c)
    run.is_delivered(fake)
    assert fake.contents("r") == [f"line {i}" for i in range(7) if i != 5]
    assert [e["system.cpu"] for e in fake.events("r")] == [0, 1, 2, 4, 5, 6]
    assert sorted(letter["what"] for letter in ctl.dead()) == ["event", "output"]
    fake.clear_faults()
    ctl("dead", "retry", *(letter["id"] for letter in ctl.dead()))
    until(lambda: fake.contents("r")[-1] == "poison 5" and fake.events("r")[-1].get("system.poison") == 3, "they are sent again")
    fake.await_run("r", "finished")
    assert ctl.dead() == []
    is_empty(ctl)
    fake.check()


@test
def a_run_goes_on_behind_the_lines_that_are_there(box: Box) -> None:
    fake = Fake(box)
    fake.ask("/__run", {"run": "wbx-team/p/r", "create": True,
                        "seed": {"historyLineCount": 0, "eventsLineCount": 5, "logLineCount": 7}})
    fake, daemon = sending(box, fake=fake)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(2))
        say(c, "mine\n")
        c.send("stats", run="r", t=now_us(), data={"cpu": 1})
        run.finish(c)
    run.is_delivered(fake)
    bodies = [e["body"]["files"] for e in fake.ask("/__log") if e["kind"] == "filestream" and "files" in e["body"]]
    assert [b["output.log"]["offset"] for b in bodies if "output.log" in b] == [7]
    assert [b["wandb-events.jsonl"]["offset"] for b in bodies if "wandb-events.jsonl" in b] == [5]


@test
def output_after_the_end_opens_the_run_again(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(1)).finish(c)
        run.is_delivered(fake)
        say(c, "afterwards\n")
        c.flush()
        until(lambda: fake.contents("r") == ["afterwards"], "it arrives")
        fake.await_run("r", "finished")
    is_empty(ctl)
    fake.check()


@test
def a_guest_may_write_to_the_console(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        Logged("r").open(c).log(c, *some_rows(1)).finish(c).is_delivered(fake)
        with greeted(daemon.socket) as guest:
            guest.send("attach", run="r", t=now_us(), project="p")
            say(guest, "seen\n")
            guest.finish("r")
    until(lambda: fake.contents("r") == ["seen"], "it arrives")
    is_empty(ctl)


# -- what a run tells of itself

@test
def a_live_run_tells_how_far_it_is_behind(box: Box) -> None:
    fake, daemon, ctl = steered(box, models__self_report="100ms", models__heartbeat="500ms")
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(1)).arrive(c, fake)
        events = until(lambda: len(e := fake.events("r")) >= 2 and e, "it reports, though nothing is logged")
        assert set(events[0]) == {"_wandb", "_timestamp", "_runtime", "system.wbx/lag_s", "system.wbx/waiting_bytes"}, events
        assert events[0]["system.wbx/lag_s"] == 0 and events[0]["system.wbx/waiting_bytes"] == 0, events[0]
        fake.fault({"kind": "filestream"}, {"status": 503}, count=5)
        run.log(c, *some_rows(20, 1))
        c.flush()
        until(lambda: any(e["system.wbx/waiting_bytes"] > 100 for e in fake.events("r")), "it tells what waits")
        run.finish(c)
    run.is_delivered(fake)
    count = len(fake.events("r"))
    log_whole(daemon, "other")[0].is_delivered(fake)
    assert len(fake.events("r")) == count, "a run that is done tells nothing"
    is_empty(ctl)
    fake.check()


@test
def reports_can_be_turned_off(box: Box) -> None:
    fake, daemon = sending(box, models__self_report="0", models__heartbeat="500ms")
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(1)).arrive(c, fake)
        until(lambda: fake.run("r")["heartbeats"] >= 2, "signs of life are empty")
        run.finish(c)
    run.is_delivered(fake)
    assert fake.events("r") == [] and "wbx/complete" not in fake.whole_summary("r")
    fake.check()


def says_complete(fake: Fake, run: str, state: str = "finished") -> bool:
    fake.await_run(run, state)
    return fake.whole_summary(run)["wbx/complete"]


@test
def a_run_says_at_its_end_whether_anything_is_missing(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.fault({"kind": "filestream", "body": "poison"}, {"status": 422}, count=-1)
    with greeted(daemon.socket) as c:
        whole = Logged("whole").open(c).log(c, *some_rows(2))
        c.flush()
        fake.await_rows("whole", 2)
        assert "wbx/complete" not in fake.whole_summary("whole"), "not before its end"
        whole.finish(c)
        c.open_run("empty")
        c.finish("empty", 3)
        c.open_run("dead")
        say(c, "poison\n", "dead")
        c.finish("dead")
        c.open_run("late")
        for step in (5, 4):
            c.send("log", run="late", t=now_us(), data={"a": step}, step=step, commit=True)
        c.send("log", run="late", t=now_us(), data={"a": 6}, step=4)
        c.finish("late")
        c.open_run("refused")
        c.send("log", run="refused", t="no time", data={"a": 1})
        c.finish("refused")
        assert len(c.rejects) == 1, c.rejects
    with greeted(daemon.socket) as c:
        c.open_run("lossy")
        c.send("flush", lost=2)
        c.finish("lossy")
    assert says_complete(fake, "whole") and says_complete(fake, "empty", "failed")
    assert not says_complete(fake, "dead") and not says_complete(fake, "late"), "set aside"
    assert not says_complete(fake, "refused") and not says_complete(fake, "lossy"), "never stored"
    is_empty(ctl)


@test
def a_run_that_is_opened_again_takes_its_word_back(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    [run] = log_whole(daemon, "r")
    assert says_complete(fake, "r")
    with greeted(daemon.socket) as c:
        run.open(c).log(c, *some_rows(1, 3))
        c.flush()
        fake.await_rows("r", 4)
        until(lambda: fake.whole_summary("r")["wbx/complete"] is False, "it is not complete now")
        run.finish(c)
    until(lambda: says_complete(fake, "r"), "it is again")
    run.is_held(fake)
    fake.check()


# -- from Python

def ended_well(box: Box, daemon: Daemon, code: str, **env: str) -> str:
    """Runs a trainer to its end; gives what it printed."""
    program = trainer(box, code, socket=daemon.socket, **env)
    printed = program.stdout.read().decode()
    assert program.wait() == 0
    return printed


@test
def what_a_python_process_prints_arrives_and_is_printed(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    printed = ended_well(box, daemon, """
    import contextlib, io, logging
    print("before")
    run = wbx.init(project="p", id="r", label="rank0")
    print("hello", 1)
    print("world", file=sys.stderr)
    logging.error("logged")
    sys.stdout.write("odd \\udcff\\0 \\N{SNOWMAN}\\n" if sys.stdout.errors != "strict" else "odd ?\\0 \\N{SNOWMAN}\\n")
    sys.stdout.writelines(["a\\n", "b\\n"])
    with contextlib.redirect_stdout(io.StringIO()):
        print("into a string")
    wbx.log({"x": 1})
    sys.stdout.write("no end")
    run.finish()
    print()
    print("after")
    """, PYTHONIOENCODING="utf-8:backslashreplace")
    fake.await_run("r", "finished")
    lines = [json.loads(line) for line in fake.console("r")]
    out = [line["content"] for line in lines if "level" not in line]
    assert out == ["hello 1", "odd ?\0 \N{SNOWMAN}", "a", "b", "no end"], lines
    assert [line["content"] for line in lines if "level" in line] == ["world", "ERROR:root:logged"], lines
    assert all(line["label"] == "rank0" for line in lines)
    assert "before\n" in printed and "hello 1\n" in printed and printed.endswith("no end\nafter\n"), printed
    is_empty(ctl)
    fake.check()


@test
def capture_ends_with_the_run_and_leaves_nothing_behind(box: Box) -> None:
    fake, daemon = sending(box)
    ended_well(box, daemon, """
    def ours():
        return "write" in vars(sys.stdout) or "write" in vars(sys.stderr)
    assert not ours()
    a = wbx.init(project="p", id="a")
    b = wbx.init(project="p", id="b", reinit="create_new")
    print("both")
    a.finish()
    print("b alone")
    b.finish()
    assert not ours()
    print("nobody")
    off = wbx.init(project="p", id="off", console="off")
    assert not ours()
    off.finish()
    os.environ["WANDB_CONSOLE"] = "off"
    by_env = wbx.init(project="p", id="env")
    assert not ours()
    by_env.finish()
    on = wbx.init(project="p", id="on", console="wrap")
    print("argument before environment")
    inner = sys.stdout.write
    sys.stdout.write = lambda text: inner(text)  # somebody wraps it, and does not take it back
    print("through another")
    on.finish()
    print("goes on")
    try:
        wbx.init(project="p", console="all")
        sys.exit(9)
    except wbx.UsageError:
        pass
    """)
    for run, lines in {"a": ["both"], "b": ["both", "b alone"], "off": [], "env": [],
                       "on": ["argument before environment", "through another"]}.items():
        fake.await_run(run, "finished")
        assert fake.contents(run) == lines, (run, fake.contents(run))
    fake.check()


@test
def printing_never_fails_and_never_comes_back(box: Box) -> None:
    fake, daemon = sending(box)
    ended_well(box, daemon, """
    import threading
    run = wbx.init(project="p", id="r")
    take = run._take_output
    def loud(stream, data):
        print("inside", file=sys.stderr)  # is not taken again
        return take(stream, data)
    from wbx import _console
    _console._takers[:] = [loud]
    print("outside")
    _console._takers[:] = [lambda stream, data: 1 // 0]
    print("it fails here")
    assert not _console._takers
    _console.capture(take)
    threads = [threading.Thread(target=lambda n=n: [sys.stdout.write(f"{n} {i}\\n") for i in range(200)]) for n in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    if os.fork() == 0:
        print("of a child")
        sys.stdout.flush()
        os._exit(0)
    os.wait()
    run._capture_console()  # so that the end takes all of it back
    _console._takers.remove(take)
    run.finish()
    """)
    fake.await_run("r", "finished")
    got = fake.contents("r")
    assert got[0] == "outside" and "of a child" not in got and "inside" not in got, got[:3]
    words = " ".join(got[1:]).split()
    assert len(words) == 1600, "nothing of the threads is lost"


@test
def a_print_above_the_size_of_a_record_arrives_whole(box: Box) -> None:
    fake, daemon = sending(box)
    ended_well(box, daemon, """
    run = wbx.init(project="p", id="r")
    print("".join(f"{i}\u6f22" for i in range(400_000)))
    run.finish()
    """, PYTHONIOENCODING="utf-8")
    fake.await_run("r", "finished")
    assert "".join(fake.contents("r")) == "".join(f"{i}\u6f22" for i in range(400_000))
    fake.check()


@test
def a_python_process_that_dies_leaves_its_traceback(box: Box) -> None:
    fake, daemon = sending(box)
    program = trainer(box, """
    wbx.init(project="p", id="r")
    raise ValueError("on purpose")
    """, socket=daemon.socket)
    assert program.wait() == 1
    fake.await_run("r", "failed")
    assert fake.contents("r")[-1] == "ValueError: on purpose" and fake.contents("r")[0].startswith("Traceback")
    fake.check()


@test
def python_logs_system_metrics_and_raises_alerts(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    ended_well(box, daemon, """
    from datetime import timedelta
    run = wbx.init(project="p", id="r", label="n1")
    run.log_system({"gpu": {"0": {"temp": 60}}, "cpu": 1.5})
    run.alert("a", "x")
    run.alert("a", "not again", wait_duration=30)
    wbx.alert("b", "y\\0\\n", level=wbx.AlertLevel.ERROR, wait_duration=timedelta(seconds=5))
    run.alert("c", "z", "WARN", wait_duration=0)
    for wrong in ({"level": "LOUD"}, {"wait_duration": "soon"}, {"wait_duration": -1}):
        try:
            run.alert("d", "w", **wrong)
            sys.exit(9)
        except wbx.UsageError:
            pass
    assert run._native.alert("d", "w", "LOUD", 0) == -22 and run._native.output("stdlog", b"x") == -22
    run.finish()
    """)
    fake.await_run("r", "finished")
    assert [(a["title"], a["text"], a["severity"], a["waitDuration"]) for a in fake.alerts("r")] == [
        ("a", "x", "INFO", 60000), ("b", "y\n", "ERROR", 5000), ("c", "z", "WARN", 0)], fake.alerts("r")
    [event] = fake.events("r")
    assert event["system.gpu.0.temp/l:n1"] == 60 and event["system.cpu/l:n1"] == 1.5, event
    is_empty(ctl)
    fake.check()


if __name__ == "__main__":
    main()
