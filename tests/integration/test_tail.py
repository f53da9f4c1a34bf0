"""Lists that take more than one look into the store: records, also where most of them are of another kind, and the backlog."""
from __future__ import annotations

from client import Client, now_us, opened, record
from ctl import Ctl
from daemon import started
from tap import Box, main, test

PAGE = 500  # records that the daemon reads at a time (READER_PAGE)


@test
def tail_finds_a_kind_behind_pages_of_others(box: Box) -> None:
    daemon = started(box)
    with opened(daemon.socket) as c:
        for i in range(3 * PAGE):
            c.log("r", i=i)
        c.send("summary", run="r", t=now_us(), data={"last": 1})
        c.flush()
    found = Ctl(daemon).lines("tail", "--kind", "summary", "-n", 5)
    assert [line["body"]["data"] for line in found] == [{"last": 1}], found
    assert Ctl(daemon).lines("tail", "--kind", "alert", "-n", 5) == [], "there is none"
    assert daemon.process.running


@test
def tail_begins_at_the_first_record_however_many_are_asked_for(box: Box) -> None:
    daemon = started(box)
    with opened(daemon.socket) as c:
        c.log("r")
        c.flush()
    for last in (2**63 - 1, 2**63, 2**64 - 1):
        with Client(daemon.control) as asker:
            asker.send_bytes(record("tail", 1, last=last))
            answers = [asker.recv() for _ in range(3)]
        assert [a.kind for a in answers] == ["item", "item", "done"], (last, answers)


@test
def a_backlog_of_thousands_of_runs_is_listed_once_each(box: Box) -> None:
    daemon = started(box)
    for producer in range(16):  # 256 runs at most of each
        with opened(daemon.socket, run=f"r{producer}-0") as c:
            for n in range(1, 250):
                c.open_run(f"r{producer}-{n}")
            c.flush()
    found = [line["run"] for line in Ctl(daemon).lines("backlog")]
    assert len(found) == 4000 and len(set(found)) == 4000, len(found)


main()
