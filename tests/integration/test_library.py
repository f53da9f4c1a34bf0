"""libwbx and the package wbx against a daemon that comes late, dies, stands still, or is not there at all."""
from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from client import Frame, record
from daemon import WBXD, Daemon, away, started
from msgpack_lite import cut_frame, unpack
from process import BUILD, FORK_IS_SAFE, SANITIZER, Process
from tap import Box, Skip, main, test, until
from trainer import PREAMBLE, c_program, python_env, trainer

# The trainer logs n = 1, 2, 3 ... and says how far it came.
LOG_SOME = """
    run = wbx.init(project="p", id="r")
    n = 0
    def log(count):
        global n
        for _ in range(count):
            n += 1
            run.log({"n": n})
"""
LOG_20_MB = """
    run = wbx.init(project="p", id="r")
    for n in range(1, 2001):
        run.log({"n": n, "text": "x" * 10_000})
"""
ENDING = """
    say(run.flush(30))
    run.finish()
    say("bye")
"""


def await_numbers(daemon: Daemon, count: int) -> None:
    """1 .. count are stored, once and in order."""
    until(lambda: len(daemon.store.numbers()) >= count, f"{count} rows are stored")
    assert daemon.store.numbers() == list(range(1, count + 1))


def needs_fork() -> None:
    if not FORK_IS_SAFE:
        raise Skip("forks of a process with threads may hang in gcc's AddressSanitizer")


def end_well(process: Process) -> None:
    process.expect_line("bye")
    assert process.wait() == 0


def flush_and_end_well(process: Process) -> None:
    """As a trainer with ENDING does."""
    process.expect_line("True")
    end_well(process)


# -- what goes out, and when


class Acker:
    """Stands where the daemon would, and acknowledges when it is told to."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.listener.bind(str(path))
        self.listener.listen()
        self.bytes = b""

    def accept(self) -> None:
        self.connection, _ = self.listener.accept()
        assert self.recv().kind == "hello"
        self.send("welcome", 0, v=1, limits={})

    def send(self, kind: str, seq: int, **body: Any) -> None:
        self.connection.sendall(record(kind, seq, **body))

    def recv(self) -> Frame:
        while (cut := cut_frame(self.bytes)) is None:
            self.bytes += self.connection.recv(1 << 16)
        payload, size = cut
        self.bytes = self.bytes[size:]
        return Frame(*unpack(payload))

    def has_nothing(self) -> bool:
        try:
            self.bytes += self.connection.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        return self.bytes == b""


@test
def rows_wait_for_the_ack_that_is_due_and_go_together(box: Box) -> None:
    acker = Acker(away(box).socket)
    t = trainer(box, LOG_SOME + """
    for words in map(str.split, iter(hear, "end")):
        if words[0] == "log":
            log(int(words[1]))
        elif words[0] == "flush":
            run.flush(0)
        else:
            while run._client.stats()["acknowledged_seq"] < int(words[1]):
                os.sched_yield()
        say("done")
    """, socket=acker.listener.getsockname())

    def tell(what: str) -> None:
        t.tell(what)
        t.expect_line("done")

    def acknowledge(seq: int) -> None:
        acker.send("ack", seq)
        tell(f"acked {seq}")

    acker.accept()
    assert acker.recv().kind == "run"
    acknowledge(1)
    tell("log 1")
    assert acker.recv().seq == 2, "a row goes at once when no ack is due"
    tell("log 10")
    assert acker.has_nothing(), "rows went one by one"
    acker.send("ack", 2)
    assert [acker.recv().seq for _ in range(10)] == list(range(3, 13))
    acknowledge(12)
    tell("log 1")
    assert acker.recv().seq == 13
    tell("log 1")
    assert acker.has_nothing()
    tell("flush")
    assert [acker.recv().kind for _ in range(2)] == ["log", "flush"], "who waits is not kept waiting"
    tell("log 1000")
    assert acker.recv().seq == 16, "much does not wait"
    t.kill9()


# -- a daemon that comes and goes


def log_before_the_start(box: Box, daemon: Daemon) -> None:
    """A trainer logs 100 rows, and then the daemon comes and stores them."""
    program = trainer(box, LOG_SOME + """
    log(100)
    say("logged")
    hear()
    """ + ENDING, socket=daemon.socket)
    program.expect_line("logged")
    daemon.start()
    program.tell("go on")
    flush_and_end_well(program)
    await_numbers(daemon, 100)


@test
def what_is_logged_before_the_daemon_starts_is_stored_when_it_does(box: Box) -> None:
    daemon = away(box)
    log_before_the_start(box, daemon)
    assert [r.kind for r in daemon.store.rows()][0] == "run" and daemon.store.rows()[-1].kind == "finish"
    daemon.await_no_kept_files()


@test
def a_trainer_without_any_directory_keeps_its_records_in_memory_until_the_daemon_comes(box: Box) -> None:
    daemon = Daemon(box)
    log_before_the_start(box, daemon)
    assert "no journal in" in (box.dir / "trainer.err").read_text()


@test
def a_daemon_killed_and_restarted_in_the_middle_loses_and_doubles_nothing(box: Box) -> None:
    daemon = started(box)
    program = trainer(box, LOG_SOME + """
    while hear() == "more":
        log(300)
        say("logged")
    """ + ENDING, socket=daemon.socket)
    for turn in range(6):
        program.tell("more")
        if turn % 2:
            daemon.kill9()
        program.expect_line("logged")
        if turn % 2:
            daemon.start()
    program.tell("enough")
    flush_and_end_well(program)
    await_numbers(daemon, 1800)
    daemon.store.check()


@test
def a_table_logged_while_the_daemon_is_away_is_stored_when_it_returns(box: Box) -> None:
    daemon = started(box)
    program = trainer(box, LOG_SOME + """
    log(10)
    say(run.flush(30))
    hear()
    for i in range(5):
        rows = [[j, "x" * 1000, i] for j in range(1500)]
        n += 1
        run.log({"n": n, "rollouts": wbx.Table(columns=["j", "text", "i"], data=rows)})
        log(10)
    say("logged")
    hear()
    """ + ENDING, socket=daemon.socket)
    program.expect_line("True")
    daemon.kill9()
    program.tell("go on")
    program.expect_line("logged")
    daemon.start()
    program.tell("go on")
    flush_and_end_well(program)
    await_numbers(daemon, 65)
    assert len(daemon.store.blobs()) == 5 == len(daemon.store.blob_files())
    assert not daemon.store.tally()
    daemon.store.check()


@test
def log_returns_while_the_daemon_stands_still_and_its_socket_is_full(box: Box) -> None:
    daemon = started(box)
    program = trainer(box, LOG_SOME + """
    log(1)
    say(run.flush(30))
    hear()
    log(8000)
    say("logged", n, run._client.stats()["waiting_bytes"] > 400_000)
    hear()
    """ + ENDING, socket=daemon.socket)
    program.expect_line("True")
    daemon.process.stop_running()
    program.tell("go on")
    program.expect_line("logged 8001 True")
    assert daemon.process.states()[0] == "T"
    daemon.process.go_on()
    program.tell("go on")
    flush_and_end_well(program)
    await_numbers(daemon, 8001)


@test
def flush_and_finish_come_back_while_the_daemon_stands_still(box: Box) -> None:
    daemon = started(box)
    program = trainer(box, LOG_SOME + """
    log(1)
    say(run.flush(30))
    hear()
    log(10)
    say(run.flush(0.2))
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    program.expect_line("True")
    daemon.process.stop_running()
    program.tell("go on")
    program.expect_line("False")
    end_well(program)
    daemon.process.go_on()
    await_numbers(daemon, 11)
    daemon.await_no_kept_files()


@test
def an_ack_that_is_taken_before_send_returns_leaves_nothing_unsent(box: Box) -> None:
    daemon = started(box)
    if SANITIZER != "none":
        raise Skip("a sanitizer must be loaded first")
    program = c_program(box, "trainer", "r", box.dir / "notes", 1, 40, 0, 0, 0, 0, socket=daemon.socket,
                        LD_PRELOAD=str(BUILD / "tests/integration/slow_send.so"))
    program.expect_line("durable 1")
    program.tell("f")
    program.expect_line("flushed 0")
    program.tell("q")
    program.expect_line("closed 0")
    assert program.wait() == 0
    await_numbers(daemon, 40)


# -- tables


TABLE = """
    table = lambda *rows: wbx.Table(columns=["x"], data=[list(row) for row in rows])
"""


@test
def a_row_with_too_many_tables_costs_itself_and_nothing_else(box: Box) -> None:
    daemon = started(box)
    program = trainer(box, TABLE + """
    run = wbx.init(project="p", id="r")
    for i in range(3):
        run.log({f"t{n}": table([i * 1000 + n]) for n in range(129)})
        run.log({"n": i + 1, "t": table([i])})
    run.log({"n": 4} | {f"t{n}": table([n]) for n in range(128)})
    run.log({"n": 5, "t": table(["last"])})
    stats = run._client.stats()
    say(run.flush(30), stats["given_up"], run._client.stats()["rejected"], run._client.stats()["waiting_bytes"])
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    program.expect_line("True 0 0 0")
    end_well(program)
    await_numbers(daemon, 5)
    assert "more than 128 tables" in (box.dir / "trainer.err").read_text()
    assert "too_many_blobs" not in daemon.log()
    daemon.await_no_kept_files()


@test
def threads_that_log_rows_of_many_tables_at_once_lose_none(box: Box) -> None:
    daemon = started(box)
    program = trainer(box, TABLE + """
    run = wbx.init(project="p", id="r")
    def work(thread):
        for n in range(5):
            run.log({"thread": thread} | {f"t{i}": table([f"{thread} {n} {i}"]) for i in range(40)})
    threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    say(run.flush(30), run._client.stats()["rejected"], run._client.stats()["reconnects"])
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    program.expect_line("True 0 1")
    end_well(program)
    assert len(daemon.store.rows(kind="log")) == 20
    assert len(daemon.store.blobs()) == 4 * 5 * 40


@test
def tables_of_calls_and_of_the_summary_are_stored_and_those_of_the_config_stand_in_it(box: Box) -> None:
    daemon = started(box)
    program = trainer(box, TABLE + """
    run = wbx.init(project="p", id="r")
    for i in range(70):
        call = run.call_start("judge", inputs={"rows": table([f"in {i}"])}, attributes={"more": table([f"more {i}"])})
        run.call_end(call, output=table([f"out {i}"]))
    run.config.update({"choices": table(["a"], ["b"])})
    run.summary.update({"best": table(["best"])})
    run.log({"n": 1, "t": table(["row"])})
    say(run.flush(30), run._client.stats()["rejected"], run._client.stats()["waiting_bytes"])
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    program.expect_line("True 0 0")
    end_well(program)
    calls = [r.body for r in daemon.store.rows(kind="call")]
    assert [len(c["blobs"]) for c in calls] == [2, 1] * 70
    assert calls[0]["inputs"]["rows"]["_type"] == "table" and calls[1]["output"]["_type"] == "table"
    assert len(daemon.store.blobs()) == 3 * 70 + 2
    config = next(c for c in (r.body["data"] for r in daemon.store.rows(kind="config")) if "choices" in c)
    assert config["choices"] == {"_type": "table", "columns": ["x"], "data": [["a"], ["b"]]}
    daemon.await_no_kept_files()


# -- threads, forks, processes


@test
def eight_threads_log_each_row_once_and_in_their_order(box: Box) -> None:
    daemon = started(box)
    program = trainer(box, """
    run = wbx.init(project="p", id="r")
    def work(thread):
        for n in range(400):
            run.log({"n": n, "thread": thread})
    threads = [threading.Thread(target=work, args=(t,)) for t in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    """ + ENDING, socket=daemon.socket)
    flush_and_end_well(program)
    rows = [r.body["data"] for r in daemon.store.rows(kind="log")]
    for thread in range(8):
        assert [r["n"] for r in rows if r["thread"] == thread] == list(range(400))
    assert len(daemon.store.producers()) == 1


@test
def eight_processes_on_one_run_are_eight_producers_of_one_run(box: Box) -> None:
    daemon = started(box)
    programs = [trainer(box, """
    run = wbx.init(project="p", id="shared")
    for n in range(200):
        run.log({"n": n, "rank": int(os.environ["RANK"])})
    run.finish()
    say("bye")
    """, socket=daemon.socket, name=f"trainer{rank}", RANK=str(rank), WORLD_SIZE="8") for rank in range(8)]
    for program in programs:
        end_well(program)
    rows = until(lambda: len(found := [r.body["data"] for r in daemon.store.rows(kind="log")]) >= 1600 and found, "all rows are in the store")
    for rank in range(8):
        seen = [r["n"] for r in rows if r["rank"] == rank]
        assert seen == list(range(200)), f"rank {rank}: {seen}"
    assert daemon.store.query("SELECT count(*) FROM run") == [(1,)]
    until(lambda: daemon.store.query("SELECT count(*), min(state), max(state) FROM member") == [(8, 1, 1)], "all have ended")
    daemon.await_no_kept_files()


@test
def a_forked_child_and_its_parent_both_go_on_logging(box: Box) -> None:
    needs_fork()
    daemon = started(box)
    program = trainer(box, LOG_SOME + """
    log(50)
    child = os.fork()
    if child == 0:
        for m in range(1001, 1051):
            run.log({"n": m})
        code = 0 if run.flush(30) else 1
        os._exit(code)
    log(50)
    say(os.waitpid(child, 0)[1], run.flush(30))
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    program.expect_line("0 True")
    end_well(program)
    logged = sorted(daemon.store.numbers(p) for p in daemon.store.producers())  # either may have said hello first
    assert logged == [list(range(1, 101)), list(range(1001, 1051))], logged
    assert daemon.store.query("SELECT count(*) FROM run") == [(1,)]


@test
def a_child_forked_while_another_thread_is_inside_log_can_log(box: Box) -> None:
    needs_fork()
    daemon = started(box)
    program = trainer(box, """
    import signal
    run = wbx.init(project="p", id="r")
    inside, go_on = threading.Event(), threading.Event()
    class Slow:
        def isoformat(self):
            inside.set()
            go_on.wait(30)
            return "slow"
    thread = threading.Thread(target=lambda: run.log({"n": 1, "slow": Slow()}))
    thread.start()
    inside.wait(30)
    if (child := os.fork()) == 0:
        signal.alarm(10)
        run.log({"n": 2})
        os._exit(0 if run.flush(8) else 1)
    status = os.waitpid(child, 0)[1]
    go_on.set()
    thread.join()
    run.finish()
    say(status)
    """, socket=daemon.socket)
    program.expect_line("0")
    assert sorted(daemon.store.numbers()) == [1, 2]


@test
def children_forked_while_eight_threads_log_are_whole_producers(box: Box) -> None:
    needs_fork()
    daemon = started(box)
    program = trainer(box, """
    import signal
    run = wbx.init(project="p", id="r")
    stop = threading.Event()
    def work(thread):
        n = 0
        while not stop.is_set():
            run.log({"n": n, "thread": thread}); n += 1
    threads = [threading.Thread(target=work, args=(t,)) for t in range(8)]
    for t in threads: t.start()
    codes = []
    for turn in range(10):
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            for n in range(20):
                run.log({"n": n, "thread": 100 + turn})
            os._exit(0 if run.flush(30) else 1)
        codes.append(os.waitpid(child, 0)[1])
        if codes[-1]:
            break
    stop.set()
    for t in threads: t.join()
    say(codes == [0] * 10, run.flush(30))
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    program.expect_line("True True")
    end_well(program)
    rows = [r.body["data"] for r in daemon.store.rows(kind="log")]
    for thread in [*range(8), *range(100, 110)]:
        seen = [r["n"] for r in rows if r["thread"] == thread]
        assert seen == list(range(len(seen)))
        assert thread < 100 or len(seen) == 20
    assert len(daemon.store.producers()) == 11


@test
def a_child_of_a_child_is_a_producer_too(box: Box) -> None:
    needs_fork()
    daemon = started(box)
    program = trainer(box, LOG_SOME + """
    log(1)
    if (child := os.fork()) == 0:
        log(1)
        if (grandchild := os.fork()) == 0:
            log(1)
            os._exit(0 if run.flush(30) else 1)
        ok = os.waitpid(grandchild, 0)[1] == 0
        os._exit(0 if run.flush(30) and ok else 1)
    say(os.waitpid(child, 0)[1], run.flush(30))
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    program.expect_line("0 True")
    end_well(program)
    assert sorted(daemon.store.numbers()) == [1, 2, 3]
    assert len(daemon.store.producers()) == 3


@test
def a_journal_is_taken_though_a_forked_child_of_its_owner_lives_on(box: Box) -> None:
    needs_fork()
    daemon = started(box)
    program = trainer(box, LOG_SOME + """
    log(1)
    say(run.flush(30))
    hear()
    log(20)
    if os.fork() == 0:
        os.read(0, 1)  # until the test is over
        os._exit(0)
    say("forked")
    hear()
    """, socket=daemon.socket)
    program.expect_line("True")
    daemon.process.stop_running()
    program.tell("go on")
    program.expect_line("forked")
    program.kill9()
    daemon.process.go_on()
    await_numbers(daemon, 21)
    daemon.await_no_kept_files()


# -- death, and what is left in journals and spools


@test
def nothing_is_left_of_a_trainer_whose_records_are_all_acknowledged(box: Box) -> None:
    daemon = started(box)
    program = trainer(box, LOG_SOME + """
    log(10)
    say(run.flush(30))
    hear()
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    program.expect_line("True")
    assert [name.endswith(".journal") for name in daemon.kept_files()] == [True]
    program.tell("go on")
    end_well(program)
    daemon.await_no_kept_files()


@test
def a_trainer_that_ends_with_all_acknowledged_leaves_no_journal_though_the_daemon_stands_still(box: Box) -> None:
    daemon = started(box)
    program = trainer(box, LOG_SOME + """
    log(10)
    run.finish()
    say(run._client.stats()["waiting_bytes"])
    hear()
    """, socket=daemon.socket)
    program.expect_line("0")
    daemon.process.stop_running()
    program.tell("go on")
    assert program.wait() == 0
    assert daemon.kept_files() == []


@test
def finish_without_a_daemon_leaves_the_journal_to_its_next_start(box: Box) -> None:
    daemon = away(box)
    program = trainer(box, LOG_SOME + """
    log(100)
    run.finish(exit_code=3)
    say("bye")
    """, socket=daemon.socket)
    end_well(program)
    assert len(daemon.kept_files()) == 1
    daemon.start()
    daemon.await_no_kept_files()
    await_numbers(daemon, 100)
    finish = daemon.store.rows()[-1]
    assert (finish.kind, finish.body["exit_code"]) == ("finish", 3)


@test
def every_call_that_returned_before_kill_9_is_stored_once(box: Box) -> None:
    daemon = started(box)
    for turn in range(4):
        program = trainer(box, """
        run = wbx.init(project="p", id="r%s" % sys.argv[1])
        n = 0
        while True:
            n += 1
            run.log({"n": n})
            say(n)
        """, turn, socket=daemon.socket)
        returned = [int(program.read_line()) for _ in range(200)][-1]
        if turn % 2:
            daemon.process.stop_running()
            returned = [int(program.read_line()) for _ in range(200)][-1]
        program.kill9()
        while line := program.read_line():
            returned = int(line)
        if turn % 2:
            daemon.process.go_on()
        daemon.await_no_kept_files()
        rows = [r.body["data"]["n"] for r in daemon.store.rows(kind="log") if r.body["run"] == f"r{turn}"]
        assert rows in (list(range(1, returned + 1)), list(range(1, returned + 2))), (returned, rows[-5:])


@test
def twenty_megabytes_logged_without_a_daemon_are_stored_in_order_when_it_comes(box: Box) -> None:
    daemon = away(box)
    program = trainer(box, LOG_20_MB + """
    say("logged", run._client.stats()["given_up"])
    hear()
    say(run.flush(60))
    run.log({"n": 2001})
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    program.expect_line("logged 0")
    assert any(name.endswith(".spool") for name in daemon.kept_files())
    daemon.start()
    program.tell("go on")
    flush_and_end_well(program)
    await_numbers(daemon, 2001)
    daemon.await_no_kept_files()


@test
def twenty_megabytes_of_a_trainer_that_was_killed_are_stored_in_order_when_the_daemon_comes(box: Box) -> None:
    daemon = away(box)
    program = trainer(box, """
    run = wbx.init(project="p", id="r")
    rows = [[j, "y" * 3000] for j in range(1000)]
    for n in range(1, 1001):
        run.log({"n": n, "text": "x" * 15_000} | ({"t": wbx.Table(columns=["j", "y"], data=rows + [[n, ""]])} if n % 250 == 0 else {}))
    say("logged")
    hear()
    """, socket=daemon.socket)
    program.expect_line("logged")
    program.kill9()
    assert len(daemon.kept_files()) >= 2
    daemon.start()
    daemon.await_no_kept_files()
    await_numbers(daemon, 1000)
    assert len(daemon.store.blobs()) == 4
    assert not daemon.store.tally()


@test
def a_daemon_killed_while_it_takes_a_spool_takes_the_rest_at_its_next_start(box: Box) -> None:
    daemon = away(box)
    program = trainer(box, LOG_20_MB + """
    say("logged")
    hear()
    """, socket=daemon.socket)
    program.expect_line("logged")
    program.kill9()
    daemon.start(WBX_FAULT="commit.done:3")
    assert daemon.process.wait() == -9
    assert 0 < len(daemon.store.numbers()) < 2000
    daemon.start()
    daemon.await_no_kept_files()
    await_numbers(daemon, 2000)
    daemon.store.check()


# -- how a run ends


def exit_record(box: Box, code: str) -> tuple[int, Any]:
    """Exit code of a trainer, and that of its finish record."""
    daemon = started(box)
    program = trainer(box, LOG_SOME + "\n    log(3)\n" + code, socket=daemon.socket)
    status = program.wait()
    rows = until(lambda: daemon.store.rows(kind="finish"), "the run is finished")
    assert len(rows) == 1
    await_numbers(daemon, 3)
    return status, rows[0].body["exit_code"]


@test
def a_trainer_that_just_ends_finishes_its_run_with_0(box: Box) -> None:
    assert exit_record(box, "") == (0, 0)


@test
def a_trainer_that_raises_finishes_its_run_with_1(box: Box) -> None:
    assert exit_record(box, "    raise ValueError('on purpose')") == (1, 1)


@test
def a_trainer_that_exits_with_3_finishes_its_run_with_3(box: Box) -> None:
    assert exit_record(box, "    sys.exit(3)") == (3, 3)


@test
def a_forked_child_that_ends_leaves_the_run_open(box: Box) -> None:
    needs_fork()
    daemon = started(box)
    program = trainer(box, LOG_SOME + """
    log(1)
    if (child := os.fork()) == 0:
        log(1)
        sys.exit(0)  # runs exit handlers
    os.waitpid(child, 0)
    log(1)
    say(run.flush(30))
    hear()
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    program.expect_line("True")
    assert daemon.store.rows(kind="finish") == []
    program.tell("go on")
    end_well(program)
    until(lambda: sorted(daemon.store.numbers()) == [1, 2, 2], "what the child logged is stored too")


@test
def an_error_of_the_disk_of_the_journal_never_raises(box: Box) -> None:
    daemon = away(box)
    os.rmdir(daemon.spool_dir)
    program = trainer(box, LOG_20_MB + """
    stats = run._client.stats()
    say("logged", stats["given_up"] > 0, stats["given_up"] + stats["records"])
    hear()
    say(run.flush(30), run._client.stats()["waiting_bytes"])
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    program.expect_line("logged True 2001")  # the journal holds 4 MiB, the run's own record included
    daemon.start()
    program.tell("go on")
    program.expect_line("True 0")
    end_well(program)
    stored = daemon.store.numbers()
    assert stored == sorted(set(stored)) and stored[:300] == list(range(1, 301))
    assert "was not kept" in (box.dir / "trainer.err").read_text()


@test
def what_cannot_be_read_of_a_spool_is_given_up_and_told_and_logging_goes_on(box: Box) -> None:
    daemon = away(box)
    program = trainer(box, """
    run = wbx.init(project="p", id="r")
    for n in range(1, 1001):
        run.log({"n": n, "text": "x" * 10_000})
    say("logged", run._client.stats()["given_up"])
    hear()
    stop = threading.Event()
    while not run._client.stats()["given_up"]:
        stop.wait(0.01)
    for n in range(1001, 1021):
        run.log({"n": n})
    say(run.flush(30), run._client.stats()["waiting_bytes"])
    say(run._client.stats()["given_up"])
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    program.expect_line("logged 0")
    spools = list(daemon.spool_dir.iterdir())
    assert len(spools) == 1
    os.truncate(spools[0], 1_000_000)  # a read behind it is an error
    daemon.start()
    program.tell("go on")
    program.expect_line("True 0")
    given_up = int(program.read_line())
    end_well(program)
    stored = daemon.store.numbers()
    assert stored == sorted(set(stored)) and stored[:400] == list(range(1, 401)) and stored[-20:] == list(range(1001, 1021))
    assert given_up == 1020 - len(stored) > 100
    assert f"{given_up} records were given up" in (box.dir / "trainer.err").read_text()
    daemon.await_no_kept_files()


@test
def a_flush_that_has_no_room_is_no_record_that_is_given_up(box: Box) -> None:
    daemon = away(box)
    os.rmdir(daemon.spool_dir)
    program = trainer(box, """
    run = wbx.init(project="p", id="r")
    while not run._client.stats()["given_up"]:
        run.log({"text": "x" * 10_000})
    while run._client.stats()["given_up"] < 1000:
        run.log({"text": "x"})
    before = run._client.stats()["given_up"]
    for _ in range(5):
        run.flush(0)
    say(run._client.stats()["given_up"] - before)
    """, socket=daemon.socket)
    program.expect_line("0")
    assert program.wait() == 0


# -- the user's own daemon


def own_env(box: Box) -> dict[str, str]:
    """Environment of a trainer whose daemon is its user's own, below the box."""
    for name in ("run", "state"):
        (box.dir / name).mkdir(mode=0o700, exist_ok=True)
    return {"XDG_RUNTIME_DIR": str(box.dir / "run"), "XDG_STATE_HOME": str(box.dir / "state"),
            "PATH": f"{WBXD.parent}:{os.environ['PATH']}"}


def no_service() -> None:
    if os.path.exists("/run/wbx.sock"):
        raise Skip("the system has a wbx service")


def pid_behind(path: Path) -> int:
    """The process that listens there; 0 when none does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as s:
        try:
            s.connect(str(path))
        except OSError:
            return 0
        return int(struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def end_daemon(path: Path) -> int:
    pid = pid_behind(path)
    if pid:
        os.kill(pid, signal.SIGKILL)
    return pid


@test
def a_directory_that_others_may_write_to_is_not_used(box: Box) -> None:
    no_service()
    env = own_env(box)
    daemon = Daemon(box, dir=box.dir / "run/wbx")
    daemon.start()
    os.chmod(daemon.dir, 0o777)
    program = trainer(box, LOG_SOME + """
    log(3)
    say(run.flush(0.5), run._client.stats()["reconnects"], run._client.stats()["durable"], run._client.socket == "")
    """, **env)
    program.expect_line("False 0 False True")
    assert program.wait() == 0
    assert daemon.store.rows() == [] and daemon.kept_files() == []
    assert "cannot be used (it is not this user's alone)" in (box.dir / "trainer.err").read_text()


@test
def who_listens_at_the_users_own_socket_and_is_another_user_gets_nothing(box: Box) -> None:
    no_service()
    if os.geteuid() != 0:
        raise Skip("only root can be two users")
    env = own_env(box)
    (box.dir / "run/wbx").mkdir(mode=0o700)
    sockets = []
    for name in ("wbx.sock", "ctl.sock"):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listener.bind(str(box.dir / "run/wbx" / name))
        os.seteuid(65534)  # the kernel notes who listens
        listener.listen()
        os.seteuid(0)
        sockets.append(listener)
    program = trainer(box, LOG_SOME + """
    log(3)
    say(run.flush(0.5), run._client.stats()["reconnects"])
    """, **env)
    program.expect_line("False 0")
    assert program.wait() == 0
    connection, _ = sockets[0].accept()
    with connection:
        assert connection.recv(100) == b""
    result = subprocess.run([BUILD / "client/wbxctl", "pause", "models"], env=python_env(**env), capture_output=True, text=True)
    assert result.returncode == 77 and "another user listens" in result.stderr, result
    for listener in sockets:
        listener.close()


@test
def the_users_own_daemon_that_dies_is_started_again(box: Box) -> None:
    no_service()
    path = box.dir / "run/wbx/wbx.sock"
    box.defer(lambda: end_daemon(path))
    program = trainer(box, LOG_SOME + """
    log(3)
    say(run.flush(30))
    hear()
    log(3)
    say(run.flush(60))
    run.finish()
    say("bye")
    """, **own_env(box))
    program.expect_line("True")
    first = end_daemon(path)
    program.tell("go on")
    program.expect_line("True")
    assert pid_behind(path) not in (0, first)
    end_well(program)


@test
def a_socket_file_of_the_system_where_nobody_listens_is_passed_over(box: Box) -> None:
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
        raise Skip("needs a mount namespace of its own")
    if SANITIZER != "none":
        raise Skip("a sanitizer must be loaded first, and unshare does not run with it")
    script = box.dir / "sockets.py"
    script.write_text(PREAMBLE + """
import socket
from wbx import _native
def used():
    return _native.Client(daemon="").socket
say(used().endswith("/run/wbx/wbx.sock"))
s = socket.socket(socket.AF_UNIX)
s.bind("/run/wbx.sock")
say(used().endswith("/run/wbx/wbx.sock"))
s.listen()
say(used())
s.close()
say(used().endswith("/run/wbx/wbx.sock"))
""")
    program = Process(box, ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                            f"mount -t tmpfs none /run && exec {sys.executable} {script}"],
                      env=python_env(HOME=str(box.dir), **own_env(box)), log=box.log_file("sockets.err"), stdout=subprocess.PIPE)
    for line in ("True", "True", "/run/wbx.sock", "True"):
        program.expect_line(line)
    assert program.wait() == 0


if __name__ == "__main__":
    main()
