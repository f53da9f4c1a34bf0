"""The daemon, trainers or both killed at any moment: what was returned is kept, stored once and delivered once.

A campaign is a daemon with its directories, a few trainers that log all the while, and a number of kills. Afterwards
everything is let run to its end and counted. WBX_CRASH_ROUNDS says how many kills there are in all, WBX_CRASH_SEED
repeats the moments of a run (as far as the machine's own timing allows).
"""
from __future__ import annotations

import os
import random
import select
import signal
from typing import Any, Callable, Iterator

from daemon import WBXD, Daemon
from noted import Trainer, holes
from process import SANITIZER, build_option
from tap import FULL, WAIT_SECONDS, Box, Skip, main, test, until
from trainer import c_program, trainer
from wandb import Fake, forwarding, key_file

ROUNDS = int(os.environ.get("WBX_CRASH_ROUNDS") or (4000 if FULL else 200 if SANITIZER == "none" else 40))
SEED = int(os.environ.get("WBX_CRASH_SEED") or random.SystemRandom().randrange(1 << 32))
CAMPAIGN_ROUNDS = 20  # kills of one store; more of them make a store that is slow to count
SECONDS = 120 + 4 * ROUNDS

PROJECT = "crash"
THREADS = 2
PYTHON_THREAD = 9  # what the Python trainer calls its only thread
JOURNAL_BYTES = 1 << 20

PYTHON_TRAINER = """
import mmap, select, struct
run_id, path, pause_ms = sys.argv[1:]
with open(path, "w+b") as f:
    f.truncate(16)
    notes = mmap.mmap(f.fileno(), 16)
run = wbx.init(project="crash", id=run_id)
say("durable", int(run._client.stats()["durable"]))
commands = select.poll()
commands.register(0, select.POLLIN)
n = 1
while True:
    run.log({"n": n, "thread": 9, "loss": 1 / n})
    struct.pack_into("<Q", notes, 0, n)
    n += 1
    if not commands.poll(int(pause_ms)):
        continue
    command = hear()
    if command == "f":
        say("flushed", 0 if run.flush(30) else -1)
    else:
        run.finish()
        say("closed", 0)
        break
"""


def share(part: float) -> int:
    return max(1, round(ROUNDS * part))


def needs_faults() -> None:
    if build_option("faults") != "True":
        raise Skip("a build without -Dfaults=true has no named points")


def moment(rng: random.Random, low: float = 0.003, high: float = 0.25) -> float:
    """Seconds; short ones as likely as long ones."""
    return low * (high / low) ** rng.random()


class Campaign:
    def __init__(self, box: Box, name: str, rng: random.Random, **settings: Any) -> None:
        self.box = box
        self.name = name
        self.rng = rng
        self.daemon = Daemon(box, name=name, **settings)
        self.trainers: list[Trainer] = []

    def c_trainer(self, run: str, *, count: int = 0, pause_us: int = 1000, table_every: int = 0, table_bytes: int = 0,
                  threads: int = THREADS, journal_bytes: int = 0) -> Trainer:
        name = f"{self.name}-{len(self.trainers)}"
        notes = self.box.dir / f"{name}.notes"
        journal_bytes = journal_bytes or JOURNAL_BYTES
        process = c_program(self.box, "trainer", run, notes, threads, count, pause_us, table_every, table_bytes, journal_bytes,
                            socket=self.daemon.socket, log=f"{name}.err")
        self.trainers.append(Trainer(process, run, notes, {t: t for t in range(threads)}))
        return self.trainers[-1]

    def python_trainer(self, run: str, pause_ms: int = 1) -> Trainer:
        name = f"{self.name}-{len(self.trainers)}"
        notes = self.box.dir / f"{name}.notes"
        process = trainer(self.box, PYTHON_TRAINER, run, notes, pause_ms, socket=self.daemon.socket, name=name)
        self.trainers.append(Trainer(process, run, notes, {PYTHON_THREAD: 0}))
        return self.trainers[-1]

    # -- kills

    def live_for(self, seconds: float) -> None:
        """Until then, or until the daemon has died of itself."""
        assert self.daemon.process is not None
        poll = select.poll()
        poll.register(self.daemon.process.pidfd, select.POLLIN)
        died = poll.poll(seconds * 1000)
        assert not died, f"the daemon ended by itself with {self.daemon.process.wait()}"

    def kill_at_random(self, high: float) -> None:
        """One in eight dies while it still starts."""
        if self.rng.random() < 0.125:
            self.daemon.launch()
            self.live_for(self.rng.random() * 0.03)
        else:
            self.daemon.start()
            self.live_for(moment(self.rng, high=high))
        self.daemon.kill9()

    def kill_at(self, point: str, hits: int) -> None:
        process = self.daemon.launch(WBX_FAULT=f"{point}:{hits}")
        code = process.wait()
        assert code == -signal.SIGKILL, f"the daemon ended with {code}"

    def kill_at_unless(self, point: str, hits: int, done: Callable[[], bool]) -> bool:
        """The same, but there may be less to do than the point needs: then it is killed when that is done. False: it was."""
        process = self.daemon.launch(WBX_FAULT=f"{point}:{hits}")
        until(lambda: not process.running or done(), f"the daemon reaches {point}, or has done all")
        if process.running:
            self.daemon.kill9()
            return False
        assert process.wait() == -signal.SIGKILL
        return True

    # -- the end

    def let_all_end(self) -> None:
        """A daemon that lives, trainers that end well, and nothing left in journals and spools."""
        self.daemon.start()
        living = [t for t in self.trainers if not t.killed]
        for t in living:
            t.flush()
            t.end_well()
            assert t.refused() == 0, f"{t.refused()} calls of {t.run} were refused"
        self.daemon.await_no_kept_files()
        print(f"# {self.name}: {sum(t.all_returned() for t in self.trainers)} calls of {len(self.trainers)} trainers returned", flush=True)

    def check_store(self) -> None:
        numbers: dict[str, dict[int, list[int]]] = {}
        kinds: dict[tuple[int, str], int] = {}
        for row in self.daemon.store.rows():
            kinds[row.producer, row.kind] = kinds.get((row.producer, row.kind), 0) + 1
            if row.kind == "log":
                data = row.body["data"]
                numbers.setdefault(row.body["run"], {}).setdefault(data["thread"], []).append(data["n"])
        for t in self.trainers:
            t.check(numbers.get(t.run, {}))
        assert all(times == 1 for (_, kind), times in kinds.items() if kind in ("run", "finish")), kinds
        assert not self.daemon.store.tally(), self.daemon.store.tally()
        self.daemon.store.check()
        self.check_blobs()

    def check_blobs(self) -> None:
        """Every file has its row with one reference for each record that names it, and every row its file."""
        store = self.daemon.store
        in_files = {digest for digest, _, _, data in store.blobs() if data is None}
        assert in_files == set(store.blob_files()), "blob files and rows differ"
        assert store.query("SELECT b.id FROM blob b WHERE refs != (SELECT count(*) FROM blob_use u WHERE u.blob = b.id)") == []


def campaigns(box: Box, what: str, rounds: int, **settings: Any) -> Iterator[tuple[Campaign, int]]:
    """A campaign for each so many rounds, with a generator of its own."""
    print(f"# {what}: {rounds} kills, WBX_CRASH_SEED={SEED}", flush=True)
    for number, first in enumerate(range(0, rounds, CAMPAIGN_ROUNDS)):
        rng = random.Random(f"{SEED} {what} {number}")
        yield Campaign(box, f"{what}{number}", rng, **settings), min(CAMPAIGN_ROUNDS, rounds - first)


def crew(c: Campaign) -> None:
    """Two C trainers of two threads, one of them with tables, and one in Python that shares a run with the other."""
    c.c_trainer("plain")
    c.c_trainer("tables", table_every=100, table_bytes=300_000)
    c.python_trainer("plain")


# -- stored once


def stored(box: Box, what: str, rounds: int, kill: Callable[[Campaign], None]) -> None:
    for campaign, kills in campaigns(box, what, rounds):
        campaign.daemon.start()
        crew(campaign)
        campaign.daemon.kill9()
        for _ in range(kills):
            kill(campaign)
        campaign.let_all_end()
        campaign.check_store()
        campaign.daemon.stop()


@test(seconds=SECONDS)
def all_that_returned_is_stored_once_though_the_daemon_is_killed_at_random_moments(box: Box) -> None:
    stored(box, "random", share(0.25), lambda c: c.kill_at_random(0.5))


@test(seconds=SECONDS)
def all_that_returned_is_stored_once_though_the_daemon_is_killed_around_its_commits(box: Box) -> None:
    needs_faults()
    stored(box, "commit", share(0.15), lambda c: c.kill_at(c.rng.choice(["commit.written", "commit.done"]), c.rng.randint(1, 20)))


@test(seconds=SECONDS)
def all_that_returned_is_stored_once_though_the_daemon_is_killed_around_its_blobs(box: Box) -> None:
    needs_faults()
    stored(box, "blob", share(0.1), lambda c: c.kill_at(c.rng.choice(["blob.part", "blob.published"]), c.rng.randint(1, 2)))


@test(seconds=SECONDS)
def tables_in_a_spool_are_stored_once_though_the_daemon_is_killed_while_it_takes_them(box: Box) -> None:
    rng = random.Random(f"{SEED} spool")
    for turn in range(share(0.02)):
        c = Campaign(box, f"spool{turn}", rng)
        c.daemon.start().stop()
        live = c.c_trainer("live", count=100, pause_us=0, table_every=3, table_bytes=300_000, threads=1, journal_bytes=JOURNAL_BYTES)
        live.await_progress(100)
        assert len(c.daemon.kept_files()) >= 2, c.daemon.kept_files()
        for _ in range(4):  # what it freed of its spool by then ends anywhere
            if not c.kill_at_unless("commit.done", rng.randint(2, 6), lambda: len(c.daemon.store.rows(kind="log")) == 100):
                break
        if turn % 2:
            live.kill9()
            c.let_all_end()
            c.check_store()
            c.daemon.stop()
            continue
        c.daemon.start()
        live.flush()
        live.end_well()
        c.daemon.await_no_kept_files()
        c.check_store()
        c.daemon.stop()


# -- trainers killed


def kill_trainer(c: Campaign, turn: int) -> None:
    """A short-lived trainer that is killed, while the daemon reads, stands still with a full socket, or dies too."""
    how = ("reading", "full", "both")[turn % 3]
    tables = {"table_every": 20, "table_bytes": 300_000} if c.rng.random() < 0.3 else {}
    t = c.python_trainer(f"k{turn}", 1) if c.rng.random() < 0.25 else c.c_trainer(f"k{turn}", pause_us=c.rng.choice([100, 1000]), **tables)
    assert c.daemon.process is not None
    if how == "full":
        t.await_progress(c.rng.randint(1, 50))
        c.daemon.process.stop_running()
        flood = c.c_trainer(f"f{turn}", pause_us=0, count=5000)
        flood.await_progress(10_000)
        flood.kill9()
    t.await_progress(c.rng.randint(1, 200))
    t.kill9()
    if how == "both":
        c.daemon.kill9()
        c.daemon.start()
    elif how == "full":
        c.daemon.process.go_on()


@test(seconds=SECONDS)
def all_that_returned_is_stored_once_though_trainers_are_killed_and_the_daemon_with_them(box: Box) -> None:
    for c, kills in campaigns(box, "trainer", share(0.15)):
        c.daemon.start()
        crew(c)
        for turn in range(kills):
            kill_trainer(c, turn)
        c.daemon.kill9()
        c.let_all_end()
        c.check_store()
        c.daemon.stop()


# -- delivered once


def delivered(box: Box, what: str, rounds: int, kill: Callable[[Campaign], None]) -> None:
    fake = Fake(box)
    for number, (c, kills) in enumerate(campaigns(box, what, rounds, models__key_file=key_file(box), **forwarding(fake))):
        if number % 2:  # what is delivered is dropped at once, while more comes
            c.daemon.settings["store.keep"] = 0
        c.daemon.start()
        c.c_trainer(f"{c.name}-a", pause_us=3000)
        c.c_trainer(f"{c.name}-b", pause_us=3000)
        c.python_trainer(f"{c.name}-a", 3)
        c.daemon.kill9()
        for _ in range(kills):
            kill(c)
        c.let_all_end()
        check_delivered(c, fake)
        if not number % 2:
            c.check_store()
        c.daemon.stop()
    fake.check()


def check_delivered(c: Campaign, fake: Fake) -> None:
    """W&B has every row that was logged, once, with steps from 0 on and each thread's rows in their order."""
    numbers: dict[str, dict[int, list[int]]] = {}
    for run in sorted({t.run for t in c.trainers}):
        fake.await_run(run, "finished", PROJECT, 2 * WAIT_SECONDS)
        rows = fake.rows(run, PROJECT)
        steps = [row["_step"] for row in rows]
        assert steps == list(range(len(rows))), f"run {run}: steps {holes([s + 1 for s in steps])}"
        for row in rows:
            numbers.setdefault(run, {}).setdefault(row["thread"], []).append(row["n"])
            assert row["loss"] == 1 / row["n"]
    for t in c.trainers:
        t.check(numbers.get(t.run, {}))


@test(seconds=SECONDS)
def all_that_returned_is_delivered_once_though_the_daemon_is_killed_at_random_moments(box: Box) -> None:
    delivered(box, "sent", share(0.2), lambda c: c.kill_at_random(1.0))


@test(seconds=SECONDS)
def all_that_returned_is_delivered_once_though_the_daemon_is_killed_around_its_requests(box: Box) -> None:
    needs_faults()
    points = [p for p in ("plan.committed", "sender.answered") if p.encode() in WBXD.read_bytes()]
    if not points:
        raise Skip("this build has no named points in the sender")
    delivered(box, "request", share(0.15), lambda c: c.kill_at(c.rng.choice(points), c.rng.randint(1, 12)))


if __name__ == "__main__":
    main()
