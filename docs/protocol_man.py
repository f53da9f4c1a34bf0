#!/usr/bin/env python3
"""Writes wbx-protocol(7) for scdoc, from proto/PROTOCOL.md: protocol_man.py PROTOCOL.md PAGE.scd.

Reads as much of Markdown as that document uses, and fails on what it does not know: headings, paragraphs, lists of one
level, tables, fenced and indented code.
"""
import re
import sys
import textwrap

HEAD = """\
wbx-protocol(7)
# NAME
wbx-protocol - how records get to wbxd, and questions to it
# DESCRIPTION"""
TAIL = """\
# SEE ALSO
*wbxcat*(1), *wbxctl*(1), *libwbx*(3), *wbxd*(8)"""


def inline(text):
    """Code and strong text become bold; what scdoc would take for markup is quoted."""
    def plain(part):
        return re.sub(r"([\\*_~\[\]|<])", r"\\\1", part)

    parts = re.split(r"`([^`]+)`|\*\*([^*]+)\*\*", text)
    out = plain(parts[0])
    for code, strong, rest in zip(parts[1::3], parts[2::3], parts[3::3]):
        out += f"*{plain(code or strong)}*{plain(rest)}"
    assert "`" not in out, f"code without an end: {text}"
    return out


def filled(lines):
    """One line: scdoc fills them itself, and one in the middle may begin with what it takes for markup."""
    return inline(" ".join(line.strip() for line in lines))


def table(rows):
    """Each row as an entry: its first cell, and below it the others, with their heads when there are several."""
    cells = [[c.strip() for c in row.strip().strip("|").split("|")] for row in rows]
    assert set("".join(cells[1])) <= set("-"), rows[1]
    heads, out = cells[0], []
    for row in cells[2:]:
        assert len(row) == len(heads), row
        out.append(inline(row[0]) if "`" in row[0] else f"*{inline(row[0])}*")
        more = row[1:] if len(heads) == 2 else [f"{h}: {c}" for h, c in zip(heads[1:], row[1:])]
        out.append("\t" + inline("; ".join(more)))
    return out


def blocks(lines):
    """The document's blocks: (kind, lines)."""
    at = 0
    while at < len(lines):
        line, begin = lines[at], at
        at += 1
        if not line.strip():
            continue
        if line.startswith("#"):
            yield "heading", [line]
        elif line.startswith("```"):
            while lines[at] != "```":
                at += 1
            at += 1
            yield "fence", lines[begin:at]
        else:
            kind = "code" if line.startswith("    ") else "table" if line.startswith("|") else "item" if line.startswith("* ") else "text"
            while at < len(lines) and lines[at].strip() and not lines[at].startswith(("#", "```", "* ")):
                at += 1
            yield kind, lines[begin:at]


def page(text):
    lines = text.splitlines()
    assert lines[0].startswith("# ")
    out, before = [HEAD], "heading"
    for kind, block in blocks(lines[1:]):
        if before not in ("heading", "table") and kind != "heading" and (kind, before) != ("item", "item"):
            out.append("")  # not behind a table's entries: mandoc finds that paragraph empty
        if kind == "heading":
            out.append("# " + re.fullmatch(r"## \d+\. (.+)", block[0])[1].upper())
        elif kind == "text":
            out.append(filled(block))
        elif kind == "item":
            out.append("- " + filled([block[0][2:], *block[1:]]))
        elif kind == "table":
            out += table(block)
        elif kind == "code":
            out += ["```", *textwrap.dedent("\n".join(block)).splitlines(), "```"]
        else:
            name = block[0][3:].removeprefix("vector ").strip()
            out += ([f"*{name}*:", ""] if name and name != "python" else []) + ["```", *block[1:-1], "```"]
        before = kind
    return "\n".join([*out, TAIL]) + "\n"


def main(source, target):
    with open(source, encoding="utf-8") as f:
        text = page(f.read())
    with open(target, "w", encoding="utf-8") as f:
        f.write(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
