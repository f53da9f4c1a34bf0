"""A disk that is full, breaks, or is not what it was: nothing is acknowledged that is not on it, nothing is overwritten,
training goes on, status says what is wrong, and all is stored once the disk is well again."""
from __future__ import annotations

import errno
import os
import random
import sqlite3
from typing import Any

from client import Client, Ended, opened
from ctl import Ctl
from daemon import Daemon, away, started
from disk import Disk, PowerDisk
from tap import FULL, Box, Skip, main, test, until
from trainer import trainer

ENOSPC, EIO, EROFS = errno.ENOSPC, errno.EIO, errno.EROFS
UNAVAILABLE = 69  # how wbxd ends when its store cannot be opened

# Logs n = 1, 2, 3 ... when told how many, every 100th with a table of 400 KB, and says when it has logged them.
LOGGER = """
run = wbx.init(project="p", id="r")
n = 0
rows = [[j, "x" * 400] for j in range(1000)]
while (word := hear()) != "end":
    if word == "flush":
        say("flushed", run.flush(60))
        continue
    for _ in range(int(word)):
        n += 1
        run.log({"n": n} | ({"t": wbx.Table(columns=["j", "x"], data=rows + [[n, ""]])} if n % 100 == 0 else {}))
    say("logged", n)
stats = run._client.stats()
run.finish()
say("bye", stats["given_up"], stats["rejected"])
"""


class Setting:
    """A daemon and a trainer, and under one of them a disk that fails on command."""

    def __init__(self, box: Box, *, under_trainer: bool = False, **settings: Any) -> None:
        self.disk = Disk(box)
        self.daemon = Daemon(box, env={} if under_trainer else self.disk.env(), **settings).start()
        self.n = 0
        self.trainer = trainer(box, LOGGER, socket=self.daemon.socket, **(self.disk.env() if under_trainer else {}))

    def log(self, count: int) -> None:
        """The trainer goes on whatever the disk does."""
        self.n += count
        self.trainer.tell(str(count))
        self.trainer.expect_line(f"logged {self.n}")

    def flush(self) -> None:
        self.trainer.tell("flush")
        self.trainer.expect_line("flushed True")

    def end(self) -> None:
        """Everything is there, once, in order, with its blobs."""
        self.trainer.tell("end")
        self.trainer.expect_line("bye 0 0")
        assert self.trainer.wait() == 0
        assert self.daemon.store.numbers() == list(range(1, self.n + 1))
        self.daemon.await_no_kept_files()
        assert not self.daemon.store.tally()
        self.daemon.store.check()
        store = self.daemon.store
        assert len(store.blobs()) == self.n // 100 == len(store.blob_files())
        assert all(refs == 1 for _, _, refs, _ in store.blobs())
        self.daemon.stop()
        assert not store.tmp_files()


def only_in_full() -> None:
    """The store opens again after 5 s: much of a test's time, so of those that are alike only one is always run."""
    if not FULL:
        raise Skip("./dev test --full runs it")


def status(daemon: Daemon) -> dict:
    found = Ctl(daemon).status()
    assert found["exit"] in (0, 1, 2), found
    return found


def reasons(daemon: Daemon) -> dict[str, dict]:
    return {r["code"]: r for r in status(daemon)["reasons"]}


def await_critical(daemon: Daemon, word: str) -> None:
    """Status is critical for the store, with this word in what it says."""
    found = until(lambda: reasons(daemon).get("store_error"), "status tells of the store's fault")
    assert found["state"] == "critical" and word in found["text"] + found["detail"], found
    assert status(daemon)["exit"] == 2


def await_well(daemon: Daemon) -> None:
    until(lambda: "store_error" not in reasons(daemon), "the store is well again")


def goes_on_after(s: Setting, ops: str, path: str, error: int, *, count: int, says: str = "") -> None:
    """One trouble of the disk, from its begin to its end."""
    s.log(250)
    s.flush()
    rule = s.disk.fail(ops, path, error, count=count)
    s.log(300)
    s.disk.await_hits(rule)
    if says and count < 0:
        await_critical(s.daemon, says)
        before = s.daemon.store.numbers()
        s.log(50)
        assert s.daemon.store.numbers() == before, "nothing is stored meanwhile"
    s.disk.lift()
    s.flush()
    if says:
        assert says in s.daemon.log(), s.daemon.log()[-1000:]
    await_well(s.daemon)
    s.log(110)
    s.end()


# -- the store's log and database


@test
def one_write_of_the_log_that_finds_no_room_is_undone_and_made_again(box: Box) -> None:
    goes_on_after(Setting(box), "write", "wbx.db-wal", ENOSPC, count=1, says="disk of the store is full")


@test
def a_log_that_has_no_room_for_a_while_takes_nothing_and_then_all(box: Box) -> None:
    goes_on_after(Setting(box), "write", "wbx.db-wal", ENOSPC, count=-1, says="full")


@test
def one_write_of_the_log_that_fails_closes_the_store_until_it_is_opened_again(box: Box) -> None:
    only_in_full()
    goes_on_after(Setting(box), "write", "wbx.db-wal", EIO, count=1, says="a commit failed")


@test
def a_log_that_cannot_be_written_for_a_while_takes_nothing_and_then_all(box: Box) -> None:
    goes_on_after(Setting(box), "write", "wbx.db-wal", EIO, count=-1, says="Input/output error")


@test
def one_sync_of_the_log_that_fails_closes_the_store_until_it_is_opened_again(box: Box) -> None:
    only_in_full()
    goes_on_after(Setting(box), "sync", "wbx.db-wal", EIO, count=1, says="a commit failed")


@test
def a_disk_that_cannot_sync_for_a_while_takes_nothing_and_then_all(box: Box) -> None:
    goes_on_after(Setting(box), "sync", "wbx.db", EIO, count=-1, says="Input/output error")


@test
def writes_that_take_less_than_they_were_given_are_gone_on_with(box: Box) -> None:
    s = Setting(box)
    rule = s.disk.fail("write", "/store/", 0, short=700)
    s.log(500)
    s.flush()
    assert s.disk.hits(rule) > 100
    assert "from=open" not in s.daemon.log()
    s.end()


@test
def a_checkpoint_that_finds_no_room_loses_nothing(box: Box) -> None:
    checkpoint_fails(box, "write", ENOSPC)


@test
def a_checkpoint_that_cannot_be_written_loses_nothing(box: Box) -> None:
    only_in_full()
    checkpoint_fails(box, "write", EIO)


@test
def a_checkpoint_that_cannot_be_synced_loses_nothing(box: Box) -> None:
    checkpoint_fails(box, "sync", EIO)


def checkpoint_fails(box: Box, ops: str, error: int) -> None:
    s = Setting(box)
    s.log(50)
    s.flush()
    rule = s.disk.fail(ops, "wbx.db$", error, count=2)
    while s.disk.hits(rule) == 0:
        s.log(20)
        s.flush()
    s.disk.lift()
    s.flush()
    await_well(s.daemon)
    s.end()


@test
def a_daemon_that_stops_leaves_nothing_in_the_log(box: Box) -> None:
    daemon = started(box)
    with opened(daemon.socket) as c:
        c.log_many(500)
        c.flush()
    daemon.stop()
    log = daemon.store.path / "wbx.db-wal"
    assert not log.exists() or log.stat().st_size == 0
    assert len(daemon.store.rows(kind="log")) == 500


@test
def a_log_that_cannot_be_read_closes_the_store_and_harms_nothing(box: Box) -> None:
    s = Setting(box)
    s.log(150)
    s.flush()
    rule = s.disk.fail("read", "wbx.db", EIO)
    while s.disk.hits(rule) == 0:
        s.log(100)
    s.disk.lift()
    s.flush()
    await_well(s.daemon)
    s.end()


@test(seconds=600)
def what_a_failed_sync_took_away_is_not_acknowledged(box: Box) -> None:
    """The kernel drops the pages of a sync that failed, and the next sync succeeds without them."""
    daemon = Daemon(box)
    daemon.dir.mkdir(0o700)
    daemon.store.path.mkdir(0o700)
    disk = Disk(box)
    power = PowerDisk(box, daemon.store.path)
    daemon.env = disk.env() | power.env()
    rng = random.Random(1)
    producer = os.urandom(16)
    acked = 0
    for turn, path in enumerate(["wbx.db-wal", "wbx.db$", "wbx.db-wal", "wbx.db$"] * (4 if FULL else 1)):
        daemon.start()
        rule = disk.fail("sync", path, EIO, count=1, skip=rng.randint(0, 3) if path == "wbx.db-wal" else 0)
        for _ in range(2):  # the second connection goes on where the first one broke
            acked = log_until_it_breaks(daemon, producer, acked, lambda: disk.hits(rule) > 0)
        disk.lift(rule)
        daemon.kill9()
        power.cut(rng if turn % 2 else None)
        daemon.start()
        stored = daemon.store.seqs(producer, "log")
        assert stored == sorted(set(stored)) and max(stored) >= acked, f"acknowledged {acked}, stored {max(stored)}"
        assert daemon.store.producers()[producer] >= acked
        daemon.store.check()
        daemon.stop()
        power.cut()


def log_until_it_breaks(daemon: Daemon, producer: bytes, acked: int, broke: Any) -> int:
    """Logs, again and again over new connections, until the disk has failed and 200 rows more are acknowledged."""
    more = 0
    while more < 200:
        client = Client(daemon.socket, producer)
        try:
            welcome = client.hello()
            assert welcome.seq >= acked, f"welcome {welcome.seq} after ack {acked}"
            client.open_run()
            while more < 200:
                client.log_many(10)
                client.await_ack()
                more += 10 if broke() else 0
        except Ended:
            pass
        acked = max(acked, client.acked)
        client.close()
    return acked


# -- files of blobs


@test
def a_part_of_a_blob_that_finds_no_room_is_sent_again(box: Box) -> None:
    goes_on_after(Setting(box), "write", "/store/tmp/", ENOSPC, count=2)


@test
def a_part_of_a_blob_that_cannot_be_written_is_sent_again(box: Box) -> None:
    only_in_full()
    goes_on_after(Setting(box), "write", "/store/tmp/", EIO, count=1, says="writing a blob failed")


@test
def a_part_of_a_blob_that_cannot_be_synced_is_sent_again(box: Box) -> None:
    goes_on_after(Setting(box), "sync", "/store/tmp/", EIO, count=1, says="writing a blob failed")


@test
def a_part_of_a_blob_that_is_written_in_pieces_is_whole(box: Box) -> None:
    s = Setting(box)
    rule = s.disk.fail("write", "/store/tmp/", 0, short=5000)
    s.log(300)
    s.flush()
    assert s.disk.hits(rule) > 100
    s.end()


@test
def a_blob_whose_file_cannot_be_made_is_sent_again(box: Box) -> None:
    goes_on_after(Setting(box), "open", "/store/tmp/", ENOSPC, count=2)


@test
def a_blob_that_cannot_be_renamed_is_sent_again(box: Box) -> None:
    only_in_full()
    goes_on_after(Setting(box), "rename", "/store/blobs/", EIO, count=1, says="a commit failed")


@test
def a_blob_that_finds_no_room_for_its_name_is_sent_again(box: Box) -> None:
    goes_on_after(Setting(box), "rename mkdir", "/store/blobs/", ENOSPC, count=2)


@test
def a_blob_whose_directory_cannot_be_synced_is_sent_again(box: Box) -> None:
    goes_on_after(Setting(box), "sync", "/store/blobs", EIO, count=1, says="a commit failed")


# -- spool and journal of a trainer


@test
def a_full_disk_under_the_spool_is_an_error_of_the_call_and_nothing_else(box: Box) -> None:
    spool_fails(box, "write", ENOSPC, count=50)


@test
def a_broken_disk_under_the_spool_is_an_error_of_the_call_and_nothing_else(box: Box) -> None:
    spool_fails(box, "write", EIO, count=50)


@test
def a_spool_that_cannot_be_made_is_an_error_of_the_call_and_nothing_else(box: Box) -> None:
    spool_fails(box, "open", ENOSPC, count=50)


@test
def a_spool_that_can_neither_be_written_nor_cut_back_keeps_what_it_has(box: Box) -> None:
    spool_fails(box, "write truncate", EIO, count=50, torn=True)


def spool_fails(box: Box, ops: str, error: int, count: int, torn: bool = False) -> None:
    """A daemon that is away, a journal that is full, and a spool on a disk with trouble: calls that return an error are
    counted, those that succeed are stored."""
    daemon = away(box)
    disk = Disk(box)
    program = trainer(box, """
    run = wbx.init(project="p", id="r")
    native = run._native
    def log(first, last):
        good = []
        for n in range(first, last):
            before = run._client.stats()["given_up"]
            run.log({"n": n, "text": "x" * 10_000})
            if run._client.stats()["given_up"] == before:
                good.append(n)
        return good
    good = log(1, 600)
    say("spool", len(good))
    hear()
    good += log(600, 700)
    say("trouble", 699 - len(good))
    hear()
    good += log(700, 800)
    stats = run._client.stats()
    say("good", len(good), stats["given_up"])
    hear()
    say(run.flush(60))
    run.finish()
    open(sys.argv[1], "w").write(repr(good))
    say("bye")
    """, box.dir / "good", socket=daemon.socket, **disk.env())
    if ops == "open":
        rule = disk.fail(ops, "/spool/", error, count=count)
        program.expect_line(f"spool {599 - count}")
    else:
        program.expect_line("spool 599")
        rules = [disk.fail(op, "/spool/", error, count=count, short=0) for op in ops.split()]
        if torn:
            disk.lift(rules[0])
            disk.fail("write", "/spool/", 0, count=1, short=4000)  # a torn frame, then the error
            rules[0] = disk.fail("write", "/spool/", error, count=count - 1, skip=0)
        rule = rules[0]
    program.tell("go on")
    program.expect_line(f"trouble {count if not torn else count - 1}")
    disk.await_hits(rule)
    disk.lift()
    program.tell("go on")
    given_up = count if not torn else count - 1
    program.expect_line(f"good {799 - given_up} {given_up}")
    daemon.start()
    program.tell("go on")
    program.expect_line("True")
    program.expect_line("bye")
    assert program.wait() == 0
    good = eval((box.dir / "good").read_text())  # noqa: S307: our own
    assert daemon.store.numbers() == good
    assert "was not kept" in (box.dir / "trainer.err").read_text()


@test
def a_spool_that_is_written_in_pieces_is_whole(box: Box) -> None:
    daemon = away(box)
    disk = Disk(box)
    rule = disk.fail("write", "/spool/", 0, short=3000, skip=1)  # the header is one write or no spool
    program = trainer(box, LOGGER, socket=daemon.socket, **disk.env())
    program.tell("3000")
    program.expect_line("logged 3000")
    assert disk.hits(rule) > 100
    program.kill9()
    daemon.start()
    daemon.await_no_kept_files()
    assert daemon.store.numbers() == list(range(1, 3001))
    daemon.store.check()


@test
def a_journal_that_finds_no_room_is_replaced_by_memory_and_said(box: Box) -> None:
    daemon = started(box)
    disk = Disk(box)
    disk.fail("allocate", "/journal/", ENOSPC)
    program = trainer(box, """
    run = wbx.init(project="p", id="r")
    for n in range(1, 101):
        run.log({"n": n})
    say(int(run._client.stats()["durable"]), run.flush(30))
    run.finish()
    say("bye")
    """, socket=daemon.socket, **disk.env())
    program.expect_line("0 True")
    program.expect_line("bye")
    assert program.wait() == 0
    assert daemon.store.numbers() == list(range(1, 101))
    assert "journal" in (box.dir / "trainer.err").read_text()
    assert daemon.kept_files() == []


@test
def a_spool_that_the_daemon_cannot_read_is_kept(box: Box) -> None:
    daemon = away(box)
    program = trainer(box, LOGGER, socket=daemon.socket)
    program.tell("3000")
    program.expect_line("logged 3000")
    program.kill9()
    kept = daemon.kept_files()
    disk = Disk(box)
    rule = disk.fail("read", "/spool/", EIO)
    daemon.env = disk.env()
    daemon.start()
    disk.await_hits(rule)
    assert all(name in daemon.kept_files() for name in kept if name.endswith(".spool"))
    daemon.stop()
    disk.lift()
    daemon.start()
    daemon.await_no_kept_files()
    assert daemon.store.numbers() == list(range(1, 3001))


# -- a store that cannot be used


def filled(box: Box, rows: int = 300) -> Daemon:
    """A store with something in it, and no daemon."""
    daemon = started(box)
    with opened(daemon.socket) as c:
        c.log_many(rows)
        c.flush()
    daemon.stop()
    return daemon


def refuses(daemon: Daemon, *words: str) -> None:
    """The daemon ends at once, with 69 and these words, and leaves the database as it is."""
    db = daemon.store.path / "wbx.db"
    before = db.read_bytes() if db.exists() else b""
    said = len(daemon.log())
    code = daemon.launch().wait()
    text = daemon.log()[said:]
    assert code == UNAVAILABLE, f"it ended with {code}"
    assert all(word in text for word in words), text
    assert (db.read_bytes() if db.exists() else b"") == before


@test
def a_second_daemon_on_a_store_is_refused_and_the_first_one_goes_on(box: Box) -> None:
    daemon = started(box)
    second = Daemon(box, name="second", store__dir=daemon.store.path)
    second.dir.mkdir()
    code = second.launch().wait()
    assert code == UNAVAILABLE and "another wbxd has it open" in second.log(), second.log()
    with opened(daemon.socket) as c:
        c.log_many(10)
        c.flush()


@test
def a_second_daemon_on_a_socket_is_refused_and_the_first_one_goes_on(box: Box) -> None:
    daemon = started(box)
    second = Daemon(box, name="second", daemon__socket=daemon.socket)
    code = second.launch().wait()
    assert code == UNAVAILABLE and "wbx.sock" in second.log(), second.log()
    with opened(daemon.socket) as c:
        c.log_many(10)
        c.flush()


@test
def a_store_of_a_killed_daemon_is_not_taken_for_an_open_one(box: Box) -> None:
    daemon = started(box)
    daemon.kill9()
    daemon.start().stop()


@test
def a_database_that_is_none_is_refused_and_left_alone(box: Box) -> None:
    daemon = filled(box)
    db = daemon.store.path / "wbx.db"
    db.write_bytes(os.urandom(100_000))
    refuses(daemon, "is damaged or is no database of wbx", "not touched")
    db.write_bytes(b"SQLite format 3\0" + os.urandom(100_000))
    refuses(daemon, "wbx.db", "not touched")


@test
def a_database_of_another_program_is_refused_and_left_alone(box: Box) -> None:
    daemon = filled(box)
    db = daemon.store.path / "wbx.db"
    db.unlink()
    other = sqlite3.connect(db)
    other.execute("CREATE TABLE t (a)")
    other.commit()
    other.close()
    refuses(daemon, "database of another program", "store.dir")


@test
def a_database_of_a_newer_wbx_is_refused_and_left_alone(box: Box) -> None:
    daemon = filled(box)
    newer = sqlite3.connect(daemon.store.path / "wbx.db")
    newer.execute("PRAGMA user_version = 99")
    newer.commit()
    newer.close()
    refuses(daemon, "newer wbx", "99", "not touched")


@test
def a_store_of_another_machine_is_refused_until_it_is_adopted(box: Box) -> None:
    daemon = filled(box)
    (daemon.store.path / "machine-id").write_text("0" * 32 + "\n")
    refuses(daemon, "another machine", "--adopt-store")
    daemon.start("--adopt-store")
    assert len(daemon.store.rows(kind="log")) == 300
    daemon.restart()


PAGE = 16384


@test
def a_damaged_database_is_refused_and_left_alone(box: Box) -> None:
    daemon = filled(box, 5000)
    db = daemon.store.path / "wbx.db"
    data = bytearray(db.read_bytes())
    for at in range(PAGE, len(data), PAGE):  # the first page says that all is well
        data[at:at + 64] = b"\xff" * 64
    db.write_bytes(data)
    refuses(daemon, "wbx.db is damaged", "not touched")


def damaged_while_it_runs(box: Box, what: str) -> None:
    """A daemon that starts, since the damage (of the first page of a table or an index) is where only commits look."""
    daemon = filled(box, 5000)
    [(page,)] = daemon.store.query("SELECT rootpage FROM sqlite_schema WHERE name = ?", what)
    db = daemon.store.path / "wbx.db"
    data = bytearray(db.read_bytes())
    data[(page - 1) * PAGE:(page - 1) * PAGE + 64] = b"\xff" * 64
    db.write_bytes(data)
    daemon.start()
    client = Client(daemon.socket)
    client.say_hello()
    client.send("run", run="r", t=1, project="p")
    # a welcome says nothing of records, and its commit may have touched nothing that is damaged
    assert [f.kind for f in client.await_end() if f.kind != "welcome"] == [], "a damaged store acknowledged something"
    client.close()
    daemon.await_log("wbx.db is damaged. Nothing is acknowledged")
    await_critical(daemon, "damaged")
    daemon.stop()
    assert db.read_bytes() == data


@test
def damage_that_a_commit_finds_closes_the_store_for_good(box: Box) -> None:
    damaged_while_it_runs(box, "sqlite_autoindex_producer_1")


@test
def status_tells_of_damage_though_it_cannot_read_the_store(box: Box) -> None:
    damaged_while_it_runs(box, "extent")


@test
def a_store_that_cannot_be_written_is_refused(box: Box) -> None:
    daemon = filled(box)
    disk = Disk(box)
    daemon.env = disk.env()
    disk.fail("open", "wbx.db", EROFS)
    refuses(daemon, "read-only")
    disk.lift()
    disk.fail("open", "/store/", EROFS)
    refuses(daemon, "Read-only file system")
    disk.lift()
    daemon.start()
    assert len(daemon.store.rows(kind="log")) == 300


@test
def a_store_on_a_disk_that_is_full_from_the_start_is_refused_or_full(box: Box) -> None:
    disk = Disk(box)
    disk.fail("write open mkdir truncate allocate", "/store/", ENOSPC)
    daemon = Daemon(box, env=disk.env())
    process = daemon.launch()
    assert process.wait() == UNAVAILABLE
    assert "No space left on device" in daemon.log() or "full" in daemon.log(), daemon.log()


main()
