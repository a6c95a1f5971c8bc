package aslhttp_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"aslrescue/backends/aslhttp"
	"aslrescue/backends/local"
	"aslrescue/backends/retry"
	"aslrescue/engine/artifact"
	"aslrescue/engine/chunk"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/source/sourcetest"
	"aslrescue/engine/store"
	"aslrescue/engine/vfs/memfs"
)

var (
	runs = flag.Int("runs", 60, "bad lines to try")
	seed = flag.Uint64("seed", 1, "of the first")
)

// badLine does to each request what a line and a server may do, by chance: nothing of it may be seen in what is stored.
type badLine struct {
	h http.Handler

	mu     sync.Mutex
	rng    *rand.Rand
	faults map[string]int
	clock  time.Duration // how wrong the server's is
}

func (l *badLine) draw() string {
	kinds := []string{"refused", "busy", "broken", "lost answer", "torn answer", "sent twice", "flipped on the way in"}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rng.IntN(100) >= 12 {
		return ""
	}
	k := kinds[l.rng.IntN(len(kinds))]
	l.faults[k]++
	return k
}

func (l *badLine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", time.Unix(1, 0).Add(l.clock).UTC().Format(http.TimeFormat))
	switch fault := l.draw(); fault {
	case "refused":
		panic(http.ErrAbortHandler)
	case "busy":
		w.Header().Set("Retry-After", "1")
		w.WriteHeader([]int{429, 502, 503, 504}[len(r.URL.Path)%4])
	case "broken":
		w.WriteHeader(http.StatusInternalServerError)
	case "lost answer":
		l.h.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case "torn answer":
		rec := httptest.NewRecorder()
		l.h.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(rec.Code)
		_, _ = w.Write(body[:len(body)/2])
		if len(body) > 0 {
			panic(http.ErrAbortHandler)
		}
	case "sent twice":
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		again := r.Clone(r.Context())
		again.Body = io.NopCloser(bytes.NewReader(body))
		l.h.ServeHTTP(httptest.NewRecorder(), again)
		r.Body = io.NopCloser(bytes.NewReader(body))
		l.h.ServeHTTP(w, r)
	case "flipped on the way in":
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if len(body) > 0 && r.Method == http.MethodPut {
			body[len(body)/3] ^= 4
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		l.h.ServeHTTP(w, r)
	default:
		l.h.ServeHTTP(w, r)
	}
}

func small() chunk.Params {
	p := chunk.Default()
	p.SuperBlock, p.ZeroRun = 16<<10, 2
	p.Min, p.Avg, p.Max = 4<<10, 8<<10, 16<<10
	p.ByteMin, p.ByteAvg, p.ByteMax = 256, 1<<10, 4<<10
	return p
}

func sources(seed uint64) []source.Source {
	img := make([]byte, 300_000)
	sourcetest.Pattern{Seed: seed}.Fill(img, 0)
	clear(img[100_000:180_000])
	return []source.Source{
		sourcetest.NewLinear(sourcetest.Config{Name: "image", Bytes: img}),
		sourcetest.NewTree("tree", []sourcetest.Entry{{Path: "a/b", Content: img[:70_000]}, {Path: "short", Content: img[:100]}, {Path: "c", Content: img[200_000:230_000]}}),
	}
}

func options() intake.Options {
	return intake.Options{Compression: intake.None, Workers: 2, Budget: intake.MinBudget, AckEvery: -1, ForceAfter: 1, Chunk: small(), Clock: func() time.Time { return time.Unix(1_800_000_000, 0) }}
}

// roots are what the bytes of all sources hang on.
func roots(t *testing.T, s *store.Store, n uint64) []artifact.Ref {
	t.Helper()
	v, err := s.At(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	var all []artifact.Ref
	for _, src := range v.Manifest.Sources {
		switch {
		case src.Root != nil:
			all = append(all, artifact.Sum(fmt.Appendf(nil, "%+v", *src.Root)))
		case src.Top != nil:
			all = append(all, artifact.Sum(fmt.Appendf(nil, "%+v", *src.Top)))
		}
	}
	return all
}

// Over a line that loses, tears, repeats and flips, and with a server whose clock is years off, an intake that is also given up in the middle and gone on with
// ends with the same roots as over a good one, and nothing that was sealed is stored twice.
func TestBadLines(t *testing.T) {
	want := overLine(t, 0, false)
	total := map[string]int{}
	for n := range *runs {
		s := *seed + uint64(n)
		got := overLine(t, s, true)
		for k, v := range got.faults {
			total[k] += v
		}
		if !slices.Equal(got.roots, want.roots) {
			t.Fatalf("seed %d: roots %v, want %v", s, got.roots, want.roots)
		}
		if got.again > 0 {
			t.Errorf("seed %d: %d blocks were stored a second time", s, got.again)
		}
	}
	t.Logf("%d bad lines: %v", *runs, total)
	if len(total) < 7 && *runs >= 60 {
		t.Errorf("only these faults came: %v", total)
	}
}

type outcome struct {
	roots  []artifact.Ref
	faults map[string]int
	again  int
}

func overLine(t *testing.T, seed uint64, bad bool) outcome {
	t.Helper()
	fsys := memfs.New()
	b, err := local.Create(fsys, "memory")
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 7))
	line := &badLine{rng: rng, faults: map[string]int{}, clock: time.Duration(rng.IntN(20)-10) * 365 * 24 * time.Hour}
	created := map[string]int{}
	var mu sync.Mutex
	p := serveOver(t, b, "", aslhttp.ServerOptions{Silence: 2 * time.Second, Done: func(r aslhttp.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Created {
			created[r.Path]++
		}
	}}, func(h http.Handler) http.Handler {
		line.h = h
		if !bad {
			return h
		}
		return line
	})
	defer p.web.Close()
	patience := retry.Options{Wait: func(ctx context.Context, d time.Duration) error { return ctx.Err() }}
	reach := func() *store.Store {
		var c store.Backend
		if err := retry.Do(t.Context(), patience, func() (err error) {
			c, _, err = aslhttp.New(t.Context(), p.web.URL, p.options(aslhttp.Full))
			return err
		}); err != nil {
			t.Fatal(seed, err)
		}
		c = retry.New(c, patience)
		s, err := store.Create(t.Context(), c, store.Options{Domain: domain})
		if err != nil {
			t.Fatal(seed, err)
		}
		return s
	}
	s, o, stops := reach(), options(), rand.New(rand.NewPCG(seed, 8))
	if bad { // the machine goes down in the middle
		ctx, cancel := context.WithCancel(t.Context())
		o.Events = func(e event.Event) {
			mu.Lock()
			defer mu.Unlock()
			if _, ok := e.(event.ResumePoint); ok && stops.IntN(6) == 0 {
				cancel()
			}
		}
		_, err := intake.Run(ctx, s, sources(1), o)
		cancel()
		_ = s.Backend().Close() // it went down
		if err != nil {
			s = reach()
		}
	}
	o = options()
	srcs := sources(1)
	if in, ok := intake.Find(s.Unfinished(), srcs); ok {
		o.Resume = &in.Begin.Intake
	}
	rep, err := intake.Run(t.Context(), s, srcs, o)
	if err != nil || rep.Result != event.Complete {
		t.Fatalf("seed %d: %v, %v", seed, rep, err)
	}
	// What the server holds is looked at without the line between.
	there, err := store.Open(t.Context(), b, store.Options{})
	if err != nil || there.Broken() != nil {
		t.Fatalf("seed %d: %v, %v", seed, err, there)
	}
	var ids []artifact.Digest
	for _, seal := range there.Segments() {
		ids = append(ids, seal.Blocks...)
	}
	if hurt, err := there.VerifyBlocks(t.Context(), ids, 1, nil); err != nil || len(hurt) > 0 {
		t.Fatalf("seed %d: %v, %v", seed, hurt, err)
	}
	p.web.Close() // what was under way there has ended
	out := outcome{roots: roots(t, there, 0), faults: line.faults}
	mu.Lock()
	defer mu.Unlock()
	for _, n := range created {
		out.again += n - 1
	}
	return out
}
