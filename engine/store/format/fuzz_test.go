package format

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"aslrescue/engine/artifact"
)

// Fuzzing cannot guess checksums: where a structure has one, it is made to fit what the fuzzer gives.

func fixBlock(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) < BlockHeaderSize {
		return b
	}
	le.PutUint32(b[60:], crc(b[:60]))
	if h, err := DecodeBlockHeader(b); err == nil && h.Size() == int64(len(b)) {
		sum := blockSum(b[:BlockHeaderSize], b[h.Dir:len(b)-BlockTrailer])
		copy(b[len(b)-BlockTrailer:], sum[:])
	}
	return b
}

func FuzzBlock(f *testing.F) {
	f.Add(bytes.Clone(goldenBlock().Seal(0)))
	f.Add(bytes.Clone(goldenBlock().Seal(7)))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = fixBlock(b)
		h, entries, err := DecodeBlock(artifact.HashBytes(b), b)
		if err != nil {
			return
		}
		var again BlockBuilder
		again.Reset(nil)
		for _, e := range entries {
			if !again.Fits(int(e.Raw)) {
				t.Fatal("decoded what a builder would not take")
			}
			again.Add(e.Ref, e.Tag, e.Codec, b[e.Off:][:e.Stored], int(e.Raw))
		}
		if !bytes.Equal(again.Seal(h.Generation), b) {
			t.Fatal("encodes to other bytes")
		}
	})
}

func FuzzEntries(f *testing.F) {
	f.Add(goldenBlock().dir())
	f.Fuzz(func(t *testing.T, b []byte) {
		if rows, err := DecodeEntries(b); err == nil && len(rows)*BlockEntrySize != len(b) {
			t.Fatal("rows are missing")
		}
	})
}

func fixSegment(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) < SegmentHeaderSize {
		return b
	}
	le.PutUint32(b[92:], crc(b[:92]))
	h, err := DecodeSegmentHeader(b)
	if err != nil || h.Size != int64(len(b)) {
		return b
	}
	for i := range h.Pages() {
		p := b[h.PageAt(i):][:PageSize]
		le.PutUint32(p[PageSize-4:], crc(p[:PageSize-4]))
	}
	for i := range int(h.Blocks) {
		r := b[h.Table+int64(i)*BlockRowSize:][:BlockRowSize]
		le.PutUint32(r[40:], crc(r[:40]))
	}
	sum := segmentSum(b[:SegmentHeaderSize], b[h.Fences:len(b)-SegmentTrailer])
	copy(b[len(b)-SegmentTrailer:], sum[:])
	return b
}

func FuzzSegment(f *testing.F) {
	rows, entries := goldenSegment()
	for _, n := range []int{1, 2, 5, len(entries)} {
		_, entries := goldenSegment()
		b, err := EncodeSegment(0, rows[:min(n, 2)], entries[:n])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	d := entries[0].Ref.Digest
	f.Fuzz(func(t *testing.T, b []byte) {
		b = fixSegment(b)
		h, err := DecodeSegmentHeader(b)
		if err != nil || h.Size != int64(len(b)) {
			return
		}
		m, err := DecodeSegmentMeta(h, b, b[h.Fences:])
		if err != nil {
			return
		}
		for i := range 64 { // whatever stands there, answers come
			d[i%8] += byte(i * 37)
			m.MayContain(d)
			if first, last := m.PagesFor(d); first < 0 || last >= h.Pages() {
				t.Fatalf("pages %d to %d of %d", first, last, h.Pages())
			}
		}
		s, err := DecodeSegment(artifact.HashBytes(b), b)
		if err != nil {
			return
		}
		again, err := EncodeSegment(h.Level, s.Blocks, s.Entries)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again[SegmentHeaderSize:h.Filter], b[SegmentHeaderSize:h.Filter]) { // filters that differ may be as good
			t.Fatal("encodes to other bytes")
		}
	})
}

func FuzzPage(f *testing.F) {
	_, entries := goldenSegment()
	page := make([]byte, PageSize)
	encodePage(page, entries[:1])
	f.Add(bytes.Clone(page))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(bytes.Clone(b), make([]byte, PageSize)...)[:PageSize]
		le.PutUint32(b[PageSize-4:], crc(b[:PageSize-4]))
		entries, err := DecodePage(b)
		if err != nil {
			return
		}
		again := make([]byte, PageSize)
		encodePage(again, entries)
		if !bytes.Equal(again, b) {
			t.Fatal("encodes to other bytes")
		}
	})
}

func FuzzBlockRow(f *testing.F) {
	f.Add(make([]byte, BlockRowSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(bytes.Clone(b), make([]byte, BlockRowSize)...)[:BlockRowSize]
		le.PutUint32(b[40:], crc(b[:40]))
		if r, err := DecodeBlockRow(b); err == nil && r.check() != nil {
			t.Fatal("a row out of range")
		}
	})
}

// fixPart makes header and chain fit where lengths do.
func fixPart(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) < PartHeaderSize {
		return b
	}
	le.PutUint32(b[36:], crc(b[:36]))
	prev, at := hashOf("before"), PartHeaderSize
	for len(b)-at >= RecordOverhead {
		n := int64(le.Uint32(b[at+12:]))
		end := int64(at) + RecordOverhead + n
		if end > int64(len(b)) {
			break
		}
		prev = chain(prev, b[at:end-32])
		copy(b[end-32:end], prev[:])
		at = int(end)
	}
	return b
}

func FuzzPart(f *testing.F) {
	good := goldenPart(f)
	f.Add(good, false)
	f.Add(good[:len(good)-10], false)
	f.Add(append(bytes.Clone(good[:len(good)/2]), make([]byte, len(good)-len(good)/2)...), false)
	small, _ := randomPart(rand.New(rand.NewPCG(1, 1)), 0, 5)
	f.Add(small, true)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix {
			b = fixPart(b)
		}
		p, err := decode(b)
		if err != nil {
			if p.Torn {
				t.Fatal("damaged and torn")
			}
			return
		}
		pb := NewPart(goldenSeq, hashOf("before"))
		for _, r := range p.Records {
			pb.Add(r.Type, r.Payload)
		}
		again := pb.Bytes()
		if !p.Torn && !bytes.Equal(again, b) {
			t.Fatal("encodes to other bytes")
		}
		if n := len(again); n > PartHeaderSize && !bytes.Equal(again[PartHeaderSize:], b[PartHeaderSize:n]) {
			t.Fatal("the records are not those that stand there")
		}
	})
}

func FuzzPeekHead(f *testing.F) {
	f.Add(goldenPart(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		head, _, ok := PeekHead(fixPart(b))
		if !ok && head != (PartHead{}) {
			t.Fatal("no head, and yet one")
		}
	})
}

// FuzzRecords gives every record type's payload to every type.
func FuzzRecords(f *testing.F) {
	recs := goldenRecords()
	for _, r := range recs {
		f.Add(marshal(f, r.v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range recs {
			v := reflect.New(reflect.TypeOf(r.v))
			if Unmarshal(b, v.Interface()) == nil {
				settles(t, b, v)
			}
		}
	})
}

// settles holds that what was decoded encodes to the same bytes, or, where there were unknown keys, to bytes that decode to the same.
func settles(t *testing.T, b []byte, v reflect.Value) {
	t.Helper()
	again, err := Marshal(v.Interface())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(again, b) {
		return
	}
	if knownMode.Unmarshal(b, reflect.New(v.Type().Elem()).Interface()) == nil {
		t.Fatal("encodes to other bytes, and no key is unknown")
	}
	w := reflect.New(v.Type().Elem())
	if err := Unmarshal(again, w.Interface()); err != nil {
		t.Fatalf("what was encoded again does not decode: %v", err)
	}
	third, err := Marshal(w.Interface())
	if err != nil || !bytes.Equal(third, again) {
		t.Fatalf("does not settle: %v", err)
	}
}

func FuzzArtifacts(f *testing.F) {
	for i, c := range goldenCBOR {
		f.Add(byte(i), marshal(f, c.v))
	}
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		c := goldenCBOR[int(which)%len(goldenCBOR)]
		v, err := c.decode(b)
		if err != nil {
			return
		}
		rv := reflect.ValueOf(v)
		if rv.Kind() != reflect.Pointer {
			p := reflect.New(rv.Type())
			p.Elem().Set(rv)
			rv = p
		}
		settles(t, b, rv)
		again := marshal(t, v)
		if _, err := c.decode(again); err != nil {
			t.Fatalf("what was encoded again is refused: %v", err)
		}
	})
}

func FuzzExpand(f *testing.F) {
	d, err := NewDecoder()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(zstdOfAs, uint32(200))
	f.Fuzz(func(t *testing.T, b []byte, raw uint32) {
		out, err := d.Expand(nil, Zstd, b, raw)
		if err == nil && uint32(len(out)) != raw {
			t.Fatalf("%d bytes, want %d", len(out), raw)
		}
	})
}

// FuzzText holds that any text can be written and read.
func FuzzText(f *testing.F) {
	f.Add("a\xff", []byte("b"))
	f.Fuzz(func(t *testing.T, s string, p []byte) {
		in := SourceID{Name: s, Path: p, Serial: s + s}
		var out SourceID
		if err := Unmarshal(marshal(t, in), &out); err != nil {
			t.Fatal(err)
		}
		if out.Name != Text(s) || !bytes.Equal(out.Path, p) {
			t.Fatalf("%q became %q", s, out.Name)
		}
	})
}
