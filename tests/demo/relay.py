"""The link to W&B: a TCP relay between the daemon and the fake, which can be cut and mended."""
from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading

CHUNK = 1 << 16
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset


class Relay:
    """One thread relays. cut() lets one more request through and drops its answer: the client cannot know that it arrived."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._peers: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._doomed = False
        self._is_cut = threading.Event()
        self._orders: list[str] = []
        self.answers_lost = 0
        self._thread = threading.Thread(target=self._relay, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self, seconds: float = 3.0) -> None:
        """Cuts with the next answer, or after so many seconds. From then on connections are refused."""
        self._order("doom")
        if not self._is_cut.wait(seconds):
            self._order("cut")
            assert self._is_cut.wait(10), "the relay hangs"

    def mend(self) -> None:
        self._order("mend")

    def close(self) -> None:
        self._order("close")
        self._thread.join()

    # -- the thread's own

    def _order(self, word: str) -> None:
        self._orders.append(word)
        self._wake.send(b"!")

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self._selector.register(listener, selectors.EVENT_READ)
        return listener

    def _relay(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    self._woken.recv(CHUNK)
                elif key.fileobj is self._listener and not self._is_cut.is_set():
                    self._accept()
                elif key.fileobj in self._peers:
                    self._carry(key.fileobj)
            while self._orders:
                word = self._orders.pop(0)
                if word == "doom":
                    self._doomed = True
                elif word == "cut":
                    self._cut()
                elif word == "mend":
                    self._is_cut.clear()
                    self._listener = self._listen(self.port)
                else:
                    self._cut()
                    return

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # it is gone again
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._to))
        except OSError:
            client.close()
            return
        self._clients.add(client)
        for one, other in ((client, server), (server, client)):
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _carry(self, source: socket.socket) -> None:
        try:
            data = source.recv(CHUNK)
            if data and self._doomed and source not in self._clients:
                self.answers_lost += 1
                self._cut()
            elif data:
                self._peers[source].sendall(data)
            else:
                self._drop(source)
        except OSError:
            self._drop(source)

    def _drop(self, one: socket.socket) -> None:
        """Ends a connection on both sides."""
        for end in (one, self._peers.get(one)):
            if end is not None and self._peers.pop(end, None) is not None:
                self._clients.discard(end)
                self._selector.unregister(end)
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.close()

    def _cut(self) -> None:
        self._doomed = False
        if not self._is_cut.is_set():
            self._selector.unregister(self._listener)
            self._listener.close()
        for one in list(self._peers):
            self._drop(one)
        self._is_cut.set()
