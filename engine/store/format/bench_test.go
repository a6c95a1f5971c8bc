package format

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func BenchmarkEncodeSegment(b *testing.B) {
	for _, n := range []int{4096, 65_536, 262_144} {
		rows, entries := randomSegment(rand.New(rand.NewPCG(1, 1)), n, 1)
		rand.Shuffle(n, func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			var data []byte
			for b.Loop() {
				var err error
				if data, err = EncodeSegment(0, rows, slices.Clone(entries)); err != nil {
					b.Fatal(err)
				}
			}
			h, err := DecodeSegmentHeader(data)
			if err != nil {
				b.Fatal(err)
			}
			m, err := DecodeSegmentMeta(h, data, data[h.Fences:])
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(data))/float64(n), "bytes/entry")
			b.ReportMetric(8*float64(len(m.filter.Fingerprints))/float64(n), "filter-bits/entry")
			b.ReportMetric(8*float64(m.Bytes())/float64(n), "memory-bits/entry")
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 1))
	rows, entries := randomSegment(rnd, 262_144, 1)
	data, err := EncodeSegment(0, rows, entries)
	if err != nil {
		b.Fatal(err)
	}
	h, err := DecodeSegmentHeader(data)
	if err != nil {
		b.Fatal(err)
	}
	m, err := DecodeSegmentMeta(h, data, data[h.Fences:])
	if err != nil {
		b.Fatal(err)
	}
	absent := randomDigest(rnd)
	b.Run("no", func(b *testing.B) {
		for b.Loop() {
			m.MayContain(absent)
			absent[0]++
		}
	})
	b.Run("yes", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			lookup(b, m, data, entries[i%len(entries)].Ref.Digest)
		}
	})
}

func BenchmarkDecodeDirPage(b *testing.B) {
	var page []Entry
	for i := range 1500 {
		e := goldenEntry
		e.Name, e.Xattrs = fmt.Appendf(nil, "file-%06d", i), nil
		page = append(page, e)
	}
	raw := marshal(b, page)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := DecodeDirPage(raw); err != nil {
			b.Fatal(err)
		}
	}
}
