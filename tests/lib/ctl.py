"""wbxctl as a test uses it: run to its end, with the exit code that is expected."""
from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon import Daemon
from process import BUILD, Process, clean_env
from tap import WAIT_SECONDS, Box, until

WBXCTL = BUILD / "client/wbxctl"


@dataclass
class Result:
    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.out}{self.err}"


def ctl_env(box: Box) -> dict[str, str]:
    """wbxctl finds the wbxd that reads a store for it on the PATH."""
    return clean_env(HOME=str(box.dir), PATH=f"{BUILD / 'daemon'}:{os.environ['PATH']}", LC_ALL="C.UTF-8")


class Ctl:
    """wbxctl for one daemon, or with these options. ctl("pause", "models") runs it; a wrong exit code is an AssertionError."""

    def __init__(self, daemon: Daemon, *options: Any) -> None:
        self.box = daemon.box
        self.options = options or ("--socket", daemon.socket)
        self.program: Path = WBXCTL
        self.identity: dict[str, Any] = {}  # user, group and extra_groups of subprocess, when it is another user (users.py)

    def args(self, *words: Any) -> list[str]:
        return [str(w) for w in (self.program, *self.options, *words)]

    def run(self, *words: Any, stdin: str = "") -> Result:
        done = subprocess.run(self.args(*words), env=ctl_env(self.box), input=stdin, capture_output=True, text=True,
                              timeout=WAIT_SECONDS, **self.identity)
        return Result(done.returncode, done.stdout, done.stderr)

    def __call__(self, *words: Any, code: int = 0, stdin: str = "") -> str:
        """What it printed."""
        result = self.run(*words, stdin=stdin)
        assert result.code == code, f"wbxctl {' '.join(map(str, words))}: not {code}, but {result}"
        return result.out

    def start(self, *words: Any) -> Process:
        """Starts it with a pipe for its output, and does not wait."""
        return Process(self.box, self.args(*words), env=ctl_env(self.box), log=self.box.log_file("wbxctl.err"), stdout=subprocess.PIPE)

    def lines(self, *words: Any) -> list[dict]:
        """The JSON lines of a list."""
        return [json.loads(line) for line in self("--json", *words).splitlines()]

    # -- status

    def status(self) -> dict:
        """The JSON of status, with its exit code as "exit"."""
        result = self.run("status", "--json")
        assert result.out, str(result)
        return json.loads(result.out) | {"exit": result.code}

    def sink(self, name: str = "models") -> dict:
        return next(s for s in self.status()["sinks"] if s["name"] == name)

    def codes(self) -> list[str]:
        return [r["code"] for r in self.status()["reasons"]]

    def await_reason(self, code: str) -> dict:
        """Until status gives this reason; gives the whole status."""
        return until(lambda: (s := self.status()) and any(r["code"] == code for r in s["reasons"]) and s or None,
                     f"status says {code}")

    def await_healthy(self) -> None:
        until(lambda: self.run("status").code == 0, "status is healthy")

    # -- lists

    def run_state(self, run: str) -> dict:
        [found] = self.lines("runs", run)
        return found

    def await_parked(self, run: str) -> str:
        """Until the run is parked; gives the reason."""
        return until(lambda: self.run_state(run).get("parked"), f"run {run} is parked")

    def dead(self) -> list[dict]:
        return self.lines("dead", "list")

    def await_dead(self, count: int) -> list[dict]:
        return until(lambda: (d := self.dead()) and len(d) >= count and d or None, f"{count} dead letters")


def reason(status: dict, code: str) -> dict:
    return next(r for r in status["reasons"] if r["code"] == code)


def text_status(ctl: Ctl, code: int) -> str:
    """The screen, with its line breaks taken out."""
    return " ".join(ctl("status", code=code).split())


def answer_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
