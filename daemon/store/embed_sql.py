#!/usr/bin/env python3
"""Turns a text file into a C string: embed_sql.py INPUT OUTPUT NAME. Byte by byte, because a literal may have 4095 at most."""
import sys


def main():
    source, target, name = sys.argv[1:4]
    with open(source) as f:
        lines = [line for line in f if not line.lstrip().startswith("--")]
    with open(target, "w") as f:
        f.write("#pragma once\n\n/* Made from schema.sql by embed_sql.py. */\n")
        f.write(f"static const char {name}[] = {{\n")
        for line in lines:
            text = line.split("--")[0].rstrip().replace("\t", " ")
            if text:
                f.write("\t" + ", ".join(str(byte) for byte in (text + "\n").encode("ascii")) + ",\n")
        f.write("\t0};\n")


if __name__ == "__main__":
    main()
