package intake_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"aslrescue/engine/source"
	"aslrescue/engine/store"
)

// TestReader reads a snapshot at random offsets: every byte that it gives is the source's, and at a gap it says so and gives none.
func TestReader(t *testing.T) {
	content := mixed(9, 400_000)
	gaps := []source.Gap{{Off: 1024, Len: 512}, {Off: 100_352, Len: 20_480}, {Off: 399_872, Len: 128}}
	s, parts := rescues(t, [][]byte{content}, [][]source.Gap{gaps})
	_ = s
	r, err := parts[0].View.Reader(t.Context(), *parts[0].Source.Root)
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() != int64(len(content)) {
		t.Errorf("%d bytes", r.Size())
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	hits := 0
	for range 2000 {
		off, buf := rnd.Int64N(int64(len(content))), make([]byte, 1+rnd.IntN(30_000))
		n, err := r.ReadAt(buf, off)
		if !bytes.Equal(buf[:n], content[off:][:n]) {
			t.Fatalf("%d bytes at %d are not the source's", n, off)
		}
		end := off + int64(n)
		var gap *store.GapError
		switch {
		case errors.As(err, &gap):
			hits++
			if !inGap(gaps, end) || gap.Off > end || gap.Off+gap.Len <= end || gap.Kind != source.Unreadable {
				t.Fatalf("stopped at %d: %v", end, err)
			}
		case err == io.EOF:
			if end != int64(len(content)) {
				t.Fatalf("the end at %d", end)
			}
		case err != nil || n < len(buf):
			t.Fatalf("%d of %d bytes at %d: %v", n, len(buf), off, err)
		}
	}
	if hits == 0 {
		t.Error("no read came to a gap")
	}
	if _, err := r.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("read before the beginning")
	}
	if n, err := r.ReadAt(make([]byte, 1), int64(len(content))); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
}
