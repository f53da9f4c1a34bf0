"""Ranks that open no run: judges run on every rank of a job, wandb.init() on rank 0 only. What they trace belongs to rank 0's run.

A launcher's workers on one machine have one parent: rank 0 leaves a note under its parent's name, the others look for it. Elsewhere, and for processes that are no
ranks, WANDB_RUN_ID and WANDB_PROJECT say which run it is; else wbx.attach() or weave.init() do.
"""
from __future__ import annotations

import atexit
import contextlib
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

from . import _run

LOOK_S = 1.0  # between two looks for a note
_next_look = 0.0
_note: Path | None = None  # that this process left
_note_run: Any = None


def _env_int(name: str) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else 0


def _directory() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "wbx" if base else Path(f"/tmp/wbx-{os.getuid()}")


def _is_ours(path: Path) -> bool:
    """Nobody else may write there."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return found.st_uid == os.getuid() and not stat.S_ISLNK(found.st_mode) and not found.st_mode & 0o022


def _born(pid: int) -> str:
    """When a process began, in the kernel's own count; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _path() -> Path | None:
    parent = os.getppid()
    born = _born(parent)
    return _directory() / f"rank0-{parent}-{born}.json" if parent > 1 and born else None


def _sweep(directory: Path) -> None:
    """Notes of launchers that are gone."""
    for path in directory.glob("rank0-*-*.json"):
        _, pid, born = path.stem.split("-", 2)
        if not pid.isdigit() or _born(int(pid)) != born:
            with contextlib.suppress(OSError):
                path.unlink()


def tell(run: Any) -> None:
    """Rank 0 of several has opened a run."""
    global _note, _note_run
    if _env_int("WORLD_SIZE") < 2 or _env_int("RANK") != 0 or (path := _path()) is None:
        return
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not _is_ours(path.parent):
            return
        _sweep(path.parent)
        text = json.dumps({"project": run.project, "entity": run.entity, "id": run.id})
        beside = path.with_suffix(f".{os.getpid()}")
        with open(os.open(beside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as f:
            f.write(text)
        beside.rename(path)
        _note, _note_run = path, run
    except OSError:  # the others are not traced
        pass


def untell(run: Any) -> None:
    """The run is finished."""
    global _note, _note_run
    if _note_run is run and _note is not None:
        with contextlib.suppress(OSError):
            _note.unlink()
        _note = _note_run = None


def _read_note() -> dict[str, Any] | None:
    path = _path()
    if path is None or not _is_ours(path.parent) or not _is_ours(path):
        return None
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("project") and found.get("id") else None


def _read_env() -> dict[str, Any] | None:
    env = os.environ.get
    if not env("WANDB_RUN_ID") or not env("WANDB_PROJECT"):
        return None
    return {"project": env("WANDB_PROJECT"), "entity": env("WANDB_ENTITY") or "", "id": env("WANDB_RUN_ID")}


def look() -> Any:
    """The native run that this process's calls belong to, or None: for now there is none."""
    global _next_look
    now = time.monotonic()
    if now < _next_look:
        return None
    _next_look = now + LOOK_S
    if _env_int("RANK") == 0:
        return None
    found = _read_note() or _read_env()
    if found is None:
        return None
    native = _run.client().attach(found["project"], entity=found["entity"] or None, id=found["id"], merge_rows=False, token=None)
    atexit.register(native.finish, 0, True)
    return native
