package digest

import (
	"context"
	"fmt"
	"hash"
	"sync"

	"lukechampine.com/blake3"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// window is how much is hashed at a time; the next one is read meanwhile.
const window = 4 << 20

// zeros stands for what holds none.
var zeros [1 << 20]byte

// Gaps collects the gaps of a map as the log tells them.
type Gaps struct {
	Count, Bytes int64
	off, n       int64 // of the one being joined
	list         *blake3.Hasher
}

// Add takes in a gap behind the ones before.
func (g *Gaps) Add(off, n int64) {
	g.Bytes += n
	if g.n > 0 && g.off+g.n == off {
		g.n += n
		return
	}
	g.flush()
	g.Count++
	g.off, g.n = off, n
}

func (g *Gaps) flush() {
	if g.n == 0 {
		return
	}
	if g.list == nil {
		g.list = blake3.New(32, nil)
	}
	fmt.Fprintf(g.list, "%d %d\n", g.off, g.n)
	g.n = 0
}

// Into writes what was collected into a record.
func (g *Gaps) Into(d *format.Digest) {
	g.flush()
	d.Gaps, d.GapBytes = g.Count, g.Bytes
	if g.list != nil {
		d.GapList = g.list.Sum(nil)
	}
}

// GapsOf lists the gaps of a linear source of a snapshot to each, neighbours joined whatever their kind, and collects them.
func GapsOf(ctx context.Context, v *store.View, root artifact.Ref, each func(off, n int64)) (*Gaps, error) {
	g := &Gaps{}
	off, n := int64(0), int64(0)
	tell := func() {
		if n > 0 && each != nil {
			each(off, n)
		}
		n = 0
	}
	for page, err := range v.MapPages(ctx, root) {
		if err != nil {
			return nil, err
		}
		for _, st := range page {
			if st.Kind == source.Data || st.Kind == source.Zero {
				continue
			}
			g.Add(st.Off, st.Len)
			if n == 0 || off+n != st.Off {
				tell()
				off = st.Off
			}
			n += st.Len
		}
	}
	tell()
	return g, ctx.Err()
}

// Snapshot hashes a linear source of a snapshot from its first byte to its last, whatever the order it was read in. Gaps count as zeros and are listed.
// Every chunk is held against its name on the way, so this is a verification too. progress may be nil.
func Snapshot(ctx context.Context, v *store.View, src *format.SourceResult, names []string, progress func(done, total int64)) (format.Digest, error) {
	d := format.Digest{Snapshot: v.Snapshot.Number, Source: src.Name, Size: src.Length, Sums: map[string][]byte{}, How: "store"}
	if src.Root == nil {
		return d, fmt.Errorf("%s is a tree: only a run of bytes has digests", src.Name)
	}
	h := newHashers(names)
	defer h.close()
	var gaps Gaps
	done := int64(0)
	lost := func(st store.Stretch, err error) error { return fmt.Errorf("at %d: %w", st.Off, err) }
	for page, err := range v.MapPages(ctx, *src.Root) {
		if err != nil {
			return d, err
		}
		at := 0
		until := func(off int64) { // what holds no data before off
			for ; at < len(page) && page[at].Off < off; at++ {
				if st := page[at]; st.Kind != source.Data {
					h.zeros(st.Len)
					if st.Kind != source.Zero {
						gaps.Add(st.Off, st.Len)
					}
				}
			}
		}
		use := func(st store.Stretch, data []byte) error {
			until(st.Off)
			h.write(data)
			return nil
		}
		if err := v.Fetch(ctx, page, use, lost); err != nil {
			return d, err
		}
		for _, st := range page {
			done += st.Len
		}
		until(done)
		if progress != nil {
			progress(done, src.Length)
		}
	}
	gaps.Into(&d)
	for i, sum := range h.sums() {
		d.Sums[names[i]] = sum
	}
	if done != src.Length {
		return d, fmt.Errorf("the map covers %d bytes, the source has %d: %w", done, src.Length, artifact.ErrDamaged)
	}
	return d, nil
}

// hashers feed several hashes, each on its own goroutine, window by window.
type hashers struct {
	hs    []hash.Hash
	in    []chan []byte
	wg    sync.WaitGroup
	free  chan []byte
	cur   []byte
	ended bool
	mu    sync.Mutex
	refs  map[*byte]int
}

func newHashers(names []string) *hashers {
	h := &hashers{free: make(chan []byte, 3), refs: map[*byte]int{}}
	for range cap(h.free) {
		h.free <- make([]byte, 0, window)
	}
	for _, n := range names {
		hh, in := newHash(n), make(chan []byte, 1)
		h.hs, h.in = append(h.hs, hh), append(h.in, in)
		h.wg.Go(func() {
			for b := range in {
				hh.Write(b)
				h.done(b)
			}
		})
	}
	return h
}

func (h *hashers) done(b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := &b[:1][0]
	if h.refs[k]--; h.refs[k] == 0 {
		delete(h.refs, k)
		h.free <- b[:0]
	}
}

func (h *hashers) write(p []byte) {
	for len(p) > 0 {
		if h.cur == nil {
			h.cur = <-h.free
		}
		n := min(len(p), window-len(h.cur))
		h.cur, p = append(h.cur, p[:n]...), p[n:]
		if len(h.cur) == window {
			h.send()
		}
	}
}

func (h *hashers) zeros(n int64) {
	for n > 0 {
		k := min(n, int64(len(zeros)))
		h.write(zeros[:k])
		n -= k
	}
}

func (h *hashers) send() {
	b := h.cur
	h.cur = nil
	h.mu.Lock()
	h.refs[&b[0]] = len(h.in)
	h.mu.Unlock()
	for _, in := range h.in {
		in <- b
	}
}

func (h *hashers) close() {
	if h.ended {
		return
	}
	h.ended = true
	for _, in := range h.in {
		close(in)
	}
	h.wg.Wait()
}

func (h *hashers) sums() (sums [][]byte) {
	if len(h.cur) > 0 {
		h.send()
	}
	h.close()
	for _, hh := range h.hs {
		sums = append(sums, hh.Sum(nil))
	}
	return sums
}
