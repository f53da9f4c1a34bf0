"""A client of the record socket in plain Python: every byte is the test's own."""
from __future__ import annotations

import hashlib
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable

from daemon import Daemon, started
from msgpack_lite import cut_frame, frame, pack, unpack
from tap import WAIT_SECONDS, Box

PART_MAX = (1 << 20) - 1024
RECORD_MAX = 1 << 20


@dataclass
class Frame:
    kind: str
    seq: int
    body: dict

    @property
    def code(self) -> str:
        return self.body.get("code", "")


class Ended(Exception):
    """The daemon closed the connection."""


def now_us() -> int:
    return int(time.time() * 1e6)


def record(kind: str, seq: int, **body: Any) -> bytes:
    """One whole frame."""
    return frame(pack([kind, seq, body]))


def log_record(seq: int, run: str = "r", **more: Any) -> bytes:
    return record("log", seq, run=run, t=now_us(), data={"n": seq}, **more)


def records(first: int, last: int) -> list[bytes]:
    """first .. last; record 1 opens the run."""
    return [record("run", 1, run="r", t=now_us(), project="p") if seq == 1 else log_record(seq) for seq in range(first, last + 1)]


class Client:
    """A connection. send() and the rest number the records of this producer from 1."""

    def __init__(self, path: Path | str, producer: bytes | None = None, sock: socket.socket | None = None) -> None:
        """sock: connected already, perhaps by another user (users.py)."""
        self.producer = producer or os.urandom(16)
        self.seq = 0
        self.acked = 0
        self.rejects: list[Frame] = []
        self.notices: list[dict] = []
        self._in = b""
        self.sock = sock or socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(WAIT_SECONDS)
        if sock is None:
            self.sock.connect(str(path))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    # -- sending

    def send_bytes(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_anyway(self, data: bytes) -> None:
        """The daemon may end the connection before it has read everything."""
        try:
            self.send_bytes(data)
        except OSError:
            pass

    def send(self, kind: str, **body: Any) -> int:
        """A numbered record; gives its seq."""
        self.seq += 1
        self.send_bytes(record(kind, self.seq, **body))
        return self.seq

    def say_hello(self, **body: Any) -> None:
        self.send_bytes(record("hello", 0, **({"v": 1, "producer": self.producer, "pid": os.getpid()} | body)))

    def hello(self, **body: Any) -> Frame:
        """Says hello and waits for the welcome; goes on behind the last stored seq."""
        self.say_hello(**body)
        welcome = self.expect("welcome")
        self.seq = max(self.seq, welcome.seq)
        return welcome

    def open_run(self, run: str = "r", project: str = "p", **more: Any) -> int:
        return self.send("run", run=run, t=now_us(), project=project, **more)

    def finish(self, run: str = "r", exit_code: int = 0) -> None:
        """Ends the run, and waits until that is stored."""
        self.send("finish", run=run, t=now_us(), exit_code=exit_code)
        self.flush()

    def log(self, run: str = "r", **more: Any) -> int:
        return self.send("log", run=run, t=now_us(), data={"n": self.seq + 1}, **more)

    def log_many(self, count: int, run: str = "r") -> int:
        """Many rows in few writes."""
        for first in range(0, count, 500):
            batch = []
            for _ in range(min(500, count - first)):
                self.seq += 1
                batch.append(log_record(self.seq, run))
            self.send_bytes(b"".join(batch))
        return self.seq

    def blob_part(self, number: int, off: int, data: bytes, digest: bytes | None = None) -> None:
        last = {} if digest is None else {"sha256": digest}
        self.send_bytes(record("blob", 0, id=number, off=off, data=data, **last))

    def blob(self, number: int, data: bytes, part: int = PART_MAX, between: Callable[[], Any] | None = None) -> bytes:
        """All parts of a blob, with between() called after each but the last; gives the digest."""
        digest = hashlib.sha256(data).digest()
        for off in range(0, max(len(data), 1), part):
            last = off + part >= len(data)
            self.blob_part(number, off, data[off:off + part], digest if last else None)
            if between is not None and not last:
                between()
        return digest

    def log_blobs(self, digests: Iterable[bytes], run: str = "r") -> int:
        """A row with a table for each digest."""
        named = list(digests)
        data = {f"t{i}": {"_type": "table", "blob": d, "size": 1, "ncols": 1, "nrows": 1} for i, d in enumerate(named)}
        return self.send("log", run=run, t=now_us(), data=data, blobs=named)

    # -- receiving

    def recv(self, seconds: float = WAIT_SECONDS) -> Frame:
        """The next frame that is no notice; Ended at the end of the stream."""
        while (got := self._recv(seconds)).kind == "notice":
            self.notices.append(got.body)
        return got

    def await_notice(self, **fields: Any) -> dict:
        """Until one with these values has come; gives it."""
        while not (found := [n for n in self.notices if all(n.get(k) == v for k, v in fields.items())]):
            got = self._recv(WAIT_SECONDS)
            if got.kind == "notice":
                self.notices.append(got.body)
        return found[0]

    def _recv(self, seconds: float) -> Frame:
        self.sock.settimeout(seconds)
        while (cut := cut_frame(self._in)) is None:
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Ended
            self._in += data
        payload, size = cut
        self._in = self._in[size:]
        got = Frame(*unpack(payload)[:3])
        if got.kind in ("ack", "welcome"):  # a welcome says what is on disk too
            assert got.seq >= self.acked, f"{got} after {self.acked}"
            self.acked = got.seq
        elif got.kind == "reject":
            self.rejects.append(got)
        return got

    def expect(self, kind: str) -> Frame:
        got = self.recv()
        assert got.kind == kind, f"{got} came, not {kind}"
        return got

    def await_ack(self, seq: int | None = None) -> None:
        """Until everything up to seq (the last one sent) is acknowledged."""
        want = self.seq if seq is None else seq
        while self.acked < want:
            self.recv()

    def flush(self) -> None:
        """Asks for a commit and waits for it."""
        self.send("flush")
        self.await_ack()

    def await_end(self, not_beyond: int | None = None) -> list[Frame]:
        """Everything that comes until the daemon closes the connection. An ack of that seq says that it does not."""
        frames = []
        while True:
            try:
                frames.append(self.recv())
            except Ended:
                return frames
            assert not_beyond is None or self.acked < not_beyond, f"the connection went on: {frames[-1]}"


def greeted(path: Path | str, producer: bytes | None = None, **hello: Any) -> Client:
    """A client that had its welcome."""
    client = Client(path, producer)
    client.hello(**hello)
    return client


def opened(path: Path | str, run: str = "r", producer: bytes | None = None) -> Client:
    """A client with a run open and on disk."""
    client = greeted(path, producer)
    client.open_run(run)
    client.await_ack()
    return client


def connected(box: Box, **settings: Any) -> tuple[Daemon, Client]:
    """A daemon, and a client of it with a run open and on disk."""
    daemon = started(box, **settings)
    return daemon, opened(daemon.socket)
