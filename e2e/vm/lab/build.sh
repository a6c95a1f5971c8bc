#!/usr/bin/env bash
# build.sh CACHE SERIES: makes what the lab boots: a kernel, a root as squashfs with OpenZFS of that series (2.3 or 2.1) in it, and an
# initramfs without modules for those cases. Wants root, mmdebstrap, squashfs-tools, cpio, busybox-static, kmod. Prints the
# folder, which is named after kernel and ZFS, on the last line of stdout. What is there already is not built again.
set -euo pipefail
cache=$1 series=$2 here=$(cd "$(dirname "$0")" && pwd)
mirror=${ASL_VM_MIRROR:-http://deb.debian.org/debian}
suite=bookworm
case $series in 2.1) from=$suite ;; 2.3) from=$suite-backports ;; *) echo "build.sh: no ZFS $series in Debian $suite: 2.1 or 2.3" >&2; exit 2 ;; esac
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
unset TMPDIR # of this machine: there is no such folder in the trees
say() { echo "build: $*" >&2; }
mkdir -p "$cache"
exec 9>"$cache/lock-$series"
flock 9
if [ -e "$cache/series-$series/done" ]; then # to build with newer packages, remove that link
	readlink -f "$cache/series-$series"
	exit
fi

# unpack gives the kernel without its loader: QEMU starts that at once, and saves the time to unpack it at every boot.
unpack() {
	local at
	for magic in '\xfd7zXZ\x00=xz -dc --single-stream' '\x28\xb5\x2f\xfd=zstd -dc' '\x1f\x8b\x08=gzip -dc'; do
		for at in $(grep -abo -P "${magic%%=*}" "$1" | cut -d: -f1); do
			tail -c "+$((at + 1))" "$1" | ${magic#*=} 2>/dev/null >"$work/unpacked" || true # what follows the kernel is no error
			[ "$(head -c 4 "$work/unpacked" | tail -c 3)" != ELF ] || { cat "$work/unpacked"; return; }
		done
	done
	say "the kernel is packed in a way that this script does not know"
	return 1
}

work=$cache/work-$series
build=$work/build
bound=()
leave() { for m in "${bound[@]}"; do umount -l "$m" || true; done; }
trap leave EXIT
# An old Debian's lists are signed once and for all, and the clock of a machine that builds may be anywhere.
apt=(--aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Check-Date "false"' --skip=cleanup/apt/lists)
bind() { for m in proc sys dev; do mount --rbind "/$m" "$1/$m"; mount --make-rslave "$1/$m"; bound+=("$1/$m"); done; }

# A tree with a compiler: the module is built once in it, and nothing of it is booted.
if [ ! -e "$work/build.done" ]; then
	say "a tree to build in"
	rm -rf "$work"
	mkdir -p "$work"
	mmdebstrap --quiet --variant=apt "${apt[@]}" --include=linux-headers-amd64,dkms,gcc,make,kmod,python3-minimal,libc6-dev "$suite" "$build" \
		"deb $mirror $suite main contrib" "deb $mirror $suite-updates main contrib" "deb $mirror $suite-backports main contrib" >&2
	touch "$work/build.done"
fi
kernel=$(basename "$(echo "$build"/lib/modules/*-amd64)")
zfs=$(chroot "$build" apt-get -s -t "$from" install zfs-dkms | sed -nE 's/^Inst zfs-dkms.*\(([0-9][^ -]*).*/\1/p')
[ -n "$zfs" ] || zfs=$(chroot "$build" dpkg-query -W -f '${Version}' zfs-dkms | sed 's/-.*//')
out=$cache/$kernel-zfs$zfs
if [ ! -e "$work/module.done" ]; then
	say "OpenZFS $zfs for $kernel: ten minutes of one core"
	bind "$build"
	chroot "$build" apt-get -qq -y --no-install-recommends -t "$from" install zfs-dkms >"$work/dkms.log" 2>&1 || chroot "$build" dpkg --configure -a >>"$work/dkms.log" 2>&1 || { tail -20 "$work/dkms.log" >&2; exit 1; }
	chroot "$build" dkms status zfs -k "$kernel" | grep -q installed || chroot "$build" dkms autoinstall -k "$kernel" >>"$work/dkms.log" 2>&1
	leave
	bound=()
	touch "$work/module.done"
fi

root=$work/root
if [ ! -e "$work/root.done" ]; then
	say "the tree to boot"
	rm -rf "$root"
	mmdebstrap --quiet --variant=apt "${apt[@]}" --include=systemd-sysv,udev,kmod,e2fsprogs,util-linux,fdisk,dmsetup,procps,strace,iproute2,python3-minimal,ca-certificates \
		"$suite" "$root" \
		"deb $mirror $suite main contrib" "deb $mirror $suite-updates main contrib" "deb $mirror $suite-backports main contrib" >&2
	bind "$root"
	chroot "$root" apt-get -qq -y --no-install-recommends -t "$from" install zfsutils-linux >>"$work/dkms.log" 2>&1
	leave
	bound=()
	touch "$work/root.done"
fi

say "the kernel"
version=$(chroot "$build" dpkg-query -W -f '${Version}' "linux-headers-$kernel")
(cd "$build/tmp" && chroot "$build" sh -c "cd /tmp && apt-get -qq download linux-image-$kernel=$version" && dpkg-deb -x linux-image-*.deb "$work/image" && rm linux-image-*.deb)
unpack "$work/image/boot/vmlinuz-$kernel" >"$work/vmlinux"
modules=$root/lib/modules/$kernel
rm -rf "$modules"
mkdir -p "$modules"
cp -a "$work/image/lib/modules/$kernel/." "$modules/"
# What no virtual machine has: 300 MB that would be packed for nothing.
(cd "$modules/kernel" && find drivers/gpu -name "*.ko*" ! -name "drm*" ! -name "ttm*" ! -name "bochs*" -delete && rm -rf sound net/{bluetooth,mac80211,wireless,sctp,tipc,netfilter,can} drivers/{media,net/wireless,net/ethernet,infiniband,bluetooth,iio,hwmon,usb,staging,isdn,thunderbolt,input/misc,mtd,comedi,platform} fs/{ocfs2,gfs2,ceph,nfsd,cifs,ksmbd,f2fs,reiserfs,jfs} || true)
mkdir -p "$modules/updates/dkms"
find "$build/lib/modules/$kernel" "$build/var/lib/dkms" -name '*.ko*' -path '*dkms*' -exec cp -n {} "$modules/updates/dkms/" \;
depmod -b "$root" "$kernel"

say "the root"
install -m 755 "$here/guest.sh" "$root/usr/local/sbin/lab-guest"
install -m 644 "$here/lab.service" "$root/etc/systemd/system/lab.service"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants" "$root/job"
ln -sfn /etc/systemd/system/lab.service "$root/etc/systemd/system/multi-user.target.wants/lab.service"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id" # without one the first boot asks
echo lab >"$root/etc/hostname"
: >"$root/etc/fstab"
chroot "$root" passwd -q -d root 2>/dev/null || true
# Nothing may import a pool, or wait for something that is not there.
for u in systemd-firstboot.service systemd-networkd-wait-online.service zfs-import-cache.service zfs-import-scan.service zfs-mount.service zfs-share.service zfs-zed.service apt-daily.timer apt-daily-upgrade.timer e2scrub_reap.service; do
	ln -sfn /dev/null "$root/etc/systemd/system/$u"
done
rm -f "$root"/etc/systemd/system/multi-user.target.wants/{zfs.target,remote-fs.target} "$root"/etc/systemd/system/*.wants/zfs*
rm -rf "$root"/usr/share/{doc,man,locale,info} "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
rm -f "$root/etc/hostid"
mkdir -p "$out"
mksquashfs "$root" "$out/root.squashfs" -noappend -comp lz4 -quiet -no-progress >&2
cp "$work/vmlinux" "$out/vmlinux"
cp "$work/image/boot/vmlinuz-$kernel" "$out/vmlinuz"

say "the initramfs"
init=$work/init
rm -rf "$init"
mkdir -p "$init"/{bin,proc,sys,dev,lower,upper,new,mod}
cp "$(command -v busybox)" "$init/bin/busybox"
install -m 755 "$here/initramfs.sh" "$init/init"
for m in virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk squashfs overlay; do
	for f in $(modprobe -d "$root" -S "$kernel" --show-depends "$m" 2>/dev/null | sed -n 's/^insmod //p'); do
		base=$(basename "$f")
		[ -e "$init/mod/$base" ] || { cp "$f" "$init/mod/$base"; echo "$base" >>"$init/mod/order"; }
	done
done
(cd "$init" && find . | cpio -o -H newc --quiet | gzip -1) >"$out/initrd.gz"
touch "$out/done"
ln -sfn "$out" "$cache/series-$series"
rm -rf "$work"
say "$(du -sh "$out" | cut -f1) in $out"
echo "$out"
