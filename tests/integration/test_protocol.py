"""The record socket, byte by byte: identity, order, acknowledgement, and what each reject does (PROTOCOL.md, section 3)."""
from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from client import RECORD_MAX, Client, Ended, connected, greeted, log_record, opened, record, records
from ctl import Ctl
from daemon import Daemon, started
from msgpack_lite import Raw, frame, pack
from tap import Box, Skip, main, test, until

PROTO = Path(__file__).resolve().parents[2] / "proto"
NOBODY = 65534


def limit(name: str) -> int:
    """A number of proto/limits.h."""
    text = (PROTO / "limits.h").read_text()
    value = re.search(rf"\b{name} = ([^,]+),", text).group(1)
    return eval(value, {}, {"RECORD_MAX": 1 << 20})  # noqa: S307: our own header


# -- hello and welcome


@test
def a_welcome_announces_the_limits_of_limits_h(box: Box) -> None:
    daemon = started(box)
    welcome = Client(daemon.socket).hello()
    assert welcome.seq == 0
    assert welcome.body["v"] == limit("PROTO_VERSION")
    assert welcome.body["limits"] == {
        "record": limit("RECORD_MAX"), "part": limit("BLOB_PART_MAX"), "blobs": limit("RECORD_BLOBS_MAX"),
        "keys": limit("RECORD_KEYS_MAX"), "depth": limit("RECORD_DEPTH_MAX")}


@test
def a_welcome_after_a_reconnect_has_the_last_stored_seq(box: Box) -> None:
    daemon = started(box)
    with opened(daemon.socket) as first:
        last = first.log_many(50)
        first.await_ack()
    assert Client(daemon.socket, first.producer).hello().seq == last


@test
def a_welcome_after_a_restart_of_the_daemon_has_the_last_stored_seq(box: Box) -> None:
    daemon = started(box)
    with opened(daemon.socket) as first:
        last = first.log_many(50)
        first.await_ack()
    daemon.restart()
    assert Client(daemon.socket, first.producer).hello().seq == last


@test
def a_welcome_after_kill_9_of_the_daemon_has_at_least_the_last_acknowledged_seq(box: Box) -> None:
    daemon, client = connected(box)
    client.log_many(3000)
    client.await_ack(1000)
    daemon.kill9()
    acked = client.acked
    while True:  # what was on its way to us counts too
        try:
            client.recv()
        except Ended:
            break
    assert client.acked >= acked
    daemon.start()
    welcome = Client(daemon.socket, client.producer).hello()
    assert welcome.seq >= client.acked
    assert daemon.store.seqs(client.producer) == list(range(1, welcome.seq + 1))


@test
def a_welcome_stands_behind_everything_that_was_read_before_it(box: Box) -> None:
    daemon, old = connected(box)
    for _ in range(20):
        old.log_many(200)
        new = Client(daemon.socket, old.producer)
        welcome = new.hello()
        assert daemon.store.producers()[old.producer] == welcome.seq
        old.await_end()
        old = new
    assert daemon.store.seqs(old.producer) == list(range(1, welcome.seq + 1))


@test
def a_newer_client_version_and_unknown_keys_are_fine(box: Box) -> None:
    daemon = started(box)
    client = greeted(daemon.socket, v=7, later={"a": [1, 2]})
    client.open_run(colour="green")
    client.flush()
    assert not client.rejects


# -- acknowledgement


@test
def acks_are_cumulative_and_end_at_the_last_seq(box: Box) -> None:
    daemon, client = connected(box)
    last = client.log_many(5000)
    acks = 0
    while client.acked < last:
        assert client.recv().kind == "ack"  # recv() looks that they rise
        acks += 1
    assert client.acked == last and acks < 5000
    assert daemon.store.seqs(client.producer) == list(range(1, last + 1))


@test
def what_is_acknowledged_is_in_the_database_at_that_moment(box: Box) -> None:
    daemon, client = connected(box)
    last = client.log_many(4000)
    while client.acked < last:
        client.expect("ack")
        assert daemon.store.producers()[client.producer] >= client.acked
        [(count,)] = daemon.store.query("SELECT count(*) FROM record")
        assert count >= client.acked


@test
def what_a_client_gave_up_is_counted_for_good(box: Box) -> None:
    daemon, client = connected(box)
    client.send("flush", lost=3)
    client.send("flush", lost=4)
    client.await_ack()
    assert daemon.store.tally() == {"lost:client": 7}, daemon.store.tally()
    assert "7 given up by clients" in Ctl(daemon).run("status").out


@test
def a_flush_is_acknowledged_and_stored_nowhere(box: Box) -> None:
    daemon, client = connected(box)
    for _ in range(10):
        client.flush()
    assert daemon.store.seqs(client.producer) == [1]
    assert Client(daemon.socket, client.producer).hello().seq == client.seq


@test
def seqs_may_have_gaps(box: Box) -> None:
    daemon, client = connected(box)
    for seq in (5, 6, 1000, 1 << 40):
        client.send_bytes(log_record(seq))
    client.await_ack(1 << 40)
    assert daemon.store.seqs(client.producer) == [1, 5, 6, 1000, 1 << 40]


@test
def records_that_are_sent_again_are_stored_once(box: Box) -> None:
    daemon = started(box)
    with opened(daemon.socket) as first:
        first.log_many(99)
        first.await_ack()
    again = Client(daemon.socket, first.producer)
    again.say_hello()
    again.send_bytes(b"".join(records(1, 150)))
    assert again.expect("welcome").seq in (100, 150)  # what came with the hello may be in the same commit
    again.await_ack(150)
    assert daemon.store.seqs(first.producer) == list(range(1, 151))


@test
def records_that_are_sent_again_by_a_connection_that_did_not_await_its_welcome_are_stored_once(box: Box) -> None:
    daemon = started(box)
    producer = os.urandom(16)
    last = 0
    for turn in range(30):
        client = Client(daemon.socket, producer)
        client.say_hello()
        last = 19 + turn
        client.send_bytes(b"".join(records(1, last)))
    client.await_ack(last)
    assert daemon.store.seqs(producer) == list(range(1, last + 1))
    daemon.store.check()


# -- framing


@test
def a_frame_may_be_bin_8_bin_16_or_bin_32(box: Box) -> None:
    daemon, client = connected(box)
    for seq, head in ((2, "c4{:02x}"), (3, "c5{:04x}"), (4, "c6{:08x}")):
        payload = pack(["log", seq, {"run": "r", "t": 1, "data": {}}])
        client.send_bytes(bytes.fromhex(head.format(len(payload))) + payload)
    client.await_ack(4)
    assert daemon.store.seqs(client.producer) == [1, 2, 3, 4]


@test
def a_frame_may_come_byte_by_byte(box: Box) -> None:
    daemon, client = connected(box)
    for byte in log_record(2) + log_record(3):
        client.send_bytes(bytes([byte]))
    client.await_ack(3)
    assert daemon.store.seqs(client.producer) == [1, 2, 3]


@test
def a_record_may_be_as_long_as_the_limit_and_not_longer(box: Box) -> None:
    daemon, client = connected(box)
    text = "x" * (RECORD_MAX - len(pack(["log", 2, {"run": "r", "t": 1, "data": {"k": "x" * 70000}}])) + 70000)
    payload = pack(["log", 2, {"run": "r", "t": 1, "data": {"k": text}}])
    assert len(payload) == RECORD_MAX
    client.send_bytes(frame(payload))
    client.await_ack(2)
    assert daemon.store.rows(client.producer)[1].payload == payload
    client.send_anyway(frame(pack(["log", 3, {"run": "r", "t": 1, "data": {"k": text + "x"}}])))
    ends_with(client, "frame_too_big")


@test
def values_after_the_body_are_skipped(box: Box) -> None:
    daemon, client = connected(box)
    client.send_bytes(frame(pack(["log", 2, {"run": "r", "t": 1, "data": {}}, {"more": [1]}, "later"])))
    client.await_ack(2)
    assert daemon.store.seqs(client.producer) == [1, 2]


@test
def records_are_stored_byte_for_byte_as_sent(box: Box) -> None:
    daemon, client = connected(box)
    payloads = []
    for seq, value in enumerate([None, True, -1, 1 << 63, 0.1, float("nan"), "ünï", b"\0\xff", [1, [2]], {"a": {"b": 1}}], 2):
        payloads.append(pack(["log", seq, {"run": "r", "t": seq, "data": {"v": value}, "step": seq, "commit": False}]))
        client.send_bytes(frame(payloads[-1]))
    client.await_ack(11)
    assert [r.payload for r in daemon.store.rows(client.producer)][1:] == payloads


# -- rejects after which the connection goes on


def goes_on_after(box: Box, code: str, bad: bytes, seq: int = 2, word: str = "") -> None:
    """The bad record (of that seq) is rejected with the code, what comes after it on the connection is stored."""
    daemon, client = connected(box)
    client.send_bytes(bad + log_record(seq + 1))
    client.await_ack(seq + 1)
    assert [(r.seq, r.code, r.body["final"]) for r in client.rejects] == [(seq, code, True)], client.rejects
    assert word in client.rejects[0].body["text"]
    assert daemon.store.seqs(client.producer) == [1, seq + 1]
    assert daemon.store.tally() == {f"rejected:{code}": 1}
    client.close()
    assert Client(daemon.socket, client.producer).hello().seq == seq + 1


def bad_log(seq: int = 2, **body: Any) -> bytes:
    return record("log", seq, **({"run": "r", "t": 1, "data": {}} | body))


@test
def a_malformed_record_is_rejected_and_the_connection_goes_on(box: Box) -> None:
    goes_on_after(box, "malformed", frame(pack(["log", 2, {"run": "r", "t": 1, "data": {}}])[:-1] + b"\x81\xa1a"))


@test
def a_record_with_bytes_behind_it_is_malformed(box: Box) -> None:
    goes_on_after(box, "malformed", frame(pack(["log", 2, {"run": "r", "t": 1, "data": {}}]) + b"\xc0"))


@test
def a_record_whose_body_is_no_map_is_malformed(box: Box) -> None:
    goes_on_after(box, "malformed", frame(pack(["log", 2, [1, 2, 3]])))


@test
def a_record_nested_too_deep_is_too_big(box: Box) -> None:
    deep: Any = 1
    for _ in range(limit("RECORD_DEPTH_MAX")):
        deep = [deep]
    goes_on_after(box, "too_big", bad_log(data={"v": deep}))


@test
def a_record_nested_as_deep_as_allowed_is_stored(box: Box) -> None:
    daemon, client = connected(box)
    deep: Any = 1
    for _ in range(limit("RECORD_DEPTH_MAX") - 3):  # the frame's array, the body, data
        deep = [deep]
    client.send_bytes(bad_log(data={"v": deep}))
    client.await_ack(2)
    assert not client.rejects and daemon.store.seqs(client.producer) == [1, 2]


@test
def a_record_with_too_many_keys_is_too_big(box: Box) -> None:
    keys = {f"{i:x}": None for i in range(limit("RECORD_KEYS_MAX") + 1)}
    goes_on_after(box, "too_big", bad_log(data=keys))


@test
def a_record_with_too_long_a_key_is_too_big(box: Box) -> None:
    goes_on_after(box, "too_big", bad_log(data={"k" * (limit("KEY_MAX") + 1): 1}))


@test
def a_record_that_names_too_many_blobs_is_too_big(box: Box) -> None:
    goes_on_after(box, "too_big", bad_log(blobs=[bytes(32)] * (limit("RECORD_BLOBS_MAX") + 1)), word="blobs")


@test
def a_field_of_the_wrong_type_is_a_bad_field(box: Box) -> None:
    goes_on_after(box, "bad_field", bad_log(data=[1]), word="`data`")


@test
def a_run_id_that_is_no_utf_8_is_a_bad_field(box: Box) -> None:
    goes_on_after(box, "bad_field", bad_log(run=Raw(b"\xa2\xff\xfe")), word="`run`")


@test
def a_run_id_that_is_too_long_is_a_bad_field(box: Box) -> None:
    goes_on_after(box, "bad_field", bad_log(run="r" * (limit("NAME_MAX_BYTES") + 1)), word="`run`")


@test
def a_digest_of_the_wrong_length_is_a_bad_field(box: Box) -> None:
    goes_on_after(box, "bad_field", bad_log(blobs=[bytes(31)]), word="blobs")


@test
def a_project_that_would_be_a_path_is_a_bad_field(box: Box) -> None:
    goes_on_after(box, "bad_field", record("run", 2, run="x", t=1, project="../up"))


@test
def a_project_that_is_no_utf_8_is_a_bad_field(box: Box) -> None:
    goes_on_after(box, "bad_field", record("run", 2, run="x", t=1, project=Raw(b"\xa1\xff")))


@test
def a_missing_field_is_named(box: Box) -> None:
    goes_on_after(box, "missing_field", record("log", 2, run="r", t=1), word="`data`")


@test
def an_unknown_kind_is_rejected_and_the_connection_goes_on(box: Box) -> None:
    goes_on_after(box, "unknown_kind", record("hologram", 2, run="r"), word="hologram")


@test
def a_kind_that_only_the_daemon_sends_is_unknown(box: Box) -> None:
    goes_on_after(box, "unknown_kind", record("welcome", 2, v=1, limits={}))


@test
def a_client_cannot_say_that_a_producer_is_gone(box: Box) -> None:
    goes_on_after(box, "unknown_kind", record("gone", 2, run="r", t=1))


@test
def a_record_of_a_run_that_was_not_opened_is_rejected(box: Box) -> None:
    goes_on_after(box, "unknown_run", bad_log(run="other"))


@test
def a_record_whose_blob_did_not_come_is_rejected(box: Box) -> None:
    goes_on_after(box, "blob_missing", bad_log(blobs=[bytes(32)]))


@test
def a_run_opened_twice_in_two_projects_is_rejected(box: Box) -> None:
    goes_on_after(box, "bad_field", record("run", 2, run="r", t=1, project="another"))


@test
def a_producer_opens_256_runs_and_not_more(box: Box) -> None:
    daemon = started(box)
    client = opened(daemon.socket, "run0")
    most = limit("RUNS_PER_PRODUCER_MAX")
    for i in range(1, most + 5):
        client.open_run(f"run{i}")
    client.log(f"run{most - 1}")
    client.log(f"run{most}")
    client.await_ack()
    assert [r.code for r in client.rejects] == ["too_many_runs"] * 5 + ["unknown_run"], client.rejects
    [(runs,)] = daemon.store.query("SELECT count(*) FROM run")
    assert runs == most


# -- every kind and field of the table in PROTOCOL.md


WRONG_TYPE = {"str": 1, "uint": "x", "int": "x", "bin": "x", "map": [1], "array": {"a": 1}, "bool": 1, "number": "x"}
GOOD_VALUE = {"str": "x", "uint": 1, "int": -1, "bin": b"x", "map": {"a": 1}, "array": [], "bool": True, "any": [1], "number": 0.5}


def documented_kinds() -> dict[str, list[tuple[str, str, bool]]]:
    """kind: [(field, type, required)], from section 4 of PROTOCOL.md; only what clients send under a seq."""
    section = (PROTO / "PROTOCOL.md").read_text().split("## 4. Kinds")[1].split("## 5.")[0]
    kinds = {}
    for name, body in re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.M):
        fields = []
        for field, kind, optional in re.findall(r"`(\w+)`(?: (\w+)(?: \d+)?)?(\?)?", body):
            fields.append((field, kind or {"run": "str", "t": "uint"}[field], not optional))
        kinds[name] = fields
    return {k: f for k, f in kinds.items() if k not in ("hello", "blob", "flush", "welcome", "ack", "reject", "notice")}


def whole(kind: str, fields: list[tuple[str, str, bool]]) -> dict[str, Any]:
    """A body with every field, each of the right type."""
    body = {name: GOOD_VALUE[type_] for name, type_, _ in fields}
    body |= {k: v for k, v in {"run": "r", "t": 1, "project": "p", "entity": None, "token": "x" * 16}.items() if k in body}
    return body


@test
def every_documented_kind_with_all_its_fields_is_stored(box: Box) -> None:
    daemon, client = connected(box)
    kinds = documented_kinds()
    assert len(kinds) >= 13, kinds
    for kind, fields in kinds.items():
        client.send(kind, **whole(kind, fields))
    client.await_ack()
    assert not client.rejects, client.rejects
    assert sorted(daemon.store.seqs(client.producer)) == list(range(1, len(kinds) + 2))


def are_rejected(daemon: Daemon, client: Client, expected: list[tuple[int, str, str]]) -> None:
    """Exactly these (seq, code, field) are, and nothing of them is stored."""
    client.await_ack()
    assert [(r.seq, r.code) for r in client.rejects] == [e[:2] for e in expected]
    assert all(f"`{e[2]}`" in r.body["text"] for e, r in zip(expected, client.rejects))
    assert daemon.store.seqs(client.producer) == [1]


@test
def every_required_field_of_every_documented_kind_is_missed(box: Box) -> None:
    daemon, client = connected(box)
    expected = []
    for kind, fields in documented_kinds().items():
        for name, _, required in fields:
            if required:
                body = whole(kind, fields)
                del body[name]
                expected.append((client.send(kind, **body), "missing_field", name))
    are_rejected(daemon, client, expected)


@test
def every_field_of_every_documented_kind_is_checked_for_its_type(box: Box) -> None:
    daemon, client = connected(box)
    expected = []
    for kind, fields in documented_kinds().items():
        for name, type_, _ in fields:
            if type_ in WRONG_TYPE:
                body = whole(kind, fields) | {name: WRONG_TYPE[type_]}
                expected.append((client.send(kind, **body), "bad_field", name))
    are_rejected(daemon, client, expected)


# -- rejects that end the connection


def ends_with(client: Client, code: str) -> None:
    """The last thing that the daemon says is a reject of the whole connection."""
    frames = client.await_end(not_beyond=9)
    assert frames, "the connection ended without a word"
    assert (frames[-1].kind, frames[-1].seq, frames[-1].code) == ("reject", 0, code), frames[-1]


def ends_after(box: Box, code: str, bad: bytes) -> None:
    """What came before `bad` is stored, the connection ends with the code, and nothing behind it is taken."""
    daemon, client = connected(box)
    client.send_anyway(log_record(2) + bad + log_record(9))
    ends_with(client, code)
    until(lambda: daemon.store.producers()[client.producer] == 2, "record 2 is stored")
    assert Client(daemon.socket, client.producer).hello().seq == 2
    assert daemon.store.seqs(client.producer) == [1, 2]


@test
def bytes_that_are_no_frame_end_the_connection(box: Box) -> None:
    ends_after(box, "bad_frame", b"\x93\xa3log\x01\x80")


@test
def a_frame_of_more_than_1_mib_ends_the_connection(box: Box) -> None:
    ends_after(box, "frame_too_big", b"\xc6\x7f\xff\xff\xff")


@test
def a_second_hello_ends_the_connection(box: Box) -> None:
    ends_after(box, "hello_first", record("hello", 0, v=1, producer=bytes(16)))


@test
def a_seq_that_does_not_rise_ends_the_connection(box: Box) -> None:
    ends_after(box, "seq_order", log_record(2))


@test
def a_record_before_hello_ends_the_connection(box: Box) -> None:
    daemon = started(box)
    client = Client(daemon.socket)
    client.send_bytes(log_record(1))
    ends_with(client, "hello_first")
    assert daemon.store.rows() == []


@test
def a_hello_of_version_0_ends_the_connection(box: Box) -> None:
    client = Client(started(box).socket)
    client.say_hello(v=0)
    ends_with(client, "hello_version")


@test
def a_hello_whose_producer_is_not_16_bytes_ends_the_connection(box: Box) -> None:
    daemon = started(box)
    for name in (b"", bytes(15), bytes(17)):
        client = Client(daemon.socket)
        client.say_hello(producer=name)
        ends_with(client, "bad_field")
    assert daemon.store.producers() == {}


@test
def a_part_longer_than_allowed_ends_the_connection(box: Box) -> None:
    ends_after(box, "blob_order", record("blob", 0, id=1, off=0, data=bytes(limit("BLOB_PART_MAX") + 1)))


@test
def a_blob_with_a_part_missing_costs_its_record_alone(box: Box) -> None:
    daemon, client = connected(box)
    data = bytes(100)
    digest = hashlib.sha256(data).digest()
    client.blob_part(1, 0, data[:10])
    client.blob_part(1, 50, data[50:], digest)
    client.log_blobs([digest])
    client.log()
    client.await_ack()
    assert [r.code for r in client.rejects] == ["blob_missing"]
    assert daemon.store.seqs(client.producer) == [1, 3]


@test
def a_part_out_of_order_ends_the_connection(box: Box) -> None:
    ends_after(box, "blob_order", record("blob", 0, id=1, off=0, data=b"xyz") + record("blob", 0, id=1, off=2, data=b"x"))


@test
def more_blobs_at_a_time_than_allowed_end_the_connection(box: Box) -> None:
    parts = [record("blob", 0, id=i, off=0, data=b"x") for i in range(limit("BLOB_OPEN_MAX") + 1)]
    ends_after(box, "too_many_blobs", b"".join(parts))


@test
def a_new_connection_of_a_producer_supersedes_the_old_one(box: Box) -> None:
    daemon, old = connected(box)
    new = greeted(daemon.socket, old.producer)
    old.await_end()
    new.log()
    new.await_ack()
    assert daemon.store.seqs(new.producer) == [1, 2]


@test
def a_superseded_connection_is_told_so(box: Box) -> None:
    daemon, old = connected(box)
    with greeted(daemon.socket, old.producer):
        ends_with(old, "superseded")


@test
def a_superseded_connection_is_read_no_further(box: Box) -> None:
    daemon, old = connected(box)
    new = greeted(daemon.socket, old.producer)
    old.await_end()
    old.send_anyway(log_record(2) + log_record(3))
    new.log()
    new.await_ack()
    assert daemon.store.seqs(new.producer) == [1, 2]
    assert Client(daemon.socket, new.producer).hello().seq == 2


# -- users


def as_user(uid: int, work: Any) -> None:
    """Runs work() in a forked child of another uid; its AssertionError is ours."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            work()
            code = 0
        except BaseException as e:  # noqa: BLE001: the parent tells
            os.write(writer, repr(e).encode())
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        why = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"as uid {uid}: {why}"


def shared_daemon(box: Box, **settings: Any) -> Daemon:
    """A daemon for every user: its sockets and directories can be reached by all, as those of the service."""
    if os.getuid() != 0:
        raise Skip("only root can become another user")
    box.dir.chmod(0o755)
    place = box.dir / "run"
    place.mkdir()
    place.chmod(0o755)
    return Daemon(box, daemon__socket=place / "wbx.sock", daemon__control=place / "ctl.sock", daemon__journal_dir=place / "journal",
                  daemon__spool_dir=place / "spool", daemon__socket_mode="0666", **settings).start()


@test
def two_users_with_the_same_producer_and_run_do_not_meet(box: Box) -> None:
    daemon = shared_daemon(box)
    mine = opened(daemon.socket)
    mine.log_many(10)
    mine.await_ack()

    def other() -> None:
        theirs = Client(daemon.socket, mine.producer)
        assert theirs.hello().seq == 0
        theirs.open_run()
        theirs.log_many(3)
        theirs.await_ack()

    as_user(NOBODY, other)
    mine.log()  # the other one superseded nobody
    mine.await_ack()
    users = daemon.store.query("SELECT uid, last_seq FROM producer ORDER BY uid")
    assert users == [(0, 12), (NOBODY, 4)], users
    assert daemon.store.query("SELECT uid, count(*) FROM run GROUP BY uid ORDER BY uid") == [(0, 1), (NOBODY, 1)]


@test
def a_user_cannot_log_to_a_run_by_naming_another_users_producer(box: Box) -> None:
    daemon = shared_daemon(box)
    mine = opened(daemon.socket)

    def other() -> None:
        theirs = greeted(daemon.socket, mine.producer)
        theirs.log()
        theirs.await_ack()
        assert [r.code for r in theirs.rejects] == ["unknown_run"], theirs.rejects

    as_user(NOBODY, other)
    assert len(daemon.store.rows()) == 1


@test
def a_socket_of_mode_0600_keeps_other_users_out(box: Box) -> None:
    daemon = shared_daemon(box)
    daemon.settings["daemon.socket_mode"] = "0600"
    daemon.restart()

    def other() -> None:
        try:
            Client(daemon.socket)
        except PermissionError:
            return
        raise AssertionError("another user connected")

    as_user(NOBODY, other)


if __name__ == "__main__":
    main()
