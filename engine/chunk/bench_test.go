package chunk

import "testing"

func BenchmarkCut(b *testing.B) {
	p := Default()
	for _, c := range []struct {
		name string
		cut  func([]byte, func(Piece))
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
			b.SetBytes(int64(len(c.buf)))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n = 0
				c.cut(c.buf, func(Piece) { n++ })
			}
			b.ReportMetric(float64(len(c.buf))/float64(n)/1024, "KiB/piece")
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
