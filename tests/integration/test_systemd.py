"""wbxd as its units start it: sockets that systemd holds, what it tells systemd, the key as a credential."""
from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from client import Client, greeted
from ctl import Ctl
from daemon import Daemon, Store
from noted import Trainer
from process import Process, build_option, clean_env
from tap import WAIT_SECONDS, Box, Skip, main, test, until
from trainer import c_program
from wandb import KEY, Fake, forwarding, key_file

# What systemd does between fork and exec: the sockets stand from 3 on, and LISTEN_PID is the daemon itself.
LAUNCHER = """\
import fcntl, os, sys
names, fds, args = sys.argv[1], [int(fd) for fd in sys.argv[2].split(",")], sys.argv[3:]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 50) for fd in fds]
for place, fd in enumerate(high, 3):
    os.dup2(fd, place)
    os.close(fd)
os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names)
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.execv(args[0], args)
"""


class Notify:
    """The datagram socket behind $NOTIFY_SOCKET."""

    def __init__(self, box: Box, abstract: bool = False) -> None:
        self.sock = box.enter(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
        self.address = f"@wbx-test-{os.urandom(8).hex()}" if abstract else str(box.dir / "notify")
        self.sock.bind(self.address.replace("@", "\0", 1) if abstract else self.address)
        self.sock.settimeout(WAIT_SECONDS)
        self.seen: list[str] = []

    def await_message(self, want: str) -> None:
        while True:
            self.seen += self.sock.recv(4096).decode().splitlines()
            if self.seen[-1] == want:
                return

    def rest(self) -> list[str]:
        """What came and was not waited for."""
        self.sock.setblocking(False)
        try:
            while True:
                self.seen += self.sock.recv(4096).decode().splitlines()
        except BlockingIOError:
            self.sock.settimeout(WAIT_SECONDS)
            return self.seen


class Service:
    """systemd's part: listens before the daemon runs, and goes on when it has ended."""

    def __init__(self, box: Box, **settings: Any) -> None:
        self.box = box
        self.daemon = Daemon(box, **settings)
        self.dir = box.dir / "run"
        self.dir.mkdir()
        self.socket = self.dir / "wbx.sock"
        self.control = self.dir / "ctl.sock"
        self.listeners = {"ctl": self._listen(self.control), "ingest": self._listen(self.socket)}
        self.notify = Notify(box)
        self.store = Store(self.daemon.dir / "store")

    def _listen(self, path: Path) -> socket.socket:
        listener = self.box.enter(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
        listener.bind(str(path))
        listener.listen(64)
        return listener

    def launch(self, **env: str) -> Process:
        fds = [listener.fileno() for listener in self.listeners.values()]
        args = [sys.executable, "-c", LAUNCHER, ":".join(self.listeners), ",".join(map(str, fds)), *self.daemon.args()]
        self.daemon.process = Process(self.box, args, pass_fds=fds, log=self.daemon.log_path,
                                      env=clean_env(HOME=str(self.box.dir), NOTIFY_SOCKET=self.notify.address, **env))
        return self.daemon.process

    def start(self, **env: str) -> "Service":
        self.launch(**env)
        self.notify.await_message("READY=1")
        return self

    def ctl(self) -> Ctl:
        return Ctl(self.daemon, "--socket", self.socket)

    def stop(self) -> None:
        self.daemon.stop()
        self.notify.await_message("STOPPING=1")


def write_a_run(path: Path, run: str, rows: int) -> Client:
    """Writes without reading: nobody may be there to answer."""
    client = Client(path)
    client.say_hello()
    client.open_run(run)
    client.log_many(rows, run)
    client.send("flush")
    return client


def is_taken(service: Service, client: Client, rows: int) -> None:
    """What the client wrote is acknowledged and stored."""
    with client:
        client.expect("welcome")
        client.await_ack()
    assert len(service.store.rows(client.producer, "log")) == rows


def credentials(box: Box, key: str) -> str:
    """A directory with the credential, as systemd makes it."""
    path = box.dir / "credentials/wandb-api-key"
    path.parent.mkdir()
    path.write_text(key + "\n")
    path.chmod(0o440)
    return str(path.parent)


@test
def what_waits_in_the_sockets_is_taken_at_the_start(box: Box) -> None:
    service = Service(box)
    client = write_a_run(service.socket, "r", 50)
    service.start()
    is_taken(service, client, 50)
    status = service.ctl().status()
    assert status["pid"] == service.daemon.process.pid, status
    assert not service.daemon.socket.exists() and not service.daemon.control.exists(), "it has no sockets of its own"
    service.stop()


@test
def the_sockets_outlive_the_daemon(box: Box) -> None:
    service = Service(box).start()
    service.stop()
    assert service.socket.is_socket() and service.control.is_socket()
    client = write_a_run(service.socket, "r", 5)
    service.start()
    is_taken(service, client, 5)
    service.daemon.kill9()
    other = write_a_run(service.socket, "r2", 5)
    service.start()
    is_taken(service, other, 5)
    service.stop()


@test
def sockets_meant_for_another_process_are_left_alone(box: Box) -> None:
    service = Service(box).start(LISTEN_PID=str(os.getpid()))
    assert service.daemon.socket.is_socket() and service.daemon.control.is_socket()
    greeted(service.daemon.socket).close()
    service.stop()
    assert not service.daemon.socket.exists()


@test
def systemd_hears_of_start_reload_and_stop_and_nothing_else(box: Box) -> None:
    service = Service(box).start()
    service.daemon.process.signal(signal.SIGHUP)
    service.notify.await_message("RELOADING=1")
    service.notify.await_message("READY=1")
    service.stop()
    assert service.notify.rest() == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"], service.notify.seen


@test
def an_abstract_notify_socket_is_one_too(box: Box) -> None:
    service = Service(box)
    service.notify = Notify(box, abstract=True)
    service.start()
    service.stop()


@test
def a_daemon_that_cannot_start_is_never_ready(box: Box) -> None:
    service = Service(box)
    service.daemon.dir.mkdir()
    (service.daemon.dir / "store").write_text("in the way")
    assert service.launch().wait() == 69
    assert service.notify.rest() == []


@test
def the_watchdog_hears_that_the_loop_turns(box: Box) -> None:
    service = Service(box).start(WATCHDOG_USEC="2000000")
    for _ in range(3):
        service.notify.await_message("WATCHDOG=1")
    service.daemon.process.signal(signal.SIGTERM)
    service.notify.await_message("STOPPING=1")
    assert service.daemon.process.wait() == 0


@test
def the_watchdog_of_another_process_is_not_fed(box: Box) -> None:
    service = Service(box).start(WATCHDOG_USEC="4000", WATCHDOG_PID="1")
    with Client(service.socket) as client:  # some turns of the loop
        client.hello()
        client.open_run()
        client.flush()
    service.stop()
    assert service.notify.rest() == ["READY=1", "STOPPING=1"]


def with_faults() -> None:
    if build_option("faults") != "True":
        raise Skip("a build without -Dfaults=true has no named points")


@test
def the_watchdog_hears_nothing_while_the_loop_stands_still(box: Box) -> None:
    with_faults()
    service = Service(box).start(WATCHDOG_USEC="2000000", WBX_FAULT="loop.tick:3:4000")
    service.daemon.await_log("loop.tick stands still")
    service.notify.rest()
    service.notify.await_message("WATCHDOG=1")
    assert "loop.tick goes on" in service.daemon.log(), "it was fed meanwhile"
    service.stop()


@test
def the_watchdog_is_fed_while_the_store_waits_for_its_disk(box: Box) -> None:
    with_faults()
    service = Service(box).start(WATCHDOG_USEC="2000000", WBX_FAULT="store.step:2:8000")
    service.daemon.await_log("store.step stands still")
    service.notify.rest()
    service.notify.await_message("WATCHDOG=1")
    assert "store.step goes on" not in service.daemon.log(), service.daemon.log()
    service.stop()


@test
def the_watchdog_hears_nothing_when_a_step_of_the_store_does_not_end(box: Box) -> None:
    with_faults()
    service = Service(box, store__stuck_after="1s").start(WATCHDOG_USEC="2000000", WBX_FAULT="store.step:2:6000")
    service.daemon.await_log("the watchdog hears nothing of us any more")
    service.notify.rest()
    service.notify.await_message("WATCHDOG=1")
    assert "store.step goes on" in service.daemon.log(), "it was fed meanwhile"
    service.stop()


@test
def sixty_four_writers_see_nothing_of_restarts(box: Box) -> None:
    service = Service(box, daemon__journal_dir=box.dir / "run/journal", daemon__spool_dir=box.dir / "run/spool").start()
    writers = []
    for i in range(64):
        notes = box.dir / f"{i}.notes"
        process = c_program(box, "trainer", f"r{i}", notes, 1, 0, 20000, 0, 0, 1 << 20, socket=service.socket, log=f"{i}.err")
        writers.append(Trainer(process, f"r{i}", notes, {0: 0}))
    for end in (service.stop, service.daemon.kill9, service.stop, service.daemon.kill9, service.stop):
        seen = [w.all_returned() for w in writers]
        end()
        for writer, count in zip(writers, seen):  # they go on while nobody is there
            writer.await_progress(count + 5)
        service.start()
        for writer in writers[::8]:
            writer.flush()
    for writer in writers:
        writer.flush()
        writer.end_well()
    service.stop()
    numbers: dict[str, dict[int, list[int]]] = {}
    for row in service.store.rows(kind="log"):
        data = row.body["data"]
        numbers.setdefault(row.body["run"], {}).setdefault(data["thread"], []).append(data["n"])
    assert sum(w.refused() for w in writers) == 0
    for i, writer in enumerate(writers):
        writer.check(numbers[writer.run])
        assert (box.dir / f"{i}.err").read_text() == "", "a word about it"
    service.store.check()


@test
def the_key_comes_as_a_credential(box: Box) -> None:
    fake = Fake(box, "--api-key", KEY)
    other = key_file(box, "f" * 40, "other")
    service = Service(box, models__key_file=other, **forwarding(fake)).start(CREDENTIALS_DIRECTORY=credentials(box, KEY))
    service.daemon.await_log("a key is there, from the credential wandb-api-key")
    with greeted(service.socket) as client:
        client.open_run("r")
        client.log("r")
        client.finish("r")
    fake.await_run("r", "finished")
    fake.check()


@test
def a_credential_of_white_space_is_no_key(box: Box) -> None:
    none = credentials(box, "")  # SetCredential= of the unit
    service = Service(box, models__key_file=box.dir / "none").start(CREDENTIALS_DIRECTORY=none)
    service.daemon.await_log('state="no key"')
    with greeted(service.socket) as client:
        client.open_run("r")
        client.flush()
    assert service.ctl().codes() == ["no_key"]
    service.stop()


@test
def directories_that_tmpfiles_made_need_no_chmod(box: Box) -> None:
    if os.getuid() != 0:
        raise Skip("only root makes files of another user")
    home = box.dir / "service"
    home.mkdir()
    box.dir.chmod(0o755)
    os.chown(home, 65534, 65534)
    for name in ("journal", "spool"):
        (box.dir / name).mkdir()
        (box.dir / name).chmod(0o3777)  # not the daemon's own: it may write, and not change the mode
    daemon = Daemon(box, home / "d", daemon__journal_dir=box.dir / "journal", daemon__spool_dir=box.dir / "spool")
    daemon.process = Process(box, ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *daemon.args()],
                             env=clean_env(HOME=str(home)), log=daemon.log_path)
    until(lambda: daemon.socket.is_socket() or not daemon.process.running, "the socket is there")
    greeted(daemon.socket).close()
    daemon.stop()


main()
