#!/bin/bash
# What tools/test-vm.sh runs inside the machine. Prints a line for each thing seen; ends at the first that is not so.
set -euo pipefail
say() { echo "seen: $*"; }
die() { echo "not so: $*" >&2; journalctl -u hob -n 20 --no-pager -o cat >&2; exit 1; }
answers() { [ "$(curl -s -m 30 -o /dev/null -w '%{http_code}' "$url")" = 200 ] || die "$1: $url does not answer"; }
processes() { cat /sys/fs/cgroup/hob-*/[0-9a-f]*/cgroup.procs; }
limit() { cat /sys/fs/cgroup/hob-*/[0-9a-f]*/"$1"; }
until_it() { for _ in $(seq 120); do "$@" && return; sleep 0.5; done; die "not within a minute: $*"; }
# Not, too, where nothing runs: then there are no roles.
ready() { hob status --json 2>/dev/null | python3 -c 'import json,sys
roles = json.load(sys.stdin).get("roles", {}); sys.exit(not roles or not all(r["ready"] for r in roles.values()))'; }
pid_of() { hob status --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["roles"][sys.argv[1]]["pid"])' "$1"; }
other() { local now; now=$(pid_of "$1" 2>/dev/null) && [ "$now" != "$2" ] && ready; }

[ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ] || die "cgroup version 2 alone"
hob doctor || die "hob doctor"
systemctl daemon-reload
systemctl start hob || die "systemctl start hob"
ready || die "systemctl start returned before Hob was ready"
hob deploy /root/hello.oci.tar --name hello --cpu 0.5 --memory 1 >/dev/null || die "hob deploy"
url=$(hob ps --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["Services"][0]["Url"])')
answers "after hob deploy"
say "a service, deployed under systemd, answers"
[ "$(limit memory.max) $(limit memory.swap.max) $(limit cpu.max)" = "1073741824 0 50000 100000" ] || die "limits are set"
[ "$(limit pids.max)" -gt 0 ] || die "processes are limited"
task=$(processes)
[ "$(readlink "/proc/$task/ns/user")" != "$(readlink /proc/self/ns/user)" ] || die "the task has a user namespace"
say "limits on cgroup version 2, and a user namespace"

systemctl restart hob
[ "$(processes)" = "$task" ] || die "the task lives through systemctl restart"
answers "after a restart"
for role in host control edge; do
  pid=$(pid_of "$role")
  kill -9 "$pid"
  until_it other "$role" "$pid"
  [ "$(processes)" = "$task" ] || die "the task lives through the end of $role"
  answers "after kill -9 of $role"
done
pid=$(systemctl show -p MainPID --value hob)
kill -9 "$pid"
until_it ready
[ "$(processes)" = "$task" ] || die "the task lives through the end of the supervisor"
answers "after kill -9 of the supervisor"
systemctl stop hob
[ "$(processes)" = "$task" ] || die "the task lives through systemctl stop"
systemctl start hob
answers "after stop and start"
say "the task outlives restarts, and the end of each daemon"

hob down --purge >/dev/null || die "hob down --purge"
left=$(find /sys/fs/cgroup -name 'hob-*'; ls -d /run/hob* /var/lib/hob 2>/dev/null || true; nft list tables; losetup -a
  ip -o link | grep hob || true; grep hob /proc/self/mountinfo || true; pgrep -a 'hob-monitor|hobd' || true)
[ -z "$left" ] || die "hob down --purge leaves nothing: $left"
say "hob down --purge leaves nothing"

for room in sandbox network host; do
  [ -x "/root/${room}_test" ] || continue
  "/root/${room}_test" >"/tmp/$room.log" 2>&1 || { grep -A20 'Failure' "/tmp/$room.log" | head -60; die "the tests of $room"; }
  say "$room: $(tail -1 "/tmp/$room.log")"
done
