"""A training script that runs with `wandb` and with `wbx` alike: scenarios.py MODULE SCENARIO RUN. test_sdk.py compares what came of both.

Not here, because wbx keeps what the SDK drops or bends (docs/ARCHITECTURE.md, "Not as the SDK does it"): empty dicts, the key "",
infinities in a config, NaN that is set in the summary, a row that logs to a map that was set there."""
from __future__ import annotations

import importlib
import math
import sys
from typing import Any

SCENARIOS: dict[str, Any] = {}


def scenario(f: Any) -> Any:
    SCENARIOS[f.__name__] = f
    return f


def begin(m: Any, run: str, **more: Any) -> Any:
    return m.init(project="p", entity="wbx-team", id=run, **more)


@scenario
def values(m: Any, run: str) -> None:
    """What a value may be."""
    import numpy as np

    r = begin(m, run, name="a name", group="g", job_type="train", notes="n", tags=["x", "y"])
    rows: list[Any] = [1, -1, 2**53, 0.1, 1e300, 5e-324, True, False, None, "", "tschüß \U0001f600", math.nan, math.inf, -math.inf, [1, "a", None],
                       [], {"a": {"b": [1, {"c": 2}]}}, (1, 2), [math.nan, math.inf], np.float32(0.1), np.float64(0.1), np.int64(-7), np.bool_(True),
                       np.float64("nan"), np.array(3.5), np.arange(3), np.ones((2, 2)), [np.float32(0.5)], {"n": np.int32(1)}, {1: "one"}]
    for value in rows:
        r.log({"v": value})
    r.log({"dot.ted": 1, "slash/ed": 2, "nest": {"dot.ted": 3}, " ": 5})
    r.log({})
    r.log({"last": 1})
    r.finish()


@scenario
def config(m: Any, run: str) -> None:
    r = begin(m, run, config={"lr": 1e-6, "nested": {"a": {"b": 1}, "list": [1, {"x": 2}]}, "none": None, "flag": True, "text": "t", "tuple": (1, 2),
                              "nan": math.nan, "dot.ted": 1, "big": 2**60})
    r.config.update({"lr": 2e-6, "more": [1.5]}, allow_val_change=True)
    r.config["set"] = {"k": 1}
    r.config.update({"set": {"other": {"deep": 1}}}, allow_val_change=True)
    r.config.update({"nested": {"a": 5}, "set": {"other": {"wide": 2}}}, allow_val_change=True)
    r.config.attr = "by attribute"
    r.config.setdefaults({"lr": 3, "default": 4})
    r.log({"a": 1})
    r.config.update({"late": True})
    r.finish()


@scenario
def steps(m: Any, run: str) -> None:
    r = begin(m, run)
    r.log({"a": 1})
    r.log({"b": 1}, commit=False)
    r.log({"b2": 2}, commit=False)
    r.log({"c": 3})
    r.log({"d": 1}, step=10)
    r.log({"e": 2}, step=10)
    r.log({"d": 3}, step=10)
    r.log({"f": 1}, step=12, commit=True)
    r.log({"g": 1}, step=20, commit=False)
    r.log({"h": 1}, step=21)
    r.log({"i": 1}, commit=False)
    r.log({"j": 1}, step=30)
    r.log({"k": 1}, step=31)
    r.finish()


@scenario
def explicit(m: Any, run: str) -> None:
    r = begin(m, run)
    for i in range(1, 50, 3):
        r.log({"loss": 1 / i}, step=i)
        if i % 2:
            r.log({"eval": i}, step=i)
    r.finish()


@scenario
def metrics(m: Any, run: str) -> None:
    """define_metric, in all its ways."""
    r = begin(m, run)
    r.define_metric("epoch")
    r.define_metric("train/*", step_metric="epoch")
    r.define_metric("min", summary="min")
    r.define_metric("max", summary="max")
    r.define_metric("mean", summary="mean")
    r.define_metric("both", summary="min,max")
    r.define_metric("last", summary="last")
    r.define_metric("first", summary="first")
    r.define_metric("none", summary="none")
    r.define_metric("hide", hidden=True)
    r.define_metric("glob/*", summary="max")
    r.define_metric("nested.deep", summary="min")
    r.define_metric("sync", step_metric="axis", step_sync=True)
    for i in range(6):
        v = [3, 1, 4, 1, 5, 2][i]
        r.log({"epoch": i // 2, "axis": i, "train/loss": v / 2, "min": v, "max": v, "mean": v, "both": v, "last": v, "first": v, "none": v,
               "hide": v, "glob/a": v, "nested": {"deep": v}})
        r.log({"sync": v})
    r.log({"min": math.nan, "max": "text", "mean": None})
    r.finish()


@scenario
def summary(m: Any, run: str) -> None:
    r = begin(m, run)
    r.log({"a": 1, "b": {"c": 2, "d": 3}, "s": "text", "l": [1], "n": None})
    r.summary["set"] = 5
    r.summary.update({"up": {"x": 1}, "b": {"c": 9}})
    r.log({"a": 2})
    r.summary["a"] = 7
    r.summary["inf"] = math.inf
    r.summary["tuple"] = (1, 2)
    r.log({"z": 1, "y": {"d": 4}})
    r.log({"y": {"e": {"f": 5}}, "deep": {"x": {"y": 1}}})
    r.log({"deep": {"x": {"z": 2}, "w": None}, "l": None})
    r.summary["deep"] = {"w": 3}
    r.log({"was": {"map": 1}, "none": {"map": 1}})
    r.log({"was": 1, "none": None, "s": None})
    r.summary["was"] = {"map": {"again": 2}}
    r.summary["was"] = {"other": 1}
    r.finish()


@scenario
def histograms(m: Any, run: str) -> None:
    import numpy as np

    r = begin(m, run)
    r.log({"h": m.Histogram([1, 2, 2, 3, 9])})
    r.log({"h": m.Histogram(np.arange(100), num_bins=10)})
    r.log({"h": m.Histogram(np_histogram=np.histogram([1, 2, 3, 4], bins=4))})
    r.log({"a": np.arange(100)})  # above 32 elements: a histogram
    r.log({"deep": {"h": m.Histogram([1.0])}})
    r.finish()


@scenario
def failed(m: Any, run: str) -> None:
    r = begin(m, run)
    r.log({"a": 1})
    r.finish(exit_code=3)


@scenario
def raised(m: Any, run: str) -> None:
    r = begin(m, run)
    r.log({"a": 1})
    raise ValueError("the script ends so")


@scenario
def forgotten(m: Any, run: str) -> None:
    """No finish(): the interpreter's end is one."""
    begin(m, run)
    m.log({"a": 1})
    m.log({"a": 2}, step=5)
    m.log({"b": 2}, commit=False)
    m.summary["s"] = 1
    m.config.update({"c": 1})


if __name__ == "__main__":
    SCENARIOS[sys.argv[2]](importlib.import_module(sys.argv[1]), sys.argv[3])
