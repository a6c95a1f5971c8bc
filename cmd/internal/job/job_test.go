package job

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aslrescue/backends/local"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
	"aslrescue/tui/ask"
)

// counters is a witness of a disk that was written to so many times while it was read.
type counters struct {
	known  bool
	writes uint64
}

func (counters) Begin(context.Context, int, source.Info, func(event.Level, string)) {}
func (counters) Hot(int) bool                                                       { return false }
func (counters) Pause(context.Context, int)                                         {}
func (counters) Close()                                                             {}
func (c counters) End(context.Context, int) *format.Evidence {
	w := format.Writes{Known: c.known, Writes: 7, Sectors: 56}
	ev := &format.Evidence{Version: format.Version, WritesBegin: w, WritesEnd: w}
	ev.WritesEnd.Writes += c.writes
	ev.WritesEnd.Sectors += 8 * c.writes
	return ev
}

// The report says whether the source disks were written to, as the kernel counts it.
func TestTheReportSaysWhatWasWrittenToSources(t *testing.T) {
	for _, c := range []struct {
		w    intake.Witness
		want string
	}{
		{nil, ""},
		{counters{known: true}, "0 bytes"},
		{counters{known: true, writes: 3}, "disk.img: THE DISK WAS WRITTEN TO while it was read: 3 writes of 24 sectors"},
		{counters{}, "disk.img: Not known"},
	} {
		dir := t.TempDir()
		img := filepath.Join(dir, "disk.img")
		if err := os.WriteFile(img, []byte("what was on the disk"), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := local.CreatePath(filepath.Join(dir, "store"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := store.Create(t.Context(), b, store.Options{Domain: "test", Tool: "test"})
		if err != nil {
			t.Fatal(err)
		}
		src, err := source.Open(img)
		if err != nil {
			t.Fatal(err)
		}
		j := Start(t.Context(), Options{Store: s, Sources: []source.Source{src}, Plan: ask.Plan{Sources: []ask.PlanSource{{Name: "disk.img"}}}, Intake: intake.Options{Witness: c.w}})
		<-j.Done()
		if r := j.State().Report; r == nil || r.Snapshot != 1 || !strings.HasPrefix(r.Written, c.want) || c.want == "" && r.Written != "" {
			t.Errorf("the report is %+v, want %q", r, c.want)
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Backend().Close(); err != nil {
			t.Error(err)
		}
	}
}
