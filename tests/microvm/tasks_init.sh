#!/bin/busybox sh
# The init of the emulated machine in which tasks run in microVMs: loads KVM, runs the drivers' suite, says how it went.
busybox=/bin/busybox
$busybox mkdir -p /proc /sys /dev /tmp /run /var/lib
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
$busybox mount -t tmpfs run /run
$busybox mount -t cgroup2 cgroup /sys/fs/cgroup
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOB_TEST_MICROVM=/files
for module in virtio_pci virtio_blk kvm-amd overlay tun veth bridge nf_tables; do
  $busybox modprobe $module
done
$busybox mount -t ext4 /dev/vda /tmp
filter=$($busybox sed -n 's/.*hob\.filter=\([^ ]*\).*/\1/p' /proc/cmdline)
/tests/guest_suite /files --gtest_color=no
echo "suite ended with $?"
/tests/sandbox_test --gtest_color=no "--gtest_filter=$filter"
echo "suite ended with $?"
$busybox poweroff -f
