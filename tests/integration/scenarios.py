"""A training script that runs with `wandb` and with `wbx` alike: scenarios.py MODULE SCENARIO RUN. test_sdk.py compares what came of both.

Not here, because wbx keeps what the SDK drops or bends (docs/ARCHITECTURE.md, "Not as the SDK does it"): empty dicts, the key "",
infinities in a config, NaN that is set in the summary, a row that logs to a map that was set there, columns of several types that did not ask for it, tables and
files in rows with an explicit step."""
from __future__ import annotations

import importlib
import math
import os
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
def globs(m: Any, run: str) -> None:
    """A glob holds for every key that begins so; a definition by name goes before it."""
    r = begin(m, run)
    r.define_metric("axis")
    r.define_metric("*", step_metric="axis")
    r.define_metric("own", summary="min")
    r.define_metric("own/*", step_metric="axis", step_sync=False, hidden=True, summary="max,first")
    r.log({"axis": 3, "any": 1, "own": 5, "deep": {"er": 2}})
    r.log({"any": 2, "own": 4, "_private": 1})
    r.log({"deep": {"er": 1}})
    r.log({"axis": 7.5})
    r.log({"text": "t", "list": [1]})
    r.finish()


@scenario
def two_globs(m: Any, run: str) -> None:
    """Both fit; the SDK takes any, so here they say the same where both do."""
    r = begin(m, run)
    r.define_metric("a/*", summary="max")
    r.define_metric("a/b/*", summary="max")
    r.define_metric("a/b/c", summary="mean")
    for v in (2, 3, 1):
        r.log({"a/x": v, "a/b/y": v, "a/b/c": v, "ab": v})
    r.finish()


@scenario
def defined_late(m: Any, run: str) -> None:
    """Definitions count from then on; statistics count from the first value."""
    r = begin(m, run)
    for v in (4, 1):
        r.log({"late": v, "glob/late": v, "nest": {"late": v}, "x": v})
    r.define_metric("late", summary="max,min,mean,first,last")
    r.define_metric("glob/*", summary="max,min")
    r.define_metric("nest.late", summary="mean", step_metric="x")
    r.define_metric("never", summary="max")
    r.define_metric("sync", step_metric="x")
    r.log({"late": 2, "glob/late": 2, "nest": {"late": 2}})
    r.log({"sync": 1})
    r.log({"x": 9})
    r.log({"sync": 2, "nest": {"late": 6}})
    r.finish()


@scenario
def redefined(m: Any, run: str) -> None:
    """A definition adds to the one before, or takes its place."""
    r = begin(m, run)
    r.define_metric("x")
    r.define_metric("y")
    r.define_metric("adds", step_metric="x", summary="min", hidden=True)
    r.define_metric("adds", summary="max")
    r.define_metric("placed", step_metric="x", summary="min", hidden=True)
    r.define_metric("placed", summary="max", overwrite=True)
    r.define_metric("none", summary="none")
    r.define_metric("none", summary="max")
    r.define_metric("hushed", summary="max")
    r.define_metric("hushed", summary="none")
    r.define_metric("turned", step_metric="x")
    r.log({"x": 1, "y": 10})
    r.log({"adds": 1, "placed": 1, "none": 1, "hushed": 1, "turned": 1})
    r.define_metric("turned", step_metric="y")
    r.define_metric("adds", overwrite=True)
    r.log({"adds": 3, "placed": 3, "none": 3, "hushed": 3})
    r.log({"turned": 3})
    r.log({"adds": 2, "placed": 2, "none": 2, "hushed": 2})
    r.finish()


@scenario
def kinds(m: Any, run: str) -> None:
    """Every kind of summary, of numbers, texts, NaN and nothing."""
    r = begin(m, run)
    all_kinds = ["min", "max", "mean", "last", "first", "copy", "none", "MIN,Max", "copy,max", "none,max", "min,max,mean,last,first"]
    for kind in all_kinds:
        for of in ("number", "nan", "text", "mixed"):
            r.define_metric(f"{of}/{kind}", summary=kind)
    for i in range(4):
        r.log({f"{of}/{kind}": {"number": [3, 1.5, 4, -1][i], "nan": [3, math.nan, 4, 1][i], "text": "dcba"[i], "mixed": ["a", None, 2, True][i]}[of]
               for of in ("number", "nan", "text", "mixed") for kind in all_kinds})
    r.finish()


@scenario
def dots(m: Any, run: str) -> None:
    r"""Dots in a name separate nesting, "\." is one in a key."""
    r = begin(m, run)
    r.define_metric(r"dot\.ted", summary="max")
    r.define_metric("plain.dots", summary="max")
    r.define_metric("a.b.c", summary="min")
    r.define_metric(r"a\.b.d", summary="min")
    r.define_metric("n.step")
    r.define_metric("of_nested", step_metric="n.step")
    r.define_metric("glob.*", step_metric="n.step", summary="max")
    for v in (2, 3, 1):
        r.log({"dot.ted": v, "plain.dots": v, "a": {"b": {"c": v}}, "a.b": {"d": v}})
        r.log({"n": {"step": v * 10}, "other": 1})
        r.log({"of_nested": v})
        r.log({"glob": {"x": v, "deep": {"y": v}}})
    r.finish()


@scenario
def axes(m: Any, run: str) -> None:
    """What counts as the last value of a step metric, and where it is put."""
    r = begin(m, run)
    r.define_metric("loss", step_metric="step")
    r.define_metric("hid", step_metric="step", step_sync=False)
    r.define_metric("second", step_metric="other")
    r.define_metric("chained", step_metric="second")
    r.log({"loss": 1})
    r.log({"step": 5}, commit=False)
    r.log({"loss": 2})
    r.log({"loss": 3, "hid": 1})
    r.log({"hid": 2})
    r.log({"step": "text"})
    r.log({"loss": 4})
    r.log({"step": None})
    r.log({"loss": 5})
    r.log({"step": True, "loss": 6})
    r.log({"loss": 7})
    r.log({"step": 2**53 + 1})
    r.log({"loss": 8})
    r.log({"step": math.nan})
    r.log({"loss": 9})
    r.log({"other": 3})
    r.log({"chained": 1, "other": 3.5})
    r.log({"second": 4, "other": 5})
    r.log({"chained": 2, "other": 6})
    r.log({"step": 1, "loss": 10}, step=40)
    r.log({"loss": 11}, step=41)
    r.log({"loss": 12, "step": 2}, step=41)
    r.log({"loss": 13}, step=42)
    r.finish()


@scenario
def times(m: Any, run: str) -> None:
    """A trainer may say itself when a row was."""
    r = begin(m, run)
    r.define_metric("poll", step_metric="_timestamp")
    r.log({"poll": 1, "_timestamp": 1000.5})
    r.log({"poll": 2, "_timestamp": 2000}, commit=False)
    r.log({"poll": 3, "_timestamp": 3000, "_step": 77})
    r.finish()


@scenario
def behind(m: Any, run: str) -> None:
    """Steps with commit, and calls without a step among them."""
    r = begin(m, run)
    r.log({"a": 1}, commit=True)
    r.log({"b": 1}, step=0 + 1)
    r.log({"b2": 1}, step=1, commit=False)
    r.log({"b3": 1}, commit=True)
    r.log({"c": 1}, step=2, commit=True)
    r.log({"d": 1}, step=4, commit=True)
    r.log({"e": 1}, commit=False)
    r.log({"f": 1}, step=5)
    r.log({"g": 1}, commit=False)
    r.log({"h": 1}, step=9)
    r.log({"i": 1})
    r.log({"j": 1})
    r.log({"k": 1}, step=11, commit=False)
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
def tables(m: Any, run: str) -> None:
    """What a table's cells may be, and its columns' types."""
    import datetime

    import numpy as np
    import pandas as pd

    r = begin(m, run)
    chat = [{"role": "user", "content": "2+2=?"}, {"role": "assistant", "content": "four"}]
    cells: list[list[Any]] = [[0, "2+2=? \u65e5", 0.25, True, None, chat, {"a": {"b": 1}}, datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)],
                              [1, "dirty \0 \x01 \x7f \ufffd \U0001f600 \"\\ \n", math.nan, False, 1.5, chat, {"a": {"b": 2}}, datetime.date(2026, 1, 3)],
                              [2, "", -math.inf, None, None, [], None, None],
                              [np.int64(3), "x" * 1000, np.float32(0.5), np.bool_(True), np.float64("nan"), None, {"a": {"b": 0.5}}, None]]
    columns = ["step", "text", "reward", "ok", "extra", "chat", "deep", "time"]
    r.log({"rollouts": m.Table(columns=columns, data=cells), "a": 1})
    r.log({"odd key/with: slash": m.Table(columns=["a"], data=[[1]])})
    r.log({"deep": {"table": m.Table(columns=["a"], data=[["x"]])}})
    r.log({"frame": pd.DataFrame({"n": [1, 2], "s": ["a", "b"], "f": [0.5, math.nan]})})
    r.log({"frame2": m.Table(dataframe=pd.DataFrame({"t": pd.to_datetime(["2026-01-02", "2026-01-03"]), "l": [[1], [2, 3]]}))})
    r.log({"array": m.Table(columns=["a", "b"], data=np.array([[1.5, 2], [3, 4]]))})
    r.log({"empty": m.Table(columns=["a"]), "default": m.Table()})
    r.log({"mixed": m.Table(columns=["a"], data=[[1], ["x"], [None]], allow_mixed_types=True)})
    r.log({"strict": m.Table(columns=["a", "b"], data=[[1, "x"]], optional=[False, True])})
    r.log({"numbers": m.Table(columns=[1, 2], data=[[1, 2]])})
    t = m.Table(columns=["a"], data=[[1], [2]], log_mode="MUTABLE")
    r.log({"grows": t})
    t.add_data(3)
    t.add_column("b", ["x", "y", "z"])
    r.log({"grows": t})
    r.log({"lists": m.Table(columns=["l"], data=[[[1, 2]], [[3]], [[]]])})
    r.log({"same": m.Table(columns=["a"], data=[["x"]])})
    r.finish()


@scenario
def media(m: Any, run: str) -> None:
    """Files as values; both encode with the same libraries."""
    import numpy as np
    from PIL import Image as Pil

    r = begin(m, run)
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    r.log({"array": m.Image(pixels, caption="a caption"), "gray": m.Image(pixels[:, :, 0]), "jpg": m.Image(pixels, file_type="jpg")})
    r.log({"pil": m.Image(Pil.new("RGBA", (3, 2))), "deep/key": {"img": m.Image(pixels, grouping=2)}})
    r.log({"list": [m.Image(pixels), m.Image(pixels[:2])], "captions": [m.Image(pixels, caption="x"), m.Image(pixels, caption="y")]})
    r.log({"html": m.Html("<html><body>x</body></html>"), "plain": m.Html("<b>y</b>", inject=False), "htmls": [m.Html("a"), m.Html("<head></head>b")]})
    os.chdir(os.environ["HOME"])
    with open("film.mp4", "wb") as f:
        f.write(b"film")
    with open("sound.wav", "wb") as f:
        f.write(b"sound")
    r.log({"film": m.Video("film.mp4", caption="c"), "sound": m.Audio("sound.wav", caption="s")})
    box = {"position": {"minX": 0.1, "maxX": 0.2, "minY": 0.3, "maxY": 0.4}, "class_id": 1, "box_caption": "cat", "scores": {"acc": 0.5}}
    r.log({"boxes": m.Image(pixels, boxes={"ground": {"box_data": [box], "class_labels": {1: "cat"}}})})
    r.log({"masks": m.Image(pixels, masks={"pred": {"mask_data": pixels[:, :, 0] % 3, "class_labels": {0: "a", 1: "b", 2: "c"}}})})
    r.log({"cells": m.Table(columns=["i", "h"], data=[[m.Image(pixels), m.Html("z")], [m.Image(pixels[:2], caption="c"), None]])})
    r.finish()


@scenario
def printed(m: Any, run: str) -> None:
    r = begin(m, run)
    w = sys.stdout.write
    print("hello", 1)
    print("world", file=sys.stderr)
    w("par")
    w("tial\n")
    for percent in (10, 20, 100):
        w(f"\r{percent}%|" + "#" * (percent // 10))
    w("\nlonger line\rsh\n\n")
    print("\x1b[31mred\x1b[0m \u6f22\u5b57 \x07\x00\ttab\rX")
    w("a\r\nb\r\n")
    r.log({"a": 1})
    r.alert("one", "text")
    r.alert(title="two", text="more", level=m.AlertLevel.ERROR, wait_duration=5)
    w("no newline at the end")
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


@scenario
def artifacts(m: Any, run: str) -> None:
    """What W&B has of the same files: digests, manifests, names, aliases, tags."""
    import pathlib
    import tempfile

    r = begin(m, run)
    with tempfile.TemporaryDirectory() as name:
        here = pathlib.Path(name)
        (here / "d/sub").mkdir(parents=True)
        (here / "d/a.bin").write_bytes(bytes(2_000_000))
        (here / "d/sub/b.txt").write_text("b")
        (here / "d/empty").touch()
        one = m.Artifact(f"training-config-{run}", "config", description="cfg", metadata={"n": 1, "nested": {"a": [1, None]}, "nan": math.nan})
        with one.new_file("config.yaml") as f:
            f.write("lr: 1e-6\nname: z\u00e4h\n")
        one.add_file(str(here / "d/sub/b.txt"), name="renamed/\u65e5.txt")
        one.add_dir(str(here / "d"), name="dir")
        one.add_dir(str(here / "d"))
        one.add_reference("odd://somewhere/x", name="far")
        r.log_artifact(one, aliases=["best", "v-1"], tags=["tagA", "tag b"])
        r.log({"a": 1})
        again = m.Artifact(f"training-config-{run}", "config")
        again.add_dir(str(here / "d"))
        r.log_artifact(again)
        r.log_artifact(str(here / "d/a.bin"), name=f"by-path-{run}", type="dataset")
        table = m.Artifact(f"with-table-{run}", "dataset")
        table.add(m.Table(columns=["q", "n", "ok"], data=[["a", 1, True], ["b", 2.5, None]]), "t")
        r.log_artifact(table)
    r.finish()


if __name__ == "__main__":
    SCENARIOS[sys.argv[2]](importlib.import_module(sys.argv[1]), sys.argv[3])
