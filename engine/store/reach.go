package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// Problem is something wrong that a check found.
type Problem struct {
	Object string `json:"object,omitempty"` // name of the object that is hurt; empty where none alone is
	Needs  string `json:"needs,omitempty"`  // who needs what is missing: "disk.img", "home/etc/passwd"
	Err    error  `json:"-"`
}

func (p Problem) Error() string {
	s := p.Err.Error()
	if block, _ := strings.CutPrefix(p.Object, "blocks/"); p.Object != "" && !strings.HasPrefix(s, "block "+block) {
		s = p.Object + ": " + s
	}
	if p.Needs != "" {
		s = p.Needs + ": " + s
	}
	return s
}

// Unwrap gives the cause.
func (p Problem) Unwrap() error { return p.Err }

// Reach collects what snapshots need. What several share is walked once. It is for one goroutine.
type Reach struct {
	Blocks    map[artifact.Digest]struct{} // that hold the best copy of something needed
	Artifacts int64                        // references followed

	seen map[walked]struct{} // pages, nodes and roots that were walked
}

// walked is an artifact of our own making as one domain sees it: two domains may hold it in blocks of their own.
type walked struct {
	s *Store
	d artifact.Digest
}

// NewReach is empty.
func NewReach() *Reach {
	return &Reach{Blocks: map[artifact.Digest]struct{}{}, seen: map[walked]struct{}{}}
}

// Walk adds what the sources of a view's snapshot need: it reads and decodes every map and directory, and finds every chunk in the
// index without reading it. What is damaged or missing goes to problem, and the walk goes on with the rest; other errors end it.
func (r *Reach) Walk(ctx context.Context, v *View, problem func(Problem)) error {
	w := reacher{r: r, v: v, problem: problem}
	for i := range v.Manifest.Sources {
		src := &v.Manifest.Sources[i]
		var err error
		switch {
		case src.Root != nil:
			if err = w.mapRoot(ctx, *src.Root, src.Name); err == nil {
				err = w.faults(ctx, src.Faults, src.Name)
			}
		case src.Top != nil:
			err = w.dir(ctx, src.Top, src.Name)
		}
		if err == nil && src.Evidence != nil {
			err = w.evidence(ctx, *src.Evidence, src.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// evidence looks at what the machine that read a source could tell of it.
func (w *reacher) evidence(ctx context.Context, ref artifact.Ref, who string) error {
	first, err := w.first(ctx, ref)
	if !first {
		return err
	}
	if err == nil {
		_, err = w.v.Evidence(ctx, ref)
	}
	if err != nil {
		return w.hurt(ctx, ref, who+": its evidence", err)
	}
	return nil
}

type reacher struct {
	r       *Reach
	v       *View
	problem func(Problem)
}

// hurt passes damage to problem, with the block that is to blame if one is; any other error ends the walk.
func (w *reacher) hurt(ctx context.Context, ref artifact.Ref, who string, err error) error {
	if !errors.Is(err, artifact.ErrDamaged) && !errors.Is(err, artifact.ErrNotFound) && !errors.Is(err, artifact.ErrUnsupported) {
		return err
	}
	blamed := false
	if all, cerr := w.v.copies(ctx, ref); cerr == nil {
		for _, l := range all {
			if _, cerr := w.v.s.readCopy(ctx, l); errors.Is(cerr, artifact.ErrDamaged) || errors.Is(cerr, artifact.ErrNotFound) {
				w.problem(Problem{Object: "blocks/" + l.block.String(), Needs: who, Err: cerr})
				blamed = true
			}
		}
	}
	if !blamed {
		w.problem(Problem{Needs: who, Err: err})
	}
	return nil
}

// need notes where an artifact lies.
func (w *reacher) need(ctx context.Context, ref artifact.Ref) error {
	all, err := w.v.copies(ctx, ref)
	if err != nil {
		return err
	}
	w.r.Artifacts++
	w.r.Blocks[all[0].block] = struct{}{}
	return nil
}

// first tells whether an artifact of our own making was not walked before, and notes where it lies.
func (w *reacher) first(ctx context.Context, ref artifact.Ref) (bool, error) {
	k := walked{w.v.s, ref.Digest}
	if _, ok := w.r.seen[k]; ok {
		return false, nil
	}
	w.r.seen[k] = struct{}{}
	return true, w.need(ctx, ref)
}

func (w *reacher) mapRoot(ctx context.Context, ref artifact.Ref, who string) error {
	first, err := w.first(ctx, ref)
	if !first {
		return err
	}
	var root format.MapRoot
	if err == nil {
		root, err = w.v.mapRoot(ctx, ref)
	}
	if err != nil {
		return w.hurt(ctx, ref, who, err)
	}
	for i, node := range root.Nodes {
		if node == nil {
			continue
		}
		at := int64(i) * format.MapNodePages
		if err := w.mapNode(ctx, *node, root.Size, at, who); err != nil {
			return err
		}
	}
	return nil
}

func (w *reacher) mapNode(ctx context.Context, ref artifact.Ref, size, at int64, who string) error {
	first, err := w.first(ctx, ref)
	if !first {
		return err
	}
	var refs []*artifact.Ref
	if err == nil {
		var data []byte
		if data, err = w.v.getTagged(ctx, ref, artifact.MapNode); err == nil {
			refs, err = format.DecodeMapNode(data, min(format.MapNodePages, int(format.Pages(size)-at)))
		}
	}
	if err != nil {
		return w.hurt(ctx, ref, fmt.Sprintf("%s: map from %d", who, at*format.MapPageSpan), err)
	}
	for j, page := range refs {
		if page == nil {
			continue
		}
		off := (at + int64(j)) * format.MapPageSpan
		if err := w.mapPage(ctx, *page, off, min(format.MapPageSpan, size-off), who); err != nil {
			return err
		}
	}
	return nil
}

func (w *reacher) mapPage(ctx context.Context, ref artifact.Ref, off, span int64, who string) error {
	first, err := w.first(ctx, ref)
	if !first {
		return err
	}
	var page []Stretch
	if err == nil {
		page, err = w.v.mapPage(ctx, &ref, off, span)
	}
	if err != nil {
		return w.hurt(ctx, ref, who, err)
	}
	return w.ranges(ctx, page, who)
}

func (w *reacher) ranges(ctx context.Context, page []Stretch, who string) error {
	for _, st := range page {
		if st.Kind != source.Data {
			continue
		}
		ref, err := st.Artifact()
		if err == nil {
			err = w.need(ctx, ref)
		}
		if err != nil {
			if err = w.hurt(ctx, ref, fmt.Sprintf("%s: %d bytes at %d", who, st.Len, st.Off), err); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// faults notes fault pages, and what the reads of unstable ranges gave.
func (w *reacher) faults(ctx context.Context, pages []artifact.Ref, who string) error {
	for _, ref := range pages {
		first, err := w.first(ctx, ref)
		if !first && err == nil {
			continue
		}
		var rows []format.Fault
		if err == nil {
			rows, err = w.v.faultPage(ctx, ref)
		}
		for _, f := range rows {
			for _, b := range f.Readings {
				var r artifact.Ref
				if err == nil && r.UnmarshalBinary(b) == nil {
					err = w.need(ctx, r)
				}
			}
		}
		if err != nil {
			if err = w.hurt(ctx, ref, who+": why ranges are missing", err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *reacher) dir(ctx context.Context, dir *format.Entry, who string) error {
	if dir.Dir == nil {
		return nil
	}
	pages := []artifact.Ref{*dir.Dir}
	if dir.Paged {
		first, err := w.first(ctx, *dir.Dir)
		if !first {
			return err
		}
		var rows []format.DirPageRef
		if err == nil {
			rows, err = w.v.dirRoot(ctx, *dir.Dir)
		}
		if err != nil {
			return w.hurt(ctx, *dir.Dir, who, err)
		}
		pages = pages[:0]
		for _, row := range rows {
			pages = append(pages, row.Ref)
		}
	}
	for _, ref := range pages {
		if err := w.dirPage(ctx, ref, who); err != nil {
			return err
		}
	}
	return nil
}

func (w *reacher) dirPage(ctx context.Context, ref artifact.Ref, who string) error {
	first, err := w.first(ctx, ref)
	if !first {
		return err
	}
	var entries []format.Entry
	if err == nil {
		entries, err = w.v.dirPage(ctx, ref)
	}
	if err != nil {
		return w.hurt(ctx, ref, who, err)
	}
	for i := range entries {
		e := &entries[i]
		path := who + "/" + string(e.Name)
		switch {
		case e.Dir != nil:
			err = w.dir(ctx, e, path)
		case e.Map != nil:
			err = w.mapRoot(ctx, *e.Map, path)
		default:
			err = w.ranges(ctx, place(0, e.Ranges), path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckStructure looks at objects that the reached snapshots need without reading their data: that the blocks exist, have the right
// size and a directory that verifies, and that the segments up to the position decode.
func (r *Reach) CheckStructure(ctx context.Context, s *Store, upTo uint64, progress func(done, total int), problem func(Problem)) error {
	var segments []artifact.Digest
	for _, seg := range s.Segments() {
		if seg.Seq <= upTo {
			segments = append(segments, seg.Segment)
		}
	}
	blocks := r.Sorted()
	total := len(segments) + len(blocks)
	check := func(done int, name string, err error) error {
		if progress != nil {
			progress(done+1, total)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, artifact.ErrDamaged) || errors.Is(err, artifact.ErrNotFound) || errors.Is(err, artifact.ErrUnsupported) {
			problem(Problem{Object: name, Err: err})
			return nil
		}
		return err
	}
	for i, id := range segments {
		name := "segments/" + id.String()
		_, err := s.ReadSegment(ctx, id)
		if err := check(i, name, err); err != nil {
			return err
		}
	}
	for i, id := range blocks {
		if err := check(len(segments)+i, "blocks/"+id.String(), s.checkBlockShape(ctx, id)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) checkBlockShape(ctx context.Context, id artifact.Digest) error {
	name := "blocks/" + id.String()
	size, err := s.b.Stat(ctx, name)
	if err != nil {
		return err
	}
	entries, err := readBlockDir(ctx, s.b, id)
	if err != nil {
		return err
	}
	last := entries[len(entries)-1]
	if want := int64(last.Off+last.Stored) + int64(len(entries))*format.BlockEntrySize + format.BlockTrailer; size != want {
		return fmt.Errorf("%d bytes, its header wants %d: %w", size, want, artifact.ErrDamaged)
	}
	return nil
}

// Sorted gives the reached blocks in the order of their names.
func (r *Reach) Sorted() []artifact.Digest {
	ids := make([]artifact.Digest, 0, len(r.Blocks))
	for id := range r.Blocks {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b artifact.Digest) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// Use says why an object stays, or that nothing needs it.
type Use string

// The uses of an object, the first that fits.
const (
	UseLog        Use = "log"        // the log itself
	UseSnapshot   Use = "snapshot"   // a snapshot needs it
	UseUnfinished Use = "unfinished" // an unfinished intake can go on from it
	UseIndex      Use = "index"      // the index answers from it
	UseNothing    Use = "nothing"    // sealed, and no snapshot needs it
	UseOrphan     Use = "orphan"     // the log does not name it: left by a writer that died, or being written now
)

// ObjectUse is an object and why it stays.
type ObjectUse struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	Use  Use    `json:"use"`
}

// Uses lists every object of a place with its use. stores are all its domains, open, and reached must hold all their snapshots.
func Uses(ctx context.Context, b Backend, stores []*Store, reached *Reach, each func(ObjectUse) error) error {
	uses := map[string]Use{}
	for _, s := range stores {
		s.nameUses(uses)
	}
	for id := range reached.Blocks {
		uses["blocks/"+id.String()] = UseSnapshot
	}
	for _, prefix := range []string{"blocks/", "segments/", "snapshots/", "logs/"} {
		for e, err := range b.List(ctx, prefix, "") {
			if err != nil {
				return err
			}
			use, ok := uses[e.Name]
			if !ok {
				use = UseOrphan
				if _, part := PartNumber(e.Name); part && prefix == "logs/" {
					use = UseLog
				}
			}
			if err := each(ObjectUse{e.Name, e.Size, use}); err != nil {
				return err
			}
		}
	}
	return nil
}

// nameUses adds the use of all objects that the log names.
func (s *Store) nameUses(uses map[string]Use) {
	s.mu.Lock()
	defer s.mu.Unlock()
	made := map[artifact.Digest]bool{} // segments of unfinished intakes
	for _, in := range s.st.intakes {
		for _, id := range in.Made {
			made[id] = true
		}
		for _, b := range in.Blocks {
			uses["blocks/"+b.ID.String()] = UseUnfinished
		}
	}
	for _, seg := range s.st.sealed {
		uses["segments/"+seg.Segment.String()] = UseIndex
		for _, id := range seg.Blocks {
			name := "blocks/" + id.String()
			switch {
			case made[seg.Segment]:
				uses[name] = UseUnfinished
			case uses[name] == "":
				uses[name] = UseNothing
			}
		}
	}
	for _, r := range s.st.runs {
		for _, id := range r.Segments {
			uses["segments/"+id.String()] = UseIndex
		}
	}
	for _, snap := range s.st.snapshots {
		uses[fmt.Sprintf("snapshots/%s/m-%s", snap.Domain, snap.Manifest)] = UseSnapshot
		uses[NoteName(snap.Domain, snap.Number)] = UseSnapshot
	}
}
