#!/usr/bin/env bash
# The systemd units, with ExecStart pointed at the built daemon: units.sh BUILD-DIRECTORY.
set -euo pipefail
cd "$(dirname "$0")/../.."
ls systemd/*.service >/dev/null 2>&1 || exit 0
daemon=$(realpath "$1/daemon/wbxd")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp systemd/*.service systemd/*.socket "$scratch/"
sed -i "s,^ExecStart=[^ ]*,ExecStart=$daemon," "$scratch"/wbxd.service
systemd-analyze verify --man=no "$scratch"/*.service "$scratch"/*.socket
systemd-analyze security --offline=yes --threshold=15 "$scratch"/wbxd.service >"$scratch/score" || {
  tail -n 1 "$scratch/score"
  exit 1
}
