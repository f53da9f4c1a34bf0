"""resume="auto": the run that did not end well is gone on with. Its id lies where the wandb SDK keeps it, so that either finds what the other left."""
from __future__ import annotations

import json
import os
from pathlib import Path


def _path() -> Path:
    root = Path(os.environ.get("WANDB_DIR") or os.getcwd()).expanduser()
    return root / (".wandb" if (root / ".wandb").exists() else "wandb") / "wandb-resume.json"


def last_id() -> str | None:
    """Of the run that did not end well here; None: there is none, or the file cannot be read."""
    try:
        found = json.loads(_path().read_text()).get("run_id")
    except (OSError, RuntimeError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) and found else None


def remember(run_id: str) -> str | None:
    """Notes the run until it ends well; why that failed, or None."""
    try:
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps({"run_id": run_id}))
        fresh.replace(path)
    except (OSError, RuntimeError) as e:
        return str(e)
    return None


def path_of(run_id: str) -> str | None:
    """The file in which this run is noted, if it is."""
    return str(_path().absolute()) if last_id() == run_id else None


def forget(run_id: str) -> None:
    """The run ended well."""
    try:
        if path := path_of(run_id):
            Path(path).unlink(missing_ok=True)
    except (OSError, RuntimeError):
        pass  # the next start with "auto" goes on with it once more
