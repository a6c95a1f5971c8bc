package format

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"aslrescue/engine/artifact"
)

// random gives a part of records with payloads of these lengths, and where each record ends.
func randomPart(rnd *rand.Rand, sizes ...int) (b []byte, ends []int) {
	pb := NewPart(goldenSeq, hashOf("before"))
	for _, n := range sizes {
		payload := make([]byte, n)
		for i := range payload {
			if rnd.IntN(3) > 0 { // zeros are what a cut write is known by
				payload[i] = byte(rnd.Uint32())
			}
		}
		pb.Add(RecordType(rnd.Uint32()), payload)
		ends = append(ends, len(pb.buf))
	}
	return pb.Bytes(), ends
}

func decode(b []byte) (Part, error) { return DecodePart(b, goldenSeq, hashOf("before")) }

// wholeIn gives how many records end at or before n.
func wholeIn(ends []int, n int) int {
	i, ok := slices.BinarySearch(ends, n)
	if ok {
		i++
	}
	return i
}

func testParts(t *testing.T) map[string]func() ([]byte, []int) {
	parts := map[string]func() ([]byte, []int){
		"golden": func() ([]byte, []int) {
			b := goldenPart(t)
			p, err := decode(b)
			if err != nil {
				t.Fatal(err)
			}
			var ends []int
			at := PartHeaderSize
			for _, r := range p.Records {
				at += RecordOverhead + len(r.Payload)
				ends = append(ends, at)
			}
			return b, ends
		},
		"one empty record": func() ([]byte, []int) { return randomPart(rand.New(rand.NewPCG(1, 1)), 0) },
		"small ones":       func() ([]byte, []int) { return randomPart(rand.New(rand.NewPCG(2, 1)), 0, 1, 30, 7, 0, 200) },
		"ends in zeros": func() ([]byte, []int) {
			pb := NewPart(goldenSeq, hashOf("before"))
			var ends []int
			for range 3 {
				pb.Add(PartHeadType, append([]byte{1, 0, 0, 7}, make([]byte, 600)...))
				ends = append(ends, len(pb.buf))
			}
			return pb.Bytes(), ends
		},
	}
	return parts
}

func TestOneFlippedByteOfAWholePartIsDamage(t *testing.T) {
	for name, make := range testParts(t) {
		good, _ := make()
		for i := range good {
			for _, x := range []byte{1, 0x80, 0xff, good[i], 0x55} {
				if x == 0 {
					continue
				}
				b := bytes.Clone(good)
				b[i] ^= x // good[i] among the masks: the byte becomes zero
				if p, err := decode(b); !errors.Is(err, artifact.ErrDamaged) || p.Torn {
					t.Fatalf("%s: byte %d of %d xor %#02x: %d records, torn %v, %v", name, i, len(b), x, len(p.Records), p.Torn, err)
				}
			}
		}
	}
}

func TestATruncatedPartIsTornAfterItsWholeRecords(t *testing.T) {
	for name, make := range testParts(t) {
		good, ends := make()
		for n := range good {
			p, err := decode(good[:n])
			if err != nil || !p.Torn || len(p.Records) != wholeIn(ends, n) {
				t.Fatalf("%s: cut to %d of %d: %d records, torn %v, %v", name, n, len(good), len(p.Records), p.Torn, err)
			}
		}
	}
}

// A crash can leave the length and not the bytes: zeros from some point to the end, which may be short too.
func TestAPartWithZerosAtItsEndIsTornAfterItsWholeRecords(t *testing.T) {
	for name, make := range testParts(t) {
		good, ends := make()
		for _, length := range []int{len(good), len(good) &^ 511, len(good) * 2 / 3} {
			for from := range length {
				b := bytes.Clone(good[:length])
				clear(b[from:])
				intact := len(b) // bytes that are as they were
				for intact > from && good[intact-1] == 0 {
					intact--
				}
				same := bytes.Equal(b, good[:length])
				p, err := decode(b)
				switch {
				case same && length == len(good):
					if err != nil || p.Torn {
						t.Fatalf("%s: zeros where zeros were: %v, torn %v", name, err, p.Torn)
					}
					continue
				case length-from < tornZeros && length == len(good) && !p.Torn:
					if !errors.Is(err, artifact.ErrDamaged) { // cannot be told from a flipped byte
						t.Fatalf("%s: %d of %d: %v", name, from, length, err)
					}
					continue
				}
				// a record is whole if the bytes it lost were zeros anyway
				want := 0
				for i, end := range ends {
					if end <= length && bytes.Equal(b[:end], good[:end]) {
						want = i + 1
					}
				}
				if err != nil || !p.Torn || len(p.Records) != want {
					t.Fatalf("%s: zeros from %d to %d of %d: %d records, want %d, torn %v, %v", name, from, length, len(good), len(p.Records), want, p.Torn, err)
				}
			}
		}
	}
}

func TestZerosAtSectorAndPageBoundariesAreTorn(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		good, ends := randomPart(rnd, rnd.IntN(300), rnd.IntN(9000), rnd.IntN(9000), rnd.IntN(20_000))
		for _, sector := range []int{512, 4096} {
			for from := 0; from+tornZeros <= len(good); from += sector {
				b := bytes.Clone(good)
				clear(b[from:])
				p, err := decode(b)
				if err != nil || !p.Torn || len(p.Records) != wholeIn(ends, from) {
					t.Fatalf("seed %d: zeros from %d of %d: %d records, torn %v, %v", seed, from, len(b), len(p.Records), p.Torn, err)
				}
			}
		}
	}
}

func TestZerosNeverDecode(t *testing.T) {
	for n := range 10_000 {
		p, err := decode(make([]byte, n))
		if err != nil || !p.Torn || len(p.Records) > 0 {
			t.Fatalf("%d zeros: %d records, torn %v, %v", n, len(p.Records), p.Torn, err)
		}
		if _, _, ok := PeekHead(make([]byte, n)); ok {
			t.Fatalf("%d zeros have a head", n)
		}
	}
}

func TestWhatIsNoCutIsDamage(t *testing.T) {
	good, ends := randomPart(rand.New(rand.NewPCG(3, 1)), 40, 50, 60)
	short := func(b []byte) []byte { return b[:len(b)-1] }
	for name, c := range map[string]func([]byte) []byte{
		"a byte more":                       func(b []byte) []byte { return append(b, 0) },
		"many zeros more":                   func(b []byte) []byte { return append(b, make([]byte, 4096)...) },
		"twice":                             func(b []byte) []byte { return append(b, b...) },
		"short, and a whole record is bad":  func(b []byte) []byte { b[ends[0]+20] ^= 1; return short(b) },
		"zeros, and a record before is bad": func(b []byte) []byte { b[ends[0]+20] ^= 1; clear(b[ends[1]+5:]); return b },
		"length for no record":              func(b []byte) []byte { return resize(b[:PartHeaderSize], PartHeaderSize) },
		"length below the header":           func(b []byte) []byte { return resize(b, 3) },
		"reserved word":                     func(b []byte) []byte { b[33] = 1; return resize(b, len(b)) },
		"header size":                       func(b []byte) []byte { b[12] = 48; return resize(b, len(b)) },
		"payload length above the limit":    func(b []byte) []byte { b[ends[0]+15] = 0xff; return b },
		"another position": func(b []byte) []byte {
			c, _ := randomPart(rand.New(rand.NewPCG(3, 1)), 40)
			c[PartHeaderSize]++
			return c
		},
	} {
		p, err := decode(c(bytes.Clone(good)))
		if !errors.Is(err, artifact.ErrDamaged) || p.Torn {
			t.Errorf("%s: torn %v, %v", name, p.Torn, err)
		}
	}
	for name, c := range map[string]func([]byte) []byte{
		"version": func(b []byte) []byte { b[8] = 2; return resize(b, len(b)) },
		"flags":   func(b []byte) []byte { b[16] = 1; return resize(b, len(b)) },
	} {
		if p, err := decode(c(bytes.Clone(good))); !errors.Is(err, artifact.ErrUnsupported) || p.Torn {
			t.Errorf("%s: torn %v, %v", name, p.Torn, err)
		}
	}
	if _, err := DecodePart(good, goldenSeq, hashOf("another")); !errors.Is(err, artifact.ErrDamaged) {
		t.Errorf("a part that chains to another record: %v", err)
	}
	if _, err := DecodePart(good, goldenSeq+1, hashOf("before")); !errors.Is(err, artifact.ErrDamaged) {
		t.Errorf("a part of another position: %v", err)
	}
}

// resize gives a part's header another length and a checksum that fits.
func resize(b []byte, size int) []byte {
	le.PutUint64(b[24:], uint64(size))
	le.PutUint32(b[36:], crc(b[:36]))
	return b
}

func TestUnknownRecordTypesAreKept(t *testing.T) {
	pb := NewPart(1, Hash{})
	pb.Add(0x4153_ffff, []byte("not even CBOR"))
	pb.Add(IntakeEndType, marshal(t, IntakeEnd{Why: "x"}))
	p, err := DecodePart(pb.Bytes(), 1, Hash{})
	if err != nil || len(p.Records) != 2 || p.Records[0].Type != 0x4153_ffff || string(p.Records[0].Payload) != "not even CBOR" {
		t.Fatalf("%+v: %v", p, err)
	}
	if seq, prev := pb.Next(); seq != 3 || prev != p.Records[1].Hash {
		t.Fatalf("goes on from %d", seq)
	}
}
