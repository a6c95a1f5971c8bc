package sourcetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Odd says how large the parts of MakeOdd's tree are.
type Odd struct {
	Deep  int  // directories below each other, with names of 200 bytes: from 21 on no call takes the whole path
	Wide  int  // files in one directory
	Plain bool // only what any user can make on any file system with user.* attributes
}

// MakeOdd fills the existing directory dir with everything that makes trees hard to keep: names of any bytes, hard
// links, holes, attributes, ACLs, devices, odd modes and times. It needs root unless Plain.
func MakeOdd(dir string, o Odd) error {
	b := &builder{dir: dir}
	// Names whose order as bytes is not that of paths, of letters, or of a shell.
	b.mkdir("a")
	b.file("a/z", "1")
	for i, n := range []string{"a-", "a.b", "a b", "B", "_", "-rf", "...", ".hidden", "new\nline", "\xff\xfe\x01", "\u00e4",
		strings.Repeat("n", 255), "\\", "*", "CON", "x:y"} {
		b.file(n, strings.Repeat("x", i))
	}
	b.file("empty", "")
	b.file("page", strings.Repeat("p", 4096))
	big := make([]byte, 300_000)
	Pattern{Seed: 7}.Fill(big, 0)
	b.file("big", string(big))
	b.sparse("sparse", 9<<20+5, 1<<20, 4<<20+3)
	b.sparse("hole only", 1<<20)
	b.sparse("ends in data", 1<<20, 1<<20-4096)
	b.file("zeros, allocated", string(make([]byte, 1<<20)))
	b.reserved("reserved", 1<<20)
	b.mkdir("empty dir")

	b.symlink("a/z", "link")
	b.symlink("/etc/shadow", "link out")
	b.symlink("no/such/thing", "dangling")
	b.symlink(strings.Repeat("l", 1000), "link long")
	b.symlink("\xff\xfe", "link bytes")
	b.symlink(".", "link loop")

	b.mkdir("hard")
	b.file("hard/1", "linked")
	b.link("hard/1", "hard/2")
	b.link("hard/1", "a/3")
	b.link("hard/1", "zz last")
	b.link("link", "hard/symlink")

	b.file("attrs", "x")
	b.xattr("attrs", "user.empty", nil)
	b.xattr("attrs", "user.bytes", []byte{0, 1, 255, 0})
	b.xattr("attrs", "user.long", []byte(strings.Repeat("v", 2000)))
	b.xattr("a", "user.dir", []byte("of a directory"))
	b.mode("B", 0o755)
	b.mode("_", 0o600)
	b.time("B", 1_000_000_000, 123456789)
	b.time("_", -300_000_000, 999_999_999) // 1960
	b.time("link", 12345, 678)
	b.time("dangling", 4_102_444_800, 1) // 2100
	b.fifo("fifo", 0o640)

	if !o.Plain {
		b.node("null", unix.S_IFCHR|0o666, 1, 3)
		b.node("disk", unix.S_IFBLK|0o660, 259, 1<<19+1)
		b.node("socket", unix.S_IFSOCK|0o755, 0, 0)
		b.link("null", "hard/null")
		b.xattr("attrs", "trusted.t", []byte("root only"))
		b.xattr("socket", "trusted.t", []byte("on a socket"))
		b.xattr("dangling", "trusted.t", []byte("on a link"))
		b.acl("attrs", "system.posix_acl_access")
		b.mkdir("acl")
		b.file("acl/in", "x")
		b.acl("acl", "system.posix_acl_default")
		b.acl("acl", "system.posix_acl_access")
		b.file("capable", "#!")
		b.owner("big", 12345, 54321)
		b.owner("link", 77, 88)
		b.owner("a", 1, 2)
		b.owner("capable", 3, 4)
		capability := make([]byte, 20)
		binary.LittleEndian.PutUint32(capability, 0x02000001) // revision 2, effective
		binary.LittleEndian.PutUint32(capability[4:], 1<<10)  // net_bind_service
		b.xattr("capable", "security.capability", capability)
		b.file("setuid", "x")
		b.owner("setuid", 1000, 1000)
		b.mode("setuid", 0o6755)
		b.mkdir("sticky")
		b.mode("sticky", 0o3777)
		b.file("no mode", "x")
		b.mode("no mode", 0)
		b.mkdir("closed")
		b.file("closed/in", "x")
		b.mode("closed", 0)
	}
	b.wide("wide", o.Wide)
	b.deep("deep", o.Deep)
	b.time("wide", 1_111_111_111, 111)
	b.time("a", 7, 7)
	b.time("", 1_500_000_000, 5)
	return errors.Join(b.errs...)
}

type builder struct {
	dir  string
	errs []error
}

func (b *builder) path(name string) string { return filepath.Join(b.dir, name) }

func (b *builder) check(what, name string, err error) {
	if err != nil {
		b.errs = append(b.errs, fmt.Errorf("%s %q: %w", what, name, err))
	}
}

func (b *builder) mkdir(name string) { b.check("mkdir", name, os.Mkdir(b.path(name), 0o755)) }
func (b *builder) file(name, s string) {
	b.check("write", name, os.WriteFile(b.path(name), []byte(s), 0o644))
}
func (b *builder) symlink(to, name string) { b.check("symlink", name, os.Symlink(to, b.path(name))) }
func (b *builder) link(from, name string) {
	b.check("link", name, os.Link(b.path(from), b.path(name)))
}
func (b *builder) mode(name string, mode uint32) {
	b.check("mode", name, unix.Chmod(b.path(name), mode))
}
func (b *builder) fifo(name string, mode uint32) {
	b.check("fifo", name, unix.Mkfifo(b.path(name), mode))
}
func (b *builder) owner(name string, uid, gid int) {
	b.check("owner", name, os.Lchown(b.path(name), uid, gid))
}
func (b *builder) xattr(name, key string, val []byte) {
	b.check("attribute "+key, name, unix.Lsetxattr(b.path(name), key, val, 0))
}
func (b *builder) node(name string, mode, major, minor uint32) {
	b.check("node", name, unix.Mknod(b.path(name), mode, int(unix.Mkdev(major, minor))))
}

func (b *builder) time(name string, sec, nsec int64) {
	ts := []unix.Timespec{{Sec: sec, Nsec: nsec}, {Sec: sec, Nsec: nsec}}
	b.check("time", name, unix.UtimesNanoAt(unix.AT_FDCWD, b.path(name), ts, unix.AT_SYMLINK_NOFOLLOW))
}

// acl sets an ACL with a user and a group of their own: the kernel's form is u32 version, then u16 tag, u16
// permissions, u32 id for each entry.
func (b *builder) acl(name, key string) {
	v := binary.LittleEndian.AppendUint32(nil, 2)
	const none = 0xffffffff
	for _, e := range [][3]uint32{{1, 6, none}, {2, 4, 1001}, {4, 4, none}, {8, 6, 1002}, {16, 6, none}, {32, 0, none}} {
		v = binary.LittleEndian.AppendUint16(v, uint16(e[0]))
		v = binary.LittleEndian.AppendUint16(v, uint16(e[1]))
		v = binary.LittleEndian.AppendUint32(v, e[2])
	}
	b.xattr(name, key, v)
}

// sparse makes a file of holes with a little data at each of the offsets.
func (b *builder) sparse(name string, size int64, at ...int64) {
	f, err := os.Create(b.path(name))
	if err != nil {
		b.check("sparse", name, err)
		return
	}
	err = f.Truncate(size)
	for _, off := range at {
		_, werr := f.WriteAt([]byte("data"), off)
		err = errors.Join(err, werr)
	}
	b.check("sparse", name, errors.Join(err, f.Close()))
}

// reserved makes a file of zeros whose room is allocated but was never written.
func (b *builder) reserved(name string, size int64) {
	f, err := os.Create(b.path(name))
	if err == nil {
		if err = unix.Fallocate(int(f.Fd()), 0, 0, size); errors.Is(err, unix.EOPNOTSUPP) {
			_, err = f.Write(make([]byte, size))
		}
		err = errors.Join(err, f.Close())
	}
	b.check("reserve", name, err)
}

func (b *builder) wide(name string, n int) {
	if n == 0 {
		b.mkdir(name)
		return
	}
	b.mkdir(name)
	for i := range n {
		b.file(fmt.Sprintf("%s/%x", name, mix(uint64(i))), "")
	}
}

// deep makes directories below each other by descriptors, because no path reaches the last of them. A file follows
// each in order, so that a walk has something left to do on its way back.
func (b *builder) deep(name string, n int) {
	b.mkdir(name)
	fd, err := unix.Open(b.path(name), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for i := 0; i < n && err == nil; i++ {
		sub := fmt.Sprintf("%03d", i) + strings.Repeat("d", 197)
		var f, next int
		if err = unix.Mkdirat(fd, sub, 0o755); err != nil {
			break
		}
		if f, err = unix.Openat(fd, "z", unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o644); err != nil {
			break
		}
		_, err = unix.Write(f, fmt.Appendf(nil, "level %d", i))
		unix.Close(f)
		if err != nil {
			break
		}
		next, err = unix.Openat(fd, sub, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		fd = next
	}
	if err == nil {
		err = unix.Close(fd)
	}
	b.check("deep", name, err)
}
