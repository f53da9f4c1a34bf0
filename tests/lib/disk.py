"""A disk that fails on command, and one that loses its power: the test's side of tests/lib/disk_shim.c."""
from __future__ import annotations

import mmap
import os
import random
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from process import BUILD, SANITIZER
from tap import Box, Skip, until

SHIM = BUILD / "tests/crash/disk_shim.so"
OPS = {name: 1 << i for i, name in enumerate(["open", "write", "sync", "truncate", "rename", "unlink", "allocate", "read", "mkdir"])}
RULES = 8
RULE = struct.Struct("<IIIIiIII96s")
SECTOR = 512


def needs_shim() -> None:
    if SANITIZER != "none":
        raise Skip("a sanitizer must be loaded first")


class Disk:
    """What a process started with env() finds broken. A rule holds until it is lifted or has had its count."""

    def __init__(self, box: Box, name: str = "disk") -> None:
        needs_shim()
        self.path = box.dir / f"{name}.rules"
        self.path.write_bytes(bytes(RULES * RULE.size))
        with open(self.path, "r+b") as f:
            self._map = mmap.mmap(f.fileno(), 0)

    def env(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(SHIM), "WBX_DISK_RULES": str(self.path)}

    def fail(self, ops: str, path: str, error: int = 0, *, count: int = -1, skip: int = 0, short: int = 0xffffffff, delay_ms: int = 0) -> int:
        """From now on these operations (words) on files whose path holds `path` end with error, or with error 0 write
        only so many bytes, or take longer. Gives the rule's number."""
        number = next(i for i in range(RULES) if not self._field(i, 0))
        bits = sum(OPS[word] for word in ops.split())
        self._map[number * RULE.size:(number + 1) * RULE.size] = RULE.pack(0, bits, error, skip, count, short, 0, delay_ms * 1000, path.encode())
        struct.pack_into("<I", self._map, number * RULE.size, 1)
        return number

    def lift(self, *numbers: int) -> None:
        """Ends these rules, or all."""
        for number in numbers or range(RULES):
            struct.pack_into("<I", self._map, number * RULE.size, 0)

    def hits(self, number: int) -> int:
        return self._field(number, 6)

    def await_hits(self, number: int, count: int = 1) -> None:
        until(lambda: self.hits(number) >= count, f"{count} failures of rule {number}")

    def _field(self, number: int, at: int) -> int:
        return struct.unpack_from("<I", self._map, number * RULE.size + at * 4)[0]


ENTRY = struct.Struct("<IIQQQ")
WRITE, TRUNCATE, SYNC, SYNC_FAILED, SYNC_DIR, CREATE, RENAME, UNLINK, MKDIR = range(9)


@dataclass
class Entry:
    kind: int
    path: str
    to: str
    inode: int
    at: int
    data: bytes


def read_log(path: Path) -> Iterator[Entry]:
    """All whole entries; the last one may have been cut by a kill."""
    log = path.read_bytes() if path.exists() else b""
    at = 0
    while at + ENTRY.size <= len(log):
        kind, path_len, inode, offset, size = ENTRY.unpack_from(log, at)
        at += ENTRY.size
        if at + path_len + size > len(log):
            return
        name, _, to = log[at:at + path_len].decode().partition("\0")
        yield Entry(kind, name, to, inode, offset, log[at + path_len:at + path_len + size])
        at += path_len + size


class File:
    """What is on the disk, and what only the page cache has."""

    def __init__(self, synced: bytes = b"") -> None:
        self.synced = bytearray(synced)
        self.pending: list[Entry] = []

    def apply(self, entry: Entry) -> None:
        if entry.kind == TRUNCATE:
            del self.synced[entry.at:]
            self.synced.extend(bytes(entry.at - len(self.synced)))
        else:
            self.synced.extend(bytes(max(0, entry.at - len(self.synced))))
            self.synced[entry.at:entry.at + len(entry.data)] = entry.data

    def sync(self) -> None:
        for entry in self.pending:
            self.apply(entry)
        self.pending = []

    def tear(self, rng: random.Random) -> None:
        """Sectors of what was not synced got to the disk as it happened."""
        for e in self.pending:
            if e.kind == TRUNCATE:
                if rng.random() < 0.5:
                    self.apply(e)
                continue
            start = 0
            while start < len(e.data):
                end = min(len(e.data), ((e.at + start) // SECTOR + 1) * SECTOR - e.at)
                if rng.random() < 0.5:
                    self.apply(Entry(WRITE, "", "", 0, e.at + start, e.data[start:end]))
                start = end


class PowerDisk:
    """A directory whose disk forgets, when the power goes, what was not synced: contents of files, and names in
    directories. A sync that failed loses what it was for: the kernel does not write those pages again."""

    def __init__(self, box: Box, root: Path, name: str = "power") -> None:
        needs_shim()
        self.root = root
        self.log = box.dir / f"{name}.writes"
        self._begin()

    def _begin(self) -> None:
        """All that is there is on the disk."""
        self.log.unlink(missing_ok=True)
        self.files: dict[int, File] = {}
        self.names: dict[str, int] = {}
        self.dirs: set[str] = set()
        for path in sorted(self.root.rglob("*")) if self.root.exists() else []:
            if path.is_dir():
                self.dirs.add(str(path))
            elif not path.name.endswith("-shm"):
                self.names[str(path)] = path.stat().st_ino
                self.files[path.stat().st_ino] = File(path.read_bytes())

    def env(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(SHIM), "WBX_DISK_LOG": str(self.log), "WBX_DISK_ROOT": str(self.root)}

    def _take(self, entry: Entry, waiting: list[Entry]) -> None:
        if entry.kind in (WRITE, TRUNCATE):
            self.files.setdefault(entry.inode, File()).pending.append(entry)
        elif entry.kind == SYNC:
            self.files.setdefault(entry.inode, File()).sync()
        elif entry.kind == SYNC_FAILED:
            self.files.setdefault(entry.inode, File()).pending = []
        elif entry.kind == SYNC_DIR:
            for e in [w for w in waiting if os.path.dirname(w.to or w.path) == entry.path.rstrip("/")]:
                self._apply_name(e)
                waiting.remove(e)
        else:
            if entry.kind == CREATE:
                self.files[entry.inode] = File()  # the number of a file that is gone may come again
            waiting.append(entry)

    def _apply_name(self, e: Entry) -> None:
        if e.kind == CREATE:
            self.names[e.path] = e.inode
        elif e.kind == UNLINK:
            self.names.pop(e.path, None)
            self.dirs.discard(e.path)
        elif e.kind == MKDIR:
            self.dirs.add(e.path)
        else:
            if self.names.get(e.path) == e.inode:
                del self.names[e.path]
            self.names[e.to] = e.inode

    def cut(self, rng: random.Random | None = None) -> int:
        """After the kill: puts what the disk holds in the place of what the page cache held. With rng, parts of what was
        not synced are there too. Gives how many writes were not synced."""
        waiting: list[Entry] = []
        for entry in read_log(self.log):
            self._take(entry, waiting)
        lost = sum(len(f.pending) for f in self.files.values()) + len(waiting)
        if rng is not None:  # directories are journalled: their changes come in order, up to some point
            for e in waiting[:rng.randint(0, len(waiting))]:
                self._apply_name(e)
            for f in self.files.values():
                f.tear(rng)
        self._write_back()
        self._begin()
        return lost

    def _write_back(self) -> None:
        shutil.rmtree(self.root)
        self.root.mkdir(0o700)
        for path in sorted(self.dirs):
            Path(path).mkdir(0o700, exist_ok=True)
        for path, inode in self.names.items():
            if Path(path).parent.exists():
                Path(path).write_bytes(self.files.get(inode, File()).synced)
