package source

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TreeOption changes how a tree is walked.
type TreeOption int

// CrossMounts makes a walk enter what is mounted below the root.
const CrossMounts TreeOption = 1

// maxOpen bounds the directories that a walk keeps open; those above are opened again on the way back.
const maxOpen = 64

// maxPath is what one call takes of a path, PATH_MAX less room for the NUL. Longer paths are walked in parts.
const maxPath = 4000

// statMask asks for what Meta and Stamp hold.
const statMask = unix.STATX_BASIC_STATS

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC

// errMounted and errReplaced are what an Item's Err says in these cases.
var (
	errMounted  = errors.New("another file system is mounted here; not entered")
	errReplaced = errors.New("it was replaced by something else while the tree was walked")
	errMoved    = errors.New("its directory was moved or removed while the tree was walked")
)

// tree is a directory on this machine. All names are opened one by one relative to their directory, and none of them
// is followed if it is a symbolic link, so that nothing that happens during a walk leads out of the root.
type tree struct {
	info Info
	fd   int
	view int // descriptor of our own mount of the tree, -1 without
	root Stamp
	all  bool                    // enter mount points
	hook func(step, path string) // for tests: what happens next
}

// OpenTree opens a directory and all below it. Run by root, the kernel itself holds the tree read-only for us and no
// access time changes; run by others, the access times of symbolic links and of what is not theirs may.
func OpenTree(path string, opts ...TreeOption) (TreeSource, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open tree %s: %w", path, err)
	}
	// The root alone may be a symbolic link: it is what the operator named.
	fd, err := openNoAtime(unix.AT_FDCWD, abs, dirFlags&^unix.O_NOFOLLOW)
	if err != nil {
		return nil, fmt.Errorf("open tree: %w", &fs.PathError{Op: "open", Path: abs, Err: err})
	}
	fd, view := privateView(fd)
	var st unix.Statx_t
	if err := statFD(fd, &st); err != nil {
		unix.Close(fd)
		if view >= 0 {
			unix.Close(view)
		}
		return nil, fmt.Errorf("open tree %s: %w", abs, err)
	}
	name := filepath.Base(abs)
	if abs == "/" {
		name = "root"
	}
	_, root, _ := split(&st)
	t := &tree{fd: fd, view: view, root: root, info: Info{
		Kind: Tree, Path: abs, Name: name, Size: -1, Sector: 512, ID: fileID("tree", abs, fd, root.Ino),
	}}
	for _, o := range opts {
		t.all = t.all || o == CrossMounts
	}
	return t, nil
}

// privateView replaces fd by the same directory in a mount of our own, seen by nobody else, which is read-only and
// keeps no access times: there is no other way to read a symbolic link without touching its time. Without the right
// to do that it gives fd back.
func privateView(fd int) (dir, view int) {
	view, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return fd, -1
	}
	err = unix.MountSetattr(view, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{
		Attr_set:    unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOATIME,
		Attr_clr:    unix.MOUNT_ATTR__ATIME,
		Propagation: unix.MS_PRIVATE,
	})
	if err == nil {
		if dir, err = openNoAtime(view, ".", dirFlags); err == nil {
			unix.Close(fd)
			return dir, view
		}
	}
	unix.Close(view)
	return fd, -1
}

func (t *tree) Info() Info { return t.info }

func (t *tree) Close() error {
	if t.fd < 0 {
		return nil
	}
	err := unix.Close(t.fd)
	if t.view >= 0 {
		err = errors.Join(err, unix.Close(t.view))
	}
	t.fd, t.view = -1, -1
	return err
}

// level is a directory that the walk is in.
type level struct {
	path  string
	names []string // sorted; what is still to come
	fd    int      // -1 while closed, or if it cannot be opened again
	stamp Stamp
	lost  error // why fd cannot be opened again
}

// walk is one pass over a tree.
type walk struct {
	t     *tree
	stack []level
	dents []byte // for getdents
	xbuf  []byte // for names and values of extended attributes
	xlist []byte
	proc  []byte // "/proc/self/fd/N/"
}

func (t *tree) Walk(ctx context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		w := &walk{t: t}
		defer w.close()
		fd, err := openNoAtime(t.fd, ".", dirFlags)
		if err != nil {
			yield(Item{}, fmt.Errorf("walk %s: %w: %w", t.info.Path, ErrGone, err))
			return
		}
		if !yield(w.enter(fd, ""), nil) {
			return
		}
		for len(w.stack) > 0 {
			if err := ctx.Err(); err != nil {
				yield(Item{}, err)
				return
			}
			it, err := w.next()
			if err != nil {
				yield(Item{}, err)
				return
			}
			if !yield(it, nil) {
				return
			}
		}
	}
}

func (w *walk) close() {
	for _, l := range w.stack {
		if l.fd >= 0 {
			unix.Close(l.fd)
		}
	}
}

// next makes the next item of the directory at the top of the stack, or leaves it.
func (w *walk) next() (Item, error) {
	top := &w.stack[len(w.stack)-1]
	if len(top.names) == 0 {
		return w.leave(), nil
	}
	name := top.names[0]
	top.names = top.names[1:]
	it := Item{Path: join(top.path, name)}
	if top.lost != nil {
		it.Err = top.lost.Error()
		return it, nil
	}
	w.tell("stat", it.Path)
	var st unix.Statx_t
	if err := statAt(top.fd, name, &st); err != nil {
		if gone := w.gone(err); gone != nil {
			return it, gone
		}
		it.Err = fmt.Sprintf("stat: %v", err)
		if err == unix.ENOENT {
			it.Err = "it vanished while the tree was walked"
		}
		return it, nil
	}
	var sparse bool
	it.Meta, it.Stamp, sparse = split(&st)
	it.Links = uint64(st.Nlink)
	switch it.Meta.Type {
	case Dir:
		return w.dir(top, name, it, &st)
	case Symlink:
		w.tell("readlink", it.Path)
		target, err := readlinkAt(top.fd, name, st.Size)
		if err != nil {
			note(&it, "read link", err)
		}
		it.Meta.LinkTarget = target
	case Regular:
		it.Meta.Sparse = sparse
	}
	if w.mounted(&st, top) {
		note(&it, "", errMounted)
		return it, nil
	}
	w.xattrs(&it, top.fd, name)
	return it, nil
}

// dir makes the item of a directory and steps into it.
func (w *walk) dir(top *level, name string, it Item, st *unix.Statx_t) (Item, error) {
	if w.mounted(st, top) {
		note(&it, "", errMounted)
		w.push(level{path: it.Path, fd: -1, stamp: it.Stamp, lost: errMounted})
		return it, nil
	}
	w.tell("open", it.Path)
	fd, err := openNoAtime(top.fd, name, dirFlags)
	if err == nil {
		// What was opened is what counts: the name may stand for another directory by now.
		var now unix.Statx_t
		if err = statFD(fd, &now); err == nil && w.mounted(&now, top) {
			err = errMounted
		}
		if err != nil {
			unix.Close(fd)
		}
	}
	if err == unix.ENOTDIR || err == unix.ELOOP {
		err = errReplaced
	}
	if err != nil {
		if gone := w.gone(err); gone != nil {
			return it, gone
		}
		note(&it, "open", err)
		w.xattrs(&it, top.fd, name)
		w.push(level{path: it.Path, fd: -1, stamp: it.Stamp, lost: err})
		return it, nil
	}
	return w.enter(fd, it.Path), nil
}

// enter reads the names of an opened directory and puts it on the stack.
func (w *walk) enter(fd int, path string) Item {
	it := Item{Path: path}
	var st unix.Statx_t
	if err := statFD(fd, &st); err != nil {
		note(&it, "stat", err)
	}
	it.Meta, it.Stamp, _ = split(&st)
	it.Meta.Type = Dir
	it.Links = uint64(st.Nlink)
	w.xattrs(&it, fd, "")
	w.tell("list", path)
	names, err := w.list(fd)
	if err != nil {
		note(&it, "list", err)
	}
	w.push(level{path: path, names: names, fd: fd, stamp: it.Stamp})
	return it
}

func (w *walk) push(l level) {
	w.stack = append(w.stack, l)
	if k := len(w.stack) - 1 - maxOpen; k >= 0 && w.stack[k].fd >= 0 {
		unix.Close(w.stack[k].fd)
		w.stack[k].fd = -1
	}
}

// leave takes the top directory off the stack, and opens the one above it again if it had to be closed.
func (w *walk) leave() Item {
	k := len(w.stack) - 1
	done := w.stack[k]
	w.stack[k] = level{}
	w.stack = w.stack[:k]
	if k > 0 {
		if up := &w.stack[k-1]; up.fd < 0 && up.lost == nil {
			w.tell("reopen", up.path)
			up.fd, up.lost = w.reopen(done.fd, up)
		}
	}
	if done.fd >= 0 {
		unix.Close(done.fd)
	}
	return Item{Path: done.path, Leave: true}
}

// reopen opens the directory above child again: by "..", and if that is another directory by now, from the root.
func (w *walk) reopen(child int, up *level) (int, error) {
	same := func(fd int, err error) bool {
		var st unix.Statx_t
		if err != nil {
			return false
		}
		if statFD(fd, &st) == nil {
			if _, s, _ := split(&st); s.Dev == up.stamp.Dev && s.Ino == up.stamp.Ino {
				return true
			}
		}
		unix.Close(fd)
		return false
	}
	if child >= 0 {
		if fd, err := openNoAtime(child, "..", dirFlags); same(fd, err) {
			return fd, nil
		}
	}
	if fd, err := w.t.openBeneath(up.path, dirFlags); same(fd, err) {
		return fd, nil
	}
	return -1, errMoved
}

// mounted tells whether st, of an entry of the directory in, is of something mounted there that the walk must not
// enter. Subvolumes of btrfs have device numbers of their own but are of the same file system: they are entered.
func (w *walk) mounted(st *unix.Statx_t, in *level) bool {
	if w.t.all {
		return false
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	}
	return unix.Mkdev(st.Dev_major, st.Dev_minor) != in.stamp.Dev // kernels before 5.8
}

// gone tells whether err means that the whole tree is gone, not just one entry of it.
func (w *walk) gone(err error) error {
	if !goneErr(err) {
		return nil
	}
	var st unix.Statx_t
	if err := statFD(w.t.fd, &st); err != nil && goneErr(err) {
		return fmt.Errorf("walk %s: %w: %w", w.t.info.Path, ErrGone, err)
	}
	return nil
}

func (w *walk) tell(step, path string) {
	if w.t.hook != nil {
		w.t.hook(step, path)
	}
}

// list reads a directory's names and sorts them as bytes. With an error come the names that could be read.
func (w *walk) list(fd int) ([]string, error) {
	if w.dents == nil {
		w.dents = make([]byte, 64<<10)
	}
	var names []string
	for {
		n, err := unix.Getdents(fd, w.dents)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			slices.Sort(names)
			return names, err
		}
		names = appendNames(names, w.dents[:n])
	}
}

// appendNames takes the names out of what getdents64 gave: u64 inode, u64 offset, u16 length, u8 type, name, NUL.
func appendNames(names []string, b []byte) []string {
	// One string for all names of the buffer keeps a directory of a million names small.
	all := string(b)
	for at := 0; at+19 <= len(b); {
		size := int(binary.NativeEndian.Uint16(b[at+16:]))
		if size < 19 || at+size > len(b) {
			return names
		}
		rec := b[at+19 : at+size]
		n := bytes.IndexByte(rec, 0)
		if n < 0 {
			n = len(rec)
		}
		if name := all[at+19 : at+19+n]; name != "." && name != ".." && name != "" {
			names = append(names, name)
		}
		at += size
	}
	return names
}

// xattrs reads the extended attributes of name in the directory dir, or of dir itself if name is empty. The kernel
// has no call for that relative to a directory before 6.13; the path by way of /proc is as safe, because its last
// element is not followed.
func (w *walk) xattrs(it *Item, dir int, name string) {
	if w.xlist == nil {
		w.xlist = make([]byte, 4<<10)
		w.xbuf = make([]byte, 4<<10)
	}
	w.proc = append(w.proc[:0], "/proc/self/fd/"...)
	w.proc = strconv.AppendInt(w.proc, int64(dir), 10)
	w.proc = append(w.proc, '/')
	w.proc = append(w.proc, name...)
	path := unsafe.String(unsafe.SliceData(w.proc), len(w.proc)) // not kept by the calls below
	list := func(b []byte) (int, error) { return unix.Llistxattr(path, b) }
	get := func(k string, b []byte) (int, error) { return unix.Lgetxattr(path, k, b) }
	if name == "" {
		list = func(b []byte) (int, error) { return unix.Flistxattr(dir, b) }
		get = func(k string, b []byte) (int, error) { return unix.Fgetxattr(dir, k, b) }
	}
	n, err := grow(&w.xlist, list)
	if err != nil {
		if err != unix.EOPNOTSUPP {
			note(it, "list attributes", err)
		}
		return
	}
	if n == 0 {
		return
	}
	for keys := w.xlist[:n]; len(keys) > 0; {
		key, rest, _ := bytes.Cut(keys, []byte{0})
		keys = rest
		if len(key) == 0 {
			continue
		}
		k := string(key)
		m, err := grow(&w.xbuf, func(b []byte) (int, error) { return get(k, b) })
		if err == unix.ENODATA {
			continue // it was removed since it was listed
		}
		if err != nil {
			note(it, "read attribute "+k, err)
			continue
		}
		it.Meta.Xattrs = append(it.Meta.Xattrs, Xattr{k, bytes.Clone(w.xbuf[:m])})
	}
	slices.SortFunc(it.Meta.Xattrs, func(a, b Xattr) int { return cmp.Compare(a.Name, b.Name) })
}

// grow calls f with *b, and with more room while there is too little.
func grow(b *[]byte, f func([]byte) (int, error)) (int, error) {
	for {
		n, err := f(*b)
		if err == unix.EINTR {
			continue
		}
		if err != unix.ERANGE || len(*b) >= 1<<20 {
			return n, err
		}
		*b = make([]byte, 2*len(*b))
	}
}

func (t *tree) OpenFile(path string) (TreeFile, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := t.openBeneath(path, flags)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := &treeFile{fd: fd, path: path}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: errReplaced}
	}
	return f, nil
}

// openBeneath opens a path of any length below the root without following a link or leaving the root.
func (t *tree) openBeneath(path string, flags int) (int, error) {
	if path == "" {
		path = "."
	}
	dir, own := t.fd, false
	defer func() {
		if own {
			unix.Close(dir)
		}
	}()
	for len(path) > maxPath {
		cut := strings.LastIndexByte(path[:maxPath], '/')
		if cut <= 0 {
			return -1, unix.ENAMETOOLONG
		}
		fd, err := t.resolve(dir, path[:cut], unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
		if err != nil {
			return -1, err
		}
		if own {
			unix.Close(dir)
		}
		dir, own, path = fd, true, path[cut+1:]
	}
	return t.resolve(dir, path, flags)
}

func (t *tree) resolve(dir int, path string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	if !t.all {
		how.Resolve |= unix.RESOLVE_NO_XDEV
	}
	if flags&unix.O_PATH == 0 {
		how.Flags |= unix.O_NOATIME
	}
	for tries := 0; ; tries++ {
		fd, err := unix.Openat2(dir, path, &how)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN && tries < 64: // something was renamed meanwhile, or someone holds a lease
			continue
		case err == unix.EPERM && how.Flags&unix.O_NOATIME != 0:
			how.Flags &^= unix.O_NOATIME
			continue
		}
		return fd, err
	}
}

// treeFile is a regular file of a tree.
type treeFile struct {
	fd   int
	path string
}

func (f *treeFile) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		got, err := unix.Pread(f.fd, p[n:], off+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, &fs.PathError{Op: "read", Path: f.path, Err: err}
		}
		if got == 0 {
			return n, io.EOF
		}
		n += got
	}
	return n, nil
}

func (f *treeFile) Stamp() (Stamp, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return Stamp{}, &fs.PathError{Op: "stat", Path: f.path, Err: err}
	}
	return stampOf(&st), nil
}

func (f *treeFile) Close() error {
	if f.fd < 0 {
		return os.ErrClosed
	}
	err := unix.Close(f.fd)
	f.fd = -1
	return err
}

func openNoAtime(dir int, name string, flags int) (int, error) {
	flags |= unix.O_NOATIME
	for {
		fd, err := unix.Openat(dir, name, flags, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EPERM && flags&unix.O_NOATIME != 0:
			flags &^= unix.O_NOATIME
			continue
		}
		return fd, err
	}
}

func statAt(dir int, name string, st *unix.Statx_t) error {
	return unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statMask, st)
}

func statFD(fd int, st *unix.Statx_t) error {
	return unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT, statMask, st)
}

func readlinkAt(dir int, name string, size uint64) ([]byte, error) {
	b := make([]byte, min(size, 64<<10)+1)
	for {
		n, err := unix.Readlinkat(dir, name, b)
		if err != nil {
			return nil, err
		}
		if n < len(b) {
			return b[:n], nil
		}
		b = make([]byte, 2*len(b)) // it was replaced by a longer one, or the file system does not tell the length
	}
}

// split makes of a stat what a tree keeps.
func split(st *unix.Statx_t) (m Meta, s Stamp, sparse bool) {
	m = Meta{
		Mode: uint32(st.Mode) & 0o7777, UID: st.Uid, GID: st.Gid,
		MTime: Time{st.Mtime.Sec, int32(st.Mtime.Nsec)},
	}
	switch uint32(st.Mode) & unix.S_IFMT {
	case unix.S_IFREG:
		m.Type = Regular
		m.Size = int64(st.Size)
		sparse = st.Blocks*512 < st.Size
	case unix.S_IFDIR:
		m.Type = Dir
	case unix.S_IFLNK:
		m.Type = Symlink
	case unix.S_IFCHR:
		m.Type = CharDev
	case unix.S_IFBLK:
		m.Type = BlkDev
	case unix.S_IFIFO:
		m.Type = FIFO
	case unix.S_IFSOCK:
		m.Type = Socket
	}
	if m.Type == CharDev || m.Type == BlkDev {
		m.Major, m.Minor = st.Rdev_major, st.Rdev_minor
	}
	s = Stamp{
		Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino, Size: int64(st.Size),
		MTime: m.MTime, CTime: Time{st.Ctime.Sec, int32(st.Ctime.Nsec)},
	}
	return m, s, sparse
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// note adds to what an item says could not be read.
func note(it *Item, what string, err error) {
	s := err.Error()
	if what != "" {
		s = what + ": " + s
	}
	if it.Err != "" {
		s = it.Err + "; " + s
	}
	it.Err = s
}
