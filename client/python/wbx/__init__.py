"""wbx: hand a run's metrics, tables and judge calls to the local wbx daemon, which brings them to Weights & Biases.

    import wbx

    run = wbx.init(project="grpo", config={"lr": 1e-6})
    run.log({"train/reward": 0.5})
    run.finish()

Names and meaning are those of ``wandb``. Nothing here waits for the network or raises for what goes wrong behind it.
"""
from __future__ import annotations

import os
import sys
from typing import Any, Iterable

from . import _console, _resume, _run, _shared
from ._native import version as __version__
from ._run import AlertLevel, Config, Error, Metric, Run, Stopped, Summary, UsageError
from ._artifact import Artifact
from ._media import Audio, BoundingBoxes2D, Classes, Html, Image, ImageMask, Plotly, Video
from ._table import Table
from ._values import Histogram

__all__ = ["Artifact", "AlertLevel", "Audio", "BoundingBoxes2D", "Classes", "Config", "Error", "Histogram", "Html", "Image", "ImageMask", "Metric", "Plotly",
           "Run", "Stopped", "Summary", "Table", "UsageError", "Video", "alert", "attach", "attributes", "config", "define_metric", "finish", "flush",
           "get_current_call", "init", "log", "log_artifact", "log_benchmark", "log_code", "login", "mark_preempting", "op", "run", "save", "summary", "thread"]

run: Run | None = None
config: Any = None
summary: Any = None


def __getattr__(name: str) -> Any:
    """What traces calls is imported by who uses it."""
    if name in ("attributes", "get_current_call", "op", "thread"):
        from . import _trace

        return getattr(_trace, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _env_tags() -> list[str] | None:
    value = os.environ.get("WANDB_TAGS")
    return value.split(",") if value else None


def init(project: str | None = None, name: str | None = None, entity: str | None = None, id: str | None = None,
         config: Any = None, group: str | None = None, tags: Iterable[str] | None = None, notes: str | None = None,
         job_type: str | None = None, resume: str | bool | None = None, reinit: bool | str | None = None, merge_rows: bool = False,
         raise_on_stop: bool = False, save_code: bool = False, console: str | None = None, label: str | None = None, token: str | bool | None = None,
         mode: str | None = None, settings: Any = None, x_label: str | None = None, x_primary: bool | None = None,
         x_update_finish_state: bool | None = None, x_server_side_derived_summary: bool | None = None, **ignored: Any) -> Run:
    """Opens a run and returns at once; the daemon makes it in W&B when it can.

    Until it is finished, the run gets what this process prints: console="off" leaves that alone. label stands with this process's output and
    system metrics, to tell it from others of the run.

    What is not given comes from WANDB_PROJECT, WANDB_NAME, WANDB_ENTITY, WANDB_RUN_ID, WANDB_RUN_GROUP, WANDB_TAGS, WANDB_NOTES, WANDB_JOB_TYPE,
    WANDB_RESUME, WANDB_CONSOLE and WANDB_X_LABEL. With a run open, that one is returned, unless ``reinit`` says otherwise: True or "finish_previous" finish it
    first, "create_new" leaves it open beside the new one.

    ``resume``: "must" (W&B has the run), "never" (it has not), "allow", or "auto": the run that did not end well in this directory, else a new one. A run
    that W&B has is gone on with in any case and never written over; with ``resume`` init() waits for W&B's answer, 5 s at most and only
    while the link is up, so that ``run.step``, ``run.config`` and ``run.summary`` hold what it has, and raises UsageError when the run is otherwise than
    "must" or "never" say. What is found out later is said by ``wbxctl status``.

    ``raise_on_stop=True``: when somebody presses Stop in W&B, the next log() of the main thread raises Stopped, once. Without it ``run.stopped`` tells.

    ``merge_rows=True`` is for trainers that log one value a call: calls without a step are one row as long as their keys differ and
    each comes within a second of the one before, or says the same value of a step metric (define_metric); ``commit=True`` ends it.

    What is known of the program goes into the run's files within five seconds, beside its work: wandb-metadata.json, requirements.txt, diff.patch, config.yaml; with
    ``save_code`` the program itself. WANDB_DISABLE_GIT, WANDB_DISABLE_CODE and WANDB_X_DISABLE_META=true leave some out, WBX_FILES=off all.

    ``mode="shared"`` is for a run to which several machines log metrics, each through a daemon of its own, or with wandb's own shared mode.
    All of them say so, with the same ``id``, from the first one on. Rows are numbered by machine, so ``step`` of log() is left out of account
    (define_metric says what the x axis is). ``x_label`` (or ``label``) names the machine in system metrics and output, else its host name does. Of
    the machines one alone should say how the run ended, and be the last: the others have ``x_update_finish_state=False``, and
    ``x_primary=False``. With ``x_server_side_derived_summary=True`` W&B makes the summary from the rows. All five, as any other ``mode``, may stand in
    ``settings=``, and in WANDB_MODE, WANDB_X_LABEL and so on.

    ``token`` lets other users of the machine join the run, when they know it (attach): a text of 16 bytes or more, or True for one
    that is made here and stands in ``run.token``.
    """
    current = _run.open_run()
    if current is not None and reinit != "create_new":
        if reinit in (None, False, "default", "return_previous"):
            return current
        current.finish()
    env = os.environ.get
    project = project or env("WANDB_PROJECT") or "uncategorized"
    values = {
        "entity": entity or env("WANDB_ENTITY"),
        "name": name or env("WANDB_NAME"),
        "group": group or env("WANDB_RUN_GROUP"),
        "job_type": job_type or env("WANDB_JOB_TYPE"),
        "notes": notes or env("WANDB_NOTES"),
        "tags": [str(t) for t in (tags or _env_tags() or [])],
    }
    is_captured = _is_captured(console, settings)
    token = _run.check_token(token)
    client = _run.client()
    resume = "auto" if resume is True else resume or env("WANDB_RESUME") or None
    if resume not in (None, "allow", "must", "never", "auto"):
        raise UsageError(f"resume must be allow, must, never or auto, not {resume!r}")
    id = id or env("WANDB_RUN_ID") or (_resume.last_id() if resume == "auto" else None)
    shared = _shared.options({"mode": mode, "x_label": label or x_label, "x_primary": x_primary, "x_update_finish_state": x_update_finish_state,
                              "x_server_side_derived_summary": x_server_side_derived_summary}, settings)
    native = client.run(project, id=id, resume=resume, program=sys.argv[0] or None,
                        python=_run.python_version(), merge_rows=merge_rows, token=token, **shared, **values)
    new = Run(client, native, project=project, attached=False, raise_on_stop=raise_on_stop, autoresume=resume == "auto", token=token,
              shared="shared" in shared, **values)
    _run.remember(new)
    if "WORLD_SIZE" in os.environ:
        from . import _trace_ranks

        _trace_ranks.tell(new)
    if is_captured:
        new._capture_console()
    if config is not None:
        new.config.update(config)
    if shared.get("primary", True):
        new._files.gather(save_code)
    _run.tell_begin(new)
    if resume is not None:
        new._resume(resume)
    _show(new)
    return new


def _is_captured(console: str | None, settings: Any) -> bool:
    """The argument, the SDK's settings= and the environment, in this order. What somebody put into the environment raises nothing."""
    if console is None and settings is not None:
        console = settings.get("console") if isinstance(settings, dict) else getattr(settings, "console", None)
    if console is not None:
        try:
            return _console.mode_of(console)
        except ValueError as e:
            raise UsageError(str(e)) from None
    return os.environ.get("WANDB_CONSOLE") != "off"


def attach(project: str, id: str, entity: str | None = None, merge_rows: bool = False, token: str | None = None) -> Run:
    """Joins a run that another process opened, to add to it. ``merge_rows`` as in init(). ``token``, which is ``run.token`` of the
    owner's process, lets join a run of another user of the machine: what is added goes out as the owner's."""
    token = _run.check_token(token)
    client = _run.client()
    native = client.attach(project, entity=entity, id=id, merge_rows=merge_rows, token=token)
    joined = Run(client, native, project=project, entity=entity, name=None, group=None, job_type=None, notes=None, tags=None,
                 attached=True, token=token)
    _run.remember(joined)
    return joined


def login(key: str | None = None, host: str | None = None, **ignored: Any) -> bool:
    """Hands your W&B key to the daemon, which keeps it and sends your runs under it: ``key``, else WANDB_API_KEY, else what
    ``wandb login`` left in ~/.netrc for ``host`` (WANDB_BASE_URL, https://api.wandb.ai). False when there is none, or no daemon
    takes it; then it says why. Nothing else ever hands over a key."""
    return _run.login(key or _run.find_key(host))


def _show(new: Run | None) -> None:
    """The module's run, config and summary are those of the open run."""
    this = sys.modules[__name__]
    this.run = new
    this.config = new.config if new is not None else None
    this.summary = new.summary if new is not None else None


def _open(what: str) -> Run:
    current = _run.open_run()
    if current is None:
        raise Error(f"call wbx.init() before wbx.{what}()")
    return current


def log(data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
    """Run.log of the open run."""
    _open("log").log(data, step=step, commit=commit)


def log_artifact(artifact_or_path: Any, name: str | None = None, type: str | None = None, aliases: Any = None, tags: Any = None) -> Artifact:
    """Run.log_artifact of the open run."""
    return _open("log_artifact").log_artifact(artifact_or_path, name, type, aliases, tags)


def save(glob_str: Any, base_path: Any = None, policy: str = "live") -> list[str]:
    """Run.save of the open run."""
    return _open("save").save(glob_str, base_path, policy)


def log_code(root: str | None = ".", name: str | None = None, include_fn: Any = None, exclude_fn: Any = None) -> list[str]:
    """Run.log_code of the open run."""
    return _open("log_code").log_code(root, name, include_fn, exclude_fn)


def log_benchmark(name: str, score: float | None, rows: Any = None, step: int | None = None) -> None:
    """Run.log_benchmark of the open run."""
    _open("log_benchmark").log_benchmark(name, score, rows, step)


def define_metric(name: str, **options: Any) -> Metric:
    """Run.define_metric of the open run."""
    return _open("define_metric").define_metric(name, **options)


def alert(title: str, text: str, level: str | AlertLevel | None = None, wait_duration: Any = None) -> None:
    """Run.alert of the open run."""
    _open("alert").alert(title, text, level, wait_duration)


def mark_preempting() -> None:
    """Run.mark_preempting of the open run."""
    _open("mark_preempting").mark_preempting()


def flush(timeout: float = 10.0) -> bool:
    """Run.flush of the open run."""
    return _open("flush").flush(timeout)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """Run.finish of the open run, if there is one."""
    current = _run.open_run()
    if current is not None:
        current.finish(exit_code)
    _show(_run.open_run())
