"""Artifacts on their way to W&B: whole, once, in order, whatever happens in between."""
from __future__ import annotations

import json
from typing import Any

from artifacts import artifacts, await_committed, blob_numbers, is_held, log_artifact
from client import Client, greeted, now_us
from ctl import Ctl
from daemon import Daemon
from delivery import sending, steered
from msgpack_lite import pack
from process import build_option
from tap import Box, Skip, main, test, until
from trainer import trainer
from wandb import Fake, forwarding, key_file

FILES = {"config.yaml": b"lr: 1e-6\nkl: 0.04\n", "sub/other.txt": b"hello", "dup.txt": b"hello", "empty.bin": b"", "z\u00e4h/\u65e5.bin": bytes(range(256)) * 2000}


def finished(daemon: Daemon, *logs, run: str = "r") -> None:
    """A run in which these log, by one producer after the other."""
    with greeted(daemon.socket) as c:
        c.open_run(run)
        for log in logs:
            log(c)
        c.finish(run)


@test
def an_artifact_arrives_whole(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    ref = {"path": "ref/far", "ref": "s3://bucket/key", "digest": "etag-1", "size": 12345, "extra": {"etag": "etag-1"}}
    finished(daemon, lambda c: log_artifact(c, "training-config-r", FILES, type="config", refs=[ref], description="cfg", metadata={"git": "abc", "n": 1, "nan": float("nan")},
                                            aliases=["grpo", "latest", "v-exp7"], tags=["tagA", "tag b"], step=7))
    fake.await_run("r", "finished")
    [got] = artifacts(fake)
    is_held(got, FILES, {"ref/far": "etag-1"})
    assert (got["name"], got["type"], got["run"], got["historyStep"]) == ("training-config-r", "config", "r", 7), got
    assert got["aliases"] == ["grpo", "v-exp7", "latest"] and got["tags"] == ["tagA", "tag b"] and got["description"] == "cfg"
    assert got["metadata"] == {"git": "abc", "n": 1, "nan": None}, got["metadata"]
    assert got["manifest"]["contents"]["ref/far"] == {"digest": "etag-1", "ref": "s3://bucket/key", "size": 12345, "extra": {"etag": "etag-1"}, "skip_cache": False}
    assert daemon.store.query("SELECT count(*) FROM artifact_file") == [(0,)] == daemon.store.query("SELECT count(*) FROM artifact")
    ctl.await_healthy()
    fake.check()


@test
def unchanged_content_is_one_request_and_the_aliases_follow(box: Box) -> None:
    fake, daemon = sending(box)
    with greeted(daemon.socket) as c:
        c.open_run("r")
        log_artifact(c, "data", FILES, aliases=["first"])
        c.flush()
        await_committed(fake, "data")
        before = len(fake.requests())
        log_artifact(c, "data", FILES, aliases=["second"])
        c.flush()
        until(lambda: artifacts(fake, "data")[0]["dedup_hits"] == 1, "the second is known")
        after = [e.get("op", e["kind"]) for e in fake.requests()[before:] if e["kind"] != "filestream"]
        assert after == ["WbxCreateArtifact"], after
        log_artifact(c, "data", FILES | {"config.yaml": b"lr: 2e-6\n"})
        c.finish()
    fake.await_run("r", "finished")
    first, second = artifacts(fake, "data")
    assert first["aliases"] == ["first", "second"] and second["aliases"] == ["latest"] and second["version"] == 1
    fake.check()


@test
def versions_of_a_name_go_one_after_the_other(box: Box) -> None:
    fake, daemon = sending(box)
    finished(daemon, *(lambda c, i=i: log_artifact(c, "data", {"n": b"%d" % i}) for i in range(20)))
    fake.await_run("r", "finished")
    got = artifacts(fake, "data")
    assert [a["version"] for a in got] == list(range(20)) and [a["aliases"] for a in got] == [[]] * 19 + [["latest"]]
    for i, a in enumerate(got):
        is_held(a, {"n": b"%d" % i})
    fake.check()


@test
def one_with_more_files_than_a_record_names_comes_in_several(box: Box) -> None:
    fake, daemon = sending(box)
    files = {f"f{i:03}": b"file %d" % i for i in range(120)}
    paths = list(files)
    with greeted(daemon.socket) as c:
        c.open_run("r")
        for first in (0, 50, 100):
            part = {p: files[p] for p in paths[first:first + 50]}
            log_artifact(c, "many", part, id="x", more=first < 100, total=2000)
            if first == 50:
                c.flush()
                until(lambda: daemon.store.query("SELECT state FROM artifact") == [(0,)], "it is collected")
                assert not artifacts(fake)
        c.finish()
    fake.await_run("r", "finished")
    is_held(artifacts(fake)[0], files)
    fake.check()


@test
def what_is_no_artifact_is_set_aside_and_the_run_ends(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    finished(daemon, lambda c: log_artifact(c, "bad name", {"a": b"1"}), lambda c: log_artifact(c, "data", {"../a": b"1"}), lambda c: log_artifact(c, "data", {}, type=""),
             lambda c: log_artifact(c, "data", {"a": b"1"}))
    fake.await_run("r", "finished")
    assert len(ctl.lines("dead", "list")) == 3
    is_held(artifacts(fake)[0], {"a": b"1"})
    fake.check()


@test
def an_older_version_that_comes_later_moves_latest_not_back(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    refused = fake.fault({"kind": "graphql", "op": "WbxCreateArtifact"}, {"status": 400, "body": {"errors": [{"message": "no"}]}})
    with greeted(daemon.socket) as c:
        c.open_run("r")
        log_artifact(c, "data", {"a": b"old"})
        c.flush()
        fake.await_hits(refused)
        until(lambda: ctl.lines("dead", "list"), "it is a dead letter")
        log_artifact(c, "data", {"a": b"new"})
        c.flush()
        await_committed(fake, "data")
        [letter] = ctl.lines("dead", "list")
        assert letter["what"] == "artifact" and "no" in letter["reason"], letter
        ctl("dead", "retry", letter["id"])
        got = {a["manifest"]["contents"]["a"]["size"]: a for a in await_committed(fake, "data", 2)}
        c.finish()
    fake.await_run("r", "finished")
    by_content = {a["digest"]: a["aliases"] for a in artifacts(fake, "data")}
    assert sorted(by_content.values()) == [[], ["latest"]] and artifacts(fake, "data")[0]["aliases"] == ["latest"], by_content
    assert got


STATES = ("digested", "created", "opened", "filed", "sealed")


def killed(box: Box, point: str, number: int = 1) -> None:
    if build_option("faults") != "True":
        raise Skip("a build without -Dfaults=true has no named points")
    fake = Fake(box)
    daemon = Daemon(box, models__key_file=key_file(box), **forwarding(fake, models__requests_per_s=0)).start(WBX_FAULT=f"{point}:{number}")
    with greeted(daemon.socket) as c:
        c.open_run("r")
        log_artifact(c, "data", FILES, aliases=["a"])
        c.flush()
        daemon.process.wait()
    daemon.start()
    await_committed(fake, "data")
    with greeted(daemon.socket, c.producer) as again:
        log_artifact(again, "data", {"new": b"1"})
        again.finish()
    fake.await_run("r", "finished")
    first, second = artifacts(fake, "data")
    is_held(first, FILES)
    is_held(second, {"new": b"1"})
    assert first["aliases"] == ["a"] and second["aliases"] == ["latest"]
    fake.check()


def log_table(c: Client, key: str, rows: list[list], columns: list[str], **more: Any) -> None:
    blob = c.blob(next(blob_numbers), pack({"columns": columns, "data": rows}))
    c.send("log", run="r", t=now_us(), data={key: {"_type": "table", "blob": blob, "size": 1, "ncols": len(columns), "nrows": len(rows), **more}}, blobs=[blob])


@test
def each_table_of_a_row_is_an_artifact_too_which_the_row_names(box: Box) -> None:
    fake, daemon = sending(box)
    finished(daemon, lambda c: log_table(c, "rollouts", [["2+2?", 0.5, True], ["3+3?", None, False]], ["prompt", "reward", "ok"]),
             lambda c: log_table(c, "tab/le", [[1]], ["a"]), lambda c: log_table(c, "rollouts", [["4+4?", 1.5, True]], ["prompt", "reward", "ok"]))
    fake.await_run("r", "finished")
    [odd] = [a for a in artifacts(fake) if a["name"] != "run-r-rollouts"]
    first, second = artifacts(fake, "run-r-rollouts")
    assert [(a["name"], a["type"], a["aliases"], a["historyStep"]) for a in (first, second)] == [("run-r-rollouts", "run_table", [], None), ("run-r-rollouts", "run_table", ["latest"], 2)]
    assert odd["name"].startswith("run-r-table-") and list(odd["files"]) == ["tab/le.table.json"], odd
    rows = fake.rows("r")
    for row, a, key in zip(rows, (first, odd, second), ("rollouts", "tab/le", "rollouts")):
        assert row[key]["artifact_path"] == f"wandb-client-artifact://{a['clientID']}/{key}.table.json", row
        assert row[key]["_latest_artifact_path"] == f"wandb-client-artifact://{a['sequenceClientID']}:latest/{key}.table.json", row
    fake.check()


@test
def the_same_table_logged_twice_is_one_artifact(box: Box) -> None:
    fake, daemon = sending(box)
    finished(daemon, *[lambda c: log_table(c, "t", [[1, "a"]], ["n", "s"])] * 3)
    fake.await_run("r", "finished")
    assert len(artifacts(fake)) == 1 and artifacts(fake)[0]["dedup_hits"] == 0
    assert len({row["t"]["artifact_path"] for row in fake.rows("r")}) == 1
    fake.check()


@test
def tables_artifact_says_of_which_tables_there_are_some(box: Box) -> None:
    fake, daemon = sending(box, tables__artifact="last")
    finished(daemon, *(lambda c, i=i: log_table(c, "t", [[i]], ["n"]) for i in range(5)), lambda c: log_table(c, "other", [[1]], ["n"]))
    fake.await_run("r", "finished")
    assert sorted((a["name"], a["historyStep"], a["state"]) for a in artifacts(fake)) == [("run-r-other", 5, "COMMITTED"), ("run-r-t", 4, "COMMITTED")]
    assert not any("artifact_path" in str(row) for row in fake.rows("r"))
    fake.check()

@test
def without_artifacts_of_tables_rows_name_their_files_alone(box: Box) -> None:
    fake, daemon = sending(box, tables__artifact="never")
    finished(daemon, lambda c: log_table(c, "t", [[1]], ["n"]))
    fake.await_run("r", "finished")
    assert not artifacts(fake) and "path" in fake.rows("r")[0]["t"]
    fake.check()


CONFIG = """
run = wbx.init(project="p", id="r")
artifact = wbx.Artifact(f"training-config-{run.id}", "config", description="cfg", metadata={"n": 1, "nan": float("nan")})
with artifact.new_file("config.yaml") as f:
    f.write("lr: 1e-6\\nname: z\u00e4h\\n")
os.makedirs("d/sub")
for name, data in ("a.bin", bytes(3_000_000)), ("sub/b.txt", b"b"), ("empty", b""):
    with open(f"d/{name}", "wb") as f:
        f.write(data)
artifact.add_dir("d", "dir")
artifact.add(wbx.Table(columns=["q", "n"], data=[["a", 1], ["b", 2]]), "t")
artifact.add_reference("s3://bucket/key", name="far")
for name in ("a.bin", "sub/b.txt", "empty"):
    os.unlink(f"d/{name}")
run.log_artifact(artifact, aliases=["mine"], tags=["x"])
say("logged")
"""


@test
def the_training_s_configuration_is_kept_though_the_trainer_is_killed_right_after(box: Box) -> None:
    fake, daemon = sending(box, daemon__gone_after="0")
    t = trainer(box, f"os.chdir({str(box.dir)!r})" + CONFIG + "hear()", socket=daemon.socket)
    t.expect_line("logged")
    t.kill9()
    [got] = await_committed(fake, "training-config-r")
    fake.await_run("r", "failed")
    contents = got["manifest"]["contents"]
    assert sorted(contents) == ["config.yaml", "dir/a.bin", "dir/empty", "dir/sub/b.txt", "far", "t.table.json"]
    assert got["files"]["config.yaml"]["text"] == "lr: 1e-6\nname: z\u00e4h\n" and got["metadata"] == {"n": 1, "nan": None}
    assert sorted(got["aliases"]) == ["latest", "mine"] and got["tags"] == ["x"] and got["digest_checked"]
    table = json.loads(got["files"]["t.table.json"]["text"])
    assert table["_type"] == "table" and table["data"] == [["a", 1], ["b", 2]] and "column_types" in table
    assert not list((box.dir / ".local/state/wbx/artifacts").glob("*/artifact")), "it is with the daemon"
    fake.check()


BIG = """
os.chdir(sys.argv[1])
run = wbx.init(project="p", id="r")
artifact = wbx.Artifact("model", "model")
os.mkdir("m")
for i in range(3):
    with open(f"m/{i}", "wb") as f:
        f.truncate(30_000_000 + i)
artifact.add_dir("m")
for i in range(3):
    os.unlink(f"m/{i}")
run.log_artifact(artifact)
say("logged")
hear()
"""


def big_is_held(fake: Fake, name: str = "model") -> None:
    [got] = await_committed(fake, name)
    is_held(got, {str(i): bytes(30_000_000 + i) for i in range(3)})


@test
def what_is_too_big_to_go_at_once_is_handed_over_beside_the_training(box: Box) -> None:
    fake, daemon = sending(box)
    t = trainer(box, BIG, box.dir, socket=daemon.socket, WBX_ARTIFACT_COPY_MAX="1000000")
    t.expect_line("logged")
    big_is_held(fake)
    until(lambda: not list((box.dir / ".local/state/wbx/artifacts").glob("*")) and not list((box.dir / "m").iterdir()), "nothing of it is left")
    t.kill9()
    fake.check(final=False)


@test
def what_the_end_of_the_process_leaves_waits_for_its_user(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    daemon.kill9()
    t = trainer(box, BIG, box.dir, socket=daemon.socket)
    t.expect_line("logged")
    t.kill9()
    daemon.start()
    until(lambda: daemon.store.query("SELECT state, expected FROM artifact") == [(0, 90_000_003)], "it is announced")
    assert "model" in ctl("artifact", "list")
    ctl("artifact", "send", "r", "model")
    big_is_held(fake)
    assert "no artifact waits" in ctl("artifact", "list")
    fake.check(final=False)


PUTS = {"kind": "storage"}


@test
def a_storage_that_is_ill_gets_the_same_bytes_again(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    faults = [{"status": 403}, {"status": 500}, {"reset": "mid_body"}, {"reset": "after"}, {"status": 429, "retry_after": 0.05}]
    for skip, then in enumerate(faults):
        fake.fault(PUTS, then, skip=0 if skip == 0 else 1)
    finished(daemon, lambda c: log_artifact(c, "data", FILES))
    fake.await_run("r", "finished")
    is_held(artifacts(fake, "data")[0], FILES)
    ctl.await_healthy()
    fake.check(warnings=("reset",))


@test
def what_the_storage_says_is_wrong_is_set_aside_with_its_bytes(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    bad = fake.fault(PUTS | {"path": "wandb_artifacts"}, {"status": 400, "body": "<Code>BadDigest</Code>"}, count=-1)
    with greeted(daemon.socket) as c:
        c.open_run("r")
        log_artifact(c, "data", {"a": b"1"})
        c.flush()
        [letter] = until(lambda: ctl.lines("dead", "list"), "it is a dead letter")
        assert "HTTP 400" in letter["reason"] and fake.hits(bad) >= 1, letter
        fake.clear_faults()
        ctl("dead", "retry", letter["id"])
        is_held(await_committed(fake, "data")[0], {"a": b"1"})
        c.finish()
    fake.await_run("r", "finished")
    assert daemon.store.query("SELECT count(*) FROM artifact") == [(0,)]
    fake.check(final=False)


@test
def a_dead_artifact_that_is_dropped_leaves_nothing(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.fault({"kind": "graphql", "op": "WbxCreateArtifact"}, {"status": 400, "body": {"errors": [{"message": "no"}]}}, count=-1)
    finished(daemon, lambda c: log_artifact(c, "data", {"a": b"1" * 300_000}))
    [letter] = until(lambda: ctl.lines("dead", "list"), "it is a dead letter")
    fake.await_run("r", "finished")
    ctl("dead", "drop", letter["id"])
    until(lambda: daemon.store.query("SELECT (SELECT count(*) FROM artifact) + (SELECT count(*) FROM artifact_file)") == [(0,)], "it is gone")


@test
def w_and_b_that_cannot_answer_is_asked_again(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    for op in ("WbxCreateArtifact", "WbxManifest", "WbxArtifactFiles", "WbxCommit"):
        fake.fault({"kind": "graphql", "op": op}, {"status": 502})
        fake.fault({"kind": "graphql", "op": op}, {"reset": "after"})
        fake.fault({"kind": "graphql", "op": op}, {"garbage": True})
    finished(daemon, lambda c: log_artifact(c, "data", FILES))
    fake.await_run("r", "finished")
    [got] = artifacts(fake, "data")
    is_held(got, FILES)
    ctl.await_healthy()
    fake.check(warnings=("reset", "garbage"))


@test
def a_big_file_goes_in_parts_and_again_when_one_is_refused(box: Box) -> None:
    if build_option("faults") != "True":
        raise Skip("a build without -Dfaults=true has W&B's own bound of 2 GiB")
    fake = Fake(box)
    daemon = Daemon(box, models__key_file=key_file(box), **forwarding(fake, models__requests_per_s=0)).start(WBX_MULTIPART_BYTES="1048576")
    files = {"big": bytes(range(256)) * 14_000, "exact": b"x" * (2 << 20), "small": b"s"}
    fake.fault(PUTS, {"status": 500}, skip=2)
    fake.fault(PUTS, {"status": 403}, skip=4)
    finished(daemon, lambda c: log_artifact(c, "data", files))
    fake.await_run("r", "finished")
    [got] = artifacts(fake, "data")
    is_held(got, files)
    assert {p: f["parts"] for p, f in got["files"].items()} == {"big": 4, "exact": 2, "small": None}
    fake.check()


def goes_on_after(point: str) -> Any:
    def run(box: Box) -> None:
        killed(box, point)

    run.__name__ = f"it_goes_on_after_a_kill_at_{point.rpartition('.')[2]}"
    return run


for state in STATES:
    test(goes_on_after(f"artifact.{state}"))
test(goes_on_after("artifact.answered"))
test(goes_on_after("artifact.put"))

main()
