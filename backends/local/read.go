package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"aslrescue/engine/store"
	"aslrescue/engine/vfs"
)

// Open is part of store.Backend.
func (b *backend) Open(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	r, err := b.openRange(ctx, name, off, n)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return r, nil
}

func (b *backend) openRange(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	file, err := place(name)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, fmt.Errorf("offset %d: %w", off, fs.ErrInvalid)
	}
	f, err := b.fs.Open(file)
	if err != nil {
		return nil, absence(err)
	}
	if n < 0 {
		n = max(f.Size()-off, 0)
	}
	if off > f.Size() || n > f.Size()-off {
		f.Close()
		return nil, fmt.Errorf("%d bytes from %d of %d: %w", n, off, f.Size(), io.ErrUnexpectedEOF)
	}
	if store.WantsUncached(ctx) {
		f.Uncached()
	}
	return &reader{ctx, f, name, off, n}, nil
}

// reader is a range of a file. An end of the file within it is an error.
type reader struct {
	ctx    context.Context
	f      vfs.ReadFile
	name   string
	off, n int64
}

func (r *reader) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, io.EOF
	}
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	p = p[:min(int64(len(p)), r.n)]
	n, err := r.f.ReadAt(p, r.off)
	r.off += int64(n)
	r.n -= int64(n)
	if n == len(p) || err == nil {
		return n, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, fmt.Errorf("read %s at %d: %w", r.name, r.off, absence(err))
}

func (r *reader) Close() error { return r.f.Close() }

// Stat is part of store.Backend.
func (b *backend) Stat(ctx context.Context, name string) (int64, error) {
	size, err := b.stat(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("stat %s: %w", name, err)
	}
	return size, nil
}

func (b *backend) stat(ctx context.Context, name string) (int64, error) {
	file, err := place(name)
	if err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	fi, err := b.fs.Stat(file)
	if err != nil {
		return 0, absence(err)
	}
	if !fi.Mode().IsRegular() {
		return 0, absence(fmt.Errorf("not a regular file: %w", fs.ErrInvalid))
	}
	return fi.Size(), nil
}

// List is part of store.Backend.
func (b *backend) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		l := lister{b, ctx, prefix, after, yield}
		for _, top := range []string{"blocks", "logs", "segments", "snapshots"} {
			if l.skips(top+"/") || l.list(top) {
				continue
			}
			return
		}
	}
}

// lister is one List under way.
type lister struct {
	b             *backend
	ctx           context.Context
	prefix, after string
	yield         func(store.Entry, error) bool
}

// skips tells whether no name that begins with stem is wanted.
func (l *lister) skips(stem string) bool {
	if !strings.HasPrefix(stem, l.prefix) && !strings.HasPrefix(l.prefix, stem) {
		return true
	}
	return l.after > stem && !strings.HasPrefix(l.after, stem)
}

// list gives the objects under one of the four folders, and false where it ended.
func (l *lister) list(top string) bool {
	if top == "segments" {
		return l.files(top)
	}
	dirs, err := l.b.fs.ReadDir(top)
	if err != nil {
		return l.fail(top, err)
	}
	// As names compare: "a-b/…" comes before "a/…".
	slices.SortFunc(dirs, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name()+"/", b.Name()+"/") })
	for _, d := range dirs {
		dir := path.Join(top, d.Name())
		isOurs, stem := isFan(d.Name()), dir
		if top != "blocks" {
			isOurs, stem = store.CheckName(dir+"/0") == nil, dir+"/"
		}
		if !d.IsDir() || !isOurs {
			l.b.note(dir)
			continue
		}
		if !l.skips(stem) && !l.files(dir) {
			return false
		}
	}
	return true
}

// files gives the objects in one folder, and false where it ended.
func (l *lister) files(dir string) bool {
	if err := l.ctx.Err(); err != nil {
		return l.fail(dir, err)
	}
	list, err := l.b.fs.ReadDir(dir)
	if err != nil {
		return l.fail(dir, err)
	}
	for _, e := range list {
		file := path.Join(dir, e.Name())
		if !isObject(file, e) {
			l.b.note(file)
			continue
		}
		name := objectName(file)
		if !strings.HasPrefix(name, l.prefix) || name <= l.after {
			continue
		}
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // collected meanwhile
		}
		if err != nil {
			return l.fail(file, err)
		}
		if !l.yield(store.Entry{Name: name, Size: fi.Size()}, nil) {
			return false
		}
	}
	return true
}

func (l *lister) fail(what string, err error) bool {
	l.yield(store.Entry{}, fmt.Errorf("list %s: %w", what, absence(err)))
	return false
}
