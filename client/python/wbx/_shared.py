"""W&B's shared mode: several machines log metrics to one run. Its options, by the names of wandb's Settings."""
from __future__ import annotations

import os
import platform
from typing import Any

_NO = ("0", "false", "no", "off", "")


def _setting(name: str, given: dict[str, Any], settings: Any) -> Any:
    """The argument, the SDK's settings= and the environment, in this order."""
    if given.get(name) is not None:
        return given[name]
    value = settings.get(name) if isinstance(settings, dict) else getattr(settings, name, None)
    return value if value is not None else os.environ.get("WANDB_" + name.upper())


def _is_true(value: Any, fallback: bool) -> bool:
    if value is None:
        return fallback
    return value.strip().lower() not in _NO if isinstance(value, str) else bool(value)


def options(given: dict[str, Any], settings: Any) -> dict[str, Any]:
    """What the native client is told; without shared mode nothing but the label."""
    label = _setting("x_label", given, settings)
    if _setting("mode", given, settings) != "shared":
        return {"label": str(label) if label else None}
    return {"shared": True, "label": str(label or platform.node()) or None,
            "primary": _is_true(_setting("x_primary", given, settings), True),
            "update_finish_state": _is_true(_setting("x_update_finish_state", given, settings), True),
            "derived_summary": _is_true(_setting("x_server_side_derived_summary", given, settings), False)}
