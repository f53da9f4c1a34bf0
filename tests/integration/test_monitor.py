"""What monitors ask of a daemon: the metrics page, its file, /healthz and /readyz."""
from __future__ import annotations

import contextlib
import errno
import http.client
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

from client import Client, greeted, opened
from daemon import Daemon, started
from disk import Disk
from exposition import Exposition
from process import build_option
from tap import WAIT_SECONDS, Box, Skip, main, test, until
from wandb import KEY, Fake, forwarding, key_file

CLIENTS_MAX = 8  # daemon/ingest/monitor.h


class Page:
    """The daemon's page, on a port of the kernel's choice or on a path."""

    def __init__(self, daemon: Daemon) -> None:
        self.path = daemon.settings["daemon.metrics"]
        self.port = 0
        if not str(self.path).startswith("/"):
            daemon.await_log("metrics on")
            self.port = int(re.findall(r"port=(\d+) metrics on", daemon.log())[-1])
        self.host = "::1" if "::1" in str(self.path) else "127.0.0.1"

    def connect(self) -> socket.socket:
        if self.port:
            return socket.create_connection((self.host, self.port), WAIT_SECONDS)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(WAIT_SECONDS)
        connection.connect(str(self.path))
        return connection

    def ask(self, *pieces: bytes) -> tuple[int, dict[str, str], str]:
        """Sends the pieces, reads to the end: status, headers, body."""
        with self.connect() as connection:
            for piece in pieces:
                connection.sendall(piece)
            return self.answer(connection)

    @staticmethod
    def answer(connection: socket.socket) -> tuple[int, dict[str, str], str]:
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = response.read().decode()
        headers = dict(response.getheaders())
        assert int(headers["Content-Length"]) == len(body.encode()) and headers["Connection"] == "close", headers
        with contextlib.suppress(ConnectionResetError):  # what it did not read of a request that is too large
            assert connection.recv(1) == b"", "the connection ends with the answer"
        return response.status, headers, body

    def get(self, path: str) -> tuple[int, str]:
        status, headers, body = self.ask(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        assert headers["Content-Type"].startswith("text/plain"), headers
        return status, body

    def metrics(self) -> Exposition:
        status, body = self.get("/metrics")
        assert status == 200, body
        return Exposition(body)


def with_page(box: Box, where: str = "127.0.0.1:0", **settings: object) -> tuple[Daemon, Page]:
    daemon = started(box, daemon__metrics=where, **settings)
    return daemon, Page(daemon)


@test
def the_page_counts_what_was_logged(box: Box) -> None:
    daemon, page = with_page(box)
    assert page.metrics().value("wbx_records_stored_total") == 0
    with greeted(daemon.socket) as client:
        client.open_run("r")
        client.log_many(30, "r")
        client.flush()
        now = page.metrics()
        stored = len(daemon.store.rows())
        assert now.value("wbx_records_stored_total") == stored
        assert now.value("wbx_backlog_records", sink="models") == stored
        assert now.value("wbx_backlog_bytes", sink="models") > 0 and now.value("wbx_oldest_waiting_seconds", sink="models") > 0
        assert now.value("wbx_clients") == 1 and now.value("wbx_users") == 1
        assert now.value("wbx_sink_state", sink="models", state="no key") == 1
        assert now.value("wbx_ack_duration_seconds_count") > 0
        assert now.value("wbx_commits_total") > 0 and now.value("wbx_commit_failures_total") == 0
        assert now.value("wbx_store_up") == 1 and now.value("wbx_store_room", room="fine") == 1
        assert sum(now.samples["wbx_runs"].values()) == 1
    until(lambda: page.metrics().value("wbx_clients") == 0, "the client is gone")
    daemon.stop()


@test
def what_was_delivered_is_no_backlog(box: Box) -> None:
    fake = Fake(box, "--api-key", KEY)
    daemon, page = with_page(box, models__key_file=key_file(box), **forwarding(fake))
    with greeted(daemon.socket) as client:
        client.open_run("r")
        client.log_many(10, "r")
        client.finish("r")
        client.flush()
    fake.await_run("r", "finished")
    now = until(lambda: (m := page.metrics()).value("wbx_runs", state="done") == 1 and m, "the run is done")
    assert now.value("wbx_backlog_records", sink="models") == 0
    assert now.value("wbx_oldest_waiting_seconds", sink="models") == 0
    assert now.value("wbx_delivered_records_total", sink="models") >= 10
    assert now.value("wbx_requests_total") >= 2
    assert now.value("wbx_sink_state", sink="models", state="ok") == 1
    assert now.value("wbx_sink_last_success_timestamp_seconds", sink="models") >= now.value("wbx_start_time_seconds")
    daemon.stop()


@test
def promtool_finds_nothing_to_say(box: Box) -> None:
    if shutil.which("promtool") is None:
        raise Skip("needs promtool (Debian: prometheus)")
    daemon, page = with_page(box)
    with greeted(daemon.socket) as client:
        client.open_run("r")
        client.log("r")
        client.flush()
    said = subprocess.run(["promtool", "check", "metrics"], input=page.metrics().text, capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", ""), said
    daemon.stop()


@test
def labels_tell_nothing_of_users_runs_and_keys(box: Box) -> None:
    fake = Fake(box, "--api-key", KEY)
    daemon, page = with_page(box, models__key_file=key_file(box), **forwarding(fake))
    with greeted(daemon.socket) as client:
        client.open_run("confidential", project="merger")
        client.log("confidential")
        client.finish("confidential")
        client.flush()
    fake.await_run("confidential", "finished", "merger")
    now = page.metrics()
    assert now.label_names() == {"version", "class", "le", "room", "sink", "state"}, now.label_names()
    for secret in ("confidential", "merger", KEY, KEY[-4:], str(daemon.dir), fake.url):
        assert secret not in now.text, secret
    daemon.stop()


@test
def the_page_may_be_on_a_path_or_on_the_other_loopback(box: Box) -> None:
    path = box.dir / "metrics.sock"
    daemon, page = with_page(box, str(path))
    assert path.stat().st_mode & 0o777 == 0o666
    assert page.get("/healthz") == (200, "ok\n")
    daemon.stop()
    assert not path.exists()
    if not Path("/proc/net/if_inet6").exists():
        raise Skip("no IPv6 here")
    daemon, page = with_page(box, "[::1]:0")
    assert page.metrics().value("wbx_store_up") == 1
    daemon.stop()


@test
def it_is_off_until_somebody_sets_it(box: Box) -> None:
    daemon = started(box)
    fds = Path(f"/proc/{daemon.process.pid}/fd")
    sockets = {os.readlink(fd) for fd in fds.iterdir() if "socket:" in os.readlink(fd)}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:] if Path("/proc/net", table).exists() else []:
            assert f"socket:[{line.split()[9]}]" not in sockets, line
    daemon.stop()


@test
def only_this_machine_may_ask(box: Box) -> None:
    for where in ("0.0.0.0:9464", "9464", "[::]:9464", "localhost:9464", "127.0.0.1:65536", "127.0.0.1:", "127.0.0.1:1x", "metrics.sock"):
        daemon = Daemon(box, daemon__metrics=where)
        assert daemon.launch("--check-config").wait() == 78, where
    assert daemon.log().count("daemon.metrics: must be 127.0.0.1:PORT, [::1]:PORT or an absolute path") == 8, daemon.log()


@test
def a_port_that_is_taken_keeps_it_from_starting_and_is_named(box: Box) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon = Daemon(box, daemon__metrics=where)
        assert daemon.launch().wait() == 69
        assert f"daemon.metrics: {where}: address already in use" in daemon.log(), daemon.log()


@test
def what_is_no_get_of_a_page_is_told_so(box: Box) -> None:
    daemon, page = with_page(box)
    assert page.get("/")[0] == 404 and page.get("/metrics/x")[0] == 404
    assert page.get("/healthz?verbose=1")[0] == 200 and page.get("http://127.0.0.1/healthz")[0] == 200
    for method in (b"POST", b"HEAD", b"DELETE"):
        with page.connect() as connection:
            connection.sendall(method + b" /metrics HTTP/1.1\r\n\r\n")
            said = b"".join(iter(lambda: connection.recv(4096), b""))
        assert said.startswith(b"HTTP/1.1 405 ") and b"\r\nAllow: GET\r\n" in said, said
    for junk in (b"\x00\x01\x02\x03\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n"):
        assert page.ask(junk)[0] == 400, junk
    assert page.ask(b"GET /", b"a" * 300, b" HTTP/1.1\r\n\r\n")[0] == 431
    assert page.ask(b"GET / HTTP/1.1\r\nx: ", b"y" * 5000)[0] == 431
    assert page.ask(b"GET / HTTP/1.1\r\nx: ", b"y" * 3900, b"\r\n\r\n")[0] == 404, "4 KiB are enough for anybody"
    assert page.ask(*(bytes([b]) for b in b"GET /readyz HTTP/1.0\r\n\r\n"))[0] == 200
    daemon.stop()


@test
def who_keeps_connections_open_makes_the_next_one_wait_and_is_cut_off(box: Box) -> None:
    daemon, page = with_page(box)
    idle = [box.enter(page.connect()) for _ in range(CLIENTS_MAX)]
    for connection in idle:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
    with page.connect() as waits:
        waits.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        idle[0].sendall(b"\r\n")
        assert page.answer(idle[0])[0] == 200
        assert page.answer(waits)[0] == 200, "the place of the first is free"
    for connection in idle[1:]:
        assert connection.recv(1) == b"", "cut off without an answer"
    assert page.get("/healthz")[0] == 200
    daemon.stop()


@test
def a_disk_that_hangs_keeps_nobody_from_asking_whether_the_loop_turns(box: Box) -> None:
    if build_option("faults") != "True":
        raise Skip("a build without -Dfaults=true has no named points")
    daemon = Daemon(box, daemon__metrics="127.0.0.1:0").start(WBX_FAULT="worker.job:1:60000")
    page = Page(daemon)
    daemon.await_log("worker.job stands still")
    asking = [box.enter(page.connect()) for _ in range(CLIENTS_MAX)]
    for connection in asking:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert page.get("/healthz") == (200, "ok\n")
    assert all(connection.recv(1) == b"" for connection in asking), "cut off"
    assert page.get("/metrics") == (503, "the store does not answer\n")
    daemon.kill9()


@test
def a_daemon_with_clients_of_the_page_stops(box: Box) -> None:
    daemon, page = with_page(box)
    idle = [box.enter(page.connect()) for _ in range(CLIENTS_MAX + 2)]
    idle[0].sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    daemon.stop()


@test
def without_room_it_is_alive_and_not_ready(box: Box) -> None:
    daemon, page = with_page(box, store__reserve="1000000T")
    until(lambda: page.get("/readyz") == (503, "no room on the disk: nothing is read\n"), "it is not ready")
    assert page.get("/healthz") == (200, "ok\n")
    assert page.metrics().value("wbx_store_room", room="none") == 1
    daemon.stop()


@test
def a_store_that_cannot_sync_is_alive_and_not_ready_until_it_can(box: Box) -> None:
    disk = Disk(box)
    daemon = Daemon(box, daemon__metrics="127.0.0.1:0").start(**disk.env())
    page = Page(daemon)
    with opened(daemon.socket) as c:
        c.flush()
        assert page.get("/readyz") == (200, "ok\n")
        rule = disk.fail("sync", "wbx.db-wal", errno.EIO)
        c.log_many(3)
        disk.await_hits(rule)
        status, why = until(lambda: (got := page.get("/readyz"))[0] == 503 and got, "it is not ready")
        assert "Input/output error" in why and "\n" not in why[:-1], why
        assert page.get("/healthz") == (200, "ok\n")
    disk.lift()
    until(lambda: page.get("/readyz") == (200, "ok\n"), "the store is open again")
    daemon.stop()


@test
def the_file_holds_the_same_and_goes_with_the_daemon(box: Box) -> None:
    path = box.dir / "textfile" / "wbx.prom"
    path.parent.mkdir()
    daemon, page = with_page(box, daemon__metrics_file=path)
    until(path.exists, "the file is there")
    assert Exposition(path.read_text()).types == page.metrics().types
    assert path.stat().st_mode & 0o777 == 0o644 and os.listdir(path.parent) == ["wbx.prom"]
    daemon.stop()
    assert os.listdir(path.parent) == []


@test
def a_file_that_cannot_be_written_is_told_and_nothing_else(box: Box) -> None:
    path = box.dir / "nowhere" / "wbx.prom"
    daemon = started(box, daemon__metrics_file=path)
    daemon.await_log(f"file={path} the metrics cannot be written there")
    with Client(daemon.socket) as client:
        client.hello()
        client.open_run("r")
        client.flush()
    daemon.stop()


main()
