"""Trainers: Python programs with the package wbx, each its own process, that tell on a pipe what they have done."""
from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from process import BUILD, SANITIZER, Process, clean_env
from tap import Box

# What every trainer begins with: say() tells the test something, hear() waits for a line of it.
PREAMBLE = """\
import os, sys, threading
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
def hear():
    line = b""
    while not line.endswith(b"\\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit("the test is gone")
        line += byte
    return line.decode().strip()
import wbx
"""


def _runtime() -> str:
    """A sanitizer's library, which has to come before Python's own; "" for a plain build."""
    names = {"address,undefined": ["libasan.so", "libubsan.so"], "thread": ["libtsan.so"]}.get(SANITIZER, [])
    paths = [subprocess.run(["gcc", f"-print-file-name={n}"], capture_output=True, text=True, check=True).stdout.strip()
             for n in names]
    return ":".join(paths)


RUNTIME = _runtime()


def python_env(**more: str) -> dict[str, str]:
    """Environment of a Python process that uses the built package. WBX_FILES=on: it gathers files as it does for users."""
    env = clean_env(PYTHONPATH=str(BUILD / "client/python"), PYTHONDONTWRITEBYTECODE="1", **{"WBX_FILES": "off"} | more)
    if RUNTIME:  # the interpreter's own leaks are not ours
        env |= {"LD_PRELOAD": RUNTIME, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    return env


def trainer(box: Box, code: str, *args: Any, socket: Path | str | None = None, name: str = "trainer", **env: str) -> Process:
    """Starts a Python program. It finds the daemon by WBX_SOCKET, unless socket is None."""
    script = box.dir / f"{name}.py"
    script.write_text(PREAMBLE + textwrap.dedent(code))
    if socket is not None:
        env["WBX_SOCKET"] = str(socket)
    env.setdefault("HOME", str(box.dir))
    return Process(box, [sys.executable, script, *args], env=python_env(**env), log=box.log_file(f"{name}.err"),
                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def c_program(box: Box, name: str, *args: Any, socket: Path | str | None = None, log: str | None = None, **env: str) -> Process:
    """Starts a C helper from the build's tests/crash/, with a pipe at either end."""
    if socket is not None:
        env["WBX_SOCKET"] = str(socket)
    return Process(box, [BUILD / "tests/crash" / name, *args], env=clean_env(**env), log=box.log_file(log or f"{name}.err"),
                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
