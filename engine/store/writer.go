package store

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

// ErrFenced means that another writer has taken the intake over.
var ErrFenced = errors.New("another process has taken this intake over")

// Writer is the writing half of one intake. Known and Added belong to one goroutine; Commit, Snapshot and End to one,
// which may be another; SealBlock may be called from any.
type Writer struct {
	s      *Store
	id     format.ID
	nonce  format.ID
	signer ed25519.PrivateKey

	mu   sync.Mutex
	view index                          // runs this intake may count as known: those at its base, and its own
	may  map[int]bool                   // level 0 segments that view stands for
	own  []map[artifact.Digest]struct{} // artifacts in no sealed segment yet, by segment to be; the last is being filled

	leaned map[artifact.Digest]bool // blocks that Known relies on: whether they are there; Known's
	lost   []artifact.Digest

	segBlocks []format.SealedBlock      // committed, in no segment yet; Commit's
	resumed   map[artifact.Ref]location // what stands in blocks that an earlier writer left and no segment held; it does not change
}

// Begin begins an intake. Nonce and Key of begin are set here.
func (s *Store) Begin(ctx context.Context, begin format.IntakeBegin) (*Writer, error) {
	w, key, err := s.newWriter(begin.Intake)
	if err != nil {
		return nil, err
	}
	begin.Nonce, begin.Key, begin.Tool = w.nonce, key, s.tool
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.appendLog(ctx, func(*state) ([]record, error) { return []record{{format.IntakeBeginType, begin}}, nil })
	if err != nil {
		return nil, err
	}
	return w, s.openView(ctx, w)
}

// Resume takes an unfinished intake over and gives its state as of the last resume point.
func (s *Store) Resume(ctx context.Context, id format.ID, clock int64) (*Writer, format.IntakeState, error) {
	w, key, err := s.newWriter(id)
	if err != nil {
		return nil, format.IntakeState{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.appendLog(ctx, func(st *state) ([]record, error) {
		if st.intakes[id] == nil {
			return nil, fmt.Errorf("intake %x is not unfinished: %w", id, artifact.ErrNotFound)
		}
		return []record{{format.ResumeType, format.Resume{Intake: id, Nonce: w.nonce, Key: key, Tool: s.tool, Clock: clock}}}, nil
	})
	if err != nil {
		return nil, format.IntakeState{}, err
	}
	in := *s.st.intakes[id]
	w.segBlocks, w.resumed = slices.Clone(in.Blocks), map[artifact.Ref]location{}
	for _, b := range in.Blocks {
		entries, err := format.DecodeEntries(b.Entries)
		if err != nil {
			return nil, in, fmt.Errorf("resume point of intake %x: %w", id, err)
		}
		for _, e := range entries {
			w.own[0][e.Ref.Digest] = struct{}{}
			w.resumed[e.Ref] = location{block: b.ID, entry: e}
		}
	}
	return w, in, s.openView(ctx, w)
}

func (s *Store) newWriter(id format.ID) (*Writer, []byte, error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	return &Writer{s: s, id: id, nonce: newID(), signer: priv, own: []map[artifact.Digest]struct{}{{}}, leaned: map[artifact.Digest]bool{}}, pub, nil
}

// openView gives w the runs it may count as known. s.mu is held.
func (s *Store) openView(ctx context.Context, w *Writer) error {
	in := s.st.intakes[w.id]
	w.may = map[int]bool{}
	for i, seg := range s.st.sealed {
		w.may[i] = seg.Seq <= in.Seq || slices.Contains(in.Made, seg.Segment)
	}
	w.view = index{b: s.b, cache: s.ix.cache}
	for _, r := range s.ix.runs {
		if !slices.ContainsFunc(r.of, func(i int) bool { return !w.may[i] }) {
			w.view.runs = append(w.view.runs, r)
			continue
		}
		for _, i := range r.of { // merged with what came later: take those that count one by one
			if !w.may[i] {
				continue
			}
			p, err := s.levelZero(ctx, i)
			if err != nil {
				return err
			}
			w.view.runs = append(w.view.runs, indexRun{of: []int{i}, parts: []*segmentPart{p}})
		}
	}
	return nil
}

// ID is the intake's.
func (w *Writer) ID() format.ID { return w.id }

// Base is the log position against which "known" is decided.
func (w *Writer) Base() uint64 {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if in := w.s.st.intakes[w.id]; in != nil {
		return in.Seq
	}
	return 0
}

// Seq is the position of the last record of the log, as far as this process knows.
func (w *Writer) Seq() uint64 {
	seq, _ := w.s.Position()
	return seq
}

// Known tells whether an artifact need not be stored again: it stood in the store when the intake began, or this intake added it.
func (w *Writer) Known(ctx context.Context, d artifact.Digest) (bool, error) {
	view, own := w.look(d) // no lock of ours may be held below: Commit takes them in the other order
	if own {
		return true, nil
	}
	for {
		found, err := view.find(ctx, d, !w.s.anyDamage() && len(w.lost) == 0)
		var bad *damagedSegment
		if errors.As(err, &bad) && errors.Is(err, artifact.ErrDamaged) {
			if err := w.s.rescuePart(ctx, bad.part); err != nil {
				return false, err
			}
			continue
		}
		if err != nil {
			return false, err
		}
		known := slices.ContainsFunc(found, func(l location) bool { return !w.s.isDamaged(l.block) && w.there(ctx, l) })
		if !known && len(found) == 1 && !w.s.anyDamage() { // what was asked first is lost: another copy may do
			if found, err = view.find(ctx, d, false); err != nil {
				return false, err
			}
			known = slices.ContainsFunc(found, func(l location) bool { return !w.s.isDamaged(l.block) && w.there(ctx, l) })
		}
		return known, nil
	}
}

// there tells whether a block that is leaned on still stands in the store with its size. It is asked once for every block: a file that
// was removed or cut is found now, while its content is at hand to be stored again.
func (w *Writer) there(ctx context.Context, l location) bool {
	if ok, asked := w.leaned[l.block]; asked {
		return ok
	}
	n, err := w.s.b.Stat(ctx, "blocks/"+l.block.String())
	gone := errors.Is(err, artifact.ErrNotFound) || errors.Is(err, artifact.ErrDamaged) // any other error may pass
	ok := err == nil && (l.size == 0 || n == int64(l.size)) || err != nil && !gone
	w.leaned[l.block] = ok
	if !ok {
		w.lost = append(w.lost, l.block)
	}
	return ok
}

// Lost are the blocks that should be in the store and are not, or not whole, as Known came across them. What they held is stored again. It
// is for the goroutine that calls Known, or for after it ended.
func (w *Writer) Lost() []artifact.Digest { return w.lost }

// look gives the runs that count now, and whether the artifact is in none of them yet but ours.
func (w *Writer) look(d artifact.Digest) (view index, own bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.own {
		if _, ok := m[d]; ok {
			return view, true
		}
	}
	return w.view, false
}

// Added says that this intake stores the artifact from here on. The next segment's artifacts are told apart by NextSegment.
func (w *Writer) Added(d artifact.Digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.own[len(w.own)-1][d] = struct{}{}
}

// NextSegment says that what is Added from here on belongs to another segment. Each call is matched by a Commit that ends one.
func (w *Writer) NextSegment() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.own = append(w.own, map[artifact.Digest]struct{}{})
}

func (s *Store) anyDamage() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.st.damage) > 0
}

func (s *Store) isDamaged(block artifact.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st.damage["blocks/"+block.String()] != ""
}

// SealBlock creates the block. When it returns nil the block is durable; it counts once a Commit names it.
func (w *Writer) SealBlock(ctx context.Context, bb *format.BlockBuilder) (format.SealedBlock, error) {
	data := bb.Seal(0)
	for gen := uint32(0); ; gen++ {
		if gen > 0 {
			data = bb.Regenerate(gen)
		}
		id := artifact.HashBytes(data)
		err := error(artifact.ErrDamaged)
		if !w.s.isDamaged(id) {
			err = w.s.b.Create(ctx, "blocks/"+id.String(), data)
		}
		if errors.Is(err, artifact.ErrDamaged) && gen < 1000 {
			continue // what stands under that name is not these bytes: the next generation has another name
		}
		if err != nil {
			return format.SealedBlock{}, fmt.Errorf("block %s: %w", id, err)
		}
		dir := data[len(data)-format.BlockTrailer-bb.Count()*format.BlockEntrySize : len(data)-format.BlockTrailer]
		return format.SealedBlock{ID: id, Generation: gen, Size: uint32(len(data)), Entries: slices.Clone(dir)}, nil
	}
}

// Commit acknowledges: it appends a resume point that covers blocks, all of them sealed, and ends the segment if told so.
// What point says must need no artifact that is in none of them, the ones before, or the base.
func (w *Writer) Commit(ctx context.Context, blocks []format.SealedBlock, point format.ResumePoint, endSegment bool) error {
	point.Intake, point.Nonce, point.Blocks = w.id, w.nonce, blocks
	w.segBlocks = append(w.segBlocks, blocks...)
	recs := []record{{format.ResumePointType, point}}
	var seal *format.SegmentSeal
	if endSegment && len(w.segBlocks) > 0 {
		var err error
		if seal, err = w.createSegment(ctx); err != nil {
			return err
		}
		point.Blocks = nil // the segment says it
		recs = []record{{format.SegmentSealType, *seal}, {format.ResumePointType, point}}
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if err := w.append(ctx, recs...); err != nil {
		return err
	}
	if seal == nil {
		if endSegment {
			w.dropOwn()
		}
		return nil
	}
	w.segBlocks = nil
	return w.takeInSegment(ctx, seal.Segment)
}

func (w *Writer) createSegment(ctx context.Context) (*format.SegmentSeal, error) {
	seal := &format.SegmentSeal{Intake: w.id, Nonce: w.nonce}
	var rows []format.BlockRow
	var entries []format.SegmentEntry
	for i, b := range w.segBlocks {
		rows = append(rows, format.BlockRow{ID: b.ID, Generation: b.Generation, Size: b.Size})
		seal.Blocks = append(seal.Blocks, b.ID)
		dir, err := format.DecodeEntries(b.Entries)
		if err != nil {
			return nil, err
		}
		for _, e := range dir {
			entries = append(entries, format.SegmentEntry{Ref: e.Ref, Tag: e.Tag, Codec: e.Codec, Block: uint32(i), Off: e.Off, Stored: e.Stored, Raw: e.Raw})
		}
	}
	data, err := format.EncodeSegment(0, rows, entries)
	if err != nil {
		return nil, err
	}
	seal.Segment, seal.Size, seal.Entries = artifact.HashBytes(data), int64(len(data)), len(entries)
	if err := w.s.b.Create(ctx, "segments/"+seal.Segment.String(), data); err != nil {
		return nil, fmt.Errorf("segment %s: %w", seal.Segment, err)
	}
	return seal, nil
}

// append appends records of this intake, unless another writer has it now. s.mu is held.
func (w *Writer) append(ctx context.Context, recs ...record) error {
	return w.s.appendLog(ctx, func(st *state) ([]record, error) {
		in := st.intakes[w.id]
		if in == nil || in.Nonce != w.nonce {
			return nil, fmt.Errorf("intake %x: %w", w.id, ErrFenced)
		}
		return recs, nil
	})
}

// takeInSegment makes a sealed segment part of what is known, in place of the artifacts remembered for it. s.mu is held.
func (w *Writer) takeInSegment(ctx context.Context, id artifact.Digest) error {
	if err := w.s.refreshIndex(ctx); err != nil {
		return err
	}
	i := slices.IndexFunc(w.s.st.sealed, func(x sealedSegment) bool { return x.Segment == id })
	p, err := w.s.levelZero(ctx, i)
	if err != nil {
		return err
	}
	if !w.may[i] {
		w.mu.Lock()
		w.may[i] = true
		w.view.runs = append(w.view.runs, indexRun{of: []int{i}, parts: []*segmentPart{p}})
		w.mu.Unlock()
	}
	w.dropOwn()
	return nil
}

func (w *Writer) dropOwn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.own) > 1 {
		w.own = w.own[1:]
	} else {
		w.own = []map[artifact.Digest]struct{}{{}}
	}
}

// Snapshot ends the intake: it stores the manifest, assigns the number, and signs. All must be committed.
func (w *Writer) Snapshot(ctx context.Context, m *format.Manifest) (format.SnapshotAt, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	st := w.s.st
	if in := st.intakes[w.id]; in != nil {
		m.Base, m.Resumed = in.Seq, in.Resumed
	}
	m.Format, m.Store, m.Domain, m.Intake, m.Parent, m.Tool = format.Version, st.store, st.domain, w.id, st.lastSnapshot(), w.s.tool
	data, err := format.Marshal(m)
	if err != nil {
		return format.SnapshotAt{}, err
	}
	id := artifact.HashBytes(data)
	if err := w.s.b.Create(ctx, fmt.Sprintf("snapshots/%s/m-%s", st.domain, id), data); err != nil {
		return format.SnapshotAt{}, fmt.Errorf("manifest: %w", err)
	}
	err = w.s.appendLog(ctx, func(st *state) ([]record, error) {
		in := st.intakes[w.id]
		if in == nil || in.Nonce != w.nonce {
			return nil, fmt.Errorf("intake %x: %w", w.id, ErrFenced)
		}
		return []record{{format.SnapshotType, format.Snapshot{Number: st.lastSnapshot() + 1, Domain: st.domain, Intake: w.id,
			Nonce: w.nonce, Manifest: id, Parent: m.Parent, Label: m.Label, Result: m.Result}}}, nil
	})
	if err != nil {
		return format.SnapshotAt{}, err
	}
	snap := w.s.st.snapshots[len(w.s.st.snapshots)-1]
	return snap, w.sign(ctx, snap, w.s.st.hash)
}

// NoteText is what the note of a snapshot says and signs: record is the SNAPSHOT record's hash in the log's chain.
func NoteText(domain string, number uint64, record format.Hash) string {
	return fmt.Sprintf("asl-snapshot/1\n%s\n%d\n%x\n", domain, number, record)
}

// NoteName is the object that holds it.
func NoteName(domain string, number uint64) string {
	return fmt.Sprintf("snapshots/%s/%010d.note", domain, number)
}

func (w *Writer) sign(ctx context.Context, snap format.SnapshotAt, record format.Hash) error {
	signed, err := note.Sign(&note.Note{Text: NoteText(snap.Domain, snap.Number, record)}, writerKey{w})
	if err != nil {
		return fmt.Errorf("signing snapshot %d: %w", snap.Number, err)
	}
	if err := w.s.b.Create(ctx, NoteName(snap.Domain, snap.Number), signed); err != nil {
		return fmt.Errorf("note of snapshot %d: %w", snap.Number, err)
	}
	return nil
}

// writerKey signs notes with the writer's key of this one intake.
type writerKey struct{ w *Writer }

func (k writerKey) Name() string { return fmt.Sprintf("writer-%x", k.w.nonce) }

func (k writerKey) KeyHash() uint32 {
	return KeyHash(k.Name(), k.w.signer.Public().(ed25519.PublicKey))
}

func (k writerKey) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(k.w.signer, msg), nil }

// KeyHash is the number by which a note names the key of a signature, as sumdb/note computes it.
func KeyHash(name string, key ed25519.PublicKey) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n\x01"), key...))
	return uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
}

// End ends the intake without a snapshot: it will not be offered to go on.
func (w *Writer) End(ctx context.Context, why string) error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.append(ctx, record{format.IntakeEndType, format.IntakeEnd{Intake: w.id, Nonce: w.nonce, Why: why}})
}

// Get reads an artifact of the unfinished intake, or of what it may count as known. It is the writer's own look beyond any snapshot.
func (w *Writer) Get(ctx context.Context, ref artifact.Ref) ([]byte, error) {
	if l, ok := w.resumed[ref]; ok {
		return w.s.readCopy(ctx, l)
	}
	data, _, err := w.s.Beyond().Get(ctx, ref)
	return data, err
}
