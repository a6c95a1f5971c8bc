# Hurt disks, side by side with GNU ddrescue: medium errors of a SCSI disk, a device-mapper table with holes that give EIO, a disk that
# comes and goes, one that is pulled in the middle and plugged in again. What was read, how often bad ground was asked for, that nothing was written.
#: disk D1 96M
mkdir -p /job/keep
command -v ddrescue >/dev/null || bad "no ddrescue on the machine that started the lab"
sysctl -q kernel.printk_ratelimit=0

# rescued STORE IMAGE MAP: what ddrescue read and what we did are the same bytes in the same places.
rescued() {
	want asl-admin --store "$1" restore latest --to "$1.img" --fill zero </dev/null || true
	asl-admin --store "$1" mapfile latest >"$1.map"
	echo "ddrescue has $(ddrescuelog_sum "$3"), asl has $(ddrescuelog_sum "$1.map") bytes"
	[ "$(ddrescuelog_sum "$3")" = "$(ddrescuelog_sum "$1.map")" ] || bad "other bytes were recovered"
	cmp "$1.img" "$2" || bad "the images differ"
}
ddrescuelog_sum() { awk '!/^#/ && $3 == "+" {s += strtonum($2)} END {printf "%d", s}' "$1"; }
errors() { echo $(($(cat /sys/block/"$1"/device/ioerr_cnt))); }

say "medium errors: scsi_debug"
modprobe scsi_debug dev_size_mb=48 opts=2 medium_error_start=4660 medium_error_count=40 || modprobe scsi_debug dev_size_mb=48 opts=2
udevadm settle
sd=$(ls /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block)
host=$(basename "$(dirname "$(dirname "$(dirname "$(dirname "$(readlink -f /sys/block/$sd)")")")")")
echo "$sd at $host, $(cat /sys/block/$sd/device/model)"
echo 0 >/sys/bus/pseudo/drivers/scsi_debug/opts
dd if=/dev/urandom of=/dev/$sd bs=1M oflag=direct status=none
echo 2 >/sys/bus/pseudo/drivers/scsi_debug/opts
w=$(cat /sys/block/$sd/stat | awk '{print $7}')
e0=$(errors $sd); s0=$(date +%s%N)
try ddrescue -q -d /dev/$sd /tmp/dd.img /tmp/dd.map
e1=$(errors $sd); s1=$(date +%s%N)
aslrun /job/keep/scsi asl-intake --batch --no-verify --source /dev/$sd --store /tmp/scsi
[ $rc = 3 ] || bad "exit code $rc"
e2=$(errors $sd); s2=$(date +%s%N)
echo "reads of bad ground: ddrescue $((e1 - e0)), asl $((e2 - e1)); time: ddrescue $(((s1 - s0) / 1000000)) ms, asl $(((s2 - s1) / 1000000)) ms"
[ $((e2 - e1)) -le $((e1 - e0)) ] || bad "bad ground was asked more often than by ddrescue"
rescued /tmp/scsi /tmp/dd.img /tmp/dd.map
[ "$(cat /sys/block/$sd/stat | awk '{print $7}')" = "$w" ] || bad "the disk was written to"

say "a disk that is pulled in the middle, and plugged in again"
echo 0 >/sys/bus/pseudo/drivers/scsi_debug/opts
sha=$(sha256sum </dev/$sd)
asl-intake --batch --no-verify --rate-limit 4 --source /dev/$sd --store /tmp/pull >/job/keep/pull 2>&1 &
sleep 6
echo 1 >/sys/block/$sd/device/delete
wait $!
rc=$?
cat /job/keep/pull
[ $rc = 7 ] || bad "exit code $rc, wanted 7"
want asl-intake --batch --list-unfinished --store /tmp/pull
echo "- - -" >/sys/class/scsi_host/$host/scan
udevadm settle
sd=$(ls /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block)
aslrun /job/keep/again asl-intake --batch --no-verify --source /dev/$sd --store /tmp/pull
[ $rc = 0 ] || bad "exit code $rc"
holds /job/keep/again "going on with"
want asl-admin --store /tmp/pull restore latest --to /tmp/pull.img
[ "$(sha256sum </tmp/pull.img)" = "$sha" ] || bad "other bytes"

say "and one that is waited for"
asl-intake --batch --no-verify --rate-limit 4 --wait 5m --source /dev/$sd --store /tmp/wait >/job/keep/wait 2>&1 &
sleep 6
echo 1 >/sys/block/$sd/device/delete
sleep 4
echo "- - -" >/sys/class/scsi_host/$host/scan
wait $!
rc=$?
cat /job/keep/wait
[ $rc = 0 ] || bad "exit code $rc"
want asl-admin --store /tmp/wait restore latest --to /tmp/wait.img
[ "$(sha256sum </tmp/wait.img)" = "$sha" ] || bad "other bytes"

say "holes: dm-error"
d=$(disk D1)
dd if=/dev/urandom of="$d" bs=1M oflag=direct status=none 2>/dev/null
n=$(blockdev --getsz "$d")
{
	echo "0 20000 linear $d 0"
	echo "20000 1 error"
	echo "20001 39999 linear $d 20001"
	echo "60000 3000 error"
	echo "63000 7 linear $d 63000"
	echo "63007 93 error"
	echo "63100 $((n - 63100)) linear $d 63100"
} | dmsetup create holes || bad "no device mapper"
s0=$(date +%s%N)
try ddrescue -q -d /dev/mapper/holes /tmp/holes.img /tmp/holes.map
s1=$(date +%s%N)
aslrun /job/keep/holes asl-intake --batch --no-verify --source /dev/mapper/holes --store /tmp/holes
[ $rc = 3 ] || bad "exit code $rc"
s2=$(date +%s%N)
echo "time: ddrescue $(((s1 - s0) / 1000000)) ms, asl $(((s2 - s1) / 1000000)) ms"
rescued /tmp/holes /tmp/holes.img /tmp/holes.map
dmsetup remove holes

say "one that comes and goes: dm-flakey"
dmsetup create flakey --table "0 $n flakey $d 0 4 1"
aslrun /job/keep/flakey asl-intake --batch --no-verify --retry 20 --rate-limit 16 --source /dev/mapper/flakey --store /tmp/flakey
[ $rc = 0 ] || bad "exit code $rc: not all was read in the end"
dmsetup remove flakey
want asl-admin --store /tmp/flakey restore latest --to /tmp/flakey.img
cmp /tmp/flakey.img "$d" || bad "other bytes"
