// Package retry wraps a backend, so that what fails for a while is tried again until it works: a line that is down, a server that is busy. It is
// the only place that is patient; a backend by itself tries everything once.
package retry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
)

// Temporary is an error of a backend's after which the same call may succeed, and after how long at the earliest.
type Temporary interface{ RetryAfter() (time.Duration, bool) }

// Options say how patient to be, and whom to tell.
type Options struct {
	// Limit is how long one call may fail before its error is given; 0 is without end.
	Limit time.Duration
	// Tell is told when the place stops answering, now and then while it does not, and when it answers again; may be nil. It is called by one goroutine at a time.
	Tell func(State)
	Now  func() time.Time
	Wait func(context.Context, time.Duration) error // 0 means until ctx ends
}

// State is how it stands with the place.
type State struct {
	Down  time.Duration // how long it has not answered; 0: it answers again
	Err   error         // what came last
	Tries int           // since it stopped
	Next  time.Duration // when it is tried again
}

const (
	first = 500 * time.Millisecond
	most  = time.Minute
	// changes is how often other bytes may arrive than were sent. TLS lets none through that the line changed.
	changes = 4
)

type backend struct {
	b store.Backend
	o Options

	mu    sync.Mutex
	since time.Time // it stopped answering; zero: it answers
	tries int
}

// New wraps b. Closing closes b.
func New(b store.Backend, o Options) store.Backend {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	return &backend{b: b, o: o}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Do calls f until it succeeds, or fails for good. What it may be given as a store's opening too, which is no call of a backend yet.
func Do(ctx context.Context, o Options, f func() error) error {
	b := New(nil, o).(*backend)
	return b.do(ctx, f)
}

func (b *backend) do(ctx context.Context, f func() error) error {
	began := b.o.Now()
	others := 0 // how often other bytes arrived
	for n := 0; ; n++ {
		err := f()
		var t Temporary
		least, again := time.Duration(0), false
		if errors.As(err, &t) {
			least, again = t.RetryAfter()
		}
		if !again || ctx.Err() != nil {
			b.answered(err)
			return err
		}
		if changed(err) {
			others++
		}
		if others >= changes { // it is not the line
			return fmt.Errorf("sent %d times, and other bytes arrived %d times; suspect this machine's memory or network card: %w", n+1, others, err)
		}
		d := max(least, time.Duration(rand.Int64N(int64(min(first<<min(n, 10), most)))+1))
		if b.o.Limit > 0 && b.o.Now().Sub(began)+d > b.o.Limit {
			return fmt.Errorf("given up after %v: %w", b.o.Now().Sub(began).Round(time.Second), err)
		}
		b.failed(err, d)
		if werr := b.o.Wait(ctx, d); werr != nil {
			return fmt.Errorf("%w; the last answer was: %w", werr, err)
		}
	}
}

// changed tells whether the bytes changed on the way.
func changed(err error) bool {
	var c interface{ Changed() bool }
	return errors.As(err, &c) && c.Changed()
}

func (b *backend) failed(err error, next time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.since.IsZero() {
		b.since, b.tries = b.o.Now(), 0
	}
	b.tries++
	if b.o.Tell != nil {
		b.o.Tell(State{Down: max(b.o.Now().Sub(b.since), 1), Err: err, Tries: b.tries, Next: next})
	}
}

// answered takes note that the place answered, if only to say no.
func (b *backend) answered(err error) {
	if err != nil && !artifactError(err) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.since.IsZero() {
		return
	}
	b.since = time.Time{}
	if b.o.Tell != nil {
		b.o.Tell(State{Tries: b.tries})
	}
}

func artifactError(err error) bool {
	for _, e := range []error{artifact.ErrNotFound, artifact.ErrConflict, artifact.ErrDamaged, io.ErrUnexpectedEOF} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Create is part of store.Backend. It may be sent any number of times: the same bytes are no conflict.
func (b *backend) Create(ctx context.Context, name string, data []byte) error {
	return b.do(ctx, func() error { return b.b.Create(ctx, name, data) })
}

// Stat is part of store.Backend.
func (b *backend) Stat(ctx context.Context, name string) (size int64, err error) {
	err = b.do(ctx, func() (err error) {
		size, err = b.b.Stat(ctx, name)
		return err
	})
	return size, err
}

// Open is part of store.Backend. Where reading breaks off it goes on behind what was read.
func (b *backend) Open(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	r := &reader{b: b, ctx: ctx, name: name, off: off, n: n}
	if err := b.do(ctx, r.open); err != nil {
		return nil, err
	}
	return r, nil
}

type reader struct {
	b      *backend
	ctx    context.Context
	name   string
	off, n int64 // what is still to be read; n < 0: to the end
	in     io.ReadCloser
}

func (r *reader) open() (err error) {
	if r.in != nil {
		_ = r.in.Close() // it is broken
		r.in = nil
	}
	in, err := r.b.b.Open(r.ctx, r.name, r.off, r.n)
	if err == nil {
		r.in = in
	}
	return err
}

func (r *reader) Read(p []byte) (n int, err error) {
	fresh := true
	err = r.b.do(r.ctx, func() error {
		if !fresh {
			if err := r.open(); err != nil {
				return err
			}
		}
		fresh = false
		var err error
		n, err = r.in.Read(p)
		r.off += int64(n)
		if r.n >= 0 {
			r.n -= int64(n)
		}
		if n > 0 && err != nil && err != io.EOF { // what came is good; what is wrong is met again by the next Read
			return nil
		}
		return err
	})
	return n, err
}

func (r *reader) Close() error {
	if r.in == nil {
		return nil
	}
	return r.in.Close()
}

// List is part of store.Backend. Where it breaks off it goes on behind the last name.
func (b *backend) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		left := false
		err := b.do(ctx, func() error {
			for e, err := range b.b.List(ctx, prefix, after) {
				if err != nil {
					return err
				}
				after = e.Name
				if left = !yield(e, nil); left {
					return nil
				}
			}
			return nil
		})
		if err != nil && !left {
			yield(store.Entry{}, err)
		}
	}
}

// Info is part of store.Backend.
func (b *backend) Info() store.Info {
	i := b.b.Info()
	if verify := i.Verify; verify != nil {
		i.Verify = func(ctx context.Context, name string) (size int64, err error) {
			err = b.do(ctx, func() (err error) {
				size, err = verify(ctx, name)
				return err
			})
			return size, err
		}
	}
	return i
}

// Close is part of store.Backend.
func (b *backend) Close() error { return b.b.Close() }
