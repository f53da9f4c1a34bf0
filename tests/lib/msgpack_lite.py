"""MessagePack, as much of it as the protocol has: nil, bool, int, float, str, bin, array, map. And the frames."""
from __future__ import annotations

import struct
from typing import Any, Iterable


class Raw(bytes):
    """Bytes that pack() takes as they are: for what is deliberately wrong."""


def _head(length: int, small: tuple[int, int] | None, codes: Iterable[tuple[int, str, int]]) -> bytes:
    if small is not None and length < small[1]:
        return bytes([small[0] | length])
    for code, form, limit in codes:
        if length < limit:
            return bytes([code]) + struct.pack(form, length)
    raise ValueError("too long")


def _pack_int(n: int) -> bytes:
    if -32 <= n < 128:
        return struct.pack("b", n)
    for code, form, low, high in ((0xcc, ">B", 0, 1 << 8), (0xcd, ">H", 0, 1 << 16), (0xce, ">I", 0, 1 << 32),
                                  (0xcf, ">Q", 0, 1 << 64), (0xd0, ">b", -1 << 7, 0), (0xd1, ">h", -1 << 15, 0),
                                  (0xd2, ">i", -1 << 31, 0), (0xd3, ">q", -1 << 63, 0)):
        if low <= n < high:
            return bytes([code]) + struct.pack(form, n)
    raise ValueError("too big")


def _pack_str(s: str) -> bytes:
    data = s.encode("utf-8", "surrogateescape")
    return _head(len(data), (0xa0, 32), ((0xd9, ">B", 1 << 8), (0xda, ">H", 1 << 16), (0xdb, ">I", 1 << 32))) + data


def _pack_bin(b: bytes) -> bytes:
    return _head(len(b), None, ((0xc4, ">B", 1 << 8), (0xc5, ">H", 1 << 16), (0xc6, ">I", 1 << 32))) + b


def pack(value: Any) -> bytes:
    if isinstance(value, Raw):
        return bytes(value)
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _pack_int(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        return _pack_str(value)
    if isinstance(value, (bytes, bytearray)):
        return _pack_bin(bytes(value))
    if isinstance(value, (list, tuple)):
        return _head(len(value), (0x90, 16), ((0xdc, ">H", 1 << 16), (0xdd, ">I", 1 << 32))) + b"".join(map(pack, value))
    if isinstance(value, dict):
        head = _head(len(value), (0x80, 16), ((0xde, ">H", 1 << 16), (0xdf, ">I", 1 << 32)))
        return head + b"".join(pack(k) + pack(v) for k, v in value.items())
    raise TypeError(f"no msgpack for {type(value).__name__}")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, n: int) -> bytes:
        if n > len(self.data) - self.at:
            raise ValueError("cut off")
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self) -> Any:
        c = self.take(1)[0]
        if c < 0x80 or c >= 0xe0:
            return c if c < 0x80 else c - 256
        if c < 0xc0:
            low = c & (0x1f if c >= 0xa0 else 0x0f)
            return self.text(low) if c >= 0xa0 else self.array(low) if c >= 0x90 else self.map(low)
        if c in _CONSTANTS:
            return _CONSTANTS[c]
        if c in _NUMBERS:
            return self.number(_NUMBERS[c])
        kind, form = _SIZED[c]
        return getattr(self, kind)(self.number(form))

    def text(self, n: int) -> str:
        return self.take(n).decode("utf-8", "surrogateescape")

    def ext(self, n: int) -> tuple[int, bytes]:
        return self.number(">b"), self.take(n)

    def array(self, n: int) -> list:
        return [self.value() for _ in range(n)]

    def map(self, n: int) -> dict:
        return {self.value(): self.value() for _ in range(n)}


_CONSTANTS = {0xc0: None, 0xc2: False, 0xc3: True}
_NUMBERS = {0xca: ">f", 0xcb: ">d", 0xcc: ">B", 0xcd: ">H", 0xce: ">I", 0xcf: ">Q", 0xd0: ">b", 0xd1: ">h", 0xd2: ">i", 0xd3: ">q"}
_SIZED = {0xc7: ("ext", ">B"), 0xc8: ("ext", ">H"), 0xc9: ("ext", ">I"), 0xc4: ("take", ">B"), 0xc5: ("take", ">H"), 0xc6: ("take", ">I"), 0xd9: ("text", ">B"), 0xda: ("text", ">H"),
          0xdb: ("text", ">I"), 0xdc: ("array", ">H"), 0xdd: ("array", ">I"), 0xde: ("map", ">H"), 0xdf: ("map", ">I")}


def unpack(data: bytes) -> Any:
    reader = _Reader(data)
    value = reader.value()
    if reader.at != len(data):
        raise ValueError("bytes after the value")
    return value


def frame(payload: bytes) -> bytes:
    """As it goes over the wire."""
    return pack(payload)


def cut_frame(data: bytes) -> tuple[bytes, int] | None:
    """The first frame's payload and the bytes it takes with its head; None: not all of it is there."""
    form = {0xc4: ">B", 0xc5: ">H", 0xc6: ">I"}[data[0]] if data else ">B"
    head = 1 + struct.calcsize(form)
    if len(data) < head:
        return None
    length = struct.unpack(form, data[1:head])[0]
    return (data[head:head + length], head + length) if len(data) >= head + length else None
