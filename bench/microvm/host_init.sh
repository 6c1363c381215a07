#!/bin/busybox sh
# The init of the emulated machine: loads KVM, shows the tracer's and KVM's own files, measures.
busybox=/bin/busybox
$busybox mkdir -p /proc /sys /dev
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
$busybox mount -t debugfs debug /sys/kernel/debug
$busybox mount -t tracefs tracing /sys/kernel/tracing
for module in irqbypass kvm kvm-amd; do
  $busybox insmod /modules/$module.ko
done
# Signs of life for who waits outside: virtual time can stand still (bench/microvm.py).
(while :; do $busybox sleep 1; echo "ALIVE"; done) &
/vmm_bench /files
echo "bench ended with $?"
$busybox poweroff -f
