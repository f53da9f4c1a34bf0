"""Settings and the key: where they come from and in which order, what is refused and how that is said, what a reload does,
and that the key is seen nowhere."""
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

from client import greeted, now_us, opened
from ctl import Ctl, ctl_env
from daemon import WBXD, Daemon
from process import Process, clean_env
from tap import WAIT_SECONDS, Box, main, test, until
from wandb import KEY, Fake, forwarding, key_file

CONFIG = 78  # exit code: the settings are wrong
USAGE = 64
OTHER_KEY = "f" * 40
ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


def check_config(box: Box, *args: Any, file: str | bytes | None = None, **env: str) -> tuple[int, str]:
    """wbxd --check-config with this text as its file; its exit code and what it said."""
    words: list[Any] = [WBXD, "--dir", box.dir / "d", "--check-config", *args]
    if file is not None:
        path = box.dir / "wbxd.conf"
        path.write_bytes(file if isinstance(file, bytes) else file.encode())
        words += ["--config", path]
    done = subprocess.run([str(w) for w in words], env=clean_env(**env), capture_output=True, text=True, timeout=WAIT_SECONDS)
    return done.returncode, done.stdout + done.stderr


def refuses(box: Box, file: str | bytes, line: int, *words: str) -> None:
    code, said = check_config(box, file=file)
    assert code == CONFIG, f"{file!r} ended with {code}: {said}"
    for word in (f"{box.dir}/wbxd.conf:{line}: ", *words):
        assert word in said, f"{file!r}: {said!r} does not hold {word!r}"


def takes(box: Box, file: str) -> None:
    code, said = check_config(box, file=file)
    assert code == 0, f"{file!r}: {said}"


# -- sources and their order


def limit_of(box: Box, name: str, *args: str, **env: str) -> int:
    """store.limit, as a running daemon shows it."""
    daemon = Daemon(box, name=name)
    daemon.start(*args, **env)
    limit = Ctl(daemon).status()["store"]["limit_bytes"]
    daemon.stop()
    return limit


@test
def the_command_line_wins_over_the_environment_and_that_over_the_file(box: Box) -> None:
    file = box.dir / "wbxd.conf"
    file.write_text("[store]\nlimit = 100M\n")
    config = ("--config", str(file))
    assert limit_of(box, "default") == 50 << 30
    assert limit_of(box, "file", *config) == 100 * MIB
    assert limit_of(box, "env", *config, WBXD_STORE_LIMIT="200M") == 200 * MIB
    assert limit_of(box, "line", *config, "--store.limit=300M", WBXD_STORE_LIMIT="200M") == 300 * MIB
    assert limit_of(box, "last", *config, "--store.limit=300M", "--store.limit=400M") == 400 * MIB
    assert limit_of(box, "no-file", WBXD_STORE_LIMIT="200M") == 200 * MIB


@test
def the_directory_may_be_named_from_where_one_stands(box: Box) -> None:
    done = subprocess.run([str(WBXD), "--dir", "mine", "--check-config"], env=clean_env(), cwd=box.dir, capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert done.returncode == 0, done.stderr
    daemon = Daemon(box, box.dir / "mine")
    process = Process(box, [WBXD, "--dir", "mine", "--store.reserve=0"], env=clean_env(HOME=str(box.dir)), cwd=box.dir, log=daemon.log_path)
    until(lambda: (box.dir / "mine/wbx.sock").is_socket() and (box.dir / "mine/journal").is_dir(), "it runs there")
    process.kill9()


@test
def a_file_that_is_named_must_be_there(box: Box) -> None:
    code, said = check_config(box, "--config", box.dir / "none.conf")
    assert code == CONFIG and "none.conf: No such file" in said, said
    code, said = check_config(box, "--config", box.dir)
    assert code == CONFIG and "cannot be read" in said, said
    assert check_config(box)[0] == 0, "without --config there need not be one"


@test
def mistakes_of_environment_and_command_line_name_their_place(box: Box) -> None:
    code, said = check_config(box, WBXD_STORE_KEEP_AGE="a week")
    assert code == CONFIG and 'environment WBXD_STORE_KEEP_AGE: store.keep_age: "a week" is not a duration' in said, said
    code, said = check_config(box, "--store.keep=lots")
    assert code == CONFIG and 'command line: store.keep: "lots" is not bytes' in said, said
    code, said = check_config(box, "--store.kep=1G")
    assert code == CONFIG and "command line: store.kep: is no setting of wbxd" in said, said
    code, said = check_config(box, "--store.keep")
    assert code == CONFIG and "store.keep: needs a value" in said, said
    for wrong in (["--nonsense"], ["store.keep=1G"], ["1G", "--store.keep"], ["--config"]):
        code, said = check_config(box, *wrong)
        assert code == USAGE and wrong[0] in said, said


# -- the file


@test
def the_sample_file_is_right_and_holds_every_key(box: Box) -> None:
    sample = (ROOT / "systemd/wbxd.conf").read_text()
    takes(box, sample)
    takes(box, re.sub(r"^#(?=\w+ =)", "", sample, flags=re.M))
    keys = re.findall(r'^\t\{"(\w+\.\w+)",', (ROOT / "daemon/config.c").read_text(), flags=re.M)
    section, found = "", []
    for line in sample.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif (match := re.match(r"#(\w+) =", line)):
            found.append(f"{section}.{match[1]}")
    assert len(keys) > 20 and sorted(keys) == sorted(found), set(keys) ^ set(found)


@test
def every_mistake_in_the_file_names_file_line_and_key(box: Box) -> None:
    refuses(box, "[store]\nlimt = 5G\n", 2, "store.limt", "is no setting of wbxd")
    refuses(box, "\n# a comment\n[sotre]\nlimit = 5G\n", 4, "sotre.limit", "is no setting")
    refuses(box, "limit = 5G\n", 1, "limit", "stands before the first [section]")
    refuses(box, "[store]\nlimit\n", 2, "neither [section] nor key = value")
    refuses(box, "[store\nlimit = 5G\n", 1, "neither [section] nor key = value")
    refuses(box, "[store]\nlimit = much\n", 2, "store.limit", '"much" is not bytes, such as 512M')
    refuses(box, "[store]\nlimit = 5 G\n", 2, "store.limit", "is not bytes")
    refuses(box, "[store]\nlimit = -5G\n", 2, "store.limit", "is not bytes")
    refuses(box, "[store]\nlimit =\n", 2, "store.limit", "is not bytes")
    refuses(box, "[store]\nlimit = 99999999999999999999\n", 2, "store.limit", "is not bytes")
    refuses(box, "[store]\nlimit = 9999999999T\n", 2, "store.limit", "is not bytes")
    refuses(box, "[store]\nlimit = 5G # five\n", 2, "store.limit", "is not bytes")
    refuses(box, "[store]\nkeep_age = 5\n", 2, "store.keep_age", "is not a duration")
    refuses(box, "[store]\nkeep_age = 5 days\n", 2, "store.keep_age", "is not a duration")
    refuses(box, "[store]\ndir = here\n", 2, "store.dir", "must be an absolute path")
    refuses(box, "[store]\ndir =\n", 2, "store.dir", "must be an absolute path")
    refuses(box, "[models]\nrequests_per_s = 1.5\n", 2, "models.requests_per_s", "is not a whole number")
    refuses(box, "[models]\nbase_url = api.wandb.ai\n", 2, "models.base_url", "must be https://")
    refuses(box, "[models]\nbase_url = https://me:pw@host\n", 2, "models.base_url", "must not hold a user or a key")
    refuses(box, "[daemon]\nsocket_mode = rw\n", 2, "daemon.socket_mode", "is not an octal mode")
    refuses(box, "[daemon]\nsocket_mode = 0888\n", 2, "daemon.socket_mode", "is not an octal mode")
    refuses(box, "[daemon]\nlog_level = loud\n", 2, "daemon.log_level", "must be debug, info, warn or error")
    refuses(box, "[models]\nca_file = /" + "x" * 300 + "\nproxy = y\n", 2, "longer than")
    refuses(box, "[store]\n\nkeep = x\nlimit = y\n[nonsense\n", 3, "store.keep")
    refuses(box, "[store]\n[nonsense\nkeep = x\n", 2, "neither [section] nor key = value")


@test
def ranges_are_kept_to_at_both_ends(box: Box) -> None:
    ranges = {
        "daemon.socket_mode": ("0600", "0777", "0577", "1000"),
        "daemon.gone_after": ("0", "1d", None, "86400001ms"),
        "daemon.idle_exit": ("0", "365d", None, "366d"),
        "store.limit": ("64M", "7T", "67108863", None),
        "store.reserve": ("0", "7T", None, None),
        "store.user_limit": ("0", "7T", None, None),
        "store.keep": ("0", "7T", None, None),
        "store.keep_age": ("0", "3650d", None, "3651d"),
        "models.interval": ("50ms", "1h", "49ms", "3600001ms"),
        "models.heartbeat": ("500ms", "60s", "499ms", "60001ms"),
        "models.merge_max": ("0", "24h", None, "25h"),
        "models.connect_timeout": ("100ms", "10m", "99ms", "11m"),
        "models.stall_timeout": ("100ms", "60m", "0", "61m"),
        "models.backoff_max": ("100ms", "60m", "99ms", "61m"),
        "models.requests_per_s": ("0", "100000", None, "100001"),
        "models.bytes_per_s": ("0", "7T", None, None),
        "models.body_max": ("64K", "10M", "65535", "10485761"),
    }
    for name, (low, high, below, above) in ranges.items():
        section, key = name.split(".")
        takes(box, f"[{section}]\n{key} = {low}\n")
        takes(box, f"[{section}]\n{key} = {high}\n")
        for outside in filter(None, (below, above)):
            refuses(box, f"[{section}]\n{key} = {outside}\n", 2, name, "is outside what is allowed")


@test
def a_file_may_be_written_in_more_than_one_way(box: Box) -> None:
    takes(box, "\ufeff[store]\r\nlimit = 5G\r\n")
    takes(box, "[store]\nlimit=5G\nlimit: 6G\n; a comment\n# one more\nkeep = 1G ; and one behind a value\n")
    takes(box, "[store]\n   limit = 5G\n\tkeep = 1G\n")  # an indented line is a line of its own
    takes(box, "")
    takes(box, "[store]\nlimit = 5G")
    refuses(box, "[store]\nlimit = 5G\n   keep = x\n", 3, "store.keep")


# -- reload


def with_file(box: Box, text: str, **settings: Any) -> tuple[Daemon, Path]:
    """A daemon that reads a file of its own, with that text."""
    file = box.dir / "wbxd.conf"
    file.write_text(text)
    daemon = Daemon(box, **settings)
    daemon.settings.pop("models.base_url")  # the file's
    return daemon.start("--config", str(file)), file


@test
def a_reload_takes_what_may_change(box: Box) -> None:
    daemon, file = with_file(box, "[models]\nbase_url = http://127.0.0.1:9\n")
    file.write_text("[models]\nbase_url = http://127.0.0.1:10\n[daemon]\nlog_level = debug\n")
    daemon.reload()
    assert Ctl(daemon).status()["account"]["base_url"] == "http://127.0.0.1:10"
    daemon.stop()
    assert "from=running to=stopping" in daemon.log(), "it logs at debug now"
    assert "next start only" not in daemon.log()


@test
def a_bad_file_keeps_the_settings_and_says_so(box: Box) -> None:
    daemon, file = with_file(box, "[models]\nbase_url = http://127.0.0.1:9\n")
    file.write_text("[daemon]\nlog_level = debug\n[models]\nbase_url = http://127.0.0.1:10\ninterval = never\n")
    daemon.process.signal(signal.SIGHUP)
    daemon.await_log(f'{file}:5: models.interval: "never" is not a duration')
    daemon.await_log("the settings in use stay as they are")
    file.unlink()
    daemon.process.signal(signal.SIGHUP)
    daemon.await_log("No such file or directory; the settings in use stay as they are")
    assert Ctl(daemon).status()["account"]["base_url"] == "http://127.0.0.1:9"
    with opened(daemon.socket) as client:
        client.log()
        client.flush()
    daemon.stop()
    assert "from=running to=stopping" not in daemon.log(), "it does not log at debug"


@test
def what_counts_at_the_start_stays_until_the_next(box: Box) -> None:
    other = Daemon(box, name="other").start()
    daemon, file = with_file(box, "[models]\nbase_url = http://127.0.0.1:9\n")
    file.write_text(f"[models]\nbase_url = http://127.0.0.1:9\n[daemon]\nsocket = {other.socket}\n[store]\nlimit = 100M\n"
                    f"dir = {box.dir}/elsewhere\n")
    daemon.reload()
    daemon.await_log("key=daemon.socket changes with the next start only")
    store = Ctl(daemon).status()["store"]
    assert store["limit_bytes"] == 50 << 30 and store["path"] == str(daemon.store.path), store
    with opened(daemon.socket) as client:
        client.log()
        client.flush()
    assert len(daemon.store.rows(kind="log")) == 1
    daemon.reload()
    daemon.await_log("next start only", 2)  # still so
    daemon.stop()
    assert other.socket.is_socket(), "the other daemon's socket is its own to remove"
    assert not (box.dir / "elsewhere").exists()
    greeted(other.socket).close()
    other.stop()


@test
def a_reload_keeps_environment_and_command_line_above_the_file(box: Box) -> None:
    daemon, file = with_file(box, "", models__base_url="http://127.0.0.1:9")
    daemon.settings["models.base_url"] = "http://127.0.0.1:11"
    daemon.stop()
    daemon.start("--config", str(file), WBXD_DAEMON_LOG_LEVEL="warn")
    file.write_text("[models]\nbase_url = http://127.0.0.1:10\n[daemon]\nlog_level = debug\n")
    daemon.process.signal(signal.SIGHUP)
    before = daemon.log()
    Ctl(daemon).status()
    assert Ctl(daemon).status()["account"]["base_url"] == "http://127.0.0.1:11"
    daemon.stop()
    assert "stopping" not in daemon.log()[len(before):], "the environment's log_level holds"


@test
def status_of_a_daemon_that_cannot_start_for_its_settings_is_told(box: Box) -> None:
    daemon, file = with_file(box, "[models]\nbase_url = http://127.0.0.1:9\n")
    daemon.stop()
    env = ctl_env(box) | {"WBXD_STORE_LIMIT": "much"}
    done = subprocess.run(Ctl(daemon).args("status"), env=env, capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert done.returncode == 3 and "NOT RUNNING" in done.stdout, done
    assert 'environment WBXD_STORE_LIMIT: store.limit: "much" is not bytes' in done.stderr, done


# -- where the key comes from


class Sources:
    """All four sources of a key, with a key in each."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.netrc = box.dir / ".netrc"  # the box is the daemon's home
        self.netrc.touch(mode=0o600)
        self.netrc.write_text(f"machine other.example login user password {OTHER_KEY}\n"
                              f"machine 127.0.0.1\n  login user\n  password {KEY}\n")
        self.file = key_file(box)
        self.credentials = box.dir / "credentials"
        self.credentials.mkdir()
        (self.credentials / "wandb-api-key").write_text(KEY)
        self.env = {"WANDB_API_KEY": KEY, "CREDENTIALS_DIRECTORY": str(self.credentials)}

    def only(self, name: str) -> "Sources":
        if name != "credential":
            del self.env["CREDENTIALS_DIRECTORY"]
        if name != "file":
            self.file.unlink()
        if name != "variable":
            del self.env["WANDB_API_KEY"]
        if name != "netrc":
            self.netrc.unlink()
        return self

    def daemon(self, fake: Fake, **settings: Any) -> Daemon:
        return Daemon(self.box, env=self.env, models__key_file=self.file, **forwarding(fake, **settings))


@test
def the_sources_of_the_key_have_an_order(box: Box) -> None:
    fake = Fake(box, "--api-key", KEY)
    have = Sources(box)
    daemon = have.daemon(fake)

    def uses(source: str) -> None:
        daemon.log_path.write_text("")
        daemon.start()
        daemon.await_log(f"a key is there, from {source}")
        daemon.await_log('state="ok"')  # and it is the right one
        daemon.stop()

    uses("the credential wandb-api-key")
    (have.credentials / "wandb-api-key").write_text(" \n\n")  # empty is none
    uses(str(have.file))
    have.file.write_text("\n")
    uses("$WANDB_API_KEY")
    del daemon.env["WANDB_API_KEY"]
    uses(str(have.netrc))
    have.netrc.write_text(f"machine other.example login user password {KEY}\n")
    daemon.log_path.write_text("")
    daemon.start()
    daemon.await_log('state="no key"')
    daemon.stop()


@test
def a_key_file_that_others_may_read_is_refused(box: Box) -> None:
    fake = Fake(box, "--api-key", KEY)
    have = Sources(box)
    del have.env["CREDENTIALS_DIRECTORY"]
    for mode in (0o640, 0o604, 0o660):
        have.file.chmod(mode)
        daemon = have.daemon(fake, daemon__log_level="debug").start()
        daemon.await_log(f"{have.file}: others may read it; chmod 600")
        ctl = Ctl(daemon)
        [reason] = [r for r in ctl.status()["reasons"] if r["code"] == "no_key"]
        assert ctl.status()["account"]["key_tail"] is None, "no other source takes its place"
        assert reason["sink"] == "models"
        daemon.stop()
        daemon.log_path.write_text("")
    assert fake.requests() == []
    daemon.start()
    have.file.chmod(0o600)  # is seen without a word to the daemon
    daemon.await_log("a key is there")
    daemon.stop()


@test
def what_is_no_key_is_refused_without_being_shown(box: Box) -> None:
    fake = Fake(box)
    have = Sources(box).only("file")
    for text in ("short", "x" * 2000, "a key with blanks in between it", "<html>not a key at all</html>"):
        have.file.write_text(text)
        daemon = have.daemon(fake).start()
        daemon.await_log("what stands there is no API key")
        daemon.stop()
        assert text not in daemon.log()
        daemon.log_path.write_text("")
    have.file.unlink()
    have.file.mkdir()
    daemon = have.daemon(fake).start()
    daemon.await_log("cannot be read by the daemon's user")
    daemon.stop()
    assert fake.requests() == []


@test
def a_netrc_that_others_may_read_is_no_source(box: Box) -> None:
    fake = Fake(box)
    have = Sources(box).only("netrc")
    have.netrc.chmod(0o644)
    daemon = have.daemon(fake).start()
    daemon.await_log('state="no key"')
    assert Ctl(daemon).codes() == ["no_key"]
    have.netrc.chmod(0o600)
    daemon.await_log(f"a key is there, from {have.netrc}")
    daemon.stop()


@test
def a_refused_key_is_replaced_while_the_daemon_runs(box: Box) -> None:
    fake = Fake(box, "--api-key", KEY)
    have = Sources(box).only("file")
    have.file.write_text(OTHER_KEY)
    daemon = have.daemon(fake).start()
    Ctl(daemon).await_reason("auth_refused")
    have.file.write_text(KEY)
    daemon.await_log('state="ok"')
    daemon.stop()


@test
def a_reload_takes_another_key(box: Box) -> None:
    fake = Fake(box)
    have = Sources(box).only("file")
    daemon = have.daemon(fake).start()
    daemon.await_log('state="ok"')
    have.file.write_text(OTHER_KEY)
    daemon.process.signal(signal.SIGHUP)
    until(lambda: Ctl(daemon).status()["account"]["key_tail"] == OTHER_KEY[-4:], "the other key is in use")
    daemon.stop()


# -- secrecy

LOOKS = (["status"], ["status", "--json"], ["backlog"], ["backlog", "--json"], ["runs"], ["runs", "--json"], ["tail", "-n", "100"],
         ["tail", "--json", "-n", "100"], ["dead", "list"], ["dead", "list", "--json"], ["dead", "show", "1"],
         ["dead", "show", "1", "--json"], ["flush", "--json"], ["key", "check"], ["key", "check", "--json"])


def processes_of(daemon: Daemon) -> dict[str, bytes]:
    """What everybody, or the same user, may read of the process."""
    proc = Path(f"/proc/{daemon.process.pid}")
    return {str(proc / name): (proc / name).read_bytes() for name in ("environ", "cmdline", "comm", "status")}


def has_no(where: str, data: bytes) -> None:
    assert KEY.encode() not in data, f"{where} shows the key"
    assert KEY.encode().hex().encode() not in data, f"{where} shows the key in hex"


def hides_the_key(box: Box, source: str) -> None:
    fake = Fake(box, "--api-key", KEY)
    have = Sources(box).only(source)
    daemon = have.daemon(fake, daemon__log_level="debug").start()
    if source == "user":
        key_set = Ctl(daemon).run("key", "set", stdin=KEY)
        assert key_set.code == 0, key_set
        has_no("wbxctl key set", (key_set.out + key_set.err).encode())
    # what is refused for good, and a server's troubles, are told in more words than what goes well
    fake.fault({"kind": "filestream"}, {"status": 500})
    fake.fault({"kind": "filestream", "body": "refuse_this"}, {"status": 400, "body": {"error": "no"}}, count=-1)
    with greeted(daemon.socket) as client:
        client.open_run("r", config={"a": 1})
        client.log("r")
        client.send("log", run="r", t=now_us(), data={"refuse_this": 1})
        client.flush()
        Ctl(daemon).await_dead(1)
        fake.clear_faults()
        client.log("r")
        client.finish("r")
    fake.await_run("r", "finished")
    export = box.dir / "export"
    ctl = Ctl(daemon)
    for words in (*LOOKS, ["dead", "export", str(export)]):
        result = ctl.run(*words)
        has_no(f"wbxctl {' '.join(words)}", (result.out + result.err).encode())
    assert export.read_bytes(), "something was exported"
    daemon.process.signal(signal.SIGHUP)
    daemon.await_log("settings read again")
    for where, data in processes_of(daemon).items():
        has_no(where, data)
    store_files = [p for p in daemon.dir.rglob("*") if p.is_file() and p.parent.name != "keys"]
    assert any(p.name == "wbx.db" for p in store_files)
    for path in (daemon.log_path, export, *store_files):  # the write-ahead log too, while it runs
        has_no(str(path), path.read_bytes())
    daemon.kill9()
    answer = subprocess.run([*ctl.args("status", "--json")], env=ctl_env(box), capture_output=True, timeout=WAIT_SECONDS)
    assert json.loads(answer.stdout)["state"] == "not_running", answer.stdout
    has_no("wbxctl without a daemon", answer.stdout + answer.stderr)
    for path in (daemon.log_path, *(p for p in daemon.dir.rglob("*") if p.is_file() and p.parent.name != "keys")):
        has_no(str(path), path.read_bytes())


@test
def the_key_of_a_credential_is_seen_nowhere(box: Box) -> None:
    hides_the_key(box, "credential")


@test
def the_key_of_a_file_is_seen_nowhere(box: Box) -> None:
    hides_the_key(box, "file")


@test
def the_key_of_the_environment_is_seen_nowhere(box: Box) -> None:
    hides_the_key(box, "variable")


@test
def the_key_of_a_netrc_is_seen_nowhere(box: Box) -> None:
    hides_the_key(box, "netrc")


@test
def the_key_that_a_user_handed_over_is_seen_nowhere_but_in_its_file(box: Box) -> None:
    hides_the_key(box, "user")


@test
def a_detached_daemon_hides_the_key_of_the_environment_too(box: Box) -> None:
    daemon = Daemon(box)
    args = [*daemon.args(), "--detach"]
    parent = Process(box, args, env=clean_env(HOME=str(box.dir), WANDB_API_KEY=KEY), log=daemon.log_path)
    assert parent.wait() == 0, daemon.log()
    pid = Ctl(daemon).status()["pid"]
    for name in ("environ", "cmdline"):
        has_no(name, Path(f"/proc/{pid}/{name}").read_bytes())
    assert Ctl(daemon).status()["account"]["key_tail"] == KEY[-4:]
    os.kill(pid, signal.SIGTERM)
    until(lambda: "stopped" in daemon.log(), "it has stopped")


main()
