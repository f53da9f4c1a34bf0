#!/usr/bin/env python3
"""./dev demo: what was logged arrives, whole and once, although the link is cut and the daemon killed.

Two runs go through a fresh wbxd to the fake W&B on this machine: the recorded GRPO run, one process per rank, and a seeded
run of eight workers. In the end everything that the fake holds is compared with what was logged, which is worked out from the
recording and the seed alone. Exit 0: equal. 1: not. 130: interrupted.
"""
from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable

sys.dont_write_bytecode = True
TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(1, str(TESTS / "lib"))  # behind this directory

import compare
import recording
import reference
import seeded
from ctl import Ctl
from daemon import Daemon
from process import Process
from relay import Relay
from screen import GREEN, RED, Screen
from tap import Box, become_subreaper, pause, until
from trainer import python_env
from wandb import KEY, Fake, key_file

SEED = 20261122
PACE = 0.25
PATIENCE_S = 60.0
# When things happen, in parts of the time that the recording takes.
STATUS_WITHOUT_KEY, KEY_COMES, STATUS_FLOWING, LINK_CUT, STATUS_CUT, KILL, STATUS_DEAD, RESTART, LINK_BACK = (
    0.16, 0.22, 0.38, 0.45, 0.58, 0.62, 0.70, 0.78, 0.84)
# Short times, so that two minutes are enough: how often is sent, how long a retry waits at most, how often a silent run says that it lives.
SETTINGS = {"models__interval": "1s", "models__backoff_max": "3s", "models__heartbeat": "2s"}

# What the judge says of names that TRL gives, and of a trace server, which this fake is not.
NOT_OURS = ("literal dot in a history key (ambiguous with nesting)", "unknown path")


def in_words(count: int, what: str) -> str:
    return f"{count:,} {what}"


def call_text(phase: str, call: dict) -> str:
    """A start or end of a call, without its id; 1.0 is 1."""
    return reference.json_text([phase, call.get("op"), call.get("inputs"), call.get("output")])


class Demo:
    def __init__(self, box: Box, pace: float) -> None:
        self.box = box
        self.pace = pace
        self.screen = Screen()
        self.ranks = recording.load()
        init = self.ranks[0][0]
        self.project, self.run = init["project"], init["id"]
        self.seconds = max(e["t"] for rank in self.ranks for e in rank)
        self.workers = seeded.make(SEED, self.seconds)
        self.players: list[Process] = []
        self.call_seconds: list[float] = []
        self.start = 0.0

    # -- the processes

    def open(self) -> None:
        """A fake W&B, a link to it that can be cut, a daemon without a key."""
        self.fake = Fake(self.box, "--api-key", KEY)
        self.link = Relay(self.fake.port)
        self.box.defer(self.link.close)
        self.daemon = Daemon(self.box, models__base_url=self.link.url, models__key_file=self.box.dir / "key", **SETTINGS).start()
        self.ctl = Ctl(self.daemon)

    def play(self, name: str, events: list[dict], rank: int, world: int) -> Process:
        path = self.box.dir / f"{name}.jsonl"
        path.write_text("".join(json.dumps(e) + "\n" for e in events))
        env = python_env(WBX_SOCKET=str(self.daemon.socket), RANK=str(rank), WORLD_SIZE=str(world), HOME=str(self.box.dir))
        player = Process(self.box, [sys.executable, Path(__file__).with_name("player.py"), path, self.pace], env=env,
                         log=self.box.log_file(f"{name}.log"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.players.append(player)
        return player

    def begin(self) -> None:
        """All players stand ready before the first goes on."""
        for name, processes in (("rank", self.ranks), ("worker", self.workers)):
            for number, events in enumerate(processes):
                self.play(f"{name}{number}", events, number, len(processes))
        for player in self.players:
            player.expect_line("ready")
        for player in self.players:
            player.tell("go")
        self.start = time.monotonic()

    def await_moment(self, part: float) -> None:
        """Until this part of the recording has been played."""
        moment = self.start + part * self.seconds / self.pace
        while time.monotonic() < moment:
            pause(min(0.05, max(0.001, moment - time.monotonic())))

    def end_players(self) -> None:
        for player in self.players:
            line = player.read_line(PATIENCE_S)
            assert line, f"pid {player.pid}, a trainer, ended too early"
            self.call_seconds += json.loads(line)
            assert player.wait() == 0, f"pid {player.pid}, a trainer, failed"

    # -- asking

    def show_status(self) -> None:
        status = self.ctl.run("status")
        self.screen.output("wbxctl status", status.out + status.err, status.code)

    def facts(self) -> dict:
        return json.loads(self.ctl.run("--json", "status").out)

    def sink(self, name: str) -> dict:
        return next(s for s in self.facts()["sinks"] if s["name"] == name)

    def rows_there(self) -> int:
        """History rows of both runs that the fake holds."""
        verdict = self.fake.ask("/__check")
        return sum(run["history"] for run in verdict["runs"].values())

    # -- the story

    def tell(self) -> None:
        say, note = self.screen.say, self.screen.note
        events = sum(len(rank) for rank in self.ranks) - len(self.ranks) + 1
        say(f"wbxd runs on an empty store, in {self.box.dir}. W&B is played by a strict fake on this machine; wbxd has no key for it.")
        self.began = time.time()
        self.begin()
        say(f"{len(self.ranks)} ranks play the recorded GRPO run back: {events:,} events, at {self.pace:g} times their pace.")
        note(f"Beside them {len(self.workers)} workers log one run, {seeded.RUN}: {sum(map(len, self.workers)):,} calls that follow from a seed.")
        self.await_moment(STATUS_WITHOUT_KEY)
        say("Nothing can be sent yet. Everything is kept.")
        self.show_status()
        self.await_moment(KEY_COMES)
        key_file(self.box)
        say("A file with the key is there now. wbxd finds it by itself.")
        self.await_moment(STATUS_FLOWING)
        say(f"{in_words(self.rows_there(), 'rows')} are at W&B.")
        self.show_status()
        self.tell_trouble()
        self.end_players()
        say("All trainers have ended.")
        self.tell_calls()

    def tell_trouble(self) -> None:
        say, note = self.screen.say, self.screen.note
        self.await_moment(LINK_CUT)
        self.link.cut()
        say("The link is cut" + (": W&B took a request, its answer is lost." if self.link.answers_lost else "."), RED)
        self.await_moment(STATUS_CUT)
        self.show_status()
        self.await_moment(KILL)
        before = self.facts()["ingest"]["records_total"]
        self.daemon.kill9()
        say(f"kill -9 wbxd, after {before:,} records. The trainers go on.", RED)
        self.await_moment(STATUS_DEAD)
        self.show_status()
        self.await_moment(RESTART)
        self.daemon.start()
        say("wbxd runs again. The trainers send what it had not said it has.", GREEN)
        self.await_moment(LINK_BACK)
        note(f"It has {in_words(self.sink('models')['waiting'], 'records')} for W&B. {in_words(self.rows_there(), 'rows')} are there.")
        self.link.mend()
        say("The link is back.", GREEN)

    def tell_calls(self) -> None:
        times = sorted(self.call_seconds)
        self.screen.note(f"Their {len(times):,} calls took {times[len(times) // 2] * 1e6:.0f} us (median), "
                         f"{times[len(times) * 99 // 100] * 1e6:.0f} us (99 in 100), {times[-1] * 1e3:.1f} ms (the longest).")

    def deliver(self) -> None:
        """Until W&B has all that can be sent."""
        for run in (seeded.RUN, self.run):
            self.fake.await_run(run, "finished", self.project, PATIENCE_S)
            self.screen.say(f"The run {run} is finished at W&B.")
        until(lambda: not any(self.sink(name)[what] for name in ("models", "artifacts") for what in ("waiting", "in_flight")), "nothing waits", PATIENCE_S)
        self.show_status()

    # -- the proof

    def prove(self) -> bool:
        ended = time.time()
        self.screen.say("What W&B holds, beside what was logged:")
        verdicts = {run: compare.compare(want, self.fake, self.project, run, self.began, ended)
                    for run, want in ((self.run, self.recorded), (seeded.RUN, self.seeded))}
        self.show(verdicts)
        good = all(v.good for v in verdicts.values())
        for run, verdict in verdicts.items():
            for words in verdict.words[:20]:
                self.screen.note(self.screen.paint(f"{run}: {words}", RED))
            if len(verdict.words) > 20:
                self.screen.note(f"{run}: and {len(verdict.words) - 20} more")
        for words, check in self.checks():
            wrong = check()
            self.screen.note(self.screen.paint("ok " if not wrong else "NOT", GREEN if not wrong else RED) + f" {words}"
                             + (f": {wrong}" if wrong else ""))
            good = good and not wrong
        return good

    def show(self, verdicts: dict[str, compare.Verdict]) -> None:
        wants = [self.recorded, self.seeded]
        found = list(verdicts.values())

        def beside(name: str, wanted: Callable[[Any], int], have: Callable[[Any], int]) -> list[str]:
            return [name, *(f"{have(v):,} of {wanted(w):,}" for w, v in zip(wants, found))]

        rows = [beside("history rows", lambda w: len(w.rows), lambda v: v.rows),
                beside("values in them", lambda w: sum(len(list(compare.leaves(r))) for r in w.rows.values()), lambda v: v.values),
                beside("config values", lambda w: len(list(compare.leaves(w.config))), lambda v: v.config),
                beside("cells of tables", lambda w: sum(len(row) for t in w.tables for row in t.data), lambda v: v.cells),
                beside("summary values", lambda w: len(list(compare.leaves(w.summary))), lambda v: v.summary),
                ["missing, twice, different", *(f"{v.missing}, {v.twice}, {v.different}" for v in found)]]
        self.screen.table(["", *(f"run {run}" for run in verdicts)], rows)

    def checks(self) -> list[tuple[str, Callable[[], str]]]:
        calls = [e for rank in self.ranks for e in rank if e["kind"].startswith("call")]
        return [
            ("the judge of the fake has nothing to say, of the runs and of their end", self.judge),
            (f"all {len(calls):,} records of judge calls are on disk as they were logged",
             lambda: self.kept(calls)),
        ]

    def judge(self) -> str:
        verdict = self.fake.ask("/__check?final=1")
        found = [f for f in verdict["errors"] + verdict["warnings"] if f["kind"] not in NOT_OURS]
        return json.dumps(found) if found else ""

    def kept(self, calls: list[dict]) -> str:
        """Calls get new ids; everything else is compared, as `wbxctl tail` gives it."""
        waiting = self.sink("weave")["waiting"]
        bodies = [line["body"] for line in self.ctl.lines("tail", "--kind", "call", "-n", 2 * len(calls))]
        have = Counter(call_text(body["phase"], body) for body in bodies)
        want = Counter(call_text(e["kind"].removeprefix("call_"), e) for e in calls)
        missing, more = want - have, have - want
        if waiting == len(calls) and not missing and not more:
            return ""
        return f"{waiting:,} wait, {missing.total():,} are missing, {more.total():,} are others; for one {next(iter(missing), '')[:200]}"

    def go(self) -> bool:
        self.recorded, self.seeded = reference.hold(self.ranks), reference.hold(self.workers)
        self.open()
        self.tell()
        self.deliver()
        good = self.prove()
        self.screen.say("Everything that was logged is there, once." if good else "W&B does not hold what was logged.", GREEN if good else RED)
        return good


def on_terminate(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="keep the directory with store, logs and events")
    parser.add_argument("--pace", type=float, default=PACE, help=f"how fast the recording is played, 1 = as it was (default {PACE})")
    options = parser.parse_args()
    if not 0 < options.pace <= 10:
        parser.error("--pace must be above 0, and 10 at most")
    signal.signal(signal.SIGTERM, on_terminate)
    signal.signal(signal.SIGHUP, on_terminate)
    become_subreaper()
    box = Box("wbx-demo-")
    try:
        return 0 if Demo(box, options.pace).go() else 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return 130
    except (AssertionError, OSError, ValueError, subprocess.TimeoutExpired) as why:
        print(f"demo: {type(why).__name__}: {why}", file=sys.stderr)
        print("\n".join(box.show_logs()), file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end takes a moment, and is not to be cut short
        box.end()
        if options.keep:
            print(f"demo: kept {box.dir}")
        else:
            box.remove()


if __name__ == "__main__":
    sys.exit(main())
