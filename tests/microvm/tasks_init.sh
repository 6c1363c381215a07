#!/bin/busybox sh
# The init of the emulated machine in which tasks run in microVMs: loads KVM, runs the drivers' suite, says how it went.
busybox=/bin/busybox
$busybox mkdir -p /proc /sys /dev /tmp /run /var/lib
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
$busybox mount -t tmpfs tmp /tmp
$busybox mount -t tmpfs run /run
$busybox mount -t cgroup2 cgroup /sys/fs/cgroup
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOB_TEST_MICROVM=/files
for module in kvm-amd overlay tun veth nf_tables ext4; do
  $busybox modprobe $module
done
filter=$($busybox sed -n 's/.*hob\.filter=\([^ ]*\).*/\1/p' /proc/cmdline)
/tests/guest_suite /files --gtest_color=no
echo "suite ended with $?"
/tests/sandbox_test --gtest_color=no "--gtest_filter=$filter"
echo "suite ended with $?"
$busybox poweroff -f
