# Hurt disks, side by side with GNU ddrescue: medium errors of a SCSI disk, a device-mapper table with holes that give EIO, a disk that comes and
# goes, one that fails below the machine, one that is pulled in the middle and plugged in again. What was recovered, how often bad ground was
# asked, how long it took, that nothing was written.
#: disk D1 64M
#: disk BAD 64M ext4 file.inject-error.0.event=read_aio,file.inject-error.0.errno=5,file.inject-error.0.sector=9001,file.inject-error.1.event=read_aio,file.inject-error.1.errno=5,file.inject-error.1.sector=40003,file.inject-error.2.event=read_aio,file.inject-error.2.errno=5,file.inject-error.2.sector=40005,file.inject-error.3.event=read_aio,file.inject-error.3.errno=5,file.inject-error.3.sector=131071
#: disk STORE 2G
#: same BAD
mkdir -p /job/keep /s
command -v ddrescue >/dev/null || bad "no ddrescue on the machine that started the lab"
mkfs.ext4 -q -F "$(disk STORE)" && mount "$(disk STORE)" /s || bad "no room"

# What the kernel could not read: requests of real disks, and what device-mapper was asked for, that ended with an error.
trace=/sys/kernel/tracing
mountpoint -q $trace || mount -t tracefs tracefs $trace
echo 'error != 0' >$trace/events/block/block_bio_complete/filter
echo 1 >$trace/events/block/block_bio_complete/enable
echo 1 >$trace/events/block/block_rq_error/enable
faults() { # of a device, since it was asked last
	grep -cE " block_(bio_complete|rq_error): $(cat "/sys/class/block/$(basename "$(readlink -f "$1")")/dev" | tr : ,) " $trace/trace
	: >$trace/trace
}
now() { date +%s%N; }
ms() { echo $((($2 - $1) / 1000000)) ms; }

# beside NAME DEVICE EXIT [FLAGS…]: reads a disk with ddrescue and with ours, and holds one against the other.
beside() {
	local name=$1 dev=$2 want=$3 t0 t1 t2 theirs ours w
	shift 3
	w=$(awk '{print $5, $7}' "/sys/class/block/$(basename "$(readlink -f "$dev")")/stat")
	echo 3 >/proc/sys/vm/drop_caches
	faults "$dev" >/dev/null
	t0=$(now)
	try ddrescue -q -d "$dev" /s/$name.dd /s/$name.ddmap
	t1=$(now)
	theirs=$(faults "$dev")
	aslrun /job/keep/$name asl-intake --batch --no-verify "$@" --source "$dev" --store /s/$name
	t2=$(now)
	ours=$(faults "$dev")
	[ $rc = "$want" ] || bad "$name: exit code $rc, wanted $want"
	wantrc "$want" asl-admin --store /s/$name restore latest --to /s/$name.img --fill zero
	want asl-admin --store /s/$name mapfile latest --to /s/$name.map
	echo "RESULT $name: recovered: ddrescue $(finished /s/$name.ddmap), asl $(finished /s/$name.map) bytes; reads that failed: ddrescue $theirs, asl $ours; time: ddrescue $(ms $t0 $t1), asl $(ms $t1 $t2)" | tee -a /job/keep/results
	[ "$theirs" -gt 0 ] || bad "$name: nothing failed, or it was not counted"
	[ "$(finished /s/$name.ddmap)" -le "$(finished /s/$name.map)" ] || bad "$name: ddrescue recovered more"
	[ "$ours" -le "$theirs" ] || bad "$name: bad ground was asked more often than by ddrescue"
	truncate -s "$(blockdev --getsize64 "$dev")" /s/$name.dd # it ends where something was read last
	cmp /s/$name.img /s/$name.dd || bad "$name: the images differ"
	[ "$(awk '{print $5, $7}' "/sys/class/block/$(basename "$(readlink -f "$dev")")/stat")" = "$w" ] || bad "$name: the disk was written to"
}
finished() { python3 -c 'import sys
print(sum(int(w[1], 0) for w in (l.split() for l in open(sys.argv[1]) if l[0] != "#") if len(w) == 3 and w[2] == "+"))' "$1"; }
# reading FILE: waits until an intake reads.
reading() { for i in $(seq 900); do grep -q "copying, pass 1" "$1" && return; sleep 0.1; done; bad "it never read: $(cat "$1")"; }
clean() { rm -rf /s/*.dd /s/*.img /s/"$1"; }

say "medium errors: scsi_debug"
modprobe scsi_debug dev_size_mb=48 opts=0 medium_error_start=4660 medium_error_count=40 || bad "no scsi_debug"
udevadm settle
scsi() { ls /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block; }
sd=$(scsi)
host=$(basename "$(echo /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*)")
echo "$sd at $host, $(cat /sys/block/$sd/device/model)"
dd if=/dev/urandom of=/dev/$sd bs=1M count=48 oflag=direct status=none
sha=$(sha256sum </dev/$sd)
echo 2 >/sys/bus/pseudo/drivers/scsi_debug/opts
beside scsi /dev/$sd 3
echo 0 >/sys/bus/pseudo/drivers/scsi_debug/opts

say "ddrescue goes on with what we read, now that the sectors come back"
try ddrescue -q -d -r 1 /dev/$sd /s/scsi.img /s/scsi.map
[ "$(sha256sum </s/scsi.img)" = "$sha" ] || bad "the rescue that ddrescue finished is not the disk"
echo "whole: $(finished /s/scsi.map) bytes"
clean scsi

say "a disk that is pulled in the middle, and plugged in again"
asl-intake --batch --no-verify --rate-limit 2 --source /dev/$sd --store /s/pull >/job/keep/pull 2>&1 &
reading /job/keep/pull
sleep 12
echo 1 >/sys/block/$sd/device/delete
wait $!
rc=$?
cat /job/keep/pull
[ $rc = 7 ] || bad "exit code $rc, wanted 7"
want asl-intake --batch --list-unfinished --store /s/pull
echo "- - -" >/sys/class/scsi_host/$host/scan
udevadm settle
sd=$(scsi)
aslrun /job/keep/again asl-intake --batch --no-verify --source /dev/$sd --store /s/pull
[ $rc = 0 ] || bad "exit code $rc"
holds /job/keep/again "going on with"
want asl-admin --store /s/pull restore latest --to /s/pull.img
[ "$(sha256sum </s/pull.img)" = "$sha" ] || bad "other bytes"
clean pull

say "and one that is waited for"
asl-intake --batch --no-verify --rate-limit 2 --wait 5m --source /dev/$sd --store /s/wait >/job/keep/wait 2>&1 &
reading /job/keep/wait
sleep 6
echo 1 >/sys/block/$sd/device/delete
sleep 4
echo "- - -" >/sys/class/scsi_host/$host/scan
wait $!
rc=$?
cat /job/keep/wait
[ $rc = 0 ] || bad "exit code $rc"
want asl-admin --store /s/wait restore latest --to /s/wait.img
[ "$(sha256sum </s/wait.img)" = "$sha" ] || bad "other bytes"
clean wait
[ "$(sha256sum </dev/$(scsi))" = "$sha" ] || bad "the disk has changed"

say "holes: dm-error"
d=$(disk D1)
dd if=/dev/urandom of="$d" bs=1M count=64 oflag=direct status=none
sync
order hashes
before=$(grep ^D1 /job/hashes)
n=$(blockdev --getsz "$d")
{
	echo "0 20000 linear $d 0"
	echo "20000 1 error"
	echo "20001 39999 linear $d 20001"
	echo "60000 300 error"
	echo "60300 7 linear $d 60300"
	echo "60307 93 error"
	echo "60400 $((n - 60400)) linear $d 60400"
} | dmsetup create holes || bad "no device mapper"
udevadm settle
beside holes /dev/mapper/holes 3
dmsetup remove holes
clean holes

say "one that comes and goes: dm-flakey"
dmsetup create flakey --table "0 $n flakey $d 0 4 1"
udevadm settle
aslrun /job/keep/flakey asl-intake --batch --no-verify --retry 20 --rate-limit 8 --source /dev/mapper/flakey --store /s/flakey
[ $rc = 0 ] || bad "exit code $rc: not all was read in the end"
echo "RESULT flakey: reads that failed: asl $(faults /dev/mapper/flakey)" | tee -a /job/keep/results
dmsetup remove --retry flakey
want asl-admin --store /s/flakey restore latest --to /s/flakey.img
cmp /s/flakey.img "$d" || bad "other bytes"
clean flakey
order hashes
echo "$before"
[ "$(grep ^D1 /job/hashes)" = "$before" ] || bad "the disk below has changed"

say "errors below the machine: blkdebug"
beside blkdebug "$(disk BAD)" 3
