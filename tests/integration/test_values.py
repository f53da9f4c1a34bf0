"""What Python values become in a record. How the wandb SDK sends the same: test_sdk.py."""
from __future__ import annotations

import math
from typing import Any

from daemon import started
from tap import Box, main, test
from trainer import trainer
from wandb import same

# What other libraries' objects can do, without the libraries.
OTHERS = """
    class Dtype:
        def __init__(self, name): self.name = name
        def __str__(self): return self.name
    class Float:
        dtype = Dtype("float32")
        def __init__(self, v): self.v = v
        def __float__(self): return self.v
    class Int(Float):
        dtype = Dtype("int64")
        def __index__(self): return self.v
    class Bool(Float):
        dtype = Dtype("bool")
        def __float__(self): return float(self.v)
    class TorchBool(Int):
        dtype = Dtype("torch.bool")
    class Array:
        def __init__(self, rows):
            self.rows = rows
            self.shape = (len(rows), len(rows[0])) if rows and isinstance(rows[0], list) else (len(rows),)
        def tolist(self): return self.rows
        def item(self): return self.rows[0]
        def flatten(self): return self
    class Frame:
        columns = ["a", 2]
        values = Array([[1, "x"], [2, "y"]])
        def to_dict(self): return {}
    class Day:
        def isoformat(self): return "2026-11-22"
    class Odd:
        def __str__(self): return "odd"
        def __float__(self): raise RuntimeError("no")
    class Silent:
        def __str__(self): raise RuntimeError("no text either")
    from types import SimpleNamespace
    from collections import OrderedDict, UserDict
    import math
"""


def stored(box: Box, values: list[str]) -> list[Any]:
    """What is stored of each expression, logged under the key v."""
    daemon = started(box)
    t = trainer(box, OTHERS + f"""
    run = wbx.init(project="p", id="r")
    for v in [{", ".join(values)}]:
        run.log({{"v": v}})
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    t.expect_line("bye")
    assert t.wait() == 0
    return [row.body["data"]["v"] for row in daemon.store.rows(kind="log")]


def become(box: Box, wanted: dict[str, Any]) -> None:
    for (expression, want), have in zip(wanted.items(), stored(box, list(wanted)), strict=True):
        assert same(have, want), f"{expression} became {have!r}, not {want!r}"


@test
def plain_values_are_stored_as_they_are(box: Box) -> None:
    become(box, {
        "None": None, "True": True, "0": 0, "-1": -1, "2**63": 2**63, "-2**63": -(2**63), "2**64": float(2**64), "0.1": 0.1, "5e-324": 5e-324,
        "math.nan": math.nan, "-math.inf": -math.inf, "''": "", "'tsch\\u00fc\\u00df \\U0001f600'": "tsch\u00fc\u00df \U0001f600", "b'bytes'": "bytes",
        "[]": [], "(1, 'a', None)": [1, "a", None], "{}": {}, "{'a': {'b': [1, {'c': 2}]}}": {"a": {"b": [1, {"c": 2}]}}, "{1: 'one'}": {"1": "one"},
        "{3}": [3], "OrderedDict(a=1)": {"a": 1}, "UserDict(a=1)": {"a": 1}, "SimpleNamespace(a=1)": {"a": 1},
    })


@test
def numbers_of_other_libraries_are_numbers_and_their_truth_values_are_true_or_false(box: Box) -> None:
    become(box, {
        "Float(0.5)": 0.5, "Float(1.0)": 1.0, "Float(math.nan)": math.nan, "Int(-7)": -7, "Int(1)": 1, "Int(2**63)": 2**63, "Bool(True)": True,
        "Bool(False)": False, "TorchBool(1)": True, "TorchBool(0)": False, "[Float(0.5), Int(0), Bool(1)]": [0.5, 0, True],
    })


@test
def arrays_become_a_number_a_list_or_a_histogram(box: Box) -> None:
    counts = [3] + [0] * 15 + [3] + [0] * 14 + [34]
    become(box, {
        "Array([3.5])": 3.5, "Array([1, 2, 3])": [1, 2, 3], "Array([[1, 2], [3, 4]])": [[1, 2], [3, 4]],
        "Array([0.0] * 3 + [16.0] * 3 + [32.0] * 34)": {"_type": "histogram", "values": counts, "bins": [float(i) for i in range(33)]},
        "Array(['a'] * 40)": ["a"] * 40,
        "wbx.Histogram([1, 2, 2, 4], num_bins=3)": {"_type": "histogram", "values": [1, 2, 1], "bins": [1, 2, 3, 4]},
        "wbx.Histogram(np_histogram=([1, 2], [0, 1, 2]))": {"_type": "histogram", "values": [1, 2], "bins": [0, 1, 2]},
        "wbx.Histogram([])": {"_type": "histogram", "values": [0] * 64, "bins": [i / 64 for i in range(65)]},
    })


@test
def what_is_no_value_of_json_becomes_a_text(box: Box) -> None:
    have = stored(box, ["Day()", "Odd()", "Silent()", "len", "1j", "(lambda a: a.append(a) or a)([])"])
    assert have[:3] == ["2026-11-22", "odd", "<object without a text>"], have[:3]
    assert have[3] == "<built-in function len>" and have[4] == "1j", have[3:5]
    depth = 0
    inner = have[5]
    while isinstance(inner, list):
        [inner] = inner
        depth += 1
    assert inner == "<nested too deep>" and depth > 10, (depth, inner)


@test
def a_data_frame_is_a_table(box: Box) -> None:
    [value] = stored(box, ["Frame()"])
    assert value["_type"] == "table" and (value["nrows"], value["ncols"]) == (2, 2), value


@test
def a_value_above_1_mib_costs_its_row_and_no_other(box: Box) -> None:
    daemon = started(box)
    t = trainer(box, """
        run = wbx.init(project="p", id="r", config={"a": 1})
        run.log({"small": 1, "big": "x" * 1_200_000, "after": 2})
        run.log({"a" * 10: "x" * 600_000, "b": "y" * 600_000})
        run.config.update({"c": 3, "big": "x" * 1_200_000})
        run.log({"next": 2})
        run.finish()
        say("bye")
    """, socket=daemon.socket)
    t.expect_line("bye")
    assert t.wait() == 0
    rows = [(sorted(row.body["data"]), row.body.get("commit")) for row in daemon.store.rows(kind="log")]
    assert rows == [(["a" * 10], False), (["b"], True), (["next"], None)], rows
    assert [row.body["data"] for row in daemon.store.rows(kind="config")] == [{"a": 1}]


@test
def wrong_use_raises_and_costs_nothing_else(box: Box) -> None:
    daemon = started(box)
    t = trainer(box, """
        run = wbx.init(project="p", id="r")
        for kind, use in [(TypeError, lambda: run.log([1])), (TypeError, lambda: run.log({1: 2})), (ValueError, lambda: run.log({"a": 1}, step="x")),
                          (wbx.UsageError, lambda: run.define_metric("")), (wbx.UsageError, lambda: run.define_metric("a", summary="most")),
                          (wbx.UsageError, lambda: run.define_metric("a", goal="up")), (TypeError, lambda: run.config.update(3)),
                          (ValueError, lambda: wbx.Table(columns=["a"], data=[[1, 2]])), (ValueError, lambda: wbx.Histogram()),
                          (ValueError, lambda: wbx.Histogram([1], num_bins=513)), (AttributeError, lambda: run.summary.absent),
                          (KeyError, lambda: run.config["absent"])]:
            try:
                use()
            except kind as error:
                if str(error) == "":
                    say("without a word:", kind)
            else:
                say("did not raise", kind)
        run.log({"a": 1})
        run.finish()
        say("bye")
    """, socket=daemon.socket)
    t.expect_line("bye")
    assert t.wait() == 0
    assert [row.body["data"] for row in daemon.store.rows(kind="log")] == [{"a": 1}]


main()
