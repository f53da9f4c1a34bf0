#!/bin/sh
# The Python that runs tests: build/venv's when ./dev made one, else the system's.
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$root/build/venv/bin/python
[ -x "$python" ] || python=python3
PYTHONPATH=$root/tests/lib PYTHONDONTWRITEBYTECODE=1 exec "$python" "$@"
