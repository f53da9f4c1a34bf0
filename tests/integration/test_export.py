"""wbxctl export: the rows that it tells from the store are those that W&B has, whatever gave them their numbers."""
from __future__ import annotations

import csv
import io
import json
import math

from client import greeted, now_us
from ctl import Ctl
from delivery import Logged, some_rows, steered
from tap import Box, main, test, until
from wandb import Fake, same

DATA, USAGE = 65, 64


def exported(ctl: Ctl, run: str = "r", code: int = 0) -> list[dict]:
    return [json.loads(line) for line in ctl("export", "--jsonl", run, code=code).splitlines()]


def are_the_same(fake: Fake, rows: list[dict], run: str = "r", first: int = 0) -> None:
    """Every key and value, W&B's own (_step, _timestamp, _runtime) too."""
    held = fake.rows(run)[first:]
    assert len(rows) == len(held), f"{len(rows)} rows, W&B has {len(held)}"
    for mine, theirs in zip(rows, held):
        assert same(mine, theirs), f"{mine} is not {theirs}"


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


ODD = [
    {"loss": 0.1, "text": 'a "quoted", text\r\nof two lines', "deep": {"a": {"b": 1}, "c": [1, {"x": None}]}},
    {"loss": math.nan, "up": math.inf, "down": -math.inf, "none": None, "yes": True, "empty": "", "nothing": {}},
    {"loss": 1e-300, "big": 2**63, "deep": {"a": {"b": -7}, "new": "x"}, "media": {"_type": "html", "path": "p.html"}, "späce ": " ä "},
]


@test
def rows_are_exported_as_wandb_has_them(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *ODD, *some_rows(700))
        run.finish(c)
    fake.await_run("r", "finished")
    are_the_same(fake, exported(ctl))
    are_the_same(fake, exported(ctl, "wbx-team/p/r"))
    lines = ctl("export", "--jsonl", "r").splitlines()
    assert '"loss":NaN' in lines[1] and '"up":Infinity' in lines[1], lines[1]
    daemon.stop()
    assert [json.loads(line) for line in ctl("export", "--jsonl", "r").splitlines()][3] == json.loads(lines[3])


@test
def a_csv_has_a_column_for_each_key_and_the_same_values(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        Logged("r").open(c).log(c, *ODD).finish(c)
    fake.await_run("r", "finished")
    file = box.dir / "r.csv"
    assert ctl("export", "--csv", "-o", file, "r") == ""
    text = file.read_bytes().decode()
    head, first, second, third = table(text)[0].keys(), *table(text)
    assert list(head) == ["_step", "_timestamp", "_runtime", "loss", "text", "deep.a.b", "deep.c", "up", "down", "none", "yes", "empty",
                          "nothing", "big", "deep.new", "media", "späce "], list(head)
    assert first["_step"] == "0" and first["loss"] == "0.1" and first["text"] == ODD[0]["text"] and first["up"] == ""
    assert json.loads(first["deep.c"]) == [1, {"x": None}] and first["deep.a.b"] == "1"
    assert second["loss"] == "NaN" and second["up"] == "Infinity" and second["down"] == "-Infinity" and second["yes"] == "true"
    assert second["none"] == "" and second["empty"] == "" and second["nothing"] == "{}"
    assert ',"",' in text.splitlines()[3], "an empty text is told from none"
    assert third["big"] == str(2**63) and json.loads(third["media"]) == ODD[2]["media"] and third["späce "] == " ä "
    held = fake.rows("r")
    assert [float(row["_timestamp"]) for row in table(text)] == [row["_timestamp"] for row in held]
    assert "is there already" in ctl.run("export", "--csv", "-o", file, "r").err
    assert file.stat().st_mode & 0o777 == 0o600
    daemon.stop()
    result = ctl.run("export", "--csv", "r")
    assert result.code == 0 and result.out == text.replace("\r\n", "\n") and "the daemon is not running" in result.err, str(result)


@test
def what_is_merged_and_late_is_as_in_wandb(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as a, greeted(daemon.socket) as b:
        for c in (a, b):
            c.open_run("r")
        a.send("define", run="r", t=now_us(), name="eval/*", step_metric="epoch", step_sync=True)
        for step in (0, 3, 7):
            for c, name in ((a, "left"), (b, "right")):
                c.send("log", run="r", t=now_us(), data={name: step, "both": {name: step}}, step=step)
                c.flush()
        a.send("log", run="r", t=now_us(), data={"epoch": 1}, step=8)
        a.flush()
        b.send("log", run="r", t=now_us(), data={"eval/x": 0.5}, step=9)
        b.flush()
        a.send("log", run="r", t=now_us(), data={"late": 1}, step=3)
        for c in (a, b):
            c.finish("r")
    fake.await_run("r", "finished")
    are_the_same(fake, exported(ctl))
    daemon.stop()
    are_the_same(fake, exported(ctl))


@test
def calls_that_were_gathered_into_rows_are_told_as_such(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        c.send("run", run="r", t=now_us(), project="p", entity="wbx-team", merge_rows=True)
        for step in range(5):
            for key in ("loss", "reward", "kl"):
                c.send("log", run="r", t=now_us(), data={key: step})
        c.finish("r")
        c.flush()
    fake.await_run("r", "finished")
    rows = exported(ctl)
    assert len(rows) < 15, rows
    are_the_same(fake, rows)


@test
def rows_of_a_run_that_goes_on_are_told_as_far_as_they_are(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.stop()
    with greeted(daemon.socket) as c:
        Logged("r").open(c).log(c, *some_rows(5))
        c.send("log", run="r", t=now_us(), data={"x": 1}, step=9)
        c.flush()
        result = ctl.run("export", "--jsonl", "r")
        assert result.code == 0 and len(result.out.splitlines()) == 5, str(result)
        assert "1 log call belongs to a row that is not complete yet" in result.err
        assert "W&B does not have the run yet" in result.err
        c.finish("r")
        c.flush()
    assert [row["_step"] for row in exported(ctl)] == [0, 1, 2, 3, 4, 9]


FOREIGN = [{"_step": s, "_timestamp": 1, "_runtime": 1, "x": s} for s in range(40)]


@test
def numbers_behind_another_writer_are_told_again(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.ask("/__run", {"run": "wbx-team/p/r", "create": True, "foreign_rows": FOREIGN[:30]})
    with greeted(daemon.socket) as client:
        Logged("r").open(client).log(client, *some_rows(5))
        client.flush()
        fake.await_rows("r", 35)
        until(lambda: daemon.store.query("SELECT done_offset FROM run") == [(35,)], "the daemon knows that they are there")
        daemon.kill9()
        fake.ask("/__run", {"run": "wbx-team/p/r", "foreign_rows": [r | {"_step": r["_step"] + 5} for r in FOREIGN[30:]]})
        daemon.start()
    with greeted(daemon.socket, client.producer) as again:
        again.seq = client.seq
        Logged("r").log(again, *some_rows(5, 5)).finish(again)
    fake.await_run("r", "finished")
    daemon.await_log("somebody else wrote")
    rows = exported(ctl)
    assert [row["_step"] for row in rows] == [*range(30, 35), *range(45, 50)], rows
    are_the_same(Mine(fake, 30, 35, 45, 50), rows)


@test
def rows_that_were_numbered_anew_because_somebody_else_wrote_are_told_so(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as client:
        Logged("r").open(client).log(client, *some_rows(3))
        client.flush()
        fake.await_rows("r", 3)
        until(lambda: daemon.store.query("SELECT done_offset FROM run") == [(3,)], "the daemon knows that they are there")
        fake.fault({"kind": "filestream"}, {"status": 503}, count=-1)
        Logged("r").log(client, *some_rows(4, 3))
        client.flush()
        until(lambda: daemon.store.query("SELECT next_offset FROM run") == [(7,)], "four rows are planned")
        daemon.kill9()
        fake.clear_faults()
        fake.ask("/__run", {"run": "wbx-team/p/r", "foreign_rows": [r | {"_step": r["_step"] + 3} for r in FOREIGN[:10]]})
        daemon.start()
    with greeted(daemon.socket, client.producer) as again:
        again.seq = client.seq
        Logged("r").log(again, *some_rows(3, 7)).finish(again)
    fake.await_run("r", "finished")
    rows = exported(ctl)
    assert [row["_step"] for row in rows] == [0, 1, 2, *range(13, 20)], rows
    are_the_same(Mine(fake, 0, 3, 13, 20), rows)
    file = box.dir / "r.csv"
    ctl("export", "--csv", "-o", file, "r")
    assert [row["_step"] for row in table(file.read_text())] == [str(row["_step"]) for row in rows]


class Mine:
    """Rows first..end and first..end of those that W&B has."""

    def __init__(self, fake: Fake, *bounds: int) -> None:
        self.fake, self.bounds = fake, bounds

    def rows(self, run: str) -> list[dict]:
        rows = self.fake.rows(run)
        return [row for first, end in zip(self.bounds[::2], self.bounds[1::2]) for row in rows[first:end]]


@test
def the_number_that_a_dead_letter_took_when_it_was_sent_again_is_no_row_s(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.fault({"kind": "filestream", "body": "poison"}, {"status": 400}, count=-1)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, {"n": 0}, {"n": 1, "poison": 1}, {"n": 2})
        c.flush()
        ctl.await_dead(1)
        fake.clear_faults()
        ctl("dead", "retry", "--all")
        fake.await_rows("r", 3)
        run.log(c, {"n": 3}).finish(c)
    fake.await_run("r", "finished")
    result = ctl.run("export", "--jsonl", "r")
    assert [(row["_step"], row["n"]) for row in fake.rows("r")] == [(0, 0), (2, 2), (3, 1), (4, 3)]
    assert [(row["_step"], row["n"]) for row in map(json.loads, result.out.splitlines())] == [(0, 0), (1, 1), (2, 2), (4, 3)]


@test
def a_part_of_a_run_is_never_taken_for_the_whole(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.ask("/__run", {"run": "wbx-team/p/r", "create": True, "foreign_rows": FOREIGN[:7]})
    wide = [row | {"pad": "x" * 1000} for row in some_rows(6000)]
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c)
        c.send("define", run="r", t=now_us(), name="*", step_metric="n", step_sync=True)
        for at in range(0, len(wide), 500):
            run.log(c, *wide[at:at + 500])
            c.flush()
        run.finish(c)
    fake.await_run("r", "finished")
    assert ctl.run("export", "--jsonl", "r").code == 0
    daemon.stop()
    [(marks,)] = daemon.store.query("SELECT count(*) FROM waypoint")
    assert marks > 4, marks
    daemon.settings["store.keep"] = 4 << 20
    daemon.start()
    until(lambda: daemon.store.query("SELECT sum(length(payload)) FROM record")[0][0] <= 4 << 20, "retention has removed rows")
    result = ctl.run("export", "--jsonl", "r")
    assert result.code == DATA, str(result)
    rows = [json.loads(line) for line in result.out.splitlines()]
    first = rows[0]["_step"]
    assert f"rows before _step {first} were delivered and are not in this store any more" in result.err, result.err
    assert 500 < first < 6000
    are_the_same(fake, rows, first=first)
    csv_file = box.dir / "part.csv"
    ctl("export", "--csv", "-o", csv_file, "r", code=DATA)
    assert table(csv_file.read_text())[0]["_step"] == str(first)


@test
def what_cannot_be_exported_is_said(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        for project in ("p", "q"):
            c.send("run", run="r" if project == "p" else "s", t=now_us(), project=project, entity="wbx-team")
        c.flush()
    with greeted(daemon.socket) as c:
        c.send("run", run="r", t=now_us(), project="q", entity="wbx-team")
        c.flush()
    assert "there is no run of that name" in ctl.run("export", "--csv", "none").err
    ctl("export", "--csv", "none", code=DATA)
    assert "say entity/project/id" in ctl.run("export", "--csv", "r").err
    ctl("export", "--csv", "wbx-team/q/r")
    ctl("export", "r", code=USAGE)
    ctl("export", "--csv", "--jsonl", "r", code=USAGE)
    assert ctl("export", "--csv", "s") == ""


main()
