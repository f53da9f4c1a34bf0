"""The wandb SDK, from PyPI, in a virtual environment of its own: what wbx is compared with."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from process import BUILD

VENV = BUILD.parent / "sdk-venv"
PACKAGES = ("wandb==0.31.0", "numpy", "pillow", "pandas")


def sdk_python() -> Path:
    """An interpreter that has it."""
    python = VENV / "bin/python"
    stamp = VENV / "+".join(PACKAGES)
    if not stamp.exists():
        print(f"# making {VENV.name} ({', '.join(PACKAGES)})", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        subprocess.run([python, "-m", "pip", "-q", "--disable-pip-version-check", "install", *PACKAGES], check=True)
        stamp.touch()
    return python
