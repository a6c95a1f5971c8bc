package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

// VerifyBlocks reads blocks from the medium and checks every byte: name, directory, and every artifact's own hash. What is wrong
// is read once more before it is called damaged. workers blocks are read at a time; 0 is two for each core. progress gets bytes, from one goroutine at a time.
func (s *Store) VerifyBlocks(ctx context.Context, ids []artifact.Digest, workers int, progress func(done, total, bad int64)) ([]format.DamagedObject, error) {
	v := s.Verification(ctx, progress)
	v.Add(s.sizeOf(ids), ids...)
	return v.Finish(workers)
}

// Verification checks blocks as VerifyBlocks does, while there are still some to come.
type Verification struct {
	s        *Store
	ctx      context.Context
	progress func(done, total, bad int64)

	mu     sync.Mutex // of what follows
	change *sync.Cond
	queue  []artifact.Digest
	ended  bool // nothing more is taken by Beside
	total  int64
	done   int64
	hurt   int64
	bad    []format.DamagedObject

	telling sync.Mutex // progress is told by one at a time
}

// Verification begins one. It ends when ctx does.
func (s *Store) Verification(ctx context.Context, progress func(done, total, bad int64)) *Verification {
	v := &Verification{s: s, ctx: Uncached(ctx), progress: progress}
	v.change = sync.NewCond(&v.mu)
	return v
}

// Add says that these blocks, of so many bytes together, are to be read. They are durable.
func (v *Verification) Add(size int64, ids ...artifact.Digest) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.queue, v.total = append(v.queue, ids...), v.total+size
	v.change.Broadcast()
}

// Beside reads what was added and what is being added, in memory that it is given: block for a whole one, raw for an artifact, nil where none
// is compressed. It returns after Rest, or when the context ended. Several goroutines may be in it.
func (v *Verification) Beside(block, raw []byte) {
	defer context.AfterFunc(v.ctx, v.Rest)()
	for {
		v.mu.Lock()
		for len(v.queue) == 0 && !v.ended {
			v.change.Wait()
		}
		id, ok := v.take(!v.ended)
		v.mu.Unlock()
		if !ok {
			return
		}
		v.block(id, block, raw) // what outgrew the memory is dropped again
	}
}

// Rest lets Beside return after the blocks at hand.
func (v *Verification) Rest() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended = true
	v.change.Broadcast()
}

// take gives the next block. mu is held.
func (v *Verification) take(more bool) (id artifact.Digest, ok bool) {
	if !more || len(v.queue) == 0 || v.ctx.Err() != nil {
		return id, false
	}
	id, v.queue = v.queue[0], v.queue[1:]
	return id, true
}

// Finish reads what is left, so many blocks at a time, and tells what is bad, sorted by name. 0 workers is two for each core.
func (v *Verification) Finish(workers int) ([]format.DamagedObject, error) {
	v.Rest()
	var wg sync.WaitGroup
	if workers <= 0 {
		workers = 2 * runtime.GOMAXPROCS(0) // half of them wait for the medium
	}
	for range workers {
		wg.Go(func() {
			var buf, raw []byte
			for {
				v.mu.Lock()
				id, ok := v.take(true)
				v.mu.Unlock()
				if !ok {
					return
				}
				buf, raw = v.block(id, buf, raw)
			}
		})
	}
	wg.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	slices.SortFunc(v.bad, func(a, b format.DamagedObject) int { return compareNames(a.Name, b.Name) })
	return v.bad, v.ctx.Err()
}

func compareNames(a, b string) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

// sizeOf is the sum of the blocks' sizes as the backend tells them.
func (s *Store) sizeOf(ids []artifact.Digest) int64 {
	total := int64(0)
	for _, id := range ids {
		if n, err := s.b.Stat(context.Background(), "blocks/"+id.String()); err == nil {
			total += n
		}
	}
	return total
}

func (v *Verification) block(id artifact.Digest, buf, raw []byte) ([]byte, []byte) {
	n, buf, raw, err := v.s.verifyBlock(v.ctx, id, buf, raw)
	if err != nil && v.ctx.Err() == nil {
		_, buf, raw, err = v.s.verifyBlock(v.ctx, id, buf, raw) // a cable or a controller may be at fault: ask again
	}
	v.mu.Lock()
	switch {
	case err == nil || v.ctx.Err() != nil:
	default: // one block that cannot be had is no reason not to look at the others
		verdict := errors.Is(err, artifact.ErrDamaged) || errors.Is(err, artifact.ErrNotFound)
		v.bad = append(v.bad, format.DamagedObject{Name: "blocks/" + id.String(), Why: err.Error(), Unread: !verdict})
		v.hurt += n
	}
	v.done += n
	v.mu.Unlock()
	if v.progress != nil {
		v.telling.Lock()
		defer v.telling.Unlock()
		v.mu.Lock()
		done, total, hurt := v.done, v.total, v.hurt
		v.mu.Unlock()
		v.progress(done, total, hurt)
	}
	return buf, raw
}

// BlockVerifier gives what reads a block out of a backend, from the medium if ctx says so, and checks every byte of it: name, directory, and every artifact's own
// hash. It may be called from several goroutines.
func BlockVerifier(b Backend) (func(ctx context.Context, id artifact.Digest) (size int64, err error), error) {
	dec, err := format.NewDecoder()
	if err != nil {
		return nil, err
	}
	s := &Store{b: b, dec: dec}
	return func(ctx context.Context, id artifact.Digest) (int64, error) {
		size, _, _, err := s.verifyBlock(ctx, id, nil, nil)
		return size, err
	}, nil
}

// verifyBlock checks one block. Its memory is handed back to serve the next.
func (s *Store) verifyBlock(ctx context.Context, id artifact.Digest, buf, raw []byte) (int64, []byte, []byte, error) {
	if there := s.b.Info().Verify; there != nil {
		n, err := there(ctx, "blocks/"+id.String())
		if err != nil {
			err = fmt.Errorf("block %s: %w", id, err)
		}
		return n, buf, raw, err
	}
	buf, err := s.readBlock(ctx, id, buf)
	n := int64(len(buf))
	if err != nil {
		return n, buf, raw, fmt.Errorf("block %s: %w", id, shortIsDamage(err))
	}
	_, entries, err := format.DecodeBlock(id, buf)
	if err != nil {
		return n, buf, raw, err
	}
	for i, e := range entries {
		out, err := s.expand(raw, e, buf[e.Off:e.Off+e.Stored])
		if err != nil {
			return n, buf, raw, fmt.Errorf("block %s: artifact %d: %w", id, i, err)
		}
		if e.Codec != format.Plain {
			raw = out
		}
	}
	return n, buf, raw, nil
}

func (s *Store) readBlock(ctx context.Context, id artifact.Digest, buf []byte) ([]byte, error) {
	name := "blocks/" + id.String()
	size, err := s.b.Stat(ctx, name)
	if err != nil {
		return buf[:0], err
	}
	if size > format.BlockSizeMax {
		return buf[:0], fmt.Errorf("%d bytes are more than a block can have: %w", size, artifact.ErrDamaged)
	}
	r, err := s.b.Open(ctx, name, 0, size)
	if err != nil {
		return buf[:0], err
	}
	defer func() { _ = r.Close() }() // it was only read
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	k, err := io.ReadFull(r, buf[:size])
	return buf[:k], err
}
