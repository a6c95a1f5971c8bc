package intake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"aslrescue/engine/artifact"
	"aslrescue/engine/digest"
	"aslrescue/engine/event"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// sumOf takes up the BLAKE3 of a source where an earlier run left it. Where that is not known, or is not of all that was read so far, there is none, and
// reading back makes it.
func (q *sequencer) sumOf(st format.SourceState) *digest.Tree {
	next := int64(0)
	if st.Map != nil {
		next = st.Map.Next
	}
	t, err := digest.Restore(st.Hash, q.super)
	if !q.sums || err != nil || t.Next() != next {
		return nil
	}
	return t
}

// addSum takes in the piece of a unit. A jump, or a unit cut short that is not the last, ends it.
func (b *sourceBuilder) addSum(u *unit, super int64) {
	if b.sum == nil {
		return
	}
	n := int64(len(u.content.data))
	if u.off != b.sum.Next() || u.content.err != nil || n != super && !u.last {
		b.sum = nil
		return
	}
	if n > 0 {
		b.sum.Add(u.sum, n)
	}
}

// digests writes down the hashes of the linear sources: the BLAKE3 that was made on the way in, and whatever else is wanted by reading the snapshot
// back in the order of its offsets, which is the same whatever order it was read in and however often it was interrupted.
func (r *runner) digests(ctx context.Context, rep *Report) error {
	if len(r.o.Digest) == 0 {
		return nil
	}
	var v *store.View
	for i := range rep.Manifest.Sources {
		src := &rep.Manifest.Sources[i]
		if src.Root == nil {
			continue
		}
		if v == nil {
			var err error
			if v, err = r.s.At(ctx, rep.Snapshot.Number); err != nil {
				return fmt.Errorf("making the digests: %w", err)
			}
		}
		d, err := r.digest(ctx, v, src, r.point.State[i].Hash)
		if err == nil {
			d.Clock = r.o.Clock().Unix()
			err = r.s.ReportDigest(ctx, d)
		}
		switch {
		case errors.Is(err, artifact.ErrDamaged):
			rep.Result = event.Failed
			fallthrough
		case err != nil:
			return fmt.Errorf("making the digests of %s: %w", src.Name, err)
		}
		rep.Digests = append(rep.Digests, d)
	}
	return nil
}

func (r *runner) digest(ctx context.Context, v *store.View, src *format.SourceResult, sum []byte) (format.Digest, error) {
	if len(sum) > 0 && slices.Equal(r.o.Digest, []string{digest.BLAKE3}) {
		gaps, err := digest.GapsOf(ctx, v, *src.Root, nil)
		if err != nil {
			return format.Digest{}, err
		}
		d := format.Digest{Snapshot: v.Snapshot.Number, Source: src.Name, Size: src.Length, Sums: map[string][]byte{digest.BLAKE3: sum}, How: "reading"}
		gaps.Into(&d)
		return d, nil
	}
	r.emit(event.PhaseEntered{Stamp: r.now(), Phase: event.Verifying})
	d, err := digest.Snapshot(ctx, v, src, r.o.Digest, func(done, total int64) {
		r.emit(event.VerifyProgress{Stamp: r.now(), Done: done, Total: total})
	})
	if was := d.Sums[digest.BLAKE3]; err == nil && len(sum) > 0 && was != nil && !bytes.Equal(was, sum) {
		err = fmt.Errorf("what was read has the BLAKE3 %x, what is stored %x: %w", sum, was, artifact.ErrDamaged)
	}
	return d, err
}
