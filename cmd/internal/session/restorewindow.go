package session

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"aslrescue/engine/event"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// windowBytes is how much content is fetched in one go, and windowsAhead how many such pieces may wait for their writer: together
// they bound the memory of a restore.
const (
	windowBytes  = 4 << 20
	windowsAhead = 8
)

// window is content that is fetched ahead of its use.
type window struct {
	steps   []step          // of a tree: what is made before and with the content
	content []store.Stretch // data only
	bytes   int64
	buf     []byte  // the content, one stretch after the other
	at      []int   // where each stretch lies in buf
	bad     []error // per stretch; nil where it could be had
	err     error   // the end of the work
	last    bool    // of a long file: no window of its content follows
	done    chan struct{}
	users   atomic.Int32 // beside the one that got it from next
}

// use says that somebody else needs the window too; each use is matched by a free.
func (w *window) use() { w.users.Add(1) }

func (w *window) add(st store.Stretch) { w.content, w.bytes = append(w.content, st), w.bytes+st.Len }

// full tells whether the window should be sent.
func (w *window) full() bool { return w.bytes >= windowBytes || len(w.content) >= 4096 }

// ahead fetches windows with several workers and hands them on in their order.
type ahead struct {
	ctx     context.Context
	cancel  context.CancelFunc
	view    *store.View
	ordered chan *window
	work    chan *window
	bufs    sync.Pool
	wg      sync.WaitGroup
}

// newAhead starts the workers. fill makes the windows and gives them to send; it ends where send is false.
func newAhead(ctx context.Context, v *store.View, workers int, fill func(send func(*window) bool)) *ahead {
	a := &ahead{view: v, ordered: make(chan *window, windowsAhead), work: make(chan *window)}
	a.ctx, a.cancel = context.WithCancel(ctx)
	for range workers {
		a.wg.Go(func() {
			for w := range a.work {
				a.fetch(w)
				close(w.done)
			}
		})
	}
	a.wg.Go(func() {
		defer close(a.ordered)
		defer close(a.work)
		fill(a.send)
	})
	return a
}

func (a *ahead) send(w *window) bool {
	w.done = make(chan struct{})
	select {
	case a.ordered <- w:
	case <-a.ctx.Done():
		return false
	}
	select {
	case a.work <- w:
		return true
	case <-a.ctx.Done():
		w.err = a.ctx.Err()
		close(w.done)
		return false
	}
}

// next is the next window with its content; nil at the end.
func (a *ahead) next() (*window, error) {
	w, ok := <-a.ordered
	if !ok {
		return nil, a.ctx.Err()
	}
	<-w.done
	return w, w.err
}

// stop ends the workers and waits for them.
func (a *ahead) stop() {
	a.cancel()
	for range a.ordered { // whoever waits to send must not wait for ever
	}
	a.wg.Wait()
}

// free gives a window's memory to the next, when all have freed it who have it.
func (a *ahead) free(w *window) {
	if w.users.Add(-1) < 0 && cap(w.buf) > 0 {
		a.bufs.Put(&w.buf)
	}
}

func (a *ahead) fetch(w *window) {
	if len(w.content) == 0 {
		return
	}
	if b, ok := a.bufs.Get().(*[]byte); ok && int64(cap(*b)) >= w.bytes {
		w.buf = (*b)[:0]
	} else {
		w.buf = make([]byte, 0, max(w.bytes, windowBytes+1<<20))
	}
	w.at, w.bad = make([]int, 0, len(w.content)), make([]error, 0, len(w.content))
	w.err = a.view.Fetch(a.ctx, w.content,
		func(_ store.Stretch, data []byte) error {
			w.at, w.bad = append(w.at, len(w.buf)), append(w.bad, nil)
			w.buf = append(w.buf, data...)
			return nil
		},
		func(_ store.Stretch, err error) error {
			w.at, w.bad = append(w.at, len(w.buf)), append(w.bad, err)
			if isLost(err) {
				return nil
			}
			return err
		})
}

// stretch gives the bytes of one stretch of the content, or why it is missing.
func (w *window) stretch(i int) ([]byte, error) {
	if w.bad[i] != nil {
		return nil, w.bad[i]
	}
	return w.buf[w.at[i]:][:w.content[i].Len], nil
}

// missing is a range that could not be restored.
type missing struct {
	Path string `json:"path"`
	Off  int64  `json:"off"`
	Len  int64  `json:"len"`
	Kind string `json:"kind"` // unreadable, untried: never saved; damaged: saved and lost
	Why  string `json:"why,omitempty"`
}

func (m missing) String() string {
	s := fmt.Sprintf("%s: %s %s at %d", event.Printable(m.Path), event.Bytes(m.Len), m.Kind, m.Off)
	if m.Why != "" {
		s += ": " + event.Printable(m.Why)
	}
	return s
}

// sift gives the data of a page of a map to data and what is missing to gone. Zeros are nothing to do.
func sift(path string, page []store.Stretch, err error, data func(store.Stretch) bool, gone func(missing)) bool {
	for _, st := range page {
		switch {
		case st.Kind == source.Data:
			if !data(st) {
				return false
			}
		case st.Kind == source.Zero:
		case err != nil:
			gone(missing{path, st.Off, st.Len, "damaged", err.Error()})
		default:
			gone(missing{path, st.Off, st.Len, st.Kind.String(), ""})
		}
	}
	return true
}

// pagesOf walks the content of a place that has any: a linear source, or the file e.
func (p place) pagesOf(ctx context.Context, e *format.Entry) iter.Seq2[[]store.Stretch, error] {
	if e == nil {
		return p.view.MapPages(ctx, *p.src.Root)
	}
	return p.view.FilePages(ctx, e)
}
