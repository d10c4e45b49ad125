#!/bin/sh
# The first process of a guest: makes what tests expect of a machine, runs them, and powers off.
export PATH=/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs -o mode=0755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
dmesg -n 1
date -s "@$epoch" >/dev/null
ip link set lo up
# On a machine these are there long before a lab is.
modprobe -a veth bridge br_netfilter nf_tables af_packet_diag tun
/xtask guest </dev/null 2>&1
echo o >/proc/sysrq-trigger
sleep 60
