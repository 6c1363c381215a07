#!/bin/busybox sh
# The init of the emulated machine in which KVM works: loads KVM, runs the suite on real guests, says how it went.
busybox=/bin/busybox
$busybox mkdir -p /proc /sys /dev /tmp
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
$busybox mount -t tmpfs tmp /tmp
for module in irqbypass kvm kvm-amd; do
  $busybox insmod /modules/$module.ko
done
$busybox mount -t cgroup2 cgroup /sys/fs/cgroup
# The initial RAM disk cannot be pivoted away from; a mount of it on itself can.
$busybox mkdir -p /self
$busybox mount --rbind / /self
cd /self
$busybox mount --move . /
filter=$($busybox sed -n 's/.*hob\.filter=\([^ ]*\).*/\1/p' /proc/cmdline)
$busybox chroot . /vmm_guest_suite /files --gtest_color=no --gtest_filter="${filter:-*}"
echo "suite ended with $?"
$busybox poweroff -f
