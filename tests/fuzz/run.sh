#!/usr/bin/env bash
# One fuzz target for some seconds: run.sh SECONDS PROGRAM. Says `ok NAME`, or `not ok NAME` and where the input is that broke it.
set -uo pipefail
seconds=$1 target=$2
name=${target##*/fuzz_}
scratch=$(mktemp -d)
mkdir "$scratch/corpus"
python3 "$(dirname "$0")/seeds.py" "$name" "$scratch/corpus" &&
  "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=0 -verbosity=0 \
    -artifact_prefix="$scratch/" "$scratch/corpus" >"$scratch/log" 2>&1
if [ $? -eq 0 ]; then
  echo "ok $name"
  rm -rf "$scratch"
else
  echo "not ok $name"
  tail -n 40 "$scratch/log" >&2
  echo "dev: the input that broke fuzz_$name is in $scratch" >&2
fi
