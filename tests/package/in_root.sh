#!/usr/bin/env bash
# Installs the packages as a machine would, in a copy of this one that vanishes: in_root.sh DIRECTORY-WITH-DEBS EMPTY-DIRECTORY. As root, in a
# mount and a PID namespace of its own. What systemd does for the daemon (directories, sockets, user) is done by hand here.
set -euo pipefail

if [ "${3:-}" != inside ]; then
  mount -t tmpfs tmpfs "$2"
  mkdir "$2/upper" "$2/work" "$2/machine"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$2/upper,workdir=$2/work" "$2/machine"
  mount -t proc proc "$2/machine/proc"
  mount --rbind /dev "$2/machine/dev"
  mount -t tmpfs tmpfs "$2/machine/run"
  mkdir "$2/machine/run/debs"
  cp "$1"/*.deb "$0" "$2/machine/run/debs/"
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root chroot "$2/machine" bash /run/debs/in_root.sh - - inside
fi

step() { printf 'step: %s\n' "$*"; }
fail() { printf 'failed: %s\n' "$*"; exit 1; }
is() { [ "$1" = "$2" ] || fail "$3 is '$1', not '$2'"; }

step install
export DEBIAN_FRONTEND=noninteractive
dpkg --install /run/debs/{wbx,libwbx0,libwbx-dev,python3-wbx}_*.deb >/run/dpkg.log 2>&1 || { cat /run/dpkg.log; fail dpkg; }
is "$(dpkg --verify wbx libwbx0 libwbx-dev python3-wbx)" "" "what differs from the packages"
id wbx >/dev/null || fail "there is no user wbx"
getent group wbx-admin >/dev/null || fail "there is no group wbx-admin"
is "$(stat -c '%a %U' /var/spool/wbx)" "3733 wbx" /var/spool/wbx
is "$(stat -c '%a %U' /run/wbx/journal)" "3733 wbx" /run/wbx/journal
is "$(stat -c '%a %U' /etc/wbx)" "755 root" /etc/wbx
[ -L /etc/systemd/system/multi-user.target.wants/wbxd.service ] || fail "the service is not enabled"
[ -L /etc/systemd/system/sockets.target.wants/wbxd.socket ] || fail "the socket is not enabled"
[ -L /etc/systemd/system/sockets.target.wants/wbxd-ctl.socket ] || fail "the control socket is not enabled"
systemd-analyze verify wbxd.service || fail "the unit, with its man pages"
wbxd --check-config >/dev/null || fail "the settings"
wbxd --config /usr/share/doc/wbx/wbxd.conf --check-config >/dev/null || fail "the sample of the settings"
is "wbxd $(dpkg-query -W -f '${Version}' wbx)" "$(wbxd --version)" "the version"

step run
install -d -o wbx -g wbx -m 700 /var/lib/wbx
install -d -o wbx -g wbx -m 755 /run/wbx/ingest /run/wbx/ctl
ln -s /run/wbx/ingest/wbx.sock /run/wbx.sock
setpriv --reuid=wbx --regid=wbx --init-groups --no-new-privs wbxd --models.base_url=http://127.0.0.1:9 2>/run/wbxd.log &
daemon=$!
for _ in $(seq 400); do
  wbxctl --json status >/run/status 2>&1 && break
  [ $? -eq 3 ] || break
  kill -0 $daemon || { cat /run/wbxd.log; fail "the daemon has ended"; }
  sleep 0.1 # between two looks
done
grep -q '"no_key"' /run/status || { cat /run/status /run/wbxd.log; fail "status without a key"; }
printf '{"loss":0.5}\n' | wbxcat -p package || fail wbxcat
python3 -c 'import wbx; run = wbx.init(project="package", id="python"); run.log({"loss": 0.5}); run.finish()' || fail "the Python package"
cc /usr/share/doc/libwbx-dev/examples/log.c $(pkg-config --cflags --libs wbx) -o /run/log && /run/log >/dev/null || fail "the C library"
is "$(wbxctl --json runs | grep -c '"run"')" 3 "how many runs there are"

step upgrade
dpkg --install /run/debs/wbx_*.deb >/run/dpkg.log 2>&1 || { cat /run/dpkg.log; fail "the same package once more"; }
is "$(wbxctl --json runs | grep -c '"run"')" 3 "how many runs there are after it"

step remove
kill $daemon
wait $daemon || fail "the daemon ended with $?"
dpkg --remove wbx >/run/dpkg.log 2>&1 || { cat /run/dpkg.log; fail remove; }
[ -e /var/lib/wbx/wbx.db ] || fail "removing took the store along"
[ ! -e /usr/sbin/wbxd ] || fail "the daemon is still there"

step purge
echo key >/etc/wbx/wandb-api-key
dpkg --purge wbx >/run/dpkg.log 2>&1 || { cat /run/dpkg.log; fail purge; }
for gone in /var/lib/wbx /var/spool/wbx /run/wbx /etc/wbx /etc/systemd/system/multi-user.target.wants/wbxd.service; do
  [ ! -e "$gone" ] || fail "$gone is still there"
done
step done
