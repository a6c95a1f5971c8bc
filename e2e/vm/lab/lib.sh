# Words that the scripts of the lab share. They run inside the machine.

# From memory: a program that lies in a folder of the host is read from there page by page, each time it starts.
cp /job/bin/* /usr/local/bin/ && PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin && cd /

# say prints a heading, so that the record can be read.
say() { echo; echo "== $*"; }

# try runs a command and prints it and its exit code, which it leaves in rc.
try() {
	echo "\$ $*"
	"$@"
	rc=$?
	[ $rc = 0 ] || echo "[exit $rc]"
	return 0
}

# want COMMAND…: it has to succeed.  wantrc N COMMAND…: it has to end with N.
want() {
	echo "\$ $*"
	"$@" || bad "wanted success, got $?: $*"
}
wantrc() {
	local n=$1
	shift
	echo "\$ $*"
	"$@"
	rc=$?
	echo "[exit $rc]"
	[ $rc = "$n" ] || bad "wanted exit code $n, got $rc: $*"
}

# bad says what is wrong and goes on: one run of the machine shall find as much as it can.
bad() {
	echo "BAD: $*"
	echo "$*" >>/job/bad
}

# holds FILE TEXT: the file has the text.  lacks: it has not.
holds() { grep -qF -- "$2" "$1" || bad "no \"$2\" in $1"; }
lacks() { ! grep -qF -- "$2" "$1" || bad "\"$2\" in $1"; }

# order LINE…: the host does this, and then order returns: "picture NAME", "hashes" (which come to /job/hashes), or what QEMU's monitor knows.
order() {
	printf '%s\n' "$@" >/job/.order
	mv /job/.order /job/order
	while [ -e /job/order ]; do sleep 0.1; done
}

# disk NAME: the device of the disk with that serial.
disk() { for d in /sys/block/vd*; do [ "$(cat "$d/serial")" != "$1" ] || echo "/dev/${d##*/}"; done; }

# written: what the kernel counted as written to each disk, sectors and requests.
written() { for d in /sys/block/vd*; do echo "$(cat "$d/serial") $(awk '{print $5, $7}' "$d/stat")"; done | grep -v '^root ' | sort; }

# notimported POOL: it is not imported.
notimported() { if [ -d /proc/spl ] && zpool list -H -o name 2>/dev/null | grep -qx "$1"; then bad "$1 is imported"; fi; }

# conf LINES…: an asl.conf of these.
conf() {
	mkdir -p /etc/asl
	printf '%s\n' "$@" >/etc/asl/asl.conf
}

# aslrun FILE COMMAND…: runs a program of ours with all it says in FILE as well.
aslrun() {
	local file=$1
	shift
	echo "\$ $*"
	"$@" >"$file" 2>&1
	rc=$?
	cat "$file"
	echo "[exit $rc]"
	return 0
}
