package rehearse

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"aslrescue/engine/event"
	"aslrescue/tui/ask"
)

// small is the built-in machine with disks of a few MiB, as fast as they go.
func small(t *testing.T) *Engine {
	t.Helper()
	f := Built()
	for i := range f.Disks {
		d := &f.Disks[i]
		d.Size /= 64
		for j := range d.Parts {
			d.Parts[j].Start /= 64
			d.Parts[j].Size /= 64
		}
	}
	e, err := New(Options{Facts: &f, Name: "a test", Rate: -1, Temp: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(e.Temp()); !os.IsNotExist(err) {
			t.Errorf("the rehearsal left %s behind: %v", e.Temp(), err)
		}
	})
	return e
}

// approve answers the offer of a way into a pool.
func approve(t *testing.T, e *Engine, pool, way, word string) (string, error) {
	t.Helper()
	offers, err := e.Offers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(offers, func(o ask.Offer) bool { return o.Subject == pool && o.Way == way })
	if i < 0 {
		t.Fatalf("no offer to import %s %s", pool, way)
	}
	return e.Answer(t.Context(), ask.Answer{Hash: offers[i].Hash, Yes: true, Word: word})
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for: " + what)
		}
	}
}

// The rehearsal is the real engine: what it says it read is in the store, with the holes that the disk has, and the real commands find it.
func TestARehearsalTakesInAHurtDiskWithTheRealEngine(t *testing.T) {
	e := small(t)
	if _, err := e.MakePlan(t.Context(), ask.Want{Sources: []string{"/dev/sdc"}, Place: mount}); !errors.Is(err, ask.ErrRefused) {
		t.Errorf("a plan with no place for the store: %v", err)
	}
	if _, err := approve(t, e, "tank", "writable", "tink"); !errors.Is(err, ask.ErrRefused) {
		t.Errorf("the wrong word: %v", err)
	}
	if said, err := approve(t, e, "tank", "writable", "tank"); err != nil || !strings.Contains(said, "writable") {
		t.Fatal(said, err)
	}
	if _, err := approve(t, e, "tank", "writable", "tank"); !errors.Is(err, ask.ErrAnswered) {
		t.Errorf("a second answer: %v", err)
	}
	p, err := e.MakePlan(t.Context(), ask.Want{Sources: []string{"/dev/sdc", "/mnt/home/anna/letters"}, Place: mount})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), p.Hash[1:]+"0"); !errors.Is(err, ask.ErrChanged) {
		t.Errorf("a plan that nobody saw: %v", err)
	}
	if err := e.Start(t.Context(), p.Hash); err != nil {
		t.Fatal(err)
	}
	until(t, "the end", func() bool { return e.State().Job.Phase == ask.Ended })
	s := e.State().Job
	r := s.Report
	if r == nil || r.Result != event.CompleteWithGaps || r.Snapshot != 1 || len(r.Sources) != 2 {
		t.Fatalf("%+v", r)
	}
	if d := r.Sources[0]; d.Unreadable == 0 || d.Places == 0 || d.Size != 32*mib || d.Serial != "E21740-0471" {
		t.Errorf("the hurt disk: %+v", d)
	}
	if d := r.Sources[1]; d.Files != 3 || d.Wrong != 0 {
		t.Errorf("the folder: %+v", d)
	}
	if len(s.Maps) != 1 || !slices.Contains(s.Maps[0].Row(ask.MapCells), ask.Unreadable) || slices.Contains(s.Maps[0].Row(64), ask.Waiting) {
		t.Errorf("the map of the disk: %v", s.Maps)
	}
	kernel := 0
	for _, l := range e.State().Lines {
		if l.From == "kernel" {
			kernel++
		}
	}
	if kernel == 0 {
		t.Error("the kernel says nothing of the bad places")
	}
	snaps, err := e.Snapshots(t.Context())
	if err != nil || len(snaps) != 1 || snaps[0].Result != string(event.CompleteWithGaps) {
		t.Errorf("%+v, %v", snaps, err)
	}
	if v, err := e.Tool(t.Context(), "asl-admin", "verify", "1", "--read-data"); err != nil || v.Exit != 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

// Pausing seals what was read; going on ends with the same report as if nothing had been; skipping one source leaves the others whole.
func TestARehearsedIntakePausesGoesOnAndSkips(t *testing.T) {
	e := small(t)
	e.o.Rate = 200_000_000
	if _, err := approve(t, e, "tank", "writable", "tank"); err != nil {
		t.Fatal(err)
	}
	p, err := e.MakePlan(t.Context(), ask.Want{Sources: []string{"/dev/sdb", "/dev/nvme0n1", "/dev/sdc"}, Place: mount})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), p.Hash); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), p.Hash); !errors.Is(err, ask.ErrRefused) {
		t.Errorf("a second intake beside the first: %v", err)
	}
	until(t, "the second source", func() bool {
		s := e.State().Job.Progress.Sources
		return len(s) > 1 && s[0].Done
	})
	if err := e.Do(t.Context(), ask.Pause, ""); err != nil {
		t.Fatal(err)
	}
	until(t, "the pause", func() bool { return e.State().Job.Phase == ask.Paused })
	if err := e.Do(t.Context(), ask.Skip, "sdc"); err != nil {
		t.Error(err)
	}
	if err := e.Do(t.Context(), ask.GoOn, ""); err != nil {
		t.Fatal(err)
	}
	until(t, "the end", func() bool { return e.State().Job.Phase == ask.Ended })
	j := e.State().Job
	if len(j.Report.Sources) != 3 || j.Report.Snapshot == 0 {
		t.Fatalf("%+v", j.Report)
	}
	for i, want := range []bool{false, false, true} {
		if s := j.Report.Sources[i]; s.Skipped != want || (s.Untried > 0) != want {
			t.Errorf("%+v", s)
		}
	}
	if done, of := j.Progress.Counts.Settled()+j.Progress.Counts.Untried, j.Progress.Total; done != of {
		t.Errorf("%d of %d bytes at the end: what was done before the pause is not counted", done, of)
	}
	if err := e.Do(t.Context(), ask.Pause, ""); !errors.Is(err, ask.ErrRefused) {
		t.Errorf("a pause after the end: %v", err)
	}
}
