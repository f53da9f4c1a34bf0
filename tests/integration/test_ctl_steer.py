"""wbxctl against a daemon that runs, and against the store of one that does not: what it prints, and what it ends with."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from client import greeted, now_us, opened
from ctl import WBXCTL, Ctl, Result, answer_of, ctl_env, reason, text_status
from daemon import Daemon, started
from delivery import VIEWER, Logged, all_is_well, log_whole, request_of, sending, some_rows, steered
from tap import Box, Skip, main, test, until
from wandb import Fake, forwarding, key_file, own
from weave import uuid7

OK, BEHIND, CRITICAL, AWAY_STORE, USAGE, DATA, AWAY, LATER, NOT_ALLOWED = 0, 1, 2, 3, 64, 65, 69, 75, 77


def stream_posts(fake: Fake) -> int:
    return len(fake.requests("filestream"))


# -- pause

@test
def pause_stops_delivery_over_restarts_until_unpause(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    assert ctl("pause", "models") == "sink models is paused; wbxctl unpause models\n"
    [run] = log_whole(daemon, "r")
    status = ctl.status()
    assert status["exit"] == BEHIND and status["state"] == "paused" and ctl.codes() == ["paused"], status["reasons"]
    assert reason(status, "paused")["action"] == "wbxctl unpause models"
    assert ctl.sink()["state"] == "paused" and ctl.sink()["waiting"] == 6, ctl.sink()
    assert "sink models is paused until somebody unpauses it" in text_status(ctl, BEHIND)
    ctl("flush", "--wait=0", code=LATER)
    ctl("retry")
    daemon.kill9()
    daemon.start()
    assert ctl.status()["state"] == "paused"
    assert stream_posts(fake) == 0
    assert ctl.lines("unpause", "models") == [{"count": 1}]
    all_is_well(fake, ctl, run)


@test
def a_pause_for_a_time_ends_by_itself(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    began = time.monotonic()
    assert "sink models is paused until" in ctl("pause", "--for", "2s", "models")
    [run] = log_whole(daemon, "r")
    assert ctl.status()["reasons"][0]["text"].startswith("sink models is paused until ")
    assert ctl.sink()["paused_until"] is not None
    run.is_delivered(fake)
    assert time.monotonic() - began >= 2
    ctl.await_healthy()
    fake.check()


@test
def a_pause_of_what_is_not_there_is_a_wrong_command_line(box: Box) -> None:
    daemon = started(box)
    ctl = Ctl(daemon)
    for words in (["pause"], ["pause", "nothing"], ["pause", "--for", "0s", "models"], ["pause", "--for", "soon", "models"],
                  ["unpause"], ["unpause", "nothing"], ["retry", "--sink", "nothing"], ["pause", "models", "weave"], ["stop"]):
        result = ctl.run(*words)
        assert result.code == USAGE and result.err.startswith("wbxctl: ") and not result.out, f"{words}: {result}"
    ctl("pause", "weave")
    ctl("retry", "--sink", "weave")


# -- retry

@test
def retry_ends_the_wait_of_the_sink_and_names_runs_that_are_not_there(box: Box) -> None:
    fake = Fake(box)
    fake.fault(VIEWER, {"status": 429, "retry_after": 7200})
    fake, daemon, ctl = steered(box, fake=fake)
    [run] = log_whole(daemon, "r")
    status = ctl.await_reason("rate_limited")
    assert status["sinks"][0]["next_try_s"] > 7000, status["sinks"][0]
    result = ctl.run("retry", "--run", "nobody")
    assert result.code == DATA and "no run of that name" in result.err, str(result)
    assert ctl("retry", "--sink", "models").startswith("tried again now: ")
    run.is_delivered(fake)
    fake.check()


@test
def retry_while_the_way_is_being_tried_does_no_harm(box: Box) -> None:
    fake = Fake(box)
    fault = fake.fault(VIEWER, {"delay": 1, "status": 503})
    fake, daemon, ctl = steered(box, fake=fake)
    fake.await_hits(fault)
    for _ in range(3):
        ctl("retry")
    daemon.process.signal(signal.SIGHUP)
    [run] = log_whole(daemon, "r")
    run.is_delivered(fake)
    assert daemon.log().count("started") == 1 and daemon.process.running
    fake.check()


# -- flush

@test
def flush_sends_at_once_and_says_when_all_is_there(box: Box) -> None:
    fake, daemon, ctl = steered(box, models__interval="1h")
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(2))
        c.flush()
        until(lambda: fake.run("r"), "the first request is over")
        ctl("flush", "--wait=40")  # it may have had one of the rows
        for words in (["--wait"], ["--run", "r", "--wait=40"], ["--wait", "40", "--run", "wbx-team/p/r"]):
            run.log(c, *some_rows(2, len(run.rows)))
            c.flush()
            assert len(fake.rows("r")) == len(run.rows) - 2
            ctl("flush", *words)
            assert len(fake.rows("r")) == len(run.rows), "flush --wait returned too early"
        run.log(c, *some_rows(2, len(run.rows)))
        c.flush()
        ctl("flush")  # without a wait
        fake.await_rows("r", len(run.rows))
        [done] = ctl.lines("flush", "--wait=40")
        assert done == {"result": "done", "waiting": 0}
        result = ctl.run("flush", "--run", "nobody", "--wait")
        assert result.code == DATA and "there is no run nobody" in result.err, str(result)
        ctl("flush", "--wait=soon", code=USAGE)
        run.finish(c)
    run.is_delivered(fake)
    fake.check()


@test
def flush_gives_up_in_time_for_one_run_and_not_for_another(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.fault(request_of("stream", "stuck"), {"status": 404}, count=-1)
    stuck, fine = log_whole(daemon, "stuck", "fine")
    ctl("flush", "--run", "fine", "--wait=40")
    ctl.await_parked("stuck")
    result = ctl.run("flush", "--run", "stuck", "--wait=0")
    assert result.code == LATER and "5 records wait for W&B; they stay on disk" in result.err, str(result)
    assert json.loads(ctl("--json", "flush", "--wait=1", code=LATER)) == {"result": "not_in_time", "waiting": 5}
    fake.clear_faults()
    ctl("retry")
    ctl("flush", "--wait=40")
    for run in (stuck, fine):
        run.is_delivered(fake)
    fake.check()


@test
def flush_tells_of_what_was_refused_meanwhile(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.fault(request_of("stream", "r") | {"body": "poison"}, {"status": 400}, count=-1)
    ctl("pause", "models")
    with greeted(daemon.socket) as c:
        Logged("r").open(c).log(c, {"a": "poison"}, {"a": "fine"}).finish(c)
    waiting = ctl.start("flush", "--wait=40")
    until(lambda: "S" in waiting.states(), "flush waits")
    ctl("unpause", "models")
    assert waiting.wait() == DATA
    assert "dead list shows it" in (box.dir / "wbxctl.err").read_text()
    ctl("flush", "--wait=40")  # what was refused earlier is no news
    fake.check()


@test
def flush_without_a_key_or_a_daemon_says_so(box: Box) -> None:
    fake = Fake(box)
    daemon = started(box, models__base_url=fake.url, models__key_file=box.dir / "none")
    ctl = Ctl(daemon)
    log_whole(daemon, "r")
    ctl("flush", "--wait=0", code=LATER)
    assert ctl.status()["state"] == "behind" and ctl.codes() == ["no_key"]
    daemon.stop()
    for words in (["flush"], ["flush", "--wait=1"], ["flush", "--run", "r", "--wait"], ["pause", "models"], ["unpause", "models"],
                  ["retry"], ["dead", "retry", "1"], ["dead", "drop", "1"]):
        result = ctl.run(*words)
        assert result.code == AWAY and "no daemon answers" in result.err, f"{words}: {result}"


# -- dead letters

def with_dead_letters(box: Box) -> tuple[Fake, Daemon, Ctl, list[Logged]]:
    """Runs a and b with two refused rows each, of HTTP 400 and 422."""
    fake, daemon, ctl = steered(box)
    for run in "ab":
        for status in (400, 422):
            fake.fault(request_of("stream", run) | {"body": f"bad-{status}"}, {"status": status, "body": {"error": f"no {status}"}},
                       count=-1)
    ctl("pause", "models")
    with greeted(daemon.socket) as c:
        runs = [Logged(n).open(c).log(c, {"v": "fine"}, {"v": f"bad-400 of {n}"}, {"v": f"bad-422 of {n}"}, {"v": "end"})
                for n in "ab"]
        for run in runs:
            run.finish(c)
    ctl("unpause", "models")
    for run in runs:
        fake.await_run(run.name, "finished")
    ctl.await_dead(4)
    return fake, daemon, ctl, runs


def number_of(ctl: Ctl, run: str, status: int) -> int:
    return next(d["id"] for d in ctl.dead() if d["run"] == run and d["status"] == status)


@test
def dead_letters_are_listed_shown_and_exported(box: Box) -> None:
    fake, daemon, ctl, _ = with_dead_letters(box)
    screen = ctl("dead", "list")
    assert screen.splitlines()[0].split() == ["ID", "AGE", "SINK", "RUN", "WHAT", "STEP", "STATUS", "SIZE", "REASON"], screen
    assert screen.count("no 400") == 2 and screen.count("no 422") == 2, screen
    assert len(ctl.lines("dead", "list", "--run", "a")) == 2
    assert len(ctl.lines("dead", "list", "--run", "wbx-team/p/a")) == 2
    shown = ctl("dead", "show", number_of(ctl, "a", 400))
    assert "HTTP 400" in shown and "bad-400 of a" in shown and '{"error":"no 400"}' in shown and "step: 1" in shown, shown
    result = ctl.run("dead", "show", 999)
    assert result.code == DATA and "there is no dead letter of that number" in result.err, str(result)
    ctl("dead", "show", "one", code=USAGE)
    file = box.dir / "letters.jsonl"
    assert ctl("dead", "export", file) == "4 of 4 dead letters written\n"
    assert file.stat().st_mode & 0o777 == 0o600
    letters = answer_of(file)
    assert sorted((d["run"], d["status"], json.loads(d["body"])["v"]) for d in letters) == \
        [(n, s, f"bad-{s} of {n}") for n in "ab" for s in (400, 422)]
    result = ctl.run("dead", "export", file)
    assert result.code == USAGE and "is there already" in result.err
    assert answer_of(file) == letters
    daemon.stop()
    assert [d["id"] for d in ctl.dead()] == [d["id"] for d in letters]
    ctl("dead", "retry", "--all", code=AWAY)
    assert ctl("dead", "show", letters[0]["id"]) and ctl("dead", "export", box.dir / "again.jsonl")
    assert answer_of(box.dir / "again.jsonl") == letters


@test
def dead_letters_are_sent_again_or_given_up_as_chosen(box: Box) -> None:
    fake, daemon, ctl, runs = with_dead_letters(box)
    for words in (["retry"], ["retry", "1", "--all"], ["retry", "--status", "none"], ["drop"], ["drop", "x"]):
        assert ctl.run("dead", *words).code == USAGE, words
    assert ctl.run("dead", "retry", 999).code == DATA and ctl.run("dead", "drop", 999).code == DATA

    first = number_of(ctl, "a", 400)
    ctl("dead", "retry", first)  # it is refused once more
    until(lambda: (d := ctl.dead()) and len(d) == 4 and first not in [x["id"] for x in d], "a new letter stands for it")

    fake.clear_faults()
    assert ctl("dead", "drop", number_of(ctl, "b", 400)) == "1 of 1 dead letter given up\n"
    assert ctl("dead", "retry", "--run", "a", "--status", "422") == "1 of 1 dead letter will be sent again\n"
    until(lambda: len(fake.rows("a")) == 3, "that one comes")
    assert sorted((d["run"], d["status"]) for d in ctl.dead()) == [("a", 400), ("b", 422)]
    known = number_of(ctl, "b", 422)
    result = ctl.run("--json", "dead", "retry", known, 999)
    assert result.code == DATA and json.loads(result.out) == {"count": 1, "wanted": 2}, str(result)
    until(lambda: known not in [d["id"] for d in ctl.dead()], "it is on its way again")
    ctl("dead", "retry", "--all")
    until(lambda: len(fake.rows("a")) == 4 and len(fake.rows("b")) == 3, "all come")
    assert ctl("dead", "list") == "no dead letters\n"
    assert [own(r)["v"] for r in fake.rows("a")] == ["fine", "end", "bad-422 of a", "bad-400 of a"]
    assert [own(r)["v"] for r in fake.rows("b")] == ["fine", "end", "bad-422 of b"]
    assert [r["_step"] for r in fake.rows("a")] == [0, 3, 5, 6], "4 was the number of the row that was refused once more"
    for run in runs:
        fake.await_run(run.name, "finished")
    ctl.await_healthy()
    assert ctl.status()["store"]["dead"] == 0
    fake.check()


@test(seconds=300)
def more_dead_letters_than_a_plan_holds_are_all_sent_again_while_the_run_lives(box: Box) -> None:
    fake, daemon = sending(box)
    ctl = Ctl(daemon)
    fake.fault({"kind": "filestream", "body": "refuse_this"}, {"status": 400, "body": {"error": "no"}}, count=-1)
    with opened(daemon.socket) as c:
        c.send("define", run="r", t=now_us(), name="refuse_this", summary=["none"])  # or the summary is refused, too
        for i in range(110):
            c.send("log", run="r", t=now_us(), data={"refuse_this": i})
        c.flush()
        until(lambda: len(ctl.dead()) == 110, "all are refused", 200)  # one by one, by halves
        fake.clear_faults()
        said = ctl("dead", "retry", "--all")
        assert said == "110 of 110 dead letters will be sent again\n", said
        assert sorted(own(r)["refuse_this"] for r in fake.await_rows("r", 110)) == list(range(110))
        assert fake.run("r")["state"] == "running"
        c.finish()
    fake.await_run("r", "finished")
    assert ctl.dead() == []
    fake.check()


@test
def url_says_where_a_run_is_when_w_and_b_has_it(box: Box) -> None:
    fake = Fake(box)
    daemon = started(box, models__key_file=box.dir / "key", **forwarding(fake))
    ctl = Ctl(daemon)
    with opened(daemon.socket) as c:
        c.log()
        c.flush()
        result = ctl.run("url", "r")
        assert (result.code, result.out) == (75, "") and "W&B does not have the run yet" in result.err, str(result)
        key_file(box)
        daemon.reload()
        fake.await_rows("r", 1)
        want = f"{fake.url}/wbx-team/p/runs/r"
        until(lambda: ctl.run("url", "r").code == 0, "the run is known")
        assert ctl("url", "r") == ctl("url", "wbx-team/p/r") == want + "\n"
        assert [run["url"] for run in ctl.lines("runs")] == [want]
    assert ctl.run("url", "absent").code == DATA
    daemon.stop()
    assert ctl("url", "r").endswith("/wbx-team/p/runs/r\n"), "the store knows it, too"


# -- status

@test
def status_ends_with_0_1_2_and_3(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    [run] = log_whole(daemon, "r")
    all_is_well(fake, ctl, run)
    screen = ctl("status")
    for text in ("state: HEALTHY", f"pid {daemon.process.pid}", "key …4567 of user wbx-user", "SINK", "models", "ok",
                 "nothing lost since the store was made"):
        assert text in screen, f"{text!r} is not in {screen}"
    assert "\x1b" not in screen, "no colours off a terminal"
    ctl("pause", "models")
    ctl("status", code=BEHIND)
    ctl("unpause", "models")
    daemon.stop()
    daemon.settings["store.reserve"] = "1000T"
    daemon.start()
    status = until(lambda: (s := ctl.status()) and s["exit"] == CRITICAL and s or None, "status is critical")
    assert status["state"] == "critical" and status["reasons"][0]["code"] == "disk_reserve", status["reasons"]
    assert "state: CRITICAL" in ctl("status", code=CRITICAL)
    daemon.kill9()
    status = ctl.status()
    assert status["exit"] == AWAY_STORE and status["state"] == "not_running" and status["pid"] is None and status["ingest"] is None
    assert status["runs"]["done"] == 1, "from the store"
    assert "state: NOT RUNNING" in ctl("status", code=AWAY_STORE)


@test
def status_in_json_has_what_programs_need(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        Logged("r").open(c).log(c, *some_rows(7)).arrive(c, fake)
        ctl.await_healthy()
        status = ctl.status()
        assert status["schema"] == 1 and status["pid"] == daemon.process.pid and status["reasons"] == []
        assert status["ingest"]["clients"] == 1 and status["ingest"]["records_total"] == 8, status["ingest"]
        assert status["runs"] == {"live": 1, "finishing": 0, "done": 0, "parked": 0}
        assert [s["name"] for s in status["sinks"]] == ["models", "artifacts", "weave"]
        assert status["account"] | {"last_accepted_s": 0} == \
            {"base_url": fake.url, "user": "wbx-user", "key_tail": "4567", "last_accepted_s": 0}
        assert status["lost_records_total"] == 0 and status["store"]["path"] == str(daemon.store.path)


@test
def status_is_shown_again_and_again_also_while_the_daemon_comes_and_goes(box: Box) -> None:
    daemon = started(box, models__key_file=box.dir / "none")
    watching = Ctl(daemon).start("status", "--json", "--watch", "1")
    states = [json.loads(watching.read_line())["state"]]
    daemon.kill9()
    while states[-1] != "not_running":
        states.append(json.loads(watching.read_line())["state"])
    daemon.start()
    while states[-1] == "not_running":
        states.append(json.loads(watching.read_line())["state"])
    assert set(states) == {"healthy", "not_running"} or set(states) == {"behind", "not_running"}, states
    assert watching.running


# -- lists

@test
def tail_shows_the_newest_and_follows(box: Box) -> None:
    daemon = started(box)
    ctl = Ctl(daemon)
    with greeted(daemon.socket) as c:
        Logged("a").open(c).log(c, *some_rows(20))
        Logged("b").open(c).log(c, {"x": "first\x1b[31m"})
        c.flush()
        assert [r["body"]["data"]["n"] for r in ctl.lines("tail", "--kind", "log", "-n", 3, "a")] == [17, 18, 19]
        assert len(ctl.lines("tail")) == 10
        assert len(ctl("tail", "-n5").splitlines()) == 5
        assert "\x1b" not in ctl("tail", "b"), "a terminal is not steered by what was logged"
        tail = ctl.start("--json", "tail", "-f", "--kind", "log", "-n", 1, "b")
        assert json.loads(tail.read_line())["body"]["data"]["x"].startswith("first")
        for i in range(30):
            c.log("a")
            c.send("log", run="b", t=now_us(), data={"x": i})
            c.flush()
            line = json.loads(tail.read_line())
            assert line["kind"] == "log" and line["body"]["data"] == {"x": i}, line
        daemon.stop()
        assert tail.wait() == AWAY
    ctl("tail", "--kind", "nothing", code=USAGE)
    ctl("tail", "-n", 0, code=USAGE)
    offline = ctl.run("tail", "-n1", "--kind", "log", "b")
    assert offline.code == OK and "the daemon is not running" in offline.err and "29" in offline.out, str(offline)


@test
def runs_and_backlog_say_the_same_from_daemon_and_store(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    [done] = log_whole(daemon, "done", count=4)
    done.is_delivered(fake)
    ctl("pause", "models")
    with greeted(daemon.socket) as c:
        Logged("waits").open(c).log(c, *some_rows(5))
        c.send("call", run="waits", t=now_us(), phase="start", id=uuid7(), trace_id=uuid7(), op="judge", inputs={"a": 1})
        c.flush()

        def look() -> tuple[dict, list, list, list]:
            done_run, waiting = sorted(ctl.lines("runs"), key=lambda r: r["run"])
            assert (done_run["state"], done_run["rows"], done_run["rows_done"], done_run["waiting"], done_run["exit_code"]) == ("done", 4, 4, 0, 0)
            assert (waiting["state"], waiting["rows_done"], waiting["waiting"]) == ("new", 0, 6), waiting
            return waiting, ctl.lines("backlog"), ctl.lines("backlog", "--by", "run"), ctl.lines("backlog", "--by", "sink")

        online = look()
        assert [(b["run"], b["class"], b["waiting"]) for b in online[1]] == [("waits", "metrics", 6), ("waits", "traces", 1)], online[1]
        assert "waits" in ctl("runs") and "waits" in ctl("backlog") and "done" not in ctl("backlog")
        assert len(ctl("backlog", "done").splitlines()) <= 1
        assert ctl.run("runs", "nobody").code == DATA
    daemon.stop()
    assert look() == online
    absent = ctl.run("--store", "/nowhere", "runs")
    assert absent.code == AWAY_STORE and "no daemon runs, and there is no store at /nowhere" in absent.err, str(absent)


@test
def a_store_alone_is_read_and_not_steered(box: Box) -> None:
    fake, daemon = sending(box)
    [run] = log_whole(daemon, "r")
    run.is_delivered(fake)
    only = Ctl(daemon, "--store", daemon.store.path)
    for _ in range(2):
        result = only.run("status")
        assert result.code == AWAY_STORE and "read from the store alone" in result.out, str(result)
        assert [r["run"] for r in only.lines("runs")] == ["r"]
        assert len(only.lines("tail")) == 6 and only.dead() == [] and only.lines("backlog") == []
        result = only.run("pause", "models")
        assert result.code == USAGE and "needs a daemon" in result.err, str(result)
        if daemon.process.running:
            daemon.stop()
    absent = Ctl(daemon, "--store", "/nowhere").run("runs")
    assert absent.code == AWAY_STORE and absent.err == "wbxctl: there is no store at /nowhere\n", str(absent)


@test
def another_user_is_turned_away(box: Box) -> None:
    if os.geteuid() != 0:
        raise Skip("becoming another user needs root")
    daemon = started(box)
    done = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *Ctl(daemon).args("pause", "models")],
                          env=ctl_env(box), capture_output=True, text=True, timeout=40)
    result = Result(done.returncode, done.stdout, done.stderr)
    assert result.code == NOT_ALLOWED and "you may not use the control socket" in result.err, str(result)


# -- shells

def completed(script: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    code = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _wbxctl; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "--norc", "-c", code, "bash", str(script), *words], capture_output=True, text=True, timeout=40)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


@test
def completion_scripts_are_ones(box: Box) -> None:
    script = box.dir / "wbxctl.bash"
    script.write_text(subprocess.run([WBXCTL, "completion", "bash"], capture_output=True, text=True, check=True).stdout)
    subprocess.run(["bash", "-n", script], check=True)
    assert completed(script, "wbxctl", "pa") == ["pause"]
    assert completed(script, "wbxctl", "dead", "") == ["list", "show", "retry", "drop", "export"]
    assert completed(script, "wbxctl", "pause", "m") == ["models"]
    assert completed(script, "wbxctl", "retry", "--sink", "w") == ["weave"]
    assert "--wait" in completed(script, "wbxctl", "flush", "--")
    assert completed(script, "wbxctl", "--socket", "/x", "dead", "s") == ["show"], "/x is no word of the command"
    assert completed(script, "wbxctl", "tail", "-n", "5", "--kind", "al") == ["alert"]


def completed_by_zsh(script: Path, *words: str) -> list[str]:
    """What zsh would be offered for the last of the words."""
    code = """
        compadd() { [[ $1 == -- ]] && shift; print -rl -- "$@" }
        _describe() { shift 2; print -rl -- ${${(P)1}%%:*} }
        _files() { print -r FILES }
        script=$1; shift; words=("$@"); CURRENT=$#; source $script"""
    done = subprocess.run(["zsh", "-f", "-c", code, "zsh", str(script), *words], capture_output=True, text=True, timeout=40)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


@test
def the_zsh_script_offers_the_same(box: Box) -> None:
    text = subprocess.run([WBXCTL, "completion", "zsh"], capture_output=True, text=True, check=True).stdout
    assert text.startswith("#compdef wbxctl")
    if not any((Path(d) / "zsh").exists() for d in os.environ["PATH"].split(":")):
        raise Skip("there is no zsh")
    script = box.dir / "_wbxctl"
    script.write_text(text)
    assert "pause" in completed_by_zsh(script, "wbxctl", "")
    assert completed_by_zsh(script, "wbxctl", "dead", "") == ["list", "show", "retry", "drop", "export"]
    assert completed_by_zsh(script, "wbxctl", "pause", "")[:3] == ["models", "artifacts", "weave"]
    assert completed_by_zsh(script, "wbxctl", "retry", "--sink", "") == ["models", "artifacts", "weave"]
    assert completed_by_zsh(script, "wbxctl", "--socket", "") == ["FILES"]
    assert "--wait" in completed_by_zsh(script, "wbxctl", "flush", "--")
    assert completed_by_zsh(script, "wbxctl", "--socket", "/x", "dead", "")[:2] == ["list", "show"], "/x is no word of the command"


main()
