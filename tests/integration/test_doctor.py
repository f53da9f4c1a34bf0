"""wbxctl doctor, verify and store: what they say of a daemon, its disk, its store and W&B, in health and out of it."""
from __future__ import annotations

import errno
import json
import os
import sqlite3

from client import connected, greeted, now_us, opened
from ctl import Ctl
from daemon import Daemon, away, started
from delivery import VIEWER, Logged, log_whole, some_rows, steered
from disk import Disk
from tap import Box, main, test
from wandb import Fake

USAGE, DATA, AWAY, LATER = 64, 65, 69, 75


def look(ctl: Ctl, *words: str) -> dict[str, dict]:
    result = ctl.run("doctor", "--json", *words)
    found = {line["check"]: line for line in map(json.loads, result.out.splitlines())}
    worst = max(("OK", "WARN", "FAIL").index(f["result"]) for f in found.values())
    assert result.code == worst, str(result)
    for f in found.values():
        assert (f["result"] == "OK") == (f["action"] is None), f
    return found


# -- doctor

@test
def doctor_looks_at_everything_and_says_ok(box: Box) -> None:
    _, daemon, ctl = steered(box, store__reserve="1M")
    log_whole(daemon, "r")
    found = look(ctl)
    assert list(found) == ["net", "disk", "key", "clock", "socket", "store"]
    for check in ("net", "key", "socket", "store"):
        assert found[check]["result"] == "OK", found[check]
    assert "TLS none" in found["net"]["found"] and "(HTTP 200)" in found["net"]["found"]
    assert "user " in found["key"]["found"] and "ends with 4567" in found["key"]["found"]
    assert "records agree with their sums" in found["store"]["found"]
    assert "a sync takes" in found["disk"]["found"]
    text = ctl("doctor", "key")
    assert text.startswith("OK    key: W&B takes the key") and text.count("\n") == 1, text
    ctl("doctor", "frob", code=USAGE)
    assert len(daemon.store.query("SELECT 1 FROM producer WHERE name >= 'wbxctl' AND CAST(name AS TEXT) LIKE 'wbxctl%'")) <= 1


@test
def doctor_says_when_the_link_is_down_and_when_something_else_answers(box: Box) -> None:
    fake, _, ctl = steered(box)
    fake.stop()
    found = look(ctl)
    assert found["net"]["result"] == "FAIL" and "firewall" in found["net"]["action"], found["net"]
    assert found["key"]["result"] == "WARN" and found["key"]["action"] == "wbxctl doctor net"
    assert found["store"]["result"] == "OK"
    fake.start()
    fake.fault(VIEWER, {"status": 200, "body": "<html>log in to the hotel</html>"}, count=-1)
    net = look(ctl, "net")["net"]
    assert net["result"] == "WARN" and "captive" in net["action"], net


@test
def doctor_says_when_the_key_is_refused_or_there_is_none(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.fault(VIEWER, {"status": 401}, count=-1)
    key = look(ctl, "key")["key"]
    assert key["result"] == "FAIL" and "W&B refuses the key that ends with 4567" in key["found"], key
    daemon.settings["models.key_file"] = box.dir / "nothing-there"
    daemon.restart()
    key = look(ctl, "key")["key"]
    assert key["result"] == "WARN" and key["found"].startswith("there is none"), key


@test
def doctor_compares_the_clock_with_w_and_b_s(box: Box) -> None:
    fake, _, ctl = steered(box)
    fake.fault(VIEWER, {"headers": {"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}}, count=-1)
    clock = look(ctl, "clock")["clock"]
    assert clock["result"] == "WARN" and "before W&B's" in clock["found"] and "timedatectl" in clock["action"], clock


@test
def doctor_looks_at_what_there_is_without_a_daemon(box: Box) -> None:
    daemon = away(box)
    found = look(Ctl(daemon))
    assert found["net"]["result"] in ("WARN", "FAIL") and "no daemon runs" in found["net"]["found"], found["net"]
    assert found["key"]["result"] == "WARN" and found["key"]["action"].startswith("start it"), found["key"]
    assert found["socket"]["result"] == "FAIL" and "stays in journals and spools" in found["socket"]["found"]
    assert found["store"]["result"] == "OK" and "a sync takes" in found["disk"]["found"]


@test
def doctor_sees_directories_that_clients_cannot_use(box: Box) -> None:
    daemon = started(box)
    daemon.spool_dir.chmod(0o700)
    socket = look(Ctl(daemon), "socket")["socket"]
    assert socket["result"] == "FAIL" and "mode 0700" in socket["found"] and "3733" in socket["found"], socket


@test
def doctor_finds_sums_that_are_wrong_and_pages_that_are_damaged(box: Box) -> None:
    daemon, client = connected(box)
    for _ in range(20):
        client.log_many(50)
        client.flush()
    client.close()
    ctl = Ctl(daemon)
    assert look(ctl, "store")["store"]["result"] == "OK"
    daemon.stop()
    database = daemon.store.path / "wbx.db"
    with sqlite3.connect(database) as db:
        db.execute("UPDATE extent SET bytes = bytes + 1 WHERE first = (SELECT max(first) FROM extent)")
    store = look(ctl, "store")["store"]
    assert store["result"] == "FAIL" and store["found"].startswith("1 sums"), store
    [(page, root)] = daemon.store.query("SELECT (SELECT page_size FROM pragma_page_size), rootpage FROM sqlite_schema WHERE name = 'record'")
    with open(database, "r+b") as f:
        f.seek((root - 1) * page)
        f.write(os.urandom(200))
    store = look(ctl, "store")["store"]
    assert store["result"] == "FAIL" and "damaged" in store["found"] and "move the store away" in store["action"], store


@test
def doctor_sees_a_store_that_became_read_only_and_one_that_is_damaged_under_a_daemon(box: Box) -> None:
    disk = Disk(box)
    daemon = Daemon(box).start(**disk.env())
    with opened(daemon.socket) as c:
        for _ in range(20):
            c.log_many(50)
            c.flush()
    ctl = Ctl(daemon)
    assert {f: look(ctl, f)[f]["result"] for f in ("disk", "store")} == {"disk": "OK", "store": "OK"}
    disk.fail("open write sync", "/store/", errno.EROFS)
    found = look(ctl, "disk")["disk"]
    assert found["result"] == "FAIL" and "a file cannot be written" in found["found"] and "dmesg" in found["action"], found
    assert look(ctl, "store")["store"]["result"] == "OK", "reading it goes on"
    disk.lift()
    assert look(ctl, "disk")["disk"]["result"] == "OK"
    [(page, root)] = daemon.store.query("SELECT (SELECT page_size FROM pragma_page_size), rootpage FROM sqlite_schema WHERE name = 'record'")
    daemon.restart()  # its log is in the database
    with open(daemon.store.path / "wbx.db", "r+b") as f:
        f.seek((root - 1) * page)
        f.write(os.urandom(200))
    found = look(ctl, "store")["store"]
    assert found["result"] == "FAIL" and "damaged" in found["found"] and "move the store away" in found["action"], found
    daemon.kill9()


# -- verify

def says(fake: Fake, rows: int, config: dict, summary: dict) -> None:
    """What W&B answers to the next question about the run, whatever it has."""
    values = {k: v if isinstance(v, dict) and "value" in v else {"value": v} for k, v in config.items()}
    bucket = {"id": "x", "name": "r", "state": "finished", "historyLineCount": rows, "eventsLineCount": 0, "logLineCount": 0,
              "config": json.dumps(values), "summaryMetrics": json.dumps(summary)}
    fake.fault({"kind": "graphql", "op": "WbxVerify"}, {"status": 200, "body": json.dumps({"data": {"model": {"bucket": bucket}}})})


@test
def verify_says_equal_when_it_is(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(10), {"odd": float("nan")}).set_summary(c, best=float("inf"), deep={"a": [1, None]})
        c.send("output", run="r", t=now_us(), stream="stdout", text="one\ntwo\nthree, without an end")
        c.send("stats", run="r", t=now_us(), data={"cpu": 12.5})
        run.finish(c)
    fake.await_run("r", "finished")
    ctl.await_healthy()
    text = ctl("verify", "wbx-team/p/r")
    for what, count in (("rows", 11), ("events", 1), ("output", 3)):
        assert f"{what:8}  here {count}, W&B {count}\n" in text, text
    assert "rows      here 11, W&B 11\n" in text and text.endswith("equal\n"), text
    [found] = ctl.lines("verify", "r")
    assert found["keys"] > 5 and found["difference_count"] == 0, found


@test
def verify_tells_what_is_different(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    log_whole(daemon, "r", count=10)
    fake.await_run("r", "finished")
    ctl.await_healthy()
    says(fake, 10, fake.config("r") | {"lr": {"value": 5}}, fake.summary("r") | {"wbx/complete": True, "best": 0.25, "of_others": 1})
    text = ctl("verify", "r", code=DATA)
    assert "summary best: here 0.5, W&B 0.25\n" in text and "config lr: here " in text, text
    assert "of_others" not in text and "2 different\nDIFFERENT\n" in text, text
    says(fake, 10, fake.config("r"), {})
    assert "summary best: here 0.5, W&B does not have it\n" in ctl("verify", "r", code=DATA)


@test
def verify_tells_rows_that_are_missing_and_a_run_that_is(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    log_whole(daemon, "r", count=10)
    fake.await_run("r", "finished")
    ctl.await_healthy()
    says(fake, 8, fake.config("r"), fake.summary("r") | {"wbx/complete": True})
    text = ctl("verify", "r", code=DATA)
    assert "rows      here 10, W&B 8  DIFFERENT\n" in text and ", 0 different\n" in text, text
    fake.stop()
    fake.start()  # with an empty memory
    assert "W&B does not have the run" in ctl("verify", "r", code=DATA)


@test
def verify_says_when_not_all_is_sent_and_when_nobody_answers(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    ctl("pause", "models")
    log_whole(daemon, "r")
    assert "not all is sent yet" in ctl("verify", "r", code=LATER)
    fake.stop()
    result = ctl.run("verify", "r")
    assert result.code == AWAY and "W&B cannot be asked" in result.err, str(result)
    ctl("verify", "nothing", code=DATA)


# -- store prune, store compact

def many_rows(box: Box) -> tuple[Fake, Daemon, Ctl]:
    fake, daemon, ctl = steered(box)
    for name in ("a", "b"):
        with greeted(daemon.socket) as c:
            run = Logged(name).open(c)
            for first in range(0, 2000, 200):
                run.log(c, *({"n": i, "pad": "x" * 500} for i in range(first, first + 200)))
                c.flush()
            run.finish(c)
        fake.await_run(name, "finished")
    ctl.await_healthy()
    return fake, daemon, ctl


@test
def prune_removes_what_is_delivered_and_nothing_that_waits(box: Box) -> None:
    fake, daemon, ctl = many_rows(box)
    fake.stop()
    with opened(daemon.socket, "waits") as c:
        c.log_many(100, "waits")
        c.flush()
        assert "say --yes" in ctl.run("store", "prune", "--all-delivered").err
        ctl("store", "prune", "--all-delivered", code=USAGE)
        ctl("store", "prune", "--yes", code=USAGE)
        [kept] = ctl.lines("store", "prune", "--older-than", "2d", "--yes")
        assert kept == {"records": 0, "bytes": 0}
        [gone] = ctl.lines("store", "prune", "--all-delivered", "--yes")
        assert gone["records"] == 4004 and gone["bytes"] > 2_000_000, gone
        assert len(daemon.store.rows(kind="log")) == 100
        fake.start()
        c.finish("waits")
        fake.await_run("waits", "finished")
    assert len(fake.rows("waits")) == 100
    assert look(ctl, "store")["store"]["result"] == "OK"
    daemon.stop()
    ctl("store", "prune", "--all-delivered", "--yes", code=AWAY)


@test
def compact_gives_the_free_pages_back(box: Box) -> None:
    _, daemon, ctl = many_rows(box)
    ctl("store", "prune", "--all-delivered", "--yes")
    with opened(daemon.socket, "stays") as c:
        c.log_many(300, "stays")
        c.flush()
    result = ctl.run("store", "compact")
    assert result.code == LATER and "the daemon has the store open" in result.err, str(result)
    daemon.stop()
    database = daemon.store.path / "wbx.db"
    before = database.stat()
    assert " MiB" in ctl("store", "compact")
    after = database.stat()
    assert after.st_size < before.st_size / 2, (before.st_size, after.st_size)
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)
    assert sorted(p.name for p in daemon.store.path.iterdir() if p.name.startswith("wbx.db")) == ["wbx.db"]
    daemon.start()
    assert len(daemon.store.rows(kind="log")) == 300
    assert look(ctl, "store")["store"]["result"] == "OK"


main()
