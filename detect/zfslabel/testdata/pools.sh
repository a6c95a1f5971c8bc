#!/bin/bash
# Makes the pools whose labels the tests hold against zdb: pools.sh DIR, as root. It needs no kernel module: Debian's
# zfs-test (contrib) has ztest, which makes pools in user space and kills itself, and zfs-fuse has a daemon that knows
# export, destroy, spares and logs. What of the two is not there is left out.
# The vdevs' paths stand in the labels, so everything is seen as /mnt/pools. Then:
#   go test ./detect/zfslabel -run Fixtures -args -pools DIR
set -eu
dir=$(realpath -m "$1")
mkdir -p "$dir"
[ "${inside:-}" ] || exec env inside=1 unshare -m --propagation private "$0" "$dir"
mount -t tmpfs none /mnt
mkdir /mnt/pools
mount --bind "$dir" /mnt/pools

ztests() {
	local name=$1
	shift
	rm -rf "/mnt/pools/$name"
	mkdir "/mnt/pools/$name"
	timeout 100 ztest -V -T 10 -P 5 -t 6 -f "/mnt/pools/$name" -p "$name" -s 67108864 "$@" >"/mnt/pools/$name.out" 2>&1 || echo "ztest $name: $?" >&2
}
if command -v ztest >/dev/null; then
	ztests mirror -m 2 -r 1 -R 1 -v 2 -K raidz -a 12
	ztests raidz -m 1 -r 4 -R 1 -v 2 -K raidz -a 9
	ztests draid -m 1 -r 8 -R 1 -K draid -D 4 -S 1 -v 1 -s 134217728 -a 12
	ztests special -m 2 -r 4 -R 2 -v 2 -K raidz -a 0 -C special=on
	ztests wide -m 1 -r 1 -R 1 -v 1 -K raidz -a 13
	ztests multihost -m 2 -r 1 -R 1 -v 1 -K raidz -a 12 -M
	ztests expand -m 1 -r 4 -R 1 -v 1 -K eraidz -a 12 -X
fi

if command -v zfs-fuse >/dev/null; then
	at=/mnt/pools/fuse
	rm -rf $at
	mkdir $at
	for d in /etc/zfs /var/lib/zfs /var/run/zfs /var/lock/zfs; do
		mkdir -p $d
		mount -t tmpfs none $d
	done
	zfs-fuse -n --no-kstat-mount >$at.out 2>&1 &
	daemon=$!
	sleep 3
	pool() { timeout 60 "$(dirname "$(command -v zfs-fuse)")/zpool" "$@" || echo "zpool $*: $?" >&2; }
	for f in tank1 tank2 tank3 tanklog tankspare gone1 gone2 away off1 off2 half; do truncate -s 64M $at/$f; done
	pool create -m none half $at/half cache $at/away # refused half way: a cache must be a disk here
	pool create -m none tank raidz1 $at/tank1 $at/tank2 $at/tank3 log $at/tanklog spare $at/tankspare
	pool create -m none gone mirror $at/gone1 $at/gone2
	pool create -m none away $at/away
	pool create -m none off mirror $at/off1 $at/off2
	pool offline off $at/off2
	pool destroy gone
	pool export away
	kill -9 $daemon
fi
