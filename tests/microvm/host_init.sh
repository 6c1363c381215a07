#!/bin/busybox sh
# The init of the emulated machine in which KVM works: loads KVM, runs the suite on real guests, says how it went.
busybox=/bin/busybox
$busybox mkdir -p /proc /sys /dev /tmp
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
$busybox mount -t tmpfs tmp /tmp
for module in irqbypass kvm kvm-amd tun; do
  $busybox insmod /modules/$module.ko
done
$busybox mkdir -p /dev/net
[ -e /dev/net/tun ] || $busybox mknod /dev/net/tun c 10 200
tests=$($busybox sed -n 's/.*hob\.tests=\([^ ]*\).*/\1/p' /proc/cmdline)
/vmm_guest_suite /files --gtest_color=no "--gtest_filter=${tests:-*}"
echo "suite ended with $?"
$busybox poweroff -f
