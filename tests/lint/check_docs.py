#!/usr/bin/env python3
"""Fail when a man page, the sample file or what status points at says something else than the code.

check_docs.py ROOT. Reads the tables in the sources: settings (daemon/config.c), commands and options (client/ctl), functions
(client/lib/wbx.h).
"""
import pathlib
import re
import sys

UNITS = {"ms": 1, "s": 1000, "m": 60000, "h": 3600000, "d": 86400000}
SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
TOP = (1 << 63) - 1


def strings(text):
    """The C strings in a text, joined."""
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', text)).replace("\\n", "\n").replace('\\"', '"')


def settings(root):
    """name: (type, at start, min, max, default, default below --dir or None)"""
    text = (root / "daemon/config.c").read_text()
    table = re.search(r"static const struct option options\[\] = \{\n(.*?)\n\};", text, re.S)[1]
    found = {}
    for row in re.findall(r'\{("\w+\.\w+",.*?)\}', table, re.S):
        name, _, kind, start, low, high, default, below = (w.strip() for w in re.split(r",\s*", row))
        found[name.strip('"')] = (kind, start == "true", number(low), number(high), default.strip('"'),
                                  None if below == "NULL" else below.strip('"'))
    return found


def number(text):
    """A constant of the table: 0600 is octal."""
    text = text.replace("INT64_MAX", str(TOP)).replace("DAY_MS", str(UNITS["d"]))
    value = 1
    for factor in text.split("*"):
        left, _, shift = factor.strip().partition("<<")
        left = left.strip()
        value *= int(left, 8 if left.startswith("0") and left != "0" else 10) << int(shift or 0)
    return value


def value_of(kind, text):
    """A value of the page, as the program would read it."""
    match = re.fullmatch(r"(\d+)([A-Za-z]*)", text)
    if kind == "TYPE_MODE":
        return int(text, 8)
    return int(match[1]) * (UNITS | SIZES | {"": 1})[match[2]]


def entries(page):
    """section.key: first sentences of its entry"""
    section, found = "", {}
    for line in re.sub(r"\n\t", "\t", page).splitlines():
        if re.match(r"# \[\w+\]$", line):
            section = line[3:-1]
        elif line.startswith("# "):
            section = ""
        elif section and (match := re.match(r"\*(\w+)\*\t(.*)", line)):
            found[f"{section}.{match[1]}"] = match[2].replace("\t", " ")
    return found


def check_setting(name, option, text):
    kind, start, low, high, default, below = option
    said = re.match(r"Default: (.*?)(?:; with \*--dir\* (.*?))?\. ", text)
    if said is None:
        yield f"{name}: no default"
        return
    if said[1] != (default or "empty"):
        yield f"{name}: default is {default!r}, not {said[1]!r}"
    if (said[2] or None) != ("none" if below == "" else below):
        yield f"{name}: default with --dir is {below!r}, not {said[2]!r}"
    if (" At start." in text) != start:
        yield f"{name}: whether it counts at start only"
    if kind in ("TYPE_TEXT", "TYPE_PATH", "TYPE_USERS", "TYPE_LEVEL", "TYPE_WHICH", "TYPE_LOCAL", "TYPE_URL", "TYPE_TABLES", "TYPE_HOURS"):
        return
    span = re.search(r"\. (\S+) (?:to (\S+?)|and more)[.,]", text)
    if span is None or value_of(kind, span[1]) != low or (value_of(kind, span[2]) if span[2] else TOP) != high:
        yield f"{name}: the range is {low} to {high}"


def check_settings(root):
    table = settings(root)
    page = entries((root / "docs/wbxd.conf.5.scd").read_text())
    for name in sorted(table.keys() ^ page.keys()):
        yield f"wbxd.conf(5): {name} is {'missing' if name in table else 'no setting'}"
    for name in table.keys() & page.keys():
        for bad in check_setting(name, table[name], page[name]):
            yield f"wbxd.conf(5): {bad}"
    sample, section = {}, ""
    for line in (root / "systemd/wbxd.conf").read_text().splitlines():
        section = line[1:-1] if line.startswith("[") else section
        if match := re.match(r"#(\w+) = ?(.*)", line):
            sample[f"{section}.{match[1]}"] = match[2]
    if sample != {name: option[4] for name, option in table.items()}:
        yield "systemd/wbxd.conf: keys or defaults differ from daemon/config.c"


def check_functions(root):
    header = (root / "client/lib/wbx.h").read_text()
    declared = set(re.findall(r"WBX_API [^;(]*?\**(wbx_\w+)\(", header))
    page = (root / "docs/libwbx.3.scd").read_text()
    synopsis, _, rest = page.partition("# DESCRIPTION")
    for name in declared:
        if f"*{name}*(" not in synopsis:
            yield f"libwbx(3): {name}() is not in the synopsis"
    for name in set(re.findall(r"\*(wbx_\w+)\*\(", page)) - declared:
        yield f"libwbx(3): there is no {name}()"
    for name in sorted(declared):
        plain = re.match(r"wbx_put_(double|int|bool|null|text|bytes_as_text)|wbx_map_(free|clear)", name)
        if not plain and name not in rest:
            yield f"libwbx(3): {name}() is not described"


def check_commands(root):
    text = (root / "client/ctl/commands.c").read_text()
    page = (root / "docs/wbxctl.1.scd").read_text().replace("\\", "")
    table = text.partition("ctl_commands[] = {")[2]
    for name in re.findall(r'\n\t\{"([a-z ]+)", "', table):
        if not re.search(rf"^(.*, )?\*{name}\*", page, re.M):
            yield f"wbxctl(1): command {name} is missing"
    options = text.partition("ctl_options[OPT_COUNT] = {")[2].partition("};")[0]
    for name, letter in re.findall(r"\{\"([\w-]+)\", (0|'.')", options):
        if f"--{name}" not in page and (letter == "0" or f"-{letter[1]}" not in page):
            yield f"wbxctl(1): option --{name} is missing"
    page = (root / "docs/wbxcat.1.scd").read_text()
    for name in re.findall(r'\[CAT_\w+\] = \{"([\w-]+)"', (root / "client/ctl/wbxcat.c").read_text()):
        if name not in ("help", "version") and f"*--{name}*" not in page:
            yield f"wbxcat(1): option --{name} is missing"
    usage = strings((root / "daemon/main.c").read_text().partition("usage[] =")[2].partition(";\n")[0])
    page = (root / "docs/wbxd.8.scd").read_text()
    for name in re.findall(r"^  (--[\w-]+)", usage, re.M):
        if name != "--section" and f"*{name}*" not in page:
            yield f"wbxd(8): option {name} is missing"


def check_sections(root):
    page = (root / "docs/wbxd.8.scd").read_text()
    for file in sorted((root / "client/ctl").glob("*.c")):
        for name in re.findall(r"man 8 wbxd, ([A-Z ]+[A-Z])", file.read_text()):
            if not re.search(rf"^##? {name}$", page, re.M):
                yield f"{file.name}: wbxd(8) has no section {name}"


def main(root):
    bad = [b for check in (check_settings, check_functions, check_commands, check_sections) for b in check(root)]
    print("\n".join(bad) or "docs: ok")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
