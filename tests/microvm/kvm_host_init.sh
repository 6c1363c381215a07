#!/bin/busybox sh
# The init of the emulated machine in which tasks run in microVMs: loads KVM, mounts its disk, and runs what the test wants.
busybox=/bin/busybox
$busybox mkdir -p /proc /sys /dev /tmp /run /var/lib
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
$busybox mount -t tmpfs run /run
$busybox mount -t cgroup2 cgroup /sys/fs/cgroup
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
for module in virtio_pci virtio_blk kvm-amd overlay tun veth bridge nf_tables; do
  $busybox modprobe $module
done
$busybox mount -t ext4 /dev/vda /tmp
$busybox chmod 1777 /tmp
$busybox ip link set lo up
# The initial RAM disk cannot be pivoted away from; a mount of it on itself can.
$busybox mkdir -p /self
$busybox mount --rbind / /self
cd /self
$busybox mount --move . /
$busybox chroot . /bin/sh /test.sh
$busybox poweroff -f
