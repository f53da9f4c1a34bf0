#!/usr/bin/env bash
# What systemd says of the units, of sysusers.d and of tmpfiles.d: units.sh BUILD-DIRECTORY. Nothing of the machine is touched.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(realpath "$1")
command -v systemd-analyze >/dev/null || { echo "systemd-analyze is not there" >&2; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# ExecStart has to be there: the built daemon stands in for the installed one
cp "$build/systemd/wbxd.service" systemd/*.socket "$scratch/"
sed -i "s,^ExecStart=[^ ]*,ExecStart=$build/daemon/wbxd," "$scratch/wbxd.service"
said=$(systemd-analyze verify --man=no "$scratch"/*.service "$scratch"/*.socket 2>&1) && [ -z "$said" ] || {
  printf 'systemd-analyze verify: %s\n' "$said"
  exit 1
}
systemd-analyze security --offline=yes --threshold=15 "$scratch/wbxd.service" >"$scratch/score" || {
  tail -n 1 "$scratch/score"
  exit 1
}

# Both names that main.c asks for, and the paths of its defaults (config.c).
grep -qx 'FileDescriptorName=ingest' systemd/wbxd.socket
grep -qx 'FileDescriptorName=ctl' systemd/wbxd-ctl.socket
grep -q '"/run/wbx/ingest/wbx.sock"' daemon/config.c
grep -qx 'ListenStream=/run/wbx/ingest/wbx.sock' systemd/wbxd.socket
grep -q '"/run/wbx/ctl/ctl.sock"' daemon/config.c
grep -qx 'ListenStream=/run/wbx/ctl/ctl.sock' systemd/wbxd-ctl.socket

# The user, the group and the directories, made below a root of their own.
[ "$(id -u)" -eq 0 ] || exit 0
root=$scratch/root
mkdir -p "$root/etc" "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d"
cp systemd/wbx.sysusers "$root/usr/lib/sysusers.d/wbx.conf"
cp systemd/wbx.tmpfiles "$root/usr/lib/tmpfiles.d/wbx.conf"
systemd-sysusers --root="$root" 2>/dev/null
systemd-tmpfiles --create --root="$root" 2>"$scratch/tmpfiles" || { cat "$scratch/tmpfiles"; exit 1; }
grep -q '^wbx-admin:' "$root/etc/group"
id=$(awk -F: '$1 == "wbx" { print $3 }' "$root/etc/passwd")
for dir in run/wbx/journal var/spool/wbx; do
  got=$(stat -c '%a %u' "$root/$dir")
  [ "$got" = "3733 $id" ] || { echo "$dir is $got, not 3733 $id"; exit 1; }
done
