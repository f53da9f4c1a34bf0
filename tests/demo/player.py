"""One process of a run that is played back: its calls of the package wbx, each at its time.

    player.py EVENTS PACE

EVENTS holds JSON lines with `t` (seconds) and `kind`. What has t <= 0 comes first; then the player says "ready", waits for a
line on standard input, and plays the rest at PACE (0.25: a quarter as fast). At the end it says as JSON how long its calls took.
"""
from __future__ import annotations

import json
import sys
import time
from typing import Any, Callable

import wbx


def unpacked(value: Any) -> Any:
    """Tables and histograms as objects of the package."""
    if not isinstance(value, dict):
        return value
    if value.get("_type") == "table":
        return wbx.Table(columns=value["columns"], data=value["data"])
    if value.get("_type") == "histogram":
        return wbx.Histogram(np_histogram=(value["values"], value["bins"]))
    return {k: unpacked(v) for k, v in value.items()}


class Player:
    def __init__(self) -> None:
        self.run: Any = None
        self.calls: dict[str, str] = {}  # id in the recording -> id of today
        self.seconds: list[float] = []

    def play(self, event: dict) -> None:
        """One event. The times of what a trainer calls while it trains are kept."""
        act: Callable[[dict], None] = getattr(self, "on_" + event["kind"])
        if "data" in event:
            event["data"] = unpacked(event["data"])
        began = time.perf_counter()
        act(event)
        if event["kind"] in ("log", "summary", "config", "call_start", "call_end"):
            self.seconds.append(time.perf_counter() - began)

    def on_init(self, e: dict) -> None:
        self.run = wbx.init(project=e["project"], name=e["name"], id=e["id"], group=e["group"], tags=e["tags"], resume=e["resume"])

    def on_attach(self, e: dict) -> None:
        self.run = wbx.attach(e["project"], e["id"])

    def on_config(self, e: dict) -> None:
        self.run.config.update(e["data"])

    def on_define_metric(self, e: dict) -> None:
        self.run.define_metric(e["name"], step_metric=e["step_metric"], step_sync=e["step_sync"], summary=e.get("summary"))

    def on_label(self, e: dict) -> None:
        self.run._label(code=e["code"])

    def on_log(self, e: dict) -> None:
        self.run.log(e["data"], step=e["step"], commit=e["commit"])

    def on_summary(self, e: dict) -> None:
        self.run.summary.update(e["data"])

    def on_call_start(self, e: dict) -> None:
        parent = self.calls[e["parent_id"]] if e["parent_id"] else None
        self.calls[e["id"]] = self.run.call_start(e["op"], e["inputs"], parent_id=parent, trace_id=e["trace_id"])

    def on_call_end(self, e: dict) -> None:
        self.run.call_end(self.calls[e["id"]], e["output"])

    def on_finish(self, e: dict) -> None:
        self.run.finish(e["exit_code"])


def wait_until(moment: float) -> None:
    left = moment - time.monotonic()
    if left > 0:
        time.sleep(left)


def main() -> None:
    path, pace = sys.argv[1], float(sys.argv[2])
    with open(path, encoding="utf-8") as f:
        events = [json.loads(line) for line in f]
    player = Player()
    for event in events:
        if event["t"] <= 0:
            player.play(event)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.monotonic()
    for event in events:
        if event["t"] > 0:
            wait_until(start + event["t"] / pace)
            player.play(event)
    print(json.dumps(player.seconds), flush=True)


if __name__ == "__main__":
    main()
