package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"aslrescue/engine/artifact"
	"aslrescue/engine/restore"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// step is one item to be made, and where in its window the content lies.
type step struct {
	item     source.Item
	entry    *format.Entry // of a regular file
	from, to int           // stretches of the window
	more     bool          // the windows that follow, up to one that is last, hold nothing but the rest of this file
	err      error         // instead of an item: what hides a part of the directory
}

// treeFiller walks a tree of a snapshot and fills windows. It is one goroutine.
type treeFiller struct {
	r     *restorer
	ctx   context.Context
	p     place
	send  func(*window) bool
	w     *window
	names *linkNames
	stop  bool
}

// linkNames knows the files that have several names: a snapshot's entries say it of all names but the first.
type linkNames struct {
	id    map[string]uint64 // by the first name's path within the source
	count map[uint64]uint64 // names within what is restored
}

// tree restores a directory and all below it.
func (r *restorer) tree(ctx context.Context, p place, to string) error {
	return r.walk(ctx, p, to, p.entry, func(t *treeFiller) { t.dir(p.entry, "") })
}

// walk makes a tree whose root has the metadata of top, of what fill gives.
func (r *restorer) walk(ctx context.Context, p place, to string, top *format.Entry, fill func(*treeFiller)) error {
	names := &linkNames{map[string]uint64{}, map[uint64]uint64{}}
	if top == p.entry {
		if err := names.scan(ctx, p, p.entry, p.path); err != nil {
			return err
		}
	}
	w, err := restore.Tree(to, restore.TreeOptions{Merge: r.o.merge && top == p.entry, Workers: 2 * r.o.workers, Warn: r.warn})
	if err != nil {
		return err
	}
	a := newAhead(ctx, p.view, r.o.workers, func(send func(*window) bool) {
		t := &treeFiller{r: r, ctx: ctx, p: p, send: send, w: &window{}, names: names}
		t.put(step{item: t.item(top, "")})
		fill(t)
		t.put(step{item: source.Item{Leave: true}})
		t.flush()
	})
	defer a.stop()
	if err := r.build(a, p, w); err != nil {
		return errors.Join(err, w.Finish())
	}
	return w.Finish()
}

// scan collects the files below a directory that have several names. Damage shows again when they are restored.
func (l *linkNames) scan(ctx context.Context, p place, dir *format.Entry, path string) error {
	for e, err := range p.view.Dir(ctx, dir) {
		switch {
		case err != nil && !isLost(err):
			return err
		case err != nil:
		case e.Type == source.Dir:
			if err := l.scan(ctx, p, e, join(path, string(e.Name))); err != nil {
				return err
			}
		case len(e.Link) > 0:
			id := l.id[string(e.Link)]
			if id == 0 {
				id = uint64(len(l.id) + 1)
				l.id[string(e.Link)] = id
				if p.path == "" || strings.HasPrefix(string(e.Link), p.path+"/") {
					l.count[id]++ // the first name itself
				}
			}
			l.count[id]++
		}
	}
	return ctx.Err()
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// item is the entry as a walk of the file system would have given it. path is relative to what is restored.
func (t *treeFiller) item(e *format.Entry, path string) source.Item {
	it := source.Item{Path: path, Links: 1, Err: e.Err, Meta: source.Meta{
		Type: e.Type, Mode: e.Mode, UID: e.UID, GID: e.GID, MTime: source.Time{Sec: e.MSec, Nsec: e.MNsec}, Size: e.Size, Major: e.Major, Minor: e.Minor,
		LinkTarget: e.Target, Sparse: e.Sparse,
	}}
	for _, x := range e.Xattrs {
		it.Meta.Xattrs = append(it.Meta.Xattrs, source.Xattr{Name: string(x.Name), Value: x.Value})
	}
	if it.Err == "" && e.Changed != "" {
		it.Err = e.Changed
	}
	first := string(e.Link)
	if first == "" {
		first = join(t.p.path, path)
	}
	if id := t.names.id[first]; id != 0 && e.Type != source.Dir {
		it.Stamp.Ino, it.Links = id, t.names.count[id]
	}
	return it
}

func (t *treeFiller) dir(dir *format.Entry, path string) {
	for e, err := range t.p.view.Dir(t.ctx, dir) {
		switch {
		case err != nil && !isLost(err):
			t.fail(err)
		case err != nil:
			t.put(step{item: source.Item{Path: path}, err: err})
		default:
			t.entry(e, join(path, string(e.Name)))
		}
		if t.stop {
			return
		}
	}
}

func (t *treeFiller) entry(e *format.Entry, path string) {
	it := t.item(e, path)
	switch {
	case e.Type == source.Dir:
		t.put(step{item: it})
		t.dir(e, path)
		t.put(step{item: source.Item{Path: path, Leave: true}})
	case e.Type == source.Regular && len(e.Link) == 0:
		t.file(e, it)
	default:
		t.put(step{item: it, entry: e})
	}
}

// file adds a file with its content. A file whose content does not fit goes on in windows of its own.
func (t *treeFiller) file(e *format.Entry, it source.Item) {
	s := step{item: it, entry: e, from: len(t.w.content)}
	began := false
	for page, err := range t.p.view.FilePages(t.ctx, e) {
		if err != nil && !isLost(err) {
			t.fail(err)
			return
		}
		if err != nil && page == nil { // nothing is known of it
			t.r.note(missing{it.Path, 0, e.Size, "damaged", err.Error()})
		}
		for _, st := range page {
			if st.Kind != source.Data {
				continue
			}
			if t.w.full() {
				if !began {
					s.to, s.more, began = len(t.w.content), true, true
					t.put(s)
				}
				t.flush()
			}
			t.w.add(st)
		}
		if err != nil || hasGaps(page) {
			t.r.gaps(it.Path, page, err)
		}
		if t.stop {
			return
		}
	}
	if began {
		t.w.last = true
		t.flush()
		return
	}
	s.to = len(t.w.content)
	t.put(s)
}

// fail ends the work with an error that concerns all of it.
func (t *treeFiller) fail(err error) {
	t.w.content, t.w.err = nil, err
	t.flush()
	t.stop = true
}

func hasGaps(page []store.Stretch) bool {
	for _, st := range page {
		if st.Kind != source.Data && st.Kind != source.Zero {
			return true
		}
	}
	return false
}

func (r *restorer) gaps(path string, page []store.Stretch, err error) {
	sift(path, page, err, func(store.Stretch) bool { return true }, r.note)
}

func (t *treeFiller) put(s step) {
	t.w.steps = append(t.w.steps, s)
	if (t.w.full() || len(t.w.steps) >= 512) && !s.more {
		t.flush()
	}
}

func (t *treeFiller) flush() {
	if !t.stop {
		t.stop = !t.send(t.w)
	}
	t.w = &window{}
}

// build makes what the windows say.
func (r *restorer) build(a *ahead, p place, w *restore.TreeWriter) error {
	for {
		win, err := a.next()
		if err != nil || win == nil {
			return errors.Join(err, r.failure())
		}
		for _, s := range win.steps {
			if err := r.step(a, p, w, win, s); err != nil {
				return err
			}
		}
		a.free(win)
	}
}

// step makes one item, at once or beside others. An error may be one of an item before it.
func (r *restorer) step(a *ahead, p place, w *restore.TreeWriter, win *window, s step) error {
	if s.err != nil {
		r.note(missing{Path: or(s.item.Path, p.name()) + "/…", Kind: "damaged", Why: s.err.Error()})
		return nil
	}
	if !s.item.Leave {
		r.files++
	}
	if s.more { // what follows of its content comes here
		return errors.Join(r.long(a, p, w, win, s), r.failure())
	}
	win.use()
	t := &target{}
	w.Queue(s.item, func(f io.WriterAt) error { t.f = f; return r.content(a, p, t, win, s) }, func(err error) {
		a.free(win)
		r.fail(r.outcome(s, t, err))
	})
	return r.failure()
}

// long makes a file whose content goes on in the windows that follow.
func (r *restorer) long(a *ahead, p place, w *restore.TreeWriter, win *window, s step) error {
	t := &target{}
	err := w.Put(s.item, func(f io.WriterAt) error { t.f = f; return r.content(a, p, t, win, s) })
	if t.f == nil { // it was kept, or could not be made: the rest of it is in the way
		if err := r.skip(a); err != nil {
			return err
		}
	}
	return r.outcome(s, t, err)
}

// outcome takes note of what no file can be, and passes what ends the work.
func (r *restorer) outcome(s step, t *target, err error) error {
	if t.err != nil && err == nil { // no file of this size, or no room: the tree will not be whole
		return fmt.Errorf("restore %s: %w", s.item.Path, t.err)
	}
	if errors.Is(err, artifact.ErrDamaged) {
		r.note(missing{Path: s.item.Path, Kind: "damaged", Why: err.Error()})
		return nil
	}
	return err
}

// fail remembers the first error that ends the work.
func (r *restorer) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = err
	}
}

// failure is what ends the work, if anything does.
func (r *restorer) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// target is the file at hand, and remembers the first write that failed.
type target struct {
	f   io.WriterAt
	err error
}

func (t *target) WriteAt(b []byte, off int64) (int, error) {
	n, err := t.f.WriteAt(b, off)
	if err != nil && t.err == nil {
		t.err = err
	}
	return n, err
}

func (r *restorer) skip(a *ahead) error {
	for {
		win, err := a.next()
		if err != nil || win == nil || win.last {
			return err
		}
		a.free(win)
	}
}

// content writes what a file holds.
func (r *restorer) content(a *ahead, p place, f io.WriterAt, win *window, s step) error {
	if s.entry == nil {
		return nil
	}
	if len(s.entry.Link) > 0 {
		return r.linked(a.ctx, p, f, s)
	}
	if len(s.entry.Inline) > 0 {
		_, err := f.WriteAt(s.entry.Inline, 0)
		r.m.at(r.done.Add(int64(len(s.entry.Inline))), r.total)
		return err
	}
	if err := r.write(f, s.item.Path, win, s.from, s.to); err != nil || !s.more {
		return err
	}
	for {
		next, err := a.next()
		if err != nil {
			return err
		}
		if next == nil {
			return fmt.Errorf("restore %s: its content ended early", s.item.Path)
		}
		err = r.write(f, s.item.Path, next, 0, len(next.content))
		last := next.last
		a.free(next)
		if err != nil || last {
			return err
		}
	}
}

func (r *restorer) write(f io.WriterAt, path string, win *window, from, to int) error {
	for i := from; i < to; i++ {
		st := win.content[i]
		data, err := win.stretch(i)
		if err != nil {
			r.note(missing{path, st.Off, st.Len, "damaged", err.Error()})
			continue
		}
		if _, err := f.WriteAt(data, st.Off); err != nil {
			return err
		}
		r.m.at(r.done.Add(st.Len), r.total)
	}
	return nil
}

// linked writes the content of a further name of a file that could not become a hard link, or whose first name is not restored. That is rare,
// so nothing was fetched ahead for it.
func (r *restorer) linked(ctx context.Context, p place, f io.WriterAt, s step) error {
	e, err := place{view: p.view, src: p.src, entry: s.entry}.content(ctx)
	if err != nil {
		if isLost(err) {
			r.note(missing{s.item.Path, 0, s.item.Meta.Size, "damaged", err.Error()})
			return nil
		}
		return err
	}
	if len(e.Inline) > 0 {
		_, err := f.WriteAt(e.Inline, 0)
		return err
	}
	for page, err := range p.view.FilePages(ctx, e) {
		if err != nil && !isLost(err) {
			return err
		}
		r.gaps(s.item.Path, page, err)
		ferr := p.view.Fetch(ctx, page, func(st store.Stretch, data []byte) error {
			_, err := f.WriteAt(data, st.Off)
			r.m.at(r.done.Add(st.Len), r.total)
			return err
		}, func(st store.Stretch, err error) error {
			if !isLost(err) {
				return err
			}
			r.note(missing{s.item.Path, st.Off, st.Len, "damaged", err.Error()})
			return nil
		})
		if ferr != nil {
			return ferr
		}
	}
	return ctx.Err()
}
