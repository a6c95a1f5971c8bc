package sourcetest

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"aslrescue/engine/source"
)

// Entry is one entry of a fake tree. Only Path is needed: it is a regular file of mode 0644 then.
type Entry struct {
	Path    string // relative, slash-separated; "" is the root
	Meta    source.Meta
	Content []byte // of a regular file
	Pattern Pattern
	Size    int64  // of a regular file made of Pattern, where Content is nil
	Ino     uint64 // entries with the same Ino are hard links of each other; 0 takes a new one
	Err     string // the walk says so

	OpenErr error        // OpenFile fails with it
	Bad     []source.Gap // reading these fails with EIO
	Changes bool         // the file is another after its first ReadAt
	Shrinks bool         // the file ends at half its size when it is read
	Stale   int64        // from here on reading fails with ESTALE; 0: nowhere
}

// Tree is a source.TreeSource in memory.
type Tree struct {
	name  string
	root  *node
	files map[string]*node
	stop  int
	mu    sync.Mutex
	opens map[string]int
}

type node struct {
	Entry
	links    uint64
	children map[string]*node
}

var _ source.TreeSource = (*Tree)(nil)

// NewTree makes a tree of entries, in any order. Directories that are missing are added with mode 0755.
func NewTree(name string, entries []Entry) *Tree {
	t := &Tree{name: name, files: map[string]*node{}, opens: map[string]int{}}
	t.root = dirNode("")
	t.files[""] = t.root
	ino, links := uint64(1000), map[uint64]uint64{}
	for _, e := range entries {
		if e.Meta.Type == 0 && e.Err == "" {
			e.Meta.Type = source.Regular
		}
		if e.Meta.Mode == 0 && e.Meta.Type == source.Regular {
			e.Meta.Mode = 0o644
		}
		if e.Meta.Type == source.Regular {
			if e.Content != nil {
				e.Size = int64(len(e.Content))
			}
			e.Meta.Size = e.Size
		}
		if e.Ino == 0 {
			ino++
			e.Ino = ino
		}
		links[e.Ino]++
		n := t.need(e.Path)
		n.Entry = e
	}
	for _, n := range t.files {
		if n.Meta.UID == 0 && n.Meta.GID == 0 { // what is restored can have no other owner without privileges
			n.Meta.UID, n.Meta.GID = uint32(os.Getuid()), uint32(os.Getgid())
		}
		n.links = max(1, links[n.Ino])
		if n.Ino == 0 {
			ino++
			n.Ino = ino
		}
	}
	return t
}

func dirNode(path string) *node {
	return &node{Entry: Entry{Path: path, Meta: source.Meta{Type: source.Dir, Mode: 0o755}}}
}

func (t *Tree) need(path string) *node {
	if n := t.files[path]; n != nil {
		return n
	}
	dir, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i], path[i+1:]
	}
	up := t.need(dir)
	if up.children == nil {
		up.children = map[string]*node{}
	}
	n := dirNode(path)
	up.children[name] = n
	t.files[path] = n
	return n
}

// StopAfter makes every later walk end with source.ErrGone after n items; 0 takes that back.
func (t *Tree) StopAfter(n int) { t.stop = n }

// Opens is how often OpenFile was called for path.
func (t *Tree) Opens(path string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opens[path]
}

// Info describes it.
func (t *Tree) Info() source.Info {
	return source.Info{Kind: source.Tree, Path: "/fake/" + t.name, Name: t.name, ID: "fake tree " + t.name, Size: -1,
		Sector: 512}
}

// Walk is as source.TreeSource says.
func (t *Tree) Walk(ctx context.Context) iter.Seq2[source.Item, error] {
	return func(yield func(source.Item, error) bool) {
		count := 0
		t.walk(ctx, t.root, func(it source.Item, err error) bool {
			if err == nil && t.stop > 0 && count == t.stop {
				yield(source.Item{}, fmt.Errorf("walk %s: %w", t.name, source.ErrGone))
				return false
			}
			count++
			return yield(it, err) && err == nil
		})
	}
}

func (t *Tree) walk(ctx context.Context, n *node, yield func(source.Item, error) bool) bool {
	if err := ctx.Err(); err != nil {
		yield(source.Item{}, err)
		return false
	}
	it := source.Item{Path: n.Path, Meta: n.Meta, Links: n.links, Err: n.Err}
	if n.Meta.Type != 0 {
		it.Stamp = n.stamp()
	}
	if !yield(it, nil) {
		return false
	}
	if n.Meta.Type != source.Dir {
		return true
	}
	var names []string
	for name := range n.children {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !t.walk(ctx, n.children[name], yield) {
			return false
		}
	}
	return yield(source.Item{Path: n.Path, Leave: true}, nil)
}

// stamp makes a content's state visible, as a change of content changes the ctime of a real file.
func (n *node) stamp() source.Stamp {
	h := fnv.New32a()
	h.Write(n.Content)
	fmt.Fprint(h, n.Pattern, n.Size)
	return source.Stamp{Dev: 1, Ino: n.Ino, Size: n.Meta.Size, MTime: n.Meta.MTime,
		CTime: source.Time{Sec: n.Meta.MTime.Sec, Nsec: int32(h.Sum32() >> 2)}}
}

// OpenFile is as source.TreeSource says.
func (t *Tree) OpenFile(path string) (source.TreeFile, error) {
	t.mu.Lock()
	t.opens[path]++
	t.mu.Unlock()
	n := t.files[path]
	switch {
	case n == nil:
		return nil, &fs.PathError{Op: "open", Path: path, Err: unix.ENOENT}
	case n.OpenErr != nil:
		return nil, &fs.PathError{Op: "open", Path: path, Err: n.OpenErr}
	case n.Meta.Type != source.Regular:
		return nil, &fs.PathError{Op: "open", Path: path, Err: unix.EINVAL}
	}
	return &file{n: n}, nil
}

// Close does nothing.
func (t *Tree) Close() error { return nil }

type file struct {
	n    *node
	mu   sync.Mutex
	read bool
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	again := f.read
	f.read = true
	f.mu.Unlock()
	size := f.n.Meta.Size
	if f.n.Shrinks {
		size /= 2
	}
	r := ReaderAt{Pattern: f.n.Pattern, Size: size, Bad: f.n.Bad}
	var stale error
	if at := f.n.Stale; at > 0 && off+int64(len(p)) > at {
		p, stale = p[:max(at-off, 0)], unix.ESTALE
	}
	n, err := r.ReadAt(p, off)
	if stale != nil {
		err = stale
	}
	if f.n.Content != nil && n > 0 {
		copy(p[:n], f.n.Content[off:])
	}
	if f.n.Changes && again {
		for i := range p[:n] {
			p[i] ^= 0x55
		}
	}
	return n, err
}

func (f *file) Stamp() (source.Stamp, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.n.stamp()
	if f.read && f.n.Shrinks {
		s.Size /= 2
	}
	if f.read && (f.n.Shrinks || f.n.Changes) {
		s.CTime.Sec++
	}
	return s, nil
}

func (f *file) Close() error { return nil }

var _ io.ReaderAt = (*ReaderAt)(nil)
