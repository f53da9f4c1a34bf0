"""Journals and spools of the dead: replayed and removed, set aside when nobody can read them, never trusted."""
from __future__ import annotations

import fcntl
import hashlib
import os
import random
import struct
from pathlib import Path

from client import Client, connected, log_record, now_us, opened, record, records
from ctl import Ctl
from daemon import Daemon, away, started
from journal import HEADER, WRAP, header, hello_payload, journal_bytes, journal_path, put, spool_bytes, spool_path
from msgpack_lite import frame, pack
from process import raise_file_limit
from tap import Box, Skip, main, test, until
from wandb import Fake, forwarding, key_file

NOBODY = 65534
MIB = 1 << 20


def await_seqs(daemon: Daemon, producer: bytes, last: int) -> None:
    until(lambda: daemon.store.producers().get(producer) == last, f"record {last} of {producer.hex()[:8]} is stored")
    assert daemon.store.seqs(producer) == list(range(1, last + 1))


def are_replayed(daemon: Daemon, producer: bytes, last: int) -> None:
    """Records 1 .. last are stored, and no file is left."""
    await_seqs(daemon, producer, last)
    daemon.await_no_kept_files()


def dead_journal(daemon: Daemon, last: int) -> bytes:
    """A journal with records 1 .. last, whose producer is dead; gives the producer."""
    producer = os.urandom(16)
    put(journal_path(daemon.journal_dir, producer), journal_bytes(producer, records(1, last)))
    return producer


# -- what is whole is replayed


@test
def a_journal_of_the_dead_is_replayed_once_and_removed(box: Box) -> None:
    daemon = away(box)
    producer = dead_journal(daemon, 50)
    daemon.start()
    are_replayed(daemon, producer, 50)
    assert len(daemon.store.rows()) == 50


@test
def a_journal_that_appears_while_the_daemon_runs_is_replayed(box: Box) -> None:
    daemon = started(box)
    producer = dead_journal(daemon, 50)
    are_replayed(daemon, producer, 50)


@test
def a_ring_that_wraps_is_replayed_in_its_order(box: Box) -> None:
    daemon = away(box)
    producer = os.urandom(16)
    frames = records(1, 60)
    old, young = frames[:30], frames[30:]
    capacity = 8192
    data = bytearray(capacity)
    place = capacity - sum(map(len, old)) - 7  # seven bytes at the end are not used
    data[place:place + sum(map(len, old))] = b"".join(old)
    data[capacity - 7:capacity - 6] = WRAP
    data[:sum(map(len, young))] = b"".join(young)
    put(journal_path(daemon.journal_dir, producer),
        header(producer, capacity=capacity, start=0, head=place, tail=capacity + sum(map(len, young))) + bytes(data))
    daemon.start()
    are_replayed(daemon, producer, 60)


@test
def spools_and_journal_of_a_producer_are_replayed_in_the_order_of_their_places(box: Box) -> None:
    daemon = away(box)
    producer = os.urandom(16)
    parts = [records(1, 20), records(21, 40), records(41, 60)]
    places = [0, sum(map(len, parts[0])), sum(map(len, parts[0] + parts[1]))]
    put(spool_path(daemon.spool_dir, producer, 10), spool_bytes(producer, parts[2], start=places[2]))
    put(spool_path(daemon.spool_dir, producer, 9), spool_bytes(producer, parts[0], start=places[0]))
    put(journal_path(daemon.journal_dir, producer), journal_bytes(producer, parts[1], start=places[1]))
    daemon.start()
    are_replayed(daemon, producer, 60)


@test
def what_was_stored_before_is_replayed_as_duplicates(box: Box) -> None:
    daemon, client = connected(box)
    client.log_many(29)
    client.await_ack()
    client.close()
    put(journal_path(daemon.journal_dir, client.producer), journal_bytes(client.producer, records(1, 50)))
    are_replayed(daemon, client.producer, 50)


@test
def an_empty_journal_is_removed(box: Box) -> None:
    daemon = away(box)
    producers = [os.urandom(16) for _ in range(3)]
    put(journal_path(daemon.journal_dir, producers[0]), journal_bytes(producers[0], []))
    put(journal_path(daemon.journal_dir, producers[1]), journal_bytes(producers[1], [], head=500, tail=100))  # died moving it
    put(spool_path(daemon.spool_dir, producers[2], 1), spool_bytes(producers[2], []))
    daemon.start()
    daemon.await_no_kept_files()
    assert daemon.store.rows() == []


@test
def a_spool_with_a_torn_end_is_replayed_up_to_it(box: Box) -> None:
    daemon = away(box)
    producer = os.urandom(16)
    put(spool_path(daemon.spool_dir, producer, 1), spool_bytes(producer, [*records(1, 30), log_record(31)[:-5]]))
    daemon.start()
    are_replayed(daemon, producer, 30)


@test
def a_hundred_dead_producers_are_replayed_one_after_the_other(box: Box) -> None:
    daemon = away(box)
    producers = [dead_journal(daemon, 20) for _ in range(100)]
    daemon.start()
    daemon.await_no_kept_files()
    for producer in producers:
        await_seqs(daemon, producer, 20)


@test
def a_journal_with_a_table_is_replayed_with_its_blob(box: Box) -> None:
    daemon = away(box)
    producer = os.urandom(16)
    blob = random.Random(4).randbytes(300_000)
    digest = hashlib.sha256(blob).digest()
    parts = [record("blob", 0, id=1, off=0, data=blob[:200_000]),
             record("blob", 0, id=1, off=200_000, data=blob[200_000:], sha256=digest)]
    named = record("log", 2, run="r", t=1, data={"t": {"_type": "table", "blob": digest}}, blobs=[digest])
    put(journal_path(daemon.journal_dir, producer), journal_bytes(producer, [*records(1, 1), *parts, named, log_record(3)], 1 << 20))
    daemon.start()
    are_replayed(daemon, producer, 3)
    assert [size for _, size, _, _ in daemon.store.blobs()] == [300_000]
    assert not daemon.store.tmp_files()


@test
def records_that_the_store_rejects_do_not_keep_a_journal(box: Box) -> None:
    daemon = away(box)
    producer = os.urandom(16)
    frames = [*records(1, 1), log_record(2, run="never opened"), record("hologram", 3), record("log", 4, run="r", t=1), log_record(5)]
    put(journal_path(daemon.journal_dir, producer), journal_bytes(producer, frames))
    daemon.start()
    until(lambda: daemon.store.producers().get(producer) == 5, "record 5 is stored")
    daemon.await_no_kept_files()
    assert daemon.store.seqs(producer) == [1, 5]
    assert daemon.store.tally() == {"rejected:unknown_run": 1, "rejected:unknown_kind": 1, "rejected:missing_field": 1}


# -- what lives is left alone


@test
def a_journal_whose_owner_lives_is_left_alone_until_it_dies(box: Box) -> None:
    daemon = away(box)
    producer = os.urandom(16)
    path = put(journal_path(daemon.journal_dir, producer), journal_bytes(producer, records(1, 10)))
    lock = os.open(path, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    other = dead_journal(daemon, 10)
    daemon.start()
    await_seqs(daemon, other, 10)
    assert producer not in daemon.store.producers() and path.exists()
    os.close(lock)
    are_replayed(daemon, producer, 10)


@test
def a_file_that_has_no_final_name_yet_is_left_alone(box: Box) -> None:
    daemon = away(box)
    producer = os.urandom(16)
    new = daemon.journal_dir / f"{producer.hex()}.journal.new"
    new.write_bytes(journal_bytes(producer, records(1, 10)))
    other = dead_journal(daemon, 10)
    daemon.start()
    await_seqs(daemon, other, 10)
    until(lambda: daemon.kept_files() == [new.name], "the other journal is gone")
    assert producer not in daemon.store.producers()


# -- what nobody can read


def beside_a_good_one(box: Box, *bad: tuple[str, bytes]) -> Daemon:
    """Bad files (name below journal/ or spool/, bytes) beside a good journal: the good one is replayed."""
    daemon = away(box)
    good = dead_journal(daemon, 10)
    for name, data in bad:
        put(daemon.dir / name, data)
    daemon.start()
    await_seqs(daemon, good, 10)
    until(lambda: not journal_path(daemon.journal_dir, good).exists(), "the good journal is removed")
    return daemon


def set_aside(box: Box, data: bytes, producer: bytes, spool: bool = False) -> Daemon:
    """The file is set aside under another name, whole."""
    name = f"{'spool' if spool else 'journal'}/{producer.hex()}{'.1.spool' if spool else '.journal'}"
    daemon = beside_a_good_one(box, (name, data))
    until(lambda: len(daemon.kept_files()) == 1 and daemon.kept_files()[0].endswith(".bad"), "it is set aside")
    assert (daemon.dir / (name + ".bad")).read_bytes() == data
    assert "cannot be read as records" in daemon.log()
    return daemon


P = bytes(range(16))


@test
def a_journal_of_random_bytes_is_set_aside(box: Box) -> None:
    set_aside(box, random.Random(1).randbytes(10_000), P)


@test
def a_journal_of_zero_bytes_is_set_aside(box: Box) -> None:
    set_aside(box, b"", P)


@test
def a_journal_cut_inside_its_header_is_set_aside(box: Box) -> None:
    set_aside(box, journal_bytes(P, records(1, 5))[:4000], P)


@test
def a_journal_that_was_cut_short_is_set_aside(box: Box) -> None:
    set_aside(box, journal_bytes(P, records(1, 5))[:5000], P)


@test
def a_journal_with_another_producer_inside_is_set_aside(box: Box) -> None:
    set_aside(box, journal_bytes(bytes(16), records(1, 5)), P)


@test
def a_journal_whose_hello_is_another_producers_is_set_aside(box: Box) -> None:
    data = header(P, hello=hello_payload(bytes(16)), capacity=65536, tail=100) + bytes(65536)
    set_aside(box, data, P)


@test
def a_journal_whose_hello_is_no_hello_is_set_aside(box: Box) -> None:
    set_aside(box, header(P, hello=pack(["flush", 1, {}]), capacity=65536, tail=100) + bytes(65536), P)


@test
def a_journal_whose_hello_is_longer_than_its_header_is_set_aside(box: Box) -> None:
    set_aside(box, header(P, hello_len=4000, capacity=65536) + bytes(65536), P)


@test
def a_journal_with_a_tail_beyond_its_ring_is_set_aside(box: Box) -> None:
    set_aside(box, journal_bytes(P, records(1, 5), tail=1 << 40), P)


@test
def a_journal_with_a_capacity_of_2_64_is_set_aside(box: Box) -> None:
    set_aside(box, header(P, capacity=(1 << 64) - 1, tail=(1 << 64) - 1) + bytes(65536), P)


@test
def a_journal_of_garbage_behind_a_good_header_is_set_aside(box: Box) -> None:
    set_aside(box, header(P, capacity=65536, tail=60_000) + random.Random(2).randbytes(65536), P)


@test
def a_spool_of_garbage_behind_a_good_header_is_set_aside(box: Box) -> None:
    set_aside(box, header(P, spool=True) + random.Random(3).randbytes(100_000), P, spool=True)


@test
def a_spool_with_a_head_beyond_its_end_is_set_aside(box: Box) -> None:
    set_aside(box, spool_bytes(P, records(1, 5), head=1 << 50), P, spool=True)


@test
def what_is_whole_before_the_garbage_is_stored_and_the_file_is_set_aside(box: Box) -> None:
    daemon = set_aside(box, spool_bytes(P, [*records(1, 20), b"\x93garbage"]), P, spool=True)
    await_seqs(daemon, P, 20)


@test
def every_damaged_header_is_replayed_or_set_aside_and_never_hurts(box: Box) -> None:
    rng = random.Random(5)
    daemon = away(box)
    damaged_behind: set[bytes] = set()  # the header is whole: what it points to must not just go
    for _ in range(150):
        producer = rng.randbytes(16)
        data = bytearray(journal_bytes(producer, records(1, 10), capacity=4096 + rng.randrange(4) * 1000))
        whole = bytes(data[:72])
        for _ in range(rng.choice((1, 2, 10))):
            at = rng.choice((rng.randrange(72), rng.randrange(len(data))))
            data[at] = rng.choice((0, 0xff, 0xc1, 0xc6, rng.randrange(256)))
        if data[:72] == whole:
            damaged_behind.add(producer)
        put(journal_path(daemon.journal_dir, producer), bytes(data))
    daemon.start()
    until(lambda: all(name.endswith(".bad") for name in daemon.kept_files()), "all were looked at", 60)
    daemon.store.check()
    taken = [p for p in damaged_behind if f"{p.hex()}.journal.bad" not in daemon.kept_files()]
    assert len(taken) > 10 and all(daemon.store.producers().get(p, 0) >= 10 for p in taken), [daemon.store.producers().get(p) for p in taken]
    with opened(daemon.socket) as client:
        client.log()
        client.flush()
    daemon.stop()


@test
def a_journal_with_a_damaged_length_is_set_aside_with_what_follows(box: Box) -> None:
    daemon = away(box)
    frames = [b"\xc6" + struct.pack(">I", len(f) - 2) + f[2:] for f in records(1, 50)]  # as libwbx writes them
    data = bytearray(journal_bytes(P, frames))
    data[HEADER + sum(map(len, frames[:20])) + 3] = 0xff
    put(journal_path(daemon.journal_dir, P), bytes(data))
    daemon.start()
    until(lambda: daemon.kept_files() == [f"{P.hex()}.journal.bad"], "it is set aside")
    until(lambda: daemon.store.seqs(P) == list(range(1, 21)), "what was before it is stored")
    assert "cannot be read as records" in daemon.log()


@test
def who_ended_while_the_disk_was_full_is_not_gone_before_its_journal_is_read(box: Box) -> None:
    fake = Fake(box)
    daemon = Daemon(box, models__key_file=key_file(box), daemon__gone_after="1s", **forwarding(fake)).start()
    clients = [opened(daemon.socket, f"r{i}") for i in range(4)]
    daemon.stop()
    for i, c in enumerate(clients[:3]):
        end = [log_record(c.seq + 1, run=f"r{i}"), record("finish", c.seq + 2, run=f"r{i}", t=now_us(), exit_code=0)]
        put(journal_path(daemon.journal_dir, c.producer), journal_bytes(c.producer, end))
    daemon.settings["store.reserve"] = 1 << 60
    daemon.start()
    until(lambda: daemon.store.rows(kind="gone"), "who left no journal is gone")
    assert [row.body["run"] for row in daemon.store.rows(kind="gone")] == ["r3"]
    daemon.stop()
    daemon.settings["store.reserve"] = 0
    daemon.start()
    for i in range(3):
        assert fake.await_run(f"r{i}", "finished")["exitcode"] == 0


@test
def a_file_set_aside_stays_so_over_a_restart(box: Box) -> None:
    daemon = set_aside(box, b"garbage", P)
    daemon.restart()
    other = dead_journal(daemon, 5)
    await_seqs(daemon, other, 5)
    assert (daemon.journal_dir / f"{P.hex()}.journal.bad").read_bytes() == b"garbage"
    assert daemon.log().count("cannot be read as records") == 1


# -- what is not what it seems


@test
def symlinks_hard_links_directories_and_fifos_in_the_journal_directory_are_ignored(box: Box) -> None:
    daemon = away(box)
    outside = box.dir / "outside"
    names = [os.urandom(16) for _ in range(5)]
    outside.write_bytes(journal_bytes(names[0], records(1, 5)))
    journal_path(daemon.journal_dir, names[0]).symlink_to(outside)
    hard = box.dir / "hard"
    hard.write_bytes(journal_bytes(names[1], records(1, 5)))
    os.link(hard, journal_path(daemon.journal_dir, names[1]))
    journal_path(daemon.journal_dir, names[2]).mkdir()
    os.mkfifo(journal_path(daemon.journal_dir, names[3]))
    spool_path(daemon.spool_dir, names[4], 1).symlink_to("/dev/zero")
    good = dead_journal(daemon, 10)
    daemon.start()
    await_seqs(daemon, good, 10)
    assert list(daemon.store.producers()) == [good]
    until(lambda: len(daemon.kept_files()) == 5, "what was read in is removed, and nothing else")
    assert outside.exists() and hard.exists()
    daemon.stop()


@test
def a_producer_with_a_symlink_among_its_files_keeps_nobody_else_from_being_replayed(box: Box) -> None:
    daemon = away(box)
    bad = os.urandom(16)
    put(spool_path(daemon.spool_dir, bad, 1), spool_bytes(bad, records(1, 5)))
    spool_path(daemon.spool_dir, bad, 2).symlink_to("/dev/null")
    good = dead_journal(daemon, 10)  # looked at before the spools
    daemon.start()
    until(lambda: good in daemon.store.producers(), "the good journal is replayed", 13)  # two more looks


@test
def a_producer_with_a_locked_file_among_its_files_keeps_nobody_else_from_being_replayed(box: Box) -> None:
    daemon = away(box)
    bad = os.urandom(16)
    put(spool_path(daemon.spool_dir, bad, 1), spool_bytes(bad, records(1, 5)))
    held = os.open(put(spool_path(daemon.spool_dir, bad, 2), spool_bytes(bad, [])), os.O_RDWR)
    box.defer(os.close, held)
    fcntl.flock(held, fcntl.LOCK_EX)
    good = dead_journal(daemon, 10)
    daemon.start()
    until(lambda: good in daemon.store.producers(), "the good journal is replayed", 13)


@test
def status_tells_of_journals_that_could_not_be_read_in(box: Box) -> None:
    daemon = set_aside(box, b"garbage", P)
    ctl = Ctl(daemon)
    until(lambda: any(r["code"] == "journals_unread" for r in ctl.status()["reasons"]), "status tells of it")
    assert ctl.status()["spools"]["bad"] == 1


@test
def a_user_with_thousands_of_locked_files_keeps_nobody_else_from_being_replayed(box: Box) -> None:
    raise_file_limit()
    daemon = away(box)
    held = []
    for _ in range(3000):
        fd = os.open(put(journal_path(daemon.journal_dir, os.urandom(16)), b""), os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        held.append(fd)
    box.defer(lambda: [os.close(fd) for fd in held])
    good = [os.urandom(16) for _ in range(10)]
    for producer in good:
        put(spool_path(daemon.spool_dir, producer, 1), spool_bytes(producer, records(1, 5)))
    daemon.start()
    for producer in good:
        await_seqs(daemon, producer, 5)


# -- users


def as_user(uid: int, path: Path, data: bytes) -> None:
    """Puts a file there that belongs to that user, as he could himself."""
    put(path, data)
    os.chown(path, uid, uid)


@test
def a_journal_is_replayed_as_the_user_who_owns_the_file(box: Box) -> None:
    if os.getuid() != 0:
        raise Skip("only root can make another user's file")
    daemon = away(box)
    producer = os.urandom(16)
    as_user(NOBODY, journal_path(daemon.journal_dir, producer), journal_bytes(producer, records(1, 10)))
    daemon.start()
    await_seqs(daemon, producer, 10)
    assert daemon.store.query("SELECT uid FROM producer") == [(NOBODY,)]
    assert daemon.store.query("SELECT uid FROM run") == [(NOBODY,)]


@test
def a_file_under_another_users_producer_does_not_mix_with_his(box: Box) -> None:
    if os.getuid() != 0:
        raise Skip("only root can make another user's file")
    daemon = away(box)
    producer = dead_journal(daemon, 10)
    as_user(NOBODY, spool_path(daemon.spool_dir, producer, 1), spool_bytes(producer, [log_record(n) for n in range(11, 20)], 10_000))
    daemon.start()
    until(lambda: all(n.endswith(".bad") for n in daemon.kept_files()), "both were looked at")
    assert not [r for r in daemon.store.rows() if r.seq > 10]


@test
def the_directories_let_everybody_put_files_and_nobody_list_them(box: Box) -> None:
    daemon = started(box)
    for directory in (daemon.journal_dir, daemon.spool_dir):
        assert directory.stat().st_mode & 0o7777 == 0o3733, oct(directory.stat().st_mode)


# -- while much is replayed


def big_spool(daemon: Daemon, mib: int) -> tuple[bytes, int]:
    """Writes that much; gives the producer and the last seq."""
    producer = os.urandom(16)
    text = "x" * 10_000
    frames = records(1, 1)
    size = 0
    seq = 1
    while size < mib * MIB:
        seq += 1
        frames.append(frame(pack(["log", seq, {"run": "r", "t": 1, "data": {"n": seq, "text": text}}])))
        size += len(frames[-1])
    put(spool_path(daemon.spool_dir, producer, 1), spool_bytes(producer, frames))
    return producer, seq


@test(seconds=300)
def a_client_logs_and_is_acknowledged_while_a_big_spool_is_replayed(box: Box) -> None:
    daemon = away(box)
    producer, last = big_spool(daemon, 60)
    daemon.start()
    client = opened(daemon.socket)
    while daemon.store.producers().get(producer, 0) < last:
        client.log_many(10)
        client.flush()
    are_replayed(daemon, producer, last)
    assert client.seq > 11


@test(seconds=300)
def a_daemon_that_is_told_to_stop_while_it_replays_ends_well_and_goes_on_at_its_next_start(box: Box) -> None:
    daemon = away(box)
    producer, last = big_spool(daemon, 40)
    for wanted in range(1, 3000, 250):
        daemon.start()
        until(lambda: daemon.store.producers().get(producer, 0) >= wanted, f"record {wanted} is stored")
        daemon.stop()
    assert daemon.kept_files()
    daemon.start()
    are_replayed(daemon, producer, last)


@test
def a_daemon_that_is_told_to_stop_at_once_ends_well_whatever_it_began(box: Box) -> None:
    daemon = away(box)
    producer, last = big_spool(daemon, 8)
    for _ in range(20):
        daemon.start()
        daemon.stop()
    daemon.start()
    await_seqs(daemon, producer, last)


@test
def a_connection_under_the_name_of_a_producer_that_is_replayed_loses_and_doubles_nothing(box: Box) -> None:
    daemon = away(box)
    producer, last = big_spool(daemon, 20)
    daemon.start()
    for wanted in (100, 700, 1300):
        until(lambda: daemon.store.producers().get(producer, 0) > wanted, f"record {wanted} is stored")
        with Client(daemon.socket, producer) as client:
            client.say_hello()
    are_replayed(daemon, producer, last)
    daemon.store.check()


if __name__ == "__main__":
    main()
