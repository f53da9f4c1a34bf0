"""Artifacts: files that belong together, in versions, as wandb.Artifact has them."""
from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any
from urllib.parse import unquote, urlparse

from . import _native
from ._table import Table

NAME = re.compile(r"[a-zA-Z0-9_\-.]{1,128}")
TAG = re.compile(r"[-\w]+( +[-\w]+)*")
RESERVED = {"job": "", "run_table": "run-", "code": "source-"}  # types that W&B's clients make themselves, and the names they have then
METADATA_KEYS_MAX = 100


def _look(result: int, what: str) -> None:
    if result == -errno.EINVAL:
        raise ValueError(f"{what} has a path that leads out of the artifact, or is no file")
    if result < 0:
        raise OSError(-result, os.strerror(-result), what)


def _texts(given: Iterable[str] | str | None) -> list[str]:
    return [given] if isinstance(given, str) else list(dict.fromkeys(given or ()))


class ArtifactEntry:
    """One file or reference of an artifact."""

    def __init__(self, path: str, size: int | None = None, ref: str | None = None, digest: str | None = None):
        self.path, self.size, self.ref, self.digest = path, size, ref, digest


class Artifact:
    """A version in the making. Files are taken as they are when they are added, so they may be deleted then; what is above 1 GiB
    in all is cloned or linked, and must not be written to until W&B has it.

    ``run.log_artifact()`` hands it to the daemon, which sends it; names, digests and manifests are those of ``wandb.Artifact``.
    """

    def __init__(self, name: str, type: str, description: str | None = None, metadata: Mapping[str, Any] | None = None,
                 incremental: bool = False, use_as: str | None = None, **_: Any):
        if not NAME.fullmatch(name):
            raise ValueError(f"Artifact name may only contain alphanumeric characters, dashes, underscores, and dots, 128 at most. Invalid name: {name!r}")
        if type.startswith("wandb-") or name.startswith(RESERVED.get(type, "\0")):
            raise ValueError(f"Artifact type {type!r} is reserved for internal use. Please use a different type.")
        self._name, self._type = name, type
        self._native = _native.Artifact(name, type)
        self.description = description
        self.metadata = dict(metadata or {})
        self.aliases: list[str] = []
        self._tags: list[str] = []
        self._entries: dict[str, ArtifactEntry] = {}
        self._logged = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def type(self) -> str:
        return self._type

    @property
    def metadata(self) -> dict[str, Any]:
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: Mapping[str, Any] | None) -> None:
        if metadata is not None and not isinstance(metadata, Mapping):
            raise TypeError(f"Cannot parse {type(metadata)} as artifact metadata")
        if metadata and len(metadata) > METADATA_KEYS_MAX:
            raise ValueError(f"Artifact must not have more than {METADATA_KEYS_MAX} metadata keys.")
        self._metadata = dict(metadata or {})

    @property
    def tags(self) -> list[str]:
        return self._tags

    @tags.setter
    def tags(self, tags: Iterable[str] | str | None) -> None:
        self._tags = _texts(tags)
        if bad := [t for t in self._tags if not TAG.fullmatch(t)]:
            raise ValueError(f"Invalid tag(s) {bad}. Tags must only contain alphanumeric characters separated by hyphens, underscores, and/or spaces.")

    # -- what is in it

    def _open_path(self, path: str, overwrite: bool) -> str:
        if self._logged:
            raise ValueError("Can't modify a logged artifact; make a new one")
        path = os.path.normpath(str(path).replace(os.sep, "/"))
        if path in self._entries and not overwrite:
            raise ValueError(f"Cannot add the same path twice: {path!r}")
        return path

    def _note(self, entry: ArtifactEntry) -> ArtifactEntry:
        self._entries[entry.path] = entry
        return entry

    def add_file(self, local_path: Any, name: str | None = None, is_tmp: bool | None = False, skip_cache: bool | None = False,
                 policy: str | None = "mutable", overwrite: bool = False) -> ArtifactEntry:
        """A file as it is now."""
        local = os.fspath(local_path)
        if not os.path.isfile(local):
            raise ValueError(f"Path is not a file: {local!r}")
        path = str(name or os.path.basename(local))
        if is_tmp:
            folder, base = os.path.split(path)
            parts = base.split(".")
            parts[0] = _md5_of(local).hex()[:20]
            path = os.path.join(folder, ".".join(parts))
        path = self._open_path(path, overwrite)
        _look(self._native.add_file(path, local), f"{local!r} as {path!r}")
        return self._note(ArtifactEntry(path, os.path.getsize(local)))

    def add_dir(self, local_path: Any, name: str | None = None, skip_cache: bool | None = False, policy: str | None = "mutable",
                merge: bool = False) -> None:
        """Every file below a directory, links followed."""
        root = os.fspath(local_path)
        if not os.path.isdir(root):
            raise ValueError(f"Path is not a directory: {root!r}")
        found = [os.path.join(folder, file) for folder, _, files in os.walk(root, followlinks=True) for file in files]
        self._native.expect(sum(map(os.path.getsize, found)))  # a directory that is too big is linked, but for its small files
        for local in found:
            self.add_file(local, os.path.join(name or "", os.path.relpath(local, root)), overwrite=merge)

    @contextlib.contextmanager
    def new_file(self, name: str, mode: str = "x", encoding: str | None = None, policy: str = "mutable") -> Iterator[IO[Any]]:
        """A file that is written here: ``with artifact.new_file("config.yaml") as f: f.write(...)``."""
        path = self._open_path(name, overwrite="x" not in mode)
        file: Any = io.BytesIO() if "b" in mode else io.StringIO(newline=None if encoding else "")
        yield file
        data = file.getvalue()
        data = data if isinstance(data, bytes) else data.encode(encoding or "utf-8", "surrogatepass")
        _look(self._native.add_bytes(path, data), repr(path))
        self._note(ArtifactEntry(path, len(data)))

    def add(self, obj: Any, name: str, overwrite: bool = False) -> ArtifactEntry:
        """A wbx.Table, as ``<name>.table.json`` with the types of its columns."""
        if not isinstance(obj, Table):
            raise TypeError(f"Found object of type {type(obj)}, expected wbx.Table")
        path = name if name.endswith(".table.json") else f"{name}.table.json"
        if path in self._entries and not overwrite:
            return self._entries[path]
        path = self._open_path(path, overwrite)
        _look(self._native.add_table(path, obj), repr(path))
        return self._note(ArtifactEntry(path))

    def __setitem__(self, name: str, item: Any) -> None:
        self.add(item, name)

    def add_reference(self, uri: str, name: str | None = None, checksum: bool = True, max_objects: int | None = None) -> list[ArtifactEntry]:
        """Something elsewhere. The digest of a ``file://`` is its MD5, as with W&B's client; other addresses are not asked: their digest is the
        address."""
        url = urlparse(str(uri))
        if not url.scheme:
            raise ValueError("References must be URIs. To reference a local file, use file://")
        if url.scheme != "file":
            path = name or os.path.basename(url.path) if url.scheme in ("s3", "gs", "http", "https") else name
            if not path:
                raise ValueError(f'You must pass name="<entry_name>" when tracking references with unknown schemes. ref: {uri}')
            return [self._refer(path, uri, None, -1)]
        local = unquote(url.path)
        if os.path.isdir(local):
            files = [os.path.join(folder, file) for folder, _, names in os.walk(local) for file in names]
            if len(files) > (max_objects or 10_000_000):
                raise ValueError(f"Exceeded {max_objects} objects tracked, pass max_objects to add_reference")
            return [self._refer(os.path.join(name or "", (rel := os.path.relpath(f, local))), os.path.join(uri, rel), _digest(f, checksum), os.path.getsize(f))
                    for f in files]
        if not os.path.isfile(local):
            raise ValueError(f"Path {uri!r} must be a valid file or directory path")
        return [self._refer(name or os.path.basename(local), uri, _digest(local, checksum), os.path.getsize(local))]

    def _refer(self, path: str, uri: str, digest: str | None, size: int) -> ArtifactEntry:
        path = self._open_path(path, overwrite=False)
        _look(self._native.add_reference(path, uri, digest, size), repr(path))
        return self._note(ArtifactEntry(path, None if size < 0 else size, uri, digest or uri))

    @property
    def size(self) -> int:
        return sum(e.size or 0 for e in self._entries.values())

    @property
    def file_count(self) -> int:
        return len(self._entries)

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def finalize(self) -> None:
        """Nothing: log_artifact() does it."""

    def wait(self, timeout: int | None = None) -> "Artifact":
        """The artifact itself: the daemon has it, and sends it when it can. Nothing here waits for the network."""
        return self

    def __repr__(self) -> str:
        return f"<wbx.Artifact {self._name}>"

    def _log(self, run: Any, aliases: Iterable[str] | str | None, tags: Iterable[str] | str | None, step: int) -> int:
        if tags is not None:
            self.tags = tags
        names = _texts(aliases) or list(self.aliases)
        if any(set("/:") & set(alias) for alias in names):
            raise ValueError("Aliases must not contain any of the following characters: '/', ':'")
        metadata = json.loads(json.dumps(self._metadata, default=str), parse_constant=lambda _: None)
        self._logged = True
        return self._native.log(run, self.description, metadata, names, self._tags, step)


def _md5_of(path: str) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.digest()


def _digest(path: str, checksum: bool) -> str:
    md5 = _md5_of(path) if checksum else hashlib.md5(os.path.abspath(path).encode(), usedforsecurity=False).digest()
    return base64.b64encode(md5).decode()


def of(thing: Any, name: str | None, type: str | None, run_id: str) -> Artifact:
    """What log_artifact() may be given: an artifact, or the path of a file or directory, or an address."""
    if isinstance(thing, Artifact):
        return thing
    if not isinstance(thing, (str, os.PathLike)):
        raise TypeError("You must pass an instance of wbx.Artifact or a valid file path to log_artifact")
    path = os.fspath(thing)
    artifact = Artifact(name or f"run-{run_id}-{os.path.basename(path)}", type or "unspecified")
    if os.path.isfile(path):
        artifact.add_file(path)
    elif os.path.isdir(path):
        artifact.add_dir(path)
    elif "://" in path:
        artifact.add_reference(path)
    else:
        raise ValueError("path must be a file, directory or external reference like s3://bucket/path")
    return artifact
