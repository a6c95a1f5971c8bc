package store

import (
	"context"
	"fmt"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

// Packer stores artifacts of our own making, one after the other, outside of a pipeline: a few pages, not a disk. It is for one goroutine.
// What is known already is not stored again.
type Packer struct {
	w      *Writer
	bb     format.BlockBuilder
	blocks []format.SealedBlock // in no segment yet
	count  int                  // of artifacts in them
	made   []artifact.Digest
	point  format.ResumePoint
	Stored int64 // bytes of the blocks that were created
}

// packerSegment is how many artifacts a segment of a Packer's gets before the next begins; far below what one may hold.
const packerSegment = 65_536

// Packer begins to store. point is what stands in the log with it: the state of an intake to go on from, if there is one.
func (w *Writer) Packer(point format.ResumePoint) *Packer {
	p := &Packer{w: w, point: point}
	p.bb.Reset(nil)
	return p
}

// Put stores a structure.
func (p *Packer) Put(ctx context.Context, tag artifact.Tag, v any) (artifact.Ref, error) {
	data, err := format.Marshal(v)
	if err != nil {
		return artifact.Ref{}, err
	}
	if len(data) > artifact.MaxSize {
		return artifact.Ref{}, fmt.Errorf("a %s of %d bytes is larger than an artifact may be", tag, len(data))
	}
	return p.PutBytes(ctx, tag, data)
}

// PutBytes stores bytes.
func (p *Packer) PutBytes(ctx context.Context, tag artifact.Tag, data []byte) (artifact.Ref, error) {
	ref := artifact.Sum(data)
	if tag != artifact.NoTag {
		ref = artifact.SumTagged(tag, data)
	}
	known, err := p.w.Known(ctx, ref.Digest)
	if err != nil || known {
		return ref, err
	}
	if p.bb.Count() > 0 && !p.bb.Fits(len(data)) {
		if err := p.seal(ctx); err != nil {
			return ref, err
		}
	}
	p.w.Added(ref.Digest)
	p.bb.Add(ref, tag, format.Plain, data, len(data))
	return ref, nil
}

func (p *Packer) seal(ctx context.Context) error {
	b, err := p.w.SealBlock(ctx, &p.bb)
	if err != nil {
		return err
	}
	p.blocks, p.made, p.count = append(p.blocks, b), append(p.made, b.ID), p.count+p.bb.Count()
	p.Stored += int64(b.Size)
	p.point.Stored += int64(b.Size)
	p.bb.Reset(nil)
	if p.count >= packerSegment {
		return p.commit(ctx)
	}
	return nil
}

func (p *Packer) commit(ctx context.Context) error {
	blocks := p.blocks
	p.blocks, p.count = nil, 0
	return p.w.Commit(ctx, blocks, p.point, true)
}

// Finish acknowledges all that was put, and gives the blocks that were created.
func (p *Packer) Finish(ctx context.Context) ([]artifact.Digest, error) {
	if p.bb.Count() > 0 {
		if err := p.seal(ctx); err != nil {
			return nil, err
		}
	}
	if len(p.blocks) == 0 {
		return p.made, nil
	}
	return p.made, p.commit(ctx)
}
