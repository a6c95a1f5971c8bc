package format

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"aslrescue/engine/artifact"
)

func randomDigest(rnd *rand.Rand) (d artifact.Digest) {
	for i := 0; i < len(d); i += 8 {
		le.PutUint64(d[i:], rnd.Uint64())
	}
	return d
}

func TestRandomBlocksRoundTrip(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var b BlockBuilder
		b.Reset(nil)
		var stored [][]byte
		for range 1 + rnd.IntN(50) {
			data := make([]byte, rnd.IntN(2000))
			for i := range data {
				data[i] = byte(rnd.Uint32())
			}
			codec, raw := Plain, len(data)
			if rnd.IntN(2) == 0 {
				codec, raw = Zstd, len(data)+1+rnd.IntN(5000)
			}
			tag := artifact.Tag(rnd.IntN(2)) * artifact.DirPage
			b.Add(artifact.Ref{Hash: artifact.BLAKE3, Digest: randomDigest(rnd)}, tag, codec, data, raw)
			stored = append(stored, data)
		}
		want, gen := slices.Clone(b.Entries()), rnd.Uint32()
		data := b.Seal(0)
		if gen%2 == 0 {
			data = b.Regenerate(gen)
		} else {
			gen = 0
		}
		h, got, err := DecodeBlock(artifact.HashBytes(data), data)
		if err != nil || h.Generation != gen || !slices.Equal(got, want) {
			t.Fatalf("seed %d: %+v: %v", seed, h, err)
		}
		for i, e := range got {
			if !bytes.Equal(data[e.Off:][:e.Stored], stored[i]) {
				t.Fatalf("seed %d: artifact %d is not where the directory says", seed, i)
			}
		}
		if rows, err := DecodeEntries(data[h.Dir : len(data)-BlockTrailer]); err != nil || !slices.Equal(rows, want) {
			t.Fatalf("seed %d: the directory alone: %v", seed, err)
		}
	}
}

func TestTheLargestBlocks(t *testing.T) {
	var b BlockBuilder
	b.Reset(nil)
	for i := 0; b.Fits(128); i++ {
		b.Add(artifact.Ref{Hash: artifact.BLAKE3, Digest: artifact.Digest{byte(i), byte(i >> 8), byte(i >> 16)}}, 0, Plain, make([]byte, 128), 128)
	}
	if b.Count() != BlockCountMax || b.RawBytes() != BlockRawMax || b.Fits(0) {
		t.Fatalf("%d artifacts, %d bytes", b.Count(), b.RawBytes())
	}
	data := b.Seal(0)
	if _, _, err := DecodeBlock(artifact.HashBytes(data), data); err != nil || len(data) != BlockSizeMax {
		t.Fatalf("%d bytes: %v", len(data), err)
	}
	b.Reset(nil)
	if !b.Fits(artifact.MaxSize) {
		t.Fatal("the largest artifact does not fit into a block")
	}
	big := make([]byte, artifact.MaxSize)
	b.Add(artifact.Sum(big), 0, Plain, big, len(big))
	data = b.Seal(0)
	if _, _, err := DecodeBlock(artifact.HashBytes(data), data); err != nil || b.Fits(1) {
		t.Fatal(err)
	}
}

// randomSegment makes n entries. Some digests are there twice, some differ from their neighbour only after the first
// 8 bytes, which is all that filter and fences know; same says how many may share those.
func randomSegment(rnd *rand.Rand, n, same int) ([]BlockRow, []SegmentEntry) {
	rows := make([]BlockRow, 1+rnd.IntN(min(n, 32)))
	for i := range rows {
		rows[i] = BlockRow{randomDigest(rnd), rnd.Uint32N(3), BlockSizeMax}
	}
	entries := make([]SegmentEntry, 0, n)
	for len(entries) < n {
		d := randomDigest(rnd)
		for range 1 + rnd.IntN(same) {
			if rnd.IntN(3) > 0 {
				copy(d[8+rnd.IntN(20):], []byte{byte(rnd.Uint32()), byte(rnd.Uint32())})
			}
			stored := rnd.Uint32N(70_000)
			e := SegmentEntry{Ref: artifact.Ref{Hash: artifact.BLAKE3, Digest: d}, Block: rnd.Uint32N(uint32(len(rows))), Off: 64 + rnd.Uint32N(8<<20), Stored: stored, Raw: stored}
			if e.Off+e.Stored > BlockHeaderSize+BlockRawMax {
				e.Off = 64
			}
			if rnd.IntN(2) == 0 {
				e.Codec, e.Raw = Zstd, e.Raw+1+rnd.Uint32N(1000)
			}
			if len(entries) < n {
				entries = append(entries, e)
			}
		}
	}
	return rows, entries
}

// lookup finds a digest as an index does: filter, fences, pages.
func lookup(t testing.TB, m *SegmentMeta, b []byte, d artifact.Digest) (found []SegmentEntry, maybe bool) {
	if !m.MayContain(d) {
		return nil, false
	}
	first, last := m.PagesFor(d)
	for i := first; i <= last; i++ {
		page, err := DecodePage(b[m.PageAt(i):][:PageSize])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if e.Ref.Digest == d {
				found = append(found, e)
			}
		}
	}
	return found, true
}

func checkSegment(t *testing.T, rnd *rand.Rand, n, same int) {
	t.Helper()
	rows, entries := randomSegment(rnd, n, same)
	shuffled := slices.Clone(entries)
	rnd.Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	data, err := EncodeSegment(7, rows, entries)
	if err != nil {
		t.Fatalf("%d entries: %v", n, err)
	}
	again, err := EncodeSegment(7, rows, shuffled)
	if err != nil || !bytes.Equal(data, again) {
		t.Fatalf("%d entries: their order changes the segment (%v)", n, err)
	}
	s, err := DecodeSegment(artifact.HashBytes(data), data)
	if err != nil || !slices.Equal(s.Entries, entries) || !slices.Equal(s.Blocks, rows) || s.Meta.Level != 7 {
		t.Fatalf("%d entries: %v", n, err)
	}
	step := max(1, n/20_000)
	for i := 0; i < n; i += step {
		d := entries[i].Ref.Digest
		found, _ := lookup(t, s.Meta, data, d)
		var want []SegmentEntry
		for j := i; j >= 0 && entries[j].Ref.Digest == d; j-- {
			want = append(want, entries[j])
		}
		slices.Reverse(want)
		for j := i + 1; j < n && entries[j].Ref.Digest == d; j++ {
			want = append(want, entries[j])
		}
		if !slices.Equal(found, want) {
			t.Fatalf("%d entries: entry %d: found %d copies, want %d", n, i, len(found), len(want))
		}
		near := d // in the filter, on the same pages, and not there
		near[31] ^= 0x55
		if found, maybe := lookup(t, s.Meta, data, near); len(found) > 0 || !maybe {
			t.Fatalf("%d entries: found what is not there", n)
		}
	}
	for range 2000 {
		if found, _ := lookup(t, s.Meta, data, randomDigest(rnd)); len(found) > 0 {
			t.Fatalf("%d entries: found what is not there", n)
		}
	}
	for _, d := range []artifact.Digest{{}, artifact.Digest(bytes.Repeat([]byte{0xff}, 32))} {
		if first, last := s.Meta.PagesFor(d); last >= s.Meta.Pages() || first < 0 || last < -1 {
			t.Fatalf("%d entries: pages %d to %d of %d", n, first, last, s.Meta.Pages())
		}
	}
}

func TestRandomSegmentsRoundTrip(t *testing.T) {
	for n := 1; n <= 10; n++ {
		for seed := range uint64(20) {
			checkSegment(t, rand.New(rand.NewPCG(seed, uint64(n))), n, 1+int(seed%3))
		}
	}
	for i, n := range []int{PageEntries - 1, PageEntries, PageEntries + 1, 2 * PageEntries, 1000, 4096} {
		for _, same := range []int{1, 3, 100, 400} { // more than a page, too
			checkSegment(t, rand.New(rand.NewPCG(uint64(i), uint64(same))), n, same)
		}
	}
	checkSegment(t, rand.New(rand.NewPCG(1, 2)), 262_144, 2)
}

func TestFilterSaysNoToMostThatIsNotThere(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	rows, entries := randomSegment(rnd, 10_000, 1)
	data, err := EncodeSegment(0, rows, entries)
	if err != nil {
		t.Fatal(err)
	}
	s, err := DecodeSegment(artifact.HashBytes(data), data)
	if err != nil {
		t.Fatal(err)
	}
	yes := 0
	for range 100_000 {
		if s.Meta.MayContain(randomDigest(rnd)) {
			yes++
		}
	}
	if yes > 600 { // 1 of 256 is 390
		t.Errorf("yes to %d of 100000 that are not there", yes)
	}
}
