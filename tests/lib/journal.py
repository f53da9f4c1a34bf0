"""Journals and spools as libwbx writes them (PROTOCOL.md, section 6), and as somebody hostile might."""
from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, Sequence

from msgpack_lite import pack

HEADER = 4096
WRAP = b"\xc1"


def hello_payload(producer: bytes) -> bytes:
    return pack(["hello", 0, {"v": 1, "producer": producer, "pid": 1}])


def header(producer: bytes, *, spool: bool = False, hello: bytes | None = None, **numbers: int) -> bytes:
    """A header. numbers: size, capacity, start, head, tail, acked, hello_len."""
    hello = hello_payload(producer) if hello is None else hello
    n = {"size": HEADER, "capacity": 0, "start": 0, "head": 0, "tail": 0, "acked": 0, "hello_len": len(hello)} | numbers
    fixed = struct.pack("<8sII16sQQQQQ", b"wbxspol1" if spool else b"wbxjrnl1", n["size"], n["hello_len"] & 0xffffffff, producer,
                        n["capacity"], n["start"], n["head"], n["tail"], n["acked"])
    return (fixed.ljust(128, b"\0") + hello).ljust(HEADER, b"\0")


def journal_path(dir: Path, producer: bytes) -> Path:
    return dir / f"{producer.hex()}.journal"


def spool_path(dir: Path, producer: bytes, number: int) -> Path:
    return dir / f"{producer.hex()}.{number}.spool"


def put(path: Path, data: bytes) -> Path:
    """As libwbx does: the name comes when the file is whole."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    os.chmod(new, 0o640)
    new.rename(path)
    return path


def journal_bytes(producer: bytes, frames: Sequence[bytes], capacity: int = 1 << 16, start: int = 0, **numbers: int) -> bytes:
    """A ring whose oldest frame stands at place `start`, at the ring's beginning."""
    data = b"".join(frames)
    assert len(data) <= capacity
    values: dict[str, Any] = {"capacity": capacity, "start": start, "head": start, "tail": start + len(data)} | numbers
    return header(producer, **values) + data.ljust(capacity, b"\0")


def spool_bytes(producer: bytes, frames: Sequence[bytes], start: int = 0, **numbers: int) -> bytes:
    return header(producer, spool=True, **({"start": start, "head": start} | numbers)) + b"".join(frames)
