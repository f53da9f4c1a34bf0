"""The machine loses its power: what was acknowledged is on the disk, though everything that was not synced is gone."""
from __future__ import annotations

import hashlib
import os
import random
import select
import socket
import threading

from client import Client, Ended, now_us
from daemon import Daemon
from disk import PowerDisk
from process import build_option
from tap import FULL, Box, main, test

ROUNDS = int(os.environ.get("WBX_POWER_ROUNDS") or (1000 if FULL else 60))
SEED = int(os.environ.get("WBX_CRASH_SEED") or random.SystemRandom().randrange(1 << 32))
SECONDS = 120 + 4 * ROUNDS
ROUNDS_OF_A_STORE = 10
WINDOW = 32  # rows under way
BLOB_EVERY = 25
BLOB_BYTES = 300_000
POINTS = ["commit.written", "commit.done", "blob.part", "blob.published"]


def blob_of(name: str, n: int) -> bytes:
    return hashlib.sha256(f"{name} {n}".encode()).digest() * (BLOB_BYTES // 32)


class Writer:
    """A producer that logs as fast as it is acknowledged, over every restart; knows what was acknowledged."""

    def __init__(self, name: str, daemon: Daemon, blobs: bool) -> None:
        self.name = name
        self.daemon = daemon
        self.blobs = blobs
        self.producer = os.urandom(16)
        self.acked = 0
        self.sent: dict[int, int] = {}  # seq: what number it logged
        self.n = 0

    def start(self) -> None:
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self) -> None:
        client = None
        try:
            client = Client(self.daemon.socket, self.producer)
            welcome = client.hello()
            assert welcome.seq >= self.acked, f"welcome {welcome.seq} after ack {self.acked}"
            self._go_on(client, welcome.seq)
        except (Ended, OSError, socket.timeout):
            pass
        finally:
            if client is not None:
                self.acked = max(self.acked, client.acked)
                client.close()

    def _go_on(self, client: Client, last: int) -> None:
        """Behind what the store has: what was sent and is not there is logged again, under the same numbers."""
        self.n = max((n for seq, n in self.sent.items() if seq <= last), default=0)
        self.sent = {seq: n for seq, n in self.sent.items() if seq <= last}
        client.open_run(self.name)
        while True:
            while client.seq - client.acked < WINDOW:
                self._log(client)
            client.recv()

    def _log(self, client: Client) -> None:
        n = self.n + 1
        self.sent[client.seq + 1] = n
        data: dict = {"n": n}
        more: dict = {}
        if self.blobs and n % BLOB_EVERY == 0:
            digest = client.blob(n, blob_of(self.name, n), part=1 << 17)
            data["t"] = {"_type": "table", "blob": digest, "size": BLOB_BYTES, "ncols": 1, "nrows": 1}
            more["blobs"] = [digest]
        client.send("log", run=self.name, t=now_us(), data=data, **more)
        self.n = n

    def check(self, rows: list[tuple[int, int, bytes | None]]) -> None:
        """rows: seq, number and blob of those that are stored."""
        self.thread.join()
        stored = {seq for seq, _, _ in rows}
        assert len(stored) == len(rows), f"{self.name}: a seq is stored twice"
        gone = [seq for seq in self.sent if seq <= self.acked and seq not in stored]
        assert not gone, f"{self.name}: acknowledged up to {self.acked}, and not there: {gone[:10]}"
        numbers = [n for _, n, _ in rows]
        assert numbers == list(range(1, len(numbers) + 1)), f"{self.name}: {numbers[-20:]}"
        for seq, n, digest in rows:
            assert (digest is not None) == (self.blobs and n % BLOB_EVERY == 0)
            if digest is not None:
                assert hashlib.sha256(blob_of(self.name, n)).digest() == digest


def check_store(daemon: Daemon, writers: list[Writer]) -> None:
    store = daemon.store
    rows: dict[str, list[tuple[int, int, bytes | None]]] = {w.name: [] for w in writers}
    for row in store.rows(kind="log"):
        table = row.body["data"].get("t")
        rows[row.body["run"]].append((row.seq, row.body["data"]["n"], table and table["blob"]))
    for w in writers:
        w.check(rows[w.name])
    store.check()
    files = store.blob_files()
    for digest, size, refs, data in store.blobs():
        got = files[digest].read_bytes() if data is None else data
        assert len(got) == size and hashlib.sha256(got).hexdigest() == digest, f"blob {digest} is damaged"


def kill(daemon: Daemon, disk: PowerDisk, rng: random.Random, writers: list[Writer]) -> None:
    """One life of the daemon, to a random moment or a named point."""
    fault = {}
    if build_option("faults") == "True" and rng.random() < 0.5:
        fault = {"WBX_FAULT": f"{rng.choice(POINTS)}:{rng.randint(2, 30)}"}
    daemon.env = disk.env() | fault
    daemon.start()
    for w in writers:
        w.start()
    poll = select.poll()
    poll.register(daemon.process.pidfd, select.POLLIN)
    poll.poll(1000 * 0.005 * 60 ** rng.random())
    daemon.kill9()
    for w in writers:
        w.thread.join()


def survives(box: Box, what: str, torn: bool) -> None:
    print(f"# {ROUNDS // 2} cuts, WBX_CRASH_SEED={SEED}", flush=True)
    unsynced = acked = 0
    for number in range(max(1, ROUNDS // 2 // ROUNDS_OF_A_STORE)):
        rng = random.Random(f"{SEED} {what} {number}")
        daemon = Daemon(box, name=f"{what}{number}")
        daemon.dir.mkdir(0o700)
        daemon.store.path.mkdir(0o700)  # its own name in the directory above is not what is tested
        disk = PowerDisk(box, daemon.store.path, f"{what}{number}")
        writers = [Writer(f"w{i}", daemon, blobs=i == 0) for i in range(3)]
        for _ in range(ROUNDS_OF_A_STORE):
            kill(daemon, disk, rng, writers)
            unsynced += disk.cut(rng if torn else None)
            daemon.env = disk.env()
            daemon.start()  # sweeps, and writes its log back
            check_store(daemon, writers)
            daemon.kill9()
            disk.cut()
        acked += sum(w.acked for w in writers)
    print(f"# {acked} records acknowledged, {unsynced} changes of files not synced when the power went", flush=True)
    assert acked and unsynced


@test(seconds=SECONDS)
def what_is_acknowledged_is_there_though_all_that_was_not_synced_is_gone(box: Box) -> None:
    survives(box, "gone", torn=False)


@test(seconds=SECONDS)
def what_is_acknowledged_is_there_though_the_disk_has_any_part_of_what_was_not_synced(box: Box) -> None:
    survives(box, "torn", torn=True)


main()
