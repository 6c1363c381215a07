#!/bin/bash
# Runs Hob as its users have it, on a plain Debian 12 in an emulated machine: systemd as PID 1, cgroup version 2 alone,
# Debian's kernel, two CPUs, 2 GB. Needs root, and of Debian's packages: mmdebstrap, qemu-system-x86, openssh-client,
# busybox-static.
#
#   test-vm.sh BUILD          makes the machine, installs BUILD into it, checks, powers it off
#   test-vm.sh BUILD --keep   leaves it running and says how to enter it
#
# The tests of sandbox, network and host run in it too, if they are built. The machine is made once, in BUILD/vm; remove
# that folder to have it made anew. Emulation is 10 to 30 times slower than the machine itself, so this takes about ten
# minutes and is no part of `make test`.
set -euo pipefail
build=$(realpath "$1")
keep=${2:-}
here=$(dirname "$(realpath "$0")")
vm=$build/vm
port=2222
mkdir -p "$vm"

# What `make deps-run` installs and the libraries that a built Hob is linked with, then what the checks need.
packages=(systemd systemd-sysv dbus udev kmod iproute2 procps python3 curl openssh-server busybox-static linux-image-cloud-amd64
  crun nftables e2fsprogs ca-certificates
  libarchive13 libcurl4 libfmt9 libnghttp2-14 libsqlite3-0 libssl3 libstdc++6 liburing2 libzstd1)

make_machine() {
  local root=$vm/root
  rm -rf --one-file-system "$root"
  echo "making the machine (about five minutes)"
  mmdebstrap --quiet --variant=minbase --include="$(IFS=,; echo "${packages[*]}")" bookworm "$root" http://deb.debian.org/debian
  [ -e "$vm/key" ] || ssh-keygen -q -t ed25519 -N '' -f "$vm/key"
  install -D -m 600 "$vm/key.pub" "$root/root/.ssh/authorized_keys"
  echo debian12 >"$root/etc/hostname"
  echo "127.0.0.1 localhost debian12" >"$root/etc/hosts"
  echo "/dev/vda / ext4 defaults 0 1" >"$root/etc/fstab"
  printf '[Match]\nName=eth0\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/eth0.network"
  chroot "$root" systemctl --quiet enable systemd-networkd ssh
  cp "$root"/boot/vmlinuz-* "$vm/kernel"
  cp "$root"/boot/initrd.img-* "$vm/initrd"
  mke2fs -q -t ext4 -d "$root" "$vm/disk.new" 6G
  rm -rf --one-file-system "$root"
  mv "$vm/disk.new" "$vm/disk"
}

in_machine() {
  ssh -q -p "$port" -i "$vm/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=20 root@127.0.0.1 "$@"
}

boot() {
  # `restrict`: it reaches nothing outside. `snapshot`: what it writes is gone with it, the next run finds it as made.
  qemu-system-x86_64 -M pc -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nodefaults -display none -no-reboot -snapshot \
    -kernel "$vm/kernel" -initrd "$vm/initrd" -append "root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=-1" \
    -drive "file=$vm/disk,format=raw,if=virtio" -serial "file:$vm/console.log" -device virtio-rng-pci \
    -device virtio-net-pci,netdev=n -netdev "user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:$port-:22" </dev/null &
  machine=$!
  trap 'kill "$machine" 2>/dev/null || true' EXIT
  until in_machine true; do
    kill -0 "$machine" 2>/dev/null || { echo "the machine does not start; see $vm/console.log" >&2; exit 1; }
    sleep 2
  done
}

[ -e "$vm/disk" ] || make_machine
boot
make -s -C "$here/.." -o build BUILD="$build" DESTDIR="$vm/install" install >/dev/null
install -D "$build/images/hello.oci.tar" "$vm/install/root/hello.oci.tar"
# Its program ignores SIGTERM, and so does what takes its place.
"$here/make_oci_archive.py" --name stubborn:1 --entry-point /bin/busybox --entry-point sh --entry-point=-c \
  --entry-point 'trap "" TERM; exec /bin/busybox httpd -f -p 8080 -h /' "$vm/install/root/stubborn.oci.tar" \
  /bin/busybox=/bin/busybox >/dev/null
for room in sandbox network host; do
  [ ! -e "$build/tests/${room}_test" ] || install -D "$build/tests/${room}_test" "$vm/install/root/${room}_test"
done
tar -C "$vm/install" --owner=0 --group=0 -cf - . | in_machine tar -C / --no-overwrite-dir --keep-directory-symlink -xf -
rm -rf "$vm/install"
if [ "$keep" = --keep ]; then
  trap - EXIT
  disown "$machine"
  echo "running as process $machine; enter with: ssh -p $port -i $vm/key root@127.0.0.1"
  exit 0
fi
in_machine bash -s <"$here/test-vm-checks.sh"
in_machine "systemctl start hob && hob deploy /root/stubborn.oci.tar --name stubborn >/dev/null"
in_machine systemctl poweroff || true
wait "$machine"
echo "the machine is off"
# The last thing that systemd does to what no unit has ended; it says whom it waits for.
grep -q "Sending SIGTERM to remaining processes" "$vm/console.log" || { echo "not so: $vm/console.log tells of its end" >&2; exit 1; }
if grep "Waiting for process" "$vm/console.log" >&2; then
  echo "not so: a task that ignores SIGTERM does not hold the machine" >&2
  exit 1
fi
echo "seen: a task that ignores SIGTERM does not hold the machine"
