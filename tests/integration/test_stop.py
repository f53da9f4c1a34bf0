"""What a stop leaves behind: nothing half done, whatever was under way."""
from __future__ import annotations

from client import greeted
from daemon import Daemon, started
from tap import Box, main, test
from wandb import Fake, forwarding, key_file

RUNS = 40
STOPS = 12


def busy(box: Box, daemon: Daemon, number: int) -> None:
    """Stops the daemon in the middle of many plans, marks and requests."""
    daemon.start()
    with greeted(daemon.socket) as client:
        for i in range(RUNS):
            client.open_run(f"r{i}")
        for row in range(30):
            for i in range(RUNS):
                client.log(f"r{i}")
            client.flush()
        daemon.stop()


@test
def a_daemon_that_is_stopped_while_it_delivers_ends_well(box: Box) -> None:
    fake = Fake(box)
    daemon = Daemon(box, models__key_file=key_file(box), **forwarding(fake, models__requests_per_s=0))
    for number in range(STOPS):
        busy(box, daemon, number)
    daemon.store.check()


@test
def a_stop_writes_the_log_back_into_the_database(box: Box) -> None:
    daemon = started(box)
    with greeted(daemon.socket) as client:
        client.open_run("r")
        client.log_many(500)
        client.flush()
    daemon.stop()
    assert not (daemon.store.path / "wbx.db-wal").exists(), "wbx.db alone is not the whole store"
    daemon.store.check()


main()
