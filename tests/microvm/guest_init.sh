#!/bin/busybox sh
# The init of the test's guests: does what hob.test= on its command line says, then resets the machine.
busybox=/bin/busybox
$busybox mkdir -p /proc /sys /dev
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
for module in virtio_ring virtio virtio_mmio virtio_blk failover net_failover virtio_net virtio-rng; do
  $busybox insmod /modules/$module.ko
done
test=$($busybox sed -n 's/.*hob\.test=\([a-z]*\).*/\1/p' /proc/cmdline)
case "$test" in
  disk)
    echo "read: $($busybox head -c 15 /dev/vda)"
    echo -n written-by-guest | $busybox dd of=/dev/vda bs=512 seek=1 conv=fsync 2>/dev/null
    $busybox tr '\0' y </dev/zero | $busybox dd of=/dev/vda bs=1M seek=1 count=1 iflag=fullblock conv=fsync 2>/dev/null
    $busybox blkdiscard -o 2097152 -l 1048576 /dev/vda
    ;;
  swap)
    look() { echo "disk: $($busybox cat /sys/block/vda/size) sectors of $($busybox head -c 1 /dev/vda)"; }
    echo "random: $($busybox cat /sys/class/misc/hw_random/rng_current) $($busybox head -c 4096 /dev/hwrng | $busybox wc -c)"
    look
    until [ "$($busybox cat /sys/block/vda/size)" = 4096 ]; do $busybox sleep 1; done
    echo 3 >/proc/sys/vm/drop_caches
    look
    echo -n written-by-guest | $busybox dd of=/dev/vda bs=512 conv=fsync 2>/dev/null
    read -r line
    echo "typed: $line"
    ;;
  write)
    $busybox dd if=/dev/zero of=/dev/vda bs=512 count=1 conv=fsync 2>/dev/null || echo "write failed"
    ;;
  cpus) echo "cpus: $($busybox nproc)" ;;
  snapshot)
    # All that must go on after a restore, a line each second: memory, disk, clock, entropy, the generation id and its interrupt,
    # the host's random bytes and metadata.
    if [ -e /sys/class/net/eth0 ]; then
      $busybox ip link set eth0 up
      $busybox ip address add 198.18.8.2/24 dev eth0
      $busybox ip route add 169.254.169.254 dev eth0
      meta() { printf 'GET /name HTTP/1.0\r\n\r\n' | $busybox nc -w 3 169.254.169.254 80 | $busybox tail -n 1; }
    else
      meta() { echo none; }
    fi
    count=0
    while :; do
      count=$((count + 1))
      echo "count $count" | $busybox dd of=/dev/vda bs=512 seek=1 conv=sync,fsync 2>/dev/null
      id=$($busybox dd if=/dev/mem bs=16 skip=57088 count=1 2>/dev/null | $busybox xxd -p)
      random=$($busybox head -c 16 /dev/urandom | $busybox xxd -p)
      changes=$($busybox sed -n 's/^ *[0-9]*: *\([0-9]*\) .*ACPI:Ged.*/\1/p' /proc/interrupts)
      drawn=$($busybox head -c 16 /dev/hwrng 2>/dev/null | $busybox wc -c)
      echo "line $count time $($busybox date +%s) id $id random $random changes $changes drawn $drawn meta $(meta) end"
      $busybox sleep 1
    done
    ;;
  net)
    $busybox ip link set eth0 up
    $busybox ip address add 198.18.7.2/24 dev eth0
    echo "address: $($busybox cat /sys/class/net/eth0/address) mtu: $($busybox cat /sys/class/net/eth0/mtu)"
    $busybox ip route add 169.254.169.254 dev eth0
    meta() { printf "$1 $2 HTTP/1.0\r\n$3\r\n" | $busybox nc -w 3 169.254.169.254 80 | $busybox tr -d '\r'; }
    token=$(meta PUT /latest/api/token 'X-metadata-token-ttl-seconds: 60\r\n' | $busybox tail -n 1)
    get() { meta GET "$1" "X-metadata-token: $token\r\n" | $busybox sed '1,/^$/d'; }
    status() { meta GET "$1" "" | $busybox sed -n 's/^HTTP[^ ]* \(...\).*/\1/p'; }
    echo metadata: $(get /latest) $(get /latest/name) $(status /latest)
    until $busybox wget -q -O /got http://198.18.7.1:8000/file; do $busybox sleep 1; done
    echo "got: $($busybox md5sum </got)"
    $busybox httpd -p 80 -h /
    echo serving
    $busybox nc -l -p 81
    ;;
  balloon)
    $busybox insmod /modules/virtio_balloon.ko
    echo ready
    read -r line
    ;;
  pmem)
    for module in libnvdimm nd_btt nd_pmem nd_virtio virtio_pmem; do
      $busybox insmod /modules/$module.ko
    done
    until [ -e /dev/pmem0 ] && [ -e /dev/pmem1 ]; do $busybox sleep 1; done
    echo "pmem: $($busybox cat /sys/block/pmem0/size) $($busybox head -c 10 /dev/pmem0) $($busybox head -c 6 /dev/pmem1)"
    echo -n written-by-guest | $busybox dd of=/dev/pmem0 bs=512 seek=1 conv=fsync 2>/dev/null
    ;;
  tick)
    count=0
    while :; do
      count=$((count + 1))
      echo "tick $count"
      $busybox sleep 1
    done
    ;;
esac
$busybox reboot -f
