"""./dev bench --link: a GRPO run with big tables over narrow links. How late rows are while tables queue, and how much of the link is used."""
from __future__ import annotations

import contextlib
import random
import time
import urllib.error
from typing import Any

from client import greeted, now_us
from ctl import Ctl
from measure import emit, memory_mb, percentile
from msgpack_lite import pack
from narrow import DaemonBehind, Narrow
from tap import Box, pause
from wandb import ENTITY, Fake, forwarding, key_file

TABLE_BYTES = 4 << 20
STEP_S = 20  # a table each; at 1 Mbit/s one takes 35 s
ROWS_PER_S = 5
LINKS: dict[str, dict[str, float]] = {
    "1 Mbit/s, 300 ms": {},
    "the same, 1 % lost": {"loss": 0.01},
    "the same, cut for 5 s every 120 s": {"cut_every_s": 120},
}
PATIENCE_S = 900


def table(step: int) -> bytes:
    dice = random.Random(step)
    rows = [[step, n, f"{dice.getrandbits(8000):x}", f"{dice.getrandbits(8000):x}", dice.random()] for n in range(TABLE_BYTES // 4020)]
    return pack({"columns": ["step", "n", "prompt", "completion", "reward"], "data": rows})


class Run:
    """Logs as a training does, and looks when its rows are there."""

    def __init__(self, link: Narrow, daemon: DaemonBehind, fake: Fake) -> None:
        self.link, self.daemon, self.fake = link, daemon, fake
        self.client = greeted(daemon.socket)
        self.client.open_run("r")
        self.logged: list[float] = []
        self.seen: list[float] = []
        self.tables = 0

    def log(self, **data: Any) -> None:
        self.logged.append(time.monotonic())
        self.client.send("log", run="r", t=now_us(), data={"n": len(self.logged), **data})

    def log_table(self) -> None:
        self.tables += 1
        blob = table(self.tables)
        digest = self.client.blob(self.tables, blob)
        self.logged.append(time.monotonic())
        value = {"_type": "table", "blob": digest, "size": len(blob), "ncols": 5, "nrows": TABLE_BYTES // 4020}
        self.client.send("log", run="r", t=now_us(), data={"n": len(self.logged), "rollouts": value}, blobs=[digest])

    def look(self) -> None:
        with contextlib.suppress(urllib.error.HTTPError):  # not there yet
            self.seen += [time.monotonic()] * (len(self.fake.rows("r")) - len(self.seen))

    def go(self, seconds: float, cut_every_s: float) -> None:
        began = last_look = time.monotonic()
        next_table = next_row = began
        while (now := time.monotonic()) < began + seconds:
            if cut_every_s:
                self.link.is_cut = (now - began) % cut_every_s > cut_every_s - 5
            if now >= next_table:
                self.log_table()
                next_table += STEP_S
            if now >= next_row:
                self.log(loss=random.random())
                next_row += 1 / ROWS_PER_S
            if now >= last_look + 0.5:
                self.look()
                last_look = now
            pause(0.02)
        self.link.is_cut = False


def await_rows(run: Run) -> None:
    end = time.monotonic() + PATIENCE_S
    while len(run.seen) < len(run.logged) and time.monotonic() < end:
        run.look()
        pause(0.2)


def measure(box: Box, seconds: float, loss: float = 0, cut_every_s: float = 0) -> dict[str, Any]:
    link = Narrow(box, 1e6, 0.3, loss)
    fake = Fake(box, "--host", link.far)
    daemon = DaemonBehind(box, link, models__key_file=key_file(box), **forwarding(fake, models__interval="5s", models__backoff_max="10s"))
    daemon.start()
    run = Run(link, daemon, fake)
    before, began = link.bytes_up, time.monotonic()
    run.go(seconds, cut_every_s)
    up, took = link.bytes_up - before, time.monotonic() - began
    memory = memory_mb([daemon.process.pid])
    puts = [e for e in fake.requests("storage") if e.get("status") == 200]
    await_rows(run)
    lags = sorted(s - l for s, l in zip(run.seen, run.logged))
    link.bits_per_s = link.delay_s = link.loss = 0  # it opens
    opened = time.monotonic()
    run.client.finish("r")
    fake.await_run("r", "finished", seconds=PATIENCE_S)
    tables = fake.ask(f"/__tables?run={ENTITY}/p/r")
    waiting = [s["waiting"] for s in Ctl(daemon).status()["sinks"]]
    return {"seconds": round(took), "rows": len(lags), "lag_p50_s": round(percentile(lags, 0.5), 1), "lag_p99_s": round(percentile(lags, 0.99), 1),
            "of_the_link": round(up * 8 / 1e6 / took, 2), "daemon_mb": memory, "tables_logged": run.tables, "files_in_time": len(puts),
            "tables_after_it_opened": sum(t["source"] == "file" for t in tables), "seconds_then": round(time.monotonic() - opened, 1),
            "waiting": sum(waiting)}


def run_links(seconds: float) -> None:
    for name, how in LINKS.items():
        box = Box("wbx-link-")
        try:
            emit("link", name, "", **measure(box, seconds, how.get("loss", 0), how.get("cut_every_s", 0)))
        finally:
            box.end()
            box.remove()
