package intake_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/vfs/memfs"
)

// TestReadBackBeside: what is sealed is read back while further blocks are written, and in the end all of it was.
func TestReadBackBeside(t *testing.T) {
	fsys, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan struct{})
	var seen []event.Event
	k := &witness{}
	o := hasty(intake.Fast)
	o.Events = func(e event.Event) {
		k.mu.Lock()
		seen = append(seen, e)
		n := slices.IndexFunc(seen, func(e event.Event) bool { _, ok := e.(event.VerifyProgress); return ok })
		k.mu.Unlock()
		switch e := e.(type) {
		case event.VerifyProgress:
			if n == len(seen)-1 {
				close(first)
			}
		case event.BlockSealed:
			if e.Blocks == 12 { // the others can be read back without it
				select {
				case <-first:
				case <-time.After(time.Minute):
					t.Error("nothing was read back before the twelfth block")
				}
			}
		}
	}
	rep := mustComplete(t, fsys, onlyImages("images", noise(3, 1<<19), words(4, 1<<18)), o)
	if !rep.Verified || rep.Blocks < 12 {
		t.Fatalf("%+v", rep)
	}
	last := int64(-1)
	for _, e := range seen {
		if p, ok := e.(event.VerifyProgress); ok {
			if p.Done <= last || p.Done > p.Total || p.Bad != 0 {
				t.Errorf("%+v after %d bytes", p, last)
			}
			last = p.Done
		}
	}
	if last != rep.Stored {
		t.Errorf("%d bytes were read back of %d", last, rep.Stored)
	}
	s, err := openStore(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if v := s.Verifications(); len(v) != 1 || v[0].Blocks != rep.Blocks || v[0].Bytes != rep.Stored {
		t.Errorf("the log says %+v, %d blocks of %d bytes were stored", v, rep.Blocks, rep.Stored)
	}
}

// TestReadBackFindsDamage: a block that goes bad as soon as it is sealed is named, whether it is read back beside the writing or after it,
// and the next intake stores what it held again.
func TestReadBackFindsDamage(t *testing.T) {
	for _, at := range []int64{1, 5, 20} {
		w := onlyImages("images", noise(3, 1<<19))
		fsys, err := newMedium(memfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		o, bad := hasty(intake.None), ""
		o.Events = func(e event.Event) {
			if b, ok := e.(event.BlockSealed); ok && b.Blocks == at {
				bad = b.Block
				if err := fsys.Damage("blocks/"+bad[:2]+"/"+bad, 500); err != nil {
					t.Error(err)
				}
			}
		}
		rep, err := oneIntake(t.Context(), fsys, w, o)
		if !errors.Is(err, artifact.ErrDamaged) || rep.Result != event.Failed || rep.Verified || len(rep.Bad) != 1 || rep.Bad[0].Name != "blocks/"+bad {
			t.Fatalf("block %d: %+v, %v", at, rep, err)
		}
		rep = mustComplete(t, fsys, w, hasty(intake.None))
		s, err := openStore(fsys)
		if err != nil || s.Damaged()["blocks/"+bad] == "" {
			t.Fatalf("block %d: what is damaged is not recorded: %v, %v", at, s.Damaged(), err)
		}
		if err := readsBack(t.Context(), s, rep.Snapshot.Number, w); err != nil {
			t.Errorf("block %d: %v", at, err)
		}
	}
}
