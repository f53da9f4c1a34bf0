#!/usr/bin/env python3
"""Fail when a folder includes a header, or a library, of a folder that it may not see.

The table is the architecture: docs/ARCHITECTURE.md quotes it, this file enforces it.
"""
import pathlib
import re
import sys

# folder: (our folders that it may include, beside itself; libraries it may use)
ROOMS = {
    "proto/base": (set(), set()),
    "proto": ({"proto/base"}, {"msgpack"}),
    "client/lib": ({"proto", "proto/base"}, {"openssl"}),
    "client/ctl": ({"proto", "proto/base", "client/lib"}, {"jansson", "ncurses"}),
    "client/python": ({"proto", "proto/base", "client/lib"}, {"python"}),
    "daemon/base": ({"proto/base"}, set()),
    "daemon/flow": ({"daemon/base", "proto", "proto/base"}, set()),
    "daemon/ingest": ({"daemon/base", "daemon/flow", "proto", "proto/base"}, {"uv", "http-parser"}),
    "daemon/store": ({"daemon/base", "daemon/flow", "proto", "proto/base"}, {"sqlite3", "openssl"}),
    "daemon/forward": ({"daemon/base", "daemon/flow", "proto", "proto/base"}, {"curl", "jansson", "openssl", "yaml"}),
    "daemon": ({"daemon/base", "daemon/flow", "daemon/ingest", "daemon/store", "daemon/forward", "proto", "proto/base"},
               {"inih"}),
}
LIBRARIES = {  # how a header of the library is recognised
    "msgpack": r"msgpack(/|\.h)", "openssl": r"openssl/", "jansson": r"jansson\.h", "ncurses": r"(n?curses|term)\.h",
    "python": r"Python\.h", "uv": r"uv\.h", "sqlite3": r"sqlite3\.h", "curl": r"curl/", "yaml": r"yaml\.h",
    "inih": r"ini\.h", "http-parser": r"http_parser\.h",
}
GENERATED = {"schema.h": "daemon/store"}  # headers that the build makes, and who may include them
TOPS = ("proto", "client", "daemon")


def room_of(path):
    """The longest key of ROOMS that is a parent of path, or None."""
    parts = pathlib.PurePosixPath(path).parts
    for n in range(len(parts), 0, -1):
        key = "/".join(parts[:n])
        if key in ROOMS:
            return key
    return None


def complaints(root, file):
    """Every include of `file` that the table does not allow."""
    name = file.relative_to(root).as_posix()
    mine = room_of(name)
    if mine is None:
        yield f"{name}: stands in no room of the table"
        return
    ours, libraries = ROOMS[mine]
    for number, line in enumerate(file.read_text().splitlines(), 1):
        local = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        system = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
        if local:
            if GENERATED.get(local[1]) == mine:
                continue
            theirs = room_of(local[1])
            if theirs is None or not (root / local[1]).is_file():
                yield f"{name}:{number}: write the path from the root: {local[1]}"
            elif theirs != mine and theirs not in ours:
                yield f"{name}:{number}: {mine} may not see {theirs}"
        elif system:
            for library, pattern in LIBRARIES.items():
                if re.match(pattern, system[1]) and library not in libraries:
                    yield f"{name}:{number}: {mine} may not use {library}"


def main(root):
    bad = []
    for top in TOPS:
        for file in sorted((root / top).rglob("*.[ch]")):
            bad.extend(complaints(root, file))
    print("\n".join(bad) or "layers: ok")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
