package chunk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/PlakarKorp/go-cdc-chunkers"

	"aslrescue/engine/artifact"
)

const sixteenMiB = 16 << 20

// The inputs below use nothing of rand but the bytes of ChaCha8, which are specified: goldens depend on them.

func random(seed byte, n int) []byte {
	buf := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(buf)
	return buf
}

// text is lines of words: much is repeated, but no page is like another.
func text(seed byte, n int) []byte {
	buf := make([]byte, 0, n+16)
	for _, r := range random(seed, n/6+1) {
		buf = fmt.Appendf(buf, "word%03d ", r)
		if r%10 == 0 {
			buf = append(buf, '\n')
		}
	}
	return buf[:n]
}

// sparse is zero but for a page here and there, some of them closer than a zero run.
func sparse(seed byte, n int) []byte {
	buf, gaps := make([]byte, n), random(seed, n/PageSize+1)
	page := random(seed+1, PageSize)
	for i, off := 0, 0; off+PageSize <= n; i++ {
		copy(buf[off:], page[:])
		buf[off] = byte(i)
		off += PageSize * (1 + int(gaps[i])%40)
	}
	return buf
}

func same(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

func zero(n int) []byte { return make([]byte, n) }

// render shows pieces by their lengths, zero pieces with a z; long lists end in a digest of the whole.
func render(ps []Piece) string {
	var w strings.Builder
	for i, p := range ps {
		if i > 0 {
			w.WriteByte(' ')
		}
		if p.Zero {
			w.WriteByte('z')
		}
		fmt.Fprint(&w, p.Len)
	}
	all := w.String()
	if len(ps) <= 8 {
		return all
	}
	return fmt.Sprintf("%s … %d %s", strings.Join(strings.Fields(all)[:6], " "), len(ps), artifact.HashBytes([]byte(all)).Short())
}

// Every store ever written depends on these: a change here, also one that comes with a new version of the library,
// needs a new algorithm id and the old cuts kept.
func TestCutsAreGolden(t *testing.T) {
	p := Default()
	mixed := slices.Concat(random(5, 100_000), zero(300_000), text(5, 150_000), zero(15*PageSize), random(6, 77_777), zero(70_000))
	for _, c := range []struct {
		name         string
		buf          []byte
		pages, bytes string
	}{
		{"nothing", nil, "", ""},
		{"1 byte", random(1, 1), "1", "1"},
		{"4095 bytes", random(1, 4095), "4095", "4095"},
		{"a page", random(1, 4096), "4096", "4096"},
		{"a page and a byte", random(1, 4097), "4097", "4097"},
		{"100 000 bytes", random(2, 100_000), "16384 20480 40960 22176", "100000"},
		{"1 MiB", random(3, 1<<20), "20480 98304 32768 45056 159744 176128 … 13 b6496c0a6be8", "71548 51424 67933 89552 21571 110893 … 16 45eee4a17caa"},
		{"1 MiB and a tail", random(4, 1<<20+1234), "147456 262144 40960 77824 49152 32768 … 15 5a2875cdbc73", "23261 114625 38163 54339 21037 64943 … 19 86cf6279c3e7"},
		{"text", text(1, 1<<20), "53248 86016 90112 147456 20480 98304 … 13 bd8b196a4b59", "54193 17014 23416 16608 90561 118889 … 17 2b730ddeb09d"},
		{"zero", zero(sixteenMiB), "z16777216", "z16777216"},
		{"zero with a tail", zero(16*PageSize + 1), "z65537", "z65537"},
		{"zero but short", zero(16*PageSize - 1), "65535", "65535"},
		{"0xff", same(0xff, 1<<20), "262144 262144 262144 262144", "262144 262144 262144 262144"},
		{"the letter d", same('d', 1<<20), "262144 262144 262144 262144", "262144 262144 262144 262144"},
		{"mixed", mixed, "102400 z294912 36864 77824 163840 16384 z66993", "37179 65221 z294912 70764 18768 16768 188612 z66993"},
		{"sparse", sparse(1, 4<<20), "4096 z106496 4096 z122880 8192 z94208 … 62 5409d3d781f2", "4096 z106496 4096 z122880 8192 z94208 … 60 db5d43e48933"},
		{"16 MiB", random(7, sixteenMiB), "98304 253952 81920 73728 143360 16384 … 194 0268f18c33dc", "22021 18690 179757 24502 64479 36234 … 226 5ad42110d873"},
		{"16 MiB of text", text(7, sixteenMiB-1), "24576 45056 135168 188416 36864 143360 … 225 155aa74eaec2", "24885 25310 22257 20857 52572 51161 … 215 a275c363e6ef"},
	} {
		if got := render(pieces(p.Pages, c.buf)); got != c.pages {
			t.Errorf("Pages of %s:\n got %s\nwant %s", c.name, got, c.pages)
		}
		if got := render(pieces(p.Bytes, c.buf)); got != c.bytes {
			t.Errorf("Bytes of %s:\n got %s\nwant %s", c.name, got, c.bytes)
		}
	}
}

func TestPageHashIsGolden(t *testing.T) {
	for _, c := range []struct {
		name string
		buf  []byte
		want uint64
	}{
		{"zero", zero(PageSize), 0xf31b55e6198afae1},
		{"0x01", same(1, PageSize), 0x77e7ebcf9b199e88},
		{"0xff", same(0xff, PageSize), 0xf0b593a23374ec27},
		{"random", random(1, PageSize), 0xccd8f11f1566cb07},
		{"text", text(1, PageSize), 0x19b3fde3311b84f4},
	} {
		if got := PageHash((*[PageSize]byte)(c.buf)); got != c.want {
			t.Errorf("%s: got %#016x, want %#016x", c.name, got, c.want)
		}
	}
}

// Pages that differ little are common on disks. Each must fall on its own side of the cut, about one in Avg/Page.
func pieces(cut func([]byte, func(Piece)), buf []byte) (all []Piece) {
	cut(buf, func(p Piece) { all = append(all, p) })
	return all
}

func TestPageHashSpreadsSimilarPages(t *testing.T) {
	const n, one = 16384, 16
	for name, page := range map[string]func(i int, p []byte){
		"one byte all over":  func(i int, p []byte) { copy(p, same(byte(i), PageSize)); p[0] = byte(i >> 8) },
		"one bit in zeros":   func(i int, p []byte) { clear(p); p[i%PageSize] = 1 << (i / PageSize) },
		"counter at the end": func(i int, p []byte) { clear(p); p[PageSize-1], p[PageSize-2] = byte(i), byte(i>>8) },
		"counter at each 16": func(i int, p []byte) {
			clear(p)
			for j := 0; j < PageSize; j += 16 {
				p[j], p[j+1] = byte(i), byte(i>>8)
			}
		},
		"counter at each 512": func(i int, p []byte) {
			clear(p)
			for j := 8; j < PageSize; j += 512 {
				p[j], p[j+1] = byte(i), byte(i>>8)
			}
		},
		"one word moves": func(i int, p []byte) { clear(p); p[i%512*8], p[i%512*8+1] = 1, byte(i/512) },
	} {
		var buf [PageSize]byte
		seen, cuts := map[uint64]bool{}, 0
		for i := range n {
			page(i, buf[:])
			h := PageHash(&buf)
			seen[h] = true
			if h <= ^uint64(0)/one {
				cuts++
			}
		}
		if want := n / one; cuts < want*3/4 || cuts > want*5/4 {
			t.Errorf("%s: %d of %d pages cut, want about %d", name, cuts, n, want)
		}
		if len(seen) < n-1 {
			t.Errorf("%s: %d pages share %d hashes", name, n, len(seen))
		}
	}
}

// check holds pieces against what the docs promise, by a slow and separate reading of them.
func check(t *testing.T, p Params, buf []byte, ps []Piece, pages bool) {
	t.Helper()
	isZeroToo := func(b []byte) bool { return bytes.Count(b, []byte{0}) == len(b) }
	off := 0
	for i, x := range ps {
		if x.Off != off || x.Len <= 0 {
			t.Fatalf("piece %d is %+v, want one at %d", i, x, off)
		}
		off += x.Len
		if off > len(buf) || x.Off/int(p.SuperBlock) != (off-1)/int(p.SuperBlock) {
			t.Fatalf("piece %d %+v crosses the end of a super-block or of %d bytes", i, x, len(buf))
		}
		lo, hi, run := p.Min, p.Max, int(p.ZeroRun*p.Page)
		if !pages {
			lo, hi = p.ByteMin, p.ByteMax
		}
		atEnd := off == len(buf) || off%int(p.SuperBlock) == 0
		if x.Zero {
			if !isZeroToo(buf[x.Off:off]) || x.Len < run || x.Off%PageSize != 0 || off%PageSize != 0 && !atEnd {
				t.Fatalf("zero piece %d %+v is not zero, short or not aligned", i, x)
			}
			if i > 0 && ps[i-1].Zero && x.Off%int(p.SuperBlock) != 0 {
				t.Fatalf("zero pieces %d and %d are one run", i-1, i)
			}
			continue
		}
		last := atEnd || ps[i+1].Zero // of its stretch of data
		if x.Len > int(hi) && (pages || !last || x.Len > int(p.ByteAvg)) || x.Len < int(lo) && !last {
			t.Fatalf("data piece %d %+v has not %d to %d bytes", i, x, lo, hi)
		}
		// The whole run counts, also what a cut put into the next pieces.
		for at := (x.Off + PageSize - 1) / PageSize * PageSize; at < off; at += PageSize {
			sbEnd := min(len(buf), (at/int(p.SuperBlock)+1)*int(p.SuperBlock))
			if at+run <= sbEnd && isZeroToo(buf[at:at+run]) {
				t.Fatalf("data piece %d %+v has a zero run at %d", i, x, at)
			}
		}
		if !pages {
			continue
		}
		if off%PageSize != 0 && off != len(buf) {
			t.Fatalf("data piece %d %+v ends within a page", i, x)
		}
		for end := x.Off + int(p.Min); end <= off && end <= x.Off+x.Len/PageSize*PageSize; end += PageSize {
			page := buf[end-PageSize : end]
			cut := !isZeroToo(page) && PageHash((*[PageSize]byte)(page)) <= ^uint64(0)/uint64(p.Avg/p.Page)
			if cut && end != off || !cut && end == off && x.Len != int(p.Max) && !last {
				t.Fatalf("data piece %d %+v: the page before %d cuts: %v", i, x, end, cut)
			}
		}
	}
	if off != len(buf) {
		t.Fatalf("pieces cover %d of %d bytes", off, len(buf))
	}
}

// tiny makes everything happen within a few pages.
func tiny() Params {
	p := Default()
	p.SuperBlock, p.ZeroRun = 64<<10, 3
	p.Min, p.Avg, p.Max = 4<<10, 8<<10, 16<<10
	p.ByteMin, p.ByteAvg, p.ByteMax = 64, 256, 1024
	return p
}

// build makes a source from a short recipe: each byte is up to 32 pages of a kind, tail cuts a part of the last off.
func build(recipe []byte, tail uint16) []byte {
	var buf []byte
	for i, r := range recipe {
		n := (1 + int(r&31)) * PageSize
		switch r >> 5 {
		case 0, 1, 2:
			buf = append(buf, zero(n)...)
		case 3:
			buf = append(buf, same(r, n)...)
		case 4:
			buf = append(buf, text(byte(i), n)...)
		case 5: // zero but for the last byte of a page
			z := zero(n)
			z[len(z)-1] = 1
			buf = append(buf, z...)
		default:
			buf = append(buf, random(byte(i), n)...)
		}
	}
	return buf[:max(0, len(buf)-int(tail)%PageSize)]
}

func FuzzPieces(f *testing.F) {
	f.Add([]byte{}, uint16(0))
	f.Add([]byte{0xff, 0x02, 0xe0, 0x01, 0x9f, 0x1f, 0x0f}, uint16(1))
	f.Add([]byte{0x1f, 0x60, 0xa3, 0x02, 0xa0, 0x02}, uint16(4095))
	f.Add([]byte{0xef, 0x0f, 0xef, 0x0e, 0xe0, 0x0f}, uint16(100))
	f.Fuzz(func(t *testing.T, recipe []byte, tail uint16) {
		if len(recipe) > 40 {
			return
		}
		buf := build(recipe, tail)
		for _, p := range []Params{tiny(), Default()} {
			check(t, p, buf, pieces(p.Pages, buf), true)
			check(t, p, buf, pieces(p.Bytes, buf), false)
		}
	})
}

func TestPiecesKeepTheirPromises(t *testing.T) {
	rnd := random(9, 1500)
	for i := 0; i+10 < len(rnd); i += 10 {
		buf := build(rnd[i:i+8], uint16(rnd[i+8])<<8|uint16(rnd[i+9]))
		p := tiny()
		check(t, p, buf, pieces(p.Pages, buf), true)
		check(t, p, buf, pieces(p.Bytes, buf), false)
	}
	p := Default()
	for _, buf := range [][]byte{random(1, sixteenMiB), text(1, sixteenMiB-1), sparse(1, sixteenMiB), same(0xff, 3<<20)} {
		check(t, p, buf, pieces(p.Pages, buf), true)
		check(t, p, buf, pieces(p.Bytes, buf), false)
	}
}

// Each super-block is cut on its own, so cutting several at once, one after the other, or all at the same time is the same.
func TestSuperBlocksAreIndependent(t *testing.T) {
	p := tiny()
	buf := build(random(3, 60), 77)
	for name, cut := range map[string]func([]byte, func(Piece)){"Pages": p.Pages, "Bytes": p.Bytes} {
		want := pieces(cut, buf)
		parts := make([][]Piece, (len(buf)+int(p.SuperBlock)-1)/int(p.SuperBlock))
		var wg sync.WaitGroup
		for i := range parts {
			wg.Go(func() {
				start := i * int(p.SuperBlock)
				parts[i] = pieces(cut, buf[start:min(start+int(p.SuperBlock), len(buf))])
				for j := range parts[i] {
					parts[i][j].Off += start
				}
			})
		}
		wg.Wait()
		if got := slices.Concat(parts...); !slices.Equal(got, want) {
			t.Errorf("%s: %d pieces at the same time, %d in one go", name, len(got), len(want))
		}
	}
}

func ends(ps []Piece, from, shift int) map[int]bool {
	m := map[int]bool{}
	for _, p := range ps {
		if e := p.Off + p.Len; e >= from {
			m[e+shift] = true
		}
	}
	return m
}

func TestAnEditMovesOnlyCutsNearby(t *testing.T) {
	p := Default()
	buf := random(1, 8<<20)
	const at = 4 << 20
	page := random(2, PageSize)
	over := slices.Clone(buf)
	copy(over[at:], page)
	for _, c := range []struct {
		name   string
		cut    func([]byte, func(Piece))
		edited []byte
		shift  int
	}{
		{"Pages, a page overwritten", p.Pages, over, 0},
		{"Pages, a page inserted", p.Pages, slices.Insert(slices.Clone(buf), at, page...), PageSize},
		{"Bytes, a page overwritten", p.Bytes, over, 0},
		{"Bytes, a byte inserted", p.Bytes, slices.Insert(slices.Clone(buf), at, 7), 1},
	} {
		before, after := pieces(c.cut, buf), pieces(c.cut, c.edited)
		for _, e := range before {
			if e.Off+e.Len <= at && !slices.Contains(after, e) {
				t.Errorf("%s: piece %+v before the edit is gone", c.name, e)
			}
		}
		// Two ways of cutting meet again at the first page that both may cut after; with these bytes within 1 MiB.
		was, is := ends(before, at+1<<20, c.shift), ends(after, at+1<<20+c.shift, 0)
		for e := range was {
			if !is[e] {
				t.Errorf("%s: the cut at %d is gone", c.name, e)
			}
		}
		if len(was) != len(is) || len(was) < 20 {
			t.Errorf("%s: %d cuts behind the edit, %d before", c.name, len(is), len(was))
		}
	}
}

func TestNothingBeforeAZeroRunMovesCutsBehindIt(t *testing.T) {
	p := Default()
	tail := slices.Concat(zero(int(p.ZeroRun)*PageSize), random(8, 1<<20))
	for name, cut := range map[string]func([]byte, func(Piece)){"Pages": p.Pages, "Bytes": p.Bytes} {
		want := pieces(cut, tail)
		for pages := range 40 {
			got := pieces(cut, slices.Concat(random(byte(pages), pages*PageSize), tail))
			got = got[len(got)-len(want):]
			for i := range got {
				got[i].Off -= pages * PageSize
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s: %d pages before the zero run move the cuts behind it", name, pages)
			}
		}
	}
}

// Bytes calls the library below its reader; what comes out must be what everybody else gets from it.
func TestBytesEqualsTheLibrary(t *testing.T) {
	p := Default()
	for _, buf := range [][]byte{random(1, 5<<20), text(2, 5<<20+1), random(3, 70_000)} {
		c, err := chunkers.NewChunker("jc-v1.0.0", bytes.NewReader(buf),
			&chunkers.ChunkerOpts{MinSize: int(p.ByteMin), NormalSize: int(p.ByteAvg), MaxSize: int(p.ByteMax)})
		if err != nil {
			t.Fatal(err)
		}
		var want []Piece
		for off := 0; ; {
			b, err := c.Next()
			if len(b) > 0 {
				want = append(want, Piece{Off: off, Len: len(b)})
				off += len(b)
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := pieces(p.Bytes, buf); !slices.Equal(got, want) {
			t.Errorf("%d bytes: got %s, the library %s", len(buf), render(got), render(want))
		}
	}
}

func TestDefaultIsGoldenAndValid(t *testing.T) {
	p := Default()
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	if err := tiny().Validate(); err != nil {
		t.Error(err)
	}
	const want = "{16777216 4096 16 1 16384 65536 262144 1 16384 65536 262144}"
	if got := fmt.Sprint(p); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestValidateRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		bad     func(*Params)
		unknown bool
	}{
		{"nothing set", func(p *Params) { *p = Params{} }, true},
		{"page algorithm", func(p *Params) { p.PageAlgo = 2 }, true},
		{"byte algorithm", func(p *Params) { p.ByteAlgo = 0 }, true},
		{"page", func(p *Params) { p.Page = 8192 }, true},
		{"min below a page", func(p *Params) { p.Min = 2048 }, false},
		{"min not a power", func(p *Params) { p.Min = 12 << 10 }, false},
		{"min above avg", func(p *Params) { p.Min = 128 << 10 }, false},
		{"avg is max", func(p *Params) { p.Avg = p.Max }, false},
		{"max above an artifact", func(p *Params) { p.Max = 16 << 20 }, false},
		{"byte min", func(p *Params) { p.ByteMin = 63 }, false},
		{"byte avg not a power", func(p *Params) { p.ByteAvg = 60_000 }, false},
		{"byte max below avg", func(p *Params) { p.ByteMax = 64 << 10 }, false},
		{"byte max above an artifact", func(p *Params) { p.ByteMax = 8<<20 + 1 }, false},
		{"super-block below max", func(p *Params) { p.SuperBlock = 128 << 10 }, false},
		{"super-block not a power", func(p *Params) { p.SuperBlock = 15 << 20 }, false},
		{"super-block too big", func(p *Params) { p.SuperBlock = 1 << 31 }, false},
		{"zero run none", func(p *Params) { p.ZeroRun = 0 }, false},
		{"zero run above a super-block", func(p *Params) { p.ZeroRun = 4097 }, false},
	} {
		p := Default()
		c.bad(&p)
		err := p.Validate()
		if err == nil || errors.Is(err, artifact.ErrUnsupported) != c.unknown {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}
