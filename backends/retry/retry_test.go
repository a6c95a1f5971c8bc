package retry_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aslrescue/backends/backendtest"
	"aslrescue/backends/local"
	"aslrescue/backends/retry"
	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
)

func TestConformance(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	b, err := local.CreatePath(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	if err := backendtest.Check(t.Context(), func() (store.Backend, error) {
		b, err := local.OpenPath(dir)
		if err != nil {
			return nil, err
		}
		return retry.New(b, retry.Options{}), nil
	}); err != nil {
		t.Fatal(err)
	}
}

// down is an error that passes.
type down struct{ after time.Duration }

func (d down) Error() string                     { return "down" }
func (d down) RetryAfter() (time.Duration, bool) { return d.after, true }

// flaky fails so many times before each call succeeds, and in the middle of reading and listing.
type flaky struct {
	store.Backend
	fails, left int
	err         error
}

func (f *flaky) fail() error {
	if f.left > 0 {
		f.left--
		return f.err
	}
	f.left = f.fails
	return nil
}

func (f *flaky) Create(context.Context, string, []byte) error { return f.fail() }

func (f *flaky) Open(_ context.Context, _ string, off, n int64) (io.ReadCloser, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	return io.NopCloser(&torn{strings.NewReader("0123456789"[off:][:n]), f}), nil
}

// torn gives three bytes and breaks.
type torn struct {
	r *strings.Reader
	f *flaky
}

func (t *torn) Read(p []byte) (int, error) {
	n, err := t.r.Read(p[:min(len(p), 3)])
	if err == nil && t.r.Len() > 0 {
		err = t.f.err
	}
	return n, err
}

func (f *flaky) List(_ context.Context, _, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		n := 0
		for _, name := range []string{"logs/d/1", "logs/d/2", "logs/d/3", "logs/d/4", "logs/d/5"} {
			if name <= after {
				continue
			}
			if n++; n > 2 {
				yield(store.Entry{}, f.err)
				return
			}
			if !yield(store.Entry{Name: name}, nil) {
				return
			}
		}
	}
}

type clock struct {
	at    time.Time
	waits []time.Duration
}

func newClock() *clock { return &clock{at: time.Unix(1_800_000_000, 0)} }

func (c *clock) options() retry.Options {
	return retry.Options{Now: func() time.Time { return c.at }, Wait: func(ctx context.Context, d time.Duration) error {
		c.at, c.waits = c.at.Add(d), append(c.waits, d)
		return context.Cause(ctx)
	}}
}

func TestWhatPassesIsTriedAgain(t *testing.T) {
	c := newClock()
	o := c.options()
	var told []retry.State
	o.Tell = func(s retry.State) { told = append(told, s) }
	b := retry.New(&flaky{fails: 20, left: 20, err: down{}}, o)
	if err := b.Create(t.Context(), "x", nil); err != nil {
		t.Fatal(err)
	}
	if len(c.waits) != 20 {
		t.Fatalf("%d tries", len(c.waits))
	}
	for i, d := range c.waits {
		if most := min(500*time.Millisecond<<min(i, 10), time.Minute); d <= 0 || d > most {
			t.Errorf("wait %d: %v, at most %v", i, d, most)
		}
	}
	if len(told) != 21 || told[0].Down == 0 || told[19].Tries != 20 || told[20].Down != 0 {
		t.Errorf("told: %+v", told)
	}
}

func TestTheServerSaysWhen(t *testing.T) {
	c := newClock()
	b := retry.New(&flaky{fails: 3, left: 3, err: down{90 * time.Second}}, c.options())
	if err := b.Create(t.Context(), "x", nil); err != nil {
		t.Fatal(err)
	}
	for _, d := range c.waits {
		if d < 90*time.Second {
			t.Errorf("waited %v", d)
		}
	}
}

func TestReadingGoesOnWhereItBroke(t *testing.T) {
	c := newClock()
	b := retry.New(&flaky{fails: 2, err: down{}}, c.options())
	r, err := b.Open(t.Context(), "x", 1, 8)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if string(got) != "12345678" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	var names []string
	for e, err := range b.List(t.Context(), "logs/", "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name[7:])
	}
	if strings.Join(names, "") != "12345" {
		t.Errorf("%v", names)
	}
}

func TestWhatDoesNotPassIsNot(t *testing.T) {
	for _, bad := range []error{artifact.ErrConflict, artifact.ErrFull, io.ErrUnexpectedEOF, errors.New("some")} {
		c := newClock()
		if err := retry.New(&flaky{fails: 1, left: 1, err: bad}, c.options()).Create(t.Context(), "x", nil); !errors.Is(err, bad) || len(c.waits) > 0 {
			t.Errorf("%v: %v after %d waits", bad, err, len(c.waits))
		}
	}
}

func TestPatienceEnds(t *testing.T) {
	c := newClock()
	o := c.options()
	o.Limit = time.Minute
	if err := retry.New(&flaky{fails: 1 << 30, left: 1 << 30, err: down{}}, o).Create(t.Context(), "x", nil); !errors.As(err, &down{}) || len(c.waits) < 3 {
		t.Errorf("%v after %v", err, c.waits)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("the operator stopped it")
	cancel(stopped)
	c = newClock()
	if err := retry.New(&flaky{fails: 1 << 30, left: 1 << 30, err: down{}}, c.options()).Create(ctx, "x", nil); err == nil || len(c.waits) > 1 {
		t.Errorf("%v after %v", err, c.waits)
	}
}

// changed is what a server says of bytes that are not those that were sent.
type changed struct{ down }

func (changed) Changed() bool { return true }

func TestBytesThatAlwaysChangeAreNotTheLine(t *testing.T) {
	c := newClock()
	if err := retry.New(&flaky{fails: 1, left: 1, err: changed{}}, c.options()).Create(t.Context(), "x", nil); err != nil {
		t.Errorf("once: %v", err)
	}
	if err := retry.New(&flaky{fails: 9, left: 9, err: changed{}}, c.options()).Create(t.Context(), "x", nil); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("nine times: %v", err)
	}
}
