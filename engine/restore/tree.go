package restore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
)

// TreeOptions change how a tree is written.
type TreeOptions struct {
	// Merge lets dst hold something already. What exists there is kept as it is and never followed; only real
	// directories are entered.
	Merge bool
	// Workers is how many entries that were given to Queue may be made at a time; below 2 each is made at once.
	Workers int
	// Warn, if set, is told of every Warning at once, by one goroutine at a time.
	Warn func(Warning)
}

// Warning is something that could not be brought back, or was not saved in full.
type Warning struct {
	Path string // as in the source
	What string // a short phrase, the same for all warnings of a kind: "owner", "attribute", "device node", …
	Err  error
}

func (w Warning) String() string { return fmt.Sprintf("%q: %s: %v", w.Path, w.What, w.Err) }

// maxWarnings bounds the warnings that are kept; all are counted and told to Warn.
const maxWarnings = 1000

// maxOpen bounds the directories that are kept open; those above are opened again on the way back.
const maxOpen = 64

// maxPath is what one call takes of a path, PATH_MAX less room for the NUL.
const maxPath = 4000

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// TreeWriter makes a tree out of the items of a walk. It is for one goroutine, and has some of its own for what is queued.
type TreeWriter struct {
	dst   string
	o     TreeOptions
	root  int
	began bool
	stack []dirLevel
	links map[inode]firstName

	queue   chan func()
	workers sync.WaitGroup

	mu    sync.Mutex // of what follows
	warn  []Warning
	count map[string]int
	total int
}

type inode struct{ dev, ino uint64 }

// firstName is the first name of a file with several.
type firstName struct {
	path string
	left uint64 // names that may still come
}

// dirLevel is a directory that is being filled. Its metadata is set when it is left: filling it would change the
// times again, and its mode may forbid to fill it.
type dirLevel struct {
	path string
	meta source.Meta
	fd   int             // -1 while closed
	id   inode           // to know it again
	kept bool            // it stood there before (Merge): not ours to change
	skip error           // it could not be made; neither can what is in it
	busy *sync.WaitGroup // entries that are being made in it
}

// Tree begins to write a tree to dst, which must not exist or be an empty directory.
func Tree(dst string, o TreeOptions) (*TreeWriter, error) {
	abs, err := filepath.Abs(dst)
	if err != nil {
		return nil, fmt.Errorf("restore to %s: %w", dst, err)
	}
	if err := os.Mkdir(abs, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("restore: %w", full(err))
	}
	// The destination alone may be reached through a symbolic link: it is what the operator named.
	d, err := os.OpenFile(abs, unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer d.Close()
	if !o.Merge {
		switch names, err := d.Readdirnames(1); {
		case len(names) > 0:
			return nil, fmt.Errorf("restore to %s: the directory is not empty: %w", abs, fs.ErrExist)
		case err != nil && err != io.EOF:
			return nil, fmt.Errorf("restore: %w", err)
		}
	}
	root, err := unix.FcntlInt(d.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("restore to %s: %w", abs, err)
	}
	if !o.Merge {
		// A default ACL from above would be inherited by all that is made here.
		for _, k := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
			unix.Fremovexattr(root, k) // mostly there is none
		}
	}
	w := &TreeWriter{dst: abs, o: o, root: root, links: map[inode]firstName{}, count: map[string]int{}, queue: make(chan func())}
	if o.Workers > 1 {
		for range o.Workers {
			w.workers.Go(func() {
				for make := range w.queue {
					make()
				}
			})
		}
	}
	return w, nil
}

// Queue is Put for whoever need not wait. An entry on which no other depends may be made beside others, in any order; a directory gets its
// metadata when all that is in it was made. done is called once with what Put gives, perhaps by another goroutine, and before the directory
// is left; content likewise.
func (w *TreeWriter) Queue(it source.Item, content func(io.WriterAt) error, done func(error)) {
	if !w.alone(it) {
		done(w.Put(it, content))
		return
	}
	top := w.stack[len(w.stack)-1]
	_, name := splitPath(it.Path)
	top.busy.Add(1)
	w.queue <- func() {
		defer top.busy.Done()
		done(w.make(top.fd, name, it, content))
	}
}

// alone tells whether an entry can be made without regard to those before and after it: it is no directory, is where the walk is, has a name
// that files can have, and no further name, and nothing is to be said of it.
func (w *TreeWriter) alone(it source.Item) bool {
	if w.o.Workers < 2 || it.Leave || len(w.stack) == 0 || it.Err != "" || it.Meta.Type == source.Dir || it.Links > 1 {
		return false
	}
	top := &w.stack[len(w.stack)-1]
	dir, name := splitPath(it.Path)
	return top.skip == nil && top.path == dir && isName(name)
}

func isName(name string) bool {
	return name != "" && name != "." && name != ".." && strings.IndexByte(name, 0) < 0
}

// Put makes one entry, or with it.Leave finishes a directory. Items come in the order of a walk. content is called
// for a regular file that is not a further name of one already made; it writes what is data, and what it leaves out
// is zeros. An entry that the destination cannot hold is a Warning. An error of content is returned as it is: the
// file keeps what was written, and Put may go on with the next item. Names that no file can have, and items out of
// order, are an artifact.ErrDamaged; the item is not made. Other errors mean that dst cannot be written to.
func (w *TreeWriter) Put(it source.Item, content func(io.WriterAt) error) error {
	if it.Leave {
		return w.leave(it.Path)
	}
	if !w.began {
		if it.Path != "" || it.Meta.Type != source.Dir {
			return w.damaged(it.Path, "the walk does not begin with the root directory")
		}
		w.began = true
		return w.enterRoot(it)
	}
	dir, name := splitPath(it.Path)
	if len(w.stack) == 0 || w.stack[len(w.stack)-1].path != dir || it.Path == "" {
		return w.damaged(it.Path, "it does not stand in the directory that the walk is in")
	}
	if !isName(name) {
		return w.damaged(it.Path, "no file can have this name")
	}
	top := &w.stack[len(w.stack)-1]
	if top.skip != nil {
		w.warning(it.Path, "not restored", fmt.Errorf("its directory is missing: %w", top.skip))
		if it.Meta.Type == source.Dir {
			w.push(dirLevel{path: it.Path, fd: -1, skip: top.skip})
		}
		return nil
	}
	if it.Err != "" {
		w.warning(it.Path, "not saved in full", errors.New(it.Err))
	}
	if it.Meta.Type == source.Dir {
		return w.dir(top, name, it)
	}
	if made, err := w.link(top, name, it); made || err != nil {
		return err
	}
	return w.make(top.fd, name, it, content)
}

func (w *TreeWriter) damaged(path, why string) error {
	return fmt.Errorf("restore %q: %s: %w", path, why, artifact.ErrDamaged)
}

func splitPath(p string) (dir, name string) {
	i := strings.LastIndexByte(p, '/')
	if i < 0 {
		return "", p
	}
	return p[:i], p[i+1:]
}

func (w *TreeWriter) enterRoot(it source.Item) error {
	if it.Err != "" {
		w.warning("", "not saved in full", errors.New(it.Err))
	}
	fd, err := unix.Openat(w.root, ".", dirFlags, 0)
	if err != nil {
		return w.failed("", err)
	}
	id, err := identify(fd)
	if err != nil {
		unix.Close(fd)
		return w.failed("", err)
	}
	w.push(dirLevel{path: "", meta: it.Meta, fd: fd, id: id})
	return nil
}

func (w *TreeWriter) dir(top *dirLevel, name string, it source.Item) error {
	kept := false
	err := unix.Mkdirat(top.fd, name, 0o700)
	if err == unix.EEXIST && w.o.Merge {
		kept, err = true, nil
	}
	fd := -1
	if err == nil {
		fd, err = unix.Openat(top.fd, name, dirFlags, 0)
	}
	var id inode
	if err == nil {
		id, err = identify(fd)
	}
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		if fatal(err) {
			return w.failed(it.Path, err)
		}
		w.warning(it.Path, "directory", err)
		w.push(dirLevel{path: it.Path, fd: -1, skip: err})
		return nil
	}
	w.push(dirLevel{path: it.Path, meta: it.Meta, fd: fd, id: id, kept: kept})
	return nil
}

func (w *TreeWriter) push(l dirLevel) {
	l.busy = &sync.WaitGroup{}
	w.stack = append(w.stack, l)
	if l.skip != nil {
		return // it holds none open, and the last one above that does is still needed
	}
	if k := len(w.stack) - 1 - maxOpen; k >= 0 && w.stack[k].fd >= 0 {
		w.stack[k].busy.Wait()
		unix.Close(w.stack[k].fd)
		w.stack[k].fd = -1
	}
}

func (w *TreeWriter) leave(path string) error {
	k := len(w.stack) - 1
	if k < 0 || w.stack[k].path != path {
		return w.damaged(path, "the walk leaves a directory that it is not in")
	}
	l := w.stack[k]
	w.stack = w.stack[:k]
	l.busy.Wait()
	var err error
	if k > 0 && l.skip == nil && w.stack[k-1].fd < 0 {
		err = w.reopen(l.fd, &w.stack[k-1])
	}
	if l.fd >= 0 {
		if !l.kept {
			err = errors.Join(err, w.setMeta(l.fd, ".", l.path, l.meta))
		}
		unix.Close(l.fd)
	}
	return err
}

func (w *TreeWriter) reopen(child int, up *dirLevel) error {
	fd, err := unix.Openat(child, "..", dirFlags, 0)
	if err != nil {
		return w.failed(up.path, err)
	}
	if id, err := identify(fd); err != nil || id != up.id {
		unix.Close(fd)
		return w.failed(up.path, errors.New("the directory was moved while it was being restored"))
	}
	up.fd = fd
	return nil
}

// link gives a file that was already made its further name.
func (w *TreeWriter) link(top *dirLevel, name string, it source.Item) (bool, error) {
	if it.Links < 2 || it.Stamp.Ino == 0 {
		return false, nil
	}
	key := inode{it.Stamp.Dev, it.Stamp.Ino}
	first, ok := w.links[key]
	if !ok {
		return false, nil
	}
	if first.left--; first.left == 0 {
		delete(w.links, key)
	} else {
		w.links[key] = first
	}
	dir, base := splitPath(first.path)
	from := top.fd
	if dir != top.path {
		fd, err := w.openDir(dir)
		if err != nil {
			return false, w.failed(it.Path, err)
		}
		defer unix.Close(fd)
		from = fd
	}
	err := unix.Linkat(from, base, top.fd, name, 0)
	switch {
	case err == nil:
		return true, nil
	case fatal(err):
		return false, w.failed(it.Path, err)
	case err == unix.EEXIST:
		w.warning(it.Path, "exists already, kept", err)
		return true, nil
	}
	w.warning(it.Path, "hard link, restored as a file of its own", err)
	return false, nil
}

// openDir opens a directory of any depth below the root, following no link.
func (w *TreeWriter) openDir(path string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	dir := w.root
	for {
		part, rest := path, ""
		if len(path) > maxPath {
			cut := strings.LastIndexByte(path[:maxPath], '/')
			part, rest = path[:cut], path[cut+1:]
		}
		if part == "" {
			part = "."
		}
		fd, err := unix.Openat2(dir, part, &how)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if dir != w.root {
			unix.Close(dir)
		}
		if err != nil || rest == "" {
			return fd, err
		}
		dir, path = fd, rest
	}
}

// make makes an entry that is not a directory. Of files with one name several may be made at a time.
func (w *TreeWriter) make(dir int, name string, it source.Item, content func(io.WriterAt) error) error {
	m := it.Meta
	var err, contentErr error
	what := "file"
	dev := unix.Mkdev(m.Major, m.Minor)
	switch m.Type {
	case source.Regular:
		contentErr, err = w.regular(dir, name, it, content)
	case source.Symlink:
		what = "symbolic link"
		if bytes.IndexByte(m.LinkTarget, 0) >= 0 {
			return w.damaged(it.Path, "no symbolic link can have this target")
		}
		err = unix.Symlinkat(string(m.LinkTarget), dir, name)
	case source.CharDev:
		what = "device node"
		err = unix.Mknodat(dir, name, unix.S_IFCHR|0o600, int(dev))
	case source.BlkDev:
		what = "device node"
		err = unix.Mknodat(dir, name, unix.S_IFBLK|0o600, int(dev))
	case source.FIFO:
		what = "FIFO"
		err = unix.Mknodat(dir, name, unix.S_IFIFO|0o600, 0)
	case source.Socket:
		what = "socket"
		err = unix.Mknodat(dir, name, unix.S_IFSOCK|0o600, 0)
	case 0:
		w.warning(it.Path, "not restored", errors.New("nothing of it could be saved"))
		return nil
	default:
		return w.damaged(it.Path, fmt.Sprintf("there is no file type %d", m.Type))
	}
	switch {
	case err == nil:
	case err == unix.EEXIST:
		w.warning(it.Path, "exists already, kept", err)
		return nil
	case fatal(err):
		return w.failed(it.Path, err)
	default:
		w.warning(it.Path, what, err)
		return nil
	}
	if it.Links > 1 && it.Stamp.Ino != 0 {
		if key := (inode{it.Stamp.Dev, it.Stamp.Ino}); w.links[key].path == "" {
			w.links[key] = firstName{it.Path, it.Links - 1}
		}
	}
	return errors.Join(contentErr, w.setMeta(dir, name, it.Path, m))
}

// regular makes a file and lets content fill it.
func (w *TreeWriter) regular(dir int, name string, it source.Item, content func(io.WriterAt) error) (contentErr, err error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := unix.Close(fd); err == nil && cerr != nil {
			err = cerr
		}
	}()
	f := &fileWriter{fd: fd, size: it.Meta.Size, sparse: it.Meta.Sparse}
	if content != nil {
		contentErr = content(f)
	}
	if f.err != nil {
		return nil, f.err // ours, whatever content made of it
	}
	if contentErr != nil {
		contentErr = fmt.Errorf("restore %q: %w", it.Path, contentErr)
	}
	return contentErr, f.finish()
}

// fileWriter writes the content of one file.
type fileWriter struct {
	fd      int
	size    int64
	sparse  bool
	next    int64 // end of what was written without a break from the start
	outside bool  // something was written elsewhere than at next
	err     error // the first failure
}

// page is the unit in which zeros become holes.
const page = 4096

var zeroPage [page]byte

func (f *fileWriter) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > f.size || int64(len(p)) > f.size-off {
		return 0, fmt.Errorf("%d bytes at %d lie outside the file's %d bytes: %w", len(p), off, f.size, artifact.ErrDamaged)
	}
	if f.err != nil {
		return 0, f.err
	}
	if off == f.next {
		f.next += int64(len(p))
	} else {
		f.outside = true
	}
	for n := 0; n < len(p); {
		m, hole := f.run(p[n:], off+int64(n))
		if !hole {
			if f.err = f.write(p[n:n+m], off+int64(n)); f.err != nil {
				return n, f.err
			}
		}
		n += m
	}
	return len(p), nil
}

// run is how many bytes from the start of p are to be written, or left out as a hole.
func (f *fileWriter) run(p []byte, off int64) (n int, hole bool) {
	limit := min(len(p), maxWrite)
	if !f.sparse {
		return limit, false
	}
	for n < len(p) && (hole || n < limit) {
		m := min(len(p)-n, page-int((off+int64(n))%page))
		zero := bytes.Equal(p[n:n+m], zeroPage[:m])
		if n > 0 && zero != hole {
			break
		}
		hole = zero
		n += m
	}
	return n, hole
}

func (f *fileWriter) write(p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(f.fd, p, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// finish gives the file its size, and where it was not sparse the room for all of it.
func (f *fileWriter) finish() error {
	if f.next == f.size && !f.sparse {
		return nil
	}
	if err := unix.Ftruncate(f.fd, f.size); err != nil {
		return err
	}
	if f.sparse || f.size == 0 {
		return nil
	}
	err := unix.Fallocate(f.fd, 0, 0, f.size)
	if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
		return err
	}
	return f.fillHoles()
}

// fillHoles writes zeros where nothing was written, on file systems that cannot reserve room.
func (f *fileWriter) fillHoles() error {
	for at := int64(0); at < f.size; {
		hole, err := unix.Seek(f.fd, at, unix.SEEK_HOLE)
		if err != nil || hole >= f.size {
			return nil // a file system without holes has none to fill
		}
		end, err := unix.Seek(f.fd, hole, unix.SEEK_DATA)
		if err == unix.ENXIO {
			end = f.size
		} else if err != nil {
			return err
		}
		for at = hole; at < end; at += page {
			if err := f.write(zeroPage[:min(page, end-at)], at); err != nil {
				return err
			}
		}
		at = end
	}
	return nil
}

// setMeta sets what Meta holds on name in the directory dir, or on dir itself if name is ".". Only failures of the
// medium are errors. The order matters: nothing after the times changes them; a new owner takes security.capability
// and the setuid bit away; an ACL and the mode may take from us the right to set the rest.
func (w *TreeWriter) setMeta(dir int, name, path string, m source.Meta) error {
	mode := m.Mode & 0o7777
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: m.MTime.Sec, Nsec: int64(m.MTime.Nsec)}}
	if err := w.set(path, "time", unix.UtimesNanoAt(dir, name, ts, unix.AT_SYMLINK_NOFOLLOW)); err != nil {
		return err
	}
	if err := unix.Fchownat(dir, name, int(m.UID), int(m.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if err := w.set(path, "owner", err); err != nil {
			return err
		}
		if mode&0o6000 != 0 && m.Type != source.Dir {
			// Running with another owner's rights is not what was saved.
			w.warning(path, "setuid and setgid", errors.New("left out, because the owner could not be set"))
			mode &^= 0o6000
		}
	}
	for _, acls := range []bool{false, true} {
		for _, x := range m.Xattrs {
			if acls != strings.HasPrefix(x.Name, "system.") {
				continue
			}
			err := setXattr(dir, name, x)
			if err != nil {
				err = fmt.Errorf("%s: %w", x.Name, err)
			}
			if errors.Is(err, unix.ENOSPC) {
				// Here that mostly means that one attribute is larger than this file system allows.
				w.warning(path, "attribute", err)
				continue
			}
			if err := w.set(path, "attribute", err); err != nil {
				return err
			}
		}
	}
	if m.Type == source.Symlink {
		return nil // the mode of a link cannot be set, and means nothing
	}
	return w.set(path, "mode", chmod(dir, name, mode))
}

// set makes of err a warning, or what ends the restore.
func (w *TreeWriter) set(path, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case fatal(err):
		return w.failed(path, fmt.Errorf("%s: %w", what, err))
	}
	w.warning(path, what, err)
	return nil
}

func setXattr(dir int, name string, x source.Xattr) error {
	if name == "." {
		return unix.Fsetxattr(dir, x.Name, x.Value, 0)
	}
	// The last element of the path is not followed, so /proc is as safe here as a descriptor, which symbolic links
	// and device nodes cannot have.
	return unix.Lsetxattr("/proc/self/fd/"+strconv.Itoa(dir)+"/"+name, x.Name, x.Value, 0)
}

func chmod(dir int, name string, mode uint32) error {
	if name == "." {
		return unix.Fchmod(dir, mode)
	}
	err := unix.Fchmodat(dir, name, mode, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOSYS || err == unix.EOPNOTSUPP { // kernels before 6.6
		err = unix.Fchmodat(dir, name, mode, 0)
	}
	return err
}

// fatal tells errors that will hit every further entry too.
func fatal(err error) bool {
	for _, no := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS, unix.ENXIO, unix.ENODEV, unix.ESTALE,
		unix.ENOTCONN, unix.ESHUTDOWN, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

func (w *TreeWriter) failed(path string, err error) error {
	return fmt.Errorf("restore %q to %s: %w", path, w.dst, full(err))
}

func identify(fd int) (inode, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return inode{uint64(st.Dev), st.Ino}, err
}

func (w *TreeWriter) warning(path, what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := Warning{path, what, err}
	w.total++
	w.count[what]++
	if len(w.warn) < maxWarnings {
		w.warn = append(w.warn, x)
	}
	if w.o.Warn != nil {
		w.o.Warn(x)
	}
}

// Warnings gives the first thousand warnings, and how many there are of each kind.
func (w *TreeWriter) Warnings() (first []Warning, count map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.warn), maps.Clone(w.count)
}

// Finish makes the tree durable. If the walk did not come to its end it says so, after it has set the metadata of the
// directories that were still open.
func (w *TreeWriter) Finish() error {
	close(w.queue)
	w.workers.Wait()
	var errs []error
	if !w.began || len(w.stack) > 0 {
		errs = append(errs, fmt.Errorf("restore to %s: the tree is not whole: the walk ended early", w.dst))
	}
	for len(w.stack) > 0 {
		if err := w.leave(w.stack[len(w.stack)-1].path); err != nil {
			errs = append(errs, err)
		}
	}
	if err := unix.Syncfs(w.root); err != nil {
		errs = append(errs, w.failed("", err))
	}
	unix.Close(w.root)
	w.root = -1
	return errors.Join(errs...)
}
