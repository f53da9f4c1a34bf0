"""Artifacts through a daemon to a fake W&B, as plain records; and what W&B has of them."""
from __future__ import annotations

import base64
import hashlib
import itertools
from typing import Any

from client import Client, now_us
from tap import until
from wandb import Fake


blob_numbers = itertools.count(1)  # no two are alike on one connection


def log_artifact(c: Client, name: str, files: dict[str, bytes], type: str = "dataset", run: str = "r", refs: list[dict] = [], **more: Any) -> None:
    """One record with its blobs; an empty file has none."""
    entries: list[dict] = []
    blobs: list[bytes] = []
    for path, data in files.items():
        if data:
            blobs.append(c.blob(next(blob_numbers), data))
        entries.append({"path": path, "size": len(data), **({"blob": blobs[-1]} if data else {})})
    c.send("artifact", run=run, t=now_us(), name=name, type=type, files=entries + refs, **({"blobs": blobs} if blobs else {}), **more)


def artifacts(fake: Fake, name: str | None = None) -> list[dict]:
    """As W&B has them, oldest first."""
    return [a for a in fake.ask("/__state")["artifacts"] if name in (None, a["name"])]


def await_committed(fake: Fake, name: str, count: int = 1) -> list[dict]:
    return until(lambda: len(found := [a for a in artifacts(fake, name) if a["state"] == "COMMITTED"]) >= count and found or None,
                 f"{count} versions of {name}")


def md5_base64(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def digest_of(files: dict[str, bytes], refs: dict[str, str] = {}) -> str:
    """The artifact's digest by W&B's rule."""
    entries = {path: md5_base64(data) for path, data in files.items()} | refs
    text = "".join(f"{path}:{entries[path]}\n" for path in sorted(entries, key=str.encode))
    return hashlib.md5(("wandb-artifact-manifest-v1\n" + text).encode()).hexdigest()


def is_held(artifact: dict, files: dict[str, bytes], refs: dict[str, str] = {}) -> None:
    """W&B has these bytes, this digest and this manifest."""
    assert artifact["state"] == "COMMITTED" and artifact["digest_checked"], artifact
    assert artifact["digest"] == digest_of(files, refs), artifact
    contents = artifact["manifest"]["contents"]
    assert set(contents) == set(files) | set(refs), contents
    for path, data in files.items():
        have = contents[path]
        assert have["digest"] == md5_base64(data) and have["size"] == len(data) and have["birthArtifactID"], (path, have)
