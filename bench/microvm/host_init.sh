#!/bin/busybox sh
# The init of the emulated machine: loads KVM, shows the tracer's and KVM's own files, measures.
busybox=/bin/busybox
$busybox mkdir -p /proc /sys /dev
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
$busybox mount -t debugfs debug /sys/kernel/debug
$busybox mount -t tracefs tracing /sys/kernel/tracing
for module in irqbypass kvm kvm-amd tun; do
  $busybox insmod /modules/$module.ko
done
$busybox mkdir -p /dev/net
[ -e /dev/net/tun ] || $busybox mknod /dev/net/tun c 10 200
# Signs of life for who waits outside: virtual time can stand still (bench/microvm.py).
(while :; do $busybox sleep 1; echo "ALIVE"; done) &
group=$($busybox sed -n 's/.*hob\.group=\([^ ]*\).*/\1/p' /proc/cmdline)
/vmm_bench /files "$group"
echo "bench ended with $?"
$busybox poweroff -f
