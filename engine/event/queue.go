package event

import (
	"fmt"
	"sync"
)

// Queue stands between the workers and whoever reads events: putting never waits, whatever the reader does.
//
// A snapshot of numbers is replaced by the next of its kind. Turning points stay in order and are kept; but a disk can
// have a million bad places, so where limit events wait already, further gaps of a source become one, and messages make
// room, the oldest of the least level first, and how many is told. Of all else there are only a few for each source.
//
// Put may be called from any goroutine; Run, once, by the one that reads.
type Queue struct {
	limit int

	mu      sync.Mutex
	ready   sync.Cond
	waiting []Event
	counts  map[string]int // where in waiting the snapshot of a kind and source stands
	left    int            // messages that made room
	closed  bool
}

// NewQueue makes a queue in which about limit turning points may wait.
func NewQueue(limit int) *Queue {
	q := &Queue{limit: max(limit, 1), counts: map[string]int{}}
	q.ready.L = &q.mu
	return q
}

// Put hands an event over. After Close it does nothing.
func (q *Queue) Put(e Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	defer q.ready.Signal()
	if IsCount(e) {
		key := countKey(e)
		if i, ok := q.counts[key]; ok {
			q.waiting[i] = e
			return
		}
		q.counts[key] = len(q.waiting)
		q.waiting = append(q.waiting, e)
		return
	}
	if len(q.waiting) >= q.limit && q.merge(e) {
		return
	}
	q.waiting = append(q.waiting, e)
}

// merge makes room for e, or takes it into what waits already, which it tells.
func (q *Queue) merge(e Event) bool {
	switch e := e.(type) {
	case Gap:
		for i := len(q.waiting) - 1; i >= 0; i-- {
			g, ok := q.waiting[i].(Gap)
			if ok && g.Source == e.Source && g.Kind == e.Kind {
				g.Places = max(g.Places, 1) + max(e.Places, 1)
				g.Len += e.Len
				q.waiting[i] = g
				return true
			}
		}
	case Message:
		return q.dropFor(e.Level)
	}
	return false
}

// dropFor takes out the oldest message of the least level that is not above l; if all are above, it is the new one that
// goes, which it tells. Errors are not dropped for less.
func (q *Queue) dropFor(l Level) bool {
	for _, least := range []Level{Info, Warning, Error} {
		for i, w := range q.waiting {
			if m, ok := w.(Message); ok && m.Level == least {
				q.left++
				q.remove(i)
				return false
			}
		}
		if least == l {
			break
		}
	}
	q.left++
	return true
}

func (q *Queue) remove(i int) {
	q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
	for key, at := range q.counts {
		if at > i {
			q.counts[key] = at - 1
		}
	}
}

func countKey(e Event) string {
	if p, ok := e.(SourceProgress); ok {
		return p.kind() + "\x00" + p.Source
	}
	return e.kind()
}

// Drain gives what waits now, in order, without waiting.
func (q *Queue) Drain() []Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.drain()
}

func (q *Queue) drain() []Event {
	out := q.waiting
	q.waiting = nil
	clear(q.counts)
	if q.left > 0 {
		out = append(out, Message{
			Stamp: at(out), Level: Warning,
			Text: fmt.Sprintf("%s left out here: whoever reads was too slow", CountOf(int64(q.left), "message was", "messages were")),
		})
		q.left = 0
	}
	return out
}

func at(events []Event) Stamp {
	if len(events) == 0 {
		return Stamp{}
	}
	return At(events[len(events)-1].When())
}

// Run gives the events to f, one by one, until the queue is closed and empty.
func (q *Queue) Run(f func(Event)) {
	for {
		q.mu.Lock()
		for len(q.waiting) == 0 && !q.closed {
			q.ready.Wait()
		}
		batch := q.drain()
		q.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, e := range batch {
			f(e)
		}
	}
}

// Close says that nothing more comes. Run ends after what waits.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ready.Broadcast()
}
