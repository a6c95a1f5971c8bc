package store_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// TestOneBadCopy: of an artifact that is stored twice either copy may go bad, unnoticed so far, and the other is given.
func TestOneBadCopy(t *testing.T) {
	for hurt := range 2 {
		fsys, s := newStore(t)
		a, b := begin(t, s, 1), begin(t, s, 2) // neither knows of the other
		for i, w := range []*store.Writer{a, b} {
			if err := add(t.Context(), w, true, "both", []string{"only in a", "only in b"}[i]); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Snapshot(t.Context(), &format.Manifest{}); err != nil {
				t.Fatal(err)
			}
		}
		id := s.Segments()[hurt].Blocks[0].String()
		if err := fsys.Damage("blocks/"+id[:2]+"/"+id, format.BlockHeaderSize+1); err != nil { // within "both"
			t.Fatal(err)
		}
		s = reopen(t, fsys)
		if err := get(t, s, 2, "both"); err != nil {
			t.Errorf("copy %d is bad: %v", hurt, err)
		}
	}
}

// TestAnotherKind: an artifact is what its tag says, though its bytes would do for something else.
func TestAnotherKind(t *testing.T) {
	_, s := newStore(t)
	data, err := format.Marshal(format.MapRoot{Version: format.Version, Size: 0})
	if err != nil {
		t.Fatal(err)
	}
	w := begin(t, s, 1)
	var bb format.BlockBuilder
	bb.Reset(nil)
	right, wrong := artifact.SumTagged(artifact.MapRoot, data), artifact.SumTagged(artifact.MapPage, data)
	bb.Add(right, artifact.MapRoot, format.Plain, data, len(data))
	bb.Add(wrong, artifact.MapPage, format.Plain, data, len(data))
	b, err := w.SealBlock(t.Context(), &bb)
	if err == nil {
		err = w.Commit(t.Context(), []format.SealedBlock{b}, format.ResumePoint{}, true)
	}
	if err == nil {
		_, err = w.Snapshot(t.Context(), &format.Manifest{})
	}
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.At(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	walk := func(ref artifact.Ref) (first error) {
		for _, err := range v.MapPages(t.Context(), ref) {
			first = errors.Join(first, err)
		}
		return first
	}
	if err := walk(right); err != nil {
		t.Errorf("a map: %v", err)
	}
	if err := walk(wrong); !errors.Is(err, artifact.ErrDamaged) {
		t.Errorf("a page in a map's place: %v", err)
	}
}

// TestChunkOfAnotherLength: a chunk that is longer or shorter than its map says is damage, not content.
func TestChunkOfAnotherLength(t *testing.T) {
	_, s := newStore(t)
	v, err := s.At(t.Context(), snapshot(t, s, 1, "four"))
	if err != nil {
		t.Fatal(err)
	}
	for n, good := range map[int64]bool{3: false, 4: true, 5: false} {
		used, bad := 0, 0
		err := v.Fetch(t.Context(), []store.Stretch{{Off: 0, Range: format.DataRange(artifact.Sum([]byte("four")), n)}},
			func(store.Stretch, []byte) error { used++; return nil },
			func(_ store.Stretch, err error) error {
				if bad++; !errors.Is(err, artifact.ErrDamaged) {
					t.Errorf("%d bytes: %v", n, err)
				}
				return nil
			})
		if err != nil || (used == 1) != good || (bad == 1) == good {
			t.Errorf("%d bytes of 4: used %d, bad %d, %v", n, used, bad, err)
		}
	}
	if r := format.DataRange(artifact.Sum([]byte("four")), 4); r.Kind != source.Data {
		t.Errorf("%+v", r)
	}
}

// TestVerifyLooksIntoBlocks: a block that is whole and holds an artifact that is not what its name says was made by a faulty writer, and is
// bad all the same.
func TestVerifyLooksIntoBlocks(t *testing.T) {
	_, s := newStore(t)
	w := begin(t, s, 1)
	var bb format.BlockBuilder
	bb.Reset(nil)
	bb.Add(artifact.Sum([]byte("good")), artifact.NoTag, format.Plain, []byte("good"), 4)
	bb.Add(artifact.Sum([]byte("what was read")), artifact.NoTag, format.Plain, []byte("what was kept"), 13)
	b, err := w.SealBlock(t.Context(), &bb)
	if err != nil {
		t.Fatal(err)
	}
	bad, err := s.VerifyBlocks(t.Context(), []artifact.Digest{b.ID}, 1, nil)
	if err != nil || len(bad) != 1 || bad[0].Name != "blocks/"+b.ID.String() || bad[0].Unread {
		t.Errorf("%+v, %v", bad, err)
	}
}

// mediumOnly is a place whose cache knows nothing of blocks: only what is asked of the medium is answered.
type mediumOnly struct{ store.Backend }

func (m mediumOnly) Open(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if strings.HasPrefix(name, "blocks/") && !store.WantsUncached(ctx) {
		return nil, errors.New("this is what the cache says")
	}
	return m.Backend.Open(ctx, name, off, n)
}

// TestVerifyAsksTheMedium: verification reads past the cache, and what is not there is bad.
func TestVerifyAsksTheMedium(t *testing.T) {
	fsys, s := newStore(t)
	snapshot(t, s, 1, "one")
	s, err := store.Open(t.Context(), mediumOnly{s.Backend()}, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if bad, err := s.VerifyBlocks(t.Context(), s.Blocks(), 2, nil); err != nil || len(bad) > 0 {
		t.Errorf("%+v, %v", bad, err)
	}
	id := s.Blocks()[0].String()
	s = reopen(t, replace(t, fsys, "blocks/"+id[:2]+"/"+id, nil))
	if bad, err := s.VerifyBlocks(t.Context(), s.Blocks(), 2, nil); err != nil || len(bad) != 1 || bad[0].Unread {
		t.Errorf("a block that is gone: %+v, %v", bad, err)
	}
}

// TestSegmentAgrees: a segment lists what its blocks hold, in the blocks that the log says, or it is damage.
func TestSegmentAgrees(t *testing.T) {
	_, s := newStore(t)
	snapshot(t, s, 1, "one", "two")
	seal := s.Segments()[0].SegmentSeal
	read := func() *format.Segment {
		seg, err := s.ReadSegment(t.Context(), seal.Segment)
		if err != nil {
			t.Fatal(err)
		}
		return seg
	}
	if err := s.SegmentAgrees(t.Context(), seal, read()); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*format.Segment, *format.SegmentSeal){
		"another artifact":     func(seg *format.Segment, _ *format.SegmentSeal) { seg.Entries[0].Ref.Digest[5] ^= 1 },
		"another place":        func(seg *format.Segment, _ *format.SegmentSeal) { seg.Entries[1].Off++ },
		"another length":       func(seg *format.Segment, _ *format.SegmentSeal) { seg.Entries[0].Raw++ },
		"one artifact too few": func(seg *format.Segment, _ *format.SegmentSeal) { seg.Entries = seg.Entries[:1] },
		"another block":        func(_ *format.Segment, seal *format.SegmentSeal) { seal.Blocks = []artifact.Digest{{7}} },
		"two blocks": func(_ *format.Segment, seal *format.SegmentSeal) {
			seal.Blocks = append(slices.Clone(seal.Blocks), artifact.Digest{7})
		},
		"another size":          func(_ *format.Segment, seal *format.SegmentSeal) { seal.Size++ },
		"another number of all": func(_ *format.Segment, seal *format.SegmentSeal) { seal.Entries++ },
	} {
		seg, said := read(), seal
		change(seg, &said)
		if err := s.SegmentAgrees(t.Context(), said, seg); !errors.Is(err, artifact.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
