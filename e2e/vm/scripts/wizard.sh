# The wizard on the first console, started by its unit: a rescue by keys alone, from the check to the report; pictures at 80x25 and, when the
# graphics driver comes, at 160x50.
#: disk D1 256M
#: disk DATA 96M ext4
#: disk HURT 96M ext4 file.inject-error.0.event=read_aio,file.inject-error.0.errno=5,file.inject-error.0.sector=9001,file.inject-error.1.event=read_aio,file.inject-error.1.errno=5,file.inject-error.1.sector=40003
#: same DATA HURT
#: text screen
mkdir -p /job/keep /run/asl
modprobe zfs
zpool create -m none tank "$(disk D1)" && zpool export tank
(cd /job/rootfs && tar c etc/asl etc/tmpfiles.d etc/systemd/system/asl-*.service etc/systemd/system/getty@tty1.service.d) | tar x --no-same-owner -C /
systemd-tmpfiles --create asl.conf
systemctl daemon-reload
systemctl stop getty@tty1

# shown: what stands on the first console, without the ends of its lines.
shown() {
	stty size </dev/tty1 >/run/size
	fold -b -w "$(cut -d' ' -f2 /run/size)" </dev/vcs1 | tr '\200-\377' '#' | sed 's/ *$//'
}
# sees TEXT: waits for that on the screen.
sees() {
	for i in $(seq 600); do
		shown | grep -qF -- "$1" && return
		sleep 0.2
	done
	bad "\"$1\" never came"
	shown
	order "picture bad"
}
# look NAME: a picture, and the words.
look() {
	sleep 2
	order "picture $1"
	say "$1"
	shown
}
press() { for k; do order "sendkey $k"; sleep 0.3; done; }

systemctl start asl-preflight
systemctl --no-block start asl-intake
sees "Pool tank"
sleep 8
look 80-check
press n
sees "tank"
look 80-place
press w
sleep 4
look 80-approve
press t a n k
look 80-typed
press y
sees "(o) /mnt/asl/local"
look 80-approved
press n
sees "DATA"
look 80-sources
for i in $(seq 20); do # to the disk with that serial, and to the next
	shown | grep -A 1 "^###" | grep -q "DATA" && break
	press down
done
press spc down spc
look 80-chosen
press n
look 80-plan
press g
sees "Map of"
look 80-intake
sees "C O M P L E T E"
look 80-report

say "the graphics driver comes"
modprobe bochs || bad "no graphics driver"
sleep 4
for p in 1:check 2:place 3:sources 4:plan 5:intake 6:report shift-a:admin shift-d:debug; do
	press "${p%%:*}"
	look "160-${p#*:}"
done
stty size </dev/tty1
[ "$(stty size </dev/tty1)" = "50 160" ] || bad "the console is $(stty size </dev/tty1)"
press q
look 160-leave
