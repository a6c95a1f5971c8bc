#!/bin/sh
# Runs /job/script inside the machine, with everything it says in /job/out and on the first serial line, and its exit code in /job/rc.
# /job is a folder of the host. What is written there is there even when the machine is killed the next moment.
export PATH=/job/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
modprobe -a 9p 9pnet_virtio
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none job /job || { echo "lab: no job"; poweroff -f; }
udevadm settle
: >/job/started
cd /job
sh -c '. /job/lib.sh; . /job/script' >/job/out 2>&1
echo $? >/job/rc
sync
poweroff -f
