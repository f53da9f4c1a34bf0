"""The run's own files: what run.save() takes, and what is gathered about the run beside the program's work, within five
seconds, on a thread of its own. What cannot be found out is left out; nothing here raises into the training."""
from __future__ import annotations

import datetime
import glob
import json
import math
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Iterable

GATHER_S = 5.0  # in all, for what is gathered
FINISH_WAIT_S = 0.5  # how long finish() waits for it
DIFF_MAX = 1 << 20  # of diff.patch
SAVE_MAX = 256 << 20  # of one file; larger ones are for artifacts
CODE_FILES_MAX = 2000
CODE_BYTES_MAX = 50 << 20
POLICIES = ("now", "live", "end")
OWN = ("config.yaml", "wandb-metadata.json", "wandb-summary.json", "output.log", "requirements.txt", "diff.patch")

_SECRET_NAME = re.compile(r"(?i)(api[-_]?key|secret|token(?!i|s)|passw|credential|auth(?!or)|private[-_]?key|access[-_]?key|(^|[-_])(key|pwd|pw)($|[-_=:]))")
_SECRET_VALUE = re.compile(r"(sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|wandb_v\d_\w{20,}|AKIA[0-9A-Z]{16}"
                           r"|xox[abprs]-[\w-]{10,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*|\b[0-9a-f]{40,}\b)")
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")
HIDDEN = "<redacted>"


def plain_url(url: str) -> str:
    """Without user and password."""
    return _USER_IN_URL.sub("", url)


def _without_secret(text: str) -> str:
    return plain_url(_SECRET_VALUE.sub(HIDDEN, text))


def redacted(args: Iterable[str]) -> list[str]:
    """A command line without what looks like secrets: by the name before it, or by itself."""
    out, hide = [], False
    for arg in args:
        name, equals, _ = arg.partition("=")
        if hide and not arg.startswith("--"):
            out.append(HIDDEN)
            hide = False
            continue
        is_secret = bool(_SECRET_NAME.search(name)) and (arg.startswith("-") or bool(equals))
        out.append(f"{name}={HIDDEN}" if is_secret and equals else _without_secret(arg))
        hide = is_secret and not equals
    return out


# -- config.yaml: JSON's own form is YAML's, but for numbers


def _yaml(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return _yaml_float(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml_text(str(k))}: {_yaml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return _yaml(value.item())
    return _yaml_text(str(value))


def _yaml_float(value: float) -> str:
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    text = repr(value)
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{'+' if exponent[0] != '-' else ''}{exponent.lstrip('+')}" if e else text


def _yaml_text(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]", lambda m: f"\\u{ord(m[0]):04x}", quoted)


def config_yaml(config: dict[str, Any]) -> bytes:
    """As W&B has it: each key with its value below it."""
    lines = [f"{_yaml_text(str(key))}:\n    value: {_yaml(value)}\n" for key, value in sorted(config.items(), key=lambda kv: str(kv[0]))]
    return "".join(lines).encode("utf-8", "replace")


# -- what is gathered


class _Deadline:
    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def run(self, *command: str, most: int = 1 << 16) -> bytes | None:
        """What the command says, cut; None: there is none such, it failed, or time is up."""
        path = shutil.which(command[0])
        if path is None or self.left() <= 0:
            return None
        env = dict(os.environ, GIT_OPTIONAL_LOCKS="0", GIT_TERMINAL_PROMPT="0", GIT_PAGER="cat", LC_ALL="C")
        try:
            with subprocess.Popen([path, *command[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env) as process:
                timer = threading.Timer(self.left(), process.kill)
                timer.start()
                try:
                    said = process.stdout.read(most + 1)
                    if len(said) > most:
                        process.kill()
                finally:
                    timer.cancel()
                    process.stdout.close()
                return said if process.wait() == 0 or len(said) > most else None
        except OSError:
            return None

    def text(self, *command: str) -> str | None:
        said = self.run(*command)
        return said.decode("utf-8", "replace").strip() or None if said is not None else None


def _is_off(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("true", "1", "yes", "on")


def _git(deadline: _Deadline) -> tuple[dict[str, str], str | None]:
    """Commit and remote, and where the work tree is."""
    if _is_off("WANDB_DISABLE_GIT"):
        return {}, None
    root = deadline.text("git", "rev-parse", "--show-toplevel")
    if root is None:
        return {}, None
    found = {"commit": deadline.text("git", "rev-parse", "HEAD"),
             "remote": deadline.text("git", "config", "--get", f"remote.{os.environ.get('WANDB_GIT_REMOTE', 'origin')}.url")}
    if found["remote"]:
        found["remote"] = plain_url(found["remote"])
    return {k: v for k, v in found.items() if v}, root


def _diff(deadline: _Deadline) -> bytes | None:
    """Changes since the commit, whole lines of it."""
    diff = deadline.run("git", "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD", most=DIFF_MAX)
    if diff is not None and len(diff) > DIFF_MAX:
        diff = diff[:DIFF_MAX]
        diff = diff[:diff.rfind(b"\n") + 1] + f"# cut here: what is above is the first {DIFF_MAX >> 20} MiB\n".encode()
    return diff or None


def _gpus(deadline: _Deadline) -> dict[str, Any]:
    said = deadline.text("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
    cards = [line.rsplit(",", 1) for line in (said or "").splitlines() if "," in line]
    if not cards:
        return {}
    return {"gpu": cards[0][0].strip(), "gpu_count": len(cards),
            "gpu_nvidia": [{"name": name.strip(), "memoryTotal": str(int(mib) << 20)} for name, mib in cards if mib.strip().isdigit()]}


def _program() -> str | None:
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None) or (sys.argv[0] if sys.argv and sys.argv[0] not in ("", "-c", "-m") else None)
    return path if path and os.path.isfile(path) else None


def metadata(started: float, deadline: _Deadline) -> dict[str, Any]:
    """As W&B's client writes it, without what it says of the disk and without anybody's address."""
    program, (git, root) = _program(), _git(deadline)
    found: dict[str, Any] = {
        "os": platform.platform(), "python": f"{platform.python_implementation()} {platform.python_version()}", "host": socket.gethostname(),
        "startedAt": datetime.datetime.fromtimestamp(started, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "executable": sys.executable or None, "args": redacted(sys.argv[1:]), "program": program, "cpu_count": os.cpu_count(),
        "git": git or None, "root": os.getcwd(), **_gpus(deadline)}
    if program:
        found["codePathLocal"] = os.path.relpath(program)
        if root and os.path.realpath(program).startswith(os.path.realpath(root) + os.sep):
            found["codePath"] = os.path.relpath(os.path.realpath(program), os.path.realpath(root))
    return {k: v for k, v in found.items() if v not in (None, [])}


def requirements(deadline: _Deadline) -> bytes:
    """name==version of what is installed; from the folders' names and first lines, which is much quicker than importlib.metadata."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in names:
            match = re.fullmatch(r"(.+?)-([^-]+?)(-py[\d.]+)?\.(dist-info|egg-info)", entry)
            if match and deadline.left() > 0:
                name = _dist_name(os.path.join(folder, entry)) or match[1].replace("_", "-")
                found.setdefault(name.lower(), f"{name}=={match[2]}")
    return "".join(f"{found[name]}\n" for name in sorted(found)).encode()


def _dist_name(folder: str) -> str | None:
    try:
        with open(os.path.join(folder, "METADATA"), encoding="utf-8", errors="replace") as f:
            for line in f.read(2048).splitlines():
                if line.startswith("Name:"):
                    return line[5:].strip()
    except OSError:
        pass
    return None


def gather_files(started: float) -> Iterable[tuple[str, bytes]]:
    """Name and bytes of each, as they are found."""
    deadline = _Deadline(GATHER_S)
    if not _is_off("WANDB_X_DISABLE_META"):
        yield "wandb-metadata.json", json.dumps(metadata(started, deadline), indent=2).encode("utf-8", "replace")
    if os.environ.get("WANDB_X_SAVE_REQUIREMENTS", "").lower() not in ("false", "0"):
        yield "requirements.txt", requirements(deadline)
    if not _is_off("WANDB_DISABLE_GIT") and not _is_off("WANDB_DISABLE_CODE") and (diff := _diff(deadline)):
        yield "diff.patch", diff


class Files:
    """The files of one run, in the process that opened it."""

    def __init__(self, save: Callable[[str, bytes, str], None], config: Callable[[], dict[str, Any]], attached: bool):
        self._save = save
        self._config = config
        self._attached = attached
        self._config_saved: bytes | None = None
        self._watched: dict[str, tuple[str, float]] = {}  # name: where it is, when it was changed
        self._thread: threading.Thread | None = None

    def gather(self, code: bool) -> None:
        """Begins to gather, and returns at once."""
        if self._attached or os.environ.get("WBX_FILES", "").lower() == "off":
            return
        self._thread = threading.Thread(target=self._gather, args=(time.time(), code), name="wbx-files", daemon=True)
        self._thread.start()

    def _gather(self, started: float, code: bool) -> None:
        try:
            for name, data in gather_files(started):
                self._save(name, data, "now")
            self._save_config()
            if code and (program := _program()):
                self.save_code(program)
        except Exception:  # noqa: BLE001: nothing of this is worth a word in the training's output
            pass

    def _save_config(self) -> None:
        text = config_yaml(self._config())
        if text != self._config_saved:
            self._config_saved = text
            self._save("config.yaml", text, "now")

    def save_code(self, program: str) -> None:
        """The program itself, as code/<its path>."""
        if _is_off("WANDB_DISABLE_CODE"):
            return
        path = os.path.relpath(program)
        self._take(program, "code/" + (os.path.basename(program) if path.startswith("..") else path.replace(os.sep, "/")), "now")

    def save_folder(self, root: str, include: Callable[..., bool], exclude: Callable[..., bool]) -> list[str]:
        """The folder's code, as code/<path>; how much of it is bounded."""
        saved, left = [], CODE_BYTES_MAX
        root = os.path.abspath(root)
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in ("wandb", "__pycache__", "node_modules"))
            for path in (os.path.join(folder, name) for name in sorted(names)):
                if not _asks(include, path, root) or _asks(exclude, path, root) or not os.path.isfile(path):
                    continue
                size = os.path.getsize(path)
                if len(saved) == CODE_FILES_MAX or size > left:
                    return saved
                left -= size
                name = "code/" + os.path.relpath(path, root).replace(os.sep, "/")
                if self._take(path, name, "now"):
                    saved.append(name)
        return saved

    def save(self, pattern: str, base: str | None, policy: str) -> tuple[list[str], list[str]]:
        """What fits the pattern, below base: names of what was taken, and why some were not."""
        root = os.path.abspath(base if base is not None else os.path.dirname(pattern) if os.path.isabs(pattern) else ".")
        saved, faults = [], []
        for one in _matches(pattern):
            name = os.path.relpath(os.path.abspath(one), root).replace(os.sep, "/")
            if name.startswith("../"):
                faults.append(f"{one} is not below {root}")
            elif self._attached and name in OWN:
                faults.append(f"{name} is the training's own; a process that joined its run leaves it alone")
            elif os.path.getsize(one) > SAVE_MAX:
                faults.append(f"{one} is above {SAVE_MAX >> 20} MiB: make it an artifact")
            elif self._take(one, name, policy):
                saved.append(name)
        return saved, faults

    def _take(self, path: str, name: str, policy: str) -> bool:
        try:
            changed = os.stat(path).st_mtime
            with open(path, "rb") as f:
                data = f.read()
        except OSError:
            return False
        self._save(name, data, policy)
        if policy in ("live", "end"):
            self._watched[name] = (path, changed)
        return True

    def finish(self) -> None:
        """What changed since, while the run is still open; waits a moment for what is being gathered."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(FINISH_WAIT_S)
            if not self._thread.is_alive():
                self._save_config()
        for name, (path, changed) in list(self._watched.items()):
            try:
                if os.stat(path).st_mtime != changed:
                    self._take(path, name, "end")
            except OSError:
                continue  # it is gone; what was taken stands


def _matches(pattern: str) -> list[str]:
    """Files that fit, and those in folders that do."""
    found = glob.glob(pattern, recursive=True)
    inside = [one for path in found if os.path.isdir(path) for one in glob.glob(os.path.join(glob.escape(path), "**"), recursive=True)]
    return sorted({os.path.normpath(path) for path in [*found, *inside] if os.path.isfile(path)})


def _asks(function: Callable[..., bool], path: str, root: str) -> bool:
    try:
        return bool(function(path, root))
    except TypeError:
        return bool(function(path))
