// Package faultfs makes the operations of a vfs.FS fail on request, and writes down what was done.
package faultfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"syscall"

	"aslrescue/engine/vfs"
)

// Op is a kind of operation.
type Op string

// The kinds, as they stand in a trace.
const (
	Create  Op = "create"
	Write   Op = "write"
	Chmod   Op = "chmod"
	Sync    Op = "sync" // of a file, being written or read
	Close   Op = "close"
	Rename  Op = "rename"
	Link    Op = "link"
	Remove  Op = "remove"
	Mkdir   Op = "mkdir"
	SyncDir Op = "syncdir"
	Open    Op = "open"
	Read    Op = "read"
	Stat    Op = "stat"
	ReadDir Op = "readdir"
)

// Fault is one thing that goes wrong.
type Fault struct {
	Op     Op     // this kind only; any if empty
	Name   string // names that match only (path.Match; of two names, the new one); any if empty
	N      int    // from the N-th such operation since Inject, counted from 1; 0 is 1
	Sticky bool   // and all such after it; once otherwise
	Err    error  // what it says; EIO if nil
	After  bool   // the operation is carried out, only the answer is bad
	Short  int    // of a write: so many bytes are written before the error
}

// FS is a vfs.FS around another.
type FS struct {
	inner    vfs.FS
	syncFail func(name string)

	mu     sync.Mutex
	faults []*armed
	trace  []string
	temps  map[string]string
	dead   map[string]bool // files whose sync failed: every later sync "works" and does nothing
}

type armed struct {
	Fault
	seen, used int
}

// New wraps an FS. If syncFail is not nil it is told the name of each file whose sync is made to fail.
func New(inner vfs.FS, syncFail func(name string)) *FS {
	return &FS{inner: inner, syncFail: syncFail, temps: map[string]string{}, dead: map[string]bool{}}
}

var _ vfs.FS = (*FS)(nil)

// Inject arms a fault.
func (f *FS) Inject(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault.N = max(fault.N, 1)
	if fault.Err == nil {
		fault.Err = syscall.EIO
	}
	f.faults = append(f.faults, &armed{Fault: fault})
}

// Unused gives the faults that have not struck, and disarms all.
func (f *FS) Unused() []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	var unused []Fault
	for _, a := range f.faults {
		if a.used == 0 {
			unused = append(unused, a.Fault)
		}
	}
	f.faults = nil
	return unused
}

// Trace gives what was done since the last Trace, one line an operation. Random names are numbered as they come up:
// ".tmp-1".
func (f *FS) Trace() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := strings.Join(f.trace, "\n")
	f.trace = nil
	clear(f.temps)
	if t != "" {
		t += "\n"
	}
	return t
}

// do carries out an operation, or has it fail.
func (f *FS) do(op Op, name, line string, run func() error) error {
	hit := f.strike(op, name)
	if hit == nil {
		err := run()
		f.note(op, line, err)
		return err
	}
	if hit.After {
		run() // whatever it says
	}
	err := &fs.PathError{Op: string(op), Path: name, Err: hit.Err}
	f.note(op, line, err)
	return err
}

// strike tells which fault, if any, hits this operation.
func (f *FS) strike(op Op, name string) *armed {
	f.mu.Lock()
	defer f.mu.Unlock()
	var hit *armed
	for _, a := range f.faults {
		if a.Op != "" && a.Op != op {
			continue
		}
		if ok, _ := path.Match(a.Name, name); !ok && a.Name != "" {
			continue
		}
		a.seen++
		if hit == nil && (a.seen == a.N || a.Sticky && a.seen > a.N) {
			a.used++
			hit = a
		}
	}
	return hit
}

// note writes a line into the trace.
func (f *FS) note(op Op, line string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	words := strings.Fields(line)
	for i, w := range words {
		words[i] = f.plain(w)
	}
	t := string(op) + " " + strings.Join(words, " ")
	if err != nil && err != io.EOF {
		t += " = " + reason(err)
	}
	f.trace = append(f.trace, t)
}

// plain replaces what is random in a name.
func (f *FS) plain(name string) string {
	dir, base := path.Split(name)
	if !strings.HasPrefix(base, ".tmp-") {
		return name
	}
	if f.temps[base] == "" {
		f.temps[base] = fmt.Sprintf(".tmp-%d", len(f.temps)+1)
	}
	return dir + f.temps[base]
}

// reason is an error without names.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return errors.ErrUnsupported.Error()
	}
	return err.Error()
}

// CreateExcl is part of vfs.FS.
func (f *FS) CreateExcl(name string, perm fs.FileMode) (vfs.File, error) {
	var inner vfs.File
	err := f.do(Create, name, fmt.Sprintf("%s %#o", name, perm), func() (err error) {
		inner, err = f.inner.CreateExcl(name, perm)
		return err
	})
	if err != nil {
		if inner != nil {
			inner.Close()
		}
		return nil, err
	}
	return &file{f, name, inner}, nil
}

// Open is part of vfs.FS.
func (f *FS) Open(name string) (vfs.ReadFile, error) {
	var inner vfs.ReadFile
	err := f.do(Open, name, name, func() (err error) {
		inner, err = f.inner.Open(name)
		return err
	})
	if err != nil {
		if inner != nil {
			inner.Close()
		}
		return nil, err
	}
	return &readFile{f, name, inner}, nil
}

// RenameNoReplace is part of vfs.FS.
func (f *FS) RenameNoReplace(oldname, newname string) error {
	return f.do(Rename, newname, oldname+" "+newname, func() error { return f.inner.RenameNoReplace(oldname, newname) })
}

// Link is part of vfs.FS.
func (f *FS) Link(oldname, newname string) error {
	return f.do(Link, newname, oldname+" "+newname, func() error { return f.inner.Link(oldname, newname) })
}

// Remove is part of vfs.FS.
func (f *FS) Remove(name string) error {
	return f.do(Remove, name, name, func() error { return f.inner.Remove(name) })
}

// Mkdir is part of vfs.FS.
func (f *FS) Mkdir(name string, perm fs.FileMode) error {
	return f.do(Mkdir, name, name, func() error { return f.inner.Mkdir(name, perm) })
}

// SyncDir is part of vfs.FS.
func (f *FS) SyncDir(name string) error {
	return f.do(SyncDir, name, name, func() error { return f.inner.SyncDir(name) })
}

// Stat is part of vfs.FS.
func (f *FS) Stat(name string) (fi fs.FileInfo, err error) {
	err = f.do(Stat, name, name, func() error {
		fi, err = f.inner.Stat(name)
		return err
	})
	return fi, err
}

// ReadDir is part of vfs.FS.
func (f *FS) ReadDir(name string) (list []fs.DirEntry, err error) {
	err = f.do(ReadDir, name, name, func() error {
		list, err = f.inner.ReadDir(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Close is part of vfs.FS.
func (f *FS) Close() error { return f.inner.Close() }

// sync syncs a file. One whose sync once failed is never synced again, whoever asks, and answers that it was.
func (f *FS) sync(name string, run func() error) error {
	f.mu.Lock()
	dead := f.dead[name]
	f.mu.Unlock()
	if dead {
		run = func() error { return nil }
	}
	struck := true
	err := f.do(Sync, name, name, func() error { struck = false; return run() })
	if err != nil && struck {
		f.mu.Lock()
		f.dead[name] = true
		f.mu.Unlock()
		if f.syncFail != nil {
			f.syncFail(name)
		}
	}
	return err
}

type file struct {
	f     *FS
	name  string
	inner vfs.File
}

func (w *file) Write(p []byte) (n int, err error) {
	line := fmt.Sprintf("%s %d", w.name, len(p))
	hit := w.f.strike(Write, w.name)
	if hit == nil {
		n, err = w.inner.Write(p)
		w.f.note(Write, line, err)
		return n, err
	}
	part := p[:min(hit.Short, len(p))]
	if hit.After {
		part = p
	}
	if len(part) > 0 {
		if n, err = w.inner.Write(part); err != nil {
			return n, err
		}
	}
	err = &fs.PathError{Op: string(Write), Path: w.name, Err: hit.Err}
	w.f.note(Write, line, err)
	return n, err
}

func (w *file) Chmod(mode fs.FileMode) error {
	return w.f.do(Chmod, w.name, fmt.Sprintf("%s %#o", w.name, mode), func() error { return w.inner.Chmod(mode) })
}

func (w *file) Sync() error { return w.f.sync(w.name, w.inner.Sync) }

func (w *file) Uncached() { w.inner.Uncached() }

// Close lets go of the file also where it is made to fail, as the system does.
func (w *file) Close() error {
	var inner error
	ran := false
	err := w.f.do(Close, w.name, w.name, func() error { ran = true; inner = w.inner.Close(); return inner })
	if !ran {
		w.inner.Close()
	}
	return err
}

type readFile struct {
	f     *FS
	name  string
	inner vfs.ReadFile
}

func (r *readFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = r.f.do(Read, r.name, fmt.Sprintf("%s %d %d", r.name, len(p), off), func() error {
		n, err = r.inner.ReadAt(p, off)
		return err
	})
	return n, err
}

func (r *readFile) Sync() error { return r.f.sync(r.name, r.inner.Sync) }

func (r *readFile) Size() int64  { return r.inner.Size() }
func (r *readFile) Uncached()    { r.inner.Uncached() }
func (r *readFile) Close() error { return r.inner.Close() }
