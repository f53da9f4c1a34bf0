"""Files on their way: tables, and whatever else a run has, reach W&B whole and once, whatever the storage does meanwhile."""
from __future__ import annotations

import hashlib
import json
import random
import urllib.request
from typing import Any
from urllib.parse import quote

from client import Client, greeted, now_us
from daemon import Daemon
from delivery import sending, some_rows, steered
from msgpack_lite import pack
from narrow import DaemonBehind, Narrow
from tap import FULL, Box, Skip, main, test, until
from wandb import ENTITY, Fake, forwarding, key_file, own

STORAGE = {"kind": "storage", "path": f"^/storage/{ENTITY}/"}  # files of runs; those of artifacts go elsewhere
PLACES = {"kind": "graphql", "op": "WbxRunFiles"}


def cells(rows: int, width: int = 20, seed: int = 0) -> list[list[Any]]:
    words = random.Random(seed)
    return [[n, "".join(words.choices("abcdefgh \n\"", k=width)), n / 7, n % 2 == 0, None] for n in range(rows)]


COLUMNS = ["n", "text", "reward", "ok", "nothing"]


class Tables:
    """A run that logs tables, and what W&B should then have of it."""

    def __init__(self, client: Client, name: str = "r") -> None:
        self.client = client
        self.name = name
        self.tables: list[tuple[str, list[list[Any]]]] = []
        self.blobs = 0
        client.open_run(name)

    def log(self, data: list[list[Any]], key: str = "rollouts", **row: Any) -> "Tables":
        self.blobs += 1
        blob = pack({"columns": COLUMNS, "data": data})
        digest = self.client.blob(self.blobs, blob)
        table = {"_type": "table", "blob": digest, "size": len(blob), "ncols": len(COLUMNS), "nrows": len(data)}
        self.client.send("log", run=self.name, t=now_us(), data={key: table, **row}, blobs=[digest])
        self.tables.append((key, data))
        return self

    def finish(self) -> "Tables":
        self.client.finish(self.name)
        return self

    def are_there(self, fake: Fake) -> None:
        """Cell by cell; and the run's own check of what its history names."""
        got = fake.ask(f"/__tables?run={ENTITY}/p/{self.name}")
        assert [(t["key"], t["columns"], t["data"]) for t in got] == [(k, COLUMNS, d) for k, d in self.tables]
        assert all(t["source"] == "file" for t in got)

    def are_delivered(self, fake: Fake) -> None:
        fake.await_run(self.name, "finished")
        self.are_there(fake)
        self.is_well(fake)

    def is_well(self, fake: Fake) -> None:
        verdict = fake.ask("/__check?final=1")
        errors = verdict["errors"]
        assert not errors and not verdict["warnings"], json.dumps(verdict, indent=1)


def puts(fake: Fake) -> list[str]:
    """Paths of run files that the storage took, in their order."""
    head = f"/storage/{ENTITY}/p/"
    return [e["path"].split("?")[0].removeprefix(head) for e in fake.requests("storage") if e["path"].startswith(head) and e.get("status") == 200]


def nothing_is_left(daemon: Daemon) -> None:
    until(lambda: daemon.store.query("SELECT count(*) FROM upload") == [(0,)], "no upload is left")


@test
def a_table_is_in_w_and_b_cell_by_cell_and_its_run_ends_then(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        run = Tables(c).log(cells(50), reward=0.5).log([], key="nested/empty").log(cells(3, seed=1)).finish()
    run.are_delivered(fake)
    [row, *_] = fake.rows("r")
    value = row["rollouts"]
    assert value["_type"] == "table-file" and value["path"].startswith("media/table/rollouts_0_") and value["nrows"] == 50
    uploaded = [p for e in fake.ask("/__log") if e["kind"] == "filestream" for p in e["body"].get("uploaded", [])]
    assert sorted(uploaded) == sorted({own(r)[k]["path"] for r in fake.rows("r") for k in own(r) if isinstance(own(r)[k], dict)})
    nothing_is_left(daemon)
    ctl.await_healthy()
    daemon.store.check()


@test
def the_same_table_again_goes_once(box: Box) -> None:
    fake, daemon = sending(box)
    data = cells(20)
    with greeted(daemon.socket) as c:
        run = Tables(c).log(data).log(data)
        c.flush()
        fake.await_rows("r", 2)
        run.log(data).finish()
    run.are_delivered(fake)
    assert len({r["rollouts"]["path"] for r in fake.rows("r")}) == 1
    assert len({r["rollouts"]["artifact_path"] for r in fake.rows("r")}) == 1
    assert len(puts(fake)) == 1


@test
def a_place_that_has_expired_is_asked_for_anew(box: Box) -> None:
    fake, daemon = sending(box)
    expired = fake.fault(STORAGE, {"status": 403, "body": "Request has expired"}, count=3)
    with greeted(daemon.socket) as c:
        run = Tables(c).log(cells(10)).finish()
    run.are_delivered(fake)
    assert fake.hits(expired) == 3
    asked = [e for e in fake.requests("graphql") if e.get("op") == "WbxRunFiles"]
    assert len(asked) == 4


@test
def a_storage_that_is_ill_or_resets_gets_the_same_bytes_again(box: Box) -> None:
    fake, daemon = sending(box)
    faults = [fake.fault(STORAGE, then) for then in (
        {"status": 500}, {"status": 503, "retry_after": 0}, {"reset": "mid_body"}, {"reset": "before"}, {"reset": "after"}, {"truncate": 3},
        {"status": 429, "retry_after": 0})]
    places = [fake.fault(PLACES, then) for then in ({"status": 502}, {"garbage": True}, {"reset": "after"})]
    with greeted(daemon.socket) as c:
        run = Tables(c).log(cells(3000, 200)).log(cells(5), key="other").finish()
    run.are_delivered(fake)
    assert all(fake.hits(f) == 1 for f in faults + places)


@test
def what_the_storage_refuses_for_good_is_set_aside_and_a_person_may_send_it_again(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    refusal = fake.fault(STORAGE, {"status": 413}, count=1)
    with greeted(daemon.socket) as c:
        run = Tables(c).log(cells(10), n=1).finish()
    fake.await_hits(refusal)
    fake.await_run("r", "finished")
    [dead] = until(lambda: ctl.dead() or None, "a dead letter")
    assert dead["what"] == "file" and dead["status"] == 413, dead
    assert "Signature" not in json.dumps(dead)
    ctl("dead", "retry", dead["id"])
    until(lambda: fake.ask(f"/__tables?run={ENTITY}/p/r")[0]["source"] == "file", "the file is there")
    until(lambda: ctl.dead() == [], "no dead letter is left")
    fake.await_run("r", "finished")
    run.are_there(fake)
    nothing_is_left(daemon)


@test
def a_refused_name_among_several_is_found_and_the_others_go(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.fault({**PLACES, "body": "poison"}, {"status": 400, "body": {"error": "no such name"}}, count=-1)
    with greeted(daemon.socket) as c:
        run = Tables(c)
        for key in ("a", "b", "poison", "c"):
            run.log(cells(4), key=key)
        run.finish()
    fake.await_run("r", "finished")
    got = {t["key"]: t["source"] for t in fake.ask(f"/__tables?run={ENTITY}/p/r")}
    assert {k for k, source in got.items() if source == "file"} == {"a", "b", "c"}
    [dead] = ctl.dead()
    assert dead["what"] == "file" and "no such name" in dead["reason"], dead


@test
def rows_do_not_wait_for_a_storage_that_hangs(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    slow = fake.fault(STORAGE, {"slow_in": 20000}, count=1)
    with greeted(daemon.socket) as c:
        run = Tables(c).log(cells(2000, 300))  # 700 kB: half a minute
        c.flush()
        fake.await_rows("r", 1)
        for row in some_rows(20):
            c.send("log", run="r", t=now_us(), data=row)
        c.flush()
        fake.await_rows("r", 21)
        assert not puts(fake)  # it is on its way yet
        assert fake.run("r")["state"] == "running"
        c.finish("r")
    assert fake.hits(slow) <= 1
    until(lambda: daemon.store.query("SELECT state FROM run") == [(3,)], "the run waits for its table")


@test
def a_daemon_killed_at_any_state_of_an_upload_sends_it_whole(box: Box) -> None:
    fake, daemon = sending(box)
    points = ("plan.committed:1", "upload.answered:1", "upload.answered:2", "upload.marked:1")
    data = [cells(400, 50, seed) for seed in range(12)]  # eight of them are under way at a time
    fake.fault({"kind": "any"}, {"status": 503}, count=-1)  # nothing is planned before the first of them
    daemon.restart()
    with greeted(daemon.socket) as c:
        run = Tables(c)
        for table in data:
            run.log(table)
        c.flush()
        producer = c.producer
    daemon.kill9()
    fake.clear_faults()
    for point in points:
        daemon.start(WBX_FAULT=point).process.wait(60)
    daemon.start()
    with greeted(daemon.socket, producer) as c:
        c.open_run("r")
        c.finish("r")
    run.are_delivered(fake)
    nothing_is_left(daemon)


PNG = bytes.fromhex("89504e470d0a1a0a") + b"not quite a picture"


def image(data: bytes, **more: Any) -> dict[str, Any]:
    return {"_type": "image-file", "blob": data, "ext": ".png", "format": "png", "width": 1, "height": 2, **more}


def whole_file(fake: Fake, path: str, run: str = "r") -> bytes:
    with urllib.request.urlopen(f"{fake.url}/__file?run={ENTITY}/p/{run}&path={quote(path)}") as answer:
        return answer.read()


@test
def files_in_values_are_sent_and_named_as_the_sdk_names_them(box: Box) -> None:
    fake, daemon = sending(box)
    with greeted(daemon.socket) as c:
        c.open_run("r")
        one, two, mask, sound = (c.blob(n, PNG + bytes([n]) * n) for n in (1, 2, 3, 4))
        data = {"one": image(one, caption="a", masks={"m": {"_type": "mask", "blob": mask, "ext": ".mask.png", "class_labels": {"1": "cat"}}}),
                "deep": {"list": {"_type": "images/separated", "width": 1, "height": 2, "format": "png", "count": 2,
                                  "filenames": [image(one), image(two)], "captions": ["x", "y"]}},
                "talk": {"_type": "audio", "count": 1, "sampleRates": [8000], "durations": [1.5],
                         "audio": [{"_type": "audio-file", "blob": sound, "ext": ".wav", "caption": "hm"}]},
                "plain": [1, {"blob": 3}]}
        c.send("log", run="r", t=now_us(), data=data, blobs=[one, two, mask, sound])
        again = c.blob(5, PNG + bytes([1]))  # each record brings its own
        c.send("log", run="r", t=now_us(), data={"one": image(again)}, blobs=[again])
        c.finish("r")
    fake.await_run("r", "finished")
    first, second = map(own, fake.rows("r"))
    sha = {name: hashlib.sha256(PNG + bytes([n]) * n).hexdigest() for n, name in enumerate(("one", "two", "mask", "sound"), 1)}
    value = first["one"]
    assert value["path"] == f"media/images/one_0_{sha['one'][:20]}.png" and value["sha256"] == sha["one"] and value["size"] == len(PNG) + 1
    assert value["caption"] == "a" and "blob" not in value and "ext" not in value
    assert value["masks"]["m"] == {"_type": "mask", "path": f"media/images/mask/one_0_{sha['mask'][:20]}.mask.png", "sha256": sha["mask"],
                                   "size": len(PNG) + 3}
    assert first["deep"]["list"]["filenames"] == [f"media/images/list_0_{sha[n][:20]}.png" for n in ("one", "two")]
    assert first["deep"]["list"]["captions"] == ["x", "y"]
    [talk] = first["talk"]["audio"]
    assert talk == {"_type": "audio-file", "path": f"media/audio/talk_0_{sha['sound'][:20]}.wav", "sha256": sha["sound"], "size": len(PNG) + 4,
                    "caption": "hm"}
    assert first["plain"] == [1, {"blob": 3}]
    assert second["one"]["path"] == value["path"], "the same picture is the same file"
    assert len(puts(fake)) == 5 == len(set(puts(fake)))
    assert whole_file(fake, talk["path"]) == PNG + bytes([4]) * 4
    fake.check()
    nothing_is_left(daemon)


@test
def files_that_nothing_names_are_sent_and_the_newest_of_a_path_counts(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    hold = fake.fault(PLACES, {"status": 503}, count=-1)
    with greeted(daemon.socket) as c:
        c.open_run("r")
        number = 0

        def save(path: str, data: bytes, policy: str = "now") -> None:
            nonlocal number
            number += 1
            blobs = [c.blob(number, data)] if data else []
            c.send("file", run="r", t=now_us(), path=path, size=len(data), policy=policy, blobs=blobs)

        save("config.yaml", b"lr: 1")
        save("code/train.py", b"print(1)\n" * 100_000)
        save("empty.txt", b"")
        save("end.txt", b"first", "end")
        save("../etc/passwd", b"no")
        c.flush()
        fake.await_hits(hold)
        save("config.yaml", b"lr: 2")
        save("config.yaml", b"lr: 3")
        save("end.txt", b"last", "end")
        c.flush()
        fake.clear_faults()
        until(lambda: "r/config.yaml" in puts(fake) and "r/empty.txt" in puts(fake), "what is due is there")
        until(lambda: whole_file(fake, "config.yaml") == b"lr: 3", "the newest is there")
        save("config.yaml", b"lr: 3")  # again: nothing to do
        save("config.yaml", b"lr: 1")  # as it was once
        c.flush()
        until(lambda: whole_file(fake, "config.yaml") == b"lr: 1", "the newest is there")
        assert "r/end.txt" not in puts(fake)
        c.finish("r")
    fake.await_run("r", "finished")
    assert whole_file(fake, "end.txt") == b"last" and whole_file(fake, "empty.txt") == b""
    assert whole_file(fake, "code/train.py") == b"print(1)\n" * 100_000
    assert puts(fake).count("r/end.txt") == 1
    [dead] = ctl.dead()
    assert dead["what"] == "file record" and "path" in dead["reason"], dead
    nothing_is_left(daemon)
    until(lambda: [s["waiting"] for s in ctl.status()["sinks"]] == [0, 0, 0], "nothing waits")
    daemon.store.check()


@test
def tables_that_the_settings_hold_back_are_counted_and_their_rows_go(box: Box) -> None:
    fake, daemon, ctl = steered(box, tables__send="every 3", tables__artifact="never")
    with greeted(daemon.socket) as c:
        run = Tables(c)
        for n in range(7):
            run.log(cells(3, seed=n), n=n)
        run.finish()
    fake.await_run("r", "finished")
    rows = [own(r) for r in fake.rows("r")]
    assert [r["n"] for r in rows] == list(range(7))
    assert [n for n, r in enumerate(rows) if "rollouts" in r] == [0, 3, 6]
    assert all("artifact_path" not in r["rollouts"] for r in rows if "rollouts" in r)
    assert len(puts(fake)) == 3
    assert ctl.status()["store"]["tables_held"] == 4 and "4 tables not sent" in ctl("status")
    fake.check()


@test
def uploads_have_a_limit_of_their_own_and_rows_do_not(box: Box) -> None:
    fake, daemon, ctl = steered(box, artifacts__bytes_per_s=20_000)
    with greeted(daemon.socket) as c:
        c.open_run("r")
        big = c.blob(1, random.Random(1).randbytes(400_000))
        c.send("file", run="r", t=now_us(), path="big.bin", size=400_000, policy="now", blobs=[big])
        c.flush()
        until(lambda: any(s["sent_bytes_per_s"] > 0 for s in ctl.status()["sinks"]), "it is on its way")
        c.log_many(200)
        c.flush()
        fake.await_rows("r", 200)
        assert not puts(fake)
        assert "uploads:" in ctl("status", code=ctl.status()["exit"])
        c.finish("r")


@test
def on_a_narrow_link_rows_go_before_a_table_and_both_arrive(box: Box) -> None:
    if not FULL:
        raise Skip("takes half a minute: --full")
    link = Narrow(box, 1e6, 0.1)
    fake = Fake(box, "--host", link.far)
    daemon = DaemonBehind(box, link, models__key_file=key_file(box), **forwarding(fake, models__interval="1s"))
    daemon.start()
    with greeted(daemon.socket) as c:
        run = Tables(c).log(cells(3000, 300))  # a megabyte: ten seconds
        c.flush()
        fake.await_rows("r", 1)
        for count in range(2, 6):
            c.send("log", run="r", t=now_us(), data={"n": count})
            c.flush()
            fake.await_rows("r", count, seconds=10)
        assert not puts(fake)
        c.finish("r")
    fake.await_run("r", "finished", seconds=120)
    run.are_there(fake)


if __name__ == "__main__":
    main()
