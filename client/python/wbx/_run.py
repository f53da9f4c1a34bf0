"""A run as the wandb SDK shows it, over the native client."""
from __future__ import annotations

import atexit
import enum
import errno
import json
import netrc
import os
import platform
import secrets
import signal
import sys
import threading
import time
from typing import Any, Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from . import _artifact, _benchmark, _console, _files, _media, _native, _resume, _table
from ._values import plain

RESUME_TIMEOUT_MS = 5000  # how long init(resume=...) waits for W&B, when the link is up
WORD_TIMEOUT_MS = 300  # how long finish() waits for the daemon to say what W&B does not have yet
LOGIN_TIMEOUT_MS = 10000
FINISH_TIMEOUT_MS = 2000  # how long finish() waits for the daemon's disk; the network it never waits for

_native.set_hooks(plain, _table.Table, _media.Media)


class Error(Exception):
    """What this package raises for wrong use. What goes wrong behind it never raises."""


class UsageError(Error):
    """The call makes no sense, such as log() before init()."""


class Stopped(Error):
    """Somebody pressed Stop in W&B; raised by log() when init(raise_on_stop=True) asks for it."""


_said: set[str] = set()


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        with _console.aside():
            print(f"wbx: {text}", file=sys.stderr)


_table.tell = _say_once


def _say(text: str) -> None:
    """For people; WANDB_SILENT=true keeps it away."""
    if os.environ.get("WANDB_SILENT", "").lower() not in ("true", "1"):
        with _console.aside():
            print(f"wbx: {text}", file=sys.stderr)


def _look(result: int, what: str) -> None:
    """Says once why something could not be kept; training goes on."""
    if result < 0:
        reason = {errno.ENOBUFS: "journal and spool are full", errno.EMSGSIZE: "a value is above 1 MiB",
                  errno.E2BIG: "more than 128 tables and files in one record",
                  errno.ESHUTDOWN: "the run is finished", errno.ENOMEM: "out of memory"}.get(-result, os.strerror(-result))
        _say_once(f"{what} was not kept: {reason} (said once)")


class _Items:
    """What is set in this process: a dict whose keys are attributes too. Setting a key logs it, by update()."""

    def __init__(self, native: Any):
        object.__setattr__(self, "_native", native)
        object.__setattr__(self, "_items", {})

    def update(self, other: Any = None, **more: Any) -> None:
        raise NotImplementedError

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __setattr__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__") or key == "_items":
            raise AttributeError(key)  # copy and pickle look for methods before there are items
        try:
            return self._items[key]
        except KeyError:
            raise AttributeError(f"{type(self).__name__.lower()} has no key {key!r}") from None

    def __contains__(self, key: str) -> bool:
        return key in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: str, default: Any = None) -> Any:
        return self._items.get(key, default)

    def keys(self) -> Any:
        return self._items.keys()

    def items(self) -> Any:
        return self._items.items()

    def values(self) -> Any:
        return self._items.values()

    def __repr__(self) -> str:
        return repr(self._items)


class Config(_Items):
    """The run's configuration."""

    def update(self, other: Any = None, allow_val_change: bool | None = None, **more: Any) -> None:
        """Sets several keys, from a mapping, a namespace, or anything with to_dict()."""
        values = dict(_mapping(other)) if other is not None else {}
        values.update(more)
        values = {str(k): _without_nan(v) for k, v in values.items()}
        if values:
            self._items.update(values)
            _look(self._native.config(values), "config")

    def setdefaults(self, other: Any) -> None:
        """Sets those keys that are not set yet."""
        self.update({k: v for k, v in _mapping(other).items() if k not in self._items})

    def as_dict(self) -> dict:
        return dict(self._items)

    def _resumed(self, values: dict[str, Any]) -> None:
        """What W&B had, below what was set here."""
        object.__setattr__(self, "_items", values | self._items)


class Summary(_Items):
    """The run's summary: the last value of each logged key, and what is set here."""

    def update(self, other: Mapping[str, Any] | None = None, **more: Any) -> None:
        values = dict(other or {}, **more)
        if values:
            self._items.update(values)
            _look(self._native.summary({str(k): v for k, v in values.items()}), "summary")

    def _logged(self, data: Mapping[str, Any]) -> None:
        self._items.update(data)

    def _resumed(self, values: dict[str, Any]) -> None:
        object.__setattr__(self, "_items", values | self._items)


def _past(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as e:
        _say(f"what W&B has of the run cannot be read here, and stays as it is there: {e}")
        return {}
    return {k: v for k, v in found.items() if not k.startswith("_wandb")}


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, Config):
        return value.as_dict()
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "__dict__"):
        return vars(value)
    raise TypeError(f"config must be a mapping or a namespace, not {type(value).__name__}")


def _plain_text(text: Any) -> str:
    """As C takes it."""
    return str(text).replace("\0", "").encode("utf-8", "replace").decode()


def _without_nan(value: Any) -> Any:
    """NaN and infinities become None in a config, as the wandb SDK does it."""
    if isinstance(value, float) and value - value != 0:
        return None
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    return value


def find_key(host: str | None) -> str | None:
    """The key of this process's user."""
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    machine = urlsplit(host or os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname
    try:
        found = netrc.netrc().authenticators(machine or "")
    except (OSError, netrc.NetrcParseError):
        return None
    return found[2] if found else None


def login(key: str | None) -> bool:
    if not key:
        print("wbx: there is no key: wbx.login(key=...), WANDB_API_KEY, or wandb login", file=sys.stderr)
        return False
    result = client().login(key, LOGIN_TIMEOUT_MS)
    if result == 0:
        return True
    reason = {errno.EINVAL: "that is no API key", errno.ENOENT: "no daemon runs", errno.ECONNREFUSED: "no daemon runs",
              errno.EREMOTEIO: "the daemon cannot keep it"}.get(-result, os.strerror(-result))
    print(f"wbx: the key was not handed over: {reason}", file=sys.stderr)
    return False


def check_token(token: str | bool | None) -> str | None:
    """A token that was given, or a new one for True."""
    if token is True:
        return secrets.token_hex(16)
    if token in (None, False):
        return None
    if not isinstance(token, str) or not 16 <= len(token.encode()) <= 512:
        raise UsageError("a token is a text of 16 to 512 bytes")
    return token


class Run:
    """What init() returns. Everything here may be called from any thread, and after fork()."""

    def __init__(self, client: Any, native: Any, *, project: str, entity: str | None, name: str | None, group: str | None,
                 job_type: str | None, notes: str | None, tags: Iterable[str] | None, attached: bool,
                 raise_on_stop: bool = False, autoresume: bool = False, token: str | None = None, shared: bool = False):
        self._client = client
        self._native = native
        self._step = 0
        self._finished = False
        self._pid = os.getpid()
        self._attached = attached
        self._raise_on_stop = raise_on_stop
        self._autoresume = autoresume
        self._shared = shared
        self._told_to_stop = False
        self._tags = tuple(tags or ())
        self._class_labels: dict[str, dict[str, Any]] = {}
        self.id: str = native.id
        self.token = token
        self.project = project
        self.entity = entity or ""
        self.name = name
        self.group = group or ""
        self.job_type = job_type or ""
        self.notes = notes
        self.config = Config(native)
        self.summary = Summary(native)
        self._files = _files.Files(self._save_file, self.config.as_dict, attached)

    # -- logging -------------------------------------------------------------------------------------------

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        """Logs a row, or a part of one; returns in microseconds and never raises for what goes wrong behind it.

        Without ``step`` the row is complete, unless ``commit=False``: then the next call adds to it. With ``step`` it stays
        open until a higher step comes or ``commit=True``. Values may be numbers, text, None, lists, dicts (which nest),
        numpy and torch numbers and arrays, Histogram and Table.
        """
        if not isinstance(data, dict):
            if not isinstance(data, Mapping):
                raise TypeError(f"log() takes a dict, not {type(data).__name__}")
            data = dict(data)
        for key in data:
            if not isinstance(key, str):
                raise TypeError("the keys of what is logged must be str")
        if step is not None and self._shared:
            _say_once("in shared mode step= of log() is left out of account; define_metric() says what the x axis is (said once)")
            step = None
        if step is not None and not isinstance(step, int):
            step = int(step)
        if _media.layers_made and _media.class_labels(data, self._class_labels):
            _look(self._native.config({"_wandb": self._class_labels}), "names of classes")
        result = self._native.log(data, step, commit)
        with _lock:
            if step is not None and step > self._step:
                self._step = step
            if commit or (commit is None and step is None):
                self._step += 1
        self.summary._logged(data)
        _look(result, "a row")
        if self._native.stopped:
            self._stop()

    def define_metric(self, name: str, step_metric: Any = None, step_sync: bool | None = None, hidden: bool | None = None,
                      summary: str | None = None, goal: str | None = None, overwrite: bool | None = None) -> "Metric":
        """Says how a metric is shown: its x axis, what the summary holds, whether it is hidden.

        A ``*`` at the end of the name means all that begin so. Dots separate nesting, ``\\.`` is one in a key. ``summary``: some of
        min, max, mean, first, last, best (by ``goal``: minimize or maximize), copy, none, with commas between. With a ``step_metric``
        rows that have the metric and not the step metric get its last value, unless ``step_sync=False``. A definition adds
        to the one before, unless ``overwrite``.
        """
        if not isinstance(name, str) or not name:
            raise UsageError("define_metric() needs a name")
        if "*" in name[:-1]:
            raise UsageError(f"define_metric() takes a * at the end of a name only, not {name!r}")
        axis = step_metric.name if isinstance(step_metric, Metric) else step_metric
        if step_sync is None:
            step_sync = axis is not None
        kinds = [s.strip().lower() for s in summary.split(",")] if summary else None
        if kinds and set(kinds) - {"min", "max", "mean", "best", "last", "first", "copy", "none"}:
            raise UsageError(f"define_metric() knows no summary {summary!r}")
        if goal not in (None, "minimize", "maximize"):
            raise UsageError("goal must be minimize or maximize")
        _look(self._native.define(name, axis, bool(step_sync), bool(hidden), kinds, goal, bool(overwrite)),
              "define_metric")
        return Metric(name)

    def log_system(self, data: dict[str, Any]) -> None:
        """Logs system metrics of this moment, numbers under keys that nest: ``{"gpu.0.temp": 60}``. W&B shows them beside the run's
        own, as ``system.gpu.0.temp``. wbx samples none by itself."""
        if not isinstance(data, Mapping):
            raise TypeError(f"log_system() takes a dict, not {type(data).__name__}")
        _look(self._native.system({str(k): v for k, v in data.items()}), "system metrics")

    def alert(self, title: str, text: str, level: "str | AlertLevel | None" = None, wait_duration: Any = None) -> None:
        """Sends a mail or Slack message to whoever asked W&B for it. level: INFO, WARN or ERROR. The same title is not sent again
        within wait_duration, seconds or a timedelta; a minute if not given."""
        name = getattr(level, "value", level) or "INFO"
        if name not in ("INFO", "WARN", "ERROR"):
            raise UsageError("level must be one of 'INFO', 'WARN', or 'ERROR'")
        wait = 60 if wait_duration is None else wait_duration
        seconds = wait.total_seconds() if hasattr(wait, "total_seconds") else wait
        if not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e9:
            raise UsageError("wait_duration must be seconds or a timedelta")
        _look(self._native.alert(_plain_text(title), _plain_text(text), name, int(seconds * 1000)), "an alert")

    # -- files ---------------------------------------------------------------------------------------------

    def _save_file(self, name: str, data: bytes, policy: str) -> None:
        _look(self._native.save(name, data, policy), f"the file {name}")

    def log_artifact(self, artifact_or_path: Any, name: str | None = None, type: str | None = None, aliases: Iterable[str] | str | None = None,
                     tags: Iterable[str] | str | None = None) -> "_artifact.Artifact":
        """A version of an artifact that this run made: a wbx.Artifact, or the path of a file or directory. What is taken is taken now."""
        artifact = _artifact.of(artifact_or_path, name, type, self.id)
        _look(artifact._log(self._native, aliases, tags, self._step), f"the artifact {artifact.name}")
        return artifact

    def save(self, glob_str: Any, base_path: Any = None, policy: str = "live") -> list[str]:
        """Takes the files that fit the pattern into the run's files in W&B, under their paths below ``base_path`` (the current folder; of an absolute pattern its
        folder), and returns their names there. They are read at once. With ``policy`` live or end those that have changed are
        taken again when the run finishes; now: once."""
        if policy not in _files.POLICIES:
            raise UsageError(f"policy must be one of {', '.join(_files.POLICIES)}, not {policy!r}")
        saved, faults = self._files.save(os.fspath(glob_str), None if base_path is None else os.fspath(base_path), policy)
        for fault in faults:
            _say_once(fault)
        return saved

    def log_code(self, root: str | None = ".", name: str | None = None, include_fn: Any = None, exclude_fn: Any = None) -> list[str]:
        """Takes the Python files below root, or what include_fn(path[, root]) says and exclude_fn() does not, into the run's
        files as code/<path>: 2,000 files and 50 MiB at most."""
        return self._files.save_folder(root or ".", include_fn or (lambda path: path.endswith(".py")), exclude_fn or (lambda path: False))

    def log_benchmark(self, name: str, score: float | None, rows: Any = None, step: int | None = None) -> None:
        """Logs what a benchmark came to: ``benchmark/<name>`` is the score, ``bench/<name>`` a table of question, thought, answer and score, which W&B joins across
        runs on the question. ``rows`` are dicts or 4-tuples; a ``<think>...</think>`` at an answer's beginning is its thought. Into a
        run that has ended: wbx.attach()."""
        self.log(_benchmark.row(name, score, rows), step=step, commit=True if step is not None else None)

    # -- the console ---------------------------------------------------------------------------------------

    def _capture_console(self) -> None:
        """From now on this run has what the process prints."""
        _console.capture(self._take_output)

    def _take_output(self, stream: str, data: bytes) -> None:
        _look(self._native.output(stream, data), "output")

    # -- judge calls ---------------------------------------------------------------------------------------

    def call_start(self, op: str, inputs: dict[str, Any] | None = None, *, attributes: dict[str, Any] | None = None,
                   parent_id: str | None = None, trace_id: str | None = None, display_name: str | None = None,
                   step: int | None = None) -> str:
        """A traced call begins; its id, for call_end() and as parent_id of calls inside it."""
        result, call_id = self._native.call_start(op, inputs or {}, attributes, parent_id, trace_id, display_name,
                                                  -1 if step is None else step)
        _look(result, "a call")
        return call_id

    def call_end(self, call_id: str, output: Any = None, exception: BaseException | str | None = None) -> None:
        """The call ended, with an output or an exception."""
        if isinstance(exception, BaseException):
            exception = f"{type(exception).__name__}: {exception}"
        _look(self._native.call_end(call_id, output, exception), "a call")

    # -- life ----------------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """The number that the next row gets, as far as this process knows; with merge_rows the number of calls so far."""
        return self._step

    @property
    def tags(self) -> tuple[str, ...]:
        return self._tags

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        new = tuple(tags)
        add = [t for t in new if t not in self._tags]
        remove = [t for t in self._tags if t not in new]
        self._tags = new
        _look(self._native.tags(add, remove), "tags")

    @property
    def path(self) -> str:
        entity, project = self._named("entity", self.entity), self._named("project", self.project)
        return f"{entity}/{project}/{self.id}"

    def _named(self, what: str, given: str) -> str:
        return self._native.info()[what] or given

    @property
    def url(self) -> str | None:
        """Where the run is in the browser; None until W&B has answered for it."""
        return self._native.info()["url"] or None

    @property
    def resumed(self) -> bool:
        """The run is gone on with: W&B had it, or another process here had opened it. False until that is known."""
        info = self._native.info()
        return info["resumed"] or info["known"]

    @property
    def stopped(self) -> bool:
        """Somebody pressed Stop in W&B."""
        return self._native.stopped

    @property
    def waiting_because(self) -> str | None:
        """Why the run's data stays on this machine for now; None: nothing holds it up."""
        return self._native.info()["reason"] or None

    def _stop(self) -> None:
        if not self._told_to_stop:
            self._told_to_stop = True
            _say_once(f"somebody pressed Stop for run {self.id} in W&B: run.stopped says so")
        if self._raise_on_stop and threading.current_thread() is threading.main_thread():
            self._raise_on_stop = False  # once: what cleans up may log
            raise Stopped(f"run {self.id} was stopped in W&B")

    def _resume(self, resume: str) -> None:
        """Notes the run for the next "auto". Waits until W&B has said what it has of the run, at most a few seconds, and takes that over. Raises when the run is
        otherwise than `resume` says."""
        if self._autoresume and (fault := _resume.remember(self.id)):
            _say(f"resume=auto will not find run {self.id} again: {fault}")
        until = time.monotonic() + RESUME_TIMEOUT_MS / 1000
        self._client.flush(RESUME_TIMEOUT_MS // 2)
        result = self._native.wait(max(0, int((until - time.monotonic()) * 1000)))
        info = self._native.info()
        taken = resume == "never" and (info["known"] or info["resumed"])
        if result == -errno.EEXIST or taken:
            self._finish(0, at_exit=False, quiet=True)
            raise UsageError(f"run {self.id}: {info['reason'] or 'resume=never, and the run exists; use another id, or resume=allow'}")
        if result < 0:
            why = info["reason"] or "W&B has not answered yet"
            _say(f"run {self.id}: {why}; what is logged is kept, and goes behind what W&B has of the run")
            return
        for values, is_summary in ((self.config, False), (self.summary, True)):
            past = self._native.past(is_summary)
            if past is not None:
                values._resumed(_past(past))
        if info["next_step"] > self._step:
            self._step = info["next_step"]

    def flush(self, timeout: float = 10.0) -> bool:
        """Waits until everything logged before is on the daemon's disk; False when it took longer."""
        return self._client.flush(int(timeout * 1000)) == 0

    def mark_preempting(self) -> None:
        """This process is about to be stopped, to go on later or elsewhere: W&B is told at once, and sent what there is. For a
        handler of the signal that says so (SIGTERM); the process then ends as it likes."""
        _look(self._native.mark_preempting(), "mark_preempting()")

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """This process logs no more to the run. What is open at the end of the process is finished then, with its exit status. Returns when that is on the daemon's disk, or after two seconds; what W&B
        does not have yet is sent by the daemon. May be called twice."""
        self._finish(exit_code or 0, at_exit=False, quiet=bool(quiet))

    def _finish(self, exit_code: int, at_exit: bool, quiet: bool = False) -> None:
        with _lock:
            if self._finished:
                return
            self._finished = True
        _console.release(self._take_output)
        _native.tell_calls(0)  # calls under way in other threads have begun at least
        self._files.finish()
        _look(self._native.finish(exit_code, at_exit), "the end of the run")
        if self._autoresume and exit_code == 0:
            _resume.forget(self.id)
        if self._client.flush(FINISH_TIMEOUT_MS) < 0:
            _say_once("the daemon did not answer in time; what it does not have is kept and sent when it does")
        elif not quiet and not self._attached:
            self._tell_end()
        _forget(self)

    def _tell_end(self) -> None:
        """What W&B has of the run now, and what waits."""
        if text := self._native.end_text(WORD_TIMEOUT_MS):
            _say(text)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> bool:
        self._finish(0 if kind is None else 1, at_exit=False)
        return False

    def _label(self, **_: Any) -> None:
        """The wandb SDK's telemetry; nothing here."""

    def __repr__(self) -> str:
        return f"<wbx.Run {self.path}>"


class AlertLevel(enum.Enum):
    """How bad it is."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


class Metric:
    """What define_metric() returns, to be used as step_metric of another."""

    def __init__(self, name: str):
        self.name = name


# -- the process: one client, the runs that are open, and how it ends -------------------------------------------

_lock = threading.RLock()  # a signal handler may log or finish; nobody else's code runs under it
_client: Any = None
_open_runs: list[Run] = []


def _new_lock() -> None:
    """In a forked child: the thread that may have held the lock is not here."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_new_lock)


def _env_int(name: str) -> int | None:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else None


def _daemon_beside_python() -> str | None:
    """pip puts wbxd beside the interpreter."""
    path = os.path.join(sys.prefix, "bin", "wbxd")
    return path if os.access(path, os.X_OK) else None


def client() -> Any:
    """The process's connection to the daemon, made at first use."""
    global _client
    with _lock:
        if _client is None:
            _client = _native.Client(daemon=_daemon_beside_python(), rank=_env_int("RANK") or 0, world=_env_int("WORLD_SIZE") or 0)
        return _client


def remember(run: Run) -> None:
    _open_runs.append(run)
    _watch_worker()


def tell_begin(run: Run) -> None:
    """Says where the run is kept; its URL follows when W&B has answered."""
    _say(f"run {run.id} of project {run.project} is kept by the daemon at {run._client.socket}")


def open_run() -> Run | None:
    return _open_runs[-1] if _open_runs else None


def _forget(run: Run) -> None:
    if (ranks := sys.modules.get("wbx._trace_ranks")) is not None:
        ranks.untell(run)
    if run in _open_runs:
        _open_runs.remove(run)


def _own_runs() -> list[Run]:
    """Those that this process opened; in a forked child the others are its parent's."""
    return [run for run in _open_runs if run._pid == os.getpid()]


def _at_exit() -> None:
    """What is open ends with the process, and with its status, which only the C library gets to know. Ctrl-C is no exit: the
    interpreter ends itself with the signal."""
    runs = _own_runs()
    if runs and isinstance(getattr(sys, "last_value", None), KeyboardInterrupt) and not hasattr(sys, "ps1"):
        for run in runs:
            run._finish(128 + signal.SIGINT, at_exit=True)
    elif runs:
        runs.sort(key=lambda run: run._attached)
        for run in runs:
            _console.release(run._take_output)
            run._files.finish()
        forget = next(filter(None, (_resume.path_of(run.id) for run in runs if run._autoresume)), None)
        _native.finish_at_exit(_client, [run._native for run in runs], sum(not run._attached for run in runs), FINISH_TIMEOUT_MS, WORD_TIMEOUT_MS,
                               forget, threading.active_count() == 1)


def _at_end_of_worker() -> None:
    """A worker of multiprocessing that was forked calls no exit handlers; this is called while its exception is under way."""
    error = sys.exc_info()[1]
    code = getattr(error, "code", 1)  # of a SystemExit
    for run in _own_runs():
        run._finish(0 if error is None or code is None else code if isinstance(code, int) else 1, at_exit=True)


def _watch_worker() -> None:
    """Once in every worker of multiprocessing."""
    global _watched_pid
    util = sys.modules.get("multiprocessing.util")
    if util is None or _watched_pid == os.getpid() or sys.modules["multiprocessing"].parent_process() is None:
        return
    _watched_pid = os.getpid()
    util.Finalize(None, _at_end_of_worker, exitpriority=0)


_watched_pid = 0
atexit.register(_at_exit)


def python_version() -> str:
    return platform.python_version()
