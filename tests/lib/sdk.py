"""The wandb SDK, from PyPI, in a virtual environment of its own: what wbx is compared with."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from process import BUILD

VENV = BUILD.parent / "sdk-venv"
PACKAGES = ("wandb==0.31.0", "numpy", "pillow", "pandas")


WEAVE_VENV = BUILD.parent / "weave-venv"
WEAVE_PACKAGES = ("weave==0.54.0", "openai==3.54.0")


def sdk_python() -> Path:
    """An interpreter that has it."""
    return _python(VENV, PACKAGES)


def weave_python() -> Path:
    """One that has weave, and the client openai."""
    return _python(WEAVE_VENV, WEAVE_PACKAGES)


def _python(venv: Path, packages: tuple[str, ...]) -> Path:
    python = venv / "bin/python"
    stamp = venv / "+".join(packages)
    if not stamp.exists():
        print(f"# making {venv.name} ({', '.join(packages)})", file=sys.stderr)
        if venv.is_symlink():
            venv.unlink()  # another tree's: --clear would empty that one
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([python, "-m", "pip", "-q", "--disable-pip-version-check", "install", *packages], check=True)
        stamp.touch()
    return python
