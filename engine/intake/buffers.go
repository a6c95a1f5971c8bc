package intake

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// MinBudget is the least memory an intake works in, MaxBudget what it takes by itself; bytes. Both are for everything: buffers,
// codecs, the index's cache, the runtime.
const (
	MinBudget     = 96 << 20
	DefaultBudget = 256 << 20
)

// room is how a budget is spent.
type room struct {
	workers int // that cut and hash, and as many that compress
	slots   int // super-blocks in memory
	arenas  int // memory for their compressed forms
	blocks  int // blocks being filled or on their way to the store
	readers int // that read blocks back beside the writing; without any it is done at the end
	disks   int // that are read at the same time by processes of their own
	ring    int // slots of the ring of each
}

// readerSize is what reading back takes: a block, and an artifact expanded.
func readerSize(compress bool) int {
	if compress {
		return format.BlockSizeMax + artifact.MaxSize
	}
	return format.BlockSizeMax
}

// divide spends a budget. What it gives does not change what is stored, only how fast. disks is how many are there to be read by processes of their own.
func divide(budget int64, workers int, superBlock int, compress, verify bool, disks int) (room, error) {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	const fixed = 40 << 20 // runtime, index cache, log, codecs of one worker
	left := budget - fixed
	need := func(r room) int64 {
		return int64(r.slots+r.arenas)*int64(superBlock) + int64(r.blocks)*format.BlockSizeMax + int64(r.workers-1)*(6<<20) + int64(r.readers)*int64(readerSize(compress)) +
			int64(r.disks)*(source.ReaderOwn+int64(r.ring)*source.RingSlot)
	}
	r := room{workers: 1, slots: 1, blocks: 1}
	if compress {
		r.arenas = 1
	}
	if disks > 0 {
		r.disks, r.ring = 1, source.RingMin
	}
	if need(r) > left {
		return r, fmt.Errorf("a memory budget of %d MiB is too small: the least is %d MiB", budget>>20, (need(r)+fixed+1<<20-1)>>20)
	}
	few := min(disks, 3) // that are read at a time before any of them is read faster
	for {                // give in turn to whoever waits most, as long as it fits
		before := r
		for _, grow := range []func(*room){
			func(r *room) { // each holds a super-block, and one is on its way
				if r.disks < disks {
					r.disks = min(r.disks+1, max(1, r.slots-1))
				}
			},
			func(r *room) { r.blocks = min(r.blocks+1, 5) },
			func(r *room) { r.slots = min(r.slots+1, r.workers+3) },
			func(r *room) { r.workers = min(r.workers+1, workers) },
			func(r *room) {
				if compress {
					r.arenas = min(r.arenas+1, r.workers+1)
				}
			},
			func(r *room) {
				if verify && (r.readers == 0 || r.disks >= few) {
					r.readers = min(r.readers+1, r.workers)
				}
			},
			func(r *room) {
				if r.disks > 0 && r.disks >= few {
					r.ring = min(2*r.ring, source.RingMax)
				}
			},
		} {
			next := r
			grow(&next)
			if need(next) <= left {
				r = next
			}
		}
		if r == before {
			return r, nil
		}
	}
}

// pool hands out buffers of one size that lie outside the Go heap, so that the collector does not double them.
type pool struct {
	free chan []byte
	all  [][]byte
}

func newPool(n, size int) (*pool, error) {
	p := &pool{free: make(chan []byte, n)}
	for range n {
		b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			p.release()
			return nil, fmt.Errorf("%d MiB of memory: %w", size>>20, err)
		}
		p.all = append(p.all, b)
		p.free <- b
	}
	return p, nil
}

// get waits for a buffer.
func (p *pool) get(ctx context.Context) ([]byte, error) {
	select {
	case b := <-p.free:
		return b, nil
	default:
	}
	select {
	case b := <-p.free:
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *pool) put(b []byte) {
	if b != nil {
		p.free <- b[:cap(b)]
	}
}

// release gives all memory back. Nothing may use a buffer any more.
func (p *pool) release() {
	for _, b := range p.all {
		_ = unix.Munmap(b) // fails only for what is no mapping
	}
}
