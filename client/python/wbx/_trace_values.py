"""What arguments and results of traced calls become: plain values, and of everything else a short description.

Nothing is asked for its text: that may be long, slow, or hold secrets. Nothing is imported for it either.
"""
from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import io
import os
import sys
from typing import Any

from . import _native

ARRAY_ITEMS_MAX = 64  # a larger array is described
TEXT_MAX = 200


def _kind(value: Any) -> str:
    return type(value).__qualname__


def _named(value: Any) -> str | None:
    """Functions, classes and modules: by their names."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(name, str) or not (callable(value) or type(value).__name__ == "module"):
        return None
    owner = getattr(value, "__self__", None)
    if owner is not None and not isinstance(owner, type) and type(owner).__name__ != "module":
        return f"<bound method {name} of {_kind(owner)}>"
    return f"<{type(value).__name__} {name}>"


def _array(value: Any) -> Any:
    """Of numpy, torch, jax."""
    shape = tuple(int(n) for n in value.shape)
    size = 1
    for n in shape:
        size *= n
    if size <= ARRAY_ITEMS_MAX:
        return value.detach().cpu().tolist() if hasattr(value, "detach") else value.tolist()
    return f"<{_kind(value)} {value.dtype} {'x'.join(map(str, shape))}>"


def _bytes(value: bytes | bytearray) -> str:
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        return "data:application/octet-stream;base64," + base64.b64encode(value).decode()


def _image(value: Any) -> str:
    """Of PIL: as it can be shown."""
    out = io.BytesIO()
    value.save(out, format="PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _fields(value: Any) -> dict[str, Any]:
    return {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}


def _trainer_state(value: Any) -> dict[str, Any] | None:
    """transformers' grows with every step."""
    if not (hasattr(value, "global_step") and hasattr(value, "log_history")):
        return None
    return {"_class": _kind(value)} | {k: getattr(value, k, None) for k in ("global_step", "max_steps", "epoch")}


def _object(value: Any) -> Any:
    if (state := _trainer_state(value)) is not None:
        return state
    if dataclasses.is_dataclass(value):
        return {"_class": _kind(value)} | _fields(value)
    if isinstance(type(value).__dict__.get("model_fields", getattr(type(value), "model_fields", None)), dict):  # pydantic
        return value.model_dump(exclude_none=True) if hasattr(value, "model_dump") else vars(value)
    if _kind(value) in ("Namespace", "SimpleNamespace"):
        return vars(value)
    if hasattr(value, "to_dict") and hasattr(value, "columns"):  # pandas
        return f"<{_kind(value)} {'x'.join(str(int(n)) for n in value.shape)}>"
    if hasattr(type(value), "keys") and hasattr(type(value), "items"):  # a mapping that is no dict
        return dict(value.items())
    return f"<{type(value).__module__}.{_kind(value)} object>"


def describe(value: Any) -> Any:
    """What the encoder asks for objects that it does not know. What raises here becomes the name of its type."""
    if isinstance(value, (bytes, bytearray)):
        return _bytes(value)
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value.value, (str, int, float)) else value.name
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, BaseException):
        return f"{_kind(value)}: {value}"[:TEXT_MAX]
    if hasattr(value, "shape") and hasattr(value, "dtype") and hasattr(value, "tolist"):
        return _array(value)
    if (image := sys.modules.get("PIL.Image")) is not None and isinstance(value, image.Image):
        return _image(value)
    if (name := _named(value)) is not None:
        return name
    return _object(value)


_native.set_trace_hook(describe)
