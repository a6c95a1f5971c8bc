package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

const (
	batchItems = 512 // of a tree in one unit; a format constant, as segments end between units
)

// openFile is a file of a tree while its parts are read.
type openFile struct {
	source.TreeFile
	stamp source.Stamp // as it was opened
}

// feeder makes units in stream order. It is one goroutine: it reads linear sources itself, so that a disk sees one reader that goes forward;
// files of trees are read by the workers.
type feeder struct {
	ctx     context.Context // ends when the operator wants to stop: no further unit is begun
	slots   *pool
	super   int
	out     func(*unit) error
	avoid   Folder
	load    func(context.Context, artifact.Ref) ([]format.SeenFile, error)
	get     func(context.Context, artifact.Ref) ([]byte, error) // what this intake has sealed
	pass    func(i int, phase string, pass int, back bool)      // told when one begins
	witness Witness                                             // may be nil
}

// errStop ends feeding without being a failure.
var errStop = errors.New("stopped")

func (f *feeder) slot() ([]byte, error) {
	b, err := f.slots.get(f.ctx)
	if f.ctx.Err() != nil {
		f.slots.put(b)
		return nil, errStop
	}
	return b, err
}

// linear reads a source from off to its end, or to size if that is known.
func (f *feeder) linear(i int, src source.Linear, off int64) error {
	for size := src.Info().Size; ; {
		slot, err := f.slot()
		if err != nil {
			return err
		}
		want := f.super
		if size >= 0 {
			want = int(min(int64(want), size-off))
		}
		u := &unit{src: i, slot: slot, off: off}
		n, gaps, err := src.Read(f.ctx, slot[:want], off)
		if f.ctx.Err() != nil { // what was read of this unit is read again
			f.slots.put(slot)
			return errStop
		}
		u.content = run{data: slot[:n], gaps: gaps, err: err}
		off += int64(n)
		u.last = err != nil || n < want || off == size
		if err := f.out(u); err != nil || u.last {
			return err
		}
	}
}

// tree walks a tree. What an earlier run stored is not read again.
func (f *feeder) tree(i int, src source.TreeSource, st *format.SourceState) error {
	w := treeFeeder{feeder: f, i: i, src: src, names: map[[2]uint64]string{}, devs: map[uint64]uint64{}, done: rowReader{f: f, logs: st.Logs, tail: st.Tail}, st: st}
	w.begin()
	for item, err := range src.Walk(f.ctx) {
		if f.ctx.Err() != nil {
			return errStop
		}
		if err != nil {
			return fmt.Errorf("walking %s: %w", src.Info().Path, err)
		}
		if err := w.item(item); err != nil {
			return err
		}
	}
	if f.ctx.Err() != nil {
		return errStop
	}
	w.u.last = true
	return w.send()
}

type treeFeeder struct {
	*feeder
	i     int
	src   source.TreeSource
	names map[[2]uint64]string // first path of files with several names
	devs  map[uint64]uint64    // numbers of devices: as an earlier run saw them, and now
	done  rowReader
	st    *format.SourceState
	u     *unit
	used  int // bytes of the slot
}

func (w *treeFeeder) begin() { w.u, w.used = &unit{src: w.i}, 0 }

func (w *treeFeeder) send() error {
	if w.used > 0 {
		slot, err := w.slot()
		if err != nil {
			return err
		}
		w.u.slot = slot
	}
	u := w.u
	w.begin()
	return w.out(u)
}

func (w *treeFeeder) item(it source.Item) error {
	if w.avoid != (Folder{}) && !it.Leave && it.Meta.Type == source.Dir && w.avoid == (Folder{it.Stamp.Dev, it.Stamp.Ino}) {
		return fmt.Errorf("the store lies inside the source, at %q: %w", it.Path, ErrInside)
	}
	s := step{item: it, whole: true}
	if !it.Leave && it.Links > 1 && it.Meta.Type != source.Dir {
		k := [2]uint64{it.Stamp.Dev, it.Stamp.Ino}
		if first, ok := w.names[k]; ok {
			s.link = first
		} else {
			w.names[k] = it.Path
		}
	}
	if !it.Leave && it.Meta.Type == source.Regular && s.link == "" {
		skip, err := w.regular(&s)
		if err != nil {
			return err
		}
		if s.row == nil && s.link == "" && it.Err == "" && it.Meta.Size > int64(w.super) {
			return w.long(s, skip)
		}
	}
	if s.row == nil && s.link == "" && it.Err == "" && it.Meta.Type == source.Regular && !it.Leave {
		s.want = int(it.Meta.Size)
	}
	if w.used+s.want > w.super || len(w.u.steps) >= batchItems {
		if err := w.send(); err != nil {
			return err
		}
	}
	w.used += s.want
	w.u.bytes += int64(s.want)
	w.u.steps = append(w.u.steps, s)
	return nil
}

// regular finds out whether a file was stored by an earlier run, whole or in part.
func (w *treeFeeder) regular(s *step) (skip *format.MapState, err error) {
	it := &s.item
	row, err := w.done.find(it.Path)
	if err != nil {
		return nil, err
	}
	if row != nil && w.same(stampOf(*row), it.Stamp) {
		s.row = row
		return nil, nil
	}
	if f := w.st.File; f != nil && string(f.Path) == it.Path && w.same(stampOf(*f), it.Stamp) {
		return w.st.FileMap, nil
	}
	return nil, nil
}

// same tells whether a file is the one that an earlier run saw. With the next boot a device may get another number; but what was on one device
// is on one still.
func (w *treeFeeder) same(was, now source.Stamp) bool {
	dev := was.Dev
	if was.Dev = now.Dev; was != now {
		return false
	}
	if d, ok := w.devs[dev]; ok {
		return d == now.Dev
	}
	w.devs[dev] = now.Dev
	return true
}

// long sends a file that does not fit into a unit, part by part.
func (w *treeFeeder) long(s step, skip *format.MapState) error {
	if len(w.u.steps) > 0 {
		if err := w.send(); err != nil {
			return err
		}
	}
	file, err := open(w.src, s.item.Path)
	if err != nil {
		s.fail = err.Error()
		w.u.steps = append(w.u.steps, s)
		return nil
	}
	off := int64(0)
	if skip != nil && file.stamp == s.item.Stamp { // the file that was opened is the one that was begun
		off = skip.Next
	}
	for first := true; ; first = false {
		part := s
		part.file, part.off, part.whole, part.first = file, off, false, first
		part.want = int(min(int64(w.super), file.stamp.Size-off))
		off += int64(part.want)
		part.last = off >= file.stamp.Size
		w.u.steps = append(w.u.steps, part)
		w.u.bytes, w.used = int64(part.want), part.want
		if err := w.send(); err != nil {
			if first || !part.last { // the sequencer closes a file whose last part it gets
				_ = file.Close()
			}
			return err
		}
		if part.last {
			return nil
		}
	}
}

func open(src source.TreeSource, path string) (*openFile, error) {
	f, err := src.OpenFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("vanished before it was read: %w", err)
	}
	if err != nil {
		return nil, err
	}
	stamp, err := f.Stamp()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &openFile{f, stamp}, nil
}

// rowReader goes through the rows of an earlier run's tree logs beside the walk.
type rowReader struct {
	f     *feeder
	logs  []artifact.Ref
	tail  []format.SeenFile
	rows  []format.SeenFile
	tail0 bool
}

// find gives the row of a path; rows that the walk has passed are dropped.
func (r *rowReader) find(path string) (*format.SeenFile, error) {
	for {
		for len(r.rows) > 0 && before(string(r.rows[0].Path), path) {
			r.rows = r.rows[1:]
		}
		if len(r.rows) > 0 {
			if string(r.rows[0].Path) == path {
				return &r.rows[0], nil
			}
			return nil, nil
		}
		switch {
		case len(r.logs) > 0:
			rows, err := r.f.load(r.f.ctx, r.logs[0])
			if err != nil {
				return nil, fmt.Errorf("what the interrupted run had seen: %w", err)
			}
			r.rows, r.logs = rows, r.logs[1:]
		case !r.tail0:
			r.rows, r.tail0 = r.tail, true
		default:
			return nil, nil
		}
	}
}

// readSteps reads the files of a unit into its slot. It is the workers' part of a tree.
func readSteps(ctx context.Context, src source.TreeSource, u *unit) error {
	used := 0
	for i := range u.steps {
		s := &u.steps[i]
		if s.fail != "" || s.want == 0 && !s.emptyFile() {
			continue
		}
		if s.want == 0 {
			s.hidden(src)
			continue
		}
		buf := u.slot[used : used+s.want : used+s.want]
		used += s.want
		file := s.file
		if s.whole {
			f, err := open(src, s.item.Path)
			if err != nil {
				s.fail = err.Error()
				continue
			}
			file = f
		}
		err := s.read(ctx, file, buf)
		if s.whole {
			_ = file.Close() // it was only read
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// emptyFile tells whether a regular file says that it holds nothing.
func (s *step) emptyFile() bool {
	return s.whole && !s.item.Leave && s.item.Meta.Type == source.Regular && s.row == nil && s.link == "" && s.item.Err == ""
}

// hidden looks whether a file that says it is empty is: those of /proc, and of some file systems in user space, are not, and how much there
// is of them only reading to the end would tell.
func (s *step) hidden(src source.TreeSource) {
	f, err := open(src, s.item.Path)
	if err != nil {
		s.fail = err.Error()
		return
	}
	var b [1]byte
	if n, _ := f.ReadAt(b[:], 0); n > 0 {
		s.moved = "says it is empty and is not: its content is not kept"
	}
	_ = f.Close() // it was only read
}

func (s *step) read(ctx context.Context, file *openFile, buf []byte) error {
	n, gaps, err := source.ReadRange(ctx, file, 512, buf, s.off)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		gaps = append(gaps, source.Gap{Off: s.off + int64(n), Len: int64(s.want - n), Kind: source.Untried, Why: err.Error()})
		clear(buf[n:])
		n = s.want
	}
	s.run = run{data: buf[:n], gaps: gaps}
	if s.whole || s.last || n < s.want {
		s.moved = changedSince(s.item.Stamp, file)
	}
	return nil
}

func changedSince(was source.Stamp, file *openFile) string {
	now, err := file.Stamp()
	switch {
	case err != nil:
		return "could not be looked at after reading: " + err.Error()
	case now.Ino != was.Ino || now.Dev != was.Dev:
		return "was replaced by another file"
	case now.Size < was.Size:
		return fmt.Sprintf("shrank from %d to %d bytes while it was read", was.Size, now.Size)
	case now.Size > was.Size:
		return fmt.Sprintf("grew from %d to %d bytes while it was read", was.Size, now.Size)
	case now.MTime != was.MTime || now.CTime != was.CTime:
		return "was changed while it was read"
	}
	return ""
}
