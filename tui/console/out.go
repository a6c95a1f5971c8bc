package console

import (
	"io"
	"sync"
	"time"
)

// Out stands between what draws and a terminal that may be slow, or stopped, or gone: writing waits for it a moment at most. Then the frame is
// thrown away, and when the terminal takes bytes again it is told that the screen has to be drawn anew.
//
// Goroutines: NewOut starts one, which ends with Close, or with the process where the terminal never takes a byte again.
type Out struct {
	w     io.Writer
	again func() // called when frames were lost and the terminal is back

	mu      sync.Mutex
	ready   sync.Cond // something is waiting, or it is closed
	room    sync.Cond // something was written
	waiting []byte
	writing bool
	lost    bool
	given   bool // up: the terminal takes nothing, and what waits is not written any more
	closed  bool
}

const (
	mostWaiting = 256 << 10 // bytes; some frames
	patience    = 500 * time.Millisecond
)

// NewOut begins to write to w.
func NewOut(w io.Writer, again func()) *Out {
	o := &Out{w: w, again: again}
	o.ready.L, o.room.L = &o.mu, &o.mu
	go o.run()
	return o
}

func (o *Out) run() {
	for {
		o.mu.Lock()
		for len(o.waiting) == 0 && !o.closed {
			o.ready.Wait()
		}
		b := o.waiting
		o.waiting = nil
		o.writing = len(b) > 0
		end := o.closed && len(b) == 0
		o.mu.Unlock()
		if end {
			return
		}
		err := o.put(b)
		o.mu.Lock()
		lost := o.lost
		o.lost, o.writing = false, false
		if err != nil {
			o.closed, lost = true, false // a terminal that is gone takes nothing more
		}
		o.room.Broadcast()
		o.mu.Unlock()
		if lost && o.again != nil {
			o.again()
		}
	}
}

// put writes in pieces, so that what is given up ends soon.
func (o *Out) put(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), 1<<10)
		if _, err := o.w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
		o.mu.Lock()
		if o.given {
			b = nil
		}
		o.mu.Unlock()
	}
	return nil
}

// Write hands bytes over. It says that all was written also where it was thrown away: who draws cannot help it.
func (o *Out) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting)+len(b) > mostWaiting && !o.lost {
		o.waitUntil(func() bool { return len(o.waiting)+len(b) <= mostWaiting || o.closed }, patience)
	}
	if len(o.waiting)+len(b) > mostWaiting || o.closed {
		o.lost = true
		return len(b), nil
	}
	o.waiting = append(o.waiting, b...)
	o.ready.Signal()
	return len(b), nil
}

// waitUntil waits, with the lock, until f or until the time is over.
func (o *Out) waitUntil(f func() bool, d time.Duration) {
	late := false
	t := time.AfterFunc(d, func() {
		o.mu.Lock()
		late = true
		o.room.Broadcast()
		o.mu.Unlock()
	})
	defer t.Stop()
	for !f() && !late {
		o.room.Wait()
	}
}

// Drain waits a moment until the terminal has taken everything, and says whether it has.
func (o *Out) Drain() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waitUntil(func() bool { return len(o.waiting) == 0 && !o.writing }, patience)
	return len(o.waiting) == 0 && !o.writing
}

// GiveUp throws away what waits. Nothing is written after the piece that is under way.
func (o *Out) GiveUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting, o.given, o.closed = nil, true, true
	o.ready.Broadcast()
	o.room.Broadcast()
}

// Close ends it. What waits is written first, if the terminal takes it.
func (o *Out) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.ready.Broadcast()
	o.room.Broadcast()
}
