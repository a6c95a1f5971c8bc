# What goes wrong around an import: a signal in the middle, a busy pool, namesakes, an encrypted dataset, a pool in use by another.
#: disk D1 512M
#: disk D2 96M
#: disk EXT 320M ext4-big
mkdir -p /job/keep
modprobe zfs
src=$(disk EXT)
head -c 32 /dev/urandom >/run/key
zpool create -m none tank "$(disk D1)"
zfs create -o canmount=noauto -o encryption=on -o keyformat=raw -o keylocation=file:///run/key tank/secret
guid=$(zpool get -Hp -o value guid tank)
zpool export tank
conf 'approve.import = tank'

say "an encrypted dataset"
aslrun /job/keep/locked asl-intake --batch --source "$src" --store zfs:tank/secret
[ $rc = 4 ] || bad "a locked dataset ended with $rc"
holds /job/keep/locked "zfs load-key tank/secret"
notimported tank

say "SIGTERM while it works"
asl-intake --batch --source "$src" --store zfs:tank/asl >/job/keep/term 2>&1 &
pid=$!
for i in $(seq 600); do grep -q "is imported" /job/keep/term && break; sleep 0.1; done
kill -TERM $pid
wait $pid
rc=$?
cat /job/keep/term
echo "[exit $rc]"
[ $rc = 143 ] || bad "SIGTERM in the middle ended with $rc"
notimported tank
mountpoint -q /mnt/asl/local && bad "still mounted"

say "a signal while zpool import runs"
asl-intake --batch --source "$src" --store zfs:tank/asl >/job/keep/term2 2>&1 &
pid=$!
for i in $(seq 600); do pgrep -x zpool >/dev/null && pgrep -fa 'zpool import -N' >/dev/null && break; sleep 0.05; done
kill -TERM $pid
wait $pid
rc=$?
cat /job/keep/term2
echo "[exit $rc]"
[ $rc = 143 ] || bad "SIGTERM during the import ended with $rc"
notimported tank

say "something works in the pool at the end"
asl-intake --batch --source "$src" --store zfs:tank/asl >/job/keep/busy 2>&1 &
pid=$!
for i in $(seq 600); do mountpoint -q /mnt/asl/local && break; sleep 0.1; done
(cd /mnt/asl/local && exec sleep 1000) &
holder=$!
wait $pid
rc=$?
cat /job/keep/busy
echo "[exit $rc]"
[ $rc = 1 ] || bad "a busy pool ended with $rc"
holds /job/keep/busy COMPLETE
holds /job/keep/busy "sleep ($holder)"
say "the pool is imported now, and used as it is"
aslrun /job/keep/used asl-admin --store zfs:tank/asl snapshots
[ $rc = 0 ] || bad "an imported pool ended with $rc"
kill $holder
wait $holder
want umount /mnt/asl/local
want zpool export tank
echo 0 >/sys/module/spl/parameters/spl_hostid

say "two pools of one name"
zpool create -m none -t other tank "$(disk D2)"
zpool export other
aslrun /job/keep/namesakes asl-intake --batch --source "$src" --store zfs:tank/asl
[ $rc = 2 ] || bad "namesakes ended with $rc"
holds /job/keep/namesakes "zfs:$guid/asl"
aslrun /job/keep/byguid asl-intake --batch --source "$src" --store "zfs:$guid/asl"
[ $rc = 5 ] || bad "a name in the config approved one of two: $rc"
conf "approve.import = $guid"
aslrun /job/keep/byguid asl-intake --source "$src" --store "zfs:$guid/asl" --dry-run
[ $rc = 0 ] || bad "by GUID ended with $rc"
holds /job/keep/byguid "Approved by config"

say "the store on the source"
aslrun /job/keep/onsource asl-intake --batch --source "$(disk D1)" --store "zfs:$guid/asl"
[ $rc = 2 ] || bad "a store on its own source ended with $rc"
notimported tank
