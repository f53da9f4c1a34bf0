"""What figures are made of: times, CPU and memory of processes, the disk, and how busy the machine was with other work."""
from __future__ import annotations

import array
import json
import os
import sqlite3
import statistics
import struct
import time
import zlib
from pathlib import Path
from typing import Any, Iterator

from tap import pause

TICK = os.sysconf("SC_CLK_TCK")


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def read_times(path: Path) -> list[float]:
    times = array.array("d")
    with open(path, "rb") as f:
        times.frombytes(f.read())
    return times.tolist()


# -- processes

def _parents() -> dict[int, tuple[int, float]]:
    """pid: its parent, its CPU seconds."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # gone in between
            continue
        found[int(stat.parent.name)] = (int(fields[1]), (int(fields[11]) + int(fields[12])) / TICK)
    return found


def descendants(root: int, without: set[int] = frozenset()) -> dict[int, float]:
    """CPU seconds of every process below root, but for those in `without` and below them."""
    everybody = _parents()
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in everybody.items():
        children.setdefault(parent, []).append(pid)
    found, left = {}, [root]
    while left:
        for pid in children.get(left.pop(), []):
            if pid not in without:
                found[pid] = everybody[pid][1]
                left.append(pid)
    return found


def cpu_seconds(without: set[int] = frozenset()) -> float:
    return sum(descendants(os.getpid(), without).values())


def await_idle(without: set[int] = frozenset(), seconds: float = 60.0) -> float:
    """Until our processes have stopped working; their CPU seconds."""
    deadline = time.monotonic() + seconds
    before = cpu_seconds(without)
    while time.monotonic() < deadline:
        pause(0.3)
        now = cpu_seconds(without)
        if now - before < 0.02:
            return now
        before = now
    return before


def memory_mb(pids: list[int]) -> float:
    """Resident, shared pages counted once (PSS)."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


# -- the machine

def _busy_seconds() -> float:
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / TICK


class Foreign:
    """How many cores others have used meanwhile."""

    def __init__(self) -> None:
        self.began, self.busy, self.own = time.monotonic(), _busy_seconds(), self._own()

    @staticmethod
    def _own() -> float:
        times = os.times()
        return cpu_seconds() + times.user + times.system + times.children_user + times.children_system

    def cores(self) -> float:
        seconds = time.monotonic() - self.began
        return round(max(0.0, (_busy_seconds() - self.busy - (self._own() - self.own)) / seconds), 2)


def fdatasync_us(dir: Path, count: int = 400, size: int = 4096) -> list[float]:
    """Blocks that are there already, written over and synced: the least that a commit does."""
    times = []
    path = dir / "sync"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.write(fd, bytes(count * size))
        os.fsync(fd)
        for n in range(count):
            began = time.perf_counter()
            os.pwrite(fd, b"x" * size, n * size)
            os.fdatasync(fd)
            times.append((time.perf_counter() - began) * 1e6)
    finally:
        os.close(fd)
        path.unlink()
    return times


def database_bytes(dir: Path) -> tuple[int, int]:
    """Of a store: its database with what is still in the write-ahead log, and that log, which is used again and again."""
    connection = sqlite3.connect(f"file:{dir}/wbx.db?mode=ro", uri=True)
    try:
        [(pages,)], [(size,)] = connection.execute("PRAGMA page_count").fetchall(), connection.execute("PRAGMA page_size").fetchall()
    finally:
        connection.close()
    return pages * size, (dir / "wbx.db-wal").stat().st_size


def disk_bytes(dir: Path) -> int:
    """What files below dir take."""
    return sum(p.stat().st_blocks * 512 for p in dir.rglob("*") if p.is_file() and not p.is_symlink())


# -- files of the wandb SDK (a LevelDB log of protobuf records, with the CRC over type and payload)

def _chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 7
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        crc, length, kind = struct.unpack_from("<IHB", data, at)
        payload = data[at + 7:at + 7 + length]
        if len(payload) < length or zlib.crc32(data[at + 6:at + 7 + length]) != crc:
            return
        yield kind, payload
        at += 7 + length


def _has_field(message: bytes, wanted: int) -> bool:
    """Whether a protobuf message has this field at its top."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        tag = varint()
        if tag >> 3 == wanted:
            return True
        if tag & 7 == 0:
            varint()
        elif tag & 7 == 2:
            length = varint()
            at += length
        else:
            at += 8 if tag & 7 == 1 else 4
    return False


HISTORY = 2  # field of Record


def wandb_rows(dir: Path) -> int:
    """History rows in the files of offline runs, as far as they can be read."""
    count = 0
    for path in dir.rglob("*.wandb"):
        record = b""
        for kind, payload in _chunks(path.read_bytes()):
            record = payload if kind in (1, 2) else record + payload
            if kind in (1, 4):
                count += _has_field(record, HISTORY)
    return count


# -- figures

def emit(figure: str, case: str, unit: str, **values: Any) -> None:
    """One line of JSON. wbx and sdk: the median of several rounds when there are lists; ratio: how many times the SDK's figure is."""
    line: dict[str, Any] = {"figure": figure, "case": case, "unit": unit}
    for key, value in values.items():
        if isinstance(value, list):
            if not value:
                continue
            line[key] = _round(statistics.median(value))
            if len(value) > 1:
                line[key + "_rounds"] = [_round(v) for v in value]
        elif value is not None:
            line[key] = _round(value)
    if line.get("wbx") and line.get("sdk"):
        line["ratio"] = _round(line["sdk"] / line["wbx"])
    if "target" in line and "wbx" in line:
        line["met"] = line["wbx"] >= line["target"] if values.get("more_is_better") else line["wbx"] <= line["target"]
    print(json.dumps(line), flush=True)


def _round(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
