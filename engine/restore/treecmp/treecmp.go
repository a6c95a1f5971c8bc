// Package treecmp compares two trees on this machine and names every difference. It shares no code with what saves
// and restores trees, because it judges them.
package treecmp

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Compare lists what differs between the trees at a and b: names, types, modes, owners, modification times, link
// targets, extended attributes, groups of hard links, device numbers, content, and whether sparse files are sparse.
// Access and change times, inode numbers and the sizes of directories are not compared. The error is about the trees
// that could not be compared, not about their differences. It keeps two descriptors open for each level of depth.
func Compare(a, b string) ([]string, error) {
	c := &comparer{groups: [2]map[inode]string{{}, {}}}
	var fds [2]int
	for i, path := range []string{a, b} {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	err := c.entry("", fds, ".")
	return c.diffs, err
}

type inode struct{ dev, ino uint64 }

type comparer struct {
	diffs  []string
	groups [2]map[inode]string // the first name of each inode
	bufs   [2][]byte
}

func (c *comparer) diff(path, format string, args ...any) {
	if path == "" {
		path = "."
	}
	c.diffs = append(c.diffs, fmt.Sprintf("%q: ", path)+fmt.Sprintf(format, args...))
}

// entry compares name in the two directories.
func (c *comparer) entry(path string, dirs [2]int, name string) error {
	var st [2]unix.Stat_t
	for i := range st {
		if err := unix.Fstatat(dirs[i], name, &st[i], unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("compare %q: %w", path, err)
		}
	}
	a, b := &st[0], &st[1]
	if a.Mode&unix.S_IFMT != b.Mode&unix.S_IFMT {
		c.diff(path, "type %s and %s", typeName(a.Mode), typeName(b.Mode))
		return nil
	}
	kind := a.Mode & unix.S_IFMT
	if a.Mode != b.Mode {
		c.diff(path, "mode %04o and %04o", a.Mode&0o7777, b.Mode&0o7777)
	}
	if a.Uid != b.Uid || a.Gid != b.Gid {
		c.diff(path, "owner %d:%d and %d:%d", a.Uid, a.Gid, b.Uid, b.Gid)
	}
	if a.Mtim != b.Mtim {
		c.diff(path, "modified %d.%09d and %d.%09d", a.Mtim.Sec, a.Mtim.Nsec, b.Mtim.Sec, b.Mtim.Nsec)
	}
	if err := c.xattrs(path, dirs, name); err != nil {
		return err
	}
	if kind == unix.S_IFDIR {
		return c.dir(path, dirs, name)
	}
	var first [2]string
	for i := range st {
		key := inode{uint64(st[i].Dev), st[i].Ino}
		if f, ok := c.groups[i][key]; ok {
			first[i] = f
		} else if st[i].Nlink > 1 {
			c.groups[i][key] = path
		}
	}
	if first[0] != first[1] {
		c.diff(path, "a hard link of %q and of %q", first[0], first[1])
	}
	switch kind {
	case unix.S_IFLNK:
		var t [2]string
		for i := range t {
			var err error
			if t[i], err = readlink(dirs[i], name); err != nil {
				return fmt.Errorf("compare %q: %w", path, err)
			}
		}
		if t[0] != t[1] {
			c.diff(path, "links to %q and %q", t[0], t[1])
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if a.Rdev != b.Rdev {
			c.diff(path, "device %d:%d and %d:%d", unix.Major(a.Rdev), unix.Minor(a.Rdev), unix.Major(b.Rdev), unix.Minor(b.Rdev))
		}
	case unix.S_IFREG:
		return c.content(path, dirs, name, a, b)
	}
	return nil
}

func (c *comparer) content(path string, dirs [2]int, name string, a, b *unix.Stat_t) error {
	if a.Size != b.Size {
		c.diff(path, "%d and %d bytes", a.Size, b.Size)
		return nil
	}
	// Block sizes, extents and zero pages move the exact figure; sparse means far fewer than the size.
	switch ah, bh := a.Size-a.Blocks*512, b.Size-b.Blocks*512; {
	case ah > 0 != (bh > 0):
		c.diff(path, "of %d bytes %d and %d are allocated", a.Size, a.Blocks*512, b.Blocks*512)
	case bh < ah-ah/4-1<<20:
		c.diff(path, "holes of %d and %d bytes", ah, bh)
	}
	var f [2]*os.File
	for i := range f {
		fd, err := unix.Openat(dirs[i], name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("compare %q: %w", path, err)
		}
		f[i] = os.NewFile(uintptr(fd), path)
		defer f[i].Close()
		if c.bufs[i] == nil {
			c.bufs[i] = make([]byte, 256<<10)
		}
	}
	for off := int64(0); ; {
		var n [2]int
		for i := range f {
			var err error
			if n[i], err = f[i].ReadAt(c.bufs[i], off); err != nil && err != io.EOF {
				return fmt.Errorf("compare: %w", err)
			}
		}
		x, y := c.bufs[0][:n[0]], c.bufs[1][:n[1]]
		if !bytes.Equal(x, y) {
			k := 0
			for k < min(len(x), len(y)) && x[k] == y[k] {
				k++
			}
			c.diff(path, "content differs from byte %d", off+int64(k))
			return nil
		}
		if n[0] < len(c.bufs[0]) {
			return nil
		}
		off += int64(n[0])
	}
}

func (c *comparer) dir(path string, dirs [2]int, name string) error {
	var sub [2]int
	var names [2][]string
	for i := range sub {
		fd, err := unix.Openat(dirs[i], name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("compare %q: %w", path, err)
		}
		defer unix.Close(fd)
		sub[i] = fd
		again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("compare %q: %w", path, err)
		}
		f := os.NewFile(uintptr(again), path)
		names[i], err = f.Readdirnames(-1)
		f.Close()
		if err != nil {
			return fmt.Errorf("compare %q: %w", path, err)
		}
		slices.Sort(names[i])
	}
	for x, y := names[0], names[1]; len(x) > 0 || len(y) > 0; {
		switch {
		case len(y) == 0 || len(x) > 0 && x[0] < y[0]:
			c.diff(join(path, x[0]), "only in the first")
			x = x[1:]
		case len(x) == 0 || x[0] > y[0]:
			c.diff(join(path, y[0]), "only in the second")
			y = y[1:]
		default:
			if err := c.entry(join(path, x[0]), sub, x[0]); err != nil {
				return err
			}
			x, y = x[1:], y[1:]
		}
	}
	return nil
}

func (c *comparer) xattrs(path string, dirs [2]int, name string) error {
	var m [2]map[string]string
	for i := range m {
		at := fmt.Sprintf("/proc/self/fd/%d/%s", dirs[i], name)
		m[i] = map[string]string{}
		list := make([]byte, 64<<10)
		n, err := unix.Llistxattr(at, list)
		if err == unix.EOPNOTSUPP {
			continue
		}
		if err != nil {
			return fmt.Errorf("compare the attributes of %q: %w", path, err)
		}
		for _, k := range strings.Split(string(list[:n]), "\x00") {
			if k == "" {
				continue
			}
			val := make([]byte, 64<<10)
			n, err := unix.Lgetxattr(at, k, val)
			if err != nil {
				return fmt.Errorf("compare attribute %s of %q: %w", k, path, err)
			}
			m[i][k] = string(val[:n])
		}
	}
	var keys []string
	for k := range m[0] {
		keys = append(keys, k)
	}
	for k := range m[1] {
		if _, ok := m[0][k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		a, inA := m[0][k]
		b, inB := m[1][k]
		switch {
		case !inB:
			c.diff(path, "attribute %s only in the first", k)
		case !inA:
			c.diff(path, "attribute %s only in the second", k)
		case a != b:
			c.diff(path, "attribute %s is %x and %x", k, a, b)
		}
	}
	return nil
}

func readlink(dir int, name string) (string, error) {
	b := make([]byte, 64<<10)
	n, err := unix.Readlinkat(dir, name, b)
	return string(b[:max(n, 0)]), err
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func typeName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	case unix.S_IFIFO:
		return "FIFO"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "unknown"
}
