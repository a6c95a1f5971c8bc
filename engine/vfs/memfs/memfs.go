// Package memfs is a folder in memory that can lose power. It writes down every operation that changes something, and
// gives, for any moment and any pattern of what happened to be on the medium, a new folder in that state.
//
// What a medium may do with what was not synced: a write is lost, torn, done out of order, or leaves only a longer
// file of zeros or of old bytes; a name appears or goes early or never, and the two halves of a rename apart from each
// other. What was synced, stays.
package memfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"aslrescue/engine/vfs"
)

// FS is a vfs.FS in memory. Content is shared between an FS and those made from it, so making one is cheap.
type FS struct {
	opts Options

	mu         sync.Mutex
	ops        []string      // one line each
	effects    []effect      // what the operations did, in order
	base       []*node       // durable from the start; index 0 is the root; never changed
	cur        []*node       // what the running system sees
	unsynced   map[int][]int // by node: its effects that are not durable
	sealed     int           // nodes below this number must not change
	violations []string
}

// Options says what the medium lacks.
type Options struct {
	NoRename bool // no rename without replacing
	NoLink   bool // no hard links
}

// node is a file or a folder. A node that can be reached from two FS is never changed.
type node struct {
	owner   *FS // who may change it
	mode    fs.FileMode
	content content
	names   map[string]int // of a folder: node numbers
}

// effect is one change to one node. It is durable from the operation that synced it.
type effect struct {
	op     int    // made by this operation, counted from 1
	synced int    // durable after this operation; never if 0
	node   int    // the folder or file that changes
	name   string // of an entry in a folder
	entry  int    // what the name stands for from now on; none if 0
	kind   effectKind
	dir    bool        // entry is a folder
	mode   fs.FileMode // of a new entry, or the new mode
	data   []byte      // written at off
	off    int64
}

type effectKind uint8

const (
	setEntry effectKind = iota
	setMode
	write
)

// New makes an empty folder.
func New() *FS { return With(Options{}) }

// With makes an empty folder on a medium that lacks something.
func With(opts Options) *FS {
	root := &node{mode: fs.ModeDir | 0o755, names: map[string]int{}}
	return &FS{opts: opts, base: []*node{root}, cur: []*node{root}, unsynced: map[int][]int{}}
}

var _ vfs.FS = (*FS)(nil)

// Ops tells how many operations have changed or synced something so far.
func (m *FS) Ops() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.ops)
}

// Trace tells the operations, one line each; the first is number 1.
func (m *FS) Trace() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.ops)
}

// Sealed marks all that is there now. From then on a change to it is a violation: a name taken away or renamed, a mode
// changed, bytes written. New names in a folder that was there are none.
func (m *FS) Sealed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sealed = len(m.cur)
}

// Violations tells what was done to what had been sealed.
func (m *FS) Violations() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.violations)
}

func (m *FS) did(format string, args ...any) int {
	m.ops = append(m.ops, fmt.Sprintf(format, args...))
	return len(m.ops)
}

// touch notes a change to a node that was sealed.
func (m *FS) touch(n int) {
	if n < m.sealed {
		m.violations = append(m.violations, m.ops[len(m.ops)-1])
	}
}

// apply makes an effect seen by the running system and leaves it unsynced.
func (m *FS) apply(e effect) {
	m.cur[e.node] = e.on(m.own(m.cur, e.node))
	m.unsynced[e.node] = append(m.unsynced[e.node], len(m.effects))
	m.effects = append(m.effects, e)
}

// own gives a node that this FS may change.
func (m *FS) own(nodes []*node, n int) *node {
	old := nodes[n]
	if old.owner == m {
		return old
	}
	own := *old
	own.owner = m
	own.names = maps.Clone(old.names)
	nodes[n] = &own
	return &own
}

// on changes a node by the whole of an effect.
func (e effect) on(n *node) *node {
	switch e.kind {
	case setEntry:
		if e.entry == 0 {
			delete(n.names, e.name)
		} else {
			n.names[e.name] = e.entry
		}
	case setMode:
		n.mode = n.mode&fs.ModeDir | e.mode
	case write:
		n.content = n.content.with(e.off, e.data)
	}
	return n
}

// sync makes all effects on a node durable.
func (m *FS) sync(n, op int) {
	for _, i := range m.unsynced[n] {
		m.effects[i].synced = op
	}
	delete(m.unsynced, n)
}

// enter makes a new node and its entry in a folder.
func (m *FS) enter(op, folder int, name string, dir bool, mode fs.FileMode) int {
	e := effect{op: op, node: folder, kind: setEntry, name: name, entry: len(m.cur), dir: dir, mode: mode}
	m.cur = append(m.cur, fresh(&e, m))
	m.apply(e)
	return e.entry
}

// fresh is the empty node that a new entry stands for.
func fresh(e *effect, owner *FS) *node {
	n := &node{owner: owner, mode: e.mode}
	if e.dir {
		n.mode |= fs.ModeDir
		n.names = map[string]int{}
	}
	return n
}

// find walks to a node.
func (m *FS) find(op, name string) (int, error) {
	if !fs.ValidPath(name) {
		return 0, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n := 0
	if name == "." {
		return n, nil
	}
	for rest := name; rest != ""; {
		var step string
		step, rest, _ = strings.Cut(rest, "/")
		if m.cur[n].names == nil {
			return 0, &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
		}
		next, ok := m.cur[n].names[step]
		if !ok {
			return 0, &fs.PathError{Op: op, Path: name, Err: syscall.ENOENT}
		}
		n = next
	}
	return n, nil
}

// free finds the folder for a name that must not be taken.
func (m *FS) free(op, name string) (dir int, err error) {
	dir, err = m.find(op, path.Dir(name))
	if err != nil {
		return 0, err
	}
	_, err = m.find(op, name)
	if err == nil {
		return 0, &fs.PathError{Op: op, Path: name, Err: syscall.EEXIST}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	return dir, nil
}

// CreateExcl is part of vfs.FS.
func (m *FS) CreateExcl(name string, perm fs.FileMode) (vfs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, err := m.free("create", name)
	if err != nil {
		return nil, err
	}
	op := m.did("create %s %#o", name, perm)
	return &writer{m: m, name: name, node: m.enter(op, dir, path.Base(name), false, perm)}, nil
}

// Mkdir is part of vfs.FS.
func (m *FS) Mkdir(name string, perm fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, err := m.free("mkdir", name)
	if err != nil {
		return err
	}
	m.enter(m.did("mkdir %s", name), dir, path.Base(name), true, perm)
	return nil
}

// RenameNoReplace is part of vfs.FS.
func (m *FS) RenameNoReplace(oldname, newname string) error {
	if m.opts.NoRename {
		return &fs.PathError{Op: "rename", Path: newname, Err: errors.ErrUnsupported}
	}
	return m.move("rename", oldname, newname, true)
}

// Link is part of vfs.FS.
func (m *FS) Link(oldname, newname string) error {
	if m.opts.NoLink {
		return &fs.PathError{Op: "link", Path: newname, Err: errors.ErrUnsupported}
	}
	return m.move("link", oldname, newname, false)
}

func (m *FS) move(verb, oldname, newname string, away bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(verb, oldname)
	if err != nil {
		return err
	}
	dir, err := m.free(verb, newname)
	if err != nil {
		return err
	}
	from, err := m.find(verb, path.Dir(oldname))
	if err != nil {
		return err
	}
	op := m.did("%s %s %s", verb, oldname, newname)
	m.apply(effect{op: op, node: dir, kind: setEntry, name: path.Base(newname), entry: n, dir: m.cur[n].names != nil, mode: m.cur[n].mode.Perm()})
	if away {
		m.touch(n)
		m.apply(effect{op: op, node: from, kind: setEntry, name: path.Base(oldname)})
	}
	return nil
}

// Remove is part of vfs.FS.
func (m *FS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("remove", name)
	if err != nil {
		return err
	}
	if len(m.cur[n].names) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	dir, err := m.find("remove", path.Dir(name))
	if err != nil {
		return err
	}
	op := m.did("remove %s", name)
	m.touch(n)
	m.apply(effect{op: op, node: dir, kind: setEntry, name: path.Base(name)})
	return nil
}

// SyncDir is part of vfs.FS.
func (m *FS) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("syncdir", name)
	if err != nil {
		return err
	}
	if m.cur[n].names == nil {
		return &fs.PathError{Op: "syncdir", Path: name, Err: syscall.ENOTDIR}
	}
	m.sync(n, m.did("syncdir %s", name))
	return nil
}

// Close is part of vfs.FS. The folder stays usable.
func (m *FS) Close() error { return nil }

// FailSync is what a failed sync of a file does: what was written since the last good one is given up by the system,
// which nevertheless goes on showing it and calls it clean, so that the next sync "works".
func (m *FS) FailSync(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n, err := m.find("sync", name); err == nil {
		m.did("failed sync %s", name)
		delete(m.unsynced, n)
	}
}

// Damage changes one byte of a file on the medium, as a failing disk does.
func (m *FS) Damage(name string, off int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("damage", name)
	if err != nil {
		return err
	}
	old := make([]byte, 1)
	if _, err := m.cur[n].content.ReadAt(old, off); err != nil {
		return err
	}
	op := m.did("damage %s %d", name, off)
	m.apply(effect{op: op, node: n, kind: write, off: off, data: []byte{old[0] ^ 0x55}})
	m.sync(n, op)
	return nil
}

// Stat is part of vfs.FS.
func (m *FS) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("stat", name)
	if err != nil {
		return nil, err
	}
	return m.info(path.Base(name), n), nil
}

// ReadDir is part of vfs.FS.
func (m *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("readdir", name)
	if err != nil {
		return nil, err
	}
	dir := m.cur[n]
	if dir.names == nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: syscall.ENOTDIR}
	}
	list := make([]fs.DirEntry, 0, len(dir.names))
	for _, base := range slices.Sorted(maps.Keys(dir.names)) {
		list = append(list, m.info(base, dir.names[base]))
	}
	return list, nil
}

func (m *FS) info(base string, n int) info {
	return info{base, m.cur[n].content.size, m.cur[n].mode}
}

// Open is part of vfs.FS.
func (m *FS) Open(name string) (vfs.ReadFile, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	if m.cur[n].names != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return &reader{m: m, name: name, node: n, size: m.cur[n].content.size}, nil
}

type info struct {
	name string
	size int64
	mode fs.FileMode
}

func (i info) Name() string               { return i.name }
func (i info) Size() int64                { return i.size }
func (i info) Mode() fs.FileMode          { return i.mode }
func (i info) Type() fs.FileMode          { return i.mode.Type() }
func (i info) ModTime() time.Time         { return time.Time{} }
func (i info) IsDir() bool                { return i.mode.IsDir() }
func (i info) Sys() any                   { return nil }
func (i info) Info() (fs.FileInfo, error) { return i, nil }

// writer is a vfs.File.
type writer struct {
	m      *FS
	name   string
	node   int
	closed bool
}

func (w *writer) Write(p []byte) (int, error) {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if w.closed {
		return 0, fs.ErrClosed
	}
	op := w.m.did("write %s %d", w.name, len(p))
	w.m.touch(w.node)
	off := w.m.cur[w.node].content.size
	w.m.apply(effect{op: op, node: w.node, kind: write, off: off, data: slices.Clone(p)})
	return len(p), nil
}

func (w *writer) Chmod(mode fs.FileMode) error {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if w.closed {
		return fs.ErrClosed
	}
	op := w.m.did("chmod %s %#o", w.name, mode)
	w.m.touch(w.node)
	w.m.apply(effect{op: op, node: w.node, kind: setMode, mode: mode})
	return nil
}

func (w *writer) Sync() error {
	if w.closed {
		return fs.ErrClosed
	}
	return w.m.syncFile(w.name, w.node)
}

func (m *FS) syncFile(name string, n int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sync(n, m.did("sync %s", name))
	return nil
}

func (w *writer) Uncached() { w.m.uncache(w.node) }

func (w *writer) Close() error {
	if w.closed {
		return fs.ErrClosed
	}
	w.closed = true
	return nil
}

// reader is a vfs.ReadFile.
type reader struct {
	m    *FS
	name string
	node int
	size int64
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	r.m.mu.Lock()
	c := r.m.cur[r.node].content
	r.m.mu.Unlock()
	return c.ReadAt(p, off)
}

func (r *reader) Size() int64  { return r.size }
func (r *reader) Sync() error  { return r.m.syncFile(r.name, r.node) }
func (r *reader) Uncached()    { r.m.uncache(r.node) }
func (r *reader) Close() error { return nil }

// uncache drops what the system shows of a file but calls clean: after a failed sync the medium has zeros there.
func (m *FS) uncache(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var c content
	if n < len(m.base) {
		c = m.base[n].content
	}
	lost := false
	for i, e := range m.effects {
		if e.node != n || e.kind != write {
			continue
		}
		if e.synced == 0 && !slices.Contains(m.unsynced[n], i) {
			c, lost = c.with(e.off, zeros(len(e.data))), true
			continue
		}
		c = c.with(e.off, e.data)
	}
	if lost {
		m.own(m.cur, n).content = c
	}
}

// content is the bytes of a file: pieces one after the other, shared and never changed.
type content struct {
	pieces [][]byte
	size   int64
}

// with is c with data written at off; a gap before it is zeros.
func (c content) with(off int64, data []byte) content {
	if len(data) == 0 {
		return c
	}
	if off >= c.size {
		if gap := off - c.size; gap > 0 {
			c = c.append(zeros(int(gap)))
		}
		return c.append(data)
	}
	head, tail := c.cut(0, off), content{}
	if end := off + int64(len(data)); end < c.size {
		tail = c.cut(end, c.size)
	}
	c = head.append(data)
	for _, p := range tail.pieces {
		c = c.append(p)
	}
	return c
}

func (c content) append(data []byte) content {
	return content{append(slices.Clip(c.pieces), data), c.size + int64(len(data))}
}

func (c content) cut(from, to int64) content {
	var out content
	at := int64(0)
	for _, p := range c.pieces {
		lo, hi := max(from-at, 0), min(to-at, int64(len(p)))
		if lo < hi {
			out = out.append(p[lo:hi])
		}
		at += int64(len(p))
	}
	return out
}

func (c content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	n := 0
	for _, piece := range c.pieces {
		if off >= int64(len(piece)) {
			off -= int64(len(piece))
			continue
		}
		k := copy(p[n:], piece[off:])
		n, off = n+k, 0
		if n == len(p) {
			return n, nil
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
