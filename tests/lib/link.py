"""The way to W&B, in the hand of a test: a relay that is cut, mute or slow, a name server that does not answer, certificates."""
from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
from pathlib import Path

from daemon import Daemon
from tap import Box, Skip, pause

CHUNK = 4096
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST


def listener(port: int = 0) -> socket.socket:
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port))
    s.listen(64)
    return s


class Relay:
    """Passes connections on to a port of this machine. Threads of the test; all of them end with the box."""

    def __init__(self, box: Box, to_port: int) -> None:
        self.to_port = to_port
        self.bytes_per_s = 0  # upwards; 0: no limit
        self.is_mute = False  # takes connections and bytes, and passes nothing on
        self.taken = 0  # connections since the last cut
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = listener()
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._serve(self._listener)
        box.defer(self.cut)

    def _serve(self, s: socket.socket) -> None:
        threading.Thread(target=self._accept, args=(s,), daemon=True).start()

    def _accept(self, s: socket.socket) -> None:
        while True:
            try:
                near = s.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._pass, args=(near,), daemon=True).start()

    def begin(self, near: socket.socket) -> bool:
        """What comes before the bytes are passed on."""
        return True

    def _pass(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._keep(near)
            self.taken += 1
            if not self.begin(near):
                near.close()
                return
            far = socket.create_connection(("127.0.0.1", self.to_port))
            self._keep(far)
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()
            self._pump(near, far, True)

    def _keep(self, s: socket.socket) -> None:
        with self._lock:
            self._open.add(s)

    def _pump(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                while self.is_mute:
                    pause()
                    sink.getpeername()  # ends this when the link was cut
                if upwards and self.bytes_per_s:
                    pause(len(data) / self.bytes_per_s)
                sink.sendall(data)
        for s in (source, sink):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Connections are reset, new ones refused."""
        with self._lock:
            if self._listener is not None:
                with contextlib.suppress(OSError):
                    self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
                self._listener.close()
                self._listener = None
            for s in self._open:
                with contextlib.suppress(OSError):
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    s.shutdown(socket.SHUT_RDWR)
                    s.close()
            self._open.clear()
            self.taken = 0

    def mend(self) -> None:
        self._listener = listener(self.port)
        self._serve(self._listener)


class ConnectProxy(Relay):
    """A proxy that takes CONNECT, to one port whatever the host's name is."""

    def __init__(self, box: Box, to_port: int, refusal: str = "") -> None:
        self.asked: list[str] = []
        self.refusal = refusal  # a status line
        super().__init__(box, to_port)

    def begin(self, near: socket.socket) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = near.recv(1)
            if not byte:
                return False
            head += byte
        self.asked.append(head.decode().splitlines()[0])
        near.sendall(f"HTTP/1.1 {self.refusal or '200 Connection established'}\r\nContent-Length: 0\r\n\r\n".encode())
        return not self.refusal


# -- names

class NameServer:
    """A DNS server on a loopback address of its own. It is mute until it is given the address that every name has."""

    def __init__(self, box: Box) -> None:
        pid = os.getpid()
        self.ip = f"127.{53 + (pid >> 14) % 100}.{(pid >> 7) % 128}.{pid % 128 + 1}"
        self.address = ""
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(0.2)
        try:
            self._socket.bind((self.ip, 53))
        except PermissionError:
            raise Skip("port 53 of loopback needs root")
        self._ended = threading.Event()
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        box.defer(self._socket.close)
        box.defer(thread.join)
        box.defer(self._ended.set)

    def _serve(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                query, who = self._socket.recvfrom(512)
                self.asked += 1
                if self.address:
                    self._socket.sendto(self._answer(query), who)

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5
        is_a = query[end - 4:end - 2] == b"\0\1"
        head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(self.address)
        return head + query[12:end] + (record if is_a else b"")


class DaemonWithNames(Daemon):
    """A daemon that sees another /etc/resolv.conf, in a mount namespace of its own."""

    def __init__(self, box: Box, server: NameServer, **settings: object) -> None:
        if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
            raise Skip("no mount namespace can be made here")
        self.resolv = box.dir / "resolv.conf"
        self.resolv.write_text(f"nameserver {server.ip}\noptions timeout:30 attempts:5\n")
        super().__init__(box, **settings)

    def args(self) -> list[str | Path]:
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, self.resolv, *super().args()]


# -- certificates

def certificate(box: Box, name: str, host: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """A certificate that is its own authority, and its key."""
    cert, key = box.dir / f"{name}.pem", box.dir / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", f"/CN={name}", "-addext", f"subjectAltName={host}", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    return cert, key
