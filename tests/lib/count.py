#!/usr/bin/env python3
"""Counts what meson test ran: `N passed, N failed`, the subtests of TAP programs one by one.

Reads meson's testlog.json (one object a line). Exits with 1 when something failed or nothing ran.
"""
import json
import re
import sys


def count(path):
    passed = failed = skipped = 0
    with open(path) as lines:
        for line in lines:
            test = json.loads(line)
            if test["result"] == "SKIP":
                skipped += 1
                continue
            ok = len(re.findall(r"^ok\b(?!.*# SKIP)", test.get("stdout", ""), re.M))
            skipped += len(re.findall(r"^ok\b.*# SKIP", test.get("stdout", ""), re.M))
            bad = len(re.findall(r"^not ok\b", test.get("stdout", ""), re.M))
            if test["result"] == "OK":
                passed += max(ok, 1)
            else:
                passed += ok
                failed += max(bad, 1)
    return passed, failed, skipped


def main():
    passed, failed, skipped = count(sys.argv[1])
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
