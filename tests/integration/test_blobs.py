"""Blobs: tables of many parts, between other records, damaged, missing, abandoned; and that files and rows agree."""
from __future__ import annotations

import hashlib
import os
import random

from client import PART_MAX, Client, connected, greeted, opened
from daemon import Daemon, started
from tap import Box, main, test, until

INLINE_MAX = 256 << 10
MIB = 1 << 20


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def assert_store_has(daemon: Daemon, *blobs: bytes) -> None:
    """Exactly these blobs are there, rows and files agree, big ones are in files, and nothing waits in tmp/."""
    daemon.store.check()
    rows = {digest: data for digest, _, _, data in daemon.store.blobs()}
    files = daemon.store.blob_files()
    assert rows.keys() == {sha(b) for b in blobs}
    assert files.keys() == {digest for digest, data in rows.items() if data is None}
    assert sum(len(b) for b in set(blobs)) == sum(size for _, size, _, _ in daemon.store.blobs())
    for digest, blob in ((sha(b), b) for b in blobs):
        assert digest in files or len(blob) <= INLINE_MAX
        assert (files[digest].read_bytes() if digest in files else rows[digest]) == blob
    assert not daemon.store.tmp_files()


@test
def a_table_of_several_megabytes_comes_in_parts_between_other_records(box: Box) -> None:
    daemon, client = connected(box)
    table = content(7 * MIB + 12345)
    digest = client.blob(1, table, between=lambda: client.log_many(20))
    client.log_blobs([digest])
    client.await_ack()
    assert not client.rejects
    assert_store_has(daemon, table)
    assert daemon.store.seqs(client.producer) == list(range(1, client.seq + 1))


@test
def records_between_parts_are_acknowledged_before_the_blob_is_whole(box: Box) -> None:
    daemon, client = connected(box)
    client.blob_part(1, 0, content(PART_MAX))
    client.log_many(5)
    client.flush()
    assert daemon.store.seqs(client.producer)[-1] == client.seq - 1


@test
def blobs_of_every_size_around_the_limits_are_kept(box: Box) -> None:
    daemon, client = connected(box)
    sizes = [0, 1, INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, PART_MAX - 1, PART_MAX, PART_MAX + 1, 2 * PART_MAX]
    blobs = [content(size, size) for size in sizes]
    for number, blob in enumerate(blobs):
        client.log_blobs([client.blob(number, blob)])
    client.await_ack()
    assert not client.rejects, client.rejects
    assert_store_has(daemon, *blobs)


@test
def two_blobs_whose_parts_alternate_are_both_kept(box: Box) -> None:
    daemon, client = connected(box)
    a, b = content(3_000_000, 1), content(2_500_000, 2)
    for off in range(0, 3_000_000, 500_000):
        for number, blob in ((1, a), (2, b)):
            if off < len(blob):
                last = off + 500_000 >= len(blob)
                client.blob_part(number, off, blob[off:off + 500_000], hashlib.sha256(blob).digest() if last else None)
    client.log_blobs([hashlib.sha256(a).digest(), hashlib.sha256(b).digest()])
    client.await_ack()
    assert not client.rejects
    assert_store_has(daemon, a, b)


@test
def one_record_may_name_64_blobs(box: Box) -> None:
    daemon, client = connected(box)
    blobs = [content(100 + i, i) for i in range(64)]
    client.log_blobs([client.blob(i, blob) for i, blob in enumerate(blobs)])
    client.await_ack()
    assert not client.rejects
    assert_store_has(daemon, *blobs)
    assert daemon.store.query("SELECT count(*) FROM blob_use") == [(64,)]


@test
def the_same_blob_twice_is_one_file_with_two_references(box: Box) -> None:
    daemon = started(box)
    table = content(2 * MIB)
    for _ in range(2):
        client = opened(daemon.socket)
        for number in (1, 2):
            client.log_blobs([client.blob(number, table)])
        client.await_ack()
    assert_store_has(daemon, table)
    assert [refs for _, _, refs, _ in daemon.store.blobs()] == [4]


@test
def a_record_may_name_the_same_blob_twice(box: Box) -> None:
    daemon, client = connected(box)
    table = content(MIB)
    digest = client.blob(1, table)
    client.log_blobs([digest, digest])
    client.flush()
    assert not client.rejects
    assert_store_has(daemon, table)
    [(used,)] = daemon.store.query("SELECT count(*) FROM blob_use")
    assert [refs for _, _, refs, _ in daemon.store.blobs()] == [used], (daemon.store.blobs(), used)


@test
def a_record_with_a_missing_blob_is_rejected_and_comes_again_with_it(box: Box) -> None:
    daemon, client = connected(box)
    table = content(MIB * 2)
    digest = hashlib.sha256(table).digest()
    client.log_blobs([digest])
    client.await_ack()
    assert [r.code for r in client.rejects] == ["blob_missing"]
    assert daemon.store.blobs() == []
    client.log_blobs([client.blob(1, table)])
    client.await_ack()
    assert len(client.rejects) == 1
    assert_store_has(daemon, table)


@test
def a_record_with_one_of_two_blobs_missing_keeps_neither(box: Box) -> None:
    daemon, client = connected(box)
    digest = client.blob(1, content(MIB))
    client.log_blobs([digest, bytes(32)])
    client.await_ack()
    assert [r.code for r in client.rejects] == ["blob_missing"]
    client.close()
    until(lambda: not daemon.store.tmp_files(), "tmp/ is empty")
    assert_store_has(daemon)


@test
def a_blob_with_another_digest_than_its_bytes_is_missing(box: Box) -> None:
    daemon, client = connected(box)
    for number, size in ((1, 1000), (2, MIB)):
        data = content(size)
        wrong = hashlib.sha256(data + b"x").digest()
        client.blob_part(number, 0, data[:size // 2])
        client.blob_part(number, size // 2, data[size // 2:], wrong)
        client.log_blobs([wrong])
        client.log_blobs([hashlib.sha256(data).digest()])
    client.await_ack()
    assert [r.code for r in client.rejects] == ["blob_missing"] * 4
    assert_store_has(daemon)


@test
def a_blob_is_not_lent_to_another_connection(box: Box) -> None:
    daemon = started(box)
    owner, other = opened(daemon.socket), opened(daemon.socket)
    digest = owner.blob(1, content(MIB))
    owner.log()
    owner.await_ack()
    other.log_blobs([digest])
    other.await_ack()
    assert [r.code for r in other.rejects] == ["blob_missing"]
    owner.log_blobs([digest])
    owner.await_ack()
    assert not owner.rejects


@test
def a_blob_of_a_connection_that_ends_is_forgotten(box: Box) -> None:
    daemon = started(box)
    for parts in (1, 2, 3):
        client = opened(daemon.socket)
        for i in range(parts):
            client.blob_part(1, i * PART_MAX, content(PART_MAX))
        client.blob(2, content(5000))
        client.flush()
        until(daemon.store.tmp_files, "the parts are on disk")
        client.close()
        until(lambda: not daemon.store.tmp_files(), "tmp/ is empty")
    assert daemon.store.blobs() == [] and not daemon.store.blob_files()


@test
def a_blob_sent_again_on_a_new_connection_is_taken(box: Box) -> None:
    daemon = started(box)
    first = opened(daemon.socket)
    table = content(3 * MIB)
    first.blob(1, table)
    first.close()
    again = greeted(daemon.socket, first.producer)
    again.log_blobs([again.blob(1, table)])
    again.await_ack()
    assert not again.rejects
    assert_store_has(daemon, table)


@test
def a_record_that_comes_again_with_its_blob_counts_once(box: Box) -> None:
    daemon = started(box)
    table = content(2 * MIB)
    first = opened(daemon.socket)
    first.log_blobs([first.blob(1, table)])
    first.await_ack()
    again = Client(daemon.socket, first.producer)
    again.say_hello()
    again.expect("welcome")
    again.seq = 1
    again.log_blobs([again.blob(1, table)])  # seq 2 once more
    again.log()
    again.await_ack(3)
    again.close()
    until(lambda: not daemon.store.tmp_files(), "tmp/ is empty")
    assert_store_has(daemon, table)
    assert [refs for _, _, refs, _ in daemon.store.blobs()] == [1]
    assert daemon.store.seqs(first.producer) == [1, 2, 3]


@test
def a_number_used_again_begins_a_new_blob(box: Box) -> None:
    daemon, client = connected(box)
    tables = [content(MIB + i, i) for i in range(6)]
    client.blob_part(1, 0, b"an unfinished one")
    for table in tables:
        client.log_blobs([client.blob(1, table)])
        client.await_ack()  # until then the number is in use
    assert not client.rejects
    assert_store_has(daemon, *tables)


@test
def files_and_rows_agree_after_a_restart(box: Box) -> None:
    daemon, client = connected(box)
    tables = [content(size, size) for size in (100, INLINE_MAX, MIB, 3 * MIB)]
    for number, table in enumerate(tables):
        client.log_blobs([client.blob(number, table)])
    client.await_ack()
    client.blob_part(9, 0, content(PART_MAX))  # unfinished
    client.flush()
    daemon.restart()
    assert_store_has(daemon, *tables)
    daemon.kill9()
    daemon.start()
    assert_store_has(daemon, *tables)


@test
def what_a_killed_daemon_left_in_tmp_and_blobs_is_swept_at_its_next_start(box: Box) -> None:
    daemon, client = connected(box)
    table = content(MIB)
    client.log_blobs([client.blob(1, table)])
    client.await_ack()
    client.blob_part(2, 0, content(PART_MAX))
    client.flush()
    until(daemon.store.tmp_files, "a part is on disk")
    daemon.kill9()
    stray = daemon.store.path / "blobs" / "ab"
    stray.mkdir(exist_ok=True)
    (stray / ("ab" + "0" * 62)).write_bytes(b"published, and its commit did not come")
    (daemon.store.path / "tmp" / "77").write_bytes(b"x")
    assert daemon.store.tmp_files()
    daemon.start()
    assert_store_has(daemon, table)


@test
def thirty_clients_send_tables_at_once(box: Box) -> None:
    daemon = started(box)
    clients = [opened(daemon.socket) for _ in range(30)]
    tables = []
    for turn in range(2):
        for i, client in enumerate(clients):
            tables.append(content(200_000 + 20_000 * i, 100 * turn + i))
            client.log_many(3)
            client.log_blobs([client.blob(turn, tables[-1], part=60_000)])
    for client in clients:
        client.await_ack()
        assert not client.rejects
    assert_store_has(daemon, *tables)


def nearly_full(box: Box) -> tuple[Daemon, Client]:
    """A store of 64 MiB with one blob that brings it above 95%; the client's next seq is 3."""
    daemon, client = connected(box, store__limit="64M")
    client.log_blobs([client.blob(1, bytes(61 * MIB + MIB // 2))])
    client.await_ack()
    daemon.await_log("the reserve is reached")
    return daemon, client


@test
def a_store_near_its_limit_refuses_bulk_and_traces_and_takes_metrics(box: Box) -> None:
    daemon, client = nearly_full(box)
    client.log_blobs([client.blob(2, content(1000))])
    client.send("call", t=1, phase="start", id="c", run="r")
    client.log()
    client.await_ack()
    assert [(r.seq, r.code, r.body["final"]) for r in client.rejects] == [(3, "disk_full", False), (4, "disk_full", False)]
    assert daemon.store.seqs(client.producer) == [1, 2, 5]


@test
def a_row_that_is_refused_for_its_table_is_counted_as_bulk(box: Box) -> None:
    daemon, client = nearly_full(box)
    client.log_blobs([client.blob(2, content(1000))])
    client.await_ack()
    assert daemon.store.tally() == {"refused:bulk": 1}, daemon.store.tally()


@test
def a_full_store_reads_nothing_ends_well_and_goes_on_when_there_is_room(box: Box) -> None:
    daemon, client = nearly_full(box)
    for _ in range(3):
        client.send("log", run="r", t=1, data={"x": os.urandom(1_040_000)})
    daemon.await_log("no room")
    late = Client(daemon.socket)  # connects, and waits
    late.say_hello()
    late.open_run("late")
    daemon.stop()
    daemon.settings["store.limit"] = "200M"
    daemon.start()
    again = greeted(daemon.socket, client.producer)
    again.log()
    again.await_ack()
    daemon.store.check()


if __name__ == "__main__":
    main()
