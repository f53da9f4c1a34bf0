#!/usr/bin/env bash
# Everything that reads the code without running it. run.sh BUILD-DIRECTORY; ends with `lint: N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=$1
passed=0
failed=0

check() { # check NAME COMMAND...: silent when it succeeds
  local name=$1 out
  shift
  if out=$("$@" 2>&1); then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'lint: %s\n%s\n' "$name" "$out" | head -n 60 >&2
  fi
}

tidy() { # one file per call: several in one call gave false alarms; two at a time
  git ls-files 'proto/*.c' 'client/lib/*.c' 'client/ctl/*.c' 'daemon/*.c' |
    xargs -P 2 -n 1 clang-tidy --quiet --extra-arg=-Wno-unknown-warning-option -p "$build" 2>/dev/null
}

analyzer() {
  [ -e build/analyzer/build.ninja ] ||
    CC=gcc meson setup build/analyzer --buildtype=debugoptimized -Danalyzer=true -Dtests=false >/dev/null || return 1
  ninja -C build/analyzer --quiet
}

manpages() {
  local page
  for page in docs/*.[1-9].scd; do
    [ -e "$page" ] || continue
    scdoc <"$page" | mandoc -T lint -W warning || return 1
  done
  python3 docs/protocol_man.py proto/PROTOCOL.md /dev/stdout | scdoc | mandoc -T lint -W warning
}

no_machine_paths() { ! git ls-files | grep -v '^tests/lint/run.sh$' | xargs grep -nE '/(work|root)/[a-z]' -- 2>/dev/null; }

check layers python3 tests/lint/check_layers.py .
check docs python3 tests/lint/check_docs.py .
check format bash -c "git ls-files '*.c' '*.h' | xargs clang-format --dry-run --Werror"
check clang-tidy tidy
check gcc-analyzer analyzer
check man-pages manpages
check paths no_machine_paths
check units bash tests/lint/units.sh "$build"
printf 'lint: %d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
