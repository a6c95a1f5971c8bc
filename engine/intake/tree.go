package intake

import (
	"fmt"
	"strings"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// treeBuilder turns the items of a walk into directory pages, from the leaves up, and keeps what an interrupted walk
// needs to go on.
type treeBuilder struct {
	dirs []*dirFrame
	top  *format.Entry // when the root was left
	logs []artifact.Ref
	tail []format.SeenFile
	odd  []string // what could not be kept, since the last look
}

// dirFrame is a directory whose entries are being read.
type dirFrame struct {
	entry format.Entry
	page  []encodedEntry
	size  int
	first []byte // name of the page's first entry
	pages []format.DirPageRef
	names int // bytes of the pages' first names
}

type encodedEntry []byte

// MarshalCBOR gives the bytes it holds: an entry is encoded once, to know its size.
func (e encodedEntry) MarshalCBOR() ([]byte, error) { return e, nil }

func entryOf(path string, m *source.Meta) format.Entry {
	e := format.Entry{
		Name: []byte(path[strings.LastIndexByte(path, '/')+1:]), Type: m.Type, Mode: m.Mode, UID: m.UID, GID: m.GID,
		MSec: m.MTime.Sec, MNsec: m.MTime.Nsec, Major: m.Major, Minor: m.Minor, Target: m.LinkTarget, Sparse: m.Sparse,
	}
	if m.Type == source.Regular {
		e.Size = m.Size
	}
	for _, x := range m.Xattrs {
		e.Xattrs = append(e.Xattrs, format.Xattr{Name: []byte(x.Name), Value: x.Value})
	}
	return e
}

func (t *treeBuilder) enter(e format.Entry) { t.dirs = append(t.dirs, &dirFrame{entry: e}) }

// add puts an entry into the directory being read. One that no page can hold, because the file system says of it what cannot be,
// keeps its name and an error in place of the rest.
func (t *treeBuilder) add(e format.Entry, put emit) error {
	if err := e.Check(); err != nil {
		e = format.Entry{Name: e.Name, Err: err.Error()}
		t.odd = append(t.odd, err.Error())
	}
	raw, err := format.Marshal(e)
	if err != nil {
		return err
	}
	d := t.dirs[len(t.dirs)-1]
	if len(d.pages) == format.DirPagesMax || d.names > artifact.MaxSize/2 {
		if d.entry.Err == "" {
			d.entry.Err = fmt.Sprintf("has more entries than a store can list; those from %q on are missing", e.Name)
			t.odd = append(t.odd, fmt.Sprintf("%s: %s", d.entry.Name, d.entry.Err))
		}
		return nil
	}
	if d.size+len(raw) > format.DirPageSize && len(d.page) > 0 {
		if err := d.endPage(put); err != nil {
			return err
		}
	}
	if len(d.page) == 0 {
		d.first = e.Name
	}
	d.page, d.size = append(d.page, raw), d.size+len(raw)
	return nil
}

func (d *dirFrame) endPage(put emit) error {
	ref, err := put(artifact.DirPage, d.page)
	if err != nil {
		return err
	}
	d.pages = append(d.pages, format.DirPageRef{First: d.first, Ref: ref})
	d.page, d.size, d.names = nil, 0, d.names+len(d.first)
	return nil
}

// leave finishes a directory and puts it into the one above.
func (t *treeBuilder) leave(put emit) error {
	d := t.dirs[len(t.dirs)-1]
	if len(d.page) > 0 {
		if err := d.endPage(put); err != nil {
			return err
		}
	}
	switch {
	case len(d.pages) == 1:
		d.entry.Dir = &d.pages[0].Ref
	case len(d.pages) > 1:
		ref, err := put(artifact.DirRoot, d.pages)
		if err != nil {
			return err
		}
		d.entry.Dir, d.entry.Paged = &ref, true
	}
	t.dirs = t.dirs[:len(t.dirs)-1]
	if len(t.dirs) == 0 {
		t.top = &d.entry
		return nil
	}
	return t.add(d.entry, put)
}

// seen remembers a file whose content is stored.
func (t *treeBuilder) seen(row format.SeenFile, put emit) error {
	t.tail = append(t.tail, row)
	if len(t.tail) < format.TreeLogRows {
		return nil
	}
	ref, err := put(artifact.TreeLog, t.tail)
	if err != nil {
		return err
	}
	t.logs, t.tail = append(t.logs, ref), nil
	return nil
}

func rowOf(path string, s source.Stamp, e format.Entry) format.SeenFile {
	return format.SeenFile{
		Path: []byte(path), Dev: s.Dev, Ino: s.Ino, Size: s.Size, MSec: s.MTime.Sec, MNsec: s.MTime.Nsec, CSec: s.CTime.Sec, CNsec: s.CTime.Nsec,
		Content: format.Entry{Size: e.Size, Ranges: e.Ranges, Map: e.Map, Unreadable: e.Unreadable},
	}
}

func stampOf(r format.SeenFile) source.Stamp {
	return source.Stamp{Dev: r.Dev, Ino: r.Ino, Size: r.Size, MTime: source.Time{Sec: r.MSec, Nsec: r.MNsec}, CTime: source.Time{Sec: r.CSec, Nsec: r.CNsec}}
}

// before tells whether a walk comes to path a before path b: entries are sorted name by name, not as whole paths.
func before(a, b string) bool {
	for {
		x, restA, moreA := strings.Cut(a, "/")
		y, restB, moreB := strings.Cut(b, "/")
		if x != y {
			return x < y
		}
		if !moreA || !moreB {
			return !moreA && moreB
		}
		a, b = restA, restB
	}
}
