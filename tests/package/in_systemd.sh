#!/usr/bin/env bash
# The packages under a systemd of their own: in_systemd.sh DIRECTORY-WITH-DEBS-AND-TRAINER EMPTY-DIRECTORY. As root. It boots this machine's
# systemd as process 1 of a container made of namespaces and an overlay, which installs the packages and does to the service
# what an operator does. What that says comes out here; 77 when such a container cannot be made.
set -euo pipefail
self=$(realpath "$0")

# --- outside: a mount namespace, and a cgroup for it all ---
outside() {
  local cgroups=$2/cgroups group status=0
  mkdir "$cgroups" "$2/upper" "$2/work" "$2/machine" "$2/out"
  mount -t cgroup -o none,name=systemd cgroup "$cgroups" || exit 77
  mount -t tmpfs tmpfs "$2/upper"
  group=$(mktemp -d "$cgroups/wbx-test-XXXXXX")
  (
    echo $BASHPID >"$group/cgroup.procs"
    exec unshare --pid --fork --kill-child --uts --ipc --net --cgroup -- bash "$self" "$1" "$2" container
  ) || status=$?
  cat "$2/out/log" 2>/dev/null || true
  find "$group" -depth -type d -exec rmdir {} \;
  exit $status
}

# --- the container's process 1, before it is systemd ---
container() {
  local machine=$2/machine
  mkdir "$2/upper/upper" "$2/upper/work"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$2/upper/upper,workdir=$2/upper/work" "$machine" || exit 77
  mount -t proc proc "$machine/proc"
  mount -t sysfs sysfs "$machine/sys" -o ro
  mount -t tmpfs tmpfs "$machine/sys/fs/cgroup"
  mkdir "$machine/sys/fs/cgroup/systemd"
  mount -t cgroup -o none,name=systemd cgroup "$machine/sys/fs/cgroup/systemd"
  mount --rbind /dev "$machine/dev"
  mount -t tmpfs tmpfs "$machine/run"
  mount -t tmpfs tmpfs "$machine/tmp"
  mkdir "$machine/run/test" "$machine/run/out"
  mount --bind "$2/out" "$machine/run/out"
  cp "$1"/*.deb "$1/trainer" "$self" "$machine/run/test/"
  rm -f "$machine/usr/sbin/policy-rc.d" # that of an image whose services must not start
  cat >"$machine/etc/systemd/system/test.service" <<'UNIT'
[Unit]
DefaultDependencies=no
Requires=systemd-journald.socket
After=systemd-journald.socket
SuccessAction=exit
SuccessActionExitStatus=0
FailureAction=exit
FailureActionExitStatus=1
[Service]
Type=oneshot
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive
ExecStart=/bin/bash /run/test/in_systemd.sh - - inside
StandardOutput=append:/run/out/log
StandardError=append:/run/out/log
UNIT
  printf '[Unit]\nDefaultDependencies=no\nWants=test.service\n' >"$machine/etc/systemd/system/test.target"
  mount --make-rshared / # credentials come by propagation
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=other chroot "$machine" /lib/systemd/systemd --system --unit=test.target --log-target=null
}

# --- inside: the operator ---
step() { printf 'step: %s\n' "$*"; }
fail() { printf 'failed: %s\n' "$*"; journalctl --no-pager -n 40 -u wbxd; exit 1; }
is() { [ "$1" = "$2" ] || fail "$3 is '$1', not '$2'"; }
show() { systemctl show wbxd --property="$1" --value; }
await() { # await WHAT COMMAND...: until it succeeds
  local what=$1
  shift
  for _ in $(seq 600); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.1 # between two looks
  done
  fail "waited in vain: $what"
}
status() { wbxctl --json status || true; } # it ends with 1: there is no link
says() { journalctl --no-pager --output=cat -u wbxd "$@" | grep -q .; }
restarted() { [ "$(show NRestarts)" -ge "$1" ] && [ "$(show ActiveState)" = active ]; }
units_are() {
  for unit in wbxd.service wbxd.socket wbxd-ctl.socket; do
    is "$(systemctl is-active "$unit" || true)" "$1" "$unit"
  done
}
nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/tmp "$@"; }

waiting() { status | python3 -c 'import json, sys; print(json.load(sys.stdin)["sinks"][0]["waiting"])'; }

is_installed_well() {
  is "$(dpkg --verify wbx libwbx0 libwbx-dev python3-wbx)" "" "what differs from the packages"
  is "$(wbxd --version)" "wbxd $(dpkg-query -W -f '${Version}' wbx)" "the version"
  getent group wbx-admin >/dev/null || fail "there is no group wbx-admin"
  is "$(stat -c '%a %U' /var/spool/wbx /run/wbx/journal | uniq)" "3733 wbx" "mode and owner of spool and journal directory"
  is "$(stat -c '%a %U' /var/lib/wbx)" "700 wbx" "mode and owner of the store"
  for unit in wbxd.service wbxd.socket wbxd-ctl.socket; do
    is "$(systemctl is-enabled "$unit")" enabled "$unit"
  done
  is "$(systemd-analyze verify wbxd.service wbxd.socket wbxd-ctl.socket 2>&1)" "" "systemd-analyze verify, with man pages"
  wbxd --config /usr/share/doc/wbx/wbxd.conf --check-config >/dev/null || fail "the sample of the settings"
}

writers() { # each: 1 run, 600 rows, 1 end
  local i
  mkdir -m 777 /tmp/writers
  for i in $(seq 64); do
    (sleep 15; echo q) | nobody /run/test/trainer "r$i" "/tmp/writers/$i.notes" 1 600 20000 0 0 1048576 \
      >"/tmp/writers/$i.out" 2>"/tmp/writers/$i.err" &
  done
}

inside() {
  local socket before
  ip link set lo up

  step install
  dpkg --install /run/test/{wbx,libwbx0,libwbx-dev,python3-wbx}_*.deb >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail dpkg; }
  units_are active
  is_installed_well
  await "it says that there is no key" says WBX_SINK=models WBX_STATE="no key"
  status | grep -q '"no_key"' || fail "status without a key"

  step clients
  nobody wbxcat -p package <<<'{"loss":0.5}' 2>/dev/null || fail wbxcat
  nobody python3 -c 'import wbx; run = wbx.init(project="package"); run.log({"loss": 0.5}); run.finish()' || fail "the Python package"
  # shellcheck disable=SC2046
  cc /usr/share/doc/libwbx-dev/examples/log.c $(pkg-config --cflags --libs wbx) -o /tmp/log && nobody /tmp/log >/dev/null || fail "the C library"
  is "$(wbxctl --json runs | wc -l)" 3 "how many runs there are"

  step settings
  printf '[daemon]\nmetrics = 127.0.0.1:9464\nmetrics_file = /run/wbx/metrics/wbx.prom\n[models]\nbase_url = http://127.0.0.1:9\n' >/etc/wbx/wbxd.conf
  install -m 600 /dev/stdin /etc/wbx/wandb-api-key <<<0123456789012345678901234567890123456789
  systemctl restart wbxd
  await "the key comes as a credential" says WBX_SINK=models MESSAGE="sender: sink=models a key is there, from the credential wandb-api-key"
  await "the page" python3 -c 'import urllib.request as u; assert u.urlopen("http://127.0.0.1:9464/readyz").read() == b"ok\n"'
  await "the file" grep -q '^wbx_store_up 1$' /run/wbx/metrics/wbx.prom
  systemctl reload wbxd || fail reload

  step "64 writers, restarts, an upgrade, a kill"
  socket=$(stat -c %i /run/wbx/ingest/wbx.sock)
  before=$(waiting)
  writers
  for _ in 1 2 3; do systemctl restart wbxd; done
  dpkg --install /run/test/wbx_*.deb >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail upgrade; }
  is "$(stat -c %i /run/wbx/ingest/wbx.sock)" "$socket" "the socket after an upgrade"
  kill -9 "$(show MainPID)"
  await "systemd starts it again" restarted 1
  wait
  is "$(cat /tmp/writers/*.err)" "" "what writers complained of"
  is "$(sort /tmp/writers/*.out | uniq -c | xargs)" "64 closed 0 64 durable 1" "how writers ended"
  is "$(waiting)" $((before + 64 * 602)) "how many records wait"

  step "a daemon that stands still"
  kill -STOP "$(show MainPID)"
  await "the watchdog" restarted 2

  step "remove and purge"
  dpkg --remove wbx >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail remove; }
  units_are inactive
  [ -e /var/lib/wbx/wbx.db ] || fail "removing took the store along"
  dpkg --purge wbx >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail purge; }
  [ ! -e /var/lib/wbx ] && [ ! -e /etc/wbx ] && [ ! -e /run/wbx ] || fail "a purge leaves something"
  step done
}

case "${3:-}" in
container) container "$1" "$2" ;;
inside) inside ;;
*) outside "$1" "$2" ;;
esac
