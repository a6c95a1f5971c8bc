# The machine boots, has its disks and ZFS, and nothing is imported.
#: disk D1 128M
#: disk EXT 64M ext4
say "what this is"
uname -r
cat /proc/cmdline
lsblk -o NAME,SIZE,SERIAL,FSTYPE
ls -l /dev/disk/by-id
want modprobe zfs
cat /sys/module/zfs/version
want zpool version
want zpool create -m none tank "$(disk D1)"
zpool list
want zpool export tank
written
asl-intake --version
