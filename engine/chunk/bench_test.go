package chunk

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

const sixteenMiB = 16 << 20

func random(seed byte, n int) []byte {
	buf := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(buf)
	return buf
}

// text is lines of words: much is repeated, but no page is like another.
func text(seed byte, n int) []byte {
	rnd := rand.New(rand.NewChaCha8([32]byte{seed}))
	buf := make([]byte, 0, n+16)
	for len(buf) < n {
		buf = fmt.Appendf(buf, "word%03d ", rnd.IntN(1000))
		if rnd.IntN(10) == 0 {
			buf = append(buf, '\n')
		}
	}
	return buf[:n]
}

// sparse is zero but for a page here and there.
func sparse(seed byte, n int) []byte {
	rnd := rand.New(rand.NewChaCha8([32]byte{seed}))
	buf := make([]byte, n)
	for off := 0; off+PageSize <= n; off += PageSize * (1 + rnd.IntN(200)) {
		for i := range PageSize {
			buf[off+i] = byte(rnd.Uint32())
		}
	}
	return buf
}

func BenchmarkCut(b *testing.B) {
	p := Default()
	for _, c := range []struct {
		name string
		cut  func([]Piece, []byte) []Piece
		buf  []byte
	}{
		{"Pages/random", p.Pages, random(1, sixteenMiB)},
		{"Pages/text", p.Pages, text(1, sixteenMiB)},
		{"Pages/mostlyzero", p.Pages, sparse(1, sixteenMiB)},
		{"Pages/zero", p.Pages, make([]byte, sixteenMiB)},
		{"Bytes/random", p.Bytes, random(1, sixteenMiB)},
		{"Bytes/text", p.Bytes, text(1, sixteenMiB)},
		{"Bytes/100k", p.Bytes, random(1, 100_000)},
		{"Bytes/4k", p.Bytes, random(1, 4096)},
	} {
		b.Run(c.name, func(b *testing.B) {
			var dst []Piece
			b.SetBytes(int64(len(c.buf)))
			b.ReportAllocs()
			for b.Loop() {
				dst = c.cut(dst[:0], c.buf)
			}
			b.ReportMetric(float64(len(c.buf))/float64(len(dst))/1024, "KiB/piece")
		})
	}
}

func BenchmarkPageHash(b *testing.B) {
	page := (*[PageSize]byte)(random(1, PageSize))
	b.SetBytes(PageSize)
	for b.Loop() {
		PageHash(page)
	}
}
