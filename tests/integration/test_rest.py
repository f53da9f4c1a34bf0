"""What goes beside the history: console output, system metrics, alerts. All of it arrives, once, in order, behind what is there."""
from __future__ import annotations

import json
import re
from typing import Any

from client import Client, greeted, now_us
from ctl import Ctl
from daemon import Daemon
from delivery import Logged, requests_of, sending, some_rows, steered
from tap import Box, main, test, until
from wandb import Fake

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


if __name__ == "__main__":
    main()
