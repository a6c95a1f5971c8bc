# Pools of every kind on real OpenZFS: what preflight says and decides, and that a refusal changes nothing.
#: disk D1 96M
#: disk D2 96M
#: disk D3 96M
#: disk EXT 32M ext4
mkdir -p /job/keep

# hashes are those of the disks as they are outside of the machine. Doing it in here takes minutes.
hashes() {
	rm -f /job/hashes
	order hashes
	[ "$(grep -c sha256 /job/hashes)" = 4 ] || bad "the host gave no hashes"
	cat /job/hashes
}

# wipe makes the disks new. Labels lie at both ends.
wipe() {
	for d in D1 D2 D3; do
		dd if=/dev/zero of="$(disk $d)" bs=1M count=2 status=none
		dd if=/dev/zero of="$(disk $d)" bs=1M seek=94 count=2 status=none conv=fsync
	done
	udevadm settle
}

pools() { [ ! -d /proc/spl ] || zpool list -H -o name 2>/dev/null; }

# look NAME: preflight. On a host that is busy the machine may be slower than a probe waits; then once more, as a person would.
look() {
	for i in 1 2 3; do
		aslrun "/job/keep/$1.table" asl-intake --preflight --run-dir "/run/asl-$1"
		grep -q 'did not answer' "/run/asl-$1/preflight.json" || break
	done
}

# case NAME PLACE EXIT: looks, asks for an intake that nobody approved, and wants everything to be as it was.
case_() {
	local name=$1 place=$2 want=$3 before hashes loaded
	say "$name"
	sync
	before=$(written)
	hashes=$(hashes)
	loaded=$(lsmod | grep -c '^zfs ')
	look "$name"
	cp "/run/asl-$name/preflight.json" "/job/keep/$name.json" || bad "$name: no preflight.json"
	echo "mode: $(cat "/run/asl-$name/mode")"
	[ "$(lsmod | grep -c '^zfs ')" = "$loaded" ] || bad "$name: looking loaded the module"
	aslrun "/job/keep/$name.refused" asl-intake --batch --source "$(disk EXT)" --store "$place"
	[ $rc = "$want" ] || bad "$name: the intake that nobody approved ended with $rc, wanted $want"
	[ "$(written)" = "$before" ] || bad "$name: the kernel counted writes: before $before, after $(written)"
	[ "$(hashes)" = "$hashes" ] || bad "$name: a disk has changed"
	echo "written before and after: $(echo $before)"
	echo "hashes before and after: $(echo $hashes | sed 's/sha256 \([0-9a-f]\{12\}\)[0-9a-f]*/\1/g')"
	[ -z "$(pools)" ] || [ "$name" = imported ] || bad "$name: imported now: $(pools)"
}
mode() { [ "$(cat "/run/asl-$1/mode")" = "$2" ] || bad "$1: mode is $(cat "/run/asl-$1/mode"), wanted $2"; }
row() { grep -iE -- "$2" "/job/keep/$1.table" >/dev/null || bad "$1: no row with $2"; }

case_ notloaded zfs:tank/asl 4
mode notloaded operator

modprobe zfs
case_ none zfs:tank/asl 4
mode none operator

zpool create -m none tank mirror "$(disk D1)" "$(disk D2)"
zfs create tank/home
zpool export tank
case_ clean zfs:tank/asl 5
mode clean operator
row clean 'tank.*ONLINE'
holds /job/keep/clean.refused '--approve import='
notimported tank

conf 'approve.import = tank' 'local.dataset = tank/asl'
look clean-config
mode clean-config local
notimported tank
rm -f /etc/asl/asl.conf

# The pool as it is while another host has it: copied off a disk in use.
wipe
echo 286331153 >/sys/module/spl/parameters/spl_hostid
zpool create -m none fore "$(disk D1)"
sync
zpool sync fore
dd if="$(disk D1)" of="$(disk D2)" bs=1M conv=fsync status=none
zpool export fore
echo 0 >/sys/module/spl/parameters/spl_hostid
dd if=/dev/zero of="$(disk D1)" bs=1M count=2 conv=fsync status=none
dd if=/dev/zero of="$(disk D1)" bs=1M seek=94 count=2 conv=fsync status=none
partx -u "$(disk D2)" 2>/dev/null || blockdev --rereadpt "$(disk D2)"
udevadm settle
case_ foreign zfs:fore/asl 5
mode foreign operator
row foreign '11111111'
holds /job/keep/foreign.refused ' -f '

wipe
zpool create -m none mirr mirror "$(disk D1)" "$(disk D2)"
zpool export mirr
dd if=/dev/zero of="$(disk D2)" bs=1M conv=fsync status=none
udevadm settle
case_ degraded zfs:mirr/asl 5
row degraded 'mirr.*DEGRADED'
holds /job/keep/degraded.refused 'missing disk'

wipe
zpool create -m none strp "$(disk D1)" "$(disk D2)"
zpool export strp
dd if=/dev/zero of="$(disk D2)" bs=1M conv=fsync status=none
udevadm settle
case_ unavail zfs:strp/asl 4
row unavail 'strp'
lacks /job/keep/unavail.table 're-create'
lacks /job/keep/unavail.refused 're-create'

wipe
zpool create -m none tank "$(disk D1)"
zpool export tank
zpool create -m none -t other tank "$(disk D2)"
zpool export other
case_ namesakes zfs:tank/asl 2

wipe
head -c 32 /dev/urandom >/run/key
zpool create -m none enc "$(disk D1)"
zfs create -o encryption=on -o keyformat=raw -o keylocation=file:///run/key enc/secret
zpool export enc
case_ encrypted zfs:enc/secret 5

wipe
zpool create -m none mine "$(disk D1)"
# A new pool writes for a while by itself. Without us it must be quiet before what we do can be told from that.
for i in $(seq 20); do
	before=$(written)
	sleep 15
	[ "$(written)" != "$before" ] || break
done
case_ imported zfs:nobody/asl 4
row imported 'mine'
zpool export mine

wipe
rm -rf /lib/modules/*/updates
modprobe -r zfs && depmod
case_ nomodule zfs:mine/asl 4
