"""The same script with `wandb` and with `wbx`: W&B ends up with the same rows, config, summary and end."""
from __future__ import annotations

import json
from typing import Any

import scenarios
from daemon import started
from process import Process, clean_env
from sdk import sdk_python
from tap import FULL, Box, Skip, main, test
from trainer import python_env
from wandb import KEY, Fake, forwarding, key_file, same

# What each client adds of its own accord.
OWN_KEYS = {"_timestamp", "_runtime", "_wandb"}


def run_script(box: Box, module: str, scenario: str, **env: str) -> int:
    base = python_env if module == "wbx" else clean_env
    process = Process(box, [sdk_python(), scenarios.__file__, module, scenario, module], env=base(HOME=str(box.dir), **env),
                      log=box.log_file(f"{module}.log"))
    return process.wait(120)


def without_own(value: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in value.items() if k not in OWN_KEYS or k == "_timestamp" and v < 1e9}  # the scenario's own, then


def definitions(fake: Fake, run: str) -> dict[str, Any]:
    """What the config's `m` says of each metric by its name; whatever the order of the list."""
    listed = fake.config(run, raw=True).get("_wandb", {}).get("value", {}).get("m", [])
    names = [one.get("1", one.get("2")) for one in listed]
    assert len(set(names)) == len(names), names
    return {name: one | {"5": names[one["5"] - 1] if "5" in one else None, "6": sorted(one["6"]), "7": sorted(one["7"])} for name, one in zip(names, listed)}


def what_arrived(fake: Fake, run: str) -> dict[str, Any]:
    kept = fake.run(run)
    assert kept is not None
    return {"rows": {str(i): without_own(row) for i, row in enumerate(fake.rows(run))},
            "config": without_own(fake.config(run)), "metrics": definitions(fake, run), "summary": without_own(fake.summary(run)),
            "console": dict(enumerate({k: v for k, v in json.loads(line).items() if k != "ts"} for line in fake.console(run))),
            "alerts": dict(enumerate({k: v for k, v in alert.items() if k != "runName"} for alert in fake.alerts(run))),
            "run": {k: kept[k] for k in ("tags", "groupName", "jobType", "notes", "exitcode", "state")}}


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    return "\n".join(f"{part} {key}: wbx {json.dumps(ours[part].get(key, '(nothing)'))}, wandb {json.dumps(theirs[part].get(key, '(nothing)'))}"
                     for part in ours for key in sorted({**ours[part], **theirs[part]})
                     if key not in ours[part] or key not in theirs[part] or not same(ours[part][key], theirs[part][key]))


def compare(box: Box, scenario: str) -> None:
    if not FULL:
        raise Skip("./dev test --full runs the wandb SDK")
    fake = Fake(box)
    daemon = started(box, models__key_file=key_file(box), **forwarding(fake))
    console = "wrap" if scenario == "printed" else "off"
    code = run_script(box, "wandb", scenario, WANDB_BASE_URL=fake.url, WANDB_API_KEY=KEY, WANDB_DIR=str(box.dir), WANDB_SILENT="true",
                      WANDB_CONSOLE=console, WANDB_ERROR_REPORTING="false", WANDB_DISABLE_CODE="true", WANDB_DISABLE_GIT="true")
    assert run_script(box, "wbx", scenario, WBX_SOCKET=str(daemon.socket), WANDB_CONSOLE=console) == code
    end = "finished" if code == 0 and scenario != "failed" else "failed"
    for run in ("wandb", "wbx"):
        fake.await_run(run, end)
    found = differences(what_arrived(fake, "wbx"), what_arrived(fake, "wandb"))
    assert not found, found


def compares(scenario: str) -> Any:
    def run(box: Box) -> None:
        compare(box, scenario)

    run.__name__ = f"w_and_b_gets_the_same_of_{scenario}"
    return run


for name in scenarios.SCENARIOS:
    test(seconds=300)(compares(name))

main()
