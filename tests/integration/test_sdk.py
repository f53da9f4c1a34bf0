"""The same script with `wandb` and with `wbx`: W&B ends up with the same rows, config, summary and end."""
from __future__ import annotations

import base64
import hashlib
import json
import re
import urllib.request
from typing import Any
from urllib.parse import quote

import scenarios
from daemon import started
from process import Process, clean_env
from sdk import sdk_python
from tap import FULL, Box, Skip, main, test
from trainer import python_env
from wandb import ENTITY, KEY, Fake, forwarding, key_file, same

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


def class_labels(fake: Fake, run: str) -> dict[str, Any]:
    """Of boxes and masks."""
    kept = fake.config(run, raw=True).get("_wandb", {}).get("value", {})
    return {k: v for k, v in kept.items() if k.endswith("/class_labels")}


def file_of(fake: Fake, run: str, path: str) -> bytes:
    with urllib.request.urlopen(f"{fake.url}/__file?run={ENTITY}/p/{run}&path={quote(path)}") as answer:
        return answer.read()


def with_contents(fake: Fake, run: str, value: Any) -> Any:
    """Values with what is in their tables' files in the place of its digest, and without the random names of artifacts."""
    if isinstance(value, list):
        return [with_contents(fake, run, one) for one in value]
    if not isinstance(value, dict):
        return value
    value = {k: with_contents(fake, run, v) for k, v in value.items()}
    for key in ("artifact_path", "_latest_artifact_path"):
        if key in value:
            value[key] = re.sub("//[0-9a-z]+", "//...", value[key])
    if value.get("_type") == "table-file":
        content = file_of(fake, run, value["path"])
        assert value["size"] == len(content) and value["sha256"] == hashlib.sha256(content).hexdigest(), value
        assert f"_{value['sha256'][:20]}.table.json" in value["path"], value
        value |= {"content": json.loads(content), "path": re.sub("_[0-9a-f]{20}[.]", "_...", value["path"]), "sha256": None, "size": None}
    elif "path" in value and "sha256" in value:
        assert hashlib.sha256(file_of(fake, run, value["path"])).hexdigest() == value["sha256"], value
    return value


def by_digest(path: str, digest: str) -> str:
    """Files of cells have random names with the SDK."""
    return re.sub("/[^/.]+[.]", f"/{digest}.", path)


def with_digests(value: Any) -> Any:
    if isinstance(value, list):
        return [with_digests(one) for one in value]
    if not isinstance(value, dict):
        return value
    value = {k: with_digests(v) for k, v in value.items()}
    return value | {"path": by_digest(value["path"], value["sha256"])} if "path" in value and "sha256" in value else value


def artifacts_of(fake: Fake, run: str) -> dict[str, Any]:
    """Of each its type, aliases and files; tables parsed. The run's name in an artifact's makes its check sum another one, too."""
    found = {}
    for a in fake.ask("/__state?bodies=0")["artifacts"]:
        if a["run"] != run or a["state"] != "COMMITTED" or not a["type"].endswith("table"):
            continue
        files = {}
        for path, entry in a["manifest"]["contents"].items():
            with urllib.request.urlopen(f"{fake.url}/__blob?md5={base64.b64decode(entry['digest']).hex()}") as answer:
                content = answer.read()
            if path.endswith(".table.json"):
                files[path] = with_digests(json.loads(content))
            else:
                digest = hashlib.sha256(content).hexdigest()
                files[by_digest(path, digest)] = digest
        name = re.sub(f"^run-{run}-", "run-...-", a["name"])
        name = re.sub("-[A-Za-z0-9_-]{6}$", "-......", name) if any("/" in p or ":" in p for p in files if p.endswith(".table.json")) else name
        found[f"{name}:v{a['version']}"] = {"type": a["type"], "aliases": sorted(a["aliases"]), "files": files}
    return found


def made(fake: Fake, run: str) -> dict[str, Any]:
    """Artifacts that the script made, of each name in their order; what W&B has of those that are not made for a table; local paths and ids are each client's own."""
    found = {}
    for a in fake.ask("/__state")["artifacts"]:
        if a["run"] != run or a["type"].endswith("table"):
            continue
        contents = {p: {k: v for k, v in e.items() if k not in ("local_path", "birthArtifactID", "skip_cache")} for p, e in a["manifest"]["contents"].items()}
        for path in [p for p in contents if p.endswith(".table.json")]:  # each client prints JSON in its own way
            contents[path], a["digest"] = json.loads(a["files"][path]["text"]), "its own"
        found[f"{a['name'].removesuffix('-' + run)} {a['version']}"] = {k: a[k] for k in ("type", "state", "digest", "description", "tags", "metadata")} | {
            "contents": contents, "aliases": sorted(a["aliases"])}
    return found


def what_arrived(fake: Fake, run: str) -> dict[str, Any]:
    kept = fake.run(run)
    assert kept is not None
    return {"made": made(fake, run), "rows": {str(i): with_contents(fake, run, without_own(row)) for i, row in enumerate(fake.rows(run))}, "artifacts": artifacts_of(fake, run),
            "config": without_own(fake.config(run)), "metrics": definitions(fake, run), "labels": class_labels(fake, run), "summary": with_contents(fake, run, without_own(fake.summary(run))),
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
    theirs = what_arrived(fake, "wandb")
    assert bool(theirs["artifacts"]) == (scenario in ("tables", "media")), theirs["artifacts"]
    found = differences(what_arrived(fake, "wbx"), theirs)
    assert not found, found


def compares(scenario: str) -> Any:
    def run(box: Box) -> None:
        compare(box, scenario)

    run.__name__ = f"w_and_b_gets_the_same_of_{scenario}"
    return run


for name in scenarios.SCENARIOS:
    test(seconds=300)(compares(name))

main()
