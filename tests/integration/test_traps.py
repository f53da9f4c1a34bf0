"""Traps of the design that other programs fell into. Others of them: test_keep.c and test_library.py (a spool drained
behind live records), test_hostile.py (bytes of a client that died unread), test_store.c (lsn, retention), test_mailbox.c."""
from __future__ import annotations

import hashlib
import os
import sqlite3
import threading

from client import Client, connected, log_record, now_us, opened, record
from ctl import Ctl
from daemon import Daemon, started
from disk import Disk
from journal import put, spool_bytes, spool_path
from tap import Box, main, test, until
from trainer import trainer
from wandb import Fake, forwarding, key_file


def with_a_table_stored(box: Box) -> tuple[Daemon, bytes, list[bytes]]:
    """A daemon that has records 1 and 2 of a producer that went away; the second one names a blob of two parts. Gives
    the producer, and what it would send again from between the parts: the second part and the record."""
    daemon, client = connected(box)
    data = os.urandom(20)
    digest = hashlib.sha256(data).digest()
    table = {"_type": "table", "blob": digest, "size": 20, "ncols": 1, "nrows": 1}
    again = [record("blob", 0, id=1, off=10, data=data[10:], sha256=digest),
             record("log", 2, run="r", t=now_us(), data={"n": 2, "t": table}, blobs=[digest])]
    client.blob_part(1, 0, data[:10])
    client.send_bytes(b"".join(again))
    client.await_ack(2)
    client.close()
    return daemon, client.producer, again


@test
def a_spool_whose_head_lies_between_two_parts_of_a_stored_blob_is_replayed(box: Box) -> None:
    daemon, producer, again = with_a_table_stored(box)
    put(spool_path(daemon.spool_dir, producer, 0), spool_bytes(producer, [*again, log_record(3), log_record(4)], start=1000))
    until(lambda: not daemon.kept_files() or any(".bad" in name or "aside" in name for name in daemon.kept_files()) or "set aside" in daemon.log(),
          "the spool is replayed or set aside")
    assert daemon.store.seqs(producer) == [1, 2, 3, 4]
    daemon.await_no_kept_files()


@test
def a_connection_that_goes_on_between_two_parts_of_a_stored_blob_is_taken(box: Box) -> None:
    daemon, producer, again = with_a_table_stored(box)
    with Client(daemon.socket, producer) as client:
        assert client.hello().seq == 2
        client.send_bytes(b"".join([*again, log_record(3)]))
        client.await_ack(3)
        assert not client.rejects
    assert daemon.store.seqs(producer) == [1, 2, 3]


@test
def a_commit_that_is_undone_takes_what_came_behind_it_on_the_same_connection_along(box: Box) -> None:
    """Somebody's sqlite3 holds the database for longer than the daemon waits, while three batches are under way."""
    daemon, client = connected(box)
    other = sqlite3.connect(daemon.store.path / "wbx.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    client.log_many(4000)
    daemon.await_log("a commit was undone")
    other.execute("ROLLBACK")
    other.close()
    client.await_end()
    client.close()
    with Client(daemon.socket, client.producer) as again:
        last = again.hello().seq
        assert daemon.store.seqs(client.producer) == list(range(1, last + 1)), f"said to be stored up to {last}"
        for seq in range(last + 1, 4002):
            again.send_bytes(log_record(seq))
        again.await_ack(4001)
    assert daemon.store.seqs(client.producer) == list(range(1, 4002))
    daemon.store.check()


@test
def a_store_that_is_slow_under_full_load_stops_nobody_for_good_and_loses_nothing(box: Box) -> None:
    """The mailbox to the store is full nearly all the time: the loop stops reading, and goes on, thousands of times."""
    disk = Disk(box)
    daemon = Daemon(box, env=disk.env()).start()
    ctl = Ctl(daemon)
    slow = disk.fail("sync", "wbx.db-wal", delay_ms=20)
    clients = [opened(daemon.socket) for _ in range(8)]

    def flood(c: Client) -> None:
        for turn in range(6):
            c.log_many(500)
            digest = c.blob(turn, os.urandom(300_000), part=1 << 16)
            c.log_blobs([digest])
        c.await_ack()

    threads = [threading.Thread(target=flood, args=(c,)) for c in clients]
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        assert ctl.status()["pid"] == daemon.process.pid, "the loop answers"
    disk.lift(slow)
    for c in clients:
        assert daemon.store.seqs(c.producer) == list(range(1, c.seq + 1)) and not c.rejects
        c.close()
    daemon.store.check()
    assert len(daemon.store.blob_files()) == 48
    daemon.stop()


@test
def a_daemon_that_is_stopped_while_the_store_is_slow_ends_well(box: Box) -> None:
    fake = Fake(box)
    disk = Disk(box)
    disk.fail("sync", "wbx.db-wal", delay_ms=200)
    daemon = Daemon(box, env=disk.env(), models__key_file=key_file(box), **forwarding(fake))
    for turn in range(4):  # nearly all the time a run waits for its plan or its marks to be committed
        daemon.start()
        with opened(daemon.socket, "r") as c:
            c.log_many(20)
            c.flush()
            fake.await_rows("r", 10 * turn + 1)
            c.log_many(20)
            c.await_ack()
        daemon.stop()


@test
def lsns_go_on_after_retention_emptied_the_store_and_a_restart(box: Box) -> None:
    fake = Fake(box)
    daemon = started(box, store__keep=0, models__key_file=key_file(box), **forwarding(fake))
    last = 0
    for turn in range(3):
        t = trainer(box, """
        run = wbx.init(project="p", id="r" + sys.argv[1])
        for n in range(400):
            run.log({"n": n})
        run.finish()
        """, turn, socket=daemon.socket, name=f"t{turn}")
        assert t.wait() == 0
        rows = fake.await_rows(f"r{turn}", 400)
        assert [r["n"] for r in rows] == list(range(400))
        fake.await_run(f"r{turn}", "finished")
        daemon.kill9()
        [(first, next_lsn)] = daemon.store.query("SELECT coalesce(min(lsn), 0), max(coalesce((SELECT max(lsn) + 1 FROM record), 0), "
                                                 "coalesce((SELECT value FROM meta WHERE key = 'next_lsn'), 0)) FROM record")
        assert next_lsn >= last + 402, f"{next_lsn} is the next after {last}"
        last = next_lsn - 1
        daemon.start()
        until(lambda: daemon.store.query("SELECT count(*) FROM record")[0][0] < 400, "what is delivered is dropped")
    fake.check()


@test
def retention_takes_nothing_from_what_is_still_to_be_sent_while_more_comes(box: Box) -> None:
    fake = Fake(box)
    daemon = started(box, store__keep=0, models__key_file=key_file(box), **forwarding(fake))
    t = trainer(box, """
    run = wbx.init(project="p", id="r")
    while (word := hear()) != "end":
        for n in range(int(word)):
            run.log({"n": n})
        say(run.flush(30))
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    for turn in range(10):
        t.tell("500")
        t.expect_line("True")
        if turn % 3 == 2:  # a round of retention begins with each start
            daemon.kill9()
            daemon.start()
    t.tell("end")
    t.expect_line("bye")
    fake.await_run("r", "finished")
    assert [r["n"] for r in fake.rows("r")] == list(range(500)) * 10
    until(lambda: daemon.store.query("SELECT count(*) FROM record")[0][0] < 5000, "something was dropped")
    fake.check()


main()
