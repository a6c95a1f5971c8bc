package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
	"aslrescue/engine/vfs"
)

// Create is part of store.Backend.
func (b *backend) Create(ctx context.Context, name string, data []byte) error {
	err := b.create(ctx, name, data)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	return nil
}

func (b *backend) create(ctx context.Context, name string, data []byte) error {
	file, err := place(name)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	way, err := b.way()
	if err != nil {
		return err
	}
	if err := b.domain(path.Dir(file)); err != nil {
		return meaning(err)
	}
	_, err = b.fs.Stat(file)
	if err == nil {
		return b.settle(name, file, data)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return meaning(err)
	}
	tmp, err := b.write(path.Dir(file), data)
	if err != nil {
		return meaning(err)
	}
	err = publish(b.fs, way, tmp, file)
	if errors.Is(err, fs.ErrExist) {
		b.fs.Remove(tmp)
		return b.settle(name, file, data)
	}
	if err != nil {
		b.fs.Remove(tmp)
		return meaning(err)
	}
	return meaning(b.fs.SyncDir(path.Dir(file)))
}

// write makes a whole, durable file under a name of its own. After an error nothing is known of that file, so it is
// given up: never synced again, never put in place.
func (b *backend) write(dir string, data []byte) (tmp string, err error) {
	tmp = temp(dir)
	f, err := b.fs.CreateExcl(tmp, filePerm)
	if err != nil {
		return "", err
	}
	soonRead := b.keep || !strings.HasPrefix(dir, "blocks/")
	if !soonRead {
		f.Uncached()
	}
	err = fill(f, data)
	if err == nil && !soonRead {
		f.Uncached()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		b.fs.Remove(tmp) // best effort: it is ours, and it takes room
		return "", err
	}
	return tmp, nil
}

func fill(f vfs.File, data []byte) error {
	n, err := f.Write(data)
	if err != nil {
		return err
	}
	if n != len(data) {
		return io.ErrShortWrite
	}
	// Before the sync, so that no crash shows a file in place that can be written. Media without modes do without.
	if err := f.Chmod(filePerm); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return f.Sync()
}

// publish gives a file its final name; fs.ErrExist if that is taken.
func publish(fsys vfs.FS, way, tmp, file string) error {
	if way == byRename {
		return fsys.RenameNoReplace(tmp, file)
	}
	if err := fsys.Link(tmp, file); err != nil {
		return err
	}
	fsys.Remove(tmp) // what stays is a leftover, not a fault
	return nil
}

// settle answers for a name that is taken. Whoever took it may not have come as far as making it durable, and the
// system's cache may hold what the medium lost, so both are asked before the answer is "the same".
func (b *backend) settle(name, file string, data []byte) error {
	f, err := b.fs.Open(file)
	if err != nil {
		return meaning(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return meaning(err)
	}
	f.Uncached()
	same, err := equal(f, data)
	if err != nil {
		return meaning(err)
	}
	if same {
		return meaning(b.fs.SyncDir(path.Dir(file)))
	}
	want, ok := digest(name)
	if !ok {
		return artifact.ErrConflict
	}
	if n := f.Size(); n > format.ObjectMax { // not worth a look, which would take all memory
		return fmt.Errorf("the %d bytes stored there are more than any object has: %w", n, artifact.ErrDamaged)
	}
	stored, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<62))
	if err != nil {
		return meaning(err)
	}
	if artifact.HashBytes(stored) != want {
		return fmt.Errorf("the %d bytes stored there do not hash to the name: %w", len(stored), artifact.ErrDamaged)
	}
	return artifact.ErrConflict
}

// equal tells whether a file holds these bytes and no more.
func equal(f io.ReaderAt, data []byte) (bool, error) {
	buf := make([]byte, 256<<10)
	off := 0
	for {
		n, err := f.ReadAt(buf, int64(off))
		if off+n > len(data) || !bytes.Equal(buf[:n], data[off:off+n]) {
			return false, nil
		}
		off += n
		if err == io.EOF {
			return off == len(data), nil
		}
		if err != nil {
			return false, err
		}
	}
}

// domain makes the folder of a domain if it is missing. It is durable before anything lies in it.
func (b *backend) domain(dir string) error {
	if !strings.HasPrefix(dir, "logs/") && !strings.HasPrefix(dir, "snapshots/") {
		return nil
	}
	b.mu.Lock()
	known := b.domains[dir]
	b.mu.Unlock()
	if known {
		return nil
	}
	if err := b.fs.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Also if it was there: whoever made it may not have come as far as this.
	if err := b.fs.SyncDir(path.Dir(dir)); err != nil {
		return err
	}
	b.mu.Lock()
	b.domains[dir] = true
	b.mu.Unlock()
	return nil
}

// way is how files are put in place here.
func (b *backend) way() (string, error) {
	b.mu.Lock()
	readonly, way := b.info.ReadOnly, b.info.Publish
	b.mu.Unlock()
	if readonly {
		return "", artifact.ErrReadOnly
	}
	if way != "" {
		return way, nil
	}
	if err := b.ready("blocks"); err != nil {
		return "", err
	}
	return b.Info().Publish, nil
}

// ready proves in a folder how files are put in place, and makes the folders durable in which objects will lie, and the
// names of logs and snapshots: whoever made them may have been killed just before, and what is read from here on must not
// be gone after the next power cut.
func (b *backend) ready(proveIn string) error {
	for _, dir := range b.found { // first: a full medium gives no proof, and is read all the same
		if err := b.fs.SyncDir(dir); err != nil {
			return meaning(err)
		}
	}
	way, err := prove(b.fs, proveIn)
	if err != nil {
		return meaning(err)
	}
	if proveIn != "." {
		if err := b.fs.SyncDir("blocks"); err != nil {
			return meaning(err)
		}
	}
	if err := b.fs.SyncDir("."); err != nil {
		return meaning(err)
	}
	b.mu.Lock()
	b.info.Publish = way
	b.mu.Unlock()
	return nil
}

// prove finds the way of putting files in place that this medium really has: one that takes a free name and refuses a
// taken one. Its files are empty and gone afterwards.
func prove(fsys vfs.FS, dir string) (way string, err error) {
	for _, way := range []string{byRename, byLink} {
		err := proveWay(fsys, dir, way)
		if err == nil {
			return way, nil
		}
		if !errors.Is(err, errUnfit) {
			return "", err
		}
	}
	return "", ErrNoPublish
}

// errUnfit is a way that this medium does not have.
var errUnfit = errors.New("unfit")

func proveWay(fsys vfs.FS, dir, way string) (err error) {
	var names []string
	defer func() {
		for _, name := range names {
			if rerr := fsys.Remove(name); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) && err == nil {
				err = rerr
			}
		}
	}()
	for range 2 {
		name := temp(dir)
		f, err := fsys.CreateExcl(name, filePerm)
		if err != nil {
			return err
		}
		names = append(names, name)
		if err := f.Close(); err != nil {
			return err
		}
	}
	switch err := publish(fsys, way, names[0], names[1]); {
	case err == nil:
		return errUnfit // it replaced what was there
	case !errors.Is(err, fs.ErrExist):
		return unfit(err)
	}
	names = append(names, temp(dir))
	return unfit(publish(fsys, way, names[0], names[2])) // only now is the medium asked: of a taken name the kernel knows by itself
}

// unfit tells a way that the medium does not have from other failures.
func unfit(err error) error {
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", errUnfit, err)
	}
	return err
}
