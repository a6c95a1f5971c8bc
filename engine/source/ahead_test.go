package source

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/engine/source/mapfile"
	"aslrescue/engine/source/passes"
)

// asked is a disk in memory that keeps account of what is asked of it.
type asked struct {
	data []byte
	bad  []mapfile.Span

	mu    sync.Mutex
	reads int
	bytes int64
	fails map[string]int // by place and length
}

func (a *asked) ReadAt(p []byte, off int64) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reads++
	a.bytes += int64(len(p))
	for _, b := range a.bad {
		if b.Off < off+int64(len(p)) && off < b.End {
			a.fails[fmt.Sprintf("%d+%d", off, len(p))]++
			return 0, unix.EIO
		}
	}
	return copy(p, a.data[off:]), nil
}

func (a *asked) seen() (reads int, bytes int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reads, a.bytes
}

// served is a reader whose other side is in this process.
func served(t *testing.T, a *asked) (*reader, *readerProcess) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conn [2]net.Conn
	for i, fd := range pair {
		f := os.NewFile(uintptr(fd), "socket")
		if conn[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	ring := make([]byte, RingMax*slotSize)
	done := make(chan error, 1)
	go func() { done <- serve(conn[1], a, ring, func() {}) }()
	t.Cleanup(func() {
		conn[0].Close()
		<-done
		conn[1].Close()
	})
	return &reader{timeout: time.Minute}, &readerProcess{conn: conn[0], ring: ring}
}

// TestReadingAhead: while nothing is asked the ring fills, and what is in it is not read again.
func TestReadingAhead(t *testing.T) {
	a := &asked{data: randomBytes(32<<20, 31), bad: []mapfile.Span{{Off: 20 << 20, End: 20<<20 + 512}}, fails: map[string]int{}}
	r, p := served(t, a)
	ask := func(rd passes.Read) passes.Result {
		t.Helper()
		buf := make([]byte, rd.Len)
		res, _, err := r.ask(t.Context(), p, buf, rd)
		if err != nil {
			t.Fatal(err)
		}
		good := buf[:res.Good]
		if from := rd.Off; rd.Back {
			good = buf[rd.Len-res.Good:]
			if from += rd.Len - res.Good; !bytes.Equal(good, a.data[from:][:len(good)]) {
				t.Fatalf("%+v: other bytes", rd)
			}
		} else if !bytes.Equal(good, a.data[from:][:len(good)]) {
			t.Fatalf("%+v: other bytes", rd)
		}
		return res
	}
	until := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if n, _ := a.seen(); n >= want || time.Now().After(deadline) {
				break
			}
		}
		time.Sleep(20 * time.Millisecond)
		if n, _ := a.seen(); n != want {
			t.Fatalf("%d reads, want %d", n, want)
		}
	}
	ask(passes.Read{Off: 0, Len: 2 << 20, Step: 1 << 20, Ahead: 30 << 20})
	until(2 + RingMax)
	ask(passes.Read{Off: 2 << 20, Len: 8 << 20, Step: 1 << 20, Ahead: 3 << 20}) // no further than is wanted
	until(2 + RingMax + 3)
	ask(passes.Read{Off: 10 << 20, Len: 9 << 20, Step: 1 << 20, Ahead: 13 << 20}) // up to what is bad
	until(21)
	if res := ask(passes.Read{Off: 19 << 20, Len: 4 << 20, Step: 1 << 20}); res.Good != 1<<20 || res.Bad != 1<<20 {
		t.Errorf("%+v", res)
	}
	until(21)
	ask(passes.Read{Off: 31 << 20, Len: 1 << 20, Step: 1 << 20, Back: true, Ahead: 2 << 20})
	until(24)
	if res := ask(passes.Read{Off: 28 << 20, Len: 3 << 20, Step: 1 << 20, Back: true}); res.Good != 3<<20 {
		t.Errorf("%+v", res)
	}
	until(25)
	ask(passes.Read{Off: 0, Len: 1 << 20, Step: 1 << 20, Ahead: 8 << 20})
	until(25 + 9)
	ask(passes.Read{Off: 16 << 20, Len: 1 << 20, Step: 1 << 20}) // elsewhere: what was read ahead is forgotten, and its slots are free
	until(25 + 10)
	ask(passes.Read{Off: 0, Len: 16 << 20, Step: 1 << 20})
	until(25 + 26)
}

// TestAheadChangesNothing: on hurt disks, what is read and how often what is bad is asked for is the same as without reading ahead.
func TestAheadChangesNothing(t *testing.T) {
	const size = 24<<20 + 3*512
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		var bad []mapfile.Span
		for range rnd.IntN(12) {
			off := rnd.Int64N(size/512) * 512
			bad = append(bad, mapfile.Span{Off: off, End: min(size, off+512*(1+rnd.Int64N(1<<rnd.IntN(10))))})
		}
		bad = mapfile.Join(bad)
		var domain []mapfile.Span
		if seed%3 == 0 {
			domain = []mapfile.Span{{Off: 1 << 20, End: 9<<20 + 512}, {Off: 11 << 20, End: size}}
		}
		var maps_ [2]string
		var fails [2]map[string]int
		for i, ahead := range []bool{false, true} {
			a := &asked{data: randomBytes(size, seed), bad: bad, fails: map[string]int{}}
			r, p := served(t, a)
			pl := passes.New(mapfile.New(size), passes.Options{Unit: 16 << 20, Retry: 1, Reverse: seed%2 == 1, Domain: domain})
			got := make([]byte, size)
			used := int64(0)
			for {
				rd, ok := pl.Next()
				if !ok {
					break
				}
				if used += rd.Ahead; !ahead {
					rd.Ahead = 0
				}
				if step := int64(rd.Step); rd.Len > 2<<20 { // as the feeder does, where a piece ends
					if end := rd.Off + rd.Len; rd.Back {
						rd.Off = (end - 2<<20 + step - 1) / step * step
						rd.Len = end - rd.Off
					} else {
						rd.Len = (rd.Off+2<<20)/step*step - rd.Off
					}
				}
				res, _, err := r.ask(t.Context(), p, got[rd.Off:][:rd.Len], rd)
				if err != nil {
					t.Fatal(err)
				}
				pl.Done(res)
			}
			if used == 0 {
				t.Fatal("nothing is ever wanted ahead")
			}
			for _, b := range pl.Map().Blocks {
				if b.Status == mapfile.Finished && !bytes.Equal(got[b.Pos:b.End()], a.data[b.Pos:b.End()]) {
					t.Fatalf("seed %d: other bytes at %d", seed, b.Pos)
				}
			}
			maps_[i], fails[i] = fmt.Sprint(pl.Map().Blocks), a.fails
		}
		if maps_[0] != maps_[1] {
			t.Errorf("seed %d: read is %s, without reading ahead %s", seed, maps_[1], maps_[0])
		}
		if !maps.Equal(fails[0], fails[1]) {
			for k, n := range fails[1] {
				if fails[0][k] != n {
					t.Errorf("seed %d: %s asked in vain %d times, without reading ahead %d", seed, k, n, fails[0][k])
				}
			}
			t.Errorf("seed %d: %d places asked in vain, without reading ahead %d", seed, len(fails[1]), len(fails[0]))
		}
	}
}
