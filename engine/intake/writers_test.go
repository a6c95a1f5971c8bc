package intake_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/store"
	"aslrescue/engine/vfs/memfs"
)

// TestWriters: several processes take in at once what is partly the same. Each gets its snapshot, the numbers have no gaps.
func TestWriters(t *testing.T) {
	for _, n := range []int{2, 8} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			fsys, err := newMedium(memfs.Options{})
			if err != nil {
				t.Fatal(err)
			}
			const each = 3
			var all []*world
			var wg sync.WaitGroup
			for i := range n {
				var mine []*world
				for j := range each {
					mine = append(mine, newWorld(fmt.Sprintf("writer %d intake %d", i, j), uint64(i/2), 40_000+j*20_000))
				}
				all = append(all, mine...)
				wg.Go(func() {
					s, err := openStore(fsys) // of its own, as another process has
					if err != nil {
						t.Error(err)
						return
					}
					for _, w := range mine {
						o := hasty(intake.Fast)
						o.Label = w.label
						rep, err := intake.Run(t.Context(), s, w.sources(), o)
						if err != nil || rep.Result != event.Complete {
							t.Errorf("%s: %+v, %v", w.label, rep, err)
							return
						}
						if err := readsBack(t.Context(), s, rep.Snapshot.Number, w); err != nil {
							t.Errorf("%s: %v", w.label, err)
						}
					}
				})
			}
			wg.Wait()
			s, err := inspect(t.Context(), fsys, expect{worlds: worlds(all...)}) // also that numbers have no gaps
			if err != nil {
				t.Fatal(err)
			}
			labels := map[string]bool{}
			for _, snap := range s.Snapshots() {
				labels[snap.Label] = true
			}
			if len(labels) != n*each || len(s.Snapshots()) != n*each || len(s.Unfinished()) != 0 {
				t.Errorf("%d snapshots with %d labels, %d unfinished", len(s.Snapshots()), len(labels), len(s.Unfinished()))
			}
		})
	}
}

// TestFenced: whoever takes an intake over has it alone. The other stops, whatever it was doing, and hurts nothing.
func TestFenced(t *testing.T) {
	w := newWorld("one", 1, 60_000)
	base, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, used, err := eachN(t.Context(), 2, 1, func(n int) (bool, error) {
		fsys := base.CrashAt(0, memfs.Pattern{})
		k := &witness{fsys: fsys}
		over, taken := false, error(nil)
		var other *store.Writer
		var theirs *store.Store
		o := hasty(intake.None)
		o.ID = intake.NewID()
		k.at = func(seen int) {
			if seen != n {
				return
			}
			over = true
			if theirs, taken = openStore(fsys); taken == nil {
				other, _, taken = theirs.Resume(t.Context(), o.ID, 0)
			}
		}
		o.Events = k.event
		rep, err := oneIntake(t.Context(), fsys, w, o)
		if err == nil { // it was at its end already
			return over, nil
		}
		if !errors.Is(err, store.ErrFenced) || taken != nil || rep.Result != event.Failed {
			return true, fmt.Errorf("taken over at event %d (%v): %+v, %w", n, taken, rep, err)
		}
		if err := other.End(t.Context(), "a test took it"); err != nil {
			return true, fmt.Errorf("the new writer: %w", err)
		}
		if _, err := oneIntake(t.Context(), fsys, w, hasty(intake.None)); err != nil {
			return true, err
		}
		s, err := inspect(t.Context(), fsys, expect{worlds: worlds(w)})
		if err == nil && len(s.Snapshots()) != 1 {
			err = fmt.Errorf("%d snapshots", len(s.Snapshots()))
		}
		return true, err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("taken over at %d moments", used)
}
