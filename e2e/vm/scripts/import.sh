# An intake into a pool: approved by a token and by the config, void when a disk is pulled, gone on with after a power cut, verified on another host.
#: disk D1 512M
#: disk D2 512M
#: disk EXT 200M ext4
#: disk BIG 320M ext4-big
mkdir -p /job/keep
src=$(disk EXT)
modprobe zfs
zpool create -m none tank mirror "$(disk D1)" "$(disk D2)"
zpool export tank
say "the plan and its token"
aslrun /job/keep/plan.toml asl-intake --source "$src" --store zfs:tank/asl --dry-run
token=$(sed -nE 's/.*--approve (import=[0-9]+:[0-9a-f]{16}).*/\1/p' /job/keep/plan.toml | head -1)
echo "token: $token"
[ -n "$token" ] || bad "no token"
notimported tank

say "a disk is pulled between the plan and its execution"
pci=$(basename "$(readlink -f "/sys/block/$(basename "$(disk D2)")/device/..")")
echo 1 >"/sys/bus/pci/devices/$pci/remove"
udevadm settle
aslrun /job/keep/void asl-intake --batch --source "$src" --store zfs:tank/asl --approve "$token"
[ $rc = 5 ] || bad "a void token ended with $rc"
holds /job/keep/void "the approval is void"
holds /job/keep/void "not here: /dev/"
notimported tank
echo 1 >/sys/bus/pci/rescan
udevadm settle

say "the token, with all disks there again"
counters=$(written | grep ^EXT)
aslrun /job/keep/intake asl-intake --batch --source "$src" --store zfs:tank/asl --approve "$token" --label first
[ $rc = 0 ] || bad "the intake ended with $rc"
holds /job/keep/intake COMPLETE
[ "$(written | grep ^EXT)" = "$counters" ] || bad "the source was written to"
notimported tank
[ "$(cat /sys/module/spl/parameters/spl_hostid)" = 0 ] || bad "the hostid was not given back"
zdb -l "$(disk D1)1" | grep -E ' (state|hostid|hostname):' || zdb -l "$(disk D1)" | grep -E ' (state|hostid|hostname):'

say "read by asl-admin: not without consent, then read-only"
aslrun /job/keep/admin-no asl-admin --store zfs:tank/asl snapshots
[ $rc = 5 ] || bad "asl-admin without consent ended with $rc"
token=$(sed -nE 's/.*--approve (import=[0-9]+:[0-9a-f]{16}).*/\1/p' /job/keep/admin-no | head -1)
before=$(written)
aslrun /job/keep/admin asl-admin --store zfs:tank/asl --approve "$token" snapshots
[ $rc = 0 ] || bad "asl-admin ended with $rc"
[ "$(written)" = "$before" ] || bad "a read-only import wrote: $before / $(written)"

say "approved by the config; approvals in the log"
conf 'approve.import = tank' 'local.dataset = tank/asl' 'local.zfs-snapshots = yes'
aslrun /job/keep/again asl-intake --batch --source "$src"
[ $rc = 0 ] || bad "the intake by config ended with $rc"
aslrun /job/keep/log sh -c 'asl-debug log | grep -A 9 APPROVAL'
holds /job/keep/log asl.conf
aslrun /job/keep/verify asl-admin verify --read-data
[ $rc = 0 ] || bad "verify ended with $rc"
notimported tank

#: boot otherhost
say "another host: its own hostid, and nothing of ours"
echo 286331153 >/sys/module/spl/parameters/spl_hostid 2>/dev/null || { modprobe zfs; echo 286331153 >/sys/module/spl/parameters/spl_hostid; }
want zpool import -N tank
zfs list -t all -o name,used,avail,canmount,mountpoint | tee /job/keep/zfs-list
holds /job/keep/zfs-list @asl-rescue-domain-0000000002
aslrun /job/keep/verify-otherhost asl-admin --store zfs:tank/asl verify --read-data
[ $rc = 0 ] || bad "verify on another host ended with $rc"
aslrun /job/keep/snapshots-otherhost asl-admin --store zfs:tank/asl snapshots
holds /job/keep/snapshots-otherhost first
want zpool export tank

#: boot powercut
#: cut "type":"resume_point"
conf 'approve.import = tank' 'local.dataset = tank/asl'
say "an intake whose power is cut after its first acknowledgement"
asl-intake --batch --json --source "$(disk BIG)" --label big
say "it was not cut"

#: boot after
conf 'approve.import = tank' 'local.dataset = tank/asl'
say "the same command after the power cut"
zdb -l "$(disk D1)1" | grep -E ' (state|hostid|hostname):' || true
aslrun /job/keep/admin-after asl-admin snapshots
[ $rc = 0 ] || bad "a read-only import after the power cut ended with $rc"
counters=$(written | grep ^BIG)
aslrun /job/keep/resumed asl-intake --batch --source "$(disk BIG)" --label big
[ $rc = 0 ] || bad "the same command ended with $rc"
holds /job/keep/resumed "going on with the interrupted intake"
holds /job/keep/resumed COMPLETE
lacks /job/keep/resumed "although another system used it last"
[ "$(written | grep ^BIG)" = "$counters" ] || bad "the source was written to"
notimported tank
say "what comes back is what is on the disk"
name=$(sed -nE 's/^  source   ([^:]+): device.*/\1/p' /job/keep/resumed)
aslrun /job/keep/restore asl-admin restore "latest:$name" --to /tmp/big.img
if cmp "$(disk BIG)" /tmp/big.img; then echo "equal, byte by byte"; else bad "what was restored differs"; fi
