"""Values that are more than plain Python: histograms, and what other libraries bring.

Nothing here imports numpy, torch or pandas: their objects are recognised by what they can do.
"""
from __future__ import annotations

import datetime
import sys
from typing import Any, Iterable

from . import _media
from ._table import Table, is_frame

HISTOGRAM_FROM = 32  # longer arrays are logged as histograms, as the wandb SDK does
HISTOGRAM_BINS_MAX = 512


class Histogram:
    """Counts of values in bins, from a sequence (64 bins by default, 512 at most) or from numpy.histogram's pair."""

    def __init__(self, sequence: Iterable[float] | None = None, np_histogram: tuple | None = None, num_bins: int = 64):
        if np_histogram is not None:
            counts, edges = np_histogram
            self.histogram, self.bins = _list_of(counts), _list_of(edges)
        elif sequence is not None:
            if not 1 <= num_bins <= HISTOGRAM_BINS_MAX:
                raise ValueError(f"num_bins must be 1 to {HISTOGRAM_BINS_MAX}")
            self.histogram, self.bins = _count(sequence, num_bins)
        else:
            raise ValueError("a histogram needs a sequence or np_histogram")
        if len(self.bins) != len(self.histogram) + 1:
            raise ValueError("np_histogram must be (n counts, n + 1 edges)")

    def to_json(self) -> dict:
        """As it stands in a history row."""
        return {"_type": "histogram", "values": self.histogram, "bins": self.bins}


def _list_of(values: Any) -> list:
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _count(sequence: Iterable[float], num_bins: int) -> tuple[list, list]:
    """As numpy.histogram: equal bins from the least to the greatest, the last one closed. NaNs are left out."""
    numpy = sys.modules.get("numpy")
    flat = _flatten(sequence)
    finite = [v for v in flat if v - v == 0]
    if numpy is not None:
        counts, edges = numpy.histogram(finite, bins=num_bins)
        return counts.tolist(), edges.tolist()
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    width = (high - low) / num_bins
    counts = [0] * num_bins
    for v in finite:
        counts[min(int((v - low) / width), num_bins - 1)] += 1
    return counts, [low + i * width for i in range(num_bins)] + [high]


def _flatten(values: Any) -> list[float]:
    if hasattr(values, "detach"):  # torch
        values = values.detach().cpu().float().flatten()
    elif hasattr(values, "flatten"):  # numpy
        values = values.flatten()
    return [float(v) for v in _list_of(values)]


def _is_array(value: Any) -> bool:
    return hasattr(value, "tolist") and hasattr(value, "shape")


def _array(value: Any) -> Any:
    """numpy arrays and torch tensors: one element as a number, few as a list, many as a histogram."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    size = 1
    for n in value.shape:
        size *= int(n)
    if size == 1:
        return value.item()
    if size > HISTOGRAM_FROM:
        try:
            return Histogram(value, num_bins=32).to_json()
        except (TypeError, ValueError):
            return value.tolist()
    return value.tolist()


class _Time(str):
    """A time as a text; a table's cell has the milliseconds, too."""

    _wbx_ms: int


def _time(value: Any) -> Any:
    """datetimes and dates; those without a zone are UTC, as W&B's client takes them. NaT is None."""
    if value != value:
        return None
    text = _Time(value.isoformat())
    try:
        moment = value if hasattr(value, "timestamp") else datetime.datetime(value.year, value.month, value.day)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.timezone.utc)
        text._wbx_ms = int(moment.timestamp() * 1000)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return str(text)
    return text


def plain(value: Any) -> Any:
    """What the native encoder asks for objects that it does not know, and for lists of files; never raises for what the object is."""
    if isinstance(value, (list, tuple)):
        return _media.batch(value)
    if isinstance(value, Histogram):
        return value.to_json()
    if (plot := _media.figure(value)) is not None:
        return plot
    if _is_array(value):
        return _array(value)
    if is_frame(value):
        return Table(dataframe=value)
    if hasattr(value, "isoformat"):
        return _time(value)
    if hasattr(value, "item"):  # numpy scalars that are neither index nor float
        return plain_item(value.item())
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "__dict__") and type(value).__name__ in ("Namespace", "SimpleNamespace"):
        return vars(value)
    if hasattr(value, "items"):  # a mapping that is no dict
        return dict(value.items())
    return str(value)


def plain_item(value: Any) -> Any:
    """What numpy's item() gave."""
    return _time(value) if hasattr(value, "isoformat") else value
