# A disk that hangs in the kernel: preflight's table stands, with a late row, and an intake of another disk does not wait for it.
#: disk D1 96M
#: disk EXT 32M ext4
mkdir -p /job/keep
modprobe scsi_debug dev_size_mb=32 || bad "no scsi_debug"
udevadm settle
hung=$(ls /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block)
echo "the disk that hangs: $hung, $(cat /sys/block/$hung/device/model)"
zpool create -m none tank "$(disk D1)" && zpool export tank
# From now on it answers nothing, and the kernel waits.
echo 600 >/sys/block/$hung/device/timeout
echo 4 >/sys/bus/pseudo/drivers/scsi_debug/opts
echo 1 >/sys/bus/pseudo/drivers/scsi_debug/every_nth
say "preflight"
before=$(written)
s=$(date +%s%N)
aslrun /job/keep/table asl-intake --preflight --run-dir /run/asl
e=$(date +%s%N)
echo "preflight took $(((e - s) / 1000000)) ms"
echo "$(((e - s) / 1000000))" >/job/keep/preflight-ms
cp /run/asl/preflight.json /job/keep/
holds /job/keep/table "$hung"
holds /job/keep/table tank
[ $(((e - s) / 1000000000)) -lt 60 ] || bad "it hung: $(((e - s) / 1000000000)) s"
[ "$(written)" = "$before" ] || bad "it wrote"
say "an intake of another disk"
aslrun /job/keep/intake asl-intake --batch --source "$(disk EXT)" --store /tmp/store
[ $rc = 0 ] || bad "the intake beside it ended with $rc"
ps -eo stat,args | grep '^D' | head
echo 0 >/sys/bus/pseudo/drivers/scsi_debug/every_nth
