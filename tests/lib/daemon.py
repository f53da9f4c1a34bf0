"""wbxd for a test: a process, its directory, and a look into its store."""
from __future__ import annotations

import os
import signal
import socket
import sqlite3
import select
from pathlib import Path
from typing import Any, Iterator

import msgpack_lite
from process import BUILD, Process, clean_env
from tap import WAIT_SECONDS, Box, read_text, until

WBXD = BUILD / "daemon/wbxd"
STOP_SECONDS = 20  # a daemon waits 1 s for what is under way


class Row:
    """One row of `record`."""

    def __init__(self, lsn: int, producer: int, payload: bytes) -> None:
        self.lsn = lsn
        self.producer = producer
        self.payload = payload
        self.kind, self.seq, self.body = msgpack_lite.unpack(payload)[:3]

    def __repr__(self) -> str:
        return f"<{self.kind} {self.seq} of {self.producer}>"


class Store:
    """What the database holds, read by a connection of its own; works also while no daemon runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def query(self, sql: str, *args: Any) -> list[tuple]:
        connection = sqlite3.connect(f"file:{self.path}/wbx.db?mode=ro", uri=True, timeout=WAIT_SECONDS)
        try:
            return connection.execute(sql, args).fetchall()
        finally:
            connection.close()

    def rows(self, producer: bytes | None = None, kind: str | None = None) -> list[Row]:
        """Records in the order of their lsn, of one producer (its 16 bytes) or of all."""
        if producer is None:
            found = self.query("SELECT lsn, producer, payload FROM record ORDER BY lsn")
        else:
            found = self.query("SELECT r.lsn, r.producer, r.payload FROM record r JOIN producer p ON p.id = r.producer "
                               "WHERE p.name = ? ORDER BY r.lsn", producer)
        rows = [Row(*f) for f in found]
        return rows if kind is None else [r for r in rows if r.kind == kind]

    def seqs(self, producer: bytes | None = None, kind: str | None = None) -> list[int]:
        return [r.seq for r in self.rows(producer, kind)]

    def numbers(self, producer: bytes | None = None) -> list[int]:
        """What `n` was logged, in the order of the store."""
        return [row.body["data"]["n"] for row in self.rows(producer, "log")]

    def producers(self) -> dict[bytes, int]:
        """Name and last durable seq."""
        return dict(self.query("SELECT name, last_seq FROM producer"))

    def tally(self) -> dict[str, int]:
        return dict(self.query("SELECT name, count FROM tally"))

    def blobs(self) -> list[tuple[str, int, int, bytes | None]]:
        """Digest in hex, size, references, bytes (None: they are in a file)."""
        return [(d.hex(), size, refs, data) for d, size, refs, data in self.query("SELECT sha256, size, refs, data FROM blob")]

    def blob_files(self) -> dict[str, Path]:
        return {p.name: p for p in (self.path / "blobs").glob("*/*")}

    def tmp_files(self) -> list[Path]:
        return list((self.path / "tmp").iterdir())

    def check(self) -> None:
        """SQLite's own check, and the sums of extents against the records they stand for."""
        assert self.query("PRAGMA integrity_check") == [("ok",)]
        for stream, first, last, records, before in self.query(
                "SELECT stream, first, last, records, lag(records, 1, 0) OVER (PARTITION BY stream ORDER BY first) FROM extent"):
            assert last - first + 1 == records - before, f"extent {first} of stream {stream} has wrong sums"
        [(in_extents,)] = self.query("SELECT coalesce(sum(last - first + 1), 0) FROM extent")
        [(in_records,)] = self.query("SELECT count(*) FROM record")
        assert in_extents == in_records, f"{in_extents} records in extents, {in_records} in the table"


class Daemon:
    """A wbxd with its files below `dir`. start() returns when its sockets accept."""

    def __init__(self, box: Box, dir: Path | None = None, *, name: str = "wbxd", env: dict[str, str] | None = None,
                 **settings: Any) -> None:
        self.box = box
        self.dir = dir or box.dir / name
        self.name = name
        self.env = env or {}
        # the tests' own filesystem may be fuller than the reserve; nothing goes to W&B: there is no key, and no address
        self.settings: dict[str, Any] = {"store.reserve": 0, "models.base_url": "http://127.0.0.1:9"} | {k.replace("__", "."): v for k, v in settings.items()}
        self.log_path = box.log_file(f"{name}.log")
        self.socket = Path(self.settings.get("daemon.socket", self.dir / "wbx.sock"))
        self.control = Path(self.settings.get("daemon.control", self.dir / "ctl.sock"))
        self.journal_dir = Path(self.settings.get("daemon.journal_dir", self.dir / "journal"))
        self.spool_dir = Path(self.settings.get("daemon.spool_dir", self.dir / "spool"))
        self.store = Store(Path(self.settings.get("store.dir", self.dir / "store")))
        self.process: Process | None = None

    def args(self) -> list[str | Path]:
        return [WBXD, "--dir", self.dir, *(f"--{key}={value}" for key, value in self.settings.items())]

    def launch(self, *more: str, **env: str) -> Process:
        """Starts the process and does not wait."""
        self.process = Process(self.box, [*self.args(), *more], env=clean_env(HOME=str(self.box.dir), **(self.env | env)), log=self.log_path)
        return self.process

    def start(self, *more: str, **env: str) -> "Daemon":
        """Starts it and waits for its READY=1, as systemd does."""
        address = self.box.dir / f"{self.name}.notify"
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.bind(str(address))
            process = self.launch(*more, NOTIFY_SOCKET=str(address), **env)
            poll = select.poll()
            poll.register(notify, select.POLLIN)
            poll.register(process.pidfd, select.POLLIN)
            events = dict(poll.poll(WAIT_SECONDS * 1000))
            assert notify.fileno() in events, f"{self.name} did not start:\n{self.log()[-2000:]}"
            assert notify.recv(100).startswith(b"READY=1")
        return self

    def kill9(self) -> None:
        assert self.process is not None
        self.process.kill9()

    def stop(self) -> None:
        """SIGTERM; the daemon must end well (a leak or race found by a sanitizer is another exit code)."""
        assert self.process is not None
        self.process.signal(signal.SIGTERM)
        code = self.process.wait(STOP_SECONDS)
        assert code == 0, f"{self.name} ended with {code}"

    def restart(self, **env: str) -> "Daemon":
        self.stop()
        return self.start(**env)

    def reload(self) -> None:
        """SIGHUP, and returns when the settings were taken."""
        assert self.process is not None
        count = self.log().count("settings read again")
        self.process.signal(signal.SIGHUP)
        self.await_log("settings read again", count + 1)

    def log(self) -> str:
        return read_text(self.log_path)

    def await_log(self, text: str, count: int = 1) -> None:
        until(lambda: self.log().count(text) >= count, f"{text!r} in the log of {self.name}")

    def await_rows(self, count: int, producer: bytes | None = None, kind: str | None = None) -> list[Row]:
        """Waits for so many rows; more of them are an error."""
        rows = until(lambda: (found := self.store.rows(producer, kind)) and len(found) >= count and found or None,
                     f"{count} rows")
        assert len(rows) == count, f"{len(rows)} rows, not {count}"
        return rows

    def kept_files(self) -> list[str]:
        """Names in journal and spool directory."""
        return sorted(os.listdir(self.journal_dir)) + sorted(os.listdir(self.spool_dir))

    def await_no_kept_files(self) -> None:
        until(lambda: not self.kept_files(), "journal and spool are empty")


def started(box: Box, **settings: Any) -> Daemon:
    return Daemon(box, **settings).start()


def away(box: Box, **settings: Any) -> Daemon:
    """A daemon that ran once, so that its directories are there, and does not run now."""
    daemon = started(box, **settings)
    daemon.stop()
    return daemon


def log_lines(text: str, word: str) -> Iterator[str]:
    return (line for line in text.splitlines() if word in line)
