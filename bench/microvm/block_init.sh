#!/bin/busybox sh
# The init of the guests whose disk is measured: reads past the cache, and tells when.
busybox=/bin/busybox
$busybox mkdir -p /proc /sys /dev
$busybox mount -t devtmpfs dev /dev
for module in virtio_ring virtio virtio_mmio virtio_blk; do
  $busybox insmod /modules/$module.ko
done
echo "begin small"
$busybox dd if=/dev/vda of=/dev/null bs=4k count=2000 iflag=direct 2>/dev/null
echo "end small"
echo "begin large"
$busybox dd if=/dev/vda of=/dev/null bs=1M count=32 iflag=direct 2>/dev/null
echo "end large"
$busybox sleep 3600
