package passes

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"aslrescue/engine/source/mapfile"
)

var (
	maps = flag.Int("maps", 300, "how many fault maps to compare with ddrescue on")
	seed = flag.Uint64("seed", 1, "of the first of them")
)

// disk is a simulated one: a read that touches what is not Finished in truth fails as a whole, as with O_DIRECT.
type disk struct {
	truth    *mapfile.Map
	sector   int
	badReads int
	reads    int
	touched  map[int64]int // times that a bad sector was tried alone
	slow     func(off int64) bool
}

func (d *disk) fails(off, n int64) bool {
	for i := d.truth.Find(off); i < len(d.truth.Blocks) && d.truth.Blocks[i].Pos < off+n; i++ {
		if d.truth.Blocks[i].Status != mapfile.Finished {
			return true
		}
	}
	return false
}

func (d *disk) do(r Read) (res Result) {
	for res.Good < r.Len {
		off, n := r.Piece(res.Good)
		d.reads++
		if d.fails(off, n) {
			d.badReads++
			if n <= int64(d.sector) && d.touched != nil {
				d.touched[off]++
			}
			res.Bad = n
			return res
		}
		res.Good += n
		took := time.Duration(n) * 10
		if d.slow != nil && d.slow(off) {
			took *= 100
		}
		res.Took += took
		if r.Patience > 0 && took > r.Patience {
			res.Slow = true
			return res
		}
	}
	return res
}

func run(t *testing.T, p *Planner, d *disk) {
	t.Helper()
	for n := 0; ; n++ {
		r, ok := p.Next()
		if !ok {
			return
		}
		if again, _ := p.Next(); again != r {
			t.Fatalf("asked twice, it says %+v and %+v", r, again)
		}
		if r.Len <= 0 || r.Off < 0 || r.Off+r.Len > d.truth.End() || r.Step <= 0 {
			t.Fatalf("read %+v of %d bytes", r, d.truth.End())
		}
		if n > int(d.truth.End()/int64(d.sector))*(4+p.o.Retry)+1000 {
			t.Fatalf("it does not end: %+v in %+v", r, p.m.Blocks[max(0, p.m.Find(r.Off)-2):min(len(p.m.Blocks), p.m.Find(r.Off)+3)])
		}
		p.Done(d.do(r))
	}
}

// generate makes a fault map of one of several sorts.
func generate(seed uint64) (m *mapfile.Map, sector int) {
	r := rand.New(rand.NewPCG(seed, 7))
	sector = []int{512, 512, 512, 4096}[r.IntN(4)]
	size := int64(1+r.IntN(3)) << 20
	if r.IntN(40) == 0 {
		size = int64(16+r.IntN(80)) << 20
	}
	size += int64(r.IntN(4)) * int64(sector) * int64(r.IntN(300))
	m = mapfile.New(size)
	m.Mark(0, size, mapfile.Finished)
	bad := func(off, n int64) {
		off = off / int64(sector) * int64(sector)
		m.Mark(off, max(1, n/int64(sector))*int64(sector), mapfile.Bad)
	}
	at := func() int64 { return r.Int64N(size) }
	switch r.IntN(8) {
	case 0: // a few single sectors
		for range r.IntN(8) {
			bad(at(), 1)
		}
	case 1: // a scratch: one area, and splinters around it
		mid := at()
		bad(mid, r.Int64N(size/4)+1)
		for range r.IntN(30) {
			bad(max(0, mid+int64(r.NormFloat64()*300_000)), r.Int64N(8192)+1)
		}
	case 2: // a head that is lost: areas at regular intervals
		step := size/int64(2+r.IntN(40)) + 1
		n := step/int64(2+r.IntN(6)) + 1
		for off := r.Int64N(step); off < size; off += step {
			bad(off, n)
		}
	case 3: // the beginning
		bad(0, r.Int64N(size/2)+1)
	case 4: // the end
		n := r.Int64N(size/2) + 1
		bad(size-n, n+int64(sector))
	case 5: // many areas of all sizes
		for range r.IntN(60) {
			bad(at(), int64(1)<<r.IntN(19))
		}
	case 6: // hardly anything is left
		bad(0, size+int64(sector))
		for range r.IntN(20) {
			m.Mark(at()/int64(sector)*int64(sector), (int64(1)<<r.IntN(18))/int64(sector)*int64(sector), mapfile.Finished)
		}
	case 7: // every so many sectors
		for off := int64(r.IntN(1 << 17)); off < size; off += int64(2+r.IntN(1000)) * int64(sector) {
			bad(off, int64(1+r.IntN(4))*int64(sector))
		}
	}
	// ddrescue takes the disk to end with the last good block of a simulated one.
	m.Mark((size-1)/int64(sector)*int64(sector), int64(sector), mapfile.Finished)
	return m, sector
}

func write(t *testing.T, file string, m *mapfile.Map) {
	t.Helper()
	var b bytes.Buffer
	m.WriteTo(&b)
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ddrescue lets GNU ddrescue rescue a sparse file with the faults of truth.
func ddrescue(t *testing.T, dir string, truth *mapfile.Map, sector int) (out *mapfile.Map, reads, badReads int) {
	t.Helper()
	file := func(s string) string { return filepath.Join(dir, s) }
	for _, s := range []string{"out", "map", "log"} {
		os.Remove(file(s))
	}
	in, err := os.Create(file("in"))
	if err == nil {
		err = in.Truncate(truth.End())
	}
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	write(t, file("truth"), truth)
	cmd := exec.Command("ddrescue", "-q", "-S", fmt.Sprintf("-b%d", sector), "-c", fmt.Sprint(MinCluster/sector), "-H", file("truth"), "--log-reads="+file("log"), file("in"), file("out"), file("map"))
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, b)
	}
	f, err := os.Open(file("map"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if out, err = mapfile.Read(f); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(file("log"))
	if err != nil {
		t.Fatal(err)
	}
	for sc := bufio.NewScanner(bytes.NewReader(log)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) != 4 || strings.HasPrefix(f[0], "#") {
			continue
		}
		reads++
		if f[3] != "0" {
			badReads++
		}
	}
	return out, reads, badReads
}

func TestAgainstDdrescue(t *testing.T) {
	if _, err := exec.LookPath("ddrescue"); err != nil {
		t.Skip("GNU ddrescue is needed to compare with")
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var oursBad, theirsBad, ours, theirs int
	next := make(chan uint64, *maps)
	for i := range *maps {
		next <- *seed + uint64(i)
	}
	close(next)
	for range runtime.GOMAXPROCS(0) {
		dir := t.TempDir()
		wg.Go(func() {
			for s := range next {
				truth, sector := generate(s)
				p := New(mapfile.New(truth.End()), Options{Sector: sector, Unit: 16 << 20})
				d := &disk{truth: truth, sector: sector, touched: map[int64]int{}}
				run(t, p, d)
				got := p.Map()
				out, reads, bad := ddrescue(t, dir, truth, sector)
				if !reflect.DeepEqual(got.Blocks, truth.Blocks) {
					t.Errorf("map %d: %d blocks at the end, the truth has %d", s, len(got.Blocks), len(truth.Blocks))
				}
				if g, w := got.Sum(mapfile.Finished), out.Sum(mapfile.Finished); g < w {
					t.Errorf("map %d: %d bytes recovered, ddrescue has %d", s, g, w)
				}
				if d.badReads > bad {
					t.Errorf("map %d: %d reads of bad sectors, ddrescue makes %d", s, d.badReads, bad)
				}
				for off, n := range d.touched {
					if n > 1 {
						t.Errorf("map %d: the sector at %d was tried alone %d times", s, off, n)
						break
					}
				}
				mu.Lock()
				oursBad, theirsBad, ours, theirs = oursBad+d.badReads, theirsBad+bad, ours+d.reads, theirs+reads
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d maps: reads %d, ddrescue %d; of bad sectors %d, ddrescue %d (%.4f)", *maps, ours, theirs, oursBad, theirsBad, float64(oursBad)/float64(max(1, theirsBad)))
}

func TestEveryWayOfReadingSettlesWhatItShould(t *testing.T) {
	for s := range uint64(400) {
		r := rand.New(rand.NewPCG(s, 9))
		truth, sector := generate(1000 + s)
		size := truth.End()
		if r.IntN(2) == 0 { // ends badly
			truth.Mark(size-1-r.Int64N(size/3), size, mapfile.Bad)
			size -= r.Int64N(int64(sector)) // and not with a whole sector
			short := mapfile.New(size)
			for _, b := range truth.Blocks {
				short.Mark(b.Pos, b.Size, b.Status)
			}
			truth = short
		}
		o := Options{Sector: sector, Unit: []int64{0, 1 << 20, 16 << 20}[r.IntN(3)], Reverse: r.IntN(2) == 0, Retry: r.IntN(3)}
		if r.IntN(3) == 0 {
			for range 1 + r.IntN(5) {
				a := r.Int64N(size)
				o.Domain = append(o.Domain, mapfile.Span{Off: a, End: a + 1 + r.Int64N(size/2)})
			}
			o.Domain = mapfile.Join(o.Domain)
		}
		d := &disk{truth: truth, sector: sector, touched: map[int64]int{}}
		if r.IntN(3) == 0 {
			d.slow = func(off int64) bool { return off%(1<<20) > 700_000 }
		}
		p := New(mapfile.New(size), o)
		if d.slow != nil {
			p.took, p.read = time.Minute, 1<<20
		}
		run(t, p, d)
		in := func(off int64) bool {
			if o.Domain == nil {
				return true
			}
			for _, s := range o.Domain {
				if off >= s.Off && off < s.End {
					return true
				}
			}
			return false
		}
		for _, b := range p.Map().Blocks {
			for off := b.Pos; off < b.End(); off += int64(sector) {
				// A sector that the domain cuts is read as far as it is meant, and fails as far.
				bad := d.fails(off, min(int64(sector), b.End()-off))
				switch {
				case b.Status == mapfile.Finished && bad:
					t.Fatalf("seed %d: read at %d what cannot be", s, off)
				case b.Status == mapfile.NonTried && in(off):
					t.Fatalf("seed %d: %d was not tried", s, off)
				case b.Status == mapfile.Bad && !bad && o.Domain == nil:
					t.Fatalf("seed %d: bad at %d, and it is not", s, off)
				case b.Status == mapfile.NonTrimmed || b.Status == mapfile.NonScraped:
					t.Fatalf("seed %d: %d is %c at the end", s, off, b.Status)
				}
			}
		}
		for off, n := range d.touched {
			if n > 1+o.Retry {
				t.Fatalf("seed %d: the sector at %d was tried alone %d times", s, off, n)
			}
		}
	}
}
