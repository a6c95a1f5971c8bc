package event

import (
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"
)

func TestQueueKeepsOrderAndOnlyTheNewestSnapshot(t *testing.T) {
	q := NewQueue(100)
	for _, e := range []Event{
		SourceOpened{Source: "a"},
		SourceProgress{Source: "a", Off: 1},
		SourceProgress{Source: "b", Off: 1},
		Gap{Source: "a", Off: 1},
		SourceProgress{Source: "a", Off: 2},
		Gap{Source: "a", Off: 2},
		SourceDone{Source: "a"},
	} {
		q.Put(e)
	}
	want := []Event{
		SourceOpened{Source: "a"},
		SourceProgress{Source: "a", Off: 2},
		SourceProgress{Source: "b", Off: 1},
		Gap{Source: "a", Off: 1},
		Gap{Source: "a", Off: 2},
		SourceDone{Source: "a"},
	}
	if got := q.Drain(); !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %v\nwant %v", got, want)
	}
	if got := q.Drain(); len(got) != 0 {
		t.Errorf("drained twice: %v", got)
	}
}

func TestAFullQueueLosesNoGapAndNoErrorForLess(t *testing.T) {
	q := NewQueue(10)
	q.Put(Message{Level: Error, Text: "first"})
	for i := range 1000 {
		q.Put(Gap{Source: "a", Kind: Unreadable, Off: int64(i), Len: 1})
		q.Put(Message{Level: Info, Text: fmt.Sprint(i)})
		q.Put(SourceProgress{Source: "a", Off: int64(i)})
	}
	q.Put(SourceDone{Source: "a"})
	q.Put(IntakeDone{Stamp: At(time.Second), Result: CompleteWithGaps})
	var places, length, said, told int
	all := q.Drain()
	for _, e := range all {
		switch e := e.(type) {
		case Gap:
			places += max(e.Places, 1)
			length += int(e.Len)
		case Message:
			said++
		case SourceDone, IntakeDone:
			told++
		}
	}
	if places != 1000 || length != 1000 {
		t.Errorf("got %d places of %d bytes, want 1000", places, length)
	}
	if all[0] != (Message{Level: Error, Text: "first"}) {
		t.Errorf("the error made room for less: %v", all[0])
	}
	if told != 2 || len(all) > 16 || said < 2 {
		t.Errorf("%d events wait: %v", len(all), all)
	}
	if m, ok := all[len(all)-1].(Message); !ok || m.Level != Warning || m.When() != time.Second {
		t.Errorf("nobody said that messages were left out: %v", all[len(all)-1])
	}
}

// Workers that had to wait for a screen would hang here: nobody reads until all have put all.
func TestPutNeverWaits(t *testing.T) {
	q := NewQueue(8)
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			name := fmt.Sprint("source", w)
			q.Put(SourceOpened{Source: name, Size: 1000})
			for i := range 1000 {
				q.Put(SourceProgress{Source: name, Counts: Counts{Data: int64(i)}})
				if i%10 == 0 {
					q.Put(Gap{Source: name, Kind: Unreadable, Len: 1})
				}
			}
			q.Put(SourceDone{Source: name, Counts: Counts{Data: 900, Unreadable: 100}})
		})
	}
	workers.Wait()
	q.Close()
	p := new(Progress)
	q.Run(p.Apply)
	if p.Counts.Data != 7200 || p.Gaps != 800 || len(p.Sources) != 8 {
		t.Errorf("got %+v, %d gaps, %d sources", p.Counts, p.Gaps, len(p.Sources))
	}
}

func TestRunReadsWhileWorkersPut(t *testing.T) {
	q := NewQueue(8)
	p := new(Progress)
	done := make(chan struct{})
	go func() { defer close(done); q.Run(p.Apply) }()
	var workers sync.WaitGroup
	for w := range 4 {
		workers.Go(func() {
			name := fmt.Sprint("source", w)
			for i := range 500 {
				q.Put(SourceProgress{Source: name, Counts: Counts{Data: int64(i)}})
				q.Put(Gap{Source: name, Kind: Unreadable, Len: 1})
			}
			q.Put(SourceDone{Source: name, Counts: Counts{Data: 500}})
		})
	}
	workers.Wait()
	q.Close()
	<-done
	if p.Counts.Data != 2000 || p.Gaps != 2000 {
		t.Errorf("got %+v and %d gaps", p.Counts, p.Gaps)
	}
	q.Put(Tick{}) // after Close: nothing, not a panic
}
