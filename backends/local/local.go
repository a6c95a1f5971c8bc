// Package local keeps a store in a folder of this machine: blocks/<two hex>/<64 hex>, segments/<64 hex>,
// snapshots/<domain>/<name>, logs/<domain>/<name>.
//
// A file comes under its name only when it is whole and durable, never takes the place of another, and is not touched
// again. What a writer that died leaves behind (".tmp-…") stays where it is.
package local

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"golang.org/x/sys/unix"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
	"aslrescue/engine/vfs"
)

// Sentinels of this backend.
var (
	ErrForeign   = errors.New("holds what is not ours")
	ErrNoStore   = errors.New("no store")
	ErrNoPublish = errors.New("the file system can neither rename without replacing nor make hard links, so a file cannot be put in place safely")
)

// TempPrefix begins the name of every file that is not yet in place.
const TempPrefix = ".tmp-"

// The ways of putting a file in place without clobbering, as Info().Publish tells them.
const (
	byRename = "renameat2"
	byLink   = "link"
)

const (
	dirPerm  = 0o755
	filePerm = 0o444
)

// Option says what Open and Create cannot know by themselves.
type Option func(*backend)

// ReadOnly opens without the proof that files can be put in place, and refuses every Create.
func ReadOnly() Option { return func(b *backend) { b.info.ReadOnly = true } }

// Free is asked how much room is left.
func Free(f func() (bytes int64, ok bool)) Option { return func(b *backend) { b.info.Free = f } }

// KeepCached leaves blocks in the page cache after they were written. By default they are dropped: nobody reads them
// soon, a rescue machine needs the room, and pages that are used again and again cost a virtual machine a sixth of
// the system time that ever new ones do.
func KeepCached() Option { return func(b *backend) { b.keep = true } }

type backend struct {
	fs    vfs.FS
	keep  bool
	found []string // folders of domains that were there at first

	mu      sync.Mutex
	info    store.Info
	seen    map[string]bool // what is in info.Foreign
	domains map[string]bool // domain folders known to be durable
}

var _ store.Backend = (*backend)(nil)

// Open opens a store that exists. From then on fsys is the backend's to close. Where nothing can be written the store
// opens read-only. It is ErrNoStore if there is none, or only the beginning of one.
func Open(fsys vfs.FS, where string, opts ...Option) (store.Backend, error) {
	b := newBackend(fsys, where, opts)
	found, err := b.survey()
	if err != nil {
		return nil, fmt.Errorf("store in %s: %w", where, err)
	}
	if !found.complete() {
		return nil, fmt.Errorf("store in %s: %w: %s", where, ErrNoStore, found.describe())
	}
	for _, name := range found.foreign {
		b.note(name)
	}
	b.found = found.domains
	if err := b.open("blocks"); err != nil {
		return nil, fmt.Errorf("store in %s: %w", where, err)
	}
	return b, nil
}

func newBackend(fsys vfs.FS, where string, opts []Option) *backend {
	b := &backend{
		fs:      fsys,
		info:    store.Info{Kind: "local", Where: where},
		seen:    map[string]bool{},
		domains: map[string]bool{},
	}
	for _, o := range opts {
		o(b)
	}
	return b
}

// open gets ready for writing, where it can. A place that is read-only or full can still be read.
func (b *backend) open(proveIn string) error {
	if b.info.ReadOnly {
		return nil
	}
	err := b.ready(proveIn)
	switch {
	case errors.Is(err, artifact.ErrReadOnly):
		b.info.ReadOnly = true
	case errors.Is(err, artifact.ErrFull): // the first Create proves it
	default:
		return err
	}
	return nil
}

// Info is part of store.Backend. Foreign holds what Open saw above the objects and what List met among them.
func (b *backend) Info() store.Info {
	b.mu.Lock()
	defer b.mu.Unlock()
	info := b.info
	info.Foreign = slices.Clone(info.Foreign)
	return info
}

// Close is part of store.Backend.
func (b *backend) Close() error { return b.fs.Close() }

// note remembers a name that is not ours.
func (b *backend) note(name string) {
	const most = 1000 // a person reads the first few
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[name] || len(b.seen) >= most {
		return
	}
	b.seen[name] = true
	i, _ := slices.BinarySearch(b.info.Foreign, name)
	b.info.Foreign = slices.Insert(b.info.Foreign, i, name)
}

// place tells where in the folder the object with that name lies.
func place(name string) (string, error) {
	if err := store.CheckName(name); err != nil {
		return "", err
	}
	if hash, ok := strings.CutPrefix(name, "blocks/"); ok {
		return "blocks/" + hash[:2] + "/" + hash, nil
	}
	return name, nil
}

// digest is the hash that the content must have by its name, if the name says it.
func digest(name string) (artifact.Digest, bool) {
	kind, hash, _ := strings.Cut(name, "/")
	if kind != "blocks" && kind != "segments" {
		return artifact.Digest{}, false
	}
	d, err := artifact.ParseDigest(hash)
	return d, err == nil
}

// temp is a name in dir that no other attempt has.
func temp(dir string) string {
	var b [16]byte
	rand.Read(b[:])
	return path.Join(dir, TempPrefix+hex.EncodeToString(b[:]))
}

// meaning adds the sentinel that callers branch on to an error of the file system that came up in writing.
func meaning(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", artifact.ErrFull, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", artifact.ErrReadOnly, err)
	}
	return absence(err)
}

// absence is meaning for an error that came up in reading.
func absence(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", artifact.ErrNotFound, err)
	}
	for _, e := range hurt {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", artifact.ErrDamaged, err)
		}
	}
	return err
}

// hurt is how the system answers for an object whose file the medium, or somebody, has spoilt.
var hurt = []error{unix.EUCLEAN, unix.ELOOP, unix.EISDIR, unix.ENXIO, fs.ErrInvalid}
