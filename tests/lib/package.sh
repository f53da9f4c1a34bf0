#!/usr/bin/env bash
# The Debian packages, built in a clean copy of the tree: package.sh DIRECTORY. They are then in DIRECTORY, with what lintian says of
# them in lintian.log. DEB_BUILD_OPTIONS=nocheck leaves out the unit tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "$1"
out=$(realpath "$1")
rm -rf "$out"/source "$out"/*.deb "$out"/*.changes "$out"/*.buildinfo "$out"/*.log
mkdir "$out/source"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
  [ ! -e "$file" ] || printf '%s\0' "$file" # deleted, and not committed yet
done | xargs -0 cp --parents -t "$out/source"
cd "$out/source"
dpkg-buildpackage --build=binary --no-sign --jobs="$(nproc)" >"$out/build.log" 2>&1 || {
  tail -n 60 "$out/build.log" >&2
  exit 1
}
cd "$out"
lintian --fail-on error,warning ./*.changes >lintian.log 2>&1 || {
  cat lintian.log >&2
  exit 1
}
ls ./*.deb
