"""Other users of the machine: connections that are theirs, and wbxctl as one of them. Only root can make them."""
from __future__ import annotations

import os
import shutil
import socket
from typing import Any, Iterable

from client import Client
from ctl import WBXCTL, Ctl
from daemon import Daemon
from tap import Box, Skip

ALICE, BOB, CAROL = 60001, 60002, 60003  # no name is needed for them
NOT_ALLOWED = 77


def need_root() -> None:
    if os.geteuid() != 0:
        raise Skip("needs root, to act as other users")


def shared(box: Box, **settings: Any) -> Daemon:
    """A daemon that other users can reach, as the service is; it runs already."""
    need_root()
    box.dir.chmod(0o711)
    daemon = Daemon(box, **({"daemon__socket_mode": "0666"} | settings)).start()
    daemon.dir.chmod(0o711)
    return daemon


def connect_as(path: Any, uid: int, groups: Iterable[int] = ()) -> socket.socket:
    """A socket that this user connected: the peer's uid is told once, by connect()."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(list(groups))
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            with socket.socket(socket.AF_UNIX) as made:
                made.connect(str(path))
                socket.send_fds(theirs, [b"+"], [made.fileno()])
            os._exit(0)
        except OSError as error:
            theirs.send(str(error).encode())
            os._exit(1)
    with ours, theirs:
        word, fds, _, _ = socket.recv_fds(ours, 200, 1)
        os.waitpid(pid, 0)
    if not fds:
        raise PermissionError(word.decode())
    return socket.socket(fileno=fds[0])


def client_as(daemon: Daemon, uid: int, producer: bytes | None = None, **hello: Any) -> Client:
    """A client of this user that had its welcome."""
    client = Client(daemon.socket, producer, connect_as(daemon.socket, uid))
    client.hello(**hello)
    return client


class CtlAs(Ctl):
    """wbxctl, run by this user; a copy, because a checkout may be closed to others."""

    def __init__(self, daemon: Daemon, uid: int, groups: Iterable[int] = ()) -> None:
        super().__init__(daemon)
        self.program = self.box.dir / "wbxctl"
        if not self.program.exists():
            shutil.copy(WBXCTL, self.program)
            self.program.chmod(0o755)
        self.identity = {"user": uid, "group": uid, "extra_groups": list(groups)}
