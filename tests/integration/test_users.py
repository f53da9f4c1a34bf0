"""Several users of one machine: what is whose, under which key it goes out, and that nobody gets in another's way."""
from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from client import Client, Frame, log_record, now_us, record, records
from ctl import Ctl
from daemon import Daemon
from delivery import Logged, some_rows
from journal import spool_bytes, spool_path
from tap import WAIT_SECONDS, Box, main, pause, test, until
from trainer import python_env
from users import ALICE, BOB, CAROL, CtlAs, client_as, connect_as, need_root, shared
from wandb import KEY, Fake, forwarding, key_file, own
from weave import uuid7

ROOT = Path(__file__).resolve().parents[2]
ALICE_KEY = "a" * 32 + "0a11ce00"
BOB_KEY = "b" * 32 + "00b0b000"
WRONG_KEY = "c" * 40
OK, BEHIND, USAGE, DATA, LATER, NOT_ALLOWED = 0, 1, 64, 65, 75, 77

ACCOUNTS = ("--account", f"{KEY}=site-bot:wbx-team,open-team", "--account", f"{ALICE_KEY}=alice:alice-home,wbx-team",
            "--account", f"{BOB_KEY}=bob:bob-home")


def sending(box: Box, *fake_args: str, key: bool = True, **settings: Any) -> tuple[Fake, Daemon]:
    """A W&B that knows the site, alice and bob, and a daemon for all users; key: the site has one."""
    fake = Fake(box, *ACCOUNTS, *fake_args)
    have = {"models__key_file": key_file(box)} if key else {}
    return fake, shared(box, **(have | forwarding(fake, models__requests_per_s=0) | settings))


def log_as(daemon: Daemon, uid: int, run: str, entity: str | None = None, count: int = 3) -> Logged:
    """A whole run of this user, on the daemon's disk when it returns."""
    more = {} if entity is None else {"entity": entity}
    with client_as(daemon, uid) as c:
        logged = Logged(run, **more).open(c).log(c, *some_rows(count))
        logged.finish(c)
    return logged


def users_of(fake: Fake, run: str) -> set[str]:
    """Under whose keys W&B heard of this run."""
    return {e["user"] for e in fake.requests("filestream") if e["path"].endswith(f"/{run}/file_stream")}


def sink_of(status: dict, uid: int | None) -> dict:
    return next(s for s in status["sinks"] if s["name"] == "models" and s["uid"] == uid)


# -- keys


@test
def a_user_s_key_is_used_for_that_user_s_runs_alone(box: Box) -> None:
    fake, daemon = sending(box)
    alice = CtlAs(daemon, ALICE)
    said = alice("key", "set", stdin=ALICE_KEY + "\n")
    assert said == ("the key is kept for your runs; W&B accepts your key …ce00 (wbxctl key set): user alice, "
                    "default entity alice-home\n"), said
    log_as(daemon, ALICE, "by-alice").entity
    log_as(daemon, BOB, "by-bob")
    fake.await_rows("by-bob", 3)
    until(lambda: fake.run("by-alice", entity="alice-home"), "alice's run is in her own entity")
    until(lambda: fake.run("by-alice", entity="alice-home")["state"] == "finished", "alice's run is finished")
    fake.await_run("by-bob", "finished")
    assert users_of(fake, "by-alice") == {"alice"}, users_of(fake, "by-alice")
    assert users_of(fake, "by-bob") == {"site-bot"}, users_of(fake, "by-bob")
    fake.check()


@test
def a_key_outlives_the_daemon_and_is_kept_for_nobody_to_read(box: Box) -> None:
    fake, daemon = sending(box, key=False)
    alice = CtlAs(daemon, ALICE)
    alice("key", "set", stdin=ALICE_KEY)
    kept = daemon.store.path / "keys" / str(ALICE)
    assert kept.read_text() == ALICE_KEY
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert [p.name for p in kept.parent.iterdir()] == [str(ALICE)], "nothing is left about"
    daemon.kill9()
    daemon.start()
    log_as(daemon, ALICE, "r")
    until(lambda: (run := fake.run("r", entity="alice-home")) and run["state"] == "finished", "it is delivered")


@test
def a_refused_key_of_one_user_does_not_stop_the_others(box: Box) -> None:
    fake, daemon = sending(box)
    alice, bob, root = CtlAs(daemon, ALICE), CtlAs(daemon, BOB), Ctl(daemon)
    said = alice("key", "set", stdin=WRONG_KEY, code=DATA)
    assert said.startswith("the key is kept for your runs; W&B refuses your key …cccc (wbxctl key set): HTTP 401"), said
    bob("key", "set", stdin=BOB_KEY)
    log_as(daemon, ALICE, "by-alice")
    log_as(daemon, CAROL, "by-carol")
    log_as(daemon, BOB, "by-bob")
    fake.await_run("by-carol", "finished")
    until(lambda: fake.run("by-bob", entity="bob-home"), "bob's run is in his entity")
    status = alice.await_reason("auth_refused")
    reason = next(r for r in status["reasons"] if r["code"] == "auth_refused")
    assert reason["text"] == "W&B refused the key …cccc of you (HTTP 401)", reason
    assert reason["action"] == "wbxctl key set", reason
    assert sink_of(status, ALICE)["waiting"] == 5, status["sinks"]
    assert [s["uid"] for s in status["sinks"] if s["name"] == "models"] == [ALICE], "nobody else's keys are shown"
    status = root.status()
    reason = next(r for r in status["reasons"] if r["code"] == "auth_refused")
    assert reason["text"] == f"W&B refused the key …cccc of user {ALICE} (HTTP 401)", reason
    assert reason["action"] == f"As user {ALICE}: wbxctl key set", reason
    assert f"models:{ALICE} key refused" in " ".join(root("status", code=BEHIND).split())
    assert "auth_refused" not in [r["code"] for r in CtlAs(daemon, CAROL).status()["reasons"]]
    alice("key", "set", stdin=ALICE_KEY)
    until(lambda: (run := fake.run("by-alice", entity="alice-home")) and run["state"] == "finished", "with a good key it goes out")


@test
def a_key_that_is_taken_back_leaves_the_runs_to_the_site_s(box: Box) -> None:
    fake, daemon = sending(box)
    alice = CtlAs(daemon, ALICE)
    alice("key", "set", stdin=ALICE_KEY)
    assert alice("key", "forget") == "keys forgotten: 1\n"
    assert list((daemon.store.path / "keys").iterdir()) == []
    assert "you have handed over no key" in alice.run("key", "forget").err
    assert alice.run("key", "forget").code == DATA
    log_as(daemon, ALICE, "r")
    fake.await_run("r", "finished")
    assert users_of(fake, "r") == {"site-bot"}


@test
def key_check_says_whose_key_it_is_and_where_it_was_found(box: Box) -> None:
    fake, daemon = sending(box)
    alice, root = CtlAs(daemon, ALICE), Ctl(daemon)
    said = root("key", "check")
    assert said == f"W&B accepts the site's key …4567 ({box.dir}/key): user site-bot, default entity wbx-team\n", said
    assert alice("key", "check") == said, "alice has none of her own"
    [answer] = alice.lines("key", "check")
    assert answer == {"count": 1, "state": "accepted", "owner": "site", "source": f"{box.dir}/key", "tail": "4567",
                      "user": "site-bot", "entity": "wbx-team", "error": ""}, answer
    fake.stop()
    result = alice.run("key", "check")
    assert result.code == LATER and result.out.startswith("W&B cannot be asked now about the site's key …4567"), result
    root("pause", "models")
    assert "not asked while the sink is paused" in root("key", "check", code=LATER)


@test
def without_any_key_the_answer_says_what_to_do(box: Box) -> None:
    daemon = shared(box)
    result = CtlAs(daemon, ALICE).run("key", "check")
    assert result.code == DATA and result.out == "there is no key for your runs: wbxctl key set\n", result


@test
def what_is_no_key_is_not_kept(box: Box) -> None:
    daemon = shared(box)
    alice = CtlAs(daemon, ALICE)
    for text in ("", "short", "with blanks " * 5, "x" * 1025, "\0" * 30):
        result = alice.run("key", "set", stdin=text)
        assert result.code in (USAGE, DATA) and not result.out, f"{text!r}: {result}"
    assert not (daemon.store.path / "keys").exists()
    assert alice.run("key", "set", ALICE_KEY).code == USAGE, "not on the command line"


@test
def a_key_file_that_others_may_read_is_not_used_and_no_other_key_in_its_place(box: Box) -> None:
    fake, daemon = sending(box)
    CtlAs(daemon, ALICE)("key", "set", stdin=ALICE_KEY)
    (daemon.store.path / "keys" / str(ALICE)).chmod(0o644)
    daemon.restart()
    log_as(daemon, ALICE, "r")
    daemon.await_log(f"keys/{ALICE}: others may read it; chmod 600")
    status = CtlAs(daemon, ALICE).await_reason("no_key")
    assert sink_of(status, ALICE)["state"] == "no_key", status["sinks"]
    assert users_of(fake, "r") == set()


@test
def python_hands_over_the_key_when_its_user_says_so(box: Box) -> None:
    fake, daemon = sending(box, key=False)

    def run(code: str, **env: str) -> str:
        env = python_env(HOME=str(box.dir), WBX_SOCKET=str(daemon.socket), **env)
        done = subprocess.run([sys.executable, "-c", f"import wbx\n{code}"], env=env, capture_output=True, text=True, timeout=WAIT_SECONDS)
        assert done.returncode == 0, done
        return done.stdout + done.stderr

    kept = daemon.store.path / "keys" / "0"
    run("r = wbx.init(project='p', id='quiet')\nr.finish()", WANDB_API_KEY=ALICE_KEY)
    assert not kept.exists(), "a key in the environment is not taken along in silence"
    assert "there is no key" in run("assert not wbx.login()")
    assert "that is no API key" in run("assert not wbx.login(key='short')")
    assert run("assert wbx.login()", WANDB_API_KEY=ALICE_KEY) == ""
    assert kept.read_text() == ALICE_KEY
    netrc = box.dir / ".netrc"
    netrc.touch(mode=0o600)
    netrc.write_text(f"machine api.wandb.ai login user password {BOB_KEY}\n")
    run("assert wbx.login()")
    assert kept.read_text() == BOB_KEY
    run(f"assert wbx.login(key={ALICE_KEY!r})")
    until(lambda: (r := fake.run("quiet", entity="alice-home")) and r["state"] == "finished", "what waited went out under it")


# -- who may use the site's key, and for what


def ruled(box: Box, text: str, *fake_args: str, **settings: Any) -> tuple[Fake, Daemon, Path]:
    """As sending(), with these lines as [users] of a configuration file."""
    file = box.dir / "wbxd.conf"
    file.write_text(f"[users]\n{text}\n")
    fake = Fake(box, *ACCOUNTS, *fake_args)
    have = {"models__key_file": key_file(box)} | forwarding(fake, models__requests_per_s=0) | settings
    need_root()
    box.dir.chmod(0o711)
    daemon = Daemon(box, daemon__socket_mode="0666", **have).start("--config", str(file))
    daemon.dir.chmod(0o711)
    return fake, daemon, file


@test
def who_is_not_listed_waits_and_the_others_go_on(box: Box) -> None:
    fake, daemon, _ = ruled(box, f"{ALICE} = wbx-team")
    log_as(daemon, BOB, "by-bob")
    log_as(daemon, ALICE, "by-alice")
    fake.await_run("by-alice", "finished")
    bob = CtlAs(daemon, BOB)
    status = bob.await_reason("no_key")
    reason = next(r for r in status["reasons"] if r["code"] == "no_key")
    assert reason["text"] == "no key for runs of you: they wait on disk" and reason["action"] == "wbxctl key set", reason
    assert bob.run("key", "check").out == "there is no key for your runs: wbxctl key set\n"
    assert users_of(fake, "by-bob") == set()
    bob("key", "set", stdin=BOB_KEY)
    until(lambda: (run := fake.run("by-bob", entity="bob-home")) and run["state"] == "finished", "with a key of his own it goes out")


@test
def a_run_that_belongs_to_an_entity_that_is_not_allowed_is_parked(box: Box) -> None:
    fake, daemon, file = ruled(box, "* = wbx-team, open-*/p-?")
    alice = CtlAs(daemon, ALICE)
    log_as(daemon, ALICE, "allowed")
    log_as(daemon, ALICE, "default", entity="wbx-team")
    log_as(daemon, ALICE, "elsewhere", entity="open-team")
    fake.await_run("allowed", "finished")
    fake.await_run("default", "finished")
    why = alice.await_parked("elsewhere")
    assert why == (f"user {ALICE} may not write to open-team/p under the site's key ([users] in wbxd.conf); "
                   "under his own he may: wbxctl key set"), why
    assert not fake.run("elsewhere", entity="open-team")
    with client_as(daemon, ALICE) as c:
        c.open_run("inside", project="p-1", entity="open-team")
        c.log("inside")
        c.finish("inside")
    until(lambda: (run := fake.run("inside", "p-1", entity="open-team")) and run["state"] == "finished", "a project that matches")
    file.write_text("[users]\n* = *\n")
    daemon.reload()
    assert alice("retry", "--run", "elsewhere")
    until(lambda: (run := fake.run("elsewhere", entity="open-team")) and run["state"] == "finished", "the rule was changed")


@test
def a_key_of_his_own_takes_up_the_runs_that_the_site_s_may_not_write(box: Box) -> None:
    fake, daemon, _ = ruled(box, "* = open-team")
    alice = CtlAs(daemon, ALICE)
    log_as(daemon, ALICE, "r", entity="wbx-team")
    alice.await_parked("r")
    alice("key", "set", stdin=ALICE_KEY)
    fake.await_run("r", "finished")
    assert users_of(fake, "r") == {"alice"}


@test
def users_stand_in_the_file_by_name_too_and_mistakes_are_told(box: Box) -> None:
    fake, daemon, file = ruled(box, "nobody = wbx-team\n1 = *")
    nobody = pwd.getpwnam("nobody").pw_uid
    log_as(daemon, nobody, "by-nobody")
    fake.await_run("by-nobody", "finished")
    for line, what in (("no-such-user-here = *", "there is no user of that name or number"), ("4294967295 = *", "there is no user"),
                       (f"{ALICE} = a b", "must be entities, or entity/project"), (f"{ALICE} = a/b/c", "must be entities"),
                       (f"{ALICE} = a,,b", "must be entities"), (f"{ALICE} = /p", "must be entities")):
        file.write_text(f"[users]\n{line}\n")
        daemon.process.signal(signal.SIGHUP)
        daemon.await_log(f"{file}:2: users.{line.split(' ')[0]}: {what}")
        daemon.log_path.write_text("")


@test
def an_empty_line_shuts_one_user_out(box: Box) -> None:
    fake, daemon, _ = ruled(box, f"* = *\n{BOB} =")
    log_as(daemon, BOB, "by-bob")
    CtlAs(daemon, BOB).await_reason("no_key")
    log_as(daemon, ALICE, "by-alice")
    fake.await_run("by-alice", "finished")
    assert not fake.run("by-bob")


# -- who may log at all, and who may steer

TEAM = 61000


@test
def only_those_on_the_list_may_log(box: Box) -> None:
    daemon = shared(box, daemon__allow=f"{ALICE}, @{TEAM}")
    client_as(daemon, ALICE).close()
    Client(daemon.socket, sock=connect_as(daemon.socket, BOB, [TEAM])).hello()
    for sock in (connect_as(daemon.socket, BOB), connect_as(daemon.socket, 0), connect_as(daemon.socket, BOB, [TEAM + 1])):
        refused = Client(daemon.socket, sock=sock)
        refused.say_hello()
        [frame] = refused.await_end()
        assert (frame.kind, frame.code) == ("reject", "not_allowed") and "daemon.allow" in frame.body["text"], frame
    until(lambda: Ctl(daemon).status()["ingest"]["clients"] <= 2, "who was sent away is gone")
    assert CtlAs(daemon, BOB).status()["state"] != "not_running", "asking is another socket"


@test
def what_a_process_left_that_may_not_log_stays_where_it_is(box: Box) -> None:
    daemon = shared(box, daemon__allow=f"{ALICE}, @{TEAM}")
    journals = {}
    for uid, gid in ((ALICE, ALICE), (BOB, BOB), (CAROL, TEAM)):
        producer = os.urandom(16)
        new = daemon.spool_dir / f"{producer.hex()}.new"
        new.write_bytes(spool_bytes(producer, records(1, 2)))
        os.chown(new, uid, gid)
        journals[uid] = new.rename(spool_path(daemon.spool_dir, producer, 1))
    until(lambda: not journals[ALICE].exists() and not journals[CAROL].exists(), "those of the list were read in")
    assert journals[BOB].exists()
    assert sorted(daemon.store.query("SELECT DISTINCT uid FROM producer")) == [(ALICE,), (CAROL,)]


@test
def names_of_groups_mean_their_members(box: Box) -> None:
    group = next((g for g in grp.getgrall() if g.gr_mem), None)
    allow = f"nobody, @{group.gr_name}" if group else "nobody"
    daemon = shared(box, daemon__allow=allow)
    client_as(daemon, pwd.getpwnam("nobody").pw_uid).close()
    if group:
        client_as(daemon, pwd.getpwnam(group.gr_mem[0]).pw_uid).close()


# every verb, its least arguments, and whether those who are no administrators may use it
VERBS = {
    "status": ({}, True), "backlog": ({}, True), "runs": ({}, True), "tail": ({}, True), "export": ({"run": "r"}, True), "flush": ({}, True), "retry": ({}, True),
    "dead_list": ({}, True), "dead_show": ({"id": 1}, True), "dead_retry": ({"ids": [1]}, True), "dead_drop": ({"ids": [1]}, True),
    "late_list": ({}, True), "late_drop": ({"run": "r"}, True), "traces_send": ({"run": "r"}, True), "key_set": ({"key": "short"}, True), "key_check": ({}, True),
    "key_forget": ({}, True), "probe": ({}, True), "verify": ({"run": "r"}, True), "disk": ({}, True),
    "traces": ({"run": "r"}, True), "trace": ({"id": "c"}, True), "blob": ({"sha256": "0" * 64}, True),
    "check": ({}, False), "prunable": ({"before_us": 1}, False), "prune": ({"before_us": 1}, False),
    "pause": ({"sink": "weave"}, False), "unpause": ({"sink": "weave"}, False), "limit": ({"sink": "models", "default": True}, False),
}


def ask_as(daemon: Daemon, verb: str, body: dict, uid: int, groups: tuple[int, ...] = ()) -> Frame:
    """The end of the answer."""
    with Client(daemon.control, sock=connect_as(daemon.control, uid, groups)) as c:
        c.send_bytes(record(verb, 1, **body))
        while (frame := c.recv()).kind == "item":
            pass
        return frame


@test
def every_verb_respects_who_asks(box: Box) -> None:
    gid = pwd.getpwnam("nobody").pw_gid
    admins = grp.getgrgid(gid).gr_name
    daemon = shared(box, daemon__admin_group=admins)
    table = re.findall(r'^\t\[VERB_\w+\] = \{"(\w+)", (WHO_\w+)', (ROOT / "proto/control.c").read_text(), flags=re.M)
    assert {name: who == "WHO_OWN" for name, who in table} == {name: everybody for name, (_, everybody) in VERBS.items()}
    for verb, (body, everybody) in VERBS.items():
        plain = ask_as(daemon, verb, body, BOB)
        assert (plain.code != "not_allowed") == everybody, f"{verb}: {plain}"
        for asker in (ask_as(daemon, verb, body, BOB, (gid,)), ask_as(daemon, verb, body, 0)):
            assert asker.code not in ("not_allowed", "not_yours", "unknown_verb"), f"{verb}: {asker}"


@test
def nobody_reads_what_another_s_judges_said_or_tables_hold(box: Box) -> None:
    daemon = shared(box)
    call, trace = uuid7(), uuid7()
    with client_as(daemon, ALICE) as a, client_as(daemon, BOB) as b:
        a.open_run("hers")
        b.open_run("his")
        a.send("call", run="hers", t=now_us(), phase="start", id=call, trace_id=trace, op="secret", started_at=now_us(), inputs={"q": "secret"})
        digest = a.blob(1, b"[[1]]")
        a.log_blobs([digest], run="hers")
        a.flush()
        b.flush()
        for asker, may in ((ALICE, True), (BOB, False), (0, True)):
            ctl = CtlAs(daemon, asker)
            for words in (("traces", "hers"), ("trace", call), ("trace", trace)):
                result = ctl.run(*words)
                assert (result.code == 0 and "secret" in result.out) == may and ("secret" in result.out + result.err) == may, f"{asker} {words}: {result}"
            end = ask_as(daemon, "blob", {"sha256": digest.hex()}, asker)
            assert end.body.get("code") == (None if may else "not_found"), end


@test
def nobody_reads_or_steers_what_is_another_s(box: Box) -> None:
    fake, daemon = sending(box)
    fake.fault({"kind": "filestream", "body": "secret-of-alice"}, {"status": 400, "body": {"error": "no"}}, count=-1)
    with client_as(daemon, ALICE) as a, client_as(daemon, BOB) as b:
        a.open_run("hers", config={"prompt": "secret-of-alice"}, tags=["secret-of-alice"])
        a.send("log", run="hers", t=now_us(), data={"text": "secret-of-alice"})
        a.send("log", run="hers", t=now_us(), data={"n": 1}, step=5)
        a.send("log", run="hers", t=now_us(), data={"n": 2}, step=3)
        a.flush()
        Ctl(daemon).await_dead(2)  # the row and the summary
        for kind, more in (("log", {"data": {}}), ("tags", {"add": ["mine"]}), ("summary", {"data": {}}), ("finish", {})):
            b.send(kind, run="hers", t=now_us(), **more)
        b.flush()
        assert codes(b) == ["unknown_run"] * 4, b.rejects
        bob = CtlAs(daemon, BOB)
        for words in (("status",), ("backlog",), ("runs",), ("tail", "-n", "100"), ("dead", "list"), ("late", "list")):
            for shown in (bob.run(*words).out, bob.run("--json", *words).out):
                assert "secret" not in shown and "hers" not in shown, f"{words}: {shown}"
        for words, code in ((("dead", "show", "1"), DATA), (("export", "hers", "--jsonl"), DATA), (("retry", "--run", "hers"), DATA),
                            (("dead", "drop", "1"), NOT_ALLOWED), (("dead", "retry", "1"), NOT_ALLOWED), (("late", "drop", "hers"), DATA),
                            (("url", "hers"), DATA), (("runs", "hers"), DATA)):
            result = bob.run(*words)
            assert result.code == code and "secret" not in result.out + result.err, f"{words}: {result}"
        assert len(Ctl(daemon).dead()) == 2, "they are still there"
        bob.options = ("--store", daemon.store.path)
        result = bob.run("runs")
        assert result.code == 3 and "readable to its daemon's user and root only" in result.err, result
        assert len(CtlAs(daemon, ALICE).lines("dead", "list")) == 2


# -- nobody starves another


@test
def who_has_more_waiting_than_one_may_is_refused_alone(box: Box) -> None:
    daemon = shared(box, store__user_limit=f"{1 << 20}")  # nothing is sent: all of it waits
    with client_as(daemon, ALICE) as a, client_as(daemon, BOB) as b:
        a.open_run("a")
        b.open_run("b")
        for _ in range(11):
            b.send("log", run="b", t=now_us(), data={"text": "x" * 100000})
        b.flush()
        status = CtlAs(daemon, BOB).await_reason("user_limit")
        assert status["state"] == "critical" and status["users_over_limit"][0]["uid"] == BOB, status
        assert Ctl(daemon).await_reason("user_limit")["state"] == "attention"
        daemon.await_log("more waits than store.user_limit")
        assert "user_limit" not in [r["code"] for r in CtlAs(daemon, ALICE).status()["reasons"]]
        for c in (a, b):
            run = "a" if c is a else "b"
            c.log_blobs([c.blob(1, b"table" * 1000)], run=run)
            c.log(run)
            c.flush()
        assert not a.rejects and codes(b) == ["disk_full"], (a.rejects, b.rejects)
        assert "store.user_limit" in b.rejects[0].body["text"] and b.rejects[0].body["final"] is False
        assert daemon.store.tally() == {"refused:bulk": 1}, daemon.store.tally()
        for _ in range(3):  # a quarter more, and bob is not read
            b.send("log", run="b", t=now_us(), data={"text": "x" * 100000})
        b.flush()

        def is_read(c: Client) -> bool:
            seq = c.send("flush")
            try:
                while c.acked < seq:
                    c.recv(1.5)
            except TimeoutError:
                return False
            return True

        until(lambda: not is_read(b), "what bob sends waits")
        a.log("a")
        a.flush()
        assert not a.rejects


@test
def frames_sent_by_halves_hold_back_nobody_else_s(box: Box) -> None:
    daemon = shared(box)
    half = record("log", 2, run="b", t=now_us(), data={"text": "x" * ((1 << 20) - 200)})[:1000000]
    halves = [client_as(daemon, BOB) for _ in range(40)]  # more than the whole budget
    with client_as(daemon, ALICE) as a:
        a.open_run("a")
        for c in halves:
            c.open_run("b")
            c.await_ack()
            c.sock.setblocking(False)
        rest = {c: memoryview(half) for c in halves}

        def push() -> bool:
            """Nothing more is taken of them."""
            before = sum(map(len, rest.values()))
            for _ in range(20):
                for c in halves:
                    with contextlib.suppress(BlockingIOError):
                        rest[c] = rest[c][c.sock.send(rest[c][:1 << 16]):]
                pause()
            return sum(map(len, rest.values())) == before

        until(push, "the daemon reads no more of the halves")
        for _ in range(5):
            a.send("log", run="a", t=now_us(), data={"text": "x" * 900000})
        a.send("flush")
        began = time.monotonic()
        a.await_ack()
        assert time.monotonic() - began < 25, "not after the time that a frame may take"
    for c in halves:
        c.close()


@test
def a_flood_of_one_user_does_not_hold_back_another(box: Box) -> None:
    daemon = shared(box)
    flood = [client_as(daemon, BOB) for _ in range(3)]
    with client_as(daemon, ALICE) as a:
        a.open_run("a")
        a.flush()
        for n, c in enumerate(flood):
            c.open_run(f"b{n}")
            c.flush()
            c.sock.setblocking(False)
        data = {id(c): b"".join(log_record(seq, f"b{n}") for seq in range(10, 60010)) for n, c in enumerate(flood)}
        sent = dict.fromkeys(data, 0)

        def push() -> None:
            for c in flood:
                with contextlib.suppress(BlockingIOError):
                    sent[id(c)] += c.sock.send(data[id(c)][sent[id(c)]:sent[id(c)] + (1 << 16)])

        while not any(sent.values()):
            push()
        for _ in range(20):
            seq = a.log("a")
            a.send("flush")
            rounds = 0
            while a.acked < seq:
                push()
                if select.select([a.sock], [], [], 0)[0]:
                    a.recv()
                rounds += 1
        assert all(sent[id(c)] < len(data[id(c)]) for c in flood), "alice was served while the flood went on"
    for c in flood:
        c.close()


# -- limits

@test
def limits_are_changed_while_it_runs_and_stay_until_taken_back(box: Box) -> None:
    fake, daemon = sending(box)
    root, alice = Ctl(daemon), CtlAs(daemon, ALICE)
    assert root("limit") == "models: no limit of requests, no limit of bytes (as the settings say)\n"
    assert "only root" in alice.run("limit", "--bytes-per-s", "1K").err
    assert alice.run("limit", "--bytes-per-s", "1K").code == NOT_ALLOWED
    assert root("limit", "--bytes-per-s", "1K", "models") == ("models: no limit of requests, 1 KiB/s (asked for; --default takes that "
                                                              "back)\n")
    assert alice("limit").startswith("models: no limit of requests, 1 KiB/s")
    with client_as(daemon, ALICE) as c:
        c.open_run("r")
        c.send("log", run="r", t=now_us(), data={"text": "x" * 300000})
        c.flush()
        until(lambda: Ctl(daemon).sink()["in_flight"] > 0, "the row is on its way")
        daemon.restart()  # a wish outlives it
        until(lambda: Ctl(daemon).sink()["in_flight"] > 0, "the row is on its way again")
        [limit] = root.lines("limit")
        assert limit == {"sink": "models", "requests_per_s": 0, "bytes_per_s": 1024, "limits_are_asked_for": True}, limit
        assert "limit: models: no limit of requests, 1 KiB/s; wbxctl limit --default takes that back" in root("status")
        assert fake.rows("r") == [], "at 1 KiB/s the row takes minutes"
        root("limit", "--requests-per-s", "7")
        assert root.sink()["requests_per_s"] == 7 and root.sink()["bytes_per_s"] == 1024, "the other one stays"
        assert "(as the settings say)" in root("limit", "--default")
        fake.await_rows("r", 1)
        assert not root.sink()["limits_are_asked_for"]


@test
def limits_that_are_none_are_refused(box: Box) -> None:
    daemon = shared(box)
    root = Ctl(daemon)
    for words in (("--bytes-per-s", "fast"), ("--bytes-per-s", "1KB"), ("--bytes-per-s", "-1"), ("--bytes-per-s", "9999999999T"),
                  ("--requests-per-s", "1.5"), ("--requests-per-s", "100001"), ("weave",), ("nothing",)):
        result = root.run("limit", *words)
        assert result.code == USAGE and not result.out, f"{words}: {result}"


# -- tokens

TOKEN = "0123456789abcdef-not-guessed"


def codes(c: Client) -> list[str]:
    return [r.code for r in c.rejects]


@test
def who_knows_the_token_of_a_run_may_join_it(box: Box) -> None:
    fake, daemon = sending(box)
    CtlAs(daemon, ALICE)("key", "set", stdin=ALICE_KEY)
    with client_as(daemon, ALICE) as a, client_as(daemon, BOB) as b:
        a.open_run("r", token=TOKEN, entity="alice-home")
        a.send("log", run="r", t=now_us(), data={"by": "alice"}, step=0)
        a.flush()
        b.send("attach", run="r", project="p", entity="alice-home", t=now_us(), token=TOKEN)
        b.send("log", run="r", t=now_us(), data={"by": "bob"}, step=1)
        b.finish("r")
        a.finish("r")
    until(lambda: (run := fake.run("r", entity="alice-home")) and run["state"] == "finished", "the run is finished")
    assert [own(row) for row in fake.rows("r", entity="alice-home")] == [{"by": "alice"}, {"by": "bob"}]
    assert users_of(fake, "r") == {"alice"}, "all of it goes out under the owner's key"
    assert Ctl(daemon).lines("runs")[0]["run"] == "r" and len(Ctl(daemon).lines("runs")) == 1
    for path in (p for p in daemon.dir.rglob("*") if p.is_file()):
        assert TOKEN.encode() not in path.read_bytes(), f"{path} holds the token"


@test
def without_the_token_nobody_joins_the_run_of_another(box: Box) -> None:
    daemon = shared(box)
    with client_as(daemon, ALICE) as a, client_as(daemon, BOB) as b:
        a.open_run("r", token=TOKEN)
        a.log("r")
        a.flush()
        b.send("attach", run="r", project="p", t=now_us(), token="x" * 20)
        b.log("r")
        b.flush()
        assert codes(b) == ["not_yours", "unknown_run"], b.rejects
        assert b.rejects[0].body["text"] == "no run of that name has this token; its owner's process has it (run.token)"
        assert b.await_notice(run="r", state="rejected", conflict=True)["reason"] == b.rejects[0].body["text"]
        b.send("attach", run="r", project="other", t=now_us(), token=TOKEN)
        b.send("attach", run="s", project="p", t=now_us(), token=TOKEN)
        b.send("attach", run="r", project="p", t=now_us(), token="short")
        b.flush()
        assert codes(b)[2:] == ["not_yours", "not_yours", "bad_field"], b.rejects
        b.open_run("r")  # a run of his own that has the same name
        b.log("r")
        b.flush()
        assert len(b.rejects) == 5
    runs = Ctl(daemon).lines("runs")
    assert [r["run"] for r in runs] == ["r", "r"], runs
    alice, bob = CtlAs(daemon, ALICE), CtlAs(daemon, BOB)
    assert len(alice.lines("runs")) == len(bob.lines("runs")) == 1
    assert len(alice.lines("tail", "--kind", "log")) == len(bob.lines("tail", "--kind", "log")) == 1


@test
def a_token_is_the_owner_s_to_change(box: Box) -> None:
    daemon = shared(box)
    with client_as(daemon, ALICE) as a, client_as(daemon, BOB) as b, client_as(daemon, BOB) as late:
        a.open_run("r", token=TOKEN)
        a.flush()
        b.send("attach", run="r", project="p", t=now_us(), token=TOKEN)
        b.flush()
        a.open_run("r", token="another token of 16+")
        a.flush()
        late.send("attach", run="r", project="p", t=now_us(), token=TOKEN)
        late.flush()
        assert codes(late) == ["not_yours"], late.rejects
        late.open_run("r", token="another token of 16+")  # his own run: a token of his own does not open hers
        late.flush()
        b.log("r")  # who is in, stays in
        b.flush()
        assert not b.rejects
    runs = Ctl(daemon).lines("runs")
    assert len(runs) == 2, runs


@test
def a_run_is_joined_by_the_python_package_too(box: Box) -> None:
    fake, daemon = sending(box)
    with client_as(daemon, ALICE) as a:
        a.open_run("r", token=TOKEN, entity="wbx-team")
        a.flush()
        code = (f"import wbx\nr = wbx.attach('p', 'r', entity='wbx-team', token={TOKEN!r})\nr.log({{'by': 'root'}})\n"
                "assert r.flush(30)\nr.finish()\nmine = wbx.init(project='p', id='mine', token=True)\n"
                "assert len(mine.token) == 32\nmine.finish()\n"
                "try:\n    wbx.init(project='p', token='short')\nexcept wbx.UsageError:\n    print('refused')\n")
        env = python_env(HOME=str(box.dir), WBX_SOCKET=str(daemon.socket))
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=WAIT_SECONDS)
        assert done.returncode == 0 and done.stdout.endswith("refused\n"), done
        a.finish("r")
    fake.await_run("r", "finished")
    assert [own(row) for row in fake.rows("r")] == [{"by": "root"}]


main()
