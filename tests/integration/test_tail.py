"""wbxctl tail: records out of the store, also where most of them are of another kind."""
from __future__ import annotations

from client import now_us, opened
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


main()
