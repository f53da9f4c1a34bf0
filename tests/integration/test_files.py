"""The run's own files: what run.save() takes and what is gathered, and that none of it is in the way."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

from daemon import Daemon, started
from tap import Box, Skip, main, test
from trainer import trainer


def files(daemon: Daemon) -> dict[str, bytes]:
    """The newest bytes of each path that was saved."""
    blobs = {digest: data for digest, _, _, data in daemon.store.blobs()}
    return {row.body["path"]: blobs[row.body["blobs"][0].hex()] if row.body.get("blobs") else b"" for row in daemon.store.rows(kind="file")}


def git(folder: Any, *words: str) -> None:
    subprocess.run(["git", "-C", folder, "-c", "user.name=n", "-c", "user.email=e@x", *words], check=True, capture_output=True)


def repository(box: Box) -> Any:
    if shutil.which("git") is None:
        raise Skip("there is no git")
    folder = box.dir / "repo"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.txt").write_text("one\n")
    git(folder, "add", "a.txt")
    git(folder, "commit", "-q", "-m", "m")
    git(folder, "remote", "add", "origin", "https://user:secret@example.org/x.git")
    (folder / "a.txt").write_text("two\n")
    return folder


@test
def what_is_known_of_the_program_is_gathered_without_its_secrets(box: Box) -> None:
    daemon = started(box)
    folder = repository(box)
    t = trainer(box, f"""
    os.chdir({str(folder)!r})
    run = wbx.init(project="p", id="r", config={{"lr": 1e-6, "name": "x: y", "deep": {{"a": [1, None, True, float("nan")]}}}})
    run._files._thread.join()
    run.config["late"] = 2
    run.finish()
    say("bye")
    """, "--api-key", "abcdef", "--lr=1e-6", "WANDB_API_KEY=xyz", "--hub-token=t", "hf_abcdefghijklmnopqrst", "--tokenizer", "gpt2",
                socket=daemon.socket, WBX_FILES="on")
    t.expect_line("bye")
    found = files(daemon)
    meta = json.loads(found["wandb-metadata.json"])
    assert meta["args"] == ["--api-key", "<redacted>", "--lr=1e-6", "WANDB_API_KEY=<redacted>", "--hub-token=<redacted>", "<redacted>", "--tokenizer", "gpt2"], meta["args"]
    assert meta["git"]["remote"] == "https://example.org/x.git" and len(meta["git"]["commit"]) == 40, meta["git"]
    assert meta["program"].endswith("trainer.py") and meta["host"] and meta["python"].startswith("CPython"), meta
    assert b"-one\n+two\n" in found["diff.patch"], found["diff.patch"]
    assert found["config.yaml"] == (b'"deep":\n    value: {"a": [1, null, true, null]}\n"late":\n    value: 2\n"lr":\n    value: 1.0e-06\n'
                                    b'"name":\n    value: "x: y"\n'), found["config.yaml"]
    assert "requirements.txt" in found
    assert not any(b"secret@" in data or b"abcdef\n" in data for data in found.values())


@test
def without_git_there_is_no_diff_and_no_error(box: Box) -> None:
    daemon = started(box)
    t = trainer(box, """
    run = wbx.init(project="p", id="r")
    run._files._thread.join()
    run.finish()
    say("bye")
    """, socket=daemon.socket, WBX_FILES="on", PATH=str(box.dir))
    t.expect_line("bye")
    assert t.wait() == 0
    found = files(daemon)
    assert "diff.patch" not in found and "git" not in json.loads(found["wandb-metadata.json"])


@test
def a_git_that_hangs_holds_up_nothing(box: Box) -> None:
    daemon = started(box)
    hung = box.dir / "git"
    hung.write_text("#!/bin/sh\nexec sleep 1000\n")
    hung.chmod(0o755)
    t = trainer(box, """
    import wbx._files
    wbx._files.GATHER_S = 0.2
    run = wbx.init(project="p", id="r")
    run.log({"a": 1})
    run.finish()
    say("bye")
    """, socket=daemon.socket, WBX_FILES="on", PATH=f"{box.dir}:{os.environ['PATH']}")
    t.expect_line("bye")
    assert t.wait() == 0
    assert daemon.store.rows(kind="log")


@test
def a_diff_is_cut_at_its_bound(box: Box) -> None:
    daemon = started(box)
    folder = repository(box)
    (folder / "a.txt").write_text("line\n" * 500_000)
    t = trainer(box, f"""
    os.chdir({str(folder)!r})
    run = wbx.init(project="p", id="r")
    run._files._thread.join()
    run.finish()
    say("bye")
    """, socket=daemon.socket, WBX_FILES="on")
    t.expect_line("bye")
    [diff] = [row.body for row in daemon.store.rows(kind="file") if row.body["path"] == "diff.patch"]
    assert 1 << 20 >= diff["size"] - 100 > (1 << 20) - 200, diff


@test
def files_are_saved_under_their_paths_and_again_when_they_changed(box: Box) -> None:
    daemon = started(box)
    t = trainer(box, """
    os.chdir(os.environ["HOME"])
    os.makedirs("out/deep")
    for name, text in (("out/a.txt", "a"), ("out/deep/b.txt", "b"), ("out/empty", ""), ("gone.txt", "g")):
        with open(name, "w") as f:
            f.write(text)
    run = wbx.init(project="p", id="r")
    say(run.save("out/**"), run.save("gone.txt", policy="now"), run.save(os.path.abspath("out/a.txt")), run.save("nothing*"))
    os.unlink("gone.txt")
    with open("out/a.txt", "w") as f:
        f.write("changed")
    os.utime("out/a.txt", (1, 1))
    try:
        run.save("x", policy="never")
    except wbx.UsageError as e:
        say(e)
    joined = wbx.attach(project="p", id="r")
    with open("config.yaml", "w") as f:
        f.write("x")
    say(joined.save("config.yaml"))
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    t.expect_line("['out/a.txt', 'out/deep/b.txt', 'out/empty'] ['gone.txt'] ['a.txt'] []")
    t.expect_line("policy must be one of now, live, end, not 'never'")
    t.expect_line("[]")
    t.expect_line("bye")
    found = files(daemon)
    assert found == {"out/a.txt": b"changed", "out/deep/b.txt": b"b", "out/empty": b"", "gone.txt": b"g", "a.txt": b"changed"}, found
    assert "a process that joined its run leaves it alone" in (box.dir / "trainer.err").read_text()


@test
def code_is_saved_when_it_is_asked_for(box: Box) -> None:
    daemon = started(box)
    t = trainer(box, """
    os.chdir(os.environ["HOME"])
    os.makedirs("src/.hidden")
    for name in ("src/a.py", "src/b.txt", "src/.hidden/c.py"):
        open(name, "w").write(name)
    run = wbx.init(project="p", id="r", save_code=True)
    run._files._thread.join()
    say(run.log_code("src"), run.log_code("src", include_fn=lambda path, root: path.endswith(".txt")))
    run.finish()
    say("bye")
    """, socket=daemon.socket, WBX_FILES="on")
    t.expect_line("['code/a.py'] ['code/b.txt']")
    t.expect_line("bye")
    found = files(daemon)
    assert found["code/a.py"] == b"src/a.py" and b"import wbx" in found["code/trainer.py"], sorted(found)


@test
def a_benchmark_is_a_score_and_a_table_of_questions(box: Box) -> None:
    daemon = started(box)
    t = trainer(box, """
    run = wbx.init(project="p", id="r")
    run.log_benchmark("gsm8k", 0.5, [{"question": "2+2", "answer": "<think>add</think> 4", "score": 1}, ("3+3", "6", 0.0), ("q", "t", "a", 0.5),
                                     {"question": "open", "answer": "<think>never ends", "score": 0}, {"prompt": "p", "completion": "x</think>y", "score": 1}])
    run.log_benchmark("only", 0.25)
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    t.expect_line("bye")
    rows = [row.body["data"] for row in daemon.store.rows(kind="log")]
    assert rows[0]["benchmark/gsm8k"] == 0.5 and rows[0]["bench/gsm8k"]["nrows"] == 5, rows[0]
    assert rows[1] == {"benchmark/only": 0.25}, rows[1]
    [(_, _, _, blob)] = daemon.store.blobs()
    from msgpack_lite import unpack
    table = unpack(blob)
    assert table["columns"] == ["question", "thought", "answer", "score"]
    assert table["data"] == [["2+2", "add", "4", 1], ["3+3", "", "6", 0.0], ["q", "t", "a", 0.5], ["open", "never ends", "", 0], ["p", "x", "y", 1]], table["data"]


main()
