"""A narrow link: two TUN devices, one of them in a network namespace of its own, and between them a rate, a delay, losses and cuts.

Needs root (or CAP_NET_ADMIN and CAP_SYS_ADMIN) and /dev/net/tun; Skip where that is not given."""
from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from daemon import Daemon
from tap import Box, Skip, until

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
CLONE_NEWNET = 0x40000000
MTU = 1400
QUEUE_BYTES = 64 << 10  # what waits at the narrow place; more is dropped


def _run(*args: Any) -> None:
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    if done.returncode != 0:
        raise Skip(f"{' '.join(map(str, args))}: {done.stderr.strip()}")


def _open_tun(name: str, namespace: str | None) -> int:
    """In a thread of its own, for that is what enters the namespace."""
    result: list[Any] = []

    def act() -> None:
        try:
            if namespace is not None:
                with open(namespace) as ns:
                    if ctypes.CDLL(None, use_errno=True).setns(ns.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
            result.append(fd)
        except OSError as why:
            result.append(why)

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    if isinstance(result[0], OSError):
        raise Skip(f"no TUN device can be made here: {result[0]}")
    return result[0]


class Narrow:
    """The link of a test. Settings may change while it is in use."""

    def __init__(self, box: Box, bits_per_s: float = 0, delay_s: float = 0, loss: float = 0) -> None:
        if os.geteuid() != 0:
            raise Skip("a namespace and TUN devices need root")
        self.bits_per_s, self.delay_s, self.loss, self.is_cut = bits_per_s, delay_s, loss, False
        self.bytes_up = 0  # that came through
        self._dice = random.Random(1)
        holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        box.defer(holder.wait)
        box.defer(holder.kill)
        self._pid = holder.pid
        ours, theirs = os.readlink("/proc/self/ns/net"), f"/proc/{self._pid}/ns/net"
        until(lambda: os.readlink(theirs) != ours, "a network namespace")
        number = os.getpid()
        self.near, self.far = (f"10.{200 + number % 50}.{number // 50 % 250}.{i}" for i in (2, 1))  # the daemon's, the server's
        self._fds = [_open_tun(f"wbxf{number}", None), _open_tun("wbxn", theirs)]
        for fd in self._fds:
            box.defer(lambda fd=fd: os.close(fd))
        _run("ip", "addr", "add", self.far, "peer", self.near, "dev", f"wbxf{number}")
        _run("ip", "link", "set", f"wbxf{number}", "mtu", MTU, "up")
        _run(*self.inside("ip", "addr", "add", self.near, "peer", self.far, "dev", "wbxn"))
        _run(*self.inside("ip", "link", "set", "wbxn", "mtu", MTU, "up"))
        _run(*self.inside("ip", "link", "set", "lo", "up"))
        self._ended = threading.Event()
        thread = threading.Thread(target=self._pass, daemon=True)
        thread.start()
        box.defer(thread.join)
        box.defer(self._ended.set)

    def inside(self, *args: Any) -> list[str]:
        """The command, on the far side of the narrow place."""
        return ["nsenter", "--net=/proc/%d/ns/net" % self._pid, "--", *map(str, args)]

    def _pass(self) -> None:
        free = [0.0, 0.0]  # when each direction has sent what it has
        waiting: list[tuple[float, int, int, bytes]] = []
        count = 0
        while not self._ended.is_set():
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, to, packet = heapq.heappop(waiting)
                if not self.is_cut:
                    self.bytes_up += len(packet) if to == 0 else 0
                    try:
                        os.write(self._fds[to], packet)
                    except OSError:
                        pass  # a device that is full, or going
            timeout = min(0.05, max(0.0, waiting[0][0] - now)) if waiting else 0.05
            for fd in select.select(self._fds, [], [], timeout)[0]:
                side = self._fds.index(fd)
                try:
                    packet = os.read(fd, 65536)
                except OSError:
                    continue
                now = time.monotonic()
                start = max(now, free[side])
                rate = self.bits_per_s / 8
                if self.is_cut or self._dice.random() < self.loss or (rate and (start - now) * rate > QUEUE_BYTES):
                    continue
                free[side] = start + (len(packet) / rate if rate else 0)
                count += 1
                heapq.heappush(waiting, (free[side] + self.delay_s / 2, count, 1 - side, packet))


class DaemonBehind(Daemon):
    """A daemon on the other side of a narrow link."""

    def __init__(self, box: Box, link: Narrow, **settings: Any) -> None:
        self.link = link
        super().__init__(box, **settings)

    def args(self) -> list[str | Path]:
        return [*self.link.inside(), *super().args()]
