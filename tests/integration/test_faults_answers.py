"""W&B answers with anything but yes: each answer ends as it should, with every value delivered once, parked or set aside."""
from __future__ import annotations

import json
import signal
import time
from email.utils import formatdate

from client import Client, greeted, now_us
from ctl import Ctl, reason, text_status
from daemon import Daemon
from delivery import EVERYTHING, KINDS, VIEWER, Logged, all_is_well, log_whole, request_of, requests_of, sending, some_rows, steered
from tap import Box, main, test, until
from wandb import ENTITY, KEY, Fake, forwarding, key_file, own, same

OTHER_KEY = "fedcba9876543210fedcba9876543210fedcba98"
NOT_OURS = ("request without valid credentials",)  # what the judge says of a key that the test made wrong


def error_kinds(fake: Fake) -> set[str]:
    return {e["kind"] for e in fake.ask("/__check?final=1")["errors"]}


# -- tried again

@test
def an_answer_that_is_no_verdict_is_followed_by_the_same_request(box: Box) -> None:
    fake = Fake(box)
    faults = [fake.fault(VIEWER, {"status": 503})]
    fake, daemon = sending(box, fake=fake)
    answers = {f"s{s}": {"status": s} for s in (302, 501, 408, 425, 429, 500, 502, 503, 504)}
    answers["done500"] = {"status": 500, "process": True}
    answers["cut"] = {"truncate": 10}
    answers["no-json"] = {"garbage": True}
    answers["html"] = {"garbage": True, "headers": {"Content-Type": "text/html"}}
    names = []
    for label, then in answers.items():
        for kind in KINDS:
            names.append(f"{label}-{kind}")
            faults.append(fake.fault(request_of(kind, names[-1]), then, count=2 if kind != "stream" or "status" in then else 1))
    for run in log_whole(daemon, *names):
        run.is_delivered(fake)
    hits = {f["id"]: f["left"] for f in fake.ask("/__fault")}
    assert all(hits[f] == 0 for f in faults), hits
    ctl = Ctl(daemon)
    ctl.await_healthy()
    assert ctl.dead() == []
    fake.check()


@test
def two_upserts_that_raced_are_no_conflict(box: Box) -> None:
    fake, daemon = sending(box)
    fault = fake.fault(request_of("upsert", "r"), {"status": 409}, count=2)
    [run] = log_whole(daemon, "r")
    run.is_delivered(fake)
    assert fake.hits(fault) == 2
    fake.check()


@test
def json_that_does_not_hold_what_was_asked_for_is_asked_for_again(box: Box) -> None:
    fake = Fake(box)
    fake.fault(VIEWER, {"status": 200, "body": ["who"]})
    fake, daemon = sending(box, fake=fake)
    bodies = {"empty": {"data": {}}, "list": [1, 2], "null": None, "half": {"data": {"upsertBucket": {"bucket": {"id": "x"}}}}}
    for label, body in bodies.items():
        fake.fault(request_of("upsert", label), {"status": 200, "body": body}, count=2)
    for label, body in {"list-s": [1], "null-s": None, "text-s": "no"}.items():
        fake.fault(request_of("status", label), {"status": 200, "body": body}, count=2)
    all_is_well(fake, Ctl(daemon), *log_whole(daemon, *bodies, "list-s", "null-s", "text-s"))


@test
def a_server_that_is_ill_is_named_in_status(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    [first] = log_whole(daemon, "first")
    first.is_delivered(fake)
    fake.fault(EVERYTHING, {"status": 503, "body": {"error": "we are \u001b[31mdown"}}, count=-1)
    [run] = log_whole(daemon, "r", count=20)
    status = ctl.await_reason("server_error")
    assert status["exit"] == 1 and status["state"] == "behind"
    sink = ctl.sink()
    assert sink["state"] == "server_error" and sink["waiting"] == 23 and sink["last_error"]["code"] == 503, sink
    until(lambda: ctl.sink()["tries"] >= 3, "it is tried again and again")
    assert "tried again by itself" in reason(status, "server_error")["action"]
    screen = text_status(ctl, 1)
    assert "answers with HTTP 503" in screen and "we are" in screen and "\x1b" not in screen, screen
    fake.clear_faults()
    all_is_well(fake, ctl, run)


@test
def an_address_that_is_not_w_and_b_parks_no_run(box: Box) -> None:
    fake = Fake(box)
    config = box.dir / "wbxd.conf"
    config.write_text(f"[models]\nbase_url = {fake.url}/elsewhere\n")
    settings = forwarding(fake, models__backoff_max="100ms")
    del settings["models__base_url"]
    daemon = Daemon(box, models__key_file=key_file(box), **settings)
    del daemon.settings["models.base_url"]
    daemon.start("--config", str(config))
    ctl = Ctl(daemon)
    runs = log_whole(daemon, "a", "b")
    status = ctl.await_reason("server_error")
    assert "answers with HTTP 404" in reason(status, "server_error")["text"] and status["runs"]["parked"] == 0
    assert ctl.sink()["last_error"] == {"code": 404, "text": "HTTP 404: not found"}
    config.write_text(f"[models]\nbase_url = {fake.url}\n")
    fake.fault(VIEWER, {"garbage": True}, count=-1)
    daemon.process.signal(signal.SIGHUP)
    until(lambda: ctl.sink()["last_error"] == {"code": 200, "text": "HTTP 200: <html>gateway</html>"}, "the page of a portal is shown")
    fake.clear_faults()
    all_is_well(fake, ctl, *runs, warnings=("unknown path",))


# -- rate limits

@test
def retry_after_is_waited_for(box: Box) -> None:
    fake, daemon = sending(box)
    names = {kind: f"r-{kind}" for kind in KINDS}
    for kind, name in names.items():
        fake.fault(request_of(kind, name), {"status": 429, "retry_after": 1.5})
    fake.fault(request_of("stream", "by-reset"), {"status": 429, "headers": {"RateLimit-Remaining": "0", "RateLimit-Reset": "1.5"}})
    fake.fault(request_of("stream", "ill"), {"status": 503, "retry_after": 1.5})
    runs = log_whole(daemon, *names.values(), "by-reset", "ill")
    for run in runs:
        run.is_delivered(fake)
    for kind, name in [*names.items(), ("stream", "by-reset"), ("stream", "ill")]:
        seen = requests_of(fake, kind, name)
        assert seen[0]["status"] in (429, 503) and seen[1]["t"] - seen[0]["t"] >= 1.49, [(e["t"], e["status"]) for e in seen]
    fake.check()


@test
def a_wait_of_hours_is_kept_shown_and_ended_by_retry(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    date = formatdate(time.time() + 7200, usegmt=True)
    fake.fault(request_of("stream", "r"), {"status": 429, "retry_after": date}, count=1)
    [run] = log_whole(daemon, "r")
    status = ctl.await_reason("rate_limited")
    assert status["exit"] == 1
    sink = ctl.sink()
    assert sink["state"] == "rate_limited" and 7000 < sink["retry_after_s"] <= 7201 and 7000 < sink["next_try_s"] <= 7201, sink
    assert "limits the rate of sink models (HTTP 429)" in text_status(ctl, 1)
    other = log_whole(daemon, "other")[0]
    other.is_delivered(fake)  # one run's wait is not another's
    assert fake.run("r")["state"] == "running"
    ctl("retry", "--run", "r")
    all_is_well(fake, ctl, run)


@test
def rate_limit_headers_space_requests_so_that_none_is_refused(box: Box) -> None:
    fake, daemon = sending(box, "--fs-rate", "4", "--fs-window", "1")
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c)
        for i in range(9):
            run.log(c, *some_rows(1, i)).arrive(c, fake)
        run.finish(c)
    run.is_delivered(fake)
    assert not [e for e in fake.requests("filestream") if e["status"] != 200]
    fake.check()  # a request above the limit would be a warning


@test
def a_spacing_of_hours_is_shown_and_ended_by_retry(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.fault(request_of("stream", "r"), {"headers": {"RateLimit-Remaining": "0", "RateLimit-Reset": "7200"}}, skip=1)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(2)).arrive(c, fake)
        run.log(c, *some_rows(1, 2)).arrive(c, fake)
        until(lambda: ctl.sink()["spacing_s"] == 7200, "status shows the spacing")
        run.log(c, *some_rows(1, 3)).finish(c)
    log_whole(daemon, "other")[0].is_delivered(fake)
    assert len(fake.rows("r")) == 3, "it waits, and no other run does"
    ctl("retry")
    run.is_delivered(fake)
    fake.check()


# -- keys

@test
def a_key_that_is_refused_stops_the_sink_until_there_is_another(box: Box) -> None:
    fake, daemon, ctl = steered(box, "--api-key", OTHER_KEY)
    runs = log_whole(daemon, "a", "b")
    status = ctl.await_reason("auth_refused")
    assert status["exit"] == 1 and status["state"] == "attention" and status["account"]["key_tail"] == KEY[-4:]
    assert ctl.sink()["state"] == "key_refused"
    assert ctl.sink()["last_error"] == {"code": 401, "text": "HTTP 401: user is not logged in"}
    screen = text_status(ctl, 1)
    assert f"W&B refused the key …{KEY[-4:]} (HTTP 401)" in screen and "Put a valid key into the key file" in screen
    assert daemon.store.query("SELECT count(*) FROM line") == [(0,)], "nothing is planned that cannot be sent"
    (box.dir / "key").write_text(OTHER_KEY + "\n")  # looked at every two seconds
    all_is_well(fake, ctl, *runs, warnings=NOT_OURS)
    assert ctl.dead() == [] and ctl.status()["account"]["key_tail"] == OTHER_KEY[-4:]


@test
def a_key_that_is_revoked_makes_no_dead_letter(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(3)).arrive(c, fake)
        for status in (401, 403):
            fake.fault(EVERYTHING, {"status": status}, count=-1)
            run.log(c, *some_rows(3, len(run.rows)))
            c.flush()
            assert reason(ctl.await_reason("auth_refused"), "auth_refused")["text"].endswith(f"(HTTP {status})")
            assert ctl.status()["runs"]["parked"] == 0 and ctl.dead() == []
            fake.clear_faults()
            ctl("retry")  # the next probe of its own is a minute away
            fake.await_rows("r", len(run.rows))
            ctl.await_healthy()
        run.finish(c)
    run.is_delivered(fake)
    fake.check()


@test
def an_answer_about_an_old_key_says_nothing_of_the_new_one(box: Box) -> None:
    fake = Fake(box, "--api-key", OTHER_KEY)
    fault = fake.fault(VIEWER, {"delay": 1})
    fake, daemon = sending(box, fake=fake)
    fake.await_hits(fault)
    (box.dir / "key").write_text(OTHER_KEY + "\n")
    daemon.process.signal(signal.SIGHUP)
    [run] = log_whole(daemon, "r")
    run.is_delivered(fake)  # the next probe of a refused key would be a minute away
    assert "refuses the key" not in daemon.log()
    fake.check(warnings=NOT_OURS)


@test
def a_viewer_that_is_nobody_is_a_refused_key(box: Box) -> None:
    fake = Fake(box)
    fake.fault(VIEWER, {"status": 200, "body": {"data": {"viewer": None}}}, count=-1)
    fake, daemon, ctl = steered(box, fake=fake)
    [run] = log_whole(daemon, "r")
    ctl.await_reason("auth_refused")
    assert fake.requests("filestream") == []
    fake.clear_faults()
    ctl("retry")
    run.is_delivered(fake)
    fake.check()


# -- parked

@test
def what_needs_a_person_parks_that_run_alone_and_retry_brings_it_all(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    cases = {f"{status}-{kind}": (kind, {"status": status, "body": {"error": f"no {status}"}})
             for status in (402, 403, 404, 410) for kind in KINDS}
    cases["409-stream"] = ("stream", {"status": 409, "body": {"error": "no 409"}})
    for status in (400, 422):
        cases[f"{status}-status"] = ("status", {"status": status, "body": {"errors": [{"message": f"no {status}"}]}})
        cases[f"{status}-upsert"] = ("upsert", {"status": status, "body": {"errors": [{"message": f"no {status}"}]}})
    cases["200-status"] = ("status", {"gql_errors": [{"message": "no 200"}]})
    cases["200-upsert"] = ("upsert", {"gql_errors": [{"message": "no 200"}]})
    for name, (kind, then) in cases.items():
        fake.fault(request_of(kind, name), then, count=-1)
    runs = log_whole(daemon, "fine", *cases)
    runs[0].is_delivered(fake)
    for run in runs[1:]:
        why = ctl.await_parked(run.name)
        status = run.name.split("-")[0]
        assert why == f"HTTP {status}: no {status}", f"{run.name} is parked: {why}"
        waits = 5 if run.name.endswith("stream") else 6  # the run itself was taken
        assert ctl.run_state(run.name)["waiting"] == waits, ctl.run_state(run.name)
    status = ctl.status()
    assert status["exit"] == 1 and status["runs"]["parked"] == len(cases) and status["sinks"][0]["state"] == "ok"
    screen = text_status(ctl, 1)
    assert "runs are parked until somebody looks at them" in screen and "wbxctl retry --run" in screen and "more, see wbxctl runs" in screen
    assert ctl.dead() == []
    daemon.kill9()
    daemon.start()
    assert ctl.status()["runs"]["parked"] == len(cases), "they stay parked over a restart"
    ctl("retry", "--run", "404-stream")  # nothing has changed
    until(lambda: fake.requests("filestream") and ctl.run_state("404-stream")["parked"], "it is parked again")
    fake.clear_faults()
    ctl("retry")
    all_is_well(fake, ctl, *runs)
    assert ctl.dead() == []


@test
def an_entity_that_the_key_may_not_write_to_parks_its_runs_alone(box: Box) -> None:
    fake, daemon, ctl = steered(box, "--forbid-entity", "others")
    with greeted(daemon.socket) as c:
        forbidden = Logged("forbidden", entity="others").open(c).log(c, *some_rows(2)).finish(c)
        mine = Logged("mine").open(c).log(c, *some_rows(2)).finish(c)
    mine.is_delivered(fake)
    assert "403" in ctl.await_parked(forbidden.name)
    until(lambda: ctl.sink()["state"] == "ok", "the sink goes on")
    [row] = [r for r in ctl.status()["notable_runs"] if r["run"] == "forbidden"]
    assert row["parked"].startswith("HTTP 403"), row
    assert ctl.dead() == [] and ctl.run_state("forbidden")["waiting"] == 4
    fake.check()


@test
def a_run_that_was_deleted_there_begins_anew_by_retry(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(4)).arrive(c, fake)
        fake.ask("/__reset", {})
        run.log(c, *some_rows(3, 4))
        c.flush()
        assert ctl.await_parked("r").startswith("HTTP 404: ")
        ctl("retry", "--run", "r")
        fake.await_rows("r", 3)
        run.finish(c)
    run.rows = run.rows[4:]  # those that were delivered were deleted with the run
    run.is_delivered(fake, steps=[4, 5, 6])
    fake.check()


# -- set aside

def poison(fake: Fake, run: str, text: str, status: int = 400, kind: str = "stream") -> int:
    match = request_of(kind, run)
    return fake.fault(match | {"body": text if kind == "stream" else match["body"] + ".*" + text},
                      {"status": status, "body": {"error": f"{text} is not welcome"}}, count=-1)


def poisonous_run(c: Client, name: str, rows: int, *bad: int) -> Logged:
    """Rows of which some hold a text that the test has refused; the summary ends without it."""
    run = Logged(name).open(c)
    for i, row in enumerate(some_rows(rows)):
        run.log(c, row | {"what": f"poison-{name}-{i}-" if i in bad else "fine"})
    return run


def without(run: Logged, *bad: int) -> list[int]:
    run.rows = [row for i, row in enumerate(run.rows) if i not in bad]
    return [i for i in range(len(run.rows) + len(bad)) if i not in bad]


@test
def a_row_that_is_refused_is_found_set_aside_and_sent_again_on_demand(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    ctl("pause", "models")
    poison(fake, "r", "poison-r-")
    poison(fake, "q", "poison-q-", 422)
    with greeted(daemon.socket) as c:
        r = poisonous_run(c, "r", 100, 37, 71).finish(c)
        q = poisonous_run(c, "q", 3, 0).finish(c)
    ctl("unpause", "models")
    bad = [r.rows[37], r.rows[71]]
    r.is_delivered(fake, steps=without(r, 37, 71))
    q.is_delivered(fake, steps=without(q, 0))
    letters = ctl.await_dead(3)
    assert [(d["run"], d["what"], d["step"], d["status"]) for d in letters if d["run"] == "r"] == \
        [("r", "line", 37, 400), ("r", "line", 71, 400)], letters
    assert [(d["run"], d["step"], d["status"], d["reason"]) for d in letters if d["run"] == "q"] == \
        [("q", 0, 422, "poison-q- is not welcome")], letters
    status = ctl.await_reason("dead_letters")
    assert status["exit"] == 1 and status["state"] == "attention" and status["store"]["dead"] == 3
    screen = text_status(ctl, 1)
    assert '2 of sink models: HTTP 400 "poison-r- is not welcome" (run r)' in screen and "wbxctl dead retry --all" in screen, screen
    number = next(d["id"] for d in letters if d["step"] == 37)
    shown = ctl("dead", "show", number)
    assert "POST /files/wbx-team/p/r/file_stream" in shown and "poison-r-37-" in shown and "is not welcome" in shown, shown
    [whole] = ctl.lines("dead", "show", number)
    assert same(own(json.loads(whole["body"])), bad[0]) and not whole["body_is_cut"], whole
    fake.clear_faults()
    ctl("dead", "retry", "--status", "400")
    until(lambda: len(fake.rows("r")) == 100 and fake.run("r")["state"] == "finished", "both are there, behind the others")
    got = fake.rows("r")[-2:]
    assert [row["_step"] for row in got] == [100, 101] and all(map(same, map(own, got), bad)), got
    assert [d["run"] for d in ctl.dead()] == ["q"]
    fake.check()


@test
def the_search_for_refused_rows_goes_on_after_the_daemon_was_killed(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    ctl("pause", "models")
    poison(fake, "r", "poison-r-")
    bad = [0, 50, 51, 120, 199]
    with greeted(daemon.socket) as c:
        run = poisonous_run(c, "r", 200, *bad)
        run.log(c, {"what": "fine"}).finish(c)
    ctl("unpause", "models")
    for count in range(1, len(bad)):
        ctl.await_dead(count)
        daemon.kill9()
        daemon.start()
    run.is_delivered(fake, steps=without(run, *bad))
    letters = ctl.await_dead(len(bad))
    assert sorted(d["step"] for d in letters) == bad, letters
    fake.check()


@test
def a_config_that_is_refused_is_set_aside_and_the_run_goes_on(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    answers = {f"r{status}": status for status in (400, 413, 422)}
    for name, status in answers.items():
        poison(fake, name, "poison-config", status, kind="upsert")
    with greeted(daemon.socket) as c:
        runs = [Logged(name) for name in answers]
        for run in runs:
            run.config["bad"] = "poison-config"
            run.open(c).log(c, *some_rows(5)).finish(c)
    for run in runs:
        fake.await_run(run.name, "finished")
        assert fake.config(run.name) == {}
    letters = ctl.await_dead(3)
    assert {d["run"]: d["status"] for d in letters} == answers and {d["what"] for d in letters} == {"config"}, letters
    assert {d["reason"] for d in letters} == {"poison-config is not welcome"}, letters
    [whole] = ctl.lines("dead", "show", letters[0]["id"])
    assert json.loads(whole["body"])["bad"] == {"value": "poison-config"}, whole
    fake.clear_faults()
    ctl("dead", "retry", *(d["id"] for d in letters))
    for run in runs:
        until(lambda: fake.config(run.name), "the config comes")
        run.is_delivered(fake)
    fake.check()


@test
def a_config_is_not_blamed_for_one_bad_answer(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.fault(request_of("upsert", "r"), {"status": 400})
    [run] = log_whole(daemon, "r")
    run.is_delivered(fake)
    assert ctl.dead() == []
    fake.check()


@test
def a_config_that_comes_later_and_is_refused_is_set_aside(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    poison(fake, "r", "poison-later", kind="upsert")
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(2)).arrive(c, fake)
        c.send("config", run="r", t=now_us(), data={"bad": "poison-later"})
        c.send("tags", run="r", t=now_us(), add=["tag"])
        run.log(c, *some_rows(2, 2)).finish(c)
    run.is_delivered(fake)  # with the config that it had
    assert fake.run("r")["tags"] == ["tag"], "the rest of that upsert is taken"
    [letter] = ctl.await_dead(1)
    assert letter["what"] == "config" and letter["status"] == 400
    fake.clear_faults()
    ctl("dead", "retry", "--all")
    until(lambda: fake.config("r").get("bad") == "poison-later", "the whole config comes")
    until(lambda: fake.run("r")["state"] == "finished", "and the run ends again")
    fake.check()


@test
def a_summary_that_is_refused_is_set_aside_and_the_run_ends(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    poison(fake, "r", "poison-summary")
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(5)).set_summary(c, note="poison-summary").finish(c)
    fake.await_run("r", "finished")
    [letter] = ctl.await_dead(1)
    assert (letter["what"], letter["status"], letter["reason"]) == ("summary", 400, "poison-summary is not welcome"), letter
    assert len(fake.rows("r")) == 5
    fake.clear_faults()
    ctl("dead", "retry", letter["id"])
    until(lambda: fake.summary("r").get("note"), "the summary comes")
    run.is_delivered(fake)
    fake.check()


@test
def bodies_that_are_too_big_are_halved_and_a_row_that_alone_is_too_big_set_aside(box: Box) -> None:
    fake, daemon, ctl = steered(box, "--max-body", "20000")
    ctl("pause", "models")
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c)
        for i in range(300):
            run.log(c, {"i": i, "text": "x" * (30000 if i == 123 else 400)})
        run.finish(c)
    ctl("unpause", "models")
    run.is_delivered(fake, steps=without(run, 123))
    [letter] = ctl.await_dead(1)
    assert (letter["what"], letter["step"], letter["status"]) == ("line", 123, 413) and letter["bytes"] > 30000, letter
    assert error_kinds(fake) == {"request body over the limit"}, "the judge counts every 413"


@test
def one_body_that_was_too_big_does_not_slow_the_run_down_for_ever(box: Box) -> None:
    fake, daemon = sending(box)
    fake.fault(request_of("stream", "r") | {"body": "big"}, {"status": 413}, count=3)
    ctl = Ctl(daemon)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *[row | {"t": "big"} for row in some_rows(8)]).arrive(c, fake)
        ctl("pause", "models")
        run.log(c, *some_rows(400, 8))
        c.flush()
        before = len(fake.requests("filestream"))
        ctl("unpause", "models")
        fake.await_rows("r", 408)
        used = len(fake.requests("filestream")) - before
        run.finish(c)
    run.is_delivered(fake)
    assert used <= 200, f"{used} requests for 400 small rows"
    assert ctl.dead() == []
    fake.check()


# -- big answers

@test
def a_run_whose_rows_fill_megabytes_is_asked_about_all_the_same(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    big = {f"k{i}": '"\\' * 100 for i in range(4000)}  # each of these characters is escaped twice in W&B's answer
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, big).arrive(c, fake)
        c.send("tags", run="r", t=now_us(), add=["tag"])
        run.log(c, {"n": 1}).arrive(c, fake)
        until(lambda: fake.run("r")["tags"] == ["tag"], "the tags come")
        run.log(c, big | {"n": 2}).arrive(c, fake)
        fake.fault(request_of("stream", "r"), {"status": 404})
        run.log(c, {"n": 3})
        c.flush()
        ctl.await_parked("r")
        ctl("retry", "--run", "r")  # asks for the last row
        run.finish(c)
    run.is_delivered(fake)
    fake.check()


# -- the end

@test
def the_end_of_a_run_that_is_refused_is_not_forgotten(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.fault(request_of("stream", "r") | {"body": '"complete":true'}, {"status": 400}, count=-1)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(5)).finish(c)
    ctl.await_parked("r")
    assert len(fake.rows("r")) == 5
    fake.clear_faults()
    ctl("retry", "--run", f"{ENTITY}/p/r")
    run.is_delivered(fake)
    fake.check()


main()
