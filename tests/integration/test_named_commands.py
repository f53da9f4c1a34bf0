"""Every `wbxctl ...` that a text of the daemon or of a client names is a command that there is, with options that it takes.

The texts are the string literals of the sources, so a new one is looked at without anybody's doing.
"""
from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Iterator

from client import greeted
from ctl import Ctl
from delivery import Logged, steered
from tap import Box, main, test

ROOT = Path(__file__).parents[2]
USAGE, ERROR = 64, 70
LITERALS = re.compile(r'"(?:[^"\\\n]|\\.)*"(?:\s*(?:WBX_VERSION\s*)?"(?:[^"\\\n]|\\.)*")*')
PIECE = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
PLACEHOLDERS = {"RUN": "r", "%s": "r", "ID": "1", "ID..": "1", "SINK": "models", "TIME": "1s", "FILE": "{file}", "HTTP": "400",
                "COMMAND": "status", "bash|zsh": "bash", "--csv|--jsonl": "--jsonl"}
PROSE = {"may", "this"}  # where a sentence is about wbxctl itself
ENDLESS = {"-f", "--follow", "--watch"}


def c_texts(source: str) -> Iterator[str]:
    """String literals, joined where the compiler joins them."""
    without = COMMENT.sub(" ", re.sub(PIECE, lambda m: m[0].replace("/*", "/ *").replace("//", "/ /"), source))
    for found in LITERALS.findall(without):
        yield "".join(PIECE.findall(found)).replace('\\"', '"').replace("\\n", "\n")


def python_texts(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def texts() -> Iterator[tuple[Path, str]]:
    for folder in ("daemon", "client"):
        for path in sorted((ROOT / folder).rglob("*.[cp]*")):
            reader = {".c": c_texts, ".py": python_texts}.get(path.suffix)
            for text in reader(path.read_text()) if reader else ():
                yield path.relative_to(ROOT), text


class Command:
    """A row of the table: its name, the words that its usage line has to have, and whether options stand for them."""

    def __init__(self, name: str, ctl: Ctl) -> None:
        self.name = name
        text = re.sub("\n {6}", " ", ctl("help", *name.split()))  # a long line goes on in the next
        usage = next(line for line in text.splitlines() if "wbxctl " + name in line)
        arguments = usage.partition("wbxctl " + name)[2].strip()
        self.options_will_do = " | " in arguments or "|--" in arguments
        arguments = arguments.split(" | ")[0].replace("--older-than TIME|", "")
        while re.search(r"\[[^][]*\]", arguments):
            arguments = re.sub(r"\[[^][]*\]", "", arguments)
        self.needed = arguments.split()

    def line(self, words: list[str], file: Path) -> list[str]:
        """A command line as the text means it: what is missing and needed is added, names are given values."""
        have = [w for w in words if not w.startswith("-")]
        has_option = any(w.startswith("-") for w in words)
        missing = [] if has_option and self.options_will_do else [n for n in self.needed if n.startswith("-")] + \
            [n for n in self.needed if not n.startswith("-")][len(have):]
        line = [PLACEHOLDERS.get(w, w).format(file=file) for w in words + missing]
        if self.name == "store prune":
            line.append("--yes")  # there is nobody to ask
        if ENDLESS & set(line):
            line.append("--help")
        return [*self.name.split(), *line]


def table() -> tuple[list[str], set[str]]:
    """Names of commands, and the options that need a value."""
    source = (ROOT / "client/ctl/commands.c").read_text()
    return (re.findall(r'\n\t\{"([a-z ]+)",\s+"', source),
            {"--" + name for name in re.findall(r'\{"([\w-]+)", [^,]+, VALUE_NEEDED', source)})


def named(names: list[str], valued: set[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Where, the command (or "") and what stands behind it: options, and names in capitals."""
    for path, text in texts():
        for match in re.finditer(r"(?<![\w./])wbxctl ((?:--json )?)([a-z][^\n]*)", text):
            rest = match[2]
            if rest.split()[0] in PROSE:
                continue
            name = next((n for n in sorted(names, key=len, reverse=True) if re.match(rf"{n}(?![\w-])", rest)), "")
            yield f"{path}: wbxctl {rest[:60]!r}", name, behind(rest[len(name):] if name else "", match[1], valued)


def behind(rest: str, before: str, valued: set[str]) -> list[str]:
    words = before.split()
    for piece in rest.split():
        word = piece.rstrip(",;:).")
        is_value = bool(words) and words[-1] in valued
        if not is_value and not re.fullmatch(r"--?[a-z][a-z-]*(?:=\S+)?|[A-Z]+(?:\.\.)?", word):
            break
        words.append(word)
        if word != piece:  # the sentence goes on
            break
    return words + ["%s"] if words and words[-1] in valued else words  # its value is put together with the text


@test
def every_command_that_a_text_names_can_be_given(box: Box) -> None:
    fake, daemon, ctl = steered(box)
    fake.fault({"kind": "filestream", "body": "poison"}, {"status": 400}, count=-1)
    with greeted(daemon.socket) as c:
        Logged("r").open(c).log(c, {"n": 0}, {"poison": 1}).finish(c)
        c.flush()
    ctl.await_dead(1)
    names, valued = table()
    known = {name: Command(name, ctl) for name in names}
    count, seen, bad = 0, set(), []
    for where, name, words in named(names, valued):
        count += 1
        if not name:
            bad.append(f"{where}: there is no such command")
            continue
        line = known[name].line(words, box.dir / f"file-{count}")
        if tuple(line) in seen:
            continue
        seen.add(tuple(line))
        result = ctl.run(*line)
        is_wrong = result.code == USAGE and ("usage: wbxctl" in result.err or "wbxctl help lists" in result.err)
        if is_wrong or result.code == ERROR or result.code < 0:
            bad.append(f"{where}: {' '.join(line)}: {result}")
    assert count > 30 and len(seen) > 10, (count, seen)
    assert not bad, "\n".join(bad)


@test
def a_command_that_is_not_there_is_found(_: Box) -> None:
    source = 'say("no: wbxctl frob and " /* wbxctl hidden */ "wbxctl tail --frob");'
    assert list(c_texts(source)) == ["no: wbxctl frob and wbxctl tail --frob"], list(c_texts(source))
    assert behind(" --frob, then", "", set()) == ["--frob"] and behind(" RUN shows it", "", set()) == ["RUN"]
    assert behind(" lists them", "--json ", set()) == ["--json"] and behind(" --by run.", "", {"--by"}) == ["--by", "run"]


main()
