package rehearse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"aslrescue/engine/source"
	"aslrescue/tui/ask"
)

// folders is the made-up file system that a rehearsal shows: what it would find mounted, read-only, on the machine. Names that end with a slash
// are directories; a file has as many bytes as stand beside it.
func folders() map[string]int64 {
	return map[string]int64{
		"/mnt/":                         0,
		"/mnt/home/":                    0,
		"/mnt/home/anna/":               0,
		"/mnt/home/anna/letters/":       0,
		"/mnt/home/anna/letters/a.odt":  48_213,
		"/mnt/home/anna/letters/b.odt":  51_977,
		"/mnt/home/anna/photos/":        0,
		"/mnt/home/anna/photos/001.jpg": 4_120_331,
		"/mnt/home/anna/photos/002.jpg": 3_988_120,
		"/mnt/home/anna/photos/003.jpg": 4_411_876,
		"/mnt/home/ben/":                0,
		"/mnt/home/ben/ledger.ods":      812_004,
		"/mnt/home/ben/mail.mbox":       61_204_778,
		"/mnt/usb/":                     0,
		"/mnt/usb/readme.txt":           812,
		"/mnt/usb/rescue/":              0,
		"/mnt/dying/":                   0,
		"/mnt/asl/":                     0,
		"/mnt/asl/local/":               0,
		"/mnt/nfs/":                     0,
	}
}

// slow is the directory whose disk does not answer.
const slow = "/mnt/dying"

// listing is a directory of the made-up file system.
func listing(dir string) (ask.Listing, error) {
	dir = path.Clean(dir)
	prefix := strings.TrimSuffix(dir, "/") + "/"
	all := folders()
	if _, ok := all[prefix]; !ok && dir != "/" {
		return ask.Listing{}, &fs.PathError{Op: "list", Path: dir, Err: fs.ErrNotExist}
	}
	l := ask.Listing{Path: dir}
	for name, size := range all {
		rest, below := strings.CutPrefix(name, prefix)
		rest, isDir := strings.CutSuffix(rest, "/")
		if below && rest != "" && !strings.Contains(rest, "/") {
			l.Entries = append(l.Entries, ask.DirEntry{Name: rest, Dir: isDir, Size: size})
		}
	}
	slices.SortFunc(l.Entries, func(a, b ask.DirEntry) int { return strings.Compare(a.Name, b.Name) })
	return l, nil
}

// tree is a made-up directory as a source.
type tree struct{ root string }

var _ source.TreeSource = (*tree)(nil)

func (t *tree) Info() source.Info {
	return source.Info{Kind: source.Tree, Path: t.root, Name: path.Base(t.root), ID: "tree rehearsal " + t.root, Size: -1, Sector: 512}
}

func (t *tree) Close() error { return nil }

// Walk is as source.TreeSource says.
func (t *tree) Walk(ctx context.Context) iter.Seq2[source.Item, error] {
	return func(yield func(source.Item, error) bool) { t.walk(ctx, "", yield) }
}

func (t *tree) walk(ctx context.Context, rel string, yield func(source.Item, error) bool) bool {
	full := path.Join(t.root, rel)
	l, err := listing(full)
	if err != nil || ctx.Err() != nil {
		return yield(source.Item{}, errors.Join(err, ctx.Err()))
	}
	if !yield(source.Item{Path: rel, Meta: source.Meta{Type: source.Dir, Mode: 0o755}, Stamp: stamp(full, 0), Links: 2}, nil) {
		return false
	}
	for _, e := range l.Entries {
		p := path.Join(rel, e.Name)
		if e.Dir {
			if !t.walk(ctx, p, yield) {
				return false
			}
			continue
		}
		it := source.Item{Path: p, Meta: source.Meta{Type: source.Regular, Mode: 0o644, Size: e.Size}, Stamp: stamp(path.Join(t.root, p), e.Size), Links: 1}
		if !yield(it, nil) {
			return false
		}
	}
	return yield(source.Item{Path: rel, Leave: true}, nil)
}

func stamp(full string, size int64) source.Stamp {
	return source.Stamp{Dev: 7, Ino: seedOf(full), Size: size, MTime: source.Time{Sec: 1_795_000_000}, CTime: source.Time{Sec: 1_795_000_000}}
}

// OpenFile is as source.TreeSource says.
func (t *tree) OpenFile(p string) (source.TreeFile, error) {
	full := path.Join(t.root, p)
	size, ok := folders()[full]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", full, fs.ErrNotExist)
	}
	return &file{disk{seed: seedOf(full), info: source.Info{Size: size}}, full}, nil
}

type file struct {
	disk
	full string
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), max(f.info.Size-off, 0)))
	f.fill(p[:n], off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Stamp() (source.Stamp, error) { return stamp(f.full, f.info.Size), nil }
