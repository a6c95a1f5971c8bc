package store

import (
	"context"
	"errors"
	"slices"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

// rescuedDirs is what a damaged segment would say, gathered from elsewhere.
type rescuedDirs map[artifact.Digest][]location

// rescuePart replaces a segment that went bad after it was opened: one of level 0 by the directories of its blocks, a merged one by the
// level 0 segments it was made of. After an error the part is as it was: what could not be read now is not damaged.
func (s *Store) rescuePart(ctx context.Context, p *segmentPart) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := rescuedDirs{}
	if i := slices.IndexFunc(s.st.sealed, func(x sealedSegment) bool { return x.Segment == p.id }); i >= 0 {
		err = found.directories(ctx, s.b, s.st.sealed[i].Blocks)
	} else if r := slices.IndexFunc(s.ix.runs, func(r indexRun) bool { return slices.Contains(r.parts, p) }); r >= 0 {
		err = s.rescueMerged(ctx, found, &s.ix.runs[r], p)
	}
	if err == nil {
		p.rescued.Store(&found)
	}
	return err
}

// rescueMerged takes a part's share of the digests out of the level 0 segments.
func (s *Store) rescueMerged(ctx context.Context, found rescuedDirs, run *indexRun, p *segmentPart) error {
	lo, hi := uint64(0), ^uint64(0)
	i := slices.Index(run.parts, p)
	if p.meta != nil && i > 0 {
		lo = p.meta.First()
	}
	if i+1 < len(run.parts) && run.parts[i+1].meta != nil {
		hi = run.parts[i+1].meta.First()
	}
	for _, n := range run.of {
		seg := s.st.sealed[n]
		data, err := readAll(ctx, s.b, "segments/"+seg.Segment.String())
		var whole *format.Segment
		if err == nil {
			whole, err = format.DecodeSegment(seg.Segment, data)
		}
		if isDamage(err) { // hurt as well
			err = found.directories(ctx, s.b, seg.Blocks)
		}
		if err != nil {
			return err
		}
		if whole == nil {
			continue
		}
		for _, e := range whole.Entries {
			if k := format.Key(e.Ref.Digest); k >= lo && k <= hi {
				found[e.Ref.Digest] = append(found[e.Ref.Digest], location{whole.Blocks[e.Block].ID,
					format.BlockEntry{Ref: e.Ref, Tag: e.Tag, Codec: e.Codec, Off: e.Off, Stored: e.Stored, Raw: e.Raw}, whole.Blocks[e.Block].Size})
			}
		}
	}
	return nil
}

// isDamage tells whether an object is hurt or gone, and not only out of reach for now.
func isDamage(err error) bool {
	return errors.Is(err, artifact.ErrDamaged) || errors.Is(err, artifact.ErrNotFound)
}

// directories adds what the blocks themselves say. Blocks that are hurt too give nothing.
func (found rescuedDirs) directories(ctx context.Context, b Backend, blocks []artifact.Digest) error {
	for _, id := range blocks {
		entries, err := readBlockDir(ctx, b, id)
		if isDamage(err) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			found[e.Ref.Digest] = append(found[e.Ref.Digest], location{block: id, entry: e})
		}
	}
	return nil
}
