"""The way to W&B fails: connections refused, reset, mute or slow, names, certificates, proxies. Then it works, and all arrives."""
from __future__ import annotations

import random
import ssl
from pathlib import Path
from typing import Any

from client import greeted, now_us
from ctl import Ctl, reason
from daemon import Daemon
from delivery import EVERYTHING, KINDS, VIEWER, Logged, all_is_well, log_whole, request_of, requests_of, sending, some_rows, steered
from link import ConnectProxy, DaemonWithNames, NameServer, Relay, certificate
from tap import FULL, Box, main, test, until
from trainer import trainer
from wandb import Fake, forwarding, key_file, own

STALL = "300ms"  # the least is 100 ms; a server may think three times as long, and stalls are looked for once a second


def linked(box: Box, **settings: Any) -> tuple[Fake, Relay, Daemon, Ctl]:
    """A fake W&B behind a relay."""
    fake = Fake(box)
    relay = Relay(box, fake.port)
    _, daemon = sending(box, fake=fake, models__base_url=relay.url, **settings)
    return fake, relay, daemon, Ctl(daemon)


def await_link_down(ctl: Ctl, error: str = "") -> dict:
    """Until status says that the link is down, for this reason."""
    status = until(lambda: (s := ctl.status()) and any(r["code"] == "link_down" and error in r["detail"] for r in s["reasons"])
                   and s or None, f"status says link down: {error}")
    assert status["exit"] == 1 and status["state"] == "behind", status
    assert status["runs"]["parked"] == 0 and status["store"]["dead"] == 0
    return status


# -- connections that break

@test
def a_connection_that_is_reset_loses_and_doubles_nothing(box: Box) -> None:
    fake = Fake(box)
    faults = [fake.fault(VIEWER, {"reset": "before"}), fake.fault(VIEWER, {"reset": "after"})]
    fake, daemon = sending(box, fake=fake)
    names = []
    for when in ("before", "after"):
        for kind in KINDS:
            names.append(f"{when}-{kind}")
            faults.append(fake.fault(request_of(kind, names[-1]), {"reset": when}, count=2))
    faults.append(fake.fault({"kind": "graphql"}, {"reset": "mid_body"}, count=4))  # chosen before the body is read
    faults.append(fake.fault({"kind": "filestream", "path": "/mid/"}, {"reset": "mid_body"}, count=2))
    for run in log_whole(daemon, *names, "mid"):
        run.is_delivered(fake)
    left = {f["id"]: f["left"] for f in fake.ask("/__fault")}
    assert not any(left[f] for f in faults), left
    Ctl(daemon).await_healthy()
    fake.check()


@test
def a_link_that_is_cut_in_the_middle_is_taken_up_where_it_broke(box: Box) -> None:
    fake, relay, daemon, ctl = linked(box)
    with greeted(daemon.socket) as c:
        runs = [Logged(n).open(c).log(c, *some_rows(5)).arrive(c, fake) for n in ("a", "b", "c")]
        for round in range(3):
            relay.cut()
            for run in runs:
                run.log(c, *some_rows(20, len(run.rows)))
            c.flush()
            status = await_link_down(ctl, "onnect")
            assert "no answer from 127.0.0.1" in reason(status, "link_down")["text"]
            assert ctl.sink()["waiting"] == 60, ctl.sink()
            relay.mend()
            for run in runs:
                fake.await_rows(run.name, len(run.rows))
        for run in runs:
            run.finish(c)
    all_is_well(fake, ctl, *runs)


@test
def while_the_link_is_down_one_small_request_at_a_time_tries_it(box: Box) -> None:
    fake, relay, daemon, ctl = linked(box, models__stall_timeout=STALL)
    with greeted(daemon.socket) as c:
        runs = [Logged(f"r{i}").open(c).log(c, *some_rows(2)) for i in range(20)]
        for run in runs:
            run.arrive(c, fake)
        relay.cut()
        for run in runs:
            run.log(c, *some_rows(2, 2))
        c.flush()
        await_link_down(ctl)
        until(lambda: ctl.sink()["tries"] >= 4, "it is tried again")
        assert ctl.sink()["in_flight"] == 0
        relay.is_mute = True
        relay.mend()
        tries = ctl.sink()["tries"]
        until(lambda: ctl.sink()["tries"] >= tries + 2, "it is tried again")
        assert relay.taken <= 3, f"{relay.taken} connections at once to a server that does not answer"
        relay.is_mute = False
        for run in runs:
            run.finish(c)
    for run in runs:
        run.is_delivered(fake)
    fake.check()


@test
def an_answer_that_never_comes_is_not_waited_for_for_ever(box: Box) -> None:
    fake = Fake(box)
    fake.fault(VIEWER, {"hang": 60})
    fake, daemon = sending(box, fake=fake, models__stall_timeout=STALL)
    names = [f"hang-{kind}" for kind in KINDS]
    faults = [fake.fault(request_of(kind, name), {"hang": 60}) for kind, name in zip(KINDS, names)]
    for run in log_whole(daemon, *names, "other"):
        run.is_delivered(fake)
    assert all(fake.hits(f) == 1 for f in faults)
    fake.check()


@test
def a_server_that_stands_still_is_shown_as_a_link_that_is_down(box: Box) -> None:
    fake, daemon, ctl = steered(box, models__stall_timeout=STALL)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *some_rows(3)).arrive(c, fake)
        fake.freeze()
        run.log(c, *some_rows(3, 3)).finish(c)
    await_link_down(ctl, "nothing moved for too long")
    fake.thaw()
    all_is_well(fake, ctl, run)


@test
def a_slow_server_is_waited_for_as_long_as_bytes_move(box: Box) -> None:
    fake, daemon = sending(box, models__stall_timeout="500ms")
    slow_in = fake.fault({"kind": "filestream", "path": "/slow-in/"}, {"slow_in": 200_000})
    slow_out = fake.fault(request_of("upsert", "slow-out"), {"slow_out": 150})  # some 2 s for 300 bytes
    with greeted(daemon.socket) as c:
        slow = Logged("slow-in").open(c).log(c, *[{"i": i, "text": "x" * 1000} for i in range(150)]).finish(c)
    [other] = log_whole(daemon, "slow-out")
    slow.is_delivered(fake)
    other.is_delivered(fake)
    assert fake.hits(slow_in) == 1 and fake.hits(slow_out) == 1
    assert len(requests_of(fake, "upsert", "slow-out")) == 1, "it was not given up"
    fake.check()


@test
def bodies_that_are_too_big_for_a_thin_link_become_smaller(box: Box) -> None:
    fake, relay, daemon, ctl = linked(box, models__stall_timeout="500ms", models__body_max="512K")
    ctl("pause", "models")
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c).log(c, *[{"i": i, "text": "x" * 1000} for i in range(480)]).finish(c)
    relay.bytes_per_s = 100_000  # all of it takes longer than the 1.5 s that a server may think; 64 KiB do not
    ctl("unpause", "models")
    until(lambda: ctl.run_state("r")["rows_done"] > 0, "a body gets through, and its answer back", 20)
    relay.bytes_per_s = 0
    run.is_delivered(fake)
    fake.check()


# -- names

def nameless(box: Box, connect_timeout: str) -> tuple[NameServer, Fake, Daemon]:
    """A daemon that knows its fake by a name, and the server of that name, mute for now."""
    names = NameServer(box)
    fake = Fake(box)
    daemon = DaemonWithNames(box, names, models__key_file=key_file(box),
                             **forwarding(fake, models__base_url=f"http://wandb.test:{fake.port}", models__connect_timeout=connect_timeout))
    return names, fake, daemon.start()


@test
def a_name_server_that_does_not_answer_holds_up_nothing_but_delivery(box: Box) -> None:
    names, fake, daemon = nameless(box, "200ms")
    ctl = Ctl(daemon)
    [run] = log_whole(daemon, "r")  # acknowledged meanwhile
    status = await_link_down(ctl)
    assert "no answer from wandb.test" in reason(status, "link_down")["text"]
    until(lambda: ctl.sink()["tries"] >= 8, "it is tried again")
    assert names.asked > 0
    daemon.stop()  # does not wait for the names, which take minutes
    names.address = "127.0.0.1"
    daemon.start()
    all_is_well(fake, ctl, run)


@test
def a_name_that_comes_back_is_used_without_a_restart(box: Box) -> None:
    names, fake, daemon = nameless(box, "300ms")
    [run] = log_whole(daemon, "r")
    await_link_down(Ctl(daemon), "esolv")
    names.address = "127.0.0.1"
    run.is_delivered(fake)
    fake.check()


# -- certificates

class SafeFake(Fake):
    """A fake that speaks TLS."""

    def __init__(self, box: Box, cert: Path, key: Path) -> None:
        self.context = ssl.create_default_context(cafile=str(cert))
        self.context.check_hostname = False
        super().__init__(box, "--tls-cert", str(cert), "--tls-key", str(key))


def with_config(box: Box, fake: Fake, text: str, **settings: Any) -> tuple[Daemon, Path]:
    """A daemon that reads [models] from a file, too."""
    config = box.dir / "wbxd.conf"
    config.write_text("[models]\n" + text)
    daemon = Daemon(box, models__key_file=key_file(box), **forwarding(fake, **settings))
    return daemon.start("--config", str(config)), config


def reload(daemon: Daemon, config: Path, text: str) -> None:
    config.write_text("[models]\n" + text)
    daemon.reload()


@test
def a_certificate_that_is_not_trusted_is_said_and_ca_file_helps(box: Box) -> None:
    cert, key = certificate(box, "server")
    other, _ = certificate(box, "other")
    fake = SafeFake(box, cert, key)
    daemon, config = with_config(box, fake, "")
    ctl = Ctl(daemon)
    [run] = log_whole(daemon, "r")
    status = await_link_down(ctl, "certificate")
    assert status["sinks"][0]["last_error"]["code"] is None, status["sinks"][0]
    reload(daemon, config, f"ca_file = {other}\n")
    tries = ctl.sink()["tries"]
    until(lambda: ctl.sink()["tries"] > tries + 1, "it is tried with the wrong authority")
    await_link_down(ctl, "certificate")
    assert fake.requests() == [], "nothing was said to a stranger"
    reload(daemon, config, f"ca_file = {cert}\n")
    all_is_well(fake, ctl, run)


@test
def a_ca_file_with_new_contents_is_read_again_by_a_reload(box: Box) -> None:
    cert, key = certificate(box, "server")
    other, _ = certificate(box, "other")
    fake = SafeFake(box, cert, key)
    ca = box.dir / "ca.pem"
    ca.write_bytes(other.read_bytes())
    daemon, config = with_config(box, fake, f"ca_file = {ca}\n")
    [run] = log_whole(daemon, "r")
    await_link_down(Ctl(daemon), "certificate")
    ca.write_bytes(cert.read_bytes())
    reload(daemon, config, f"ca_file = {ca}\n")
    run.is_delivered(fake)
    fake.check()


@test
def a_certificate_of_another_host_and_a_ca_file_that_is_none_are_said(box: Box) -> None:
    cert, key = certificate(box, "server", "DNS:elsewhere.test")
    fake = SafeFake(box, cert, key)
    daemon, config = with_config(box, fake, f"ca_file = {cert}\n")
    log_whole(daemon, "r")
    ctl = Ctl(daemon)
    await_link_down(ctl, "127.0.0.1")
    reload(daemon, config, f"ca_file = {box.dir}/nothing.pem\n")
    await_link_down(ctl, "nothing.pem")
    assert fake.requests() == []


# -- proxies

@test
def a_proxy_is_used_for_http(box: Box) -> None:
    fake, daemon, ctl = steered(box, models__base_url="http://wandb.invalid", models__proxy="http://127.0.0.1:9")
    [run] = log_whole(daemon, "r")
    await_link_down(ctl, "127.0.0.1 port 9")
    daemon.stop()
    daemon.settings["models.proxy"] = fake.url
    daemon.start()
    run.is_delivered(fake)
    assert {e["path"].split("/files")[0] for e in fake.requests()} == {"http://wandb.invalid/graphql", "http://wandb.invalid"}
    fake.check()


@test
def a_proxy_is_used_for_https_and_its_refusal_is_said(box: Box) -> None:
    cert, key = certificate(box, "server", "DNS:wandb.test")
    fake = SafeFake(box, cert, key)
    refusing = ConnectProxy(box, fake.port, "407 Proxy Authentication Required")
    proxy = ConnectProxy(box, fake.port)
    daemon, config = with_config(box, fake, f"ca_file = {cert}\nproxy = {refusing.url}\n", models__base_url="https://wandb.test")
    ctl = Ctl(daemon)
    [run] = log_whole(daemon, "r")
    await_link_down(ctl, "407")
    reload(daemon, config, f"ca_file = {cert}\nproxy = {proxy.url}\n")
    all_is_well(fake, ctl, run)
    assert set(proxy.asked) == {"CONNECT wandb.test:443 HTTP/1.1"}, proxy.asked


# -- kills

@test
def rows_with_gaps_whose_answer_was_lost_by_a_kill_are_known_again(box: Box) -> None:
    fake, daemon = sending(box)
    with greeted(daemon.socket) as c:
        run = Logged("r").open(c)
        run.log(c, *some_rows(1)).arrive(c, fake)
        fault = fake.fault(request_of("stream", "r"), {"hang": 60})  # it is processed first
        steps = [0]
        for i, row in enumerate(some_rows(20, 1)):
            steps.append(10 + i * 3)
            c.send("log", run="r", t=now_us(), step=steps[-1], data=row)
            run.rows.append(row)
            run.summary |= row
        run.finish(c)
        fake.await_hits(fault)
        until(lambda: len(fake.rows("r")) > 1, "W&B has some of them")
        daemon.kill9()
    daemon.start()
    run.is_delivered(fake, steps)
    assert "somebody else wrote" not in daemon.log()
    fake.check()


# -- all of it at once

TRAINER = """\
    name, rank = sys.argv[1], int(sys.argv[2])
    run = wbx.init(project="p", id=name, config={"lr": 1e-6, "names": {f"rank{rank}": name}})
    run.flush()
    say("open")
    step = 0
    while (word := hear()) != "end":
        for _ in range(int(word)):
            run.log({f"loss{rank}": step / 7, "both": {str(rank): step}}, step=step if name == "shared" else None)
            step += 1
        say("logged")
    run.summary[f"best{rank}"] = step
    run.finish()
    say("done")
"""


def any_fault(dice: random.Random) -> tuple[dict, dict]:
    match = dice.choice([{"kind": "filestream"}, {"kind": "graphql"}, EVERYTHING])
    then = dice.choice([{"status": 500}, {"status": 503, "process": True}, {"status": 429, "retry_after": 0.2}, {"reset": "before"},
                        {"reset": "after"}, {"reset": "mid_body"}, {"truncate": 5}, {"garbage": True}, {"hang": 5}, {"delay": 0.3},
                        {"status": 401}, {"status": 403, "process": True}, {"status": 404}, {"status": 404, "process": True}])
    return match, then


@test
def faults_and_killed_daemons_together_lose_and_double_nothing(box: Box) -> None:
    seed = random.randrange(1 << 32)
    print(f"# seed {seed}", flush=True)
    dice = random.Random(seed)
    fake, daemon = sending(box, models__stall_timeout=STALL, models__merge_max="1h")
    ranks = [trainer(box, TRAINER, *who, socket=daemon.socket, name="-".join(who))
             for who in (("shared", "0"), ("shared", "1"), ("alone", "2"))]
    for t in ranks:  # a row waits for every writer that is there
        t.expect_line("open")
    ctl = Ctl(daemon)
    total = 0
    for _ in range(40 if FULL else 8):
        faults = [fake.fault(*any_fault(dice)) for _ in range(3)]
        total += (count := dice.randrange(5, 60))
        for t in ranks:
            t.tell(str(count))
        if dice.random() < 0.5:
            # the last row of the run with steps is open: it waits. A run that was parked, or the key, needs a person
            until(lambda: fake.hits(faults[0]) or ctl.sink()["waiting"] <= 2 or ctl.sink()["state"] == "key_refused"
                  or ctl.status()["runs"]["parked"], "the fault is met, or nothing is left that may meet it")
        if dice.random() < 0.3:
            for t in ranks:
                t.expect_line("logged")
            daemon.kill9()
        else:
            daemon.kill9()
            for t in ranks:
                t.expect_line("logged")
        daemon.start()
        ctl("retry")  # some were parked
    for t in ranks:
        t.tell("end")
        t.expect_line("done")
        assert t.wait() == 0
    fake.clear_faults()
    until(lambda: ctl("retry") and {r["state"] for r in fake.runs().values()} == {"finished"}, "all runs are finished")
    for name, writers in {"shared": (0, 1), "alone": (2,)}.items():
        want = [(i, {f"loss{w}": i / 7 for w in writers} | {"both": {str(w): i for w in writers}}) for i in range(total)]
        got = [(r["_step"], own(r)) for r in fake.rows(name)]
        assert got == want, f"{name}: {[g for g in got if g not in want]} for {[w for w in want if w not in got]}"
        assert fake.config(name) == {"lr": 1e-6, "names": {f"rank{w}": name for w in writers}}
        assert {k: v for k, v in fake.summary(name).items() if k.startswith("best")} == {f"best{w}": total for w in writers}
    assert ctl.dead() == []
    fake.check()


main()
