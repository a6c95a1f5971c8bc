package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

// VerifyBlocks reads blocks from the medium and checks every byte: name, directory, and every artifact's own hash. What is wrong
// is read once more before it is called damaged. workers blocks are read at a time; 0 is two for each core. progress gets bytes, from one goroutine at a time.
func (s *Store) VerifyBlocks(ctx context.Context, ids []artifact.Digest, workers int, progress func(done, total, bad int64)) ([]format.DamagedObject, error) {
	v := verifier{s: s, ctx: Uncached(ctx), total: s.sizeOf(ids), progress: progress}
	next := make(chan artifact.Digest)
	var wg sync.WaitGroup
	if workers <= 0 {
		workers = 2 * runtime.GOMAXPROCS(0) // half of them wait for the medium
	}
	for range workers {
		wg.Go(func() {
			var buf, raw []byte
			for id := range next {
				buf, raw = v.block(id, buf, raw)
			}
		})
	}
	for _, id := range ids {
		if ctx.Err() != nil {
			break
		}
		next <- id
	}
	close(next)
	wg.Wait()
	slices.SortFunc(v.bad, func(a, b format.DamagedObject) int { return compareNames(a.Name, b.Name) })
	return v.bad, ctx.Err()
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

// sizeOf is the sum of the blocks' sizes as the segments or the backend tell them; 0 where that is not known.
func (s *Store) sizeOf(ids []artifact.Digest) int64 {
	total := int64(0)
	for _, id := range ids {
		if n, err := s.b.Stat(context.Background(), "blocks/"+id.String()); err == nil {
			total += n
		}
	}
	return total
}

type verifier struct {
	s        *Store
	ctx      context.Context
	total    int64
	done     atomic.Int64
	hurt     atomic.Int64
	progress func(done, total, bad int64)
	mu       sync.Mutex
	bad      []format.DamagedObject
}

func (v *verifier) block(id artifact.Digest, buf, raw []byte) ([]byte, []byte) {
	n, buf, raw, err := v.s.verifyBlock(v.ctx, id, buf, raw)
	if err != nil && v.ctx.Err() == nil {
		_, buf, raw, err = v.s.verifyBlock(v.ctx, id, buf, raw) // a cable or a controller may be at fault: ask again
	}
	switch {
	case err == nil || v.ctx.Err() != nil:
	default: // one block that cannot be had is no reason not to look at the others
		verdict := errors.Is(err, artifact.ErrDamaged) || errors.Is(err, artifact.ErrNotFound)
		v.mu.Lock()
		v.bad = append(v.bad, format.DamagedObject{Name: "blocks/" + id.String(), Why: err.Error(), Unread: !verdict})
		v.mu.Unlock()
		v.hurt.Add(n)
	}
	if v.progress != nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.progress(v.done.Add(n), v.total, v.hurt.Load())
	}
	return buf, raw
}

// verifyBlock checks one block. Its memory is handed back to serve the next.
func (s *Store) verifyBlock(ctx context.Context, id artifact.Digest, buf, raw []byte) (int64, []byte, []byte, error) {
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
