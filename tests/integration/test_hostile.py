"""Bad, huge and hostile input: one record or that connection suffers, nobody else, and memory stays bounded."""
from __future__ import annotations

import os
import random
import select
import signal
import socket
from typing import Any, Callable

from client import PART_MAX, Client, Ended, connected, greeted, log_record, now_us, opened, record
from daemon import Daemon, started
from msgpack_lite import frame, pack
from process import SANITIZER, raise_file_limit
from tap import FULL, Box, Skip, main, test, until

MIB = 1 << 20
NOBODY = 65534


class Bystander:
    """A client that behaves, beside those that do not."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.client = opened(daemon.socket)

    def works(self) -> None:
        """What it logs is acknowledged and stored."""
        self.client.log_many(20)
        self.client.flush()
        rows = self.daemon.store.seqs(self.client.producer, "log")
        assert rows[-20:] == list(range(self.client.seq - 20, self.client.seq))
        assert not self.client.rejects


def raw(daemon: Daemon) -> socket.socket:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    s.connect(str(daemon.socket))
    return s


def assert_memory_below(daemon: Daemon, bound: int) -> None:
    """Resident memory; a sanitizer's own does not count."""
    used = daemon.process.memory_bytes()
    assert used < bound or SANITIZER != "none", f"the daemon has {used / MIB:.0f} MiB"


def alive_and_well(daemon: Daemon) -> None:
    Bystander(daemon).works()
    daemon.store.check()


# -- bytes


@test
def random_bytes_end_their_connection_and_nothing_else(box: Box) -> None:
    daemon = started(box)
    bystander = Bystander(daemon)
    rng = random.Random(1)
    for _ in range(500):
        with Client(daemon.socket) as client:
            client.send_anyway(rng.randbytes(rng.randrange(1, 2000)))
    bystander.works()
    alive_and_well(daemon)


@test
def frames_that_say_2_32_bytes_end_their_connection(box: Box) -> None:
    daemon = started(box)
    for head in (b"\xc6\xff\xff\xff\xff", b"\xc6\x00\x10\x00\x01", b"\xc6\x80\x00\x00\x00"):
        client = opened(daemon.socket)
        client.send_anyway(head + b"x" * 1000)
        assert client.await_end()[-1].code == "frame_too_big"
    alive_and_well(daemon)


@test
def a_client_that_goes_in_the_middle_of_a_frame_leaves_what_was_whole(box: Box) -> None:
    daemon = started(box)
    frame_bytes = log_record(3)
    for cut in range(len(frame_bytes)):
        client = opened(daemon.socket)
        client.send_bytes(log_record(2) + frame_bytes[:cut])
        client.close()
        until(lambda: daemon.store.producers().get(client.producer) == 2, "record 2 is stored")
        assert daemon.store.seqs(client.producer) == [1, 2]


def mutated(rng: random.Random, data: bytes) -> bytes:
    """The frame with some of its payload changed; its head stays right, so that the payload is looked at."""
    payload = bytearray(data[5:])
    for _ in range(rng.choice((1, 1, 2, 8))):
        match rng.randrange(4):
            case 0:
                payload[rng.randrange(len(payload))] = rng.randrange(256)
            case 1:
                payload[rng.randrange(len(payload))] ^= 1 << rng.randrange(8)
            case 2:
                at = rng.randrange(len(payload))
                payload[at:at] = rng.randbytes(rng.randrange(1, 9))
            case _:
                del payload[rng.randrange(len(payload)):][:rng.randrange(1, 9)]
        payload = payload or bytearray(b"\0")
    return frame(bytes(payload))


def victims(rng: random.Random, seq: int) -> bytes:
    """A frame of some kind, to be damaged."""
    kinds: list[Callable[[], bytes]] = [
        lambda: record("log", seq, run="r", t=now_us(), data={"a": {"b": [1, 2.5, None]}}, step=3, commit=True),
        lambda: record("run", seq, run="r2", t=1, project="p", entity="e", config={"lr": 0.1}, tags=["a", "b"]),
        lambda: record("call", seq, t=1, phase="start", id="c", run="r", inputs={"q": "x"}, attributes={}),
        lambda: record("blob", 0, id=seq, off=0, data=bytes(20), sha256=bytes(32)),
        lambda: record("log", seq, run="r", t=1, data={}, blobs=[bytes(32), bytes(32)]),
        lambda: record("artifact", seq, run="r", t=1, name="n", type="t", files=[{"path": "x"}]),
        lambda: record("hello", 0, v=1, producer=bytes(16)),
        lambda: record("finish", seq, run="r", t=1, exit_code=0),
        lambda: record("flush", seq),
    ]
    return rng.choice(kinds)()


@test
def damaged_frames_of_every_kind_hurt_nobody_else(box: Box) -> None:
    daemon = started(box)
    bystander = Bystander(daemon)
    rng = random.Random(2)
    for _ in range(400):
        client = Client(daemon.socket)
        hello = record("hello", 0, v=1, producer=client.producer)
        start = hello if rng.randrange(5) else mutated(rng, hello)
        body = [record("run", 1, run="r", t=1, project="p")]
        body += [mutated(rng, victims(rng, seq)) if rng.randrange(3) else log_record(seq) for seq in range(2, 12)]
        client.send_anyway(start + b"".join(body))
        client.close()
    bystander.works()
    alive_and_well(daemon)
    daemon.stop()


@test
def a_record_that_says_it_has_a_million_keys_is_rejected(box: Box) -> None:
    daemon, client = connected(box)
    start = b"\x93\xa3log\x02\x83\xa3run\xa1r\xa1t\x01\xa4data\xdf"
    client.send_bytes(frame(start + (1_000_000).to_bytes(4, "big") + b"\xa0\xc0" * 10))
    client.send_bytes(frame(start.replace(b"\x02\x83", b"\x03\x83") + (500_000).to_bytes(4, "big") + b"\xa0\xc0" * 500_000))
    client.send_bytes(frame(start.replace(b"\x02\x83", b"\x04\x83") + (0xffffffff).to_bytes(4, "big")))
    client.send_bytes(log_record(5))
    client.await_ack(5)
    assert [(r.seq, r.code) for r in client.rejects] == [(2, "too_big"), (3, "too_big"), (4, "too_big")], client.rejects
    alive_and_well(daemon)


@test
def a_record_a_million_levels_deep_is_rejected(box: Box) -> None:
    daemon, client = connected(box)
    for seq, opening in ((2, b"\x91"), (3, b"\x81\xa1k"), (4, b"\xdd\x00\x00\x00\x01")):
        head = b"\x93\xa3log" + bytes([seq]) + b"\x83\xa3run\xa1r\xa1t\x01\xa4data\x81\xa1v"
        client.send_bytes(frame(head + opening * (1_000_000 // len(opening)) + b"\xc0"))
    client.send_bytes(log_record(5))
    client.await_ack(5)
    assert [r.code for r in client.rejects] == ["too_big"] * 3, client.rejects
    alive_and_well(daemon)


@test
def names_that_are_no_paths_text_or_utf_8_are_refused_or_stored_as_they_are(box: Box) -> None:
    daemon, client = connected(box)
    bad = ["", "a/b", "a\\b", "..\0", "x\n", "%41", "a?b", "a#b", "a:b", "\udcff", "\udced\udca0\udc80", "\udcc0\udc80", "r" * 513]
    for name in bad:
        client.open_run(name)
        client.open_run("good", project=name)
    client.open_run("ünï-1.2_3 ok", project="日本")
    client.await_ack()
    assert {r.code for r in client.rejects} == {"bad_field"} and len(client.rejects) == 2 * len(bad), client.rejects
    names = daemon.store.query("SELECT project, name FROM run WHERE name != 'r'")
    assert names == [("日本", "ünï-1.2_3 ok")]


# -- many


@test(seconds=180)
def a_thousand_silent_connections_cost_little_and_end_after_a_while(box: Box) -> None:
    raise_file_limit()
    daemon = started(box)
    bystander = Bystander(daemon)
    before = daemon.process.open_files()
    silent = [raw(daemon) for _ in range(1000)]
    bystander.works()
    until(lambda: daemon.process.open_files() >= before + 1000, "all are accepted")
    assert_memory_below(daemon, 30 * MIB)
    for s in silent:  # 10 s without a hello
        s.settimeout(60)
        got = b""
        while data := s.recv(1000):
            got += data
        assert b"timeout" in got, got
        s.close()
    bystander.works()
    until(lambda: daemon.process.open_files() < before + 10, "all are closed")  # but for what a thread opened for itself meanwhile


@test
def a_thousand_half_frames_stay_within_the_budget_for_unfinished_frames(box: Box) -> None:
    if SANITIZER != "none":
        raise Skip("a sanitizer's memory is not the daemon's")
    raise_file_limit()
    daemon = started(box)
    bystander = Bystander(daemon)
    half = b"\xc6\x00\x10\x00\x00" + bytes(MIB - 1)
    hostile = []
    for _ in range(1000):
        client = greeted(daemon.socket)
        client.sock.setblocking(False)
        hostile.append([client.sock, 0])
    poll = select.poll()
    for entry in hostile:
        poll.register(entry[0], select.POLLOUT)
    by_fd = {entry[0].fileno(): entry for entry in hostile}
    for _ in range(300):  # while they send as fast as they are read, somebody else logs
        for fd, events in poll.poll(0):
            if events & ~select.POLLOUT:
                poll.unregister(fd)
                continue
            entry = by_fd[fd]
            entry[1] += entry[0].send(half[entry[1]:entry[1] + 65536])
            if entry[1] == len(half):
                poll.unregister(fd)
        bystander.works()
        assert_memory_below(daemon, 80 * MIB)
    for entry in hostile:
        entry[0].close()
    bystander.works()


@test
def a_thousand_small_half_frames_delay_nobody(box: Box) -> None:
    raise_file_limit()
    daemon = started(box)
    bystander = Bystander(daemon)
    half = log_record(1)[:-1]
    hostile = [raw(daemon) for _ in range(1000)]
    for s in hostile:
        s.sendall(half)
    bystander.works()
    assert_memory_below(daemon, 30 * MIB)
    for s in hostile:
        s.close()
    bystander.works()


@test
def big_records_pass_while_others_hold_the_budget_for_unfinished_frames(box: Box) -> None:
    daemon = started(box)
    half = b"\xc6\x00\x10\x00\x00" + bytes(MIB - 100)
    hostile = []
    for _ in range(40):
        client = greeted(daemon.socket)
        client.sock.setblocking(False)
        try:
            client.sock.send(half)
        except BlockingIOError:
            pass
        hostile.append(client)
    client = opened(daemon.socket)
    for _ in range(5):
        client.send("log", run="r", t=1, data={"text": "x" * 900_000})
    client.await_ack()
    assert len(daemon.store.seqs(client.producer, "log")) == 5


@test(seconds=200)
def a_half_frame_ends_its_connection_after_a_while(box: Box) -> None:
    if not FULL:
        raise Skip("takes 30 s: ./dev test --full")
    daemon, client = connected(box)
    client.send_bytes(log_record(2)[:-1])
    assert client.await_end()[-1].code == "timeout"


@test
def two_thousand_connections_that_come_and_go_leave_nothing(box: Box) -> None:
    daemon = started(box)
    bystander = Bystander(daemon)
    before = daemon.process.open_files()
    hello = record("hello", 0, v=1, producer=bytes(16))
    for i in range(2000):
        with raw(daemon) as s:
            if i % 3:
                s.sendall(hello[:i % len(hello)])
    bystander.works()
    until(lambda: daemon.process.open_files() < before + 10, "all are closed")  # but for what a thread opened for itself meanwhile
    assert_memory_below(daemon, 30 * MIB)


@test
def one_user_has_2048_connections_and_those_go_on_when_more_are_refused(box: Box) -> None:
    raise_file_limit()
    daemon = started(box)
    bystander = Bystander(daemon)
    before = daemon.process.open_files()
    many = [raw(daemon) for _ in range(2048)]  # the bystander has one
    refused = 0
    poll = select.poll()
    for s in many:
        poll.register(s, select.POLLIN)
    refused = len(poll.poll(10_000))
    assert refused >= 1
    until(lambda: daemon.process.open_files() == before + 2047, "2,048 are open")
    bystander.works()
    many.pop(0).close()
    until(lambda: daemon.process.open_files() == before + 2046, "one less")
    greeted(daemon.socket).close()
    for s in many:
        s.close()
    bystander.works()


@test
def blobs_that_nobody_names_leave_nothing_behind(box: Box) -> None:
    daemon = started(box)
    bystander = Bystander(daemon)
    before = daemon.process.open_files()
    for turn in range(20):
        client = opened(daemon.socket)
        for number in range(40):
            client.blob_part(number, 0, bytes(1000 + turn))
        client.close()
    bystander.works()
    until(lambda: not daemon.store.tmp_files(), "tmp/ is empty")
    until(lambda: daemon.process.open_files() == before, "the files are closed")
    assert daemon.store.blobs() == []


# -- clients that do not listen


def in_child(work: Callable[[int], Any]) -> bytes:
    """Runs work(fd) in a forked child that ends at once, by _exit; gives what it wrote to fd."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            work(writer)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        wrote = pipe.read()
    os.waitpid(child, 0)
    return wrote


@test
def all_that_a_client_sent_before_it_died_is_stored_though_it_read_no_ack(box: Box) -> None:
    daemon = started(box)
    producer = os.urandom(16)

    def work(fd: int) -> None:
        client = Client(daemon.socket, producer)
        client.say_hello()
        client.open_run()
        last = client.log_many(60_000)
        os.write(fd, b"%d" % last)

    last = int(in_child(work))
    until(lambda: daemon.store.producers().get(producer) == last, f"{last} records are stored")
    assert daemon.store.seqs(producer) == list(range(1, last + 1))


@test
def all_that_a_client_sent_is_stored_though_it_closed_its_ears_and_died_at_once(box: Box) -> None:
    daemon = started(box)
    producers = []
    for turn in range(30):
        producers.append(os.urandom(16))

        def work(_fd: int) -> None:
            client = Client(daemon.socket, producers[-1])
            client.sock.shutdown(socket.SHUT_RD)
            client.say_hello()
            client.open_run()
            client.log_many(50 * turn)

        in_child(work)
    for turn, producer in enumerate(producers):
        last = 1 + 50 * turn
        until(lambda: daemon.store.producers().get(producer) == last, f"turn {turn}: {last} records are stored")


@test
def a_client_that_never_reads_costs_little_memory_and_nobody_waits_for_it(box: Box) -> None:
    daemon = started(box)
    bystander = Bystander(daemon)
    deaf = opened(daemon.socket)
    for _ in range(200):  # each unknown kind is answered with a reject
        deaf.send_bytes(b"".join(record("hologram", deaf.seq + 1 + i) for i in range(500)))
        deaf.seq += 500
    bystander.works()
    assert_memory_below(daemon, 30 * MIB)
    deaf.close()
    until(lambda: daemon.store.producers()[deaf.producer] == deaf.seq, "all of it was taken")


# -- the control socket


def is_answered(asker: Client, seq: int) -> None:
    """What it asked under that number is, with any number of items before the end."""
    while (answer := asker.recv()).kind == "item":
        pass
    assert (answer.kind, answer.seq) == ("done", seq), answer


@test
def garbage_on_the_control_socket_hurts_nobody(box: Box) -> None:
    daemon = started(box)
    bystander = Bystander(daemon)
    before = daemon.process.open_files()
    rng = random.Random(3)
    for _ in range(300):
        with Client(daemon.control) as client:
            if rng.randrange(2):
                client.send_anyway(rng.randbytes(rng.randrange(1, 500)))
            else:
                client.send_anyway(mutated(rng, frame(pack(["status", 1, {"run": "r", "ids": [1, 2]}]))))
    bystander.works()
    until(lambda: daemon.process.open_files() < before + 10, "all are closed")  # but for what a thread opened for itself meanwhile


@test
def the_257th_connection_to_the_control_socket_is_refused_and_256_go_on(box: Box) -> None:
    daemon = started(box)
    many = [Client(daemon.control) for _ in range(256)]
    for client in many:
        client.send_bytes(frame(pack(["status", 7, {}])))
    for client in many:
        is_answered(client, 7)
    one_more = Client(daemon.control)
    try:
        one_more.recv()
        raise AssertionError("the 257th was answered")
    except Ended:
        pass
    for client in many:
        client.close()
    daemon.stop()


@test
def an_asker_that_does_not_read_holds_up_nobody(box: Box) -> None:
    daemon = started(box)
    bystander = Bystander(daemon)
    client = opened(daemon.socket)
    client.log_many(20_000)
    client.await_ack()
    deaf = Client(daemon.control)
    deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    deaf.send_bytes(frame(pack(["tail", 1, {"n": 20000, "after": 0}])) * 50)
    bystander.works()
    other = Client(daemon.control)
    other.send_bytes(frame(pack(["status", 2, {}])))
    is_answered(other, 2)
    daemon.stop()


@test
def a_daemon_that_is_stopped_amid_all_this_ends_well(box: Box) -> None:
    raise_file_limit()
    daemon = started(box)
    clients = [raw(daemon) for _ in range(200)]
    for s in clients[:100]:
        s.sendall(log_record(1)[:-3])
    busy = [opened(daemon.socket) for _ in range(8)]
    for client in busy:
        client.log_many(500)
        client.blob_part(1, 0, bytes(PART_MAX))
        client.send_bytes(log_record(client.seq + 1)[:-1])
    daemon.process.signal(signal.SIGTERM)
    assert daemon.process.wait() == 0
    daemon.store.check()
    daemon.start()
    assert not daemon.store.tmp_files()
    alive_and_well(daemon)


if __name__ == "__main__":
    main()
