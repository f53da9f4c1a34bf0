"""wbxctl table and wbxctl benchmark."""
from __future__ import annotations

import json
import subprocess
from typing import Any

from daemon import Daemon, started
from process import BUILD, clean_env
from tap import Box, main, test
from trainer import trainer

LOG = """
    import datetime
    run = wbx.init(project="p", id="r")
    run.log({"a": 1})
    run.log({"rollouts": wbx.Table(columns=["q", "n", 3], data=[["first, \\"quoted\\"\\n", 1.5, None]]), "deep": {"t": wbx.Table(columns=["x"], data=[[1]])}})
    png = wbx.Image(b"\\x89PNG\\r\\n\\x1a\\n" + b"\\0" * 16)
    run.log({"rollouts": wbx.Table(columns=["q", "n", 3], data=[["second", float("nan"), {"k": [True]}], [datetime.date(2020, 1, 2), 2, png]])}, step=7)
    data = []
    for n in range(3):
        data += [[n, "x" * 900] for _ in range(20)]
        run.log({"grows": wbx.Table(columns=["n", "s"], data=data)})
    run.finish()
    say("bye")
"""


def ctl(daemon: Daemon, *words: Any, stdin: str = "") -> subprocess.CompletedProcess:
    return subprocess.run([BUILD / "client/wbxctl", *map(str, words), "--socket", daemon.socket], env=clean_env(), input=stdin, capture_output=True, text=True, timeout=60)


def logged(box: Box) -> Daemon:
    daemon = started(box)
    t = trainer(box, LOG, socket=daemon.socket)
    t.expect_line("bye")
    assert t.wait() == 0
    return daemon


@test
def a_table_is_printed_before_it_was_sent(box: Box) -> None:
    daemon = logged(box)
    newest = ctl(daemon, "table", "r", "rollouts")
    assert newest.returncode == 0 and newest.stdout == 'q,n,3\nsecond,NaN,"{""k"":[true]}"\n2020-01-02,2,<image-file, 24 bytes>\n', newest
    first = ctl(daemon, "table", "--step", 1, "r", "rollouts")
    assert first.stdout == 'q,n,3\n"first, ""quoted""\n",1.5,\n', first
    lines = [json.loads(line) for line in ctl(daemon, "table", "--jsonl", "r", "rollouts").stdout.splitlines()]
    assert lines == [{"q": "second", "n": "NaN", "3": {"k": [True]}}, {"q": "2020-01-02", "n": 2, "3": "<image-file, 24 bytes>"}], lines
    assert ctl(daemon, "table", "r", "deep.t").stdout == "x\n1\n"


@test
def a_table_that_grew_is_printed_whole(box: Box) -> None:
    daemon = logged(box)
    lines = ctl(daemon, "table", "r", "grows").stdout.splitlines()
    assert [line.split(",")[0] for line in lines] == ["n"] + ["0"] * 20 + ["1"] * 20 + ["2"] * 20


@test
def what_is_no_table_is_said(box: Box) -> None:
    daemon = logged(box)
    for words, text in ((["r", "a"], "no table a"), (["r", "none"], "no table none"), (["--step", "2", "r", "rollouts"], "in step 2"), (["nobody", "a"], "no run")):
        answer = ctl(daemon, "table", *words)
        assert answer.returncode == 65 and text in answer.stderr, answer
    assert ctl(daemon, "table", "--step", "x", "r", "a").returncode == 64
    assert ctl(daemon, "table", "--csv", "--jsonl", "r", "a").returncode == 64


@test
def a_benchmark_goes_into_a_run_that_has_ended(box: Box) -> None:
    daemon = logged(box)
    rows = "\n".join(map(json.dumps, [{"question": "2+2", "answer": "<think> add </think>\n4", "score": 1}, {"prompt": "p", "completion": "c", "score": 0.5},
                                      {"question": ["a"], "thought": "t", "answer": None, "score": None}]))
    (box.dir / "rows.jsonl").write_text(rows)
    assert ctl(daemon, "benchmark", "--score", "0.75", "--rows", box.dir / "rows.jsonl", "r", "gsm8k").returncode == 0
    assert ctl(daemon, "benchmark", "--rows", "-", "r", "stdin", stdin=rows).returncode == 0
    data = [row.body["data"] for row in daemon.store.rows(kind="log")][-2:]
    assert data[0]["benchmark/gsm8k"] == 0.75 and data[0]["bench/gsm8k"]["nrows"] == 3 and "benchmark/stdin" not in data[1], data
    lines = [json.loads(line) for line in ctl(daemon, "table", "--jsonl", "r", "bench/gsm8k").stdout.splitlines()]
    assert [list(line.values()) for line in lines] == [["2+2", "add", "4", 1], ["p", "", "c", 0.5], ['["a"]', "t", None, None]], lines


@test
def what_is_no_benchmark_is_refused(box: Box) -> None:
    daemon = logged(box)
    for words, stdin, code in ((["r", "b"], "", 64), (["--score", "x", "r", "b"], "", 64), (["--rows", "/nowhere", "r", "b"], "", 70),
                               (["--rows", "-", "r", "b"], "[1]", 65), (["--rows", "-", "r", "b"], '{"question": 1', 65), (["--score", "1", "nobody", "b"], "", 65)):
        answer = ctl(daemon, "benchmark", *words, stdin=stdin)
        assert answer.returncode == code and answer.stderr, (words, answer)


main()
