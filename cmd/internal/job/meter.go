package job

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/engine/source"
	"aslrescue/engine/source/passes"
	"aslrescue/engine/store"
	"aslrescue/tui/ask"
)

// Meter finds out what a job waits for, from outside: how long sources take to answer, how long the place takes to store, how much of the
// cores is in use. Its wrappers cost two readings of a clock for each megabyte.
type Meter struct {
	reading, storing atomic.Int64 // nanoseconds within calls
	cpu              func() time.Duration
	now              func() time.Time
	good             atomic.Int64 // when a source last gave bytes, in nanoseconds since 1970
	name             atomic.Value // of the source that is read

	mu   sync.Mutex
	last sample
	word ask.Slowest
}

type sample struct {
	at                    time.Time
	reading, storing, cpu time.Duration
}

// NewMeter begins to measure.
func NewMeter() *Meter {
	m := &Meter{cpu: processTime, now: time.Now}
	m.last = sample{at: m.now(), cpu: m.cpu()}
	return m
}

func processTime() time.Duration {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// LastGood is how long ago a source gave bytes; 0 where none has yet.
func (m *Meter) LastGood() time.Duration {
	at := m.good.Load()
	if at == 0 {
		return 0
	}
	return max(m.now().Sub(time.Unix(0, at)), 0)
}

// every is how much time one word is about.
const every = 2 * time.Second

// Slowest is what the job waited for most, of the last few seconds.
func (m *Meter) Slowest() ask.Slowest {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := sample{m.now(), time.Duration(m.reading.Load()), time.Duration(m.storing.Load()), m.cpu()}
	took := now.at.Sub(m.last.at)
	if took < every {
		return m.word
	}
	share := func(d time.Duration) float64 { return float64(d) / float64(took) }
	name, _ := m.name.Load().(string)
	m.word = slowest(share(now.reading-m.last.reading), share(now.storing-m.last.storing), share(now.cpu-m.last.cpu)/float64(runtime.NumCPU()), name)
	m.last = now
	return m.word
}

// slowest decides. One goroutine reads at a time, so reading is the share of the time in which a source was waited for. Where the
// source does not take most of it, something behind it does: the place if it stores most of the time, the cores if they are busy,
// and else what is left, room for what was read.
func slowest(reading, storing, cpu float64, name string) ask.Slowest {
	percent := func(what string, f float64) string {
		return fmt.Sprintf("%s %d%% of the time", what, int(min(f, 1)*100))
	}
	switch {
	case reading >= 0.6 && reading >= cpu:
		return ask.Slowest{Part: ask.Source, Name: name, Why: percent("waited for", reading)}
	case storing >= 0.6 && storing >= cpu:
		return ask.Slowest{Part: ask.Destination, Why: percent("storing", storing)}
	case cpu >= 0.6:
		return ask.Slowest{Part: ask.CPU, Why: percent("busy", cpu)}
	case reading+storing+cpu < 0.05:
		return ask.Slowest{}
	case reading >= max(storing, cpu):
		return ask.Slowest{Part: ask.Source, Name: name, Why: percent("waited for", reading)}
	case storing >= cpu && storing >= 0.3:
		return ask.Slowest{Part: ask.Destination, Why: percent("storing", storing)}
	case cpu >= 0.3:
		return ask.Slowest{Part: ask.CPU, Why: percent("busy", cpu)}
	}
	return ask.Slowest{Part: ask.Memory, Why: "reading waits for room"}
}

func (m *Meter) read(name string, from time.Time, n int) {
	if m == nil {
		return
	}
	m.reading.Add(int64(m.now().Sub(from)))
	m.name.Store(name)
	if n > 0 {
		m.good.Store(m.now().UnixNano())
	}
}

// Skipper is a source that a person can give up.
type Skipper interface{ Skip() }

// Source measures src, and lets it be skipped if it is linear.
func (m *Meter) Source(src source.Source) source.Source {
	switch s := src.(type) {
	case source.Raw:
		return &raw{linear: linear{Linear: s, m: m}, r: s}
	case source.Linear:
		return &linear{Linear: s, m: m}
	case source.TreeSource:
		return &tree{TreeSource: s, m: m}
	}
	return src
}

type linear struct {
	source.Linear
	m       *Meter
	skipped atomic.Bool
}

// Under is what is measured.
func (l *linear) Under() source.Source { return l.Linear }

func (l *linear) Skip() { l.skipped.Store(true) }

func (l *linear) Read(ctx context.Context, buf []byte, off int64) (int, []source.Gap, error) {
	if l.skipped.Load() {
		return 0, nil, source.ErrSkipped
	}
	from := l.m.now()
	n, gaps, err := l.Linear.Read(ctx, buf, off)
	missing := int64(0)
	for _, g := range gaps {
		missing += g.Len
	}
	l.m.read(l.Info().Name, from, n-int(missing))
	return n, gaps, err
}

type raw struct {
	linear
	r source.Raw
}

// Try is as source.Raw says.
func (r *raw) Try(ctx context.Context, buf []byte, rd passes.Read) (passes.Result, unix.Errno, error) {
	if r.skipped.Load() {
		return passes.Result{}, 0, source.ErrSkipped
	}
	from := r.m.now()
	res, errno, err := r.r.Try(ctx, buf, rd)
	r.m.read(r.Info().Name, from, int(res.Good))
	return res, errno, err
}

type tree struct {
	source.TreeSource
	m *Meter
}

func (t *tree) OpenFile(path string) (source.TreeFile, error) {
	from := t.m.now()
	f, err := t.TreeSource.OpenFile(path)
	t.m.read(t.Info().Name, from, 0)
	if err != nil {
		return nil, err
	}
	return &file{f, t}, nil
}

type file struct {
	source.TreeFile
	t *tree
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	from := f.t.m.now()
	n, err := f.TreeFile.ReadAt(p, off)
	f.t.m.read(f.t.Info().Name, from, n)
	return n, err
}

var _ io.ReaderAt = (*file)(nil)

// Backend measures how long storing takes.
func (m *Meter) Backend(b store.Backend) store.Backend { return &backend{Backend: b, m: m} }

type backend struct {
	store.Backend
	m *Meter
}

func (b *backend) Create(ctx context.Context, name string, data []byte) error {
	from := b.m.now()
	err := b.Backend.Create(ctx, name, data)
	b.m.storing.Add(int64(b.m.now().Sub(from)))
	return err
}
