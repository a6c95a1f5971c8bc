package intake_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"aslrescue/engine/artifact"
	"aslrescue/engine/chunk"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/source/sourcetest"
	"aslrescue/engine/vfs/memfs"
)

// sealedFiles are the blocks and segments of a store.
func sealedFiles(fsys *memfs.FS) (map[string]string, error) {
	p := &specimen{fsys: fsys, files: map[string][]byte{}}
	err := p.walk(".")
	all := map[string]string{}
	for name, data := range p.files {
		if strings.HasPrefix(name, "blocks/") || strings.HasPrefix(name, "segments/") {
			all[name] = string(data)
		}
	}
	return all, err
}

// TestSameBlocks: the same sources into the same store give the same blocks and segments, byte by byte, whatever the number
// of workers and the memory; what holds no compressed bytes has the same roots in every way.
func TestSameBlocks(t *testing.T) {
	large := onlyImages("large", mixed(1, 3<<20), noise(2, 18<<20), words(3, 5<<20))
	for _, w := range []*world{newWorld("all kinds", 1, 300_000), large, manyFiles()} {
		root := ""
		for _, c := range []intake.Compression{intake.None, intake.Fast} {
			var want map[string]string
			for i, try := range []struct {
				workers int
				budget  int64
			}{{1, intake.MinBudget}, {8, intake.MinBudget}, {8, 1 << 30}, {2, intake.DefaultBudget}} {
				fsys, err := newMedium(memfs.Options{})
				if err != nil {
					t.Fatal(err)
				}
				o := intake.Options{Compression: c, Workers: try.workers, Budget: try.budget, ForceAfter: -1, Chunk: tiny()}
				if w == large {
					o.Chunk = chunk.Default()
				}
				rep := mustComplete(t, fsys, w, o)
				if root == "" {
					root = roots(rep.Manifest)
				}
				if roots(rep.Manifest) != root {
					t.Errorf("%s, %s, %+v: other roots", w.label, c, try)
				}
				got, err := sealedFiles(fsys)
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					want = got
				}
				if !maps.Equal(got, want) {
					t.Errorf("%s, %s, %+v: %d other objects:\n%q\n%q", w.label, c, try, len(got), slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
				}
			}
			if w == large && len(want) < 4 {
				t.Errorf("only %d objects", len(want))
			}
		}
	}
}

// manyFiles is a tree whose log has pages, with a long file and folders in an order that is not that of paths.
func manyFiles() *world {
	var entries []sourcetest.Entry
	for i := range uint64(2300) {
		entries = append(entries, sourcetest.Entry{Path: fmt.Sprintf("d%d/f%d", i%7, i), Content: noise(i, 1025+int(i%5))})
	}
	entries = append(entries, sourcetest.Entry{Path: "d3", Meta: source.Meta{Type: source.Dir, Mode: 0o700}},
		sourcetest.Entry{Path: "d3-", Content: words(1, 5000)}, sourcetest.Entry{Path: "d3.long", Content: mixed(5, 200_000)},
		sourcetest.Entry{Path: "d5/f12 long", Content: mixed(6, 100_000)})
	w := &world{label: "many files", truth: map[string]string{}}
	w.addTree("tree", slices.DeleteFunc(slices.Clone(entries), func(e sourcetest.Entry) bool { return e.Meta.Type == source.Dir }))
	w.sources = func() []source.Source { return []source.Source{sourcetest.NewTree("tree", entries)} }
	return w
}

// TestInterrupted: stopped or killed at any moment, once or again and again, an intake goes on to the roots it would have had,
// and nothing that was acknowledged is stored again.
func TestInterrupted(t *testing.T) {
	kinds, many := newWorld("all kinds", 1, 100_000), manyFiles()
	lazy := hasty(intake.None)
	lazy.ForceAfter = -1
	full := segmented() // a unit is more than a block holds
	full.ForceAfter = -1
	cases := 0
	for _, c := range []struct {
		w      *world
		o      intake.Options
		stride int
	}{{onlyImages("large", noise(2, 20<<20)), full, 1}, {kinds, hasty(intake.None), 3}, {kinds, hasty(intake.Fast), 11}, {kinds, lazy, 5}, {many, hasty(intake.None), 101}, {sparseWorld(), segmented(), 71}} {
		base, err := newMedium(memfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		k := &witness{}
		o := c.o
		o.Events = k.event
		clean := base.CrashAt(0, memfs.Pattern{})
		want := roots(mustComplete(t, clean, c.w, o).Manifest)
		_, used, err := eachN(t.Context(), 1, c.stride, func(n int) (bool, error) {
			if n > k.seen {
				return false, nil
			}
			for _, soft := range []bool{true, false} {
				if err := interruptAt(t.Context(), base.CrashAt(0, memfs.Pattern{}), c.w, c.o, n, soft, want); err != nil {
					return true, fmt.Errorf("%s at event %d, stopped %v: %w", c.w.label, n, soft, err)
				}
			}
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		cases += 2 * used
	}
	t.Logf("interruptions: %d", cases)
}

// segmented cuts as by default, so that a segment ends within an image of little content.
func segmented() intake.Options {
	o := hasty(intake.None)
	o.Chunk = chunk.Default()
	return o
}

func interruptAt(ctx context.Context, fsys *memfs.FS, w *world, o intake.Options, at int, soft bool, want string) error {
	r := rand.New(rand.NewPCG(uint64(at), 0))
	for try := 0; ; try++ {
		cut, cancel := context.WithCancel(ctx)
		k := &witness{fsys: fsys}
		k.at = func(n int) {
			if n == at && try < 2 {
				cancel()
			}
		}
		o.Events, o.Stop = k.event, nil
		o.Workers = 1 + r.IntN(4)
		run := cut
		if soft {
			o.Stop, run = cut, ctx
		}
		rep, err := oneIntake(run, fsys, w, o)
		cancel()
		s, ierr := inspect(ctx, fsys, expect{acks: k.until(fsys.Ops()), worlds: worlds(w), oneCopy: true, readOnly: true})
		if ierr != nil {
			return fmt.Errorf("run %d, which gave %v: %w", try+1, err, ierr)
		}
		switch {
		case err == nil && rep.Result == event.Complete:
			if roots(rep.Manifest) != want {
				return errors.New("other roots")
			}
			return nil
		case soft && errors.Is(err, intake.ErrStopped), !soft && errors.Is(err, context.Canceled):
		default:
			return fmt.Errorf("run %d: %w", try+1, err)
		}
		if len(s.Unfinished()) == 0 && len(s.Snapshots()) == 1 { // killed after the end
			v, err := s.At(ctx, 1)
			if err == nil && roots(v.Manifest) != want {
				err = errors.New("other roots")
			}
			return err
		}
	}
}

// stoppedHalf takes a world of at least a MiB in until some blocks of it are sealed: few more are under way then.
func stoppedHalf(t *testing.T, fsys *memfs.FS, w *world) {
	t.Helper()
	stop, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := hasty(intake.None)
	o.Stop = stop
	o.Events = func(e event.Event) {
		if b, ok := e.(event.BlockSealed); ok && b.Blocks == 12 {
			cancel()
		}
	}
	if _, err := oneIntake(t.Context(), fsys, w, o); !errors.Is(err, intake.ErrStopped) {
		t.Fatal(err)
	}
}

// TestDamageWhileInterrupted: a block that an earlier run stored and that went bad meanwhile is found by the run that ends the
// intake, and stored again by the next.
func TestDamageWhileInterrupted(t *testing.T) {
	w := onlyImages("images", noise(3, 1<<20))
	fsys, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	stoppedHalf(t, fsys, w)
	s, err := openStore(fsys)
	if err != nil {
		t.Fatal(err)
	}
	bad := s.Unfinished()[0].Blocks[1].ID.String()
	if err := fsys.Damage("blocks/"+bad[:2]+"/"+bad, 1000); err != nil {
		t.Fatal(err)
	}
	rep, err := oneIntake(t.Context(), fsys, w, hasty(intake.None))
	if !errors.Is(err, artifact.ErrDamaged) || rep.Result != event.Failed || rep.Verified || rep.Resumed == 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	rep = mustComplete(t, fsys, w, hasty(intake.None))
	if s, err = openStore(fsys); err != nil || s.Damaged()["blocks/"+bad] == "" {
		t.Fatalf("what is damaged is not recorded: %v, %v", s.Damaged(), err)
	}
	for number := range rep.Snapshot.Number { // the first one reads back too, from the new copy
		if err := readsBack(t.Context(), s, number+1, w); err != nil {
			t.Errorf("snapshot %d: %v", number+1, err)
		}
	}
}

// shrunk is a tree of which a file is shorter when it is opened than when it was listed.
type shrunk struct {
	*sourcetest.Tree
	to int64
}

func (s shrunk) OpenFile(path string) (source.TreeFile, error) {
	f, err := s.Tree.OpenFile(path)
	return shrunkFile{f, s.to}, err
}

type shrunkFile struct {
	source.TreeFile
	to int64
}

func (f shrunkFile) Stamp() (source.Stamp, error) {
	s, err := f.TreeFile.Stamp()
	s.Size = min(s.Size, f.to)
	return s, err
}

func (f shrunkFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= f.to {
		return 0, io.EOF
	}
	n, err := f.TreeFile.ReadAt(p[:min(int64(len(p)), f.to-off)], off)
	if n < len(p) && err == nil {
		err = io.EOF
	}
	return n, err
}

// TestShrunkWhileInterrupted: a long file of which an earlier run read more than there is now is read from its beginning.
func TestShrunkWhileInterrupted(t *testing.T) {
	long := noise(1, 1<<20)
	entries := []sourcetest.Entry{{Path: "a", Content: words(1, 3000)}, {Path: "long", Content: long}, {Path: "z", Content: words(2, 3000)}}
	w := &world{label: "one", sources: func() []source.Source { return []source.Source{sourcetest.NewTree("tree", entries)} }}
	for _, to := range []int64{0, 1, 10_000, 70_000, 1<<20 - 1} {
		fsys, err := newMedium(memfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		stoppedHalf(t, fsys, w)
		now := &world{label: "one", sources: func() []source.Source { return []source.Source{shrunk{sourcetest.NewTree("tree", entries), to}} }}
		rep, err := oneIntake(t.Context(), fsys, now, hasty(intake.None))
		if err != nil || rep.Result != event.CompleteWithGaps || rep.Resumed == 0 {
			t.Fatalf("%+v, %v", rep, err)
		}
		s, err := openStore(fsys)
		if err != nil {
			t.Fatal(err)
		}
		v, err := s.At(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readBack(t.Context(), v)
		if err != nil || got["tree/long"] != "file "+string(long[:to]) {
			t.Errorf("shrunk to %d: %d bytes, %v", to, len(got["tree/long"])-5, err)
		}
		if changed := v.Manifest.Sources[0].Changed; len(changed) == 0 {
			t.Errorf("shrunk to %d: that it changed is not told", to)
		}
	}
}

// booted is a tree whose devices have other numbers than before.
type booted struct {
	*sourcetest.Tree
	dev func(path string) uint64
}

func (b booted) Walk(ctx context.Context) iter.Seq2[source.Item, error] {
	return func(yield func(source.Item, error) bool) {
		for it, err := range b.Tree.Walk(ctx) {
			it.Stamp.Dev = b.dev(it.Path)
			if !yield(it, err) {
				return
			}
		}
	}
}

func (b booted) OpenFile(path string) (source.TreeFile, error) {
	f, err := b.Tree.OpenFile(path)
	return bootedFile{f, b.dev(path)}, err
}

type bootedFile struct {
	source.TreeFile
	dev uint64
}

func (f bootedFile) Stamp() (source.Stamp, error) {
	s, err := f.TreeFile.Stamp()
	s.Dev = f.dev
	return s, err
}

// TestResumedAfterBoot: what an interrupted run stored of a tree is not read again though its device has another number now; but files of one
// device cannot be files of two.
func TestResumedAfterBoot(t *testing.T) {
	var entries []sourcetest.Entry
	for i := range uint64(200) {
		entries = append(entries, sourcetest.Entry{Path: fmt.Sprintf("d%d/%03d", i/50, i), Content: noise(i, 8<<10)})
	}
	at := func(dev func(string) uint64) (*world, *sourcetest.Tree) {
		tree := sourcetest.NewTree("tree", entries)
		w := &world{label: "boot", truth: map[string]string{}, sources: func() []source.Source { return []source.Source{booted{tree, dev}} }}
		w.addTree("tree", entries)
		return w, tree
	}
	fsys, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	before, _ := at(func(string) uint64 { return 7 })
	stoppedHalf(t, fsys, before)
	opens := map[string]int{}
	for name, dev := range map[string]func(string) uint64{
		"the same":         func(string) uint64 { return 7 },
		"another":          func(string) uint64 { return 99 },
		"two in its place": func(path string) uint64 { return uint64(strings.Count(path, "0") % 2) },
	} {
		w, tree := at(dev)
		medium := settled(fsys)
		if rep := mustComplete(t, medium, w, hasty(intake.None)); rep.Resumed == 0 {
			t.Fatalf("%s: %+v", name, rep)
		}
		s, err := openStore(medium)
		if err == nil {
			err = readsBack(t.Context(), s, 1, w)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, e := range entries {
			opens[name] += tree.Opens(e.Path)
		}
	}
	if opens["the same"] > len(entries)-20 || opens["another"] != opens["the same"] || opens["two in its place"] <= opens["another"] {
		t.Errorf("files opened of %d: %v", len(entries), opens)
	}
}

// TestLongFileGoesOn: a long file that was interrupted is gone on with behind the files before it, and is whole.
func TestLongFileGoesOn(t *testing.T) {
	w := treeOf(longFile(noise(1, 1<<20), 0))
	fsys := stoppedInLongFile(t, w)
	if rep := mustComplete(t, fsys, w, hasty(intake.None)); rep.Resumed == 0 {
		t.Fatalf("%+v", rep)
	}
	mustReadBack(t, fsys, w)
}

// TestLongFileThatChangedBeginsAnew: what was stored of a file that is another by now is not put before the rest of it.
func TestLongFileThatChangedBeginsAnew(t *testing.T) {
	fsys := stoppedInLongFile(t, treeOf(longFile(noise(1, 1<<20), 0)))
	w := treeOf(longFile(noise(9, 1<<20), 77)) // as long, written to since
	if rep := mustComplete(t, fsys, w, hasty(intake.None)); rep.Resumed == 0 {
		t.Fatalf("%+v", rep)
	}
	mustReadBack(t, fsys, w)
}

func longFile(content []byte, written int64) []sourcetest.Entry {
	return []sourcetest.Entry{{Path: "a", Content: words(1, 3000)}, {Path: "b/c", Content: noise(2, 3000)},
		{Path: "long", Content: content, Meta: source.Meta{MTime: source.Time{Sec: written}}}, {Path: "z", Content: words(2, 3000)}}
}

func treeOf(entries []sourcetest.Entry) *world {
	tree := sourcetest.NewTree("tree", entries)
	w := &world{label: "one", truth: map[string]string{}, sources: func() []source.Source { return []source.Source{tree} }}
	w.addTree("tree", entries)
	return w
}

func stoppedInLongFile(t *testing.T, w *world) *memfs.FS {
	t.Helper()
	fsys, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	stoppedHalf(t, fsys, w)
	s, err := openStore(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if st := s.Unfinished()[0].Point.State[0]; st.FileMap == nil || st.FileMap.Next == 0 {
		t.Fatalf("it was not interrupted within the long file: %+v", st)
	}
	return fsys
}

func mustReadBack(t *testing.T, fsys *memfs.FS, w *world) {
	t.Helper()
	s, err := openStore(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if err := readsBack(t.Context(), s, 1, w); err != nil {
		t.Error(err)
	}
}
