"""Tags of a run from outside of it: `wbxctl tag` and `wbxctl promote`."""
from __future__ import annotations

from ctl import Ctl
from delivery import log_whole, sending, steered
from tap import Box, main, test, until
from wandb import ENTITY


def tags_are(fake: object, *want: str) -> None:
    until(lambda: sorted(fake.run("r")["tags"]) == sorted(want), f"the tags are {want}")


@test
def tags_come_and_go_and_the_run_stays_as_it_ended(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    log_whole(daemon, "r")
    was = fake.await_run("r", "finished")
    config = fake.config("r")
    until(lambda: daemon.store.query("SELECT state FROM run") == [(4,)], "the daemon knows it, too")
    streams = len(fake.requests("filestream"))
    ctl("tag", "r", "+good", "+status:scratch")
    tags_are(fake, "good", "status:scratch")
    fake.ask("/__run", {"run": f"{ENTITY}/p/r", "tags": ["good", "status:scratch", "by-hand"]})
    ctl("tag", "r", "+better", "-good", "-nobody-has-it")
    tags_are(fake, "better", "status:scratch", "by-hand")
    ctl("promote", "r")
    tags_are(fake, "better", "status:staged", "by-hand")
    run = fake.run("r")
    assert run["state"] == "finished" and run["exitcode"] == was["exitcode"] and fake.config("r") == config
    assert len(fake.requests("filestream")) == streams, "it is not opened again for that"
    assert daemon.store.query("SELECT name, state FROM run") == [("r", 4)], "no second run of that name"
    ctl.await_healthy()
    fake.check()


@test
def a_promotion_s_note_stands_in_the_config(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    [logged] = log_whole(daemon, "r")
    fake.await_run("r", "finished")
    ctl("promote", "r", "--note", "reward is honest")
    until(lambda: "promoted" in fake.config("r"), "the note is there")
    promoted = fake.config("r")["promoted"]
    assert promoted["to"] == "staged" and promoted["note"] == "reward is honest" and promoted["at"].endswith("Z")
    assert {k: v for k, v in fake.config("r").items() if k != "promoted"} == logged.config
    tags_are(fake, "status:staged")
    assert fake.await_run("r", "finished")["exitcode"] == 0
    fake.check()


@test
def a_tag_taken_back_in_the_browser_is_not_put_on_again_by_what_was_removed(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    log_whole(daemon, "r")
    fake.await_run("r", "finished")
    ctl("promote", "r", "--to", "champion")
    tags_are(fake, "status:champion")
    fake.ask("/__run", {"run": f"{ENTITY}/p/r", "tags": ["status:champion", "status:second"]})
    ctl("tag", "r", "+x")
    tags_are(fake, "status:champion", "status:second", "x")
    fake.check()


@test
def tags_wait_while_the_link_is_down(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    log_whole(daemon, "r")
    fake.await_run("r", "finished")
    fault = fake.fault({"kind": "any"}, {"status": 503}, count=-1)
    ctl("tag", "r", "+later")
    fake.await_hits(fault)
    fake.clear_faults()
    tags_are(fake, "later")
    fake.check()


@test
def a_run_that_only_w_and_b_has_is_named_in_full(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.ask("/__run", {"run": f"{ENTITY}/p/r", "create": True, "tags": ["old"]})
    refused = ctl.run("tag", "r", "+new")
    assert refused.code == 65 and "there is no run r here" in refused.err, refused
    ctl("tag", f"{ENTITY}/p/r", "+new", "-old")
    tags_are(fake, "new")
    assert fake.run("r")["state"] == "running" and not fake.requests("filestream")


@test
def without_a_daemon_the_change_waits_in_a_journal(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    log_whole(daemon, "r")
    fake.await_run("r", "finished")
    daemon.stop()
    later = ctl.run("tag", f"{ENTITY}/p/r", "+x")
    assert later.code == 75 and "waits in its journal" in later.err, later
    daemon.start()
    tags_are(fake, "x")
    daemon.await_no_kept_files()


@test
def what_is_no_tag_is_refused(box: Box) -> None:
    _, daemon = sending(box)
    ctl = Ctl(daemon)
    for words in (["r"], ["r", "x"], ["r", "+"], ["r", "-"], [], ["r", "+a", "--nonsense"]):
        refused = ctl.run("tag", *words)
        assert refused.code == 64 and refused.err, (words, refused)


main()
