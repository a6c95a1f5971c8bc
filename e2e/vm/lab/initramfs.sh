#!/bin/busybox sh
# Finds the disk with the serial "root", and boots what is on it with a layer of memory on top.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for m in $($b cat /mod/order); do $b insmod /mod/"$m"; done
for i in 1 2 3 4 5 6 7 8 9 10; do
	for d in /sys/block/vd*; do
		[ "$($b cat "$d/serial" 2>/dev/null)" = root ] && root=/dev/${d##*/}
	done
	[ -n "$root" ] && break
	$b sleep 1
done
$b mount -t squashfs -o ro "$root" /lower
$b mount -t tmpfs -o size=60% upper /upper
$b mkdir /upper/up /upper/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/up,workdir=/upper/work overlay /new
if $b grep -qw lab.bare /proc/cmdline; then # nothing but the script: no services, no names that udev makes
	for m in proc sys dev; do $b mkdir -p /new/$m && $b mount -o move /$m /new/$m; done
	exec $b switch_root /new /usr/local/sbin/lab-guest
fi
$b umount /proc
$b umount /sys
exec $b switch_root /new /sbin/init
