package ask

import (
	"strings"
	"testing"
	"time"

	"aslrescue/engine/event"
)

func draw(m Map, n int) string {
	var b strings.Builder
	for _, c := range m.Row(n) {
		b.WriteByte(".zkn?X"[c])
	}
	return b.String()
}

const mib = int64(1) << 20

// A map is the fold of what an intake says: gaps stand where they are, and what was read is drawn by what it mostly was.
func TestAMapIsDrawnFromTheEventsOfAnIntake(t *testing.T) {
	stamp := event.At(time.Second)
	progress := func(off int64, c event.Counts) event.Event {
		return event.SourceProgress{Stamp: stamp, Source: "d", Off: off, Counts: c}
	}
	for _, c := range []struct {
		name   string
		events []event.Event
		want   string
	}{
		{"nothing was read", nil, "................"},
		{"new, then known, then zeros", []event.Event{
			progress(4*mib, event.Counts{Data: 4 * mib, New: 4 * mib}),
			progress(8*mib, event.Counts{Data: 8 * mib, New: 4 * mib, Known: 4 * mib}),
			progress(12*mib, event.Counts{Data: 8 * mib, New: 4 * mib, Known: 4 * mib, Zero: 4 * mib}),
		}, "nnnnkkkkzzzz...."},
		{"a bad place shows, however small", []event.Event{
			event.Gap{Stamp: stamp, Source: "d", Kind: event.Unreadable, Off: 5 * mib, Len: 512},
			progress(8*mib, event.Counts{Data: 8*mib - 512, New: 8*mib - 512, Unreadable: 512}),
		}, "nnnnnXnn........"},
		{"reading jumped over a slow place, and came back", []event.Event{
			progress(2*mib, event.Counts{Data: 2 * mib, New: 2 * mib}),
			event.Gap{Stamp: stamp, Source: "d", Kind: event.Untried, Off: 2 * mib, Len: 4 * mib},
			progress(8*mib, event.Counts{Data: 4 * mib, New: 4 * mib}),
		}, "nn????nn........"},
		{"a later pass reads what was passed over", []event.Event{
			progress(2*mib, event.Counts{Data: 2 * mib, New: 2 * mib}),
			event.Gap{Stamp: stamp, Source: "d", Kind: event.Untried, Off: 2 * mib, Len: 4 * mib},
			progress(8*mib, event.Counts{Data: 4 * mib, New: 4 * mib}),
			progress(5*mib, event.Counts{Data: 7 * mib, New: 7 * mib}),
		}, "nnnnn?nn........"},
		{"another source is none of ours", []event.Event{
			event.Gap{Stamp: stamp, Source: "e", Kind: event.Unreadable, Off: 0, Len: mib},
		}, "................"},
		{"at its end nothing waits of what was read", []event.Event{
			progress(2*mib, event.Counts{Data: 2 * mib, New: 2 * mib}),
			event.Gap{Stamp: stamp, Source: "d", Kind: event.Untried, Off: 4 * mib, Len: mib},
			progress(10*mib, event.Counts{Data: 2 * mib, New: 2 * mib, Zero: 2 * mib}),
			event.Gap{Stamp: stamp, Source: "d", Kind: event.Unreadable, Off: 4 * mib, Len: 512},
			event.SourceDone{Stamp: stamp, Source: "d", Counts: event.Counts{Data: 2 * mib, New: 2 * mib, Zero: 14*mib - 512, Unreadable: 512}},
		}, "nnzzXzzzzzzzzzzz"},
		{"what was left out waits at the end too", []event.Event{
			progress(2*mib, event.Counts{Data: 2 * mib, New: 2 * mib}),
			event.SourceDone{Stamp: stamp, Source: "d", Counts: event.Counts{Data: 2 * mib, New: 2 * mib, Untried: 14 * mib}},
		}, "nn.............."},
		{"an end that read nothing leaves it as it was", []event.Event{
			event.SourceDone{Stamp: stamp, Source: "d"},
		}, "................"},
	} {
		maps := Maps(nil, event.SourceOpened{Stamp: stamp, Source: "d", Kind: "device", Size: 16 * mib})
		for _, e := range c.events {
			maps = Maps(maps, e)
		}
		if got := draw(maps[0], 16); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestAMapGoesOnWhereAnInterruptedRunWas(t *testing.T) {
	maps := Maps(nil, event.SourceOpened{Source: "d", Kind: "image", Size: 16 * mib, Resumed: event.Counts{Data: 6 * mib, New: 6 * mib}})
	maps = Maps(maps, event.SourceProgress{Source: "d", Off: 8 * mib, Counts: event.Counts{Data: 8 * mib, New: 8 * mib}})
	if got, want := draw(maps[0], 16), "kkkkkknn........"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// As many cells as a screen has, also if they are more than there are, or none.
	for _, n := range []int{0, 1, 7, 80, MapCells, 3 * MapCells} {
		if got := len(maps[0].Row(n)); got != n {
			t.Errorf("%d cells, want %d", got, n)
		}
	}
	if got := Maps(nil, event.SourceOpened{Source: "t", Kind: "tree", Size: 5}); len(got) != 0 {
		t.Errorf("a tree has a map: %v", got)
	}
}
