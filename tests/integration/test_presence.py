"""Who is in a run, and how it ends: by finish, by an exit, by death; and that it goes on while somebody or something is left."""
from __future__ import annotations

import signal
from typing import Any

from client import Client, greeted, now_us
from ctl import Ctl
from daemon import Daemon
from delivery import requests_of, sending
from process import FORK_IS_SAFE, Process
from tap import Box, main, test, until
from trainer import trainer
from wandb import Fake, own

# -- the status of the process is the run's

TERM = -signal.SIGTERM
# What the program does behind init(), the status that its parent sees, and the exit code that its run gets.
ENDS: dict[str, tuple[str, int, int]] = {
    "normal": ("", 0, 0),
    "raised": ("raise ValueError('on purpose')", 1, 1),
    "exit3": ("sys.exit(3)", 3, 3),
    "raise-exit": ("raise SystemExit(4)", 4, 4),  # the idiom `raise SystemExit(main())`
    "exit-by-name": ("from sys import exit as leave; leave(5)", 5, 5),
    "exit-of-site": ("exit(6)", 6, 6),
    "exit-text": ("sys.exit('said, and failed')", 1, 1),
    "exit-minus-1": ("sys.exit(-1)", 255, 255),
    "exit-none": ("sys.exit(None)", 0, 0),
    "raise-in-thread": ("t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()", 0, 0),
    "with-a-thread-left": ("threading.Thread(target=threading.Event().wait, daemon=True).start(); sys.exit(3)", 3, 3),
    "finished-before": ("run.finish(7)", 0, 7),
    "failed-in-with": ("with run: raise ValueError('on purpose')", 1, 1),
    "term-handled": ("import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); say('ready'); signal.pause()", 143, 143),
    "term": ("say('ready'); hear()", TERM, 137),
    "ctrl-c": ("say('ready'); hear()", -signal.SIGINT, 130),
    "kill": ("say('ready'); hear()", -signal.SIGKILL, 137),
    "os-exit": ("run.flush(30); os._exit(3)", 3, 137),
    "abort": ("run.flush(30); os.abort()", -signal.SIGABRT, 137),
}
FORKING_ENDS: dict[str, tuple[str, int, int]] = {
    "child-fails": ("if (child := os.fork()) == 0: run.log({'child': 1}); sys.exit(9)\nos.waitpid(child, 0)", 0, 0),
    "child-killed": ("if (child := os.fork()) == 0: run.log({'child': 1}); run.flush(30); os.kill(os.getpid(), 9)\nos.waitpid(child, 0)", 0, 0),
    "worker-fails": ("import multiprocessing as mp\n"
                     "def work(): run.log({'child': 1}); run.flush(30); sys.exit(9)\n"
                     "w = mp.get_context('fork').Process(target=work); w.start(); w.join(); sys.exit(w.exitcode - 7)", 2, 2),
}
# A worker of multiprocessing opens a run of its own, named by its second argument, and ends so.
WORKERS: dict[str, tuple[str, int]] = {
    "worker-normal": ("pass", 0),
    "worker-raised": ("raise ValueError('on purpose')", 1),
    "worker-exit8": ("sys.exit(8)", 8),
    "worker-exit": ("sys.exit()", 0),
    "worker-os-exit": ("run.flush(30); os._exit(3)", 137),
}
WORKER = """
    import multiprocessing as mp
    def work(name):
        run = wbx.init(project="p", id=name)
        run.log({{"i": 1}})
        {code}
    if __name__ == "__main__":
        w = mp.get_context("{method}").Process(target=work, args=("{name}",))
        w.start()
        w.join()
"""


def begin(box: Box, daemon: Daemon, name: str, code: str) -> Process:
    lines = "\n".join("    " + line for line in code.split("\n"))
    return trainer(box, f"""
    run = wbx.init(project="p", id="{name}")
    run.log({{"i": 1}})
{lines}
    """, socket=daemon.socket, name=name)


def end_all(box: Box, daemon: Daemon, ends: dict[str, tuple[str, int, int]]) -> None:
    programs = {name: begin(box, daemon, name, code) for name, (code, _, _) in ends.items()}
    for name, number in (("term-handled", signal.SIGTERM), ("term", signal.SIGTERM), ("ctrl-c", signal.SIGINT), ("kill", signal.SIGKILL)):
        if name in programs:
            programs[name].expect_line("ready")
            programs[name].signal(number)
    assert {name: p.wait() for name, p in programs.items()} == {name: status for name, (_, status, _) in ends.items()}


def exit_codes(fake: Fake, names: Any) -> dict[str, int]:
    """Of runs that have ended, all of them."""
    for name in names:
        until(lambda: (r := fake.run(name)) and r["complete"], f"run {name} has ended")
    return {name: fake.run(name)["exitcode"] for name in names}  # type: ignore[index]


@test(seconds=120)
def a_run_ends_with_the_status_of_its_process(box: Box) -> None:
    fake, daemon = sending(box, daemon__gone_after="1s")
    ends = ENDS | (FORKING_ENDS if FORK_IS_SAFE else {})
    end_all(box, daemon, ends)
    assert exit_codes(fake, ends) == {name: code for name, (_, _, code) in ends.items()}
    fake.check()


@test
def the_end_of_the_process_tells_what_waits_as_finish_does(box: Box) -> None:
    fake, daemon = sending(box)
    t = trainer(box, """\
        run = wbx.init(project="p", id="r")
        run.log({"i": 1})
        print("a line that does not end", end="", flush=True)
        raise SystemExit(2)
    """, socket=daemon.socket)
    assert t.wait() == 2
    assert "wbx: run r: " in (box.dir / "trainer.err").read_text()
    fake.await_run("r", "failed")
    assert any("a line that does not end" in line for line in fake.console("r")), fake.console("r")
    fake.check()


@test(seconds=120)
def a_worker_of_multiprocessing_ends_its_own_run(box: Box) -> None:
    fake, daemon = sending(box, daemon__gone_after="1s")
    want = {}
    for method in ("spawn", "fork") if FORK_IS_SAFE else ("spawn",):
        for worker, (code, exit_code) in WORKERS.items():
            name = f"{method}-{worker}"
            want[name] = exit_code
            assert trainer(box, WORKER.format(code=code, method=method, name=name), socket=daemon.socket, name=name).wait() == 0
    assert exit_codes(fake, want) == want


# -- several processes in one run


class Rank:
    """One process of a run, which logs explicit steps."""

    def __init__(self, daemon: Daemon, rank: int, run: str = "r") -> None:
        self.client = greeted(daemon.socket, rank=rank)
        self.rank = rank
        self.run = run
        self.client.open_run(run)
        self.client.flush()

    def log(self, *steps: int) -> None:
        for step in steps:
            self.client.send("log", run=self.run, t=now_us(), step=step, data={f"rank{self.rank}": step, "step": step})
        self.client.flush()

    def finish(self, exit_code: int = 0) -> None:
        self.client.finish(self.run, exit_code)
        self.client.close()

    def die(self) -> None:
        self.client.close()

    def come_back(self, daemon: Daemon) -> None:
        """The same process, to a daemon that was started anew."""
        self.client.close()
        seq = self.client.seq
        self.client = Client(daemon.socket, self.client.producer)
        self.client.hello()
        self.client.seq = seq


def members(daemon: Daemon) -> list[int]:
    """How many are present, finished, gone, preempting."""
    counts = dict(daemon.store.query("SELECT state, count(*) FROM member GROUP BY state"))
    return [counts.get(state, 0) for state in range(4)]


@test
def a_run_ends_when_some_have_finished_and_the_others_are_dead(box: Box) -> None:
    fake, daemon = sending(box, daemon__gone_after="1s")
    ranks = [Rank(daemon, i) for i in range(4)]
    for rank in ranks:
        rank.log(*range(10))
    ranks[0].finish()
    ranks[1].die()
    until(lambda: members(daemon) == [2, 1, 1, 0], "the dead one is missed")
    ranks[2].finish(3)  # not the first that is not 0
    for step in range(10, 15):
        ranks[3].log(step)
    assert [r["_step"] for r in fake.await_rows("r", 14)] == list(range(14)), "it waits for nobody who is not there"
    assert fake.run("r")["state"] == "running"
    daemon.kill9()
    daemon.start()
    assert members(daemon) == [1, 2, 1, 0], "a start ends nothing"
    ranks[3].come_back(daemon)
    ranks[3].log(15)
    ranks[3].finish()
    assert exit_codes(fake, ["r"]) == {"r": 137}
    rows = fake.rows("r")
    assert [r["_step"] for r in rows] == list(range(16))
    for step, row in enumerate(rows):
        assert own(row) == {f"rank{i}": step for i in range(4) if i == 3 or step < 10} | {"step": step}
    fake.check()


@test
def who_dies_while_the_daemon_is_away_is_missed_after_its_start(box: Box) -> None:
    fake, daemon = sending(box, daemon__gone_after="1s")
    t = trainer(box, """\
        run = wbx.init(project="p", id="r")
        run.log({"i": 0})
        say(run.flush(30))
        hear()
        for i in range(1, 50):
            run.log({"i": i})
        say("logged")
        hear()
    """, socket=daemon.socket)
    t.expect_line("True")
    daemon.kill9()
    t.tell("log more")
    t.expect_line("logged")
    t.kill9()
    daemon.start()
    assert exit_codes(fake, ["r"]) == {"r": 137}
    assert [own(r) for r in fake.rows("r")] == [{"i": i} for i in range(50)]
    fake.check()


@test
def an_elastic_restart_goes_on_with_the_run_and_takes_the_place_of_the_dead(box: Box) -> None:
    """One rank fails, the others are killed, and all of them start again a few steps back; as torchrun does it."""
    fake, daemon = sending(box, daemon__gone_after="2s")
    first = [Rank(daemon, i) for i in range(3)]
    for rank in first:
        rank.log(*range(20))
    first[0].finish(1)
    for rank in first[1:]:
        rank.die()
    second = [Rank(daemon, i) for i in range(3)]
    for step in range(17, 40):
        for rank in second:
            rank.log(step)
    until(lambda: members(daemon) == [3, 1, 2, 0], "the dead ones are missed")
    for rank in second:
        rank.finish()
    assert exit_codes(fake, ["r"]) == {"r": 0}
    rows = fake.rows("r")
    assert [r["_step"] for r in rows] == list(range(40))
    assert all(own(row) == {f"rank{i}": step for i in range(3)} | {"step": step} for step, row in enumerate(rows))
    fake.check()


@test
def a_death_after_the_restart_counts_again(box: Box) -> None:
    fake, daemon = sending(box, daemon__gone_after="1s")
    Rank(daemon, 0).die()
    second = [Rank(daemon, i) for i in range(2)]
    second[0].log(0)
    second[0].die()
    second[1].log(0)
    second[1].finish()
    assert exit_codes(fake, ["r"]) == {"r": 137}


@test
def a_run_that_failed_and_is_opened_again_may_end_well(box: Box) -> None:
    fake, daemon = sending(box)
    first = Rank(daemon, 0)
    first.log(0)
    first.finish(1)
    fake.await_run("r", "failed")
    second = Rank(daemon, 0)
    second.log(1)
    fake.await_run("r", "running")
    second.finish()
    assert exit_codes(fake, ["r"]) == {"r": 0}
    assert [r["_step"] for r in fake.rows("r")] == [0, 1]
    fake.check()


# -- those who attached are quicker than the one who opens the run


@test
def who_attaches_before_the_run_is_opened_waits_for_that(box: Box) -> None:
    fake, daemon = sending(box)
    ctl = Ctl(daemon)
    with greeted(daemon.socket) as guest:
        guest.send("attach", run="r", t=now_us(), project="p")
        guest.send("log", run="r", t=now_us(), data={"guest": 1})
        guest.flush()
        until(lambda: requests_of(fake, "status", "r"), "W&B is asked for the run")
        for i in range(2, 1200):  # more than are looked at in one go
            guest.send("log", run="r", t=now_us(), data={"guest": i})
        guest.flush()
        assert not ctl.run_state("r").get("parked")
        with greeted(daemon.socket) as owner:
            owner.open_run("r", name="opened late")
            owner.log("r")
            owner.finish("r")
        assert len(fake.await_rows("r", 1200)) == 1200
        guest.finish("r")
    assert exit_codes(fake, ["r"]) == {"r": 0}
    assert fake.run("r")["displayName"] == "opened late"
    fake.check()


@test
def a_run_that_nobody_opened_waits_for_a_person_when_those_who_attached_have_gone(box: Box) -> None:
    fake, daemon = sending(box)
    ctl = Ctl(daemon)
    with greeted(daemon.socket) as guest:
        guest.send("attach", run="r", t=now_us(), project="p")
        guest.send("log", run="r", t=now_us(), data={"guest": 1})
        guest.flush()
        until(lambda: requests_of(fake, "status", "r"), "W&B is asked for the run")
        guest.finish("r")
    assert "nobody here has opened it" in ctl.await_parked("r")
    fake.check()


# -- preemption


@test
def a_run_that_will_be_preempted_says_so_at_once_and_sends_what_there_is(box: Box) -> None:
    fake, daemon = sending(box, models__interval="1h", daemon__gone_after="1s")
    t = trainer(box, """\
        import signal
        def leave(*_):
            run.mark_preempting()
            say("marked")
            hear()
            run.log({"i": 100})  # until it is stopped
            hear()
            sys.exit(143)
        signal.signal(signal.SIGTERM, leave)
        run = wbx.init(project="p", id="r")
        run.log({"i": 0})
        say(run.flush(30))
        hear()
        for i in range(1, 100):
            run.log({"i": i})
        say(run.flush(30))
        signal.pause()
    """, socket=daemon.socket)
    t.expect_line("True")
    fake.await_rows("r", 1)
    t.tell("log more")
    t.expect_line("True")
    assert len(fake.rows("r")) < 100, "rows go out once in an hour"
    t.signal(signal.SIGTERM)
    t.expect_line("marked")
    fake.await_run("r", "preempting")
    assert len(fake.await_rows("r", 100)) == 100
    t.tell("log one more")
    assert len(fake.await_rows("r", 101)) == 101
    t.tell("leave")
    assert t.wait() == 143
    assert exit_codes(fake, ["r"]) == {"r": 143}
    with greeted(daemon.socket) as c:  # it goes on elsewhere
        c.open_run("r", resume="allow")
        c.log("r")
        c.flush()
        fake.await_run("r", "running")
        c.finish("r")
    assert exit_codes(fake, ["r"]) == {"r": 0}
    fake.check()


@test
def a_preempted_process_that_is_killed_is_missed_though_the_daemon_starts_in_between(box: Box) -> None:
    fake, daemon = sending(box, daemon__gone_after="1s")
    rank = Rank(daemon, 0)
    rank.log(0)
    rank.client.send("preempting", run="r", t=now_us())
    rank.client.flush()
    assert members(daemon) == [0, 0, 0, 1]
    fake.await_run("r", "preempting")
    daemon.kill9()
    rank.die()
    daemon.start()
    assert exit_codes(fake, ["r"]) == {"r": 137}
    assert members(daemon) == [0, 0, 1, 0]
    fake.check()


@test
def a_guest_that_will_be_preempted_is_no_matter_of_the_run(box: Box) -> None:
    fake, daemon = sending(box, models__heartbeat="500ms")
    rank = Rank(daemon, 0)
    rank.log(0)
    with greeted(daemon.socket) as guest:
        guest.send("attach", run="r", t=now_us(), project="p")
        guest.send("preempting", run="r", t=now_us())
        guest.send("log", run="r", t=now_us(), data={"guest": 1})
        guest.flush()
        rank.log(1, 2)
        fake.await_rows("r", 2)
        assert fake.run("r")["state"] == "running"
        guest.finish("r")
    rank.finish()
    assert exit_codes(fake, ["r"]) == {"r": 0}
    fake.check()


# -- what is left when everybody has gone


@test
def a_run_beats_on_while_only_uploads_are_left(box: Box) -> None:
    fake, daemon = sending(box, models__heartbeat="500ms")
    fake.fault({"kind": "storage"}, {"status": 503}, count=-1)
    t = trainer(box, """\
        run = wbx.init(project="p", id="r")
        run.log({"t": wbx.Table(columns=["a"], data=[[1]])})
        run.finish()
    """, socket=daemon.socket)
    assert t.wait() == 0
    for start in range(2):
        fake.await_rows("r", 1)
        before = fake.run("r")["heartbeats"]
        until(lambda: fake.run("r")["heartbeats"] >= before + 3, "three more heartbeats")
        assert Ctl(daemon).run_state("r")["state"] == "finishing" and fake.run("r")["state"] == "running"
        if start == 0:
            daemon.kill9()
            daemon.start()
    fake.clear_faults()
    fake.await_run("r", "finished")
    fake.check()


main()
