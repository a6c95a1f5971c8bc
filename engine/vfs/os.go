package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is a folder of the operating system. Nothing outside it is reached, not by "..", not through a symbolic link.
type Dir struct {
	root *os.Root
}

// OS opens a folder that exists.
func OS(root string) (*Dir, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	return &Dir{r}, nil
}

var _ FS = (*Dir)(nil)

// Close lets go of the folder.
func (d *Dir) Close() error { return d.root.Close() }

// Free tells how many bytes can still be written; ok is false where the medium does not say.
func (d *Dir) Free() (bytes int64, ok bool) {
	f, err := d.root.Open(".")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Blocks == 0 {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}

// CreateExcl is part of FS.
func (d *Dir) CreateExcl(name string, perm fs.FileMode) (File, error) {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f, size: -1}, nil
}

// Open is part of FS. os.Root follows links that stay within it whatever it is told, so the last step of the name is ours.
func (d *Dir) Open(name string) (ReadFile, error) {
	last, err := base("open", name)
	if err != nil {
		return nil, err
	}
	dir, err := d.root.Open(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd := -1
	for err = unix.EINTR; err == unix.EINTR; {
		// A FIFO under one of our names would block without O_NONBLOCK.
		fd, err = unix.Openat(int(dir.Fd()), last, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("not a regular file: %w", fs.ErrInvalid)}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &osFile{File: f, size: fi.Size()}, nil
}

// RenameNoReplace is part of FS. os.Root has no such call, so the folders are opened through it and the last step of
// the name is ours.
func (d *Dir) RenameNoReplace(oldname, newname string) error {
	from, err := d.root.Open(path.Dir(oldname))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := d.root.Open(path.Dir(newname))
	if err != nil {
		return err
	}
	defer to.Close()
	oldbase, err := base("rename", oldname)
	if err != nil {
		return err
	}
	newbase, err := base("rename", newname)
	if err != nil {
		return err
	}
	err = unix.Renameat2(int(from.Fd()), oldbase, int(to.Fd()), newbase, unix.RENAME_NOREPLACE)
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // how media without the flag answer
		err = unsupported{err}
	}
	return &os.LinkError{Op: "renameat2", Old: oldname, New: newname, Err: err}
}

// Link is part of FS.
func (d *Dir) Link(oldname, newname string) error {
	err := d.root.Link(oldname, newname)
	if errors.Is(err, unix.EPERM) { // how vfat and exFAT answer
		return unsupported{err}
	}
	return err
}

// Remove is part of FS.
func (d *Dir) Remove(name string) error { return d.root.Remove(name) }

// Mkdir is part of FS.
func (d *Dir) Mkdir(name string, perm fs.FileMode) error { return d.root.Mkdir(name, perm) }

// SyncDir is part of FS.
func (d *Dir) SyncDir(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Stat is part of FS.
func (d *Dir) Stat(name string) (fs.FileInfo, error) { return d.root.Lstat(name) }

// ReadDir is part of FS.
func (d *Dir) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.ReadDir(-1)
	if err != nil {
		return nil, err // never a list that ends early without saying so
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// base is the last step of a name that stays within its folder.
func base(op, name string) (string, error) {
	if !fs.ValidPath(name) || name == "." {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return path.Base(name), nil
}

type osFile struct {
	*os.File
	size   int64
	direct *os.File // the same file past the page cache, after Uncached; nil where the medium has no such way
	past   bool     // of a file being written: what is written first goes past the page cache
}

func (f *osFile) Size() int64 { return f.size }

// Uncached drops clean pages only, so it is of use after Sync and needs none itself.
func (f *osFile) Uncached() {
	f.past = f.size < 0
	unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	if f.size < directLeast || f.direct != nil {
		return
	}
	if d, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDONLY|unix.O_DIRECT, 0); err == nil {
		f.direct = d
	}
}

const (
	directAlign = 4096     // no logical sector is larger
	directLeast = 64 << 10 // bytes from which a read past the cache is cheaper than one through it
)

// ReadAt reads past the page cache what is long and aligned, if that was asked for: no page is made for it and none can answer in the
// medium's place. Where the kernel refuses, and for the rest, it reads as ever.
func (f *osFile) ReadAt(p []byte, off int64) (int, error) {
	long := len(p) &^ (directAlign - 1)
	if f.direct == nil || long < directLeast || off%directAlign != 0 {
		return f.File.ReadAt(p, off)
	}
	n, err := f.direct.ReadAt(p[:long], off)
	if errors.Is(err, unix.EINVAL) { // p itself is not aligned, or this medium wants more
		n, err = 0, nil
	}
	if err != nil || n == len(p) {
		return n, err
	}
	m, err := f.File.ReadAt(p[n:], off+int64(n))
	return n + m, err
}

// Write writes past the page cache what is long and begins the file, if Uncached said so before: that takes a quarter of the system time, and
// nobody else's pages have to make room. Where the kernel refuses, and for the rest, it writes as ever.
func (f *osFile) Write(p []byte) (n int, err error) {
	long := len(p) &^ (directAlign - 1)
	if f.past && long >= directLeast && f.setDirect(true) {
		n, err = f.File.Write(p[:long])
		if !f.setDirect(false) && err == nil {
			err = &fs.PathError{Op: "write", Path: f.Name(), Err: unix.EINVAL} // what follows could not be written either
		}
		if errors.Is(err, unix.EINVAL) { // p itself is not aligned, or this medium wants more
			err = nil
		}
	}
	f.past = false // from here on offsets need not be aligned
	if err != nil || n == len(p) {
		return n, err
	}
	m, err := f.File.Write(p[n:])
	return n + m, err
}

// setDirect switches the file between writing past the page cache and through it.
func (f *osFile) setDirect(on bool) bool {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return false
	}
	flags &^= unix.O_DIRECT
	if on {
		flags |= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags)
	return err == nil
}

func (f *osFile) Close() error {
	if f.direct != nil {
		_ = f.direct.Close() // it was only read
	}
	return f.File.Close()
}

// unsupported is an errno that means errors.ErrUnsupported in the place where it came up.
type unsupported struct{ error }

func (e unsupported) Unwrap() []error { return []error{e.error, errors.ErrUnsupported} }
