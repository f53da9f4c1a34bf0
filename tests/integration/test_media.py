"""Tables and files as values: what is stored of them (PROTOCOL.md, section 9)."""
from __future__ import annotations

from hashlib import sha256
from typing import Any

from daemon import Daemon, started
from msgpack_lite import unpack
from tap import Box, main, test
from trainer import trainer
from wandb import ENTITY, Fake, forwarding, key_file

# An image without a library that makes one: what is needed of a PNG's head, 2 x 3.
BEGIN = """
    import datetime, io, math
    png = wbx.Image(b"\\x89PNG\\r\\n\\x1a\\n" + b"\\0" * 8 + b"\\0\\0\\0\\2\\0\\0\\0\\3", caption="c")
    run = wbx.init(project="p", id="r")
"""
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + b"\0\0\0\2\0\0\0\3"
DIGEST = sha256(PNG).digest()
FILE = {"_type": "image-file", "ext": ".png", "size": 24, "blob": DIGEST}
FULL = {"_type": "image-file", "ext": ".png", "caption": "c", "format": "png", "width": 2, "height": 3, "size": 24, "blob": DIGEST}


def log(box: Box, code: str) -> tuple[Daemon, list[dict[str, Any]]]:
    daemon = started(box)
    t = trainer(box, BEGIN + code + """
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    t.expect_line("bye")
    assert t.wait() == 0
    return daemon, [row.body for row in daemon.store.rows(kind="log")]


def blob(daemon: Daemon, digest: bytes) -> bytes:
    for name, _, _, data in daemon.store.blobs():
        if name == digest.hex():
            return data if data is not None else (daemon.store.path / "blobs" / name[:2] / name).read_bytes()
    raise AssertionError(digest.hex())


def table(daemon: Daemon, value: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """A table's blob, and all its rows."""
    head = unpack(blob(daemon, value["blob"]))
    parts = [row for part in head.get("parts", []) for row in unpack(blob(daemon, part))]
    return head, parts + head["data"]


@test
def an_image_is_a_value_with_its_bytes_beside_it(box: Box) -> None:
    daemon, rows = log(box, """
    run.log({"img": png, "nest": {"deep": png}})
    """)
    assert rows[0]["data"] == {"img": FULL, "nest": {"deep": FULL}}, rows
    assert rows[0]["blobs"] == [DIGEST]
    assert blob(daemon, DIGEST) == PNG


@test
def lists_of_files_are_one_value(box: Box) -> None:
    _, rows = log(box, """
    run.log({"l": [png, png], "h": [wbx.Html("a"), wbx.Html("b")], "mixed": [png, wbx.Html("a")], "none": []})
    """)
    data = rows[0]["data"]
    assert data["l"] == {"_type": "images/separated", "width": 2, "height": 3, "format": "png", "count": 2, "filenames": [FILE, FILE],
                         "captions": ["c", "c"]}, data["l"]
    assert data["h"]["_type"] == "html" and [h["_type"] for h in data["h"]["html"]] == ["html-file"] * 2, data["h"]
    assert [v["_type"] for v in data["mixed"]] == ["image-file", "html-file"] and data["none"] == []


@test
def boxes_stand_with_their_image_and_say_their_classes(box: Box) -> None:
    _, rows = log(box, """
    box = {"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": 1}
    run.log({"i": wbx.Image(png, boxes={"ground": {"box_data": [box], "class_labels": {1: "cat"}}})})
    for wrong in ({"box_data": [{}]}, {"box_data": 3}):
        try:
            wbx.Image(png, boxes={"x": wrong})
        except TypeError:
            pass
        else:
            say("took", wrong)
    """)
    boxes = rows[0]["data"]["i"]["boxes"]["ground"]
    assert (boxes["_type"], boxes["ext"], boxes["class_labels"]) == ("boxes2D", ".boxes2D.json", {"1": "cat"}), boxes


@test
def a_tables_cells_keep_times_and_files(box: Box) -> None:
    daemon, rows = log(box, """
    run.log({"t": wbx.Table(columns=["a", "t", "i"], data=[[1, datetime.date(2020, 1, 2), png], [2, datetime.datetime(2020, 1, 1, 1), [png]],
                                                            [math.nan, None, {"role": "user", "content": "\\ud800\\0"}]])})
    """)
    head, cells = table(daemon, rows[0]["data"]["t"])
    assert head["columns"] == ["a", "t", "i"] and "types" not in head
    assert cells[0][2] == {"_type": "image-file", "ext": ".png", "caption": "c", "format": "png", "width": 2, "height": 3, "data": PNG}, cells[0]
    assert cells[1][2] == [cells[0][2]]
    assert [row[1] for row in cells] == [(1, (1577923200000).to_bytes(8, "big") + b"2020-01-02"),
                                         (1, (1577840400000).to_bytes(8, "big") + b"2020-01-01T01:00:00"), None]
    assert b"\xed\xa0\x80\0" in blob(daemon, rows[0]["data"]["t"]["blob"])  # the lone surrogate, as UTF-8 would have it


@test
def a_table_is_made_of_what_others_have(box: Box) -> None:
    daemon, rows = log(box, """
    class Frame:
        columns = ["a", 2]
        class values:
            tolist = staticmethod(lambda: [[1, "x"], [2, "y"]])
        def to_dict(self): return {}
    t = wbx.Table(dataframe=Frame())
    t.add_column("c", [True, False])
    t.add_data(3, "z", None)
    assert (t.get_column("c"), t.get_column(2), len(t), t.columns) == ([True, False, None], ["x", "y", "z"], 3, ["a", 2, "c"])
    for use in (lambda: t.add_data(1), lambda: t.add_column("c", [1, 2, 3]), lambda: t.add_column("d", [1]), lambda: t.get_column("none"),
                lambda: wbx.Table(log_mode="ODD"), lambda: wbx.Table(log_mode="INCREMENTAL").add_column("a", [])):
        try:
            use()
        except ValueError:
            pass
        else:
            say("did not raise")
    run.log({"t": t, "m": wbx.Table(columns=["a"], data=[[1], ["x"]], allow_mixed_types=True, optional=False, log_mode="MUTABLE")})
    """)
    data = rows[0]["data"]
    assert table(daemon, data["t"])[1] == [[1, "x", True], [2, "y", False], [3, "z", None]]
    assert table(daemon, data["t"])[0]["types"] == {"optional": [True, True, False]}
    assert data["m"]["log_mode"] == "MUTABLE"
    assert table(daemon, data["m"])[0]["types"] == {"optional": False, "mixed": True, "log_mode": "MUTABLE"}


@test
def an_incremental_table_sends_the_rows_that_are_new(box: Box) -> None:
    daemon, rows = log(box, """
    t = wbx.Table(columns=["a"], data=[[1]], log_mode="INCREMENTAL")
    run.log({"t": t})
    t.add_data(2)
    t.add_data(3)
    run.log({"t": t})
    run.log({"t": t})
    """)
    values = [row["data"]["t"] for row in rows]
    assert [(v["increment"], v["nrows"], v["log_mode"]) for v in values] == [(0, 1, "INCREMENTAL"), (1, 3, "INCREMENTAL"), (1, 3, "INCREMENTAL")], values
    assert [table(daemon, v)[1] for v in values] == [[[1]], [[2], [3]], [[2], [3]]]


@test
def tables_that_grow_cost_disk_for_what_is_new(box: Box) -> None:
    daemon, rows = log(box, """
    data = []
    for n in range(100):
        data += [[n, "x" * 1000 + str(n)] for _ in range(20)]
        run.log({"g": wbx.Table(columns=["n", "s"], data=data)})
    """)
    values = [row["data"]["g"] for row in rows]
    whole = values[-1]["size"]
    disk = sum(size for _, size, _, _ in daemon.store.blobs())
    assert disk < 4 * whole, (disk, whole)  # whole tables would be 50 times as much
    for n in (0, 1, 2, 8, 9, 64, 65, 73, 99):
        assert values[n]["nrows"] == (n + 1) * 20
        assert table(daemon, values[n])[1] == [[i, "x" * 1000 + str(i)] for i in range(n + 1) for _ in range(20)], n


@test
def a_table_that_only_looks_like_one_that_grew_is_whole(box: Box) -> None:
    daemon, rows = log(box, """
    data = [[n, "x" * 1000] for n in range(100)]
    run.log({"g": wbx.Table(columns=["n", "s"], data=data)})
    data[50][1] = "x" * 999 + "y"
    run.log({"g": wbx.Table(columns=["n", "s"], data=data + [[100, ""]])})
    run.log({"g": wbx.Table(columns=["n", "t"], data=data + [[100, ""]])})
    run.log({"g": wbx.Table(columns=["n", "t"], data=data[:99])})
    run.log({"g": wbx.Table(columns=["n", "t"], data=data[:99] + [[7, 8]])})
    """)
    heads = [table(daemon, row["data"]["g"]) for row in rows]
    assert ["parts" in head for head, _ in heads] == [False, False, False, False, True]
    assert heads[1][1][50] == [50, "x" * 999 + "y"] and len(heads[1][1]) == 101
    assert heads[4][1][-1] == [7, 8] and len(heads[4][1]) == 100


@test
def the_same_table_twice_is_stored_once(box: Box) -> None:
    daemon, _ = log(box, """
    for _ in range(2):
        run.log({"completions": wbx.Table(columns=["a"], data=[["x" * 50_000]])})
    """)
    assert [(size > 50_000, refs) for _, size, refs, _ in daemon.store.blobs()] == [(True, 2)]


@test
def what_w_and_b_will_not_show_of_a_table_is_said(box: Box) -> None:
    _, rows = log(box, """
    run.log({"t": wbx.Table(columns=["a"], data=[[n] for n in range(10_001)])})
    wbx.Table.MAX_ARTIFACT_ROWS = 20_000
    run.log({"t": wbx.Table(columns=["a"], data=[[n] for n in range(20_001)])})
    """)
    assert [row["data"]["t"]["nrows"] for row in rows] == [10_001, 20_001]
    said = (box.dir / "trainer.err").read_text()
    assert "a table of 10001 rows: W&B's media panels take the first 10000, its artifact has all" in said, said
    assert "a table of 20001 rows: W&B takes the first 20000, of them 10000 for its media panels" in said, said


@test
def tables_that_grow_arrive_whole_as_files_and_artifacts(box: Box) -> None:
    fake = Fake(box)
    daemon = started(box, models__key_file=key_file(box), **forwarding(fake))
    t = trainer(box, """
    run = wbx.init(project="p", entity="wbx-team", id="r")
    data = []
    for n in range(12):
        data += [[n, "x" * 2000 + str(n)] for _ in range(10)]
        run.log({"g": wbx.Table(columns=["n", "s"], data=data)})
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    t.expect_line("bye")
    fake.await_run("r", "finished")
    tables = fake.ask(f"/__tables?run={ENTITY}/p/r")
    assert [len(one["data"]) for one in tables] == [(n + 1) * 10 for n in range(12)], tables
    assert all(one["artifact_agrees"] for one in tables), [one["artifact_agrees"] for one in tables]
    assert tables[-1]["data"] == [[n, "x" * 2000 + str(n)] for n in range(12) for _ in range(10)]
    fake.check()


@test
def what_cannot_be_encoded_raises_where_it_is_made(box: Box) -> None:
    log(box, """
    for use in (lambda: wbx.Image("nowhere.png"), lambda: wbx.Image(png, file_type="tiff"), lambda: wbx.Video(b"x"), lambda: wbx.Video(b"x", format="avi"),
                lambda: wbx.Audio([0.0]), lambda: wbx.Html(3), lambda: wbx.Image(png, boxes=[1])):
        try:
            use()
        except (OSError, ValueError):
            pass
        else:
            say("did not raise")
    run.log({"a": wbx.Audio(b"RIFF", caption="s"), "v": wbx.Video(b"x", format="mp4"), "h": wbx.Html("<html>x", inject=False)})
    """)


main()
