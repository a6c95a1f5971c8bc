package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"

	"aslrescue/backends/local"
	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
	"aslrescue/engine/vfs/memfs"
)

const home = "home"

// newPlace is a folder in memory ready to hold a store.
func newPlace(t *testing.T) (*memfs.FS, store.Backend) {
	t.Helper()
	fsys := memfs.New()
	b, err := local.Create(fsys, "memory")
	if err != nil {
		t.Fatal(err)
	}
	return fsys, b
}

// newStore is an empty store in memory.
func newStore(t *testing.T) (*memfs.FS, *store.Store) {
	t.Helper()
	fsys, b := newPlace(t)
	s, err := store.Create(t.Context(), b, store.Options{Domain: home})
	if err != nil {
		t.Fatal(err)
	}
	return fsys, s
}

// reopen opens what lies on a medium, as another process would.
func reopen(t *testing.T, fsys *memfs.FS) *store.Store {
	t.Helper()
	b, err := local.Open(fsys, "memory")
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), b, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func say(ctx context.Context, s *store.Store, n int) error {
	return s.ReportVerified(ctx, format.Verified{All: true, Clock: int64(n)})
}

func said(s *store.Store) (list []int64) {
	for _, v := range s.Verifications() {
		list = append(list, v.Clock)
	}
	return list
}

func partFile(n uint64) string { return fmt.Sprintf("logs/%s/%012d.aol", home, n) }

func content(t *testing.T, fsys *memfs.FS, name string) []byte {
	t.Helper()
	f, err := fsys.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// replace puts other bytes into a file of a copy of a medium; nil takes it away.
func replace(t *testing.T, fsys *memfs.FS, name string, data []byte) *memfs.FS {
	t.Helper()
	after := fsys.CrashAt(fsys.Ops(), memfs.Pattern{Keep: memfs.All})
	if err := after.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if data == nil {
		return after
	}
	f, err := after.CreateExcl(name, 0o444)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	return after.CrashAt(after.Ops(), memfs.Pattern{Keep: memfs.All})
}

// TestManyAppend: of many writers at once each gets its records in, once, and all see one order.
func TestManyAppend(t *testing.T) {
	fsys, _ := newStore(t)
	const writers, each = 8, 25
	stores := make([]*store.Store, writers)
	var wg sync.WaitGroup
	for i := range stores {
		stores[i] = reopen(t, fsys)
		wg.Go(func() {
			for j := range each {
				if err := say(t.Context(), stores[i], i*each+j); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want := said(reopen(t, fsys))
	if sorted := slices.Sorted(slices.Values(want)); len(sorted) != writers*each || sorted[0] != 0 || len(slices.Compact(sorted)) != writers*each {
		t.Fatalf("%d records: %v", len(want), want)
	}
	for i, s := range stores {
		if err := s.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(said(s), want) {
			t.Errorf("writer %d saw another order", i)
		}
	}
}

// TestManyCreate: of many that make a store at once, all open the same one.
func TestManyCreate(t *testing.T) {
	_, b := newPlace(t)
	ids := make([]format.ID, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			s, err := store.Create(t.Context(), b, store.Options{Domain: home})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = s.ID()
		})
	}
	wg.Wait()
	if len(slices.Compact(ids)) != 1 || ids[0] == (format.ID{}) {
		t.Errorf("stores %x", ids)
	}
}

// watched counts what is read and hides names from lists.
type watched struct {
	store.Backend
	opened atomic.Int64
	hide   func(name string) bool
	read   func(name string, data io.ReadCloser) io.ReadCloser
}

func (w *watched) Open(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	w.opened.Add(1)
	r, err := w.Backend.Open(ctx, name, off, n)
	if err == nil && w.read != nil {
		r = w.read(name, r)
	}
	return r, err
}

func (w *watched) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range w.Backend.List(ctx, prefix, after) {
			if err == nil && w.hide != nil && w.hide(e.Name) {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// TestCheckpoint: opening reads the newest checkpoint and what follows, finds what a list does not show, and comes to the
// state that reading everything gives.
func TestCheckpoint(t *testing.T) {
	fsys, s := newStore(t)
	const records = 2*format.CheckpointEvery + 40
	for i := range records {
		if err := say(t.Context(), s, i); err != nil {
			t.Fatal(err)
		}
	}
	seq, part := s.Position()
	hideFrom := func(n uint64) func(string) bool {
		return func(name string) bool { got, ok := store.PartNumber(name); return ok && got >= n }
	}
	for what, tt := range map[string]struct {
		hide func(string) bool
		most int64
	}{
		"everything is listed":             {nil, 100},
		"the end is not listed":            {hideFrom(2*format.CheckpointEvery + 10), 100},
		"the last checkpoint is not":       {hideFrom(2 * format.CheckpointEvery), format.CheckpointEvery + 100},
		"only the first part is listed":    {hideFrom(2), records + 100},
		"one in the middle is not listed":  {func(n string) bool { return strings.HasSuffix(n, "1030.aol") }, 100},
		"a later one stands by itself too": {hideFrom(format.CheckpointEvery + 1), format.CheckpointEvery + 100},
	} {
		b, err := local.Open(fsys, "memory", local.ReadOnly())
		if err != nil {
			t.Fatal(err)
		}
		w := &watched{Backend: b, hide: tt.hide}
		again, err := store.Open(t.Context(), w, store.Options{})
		if err != nil || again.Broken() != nil {
			t.Fatalf("%s: %v, %v", what, err, again.Broken())
		}
		if gotSeq, gotPart := again.Position(); gotSeq != seq || gotPart != part || !slices.Equal(said(again), said(s)) || again.ID() != s.ID() {
			t.Errorf("%s: at record %d in part %d, want %d in %d", what, gotSeq, gotPart, seq, part)
		}
		if n := w.opened.Load(); n > tt.most {
			t.Errorf("%s: %d objects were read", what, n)
		}
	}
	count := 0
	for r, err := range store.Log(t.Context(), s.Backend(), home) {
		if err != nil {
			t.Fatal(err)
		}
		if count++; r.Seq != uint64(count) {
			t.Fatalf("record %d comes as number %d", r.Seq, count)
		}
	}
	if uint64(count) != seq {
		t.Errorf("%d records, want %d", count, seq)
	}
}

// TestDamagedCheckpoint: one that cannot be used is no reason to forget what it says.
func TestDamagedCheckpoint(t *testing.T) {
	fsys, s := newStore(t)
	for i := range format.CheckpointEvery + 3 {
		if err := say(t.Context(), s, i); err != nil {
			t.Fatal(err)
		}
	}
	name := partFile(format.CheckpointEvery)
	old := content(t, fsys, name)
	for _, at := range []int{0, 20, 60, len(old) / 2, len(old) - 1} {
		data := slices.Clone(old)
		data[at] ^= 4
		again := reopen(t, replace(t, fsys, name, data))
		if again.Broken() == nil || len(said(again)) != format.CheckpointEvery-2 {
			t.Errorf("byte %d: broken %v, %d records", at, again.Broken(), len(said(again)))
		}
	}
	for _, n := range []uint64{1, 2, 500, format.CheckpointEvery - 1} { // opening does not need them, reading everything finds it
		hurt := replace(t, fsys, partFile(n), nil)
		again := reopen(t, hurt)
		if again.Broken() != nil || !slices.Equal(said(again), said(s)) {
			t.Errorf("without part %d: %v", n, again.Broken())
		}
		last := uint64(0)
		for r, err := range store.Log(t.Context(), again.Backend(), home) {
			if err != nil {
				break
			}
			last = r.Part
		}
		if last != n-1 {
			t.Errorf("without part %d: the log goes to part %d", n, last)
		}
	}
}

// TestTornEnd: however the last part is cut, what stands before it counts, the next writer goes on from there without touching it,
// and everybody reads the same afterwards, also if that happens again.
func TestTornEnd(t *testing.T) {
	fsys, s := newStore(t)
	for i := range 3 {
		if err := say(t.Context(), s, i); err != nil {
			t.Fatal(err)
		}
	}
	_, last := s.Position()
	old := content(t, fsys, partFile(last))
	cases := 0
	for n := range len(old) {
		for _, zeros := range []bool{false, true} {
			torn := slices.Clone(old[:n])
			if zeros {
				if torn = append(torn, make([]byte, len(old)-n)...); len(old)-n < 8 {
					continue // fewer may be the end of a hash
				}
			}
			cases++
			after := replace(t, fsys, partFile(last), torn)
			after.Sealed()
			again := reopen(t, after)
			if again.Broken() != nil || !slices.Equal(said(again), []int64{0, 1}) {
				t.Fatalf("cut to %d bytes (zeros %v): broken %v, %v", n, zeros, again.Broken(), said(again))
			}
			if err := say(t.Context(), again, 7); err != nil {
				t.Fatalf("cut to %d bytes (zeros %v): %v", n, zeros, err)
			}
			if err := say(t.Context(), again, 8); err != nil {
				t.Fatal(err)
			}
			third := reopen(t, after)
			if third.Broken() != nil || !slices.Equal(said(third), []int64{0, 1, 7, 8}) {
				t.Fatalf("cut to %d bytes (zeros %v), and gone on: broken %v, %v", n, zeros, third.Broken(), said(third))
			}
			if v := after.Violations(); len(v) > 0 || string(content(t, after, partFile(last))) != string(torn) {
				t.Fatalf("the torn part was touched: %q", v)
			}
			if n%16 == 0 { // the one that supersedes is torn as well
				tornTwice(t, after, last+1)
			}
		}
	}
	t.Logf("torn ends: %d", cases)
}

func tornTwice(t *testing.T, fsys *memfs.FS, last uint64) {
	t.Helper()
	// Nothing may stand behind it.
	fsys = replace(t, replace(t, fsys, partFile(last+1), nil), partFile(last), content(t, fsys, partFile(last))[:45])
	s := reopen(t, fsys)
	if s.Broken() != nil || !slices.Equal(said(s), []int64{0, 1}) {
		t.Fatalf("torn twice: broken %v, %v", s.Broken(), said(s))
	}
	if err := say(t.Context(), s, 9); err != nil {
		t.Fatal(err)
	}
	if s = reopen(t, fsys); s.Broken() != nil || !slices.Equal(said(s), []int64{0, 1, 9}) {
		t.Fatalf("torn twice and gone on: broken %v, %v", s.Broken(), said(s))
	}
}

// TestTornMiddle: a cut part that the next one does not supersede is damage, not a crash.
func TestTornMiddle(t *testing.T) {
	fsys, s := newStore(t)
	for i := range 4 {
		if err := say(t.Context(), s, i); err != nil {
			t.Fatal(err)
		}
	}
	_, last := s.Position()
	for n := uint64(1); n < last; n++ {
		old := content(t, fsys, partFile(n))
		for _, data := range [][]byte{nil, {}, old[:len(old)-1], old[:len(old)/2], make([]byte, len(old)), append(slices.Clone(old), 0)} {
			again := reopen(t, replace(t, fsys, partFile(n), data))
			if !errors.Is(again.Broken(), store.ErrBroken) {
				t.Errorf("part %d with %d bytes: %v", n, len(data), again.Broken())
			}
			if err := say(t.Context(), again, 9); !errors.Is(err, artifact.ErrReadOnly) {
				t.Errorf("part %d with %d bytes: an append gave %v", n, len(data), err)
			}
		}
	}
}

// TestUnsteadyEnd: an end that reads differently each time is an error, not the end.
func TestUnsteadyEnd(t *testing.T) {
	fsys, s := newStore(t)
	if err := say(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	_, last := s.Position()
	b, err := local.Open(fsys, "memory")
	if err != nil {
		t.Fatal(err)
	}
	for _, sizes := range [][3]int64{{51, 51, 51}, {51, 51, 52}, {51, 52, 51}, {52, 51, 51}, {51, 52, 53}, {1 << 20, 51, 51}} {
		reads := 0
		w := &watched{Backend: b, read: func(name string, r io.ReadCloser) io.ReadCloser {
			if n, ok := store.PartNumber(name); !ok || n != last {
				return r
			}
			reads++
			return io.NopCloser(io.LimitReader(r, sizes[min(reads, 3)-1]))
		}}
		// A part that reads whole at first is taken as it is.
		fine := sizes == [3]int64{51, 51, 51} || sizes[0] == 1<<20
		if again, err := store.Open(t.Context(), w, store.Options{}); fine != (err == nil) || errors.Is(err, store.ErrBroken) {
			t.Errorf("sizes %d: %v, %v", sizes, again, err)
		}
	}
}

// TestForeignParts: a part of another store, of another domain, or of another time is damage.
func TestForeignParts(t *testing.T) {
	fsys, s := newStore(t)
	other, o := newStore(t)
	for i := range 3 {
		if err := errors.Join(say(t.Context(), s, i), say(t.Context(), o, i)); err != nil {
			t.Fatal(err)
		}
	}
	_, last := s.Position()
	for what, hurt := range map[string]*memfs.FS{
		"of another store":            replace(t, fsys, partFile(last), content(t, other, partFile(last))),
		"of another store at the end": replace(t, fsys, partFile(last+1), content(t, other, partFile(last))),
		"an older one at the end":     replace(t, fsys, partFile(last+1), content(t, fsys, partFile(2))),
		"the same one again":          replace(t, fsys, partFile(last+1), content(t, fsys, partFile(last))),
		"of another store, the first": replace(t, fsys, partFile(1), content(t, other, partFile(1))),
	} {
		again := reopen(t, hurt)
		if !errors.Is(again.Broken(), store.ErrBroken) {
			t.Errorf("%s: %v", what, again.Broken())
		}
		if err := say(t.Context(), again, 9); !errors.Is(err, artifact.ErrReadOnly) {
			t.Errorf("%s: an append gave %v", what, err)
		}
	}
}

// TestDomains: several share a place and do not see each other.
func TestDomains(t *testing.T) {
	fsys, s := newStore(t)
	o, err := store.Create(t.Context(), s.Backend(), store.Options{Domain: "home-2"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(say(t.Context(), s, 1), say(t.Context(), o, 2)); err != nil {
		t.Fatal(err)
	}
	b, err := local.Open(fsys, "memory")
	if err != nil {
		t.Fatal(err)
	}
	if list, err := store.Domains(t.Context(), b); err != nil || !slices.Equal(list, []string{"home", "home-2"}) {
		t.Errorf("%q, %v", list, err)
	}
	for domain, want := range map[string]int64{"home": 1, "home-2": 2} {
		again, err := store.Open(t.Context(), b, store.Options{Domain: domain})
		if err != nil || !slices.Equal(said(again), []int64{want}) || again.Domain() != domain {
			t.Errorf("%s: %v", domain, err)
		}
	}
	if _, err := store.Open(t.Context(), b, store.Options{}); err == nil {
		t.Error("which of two is not said, and one is opened")
	}
	if _, err := store.Open(t.Context(), b, store.Options{Domain: "away"}); !errors.Is(err, store.ErrNoStore) {
		t.Errorf("a domain that is not there: %v", err)
	}
	for _, name := range []string{"", ".", "..", "-x", "UP", "a/b", strings.Repeat("x", 64), "ä"} {
		if _, err := store.Create(t.Context(), b, store.Options{Domain: name}); err == nil {
			t.Errorf("domain %q is made", name)
		}
	}
	_, empty := newPlace(t)
	if _, err := store.Open(t.Context(), empty, store.Options{}); !errors.Is(err, store.ErrNoStore) {
		t.Errorf("an empty place: %v", err)
	}
}

// TestPartHeads: a part that verifies in itself and fits the chain must also say that it belongs here.
func TestPartHeads(t *testing.T) {
	fsys, s := newStore(t)
	if err := say(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	seq, last := s.Position()
	var hash format.Hash
	for r, err := range store.Log(t.Context(), s.Backend(), home) {
		if err != nil {
			t.Fatal(err)
		}
		hash = r.Hash
	}
	build := func(after format.Hash, seq uint64, change func(*format.PartHead)) []byte {
		head := format.PartHead{Format: format.Version, Store: s.ID(), Domain: home, Part: last + 1, Nonce: format.ID{9}, Prev: after}
		change(&head)
		payload, err := format.Marshal(head)
		if err != nil {
			t.Fatal(err)
		}
		p := format.NewPart(seq+1, after)
		p.Add(format.PartHeadType, payload)
		return p.Bytes()
	}
	for what, change := range map[string]func(*format.PartHead){
		"":                               func(*format.PartHead) {},
		"of another store":               func(h *format.PartHead) { h.Store[0]++ },
		"of another domain":              func(h *format.PartHead) { h.Domain = "away" },
		"of another number":              func(h *format.PartHead) { h.Part++ },
		"after another record":           func(h *format.PartHead) { h.Prev[0]++ },
		"supersedes what is whole":       func(h *format.PartHead) { h.Supersedes = last },
		"of a format nobody has written": func(h *format.PartHead) { h.Format++ },
	} {
		hurt := replace(t, fsys, partFile(last+1), build(hash, seq, change))
		b, err := local.Open(hurt, "memory")
		if err != nil {
			t.Fatal(err)
		}
		again, err := store.Open(t.Context(), b, store.Options{})
		switch {
		case what == "":
			if err != nil || again.Broken() != nil {
				t.Errorf("a good part: %v, %v", err, again.Broken())
			}
		case err == nil && again.Broken() == nil:
			t.Errorf("a part %s passes", what)
		}
	}
	wrong := hash
	wrong[0]++
	if again := reopen(t, replace(t, fsys, partFile(last+1), build(wrong, seq, func(*format.PartHead) {}))); !errors.Is(again.Broken(), store.ErrBroken) {
		t.Errorf("a part that chains to a record that there is not, and says so, passes: %v", again.Broken())
	}
	// After a torn part only one that supersedes it counts.
	whole := build(hash, seq, func(*format.PartHead) {})
	torn := replace(t, fsys, partFile(last+1), whole[:len(whole)-9])
	for supersedes, good := range map[uint64]bool{last + 1: true, 0: false, last: false, last + 2: false} {
		next := build(hash, seq, func(h *format.PartHead) { h.Part, h.Supersedes = last+2, supersedes })
		again := reopen(t, replace(t, torn, partFile(last+2), next))
		if good != (again.Broken() == nil) {
			t.Errorf("part %d is torn, the next says it supersedes %d: %v", last+1, supersedes, again.Broken())
		}
	}
}

// TestTornOnlyInTheCache: a part that the cache shows cut and the medium otherwise is no end of the log.
func TestTornOnlyInTheCache(t *testing.T) {
	_, s := newStore(t)
	if err := say(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	_, last := s.Position()
	w := &uncached{Backend: s.Backend(), part: last, cut: 51}
	again, err := store.Open(t.Context(), w, store.Options{})
	if err == nil {
		t.Errorf("the log ends before what the medium holds: %v", said(again))
	}
	if w.asked == 0 {
		t.Error("the medium was not asked")
	}
}

// uncached is a place whose cache shows a part of the log cut.
type uncached struct {
	store.Backend
	part  uint64
	cut   int64
	asked int
}

func (u *uncached) Open(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	r, err := u.Backend.Open(ctx, name, off, n)
	if k, ok := store.PartNumber(name); err != nil || !ok || k != u.part {
		return r, err
	}
	if store.WantsUncached(ctx) {
		u.asked++
		return r, nil
	}
	return io.NopCloser(io.LimitReader(r, u.cut)), nil
}

// TestReadErrorIsNoVerdict: a part that cannot be read now is neither the end of the log nor damage.
func TestReadErrorIsNoVerdict(t *testing.T) {
	_, s := newStore(t)
	for i := range 3 {
		if err := say(t.Context(), s, i); err != nil {
			t.Fatal(err)
		}
	}
	_, last := s.Position()
	for n := uint64(1); n <= last; n++ {
		w := &watched{Backend: s.Backend(), read: func(name string, r io.ReadCloser) io.ReadCloser {
			if k, ok := store.PartNumber(name); ok && k == n {
				return io.NopCloser(iotest.ErrReader(syscall.EIO))
			}
			return r
		}}
		again, err := store.Open(t.Context(), w, store.Options{})
		if !errors.Is(err, syscall.EIO) || errors.Is(err, store.ErrBroken) || errors.Is(err, artifact.ErrDamaged) {
			t.Errorf("part %d cannot be read: %v, %v", n, again, err)
		}
	}
}

// TestEndRemoved: a log whose newest parts were removed opens read-only where a note is left that proves it, and not as an older store. Where none
// is left it cannot be told from a log that ends there.
func TestEndRemoved(t *testing.T) {
	fsys, s := newStore(t)
	for id := range byte(3) {
		snapshot(t, s, id+1, fmt.Sprint("artifact ", id))
	}
	var record [4]uint64 // the part with each snapshot
	for r, err := range store.Log(t.Context(), s.Backend(), home) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Type == format.SnapshotType {
			record[0]++
			record[record[0]] = r.Part
		}
	}
	_, last := s.Position()
	for number := uint64(1); number <= 3; number++ {
		cut := fsys
		for part := record[number]; part <= last; part++ {
			cut = replace(t, cut, partFile(part), nil)
		}
		again := reopen(t, cut)
		if !errors.Is(again.Broken(), store.ErrBroken) || len(again.Snapshots()) != int(number-1) {
			t.Errorf("from snapshot %d on all parts are gone: %d snapshots, %v", number, len(again.Snapshots()), again.Broken())
		}
		if err := say(t.Context(), again, 1); !errors.Is(err, artifact.ErrReadOnly) {
			t.Errorf("an append gave %v", err)
		}
		for n := number; n <= 3; n++ {
			cut = replace(t, cut, store.NoteName(home, n), nil)
		}
		if again = reopen(t, cut); again.Broken() != nil {
			t.Errorf("without the notes of %d and later: %v", number, again.Broken())
		}
	}
}
