package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"aslrescue/backends/local"
	"aslrescue/engine/artifact"
	"aslrescue/engine/chunk"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
	"aslrescue/engine/vfs/faultfs"
	"aslrescue/engine/vfs/memfs"
)

// begin begins an intake of one made-up source.
func begin(t *testing.T, s *store.Store, id byte) *store.Writer {
	t.Helper()
	w, err := s.Begin(t.Context(), format.IntakeBegin{Intake: format.ID{id}, Label: fmt.Sprint(id), Chunk: chunk.Default(), Codec: format.Codecs{Mode: "none"}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// sealBlock stores artifacts in one block.
func sealBlock(ctx context.Context, w *store.Writer, artifacts ...string) (format.SealedBlock, error) {
	var bb format.BlockBuilder
	bb.Reset(nil)
	for _, a := range artifacts {
		ref := artifact.Sum([]byte(a))
		w.Added(ref.Digest)
		bb.Add(ref, artifact.NoTag, format.Plain, []byte(a), len(a))
	}
	return w.SealBlock(ctx, &bb)
}

// add stores artifacts in one block and acknowledges them.
func add(ctx context.Context, w *store.Writer, endSegment bool, artifacts ...string) error {
	b, err := sealBlock(ctx, w, artifacts...)
	if err != nil {
		return err
	}
	return w.Commit(ctx, []format.SealedBlock{b}, format.ResumePoint{}, endSegment)
}

// snapshot takes in artifacts and seals a snapshot without sources.
func snapshot(t *testing.T, s *store.Store, id byte, artifacts ...string) uint64 {
	t.Helper()
	w := begin(t, s, id)
	if err := add(t.Context(), w, true, artifacts...); err != nil {
		t.Fatal(err)
	}
	snap, err := w.Snapshot(t.Context(), &format.Manifest{})
	if err != nil {
		t.Fatal(err)
	}
	return snap.Number
}

func get(t *testing.T, s *store.Store, number uint64, a string) error {
	t.Helper()
	v, err := s.At(t.Context(), number)
	if err != nil {
		return err
	}
	data, _, err := v.Get(t.Context(), artifact.Sum([]byte(a)))
	if err == nil && string(data) != a {
		t.Errorf("%q reads back as %q", a, data)
	}
	return err
}

// TestSnapshotBounds: a snapshot shows what was sealed at or before it, and nothing that came later, in this process and in the
// next one, before and after runs are merged.
func TestSnapshotBounds(t *testing.T) {
	fsys, s := newStore(t)
	const n = 9
	for i := range n {
		if got := snapshot(t, s, byte(i+1), fmt.Sprintf("artifact %d", i), fmt.Sprintf("another %d", i)); got != uint64(i+1) {
			t.Fatalf("snapshot %d is number %d", i+1, got)
		}
		if i == 5 {
			checkBounds(t, s, i+1)
		}
	}
	checkBounds(t, s, n)
	w := begin(t, s, 99)
	if more, err := w.Merge(t.Context()); err != nil || !more {
		t.Fatalf("merging: %v, %v", more, err)
	}
	checkBounds(t, s, n)
	checkBounds(t, reopen(t, fsys), n)
	if _, err := s.At(t.Context(), n+1); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("a snapshot that is not there: %v", err)
	}
}

func checkBounds(t *testing.T, s *store.Store, n int) {
	t.Helper()
	for at := range n {
		for i := range n {
			for _, a := range []string{fmt.Sprintf("artifact %d", i), fmt.Sprintf("another %d", i)} {
				err := get(t, s, uint64(at+1), a)
				if i <= at && err != nil || i > at && !errors.Is(err, artifact.ErrNotFound) {
					t.Errorf("at snapshot %d, %q: %v", at+1, a, err)
				}
			}
		}
	}
}

// TestBase: what another intake seals after this one began is not known to it, so that no race changes its blocks; and what
// it stored itself is known at once.
func TestBase(t *testing.T) {
	fsys, s := newStore(t)
	snapshot(t, s, 1, "old")
	w := begin(t, s, 2)
	snapshot(t, reopen(t, fsys), 3, "of another")
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	check := func(w *store.Writer, when string, want map[string]bool) {
		t.Helper()
		for a, known := range want {
			if got, err := w.Known(t.Context(), artifact.Sum([]byte(a)).Digest); err != nil || got != known {
				t.Errorf("%s: %q is known: %v, %v", when, a, got, err)
			}
		}
	}
	check(w, "before", map[string]bool{"old": true, "of another": false, "new": false})
	w.Added(artifact.Sum([]byte("new")).Digest)
	check(w, "when added", map[string]bool{"old": true, "of another": false, "new": true})
	if err := add(t.Context(), w, false, "new", "sealed"); err != nil {
		t.Fatal(err)
	}
	w.NextSegment()
	w.Added(artifact.Sum([]byte("next")).Digest)
	if err := add(t.Context(), w, true, "in a segment"); err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{"old": true, "of another": false, "new": true, "sealed": true, "in a segment": true, "next": true}
	check(w, "with a segment sealed", all)
	again, _, err := reopen(t, fsys).Resume(t.Context(), format.ID{2}, 0)
	if err != nil {
		t.Fatal(err)
	}
	all["next"] = false // nobody acknowledged it
	check(again, "resumed", all)
}

// TestFencing: once an intake has a new writer the old one can append nothing more.
func TestFencing(t *testing.T) {
	fsys, s := newStore(t)
	w := begin(t, s, 1)
	if err := add(t.Context(), w, false, "one"); err != nil {
		t.Fatal(err)
	}
	theirs, in, err := reopen(t, fsys).Resume(t.Context(), format.ID{1}, 0)
	if err != nil || len(in.Blocks) != 1 {
		t.Fatalf("%+v, %v", in, err)
	}
	for what, err := range map[string]error{
		"resume point": add(t.Context(), w, false, "two"), "segment": add(t.Context(), w, true, "three"),
		"end": w.End(t.Context(), ""), "snapshot": func() error { _, err := w.Snapshot(t.Context(), &format.Manifest{}); return err }(),
	} {
		if !errors.Is(err, store.ErrFenced) {
			t.Errorf("%s by a writer that lost its intake: %v", what, err)
		}
	}
	if err := add(t.Context(), theirs, true, "four"); err != nil {
		t.Fatal(err)
	}
	if snap, err := theirs.Snapshot(t.Context(), &format.Manifest{}); err != nil || snap.Number != 1 {
		t.Fatalf("%+v, %v", snap, err)
	}
	again := reopen(t, fsys)
	if len(again.Snapshots()) != 1 || len(again.Unfinished()) != 0 {
		t.Errorf("%d snapshots, %d unfinished", len(again.Snapshots()), len(again.Unfinished()))
	}
	for a, want := range map[string]error{"one": nil, "four": nil, "two": artifact.ErrNotFound, "three": artifact.ErrNotFound} {
		if err := get(t, again, 1, a); !errors.Is(err, want) {
			t.Errorf("%q: %v", a, err)
		}
	}
	if err := theirs.End(t.Context(), ""); !errors.Is(err, store.ErrFenced) {
		t.Errorf("an intake ends twice: %v", err)
	}
	if _, _, err := again.Resume(t.Context(), format.ID{1}, 0); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("an intake that is over is resumed: %v", err)
	}
}

// TestNumbers: a snapshot gets the number after the last one in the log, also where its writer has not seen that yet.
func TestNumbers(t *testing.T) {
	fsys, s := newStore(t)
	stores := []*store.Store{s, reopen(t, fsys), reopen(t, fsys)}
	for i := range 7 {
		if got := snapshot(t, stores[i%3], byte(i+1), fmt.Sprint("artifact ", i)); got != uint64(i+1) {
			t.Fatalf("snapshot %d is number %d", i+1, got)
		}
	}
	w := begin(t, stores[0], 50)
	if err := add(t.Context(), w, true, "last"); err != nil {
		t.Fatal(err)
	}
	snapshot(t, stores[1], 51, "between")
	if snap, err := w.Snapshot(t.Context(), &format.Manifest{}); err != nil || snap.Number != 9 {
		t.Errorf("%+v, %v", snap, err)
	}
}

// TestNotes: every snapshot's note is signed by its writer, over its own record.
func TestNotes(t *testing.T) {
	_, s := newStore(t)
	snapshot(t, s, 1, "one")
	snapshot(t, s, 2, "two")
	records, keys := map[uint64]format.Hash{}, map[format.ID][]byte{}
	for r, err := range store.Log(t.Context(), s.Backend(), home) {
		if err != nil {
			t.Fatal(err)
		}
		records[r.Seq] = r.Hash
		var b format.IntakeBegin
		if r.Type == format.IntakeBeginType && format.Unmarshal(r.Payload, &b) == nil {
			keys[b.Nonce] = b.Key
		}
	}
	snaps := s.Snapshots()
	for i, snap := range snaps {
		if _, found, err := store.CheckNote(t.Context(), s.Backend(), snap, records[snap.Seq], keys[snap.Nonce]); found != store.Signed || err != nil {
			t.Errorf("snapshot %d: %s, %v", snap.Number, found, err)
		}
		other := snaps[1-i]
		if _, found, err := store.CheckNote(t.Context(), s.Backend(), snap, records[other.Seq], keys[snap.Nonce]); found != store.Forged || err == nil {
			t.Errorf("snapshot %d with another record: %s, %v", snap.Number, found, err)
		}
		if _, found, err := store.CheckNote(t.Context(), s.Backend(), snap, records[snap.Seq], keys[other.Nonce]); found != store.Forged || err == nil {
			t.Errorf("snapshot %d with another key: %s, %v", snap.Number, found, err)
		}
		other.Number = 3
		if _, found, err := store.CheckNote(t.Context(), s.Backend(), other, records[other.Seq], keys[other.Nonce]); found != store.Unsigned || err != nil {
			t.Errorf("a snapshot without a note: %s, %v", found, err)
		}
	}
}

// TestFailedAppend: after an append that failed this Store appends nothing more, whether or not the part is there; whoever opens
// the store anew goes on.
func TestFailedAppend(t *testing.T) {
	for _, after := range []bool{false, true} {
		fsys, _ := newStore(t)
		faulty := faultfs.New(fsys, fsys.FailSync)
		b, err := local.Open(faulty, "memory")
		if err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(t.Context(), b, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		faulty.Inject(faultfs.Fault{Op: faultfs.Rename, Name: "logs/*/*", After: after})
		if err := say(t.Context(), s, 1); err == nil || len(faulty.Unused()) > 0 {
			t.Fatalf("an append that fails: %v", err)
		}
		if err := say(t.Context(), s, 2); !errors.Is(err, artifact.ErrReadOnly) || s.Broken() == nil {
			t.Errorf("the append after it: %v", err)
		}
		again := reopen(t, fsys)
		if err := say(t.Context(), again, 3); err != nil {
			t.Fatal(err)
		}
		want := []int64{3}
		if after {
			want = []int64{1, 3}
		}
		if got := said(reopen(t, fsys)); !slices.Equal(got, want) {
			t.Errorf("carried out %v: %v, want %v", after, got, want)
		}
	}
}

// TestDamagedCopies: nothing is known through a block that is known to be damaged, what is stored again gets another name, and readers
// find the good copy.
func TestDamagedCopies(t *testing.T) {
	fsys, s := newStore(t)
	snapshot(t, s, 1, "one", "two")
	bad := "blocks/" + s.Segments()[0].Blocks[0].String()
	file := "blocks/" + bad[7:9] + "/" + bad[7:]
	hurt := content(t, fsys, file)
	hurt[65] ^= 1 // within "one"
	fsys = replace(t, fsys, file, hurt)
	s = reopen(t, fsys)
	if err := errors.Join(get(t, s, 1, "two"), s.ReportDamage(t.Context(), []format.DamagedObject{{Name: bad, Why: "a test"}})); err != nil {
		t.Fatal(err)
	}
	if err := get(t, s, 1, "one"); !errors.Is(err, artifact.ErrDamaged) {
		t.Errorf("what is hurt: %v", err)
	}
	w := begin(t, s, 2)
	for _, a := range []string{"one", "two"} {
		if known, err := w.Known(t.Context(), artifact.Sum([]byte(a)).Digest); known || err != nil {
			t.Errorf("%q is known: %v, %v", a, known, err)
		}
	}
	b, err := sealBlock(t.Context(), w, "one", "two")
	if err != nil || b.Generation != 1 || "blocks/"+b.ID.String() == bad {
		t.Fatalf("generation %d: %v", b.Generation, err)
	}
	if err := w.Commit(t.Context(), []format.SealedBlock{b}, format.ResumePoint{}, true); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Snapshot(t.Context(), &format.Manifest{}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*store.Store{s, reopen(t, fsys)} {
		for number := range uint64(2) {
			if err := errors.Join(get(t, s, number+1, "one"), get(t, s, number+1, "two")); err != nil {
				t.Errorf("at snapshot %d: %v", number+1, err)
			}
		}
		if s.Damaged()[bad] == "" {
			t.Error("the damage is forgotten")
		}
	}
	if got := content(t, fsys, file); string(got) != string(hurt) {
		t.Error("the damaged block was touched")
	}
	if _, err := reopen(t, fsys.CrashAt(fsys.Ops(), memfs.Pattern{})).At(t.Context(), 2); err != nil {
		t.Error(err)
	}
}

// TestDamageIsRemembered: a block that was found damaged once is not built upon again, though it reads well now: the same artifacts get
// another generation.
func TestDamageIsRemembered(t *testing.T) {
	_, s := newStore(t)
	snapshot(t, s, 1, "one", "two")
	bad := "blocks/" + s.Segments()[0].Blocks[0].String()
	if err := s.ReportDamage(t.Context(), []format.DamagedObject{{Name: bad, Why: "a cable"}}); err != nil {
		t.Fatal(err)
	}
	b, err := sealBlock(t.Context(), begin(t, s, 2), "one", "two")
	if err != nil || b.Generation != 1 || "blocks/"+b.ID.String() == bad {
		t.Errorf("generation %d: %v", b.Generation, err)
	}
}

// TestLostBlocksAreNotKnown: what lies in a block that is gone or cut is not known, and the block is named.
func TestLostBlocksAreNotKnown(t *testing.T) {
	for name, hurt := range map[string][]byte{"gone": nil, "cut": []byte("a few bytes")} {
		fsys, s := newStore(t)
		snapshot(t, s, 1, "one", "two")
		id := s.Segments()[0].Blocks[0]
		s = reopen(t, replace(t, fsys, "blocks/"+id.String()[:2]+"/"+id.String(), hurt))
		w := begin(t, s, 2)
		if known, err := w.Known(t.Context(), artifact.Sum([]byte("one")).Digest); known || err != nil {
			t.Errorf("%s: known %v, %v", name, known, err)
		}
		if lost := w.Lost(); len(lost) != 1 || lost[0] != id {
			t.Errorf("%s: lost are %v, want %v", name, lost, id)
		}
	}
}

// TestSegmentThatGoesBad: what a segment lists is found through the blocks themselves when it is damaged, also when that happens after the store
// was opened.
func TestSegmentThatGoesBad(t *testing.T) {
	for name, c := range map[string]struct {
		off   int64
		after bool
	}{"header, before": {10, false}, "page, before": {format.SegmentHeaderSize + 5, false}, "page, after": {format.SegmentHeaderSize + 5, true}} {
		fsys, s := newStore(t)
		snapshot(t, s, 1, "one", "two")
		s = reopen(t, fsys)
		if err := fsys.Damage("segments/"+s.Segments()[0].Segment.String(), c.off); err != nil {
			t.Fatal(err)
		}
		if !c.after {
			s = reopen(t, fsys)
		}
		for _, a := range []string{"one", "two"} {
			if err := get(t, s, 1, a); err != nil {
				t.Errorf("%s: %q: %v", name, a, err)
			}
		}
		if known, err := begin(t, s, 2).Known(t.Context(), artifact.Sum([]byte("two")).Digest); !known || err != nil {
			t.Errorf("%s: known %v, %v", name, known, err)
		}
	}
}
