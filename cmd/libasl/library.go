package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"aslrescue/cmd/internal/report"
	"aslrescue/cmd/internal/session"
	"aslrescue/engine/artifact"
	"aslrescue/engine/chunk"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// How a store is opened.
const (
	openRead   = 0
	openWrite  = 1
	openCreate = 2
)

// library keeps what C has handles of. A handle that is none is an error, not a crash.
type library struct {
	mu     sync.Mutex
	last   uint64
	stores map[uint64]*store.Store
	puts   map[uint64]*put
}

func newLibrary() *library {
	return &library{stores: map[uint64]*store.Store{}, puts: map[uint64]*put{}}
}

var errHandle = report.Usagef("there is nothing open under this handle")

func (l *library) open(dir, domain string, mode int) (uint64, error) {
	open := session.ReadStore
	switch mode {
	case openRead:
	case openWrite:
		open = session.OpenStore
	case openCreate:
		open = session.CreateOrOpenStore
	default:
		return 0, report.Usagef("mode %d is none of ASL_READ, ASL_WRITE, ASL_CREATE", mode)
	}
	s, err := open(context.Background(), dir, domain, session.Tool("libasl"))
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.stores[l.last] = s
	return l.last, nil
}

func (l *library) store(h uint64) (*store.Store, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.stores[h]; s != nil {
		return s, nil
	}
	return nil, errHandle
}

// close closes a store. Puts that were not sealed are left as after a crash: nothing of them is seen.
func (l *library) close(h uint64) error {
	l.mu.Lock()
	s := l.stores[h]
	delete(l.stores, h)
	for i, p := range l.puts {
		if p.s == s {
			delete(l.puts, i)
		}
	}
	l.mu.Unlock()
	if s == nil {
		return errHandle
	}
	return s.Backend().Close()
}

// put is a set of artifacts on its way into one snapshot.
type put struct {
	mu     sync.Mutex
	s      *store.Store
	w      *store.Writer
	bb     format.BlockBuilder
	label  string
	began  time.Time
	totals format.Counts
}

func (l *library) begin(h uint64, label string) (uint64, error) {
	s, err := l.store(h)
	if err != nil {
		return 0, err
	}
	p := &put{s: s, label: label, began: time.Now()}
	p.w, err = s.Begin(context.Background(), format.IntakeBegin{Intake: intake.NewID(), Label: label, Chunk: chunk.Default(), Codec: plain(), Clock: p.began.Unix()})
	if err != nil {
		return 0, &report.Error{What: "begin to put", Err: err}
	}
	p.bb.Reset(nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.puts[l.last] = p
	return l.last, nil
}

// plain says that nothing is compressed: who puts single artifacts knows what they are.
func plain() format.Codecs { return format.Codecs{Mode: string(intake.None)} }

func (l *library) putOf(h uint64, take bool) (*put, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.puts[h]
	if p == nil {
		return nil, errHandle
	}
	if take {
		delete(l.puts, h)
	}
	return p, nil
}

// ours are the tags of the store's own structures: what had one and were none would be a lie.
func ours(t artifact.Tag) bool { return t>>16 == 0x4153 }

// put stores an artifact, unless the store has it.
func (l *library) put(h uint64, data []byte, tag artifact.Tag) (artifact.Ref, error) {
	p, err := l.putOf(h, false)
	if err != nil {
		return artifact.Ref{}, err
	}
	switch {
	case len(data) > artifact.MaxSize:
		return artifact.Ref{}, report.Usagef("an artifact has at most %d bytes, this has %d: asl_take_stream cuts", artifact.MaxSize, len(data))
	case ours(tag):
		return artifact.Ref{}, report.Usagef("type tag %08x is one of the store's own", uint32(tag))
	}
	ref := artifact.Sum(data)
	if tag != artifact.NoTag {
		ref = artifact.SumTagged(tag, data)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	known, err := p.w.Known(context.Background(), ref.Digest)
	if err != nil {
		return ref, &report.Error{What: "look for " + ref.String(), Err: err}
	}
	n := int64(len(data))
	p.totals.Data += n
	if known {
		p.totals.Known += n
		return ref, nil
	}
	if !p.bb.Fits(len(data)) {
		if err := p.flush(false); err != nil {
			return ref, err
		}
	}
	p.bb.Add(ref, tag, format.Plain, data, len(data))
	p.w.Added(ref.Digest)
	p.totals.New += n
	return ref, nil
}

// flush seals the block that was being filled. end ends the segment as well.
func (p *put) flush(end bool) error {
	var blocks []format.SealedBlock
	if p.bb.Count() > 0 {
		b, err := p.w.SealBlock(context.Background(), &p.bb)
		if err != nil {
			return &report.Error{What: "store a block", Err: err}
		}
		p.totals.Stored += int64(b.Size)
		blocks = append(blocks, b)
		p.bb.Reset(nil)
	}
	err := p.w.Commit(context.Background(), blocks, format.ResumePoint{New: p.totals.New, Stored: p.totals.Stored}, end)
	if err != nil {
		return &report.Error{What: "acknowledge what was put", Err: err}
	}
	return nil
}

// seal makes everything that was put seen, as one snapshot.
func (l *library) seal(h uint64) (uint64, error) {
	p, err := l.putOf(h, true)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.flush(true); err != nil {
		return 0, err
	}
	snap, err := p.w.Snapshot(context.Background(), &format.Manifest{Label: p.label, Result: "COMPLETE", Chunk: chunk.Default(), Codec: plain(), Totals: p.totals,
		Began: p.began.Unix(), Ended: time.Now().Unix()})
	if err != nil && snap.Number == 0 {
		return 0, &report.Error{What: "seal the snapshot", Err: err}
	}
	return snap.Number, nil // sealed; where the note is missing, asl-admin says so
}

func (l *library) cancel(h uint64) error {
	p, err := l.putOf(h, true)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.End(context.Background(), "cancelled by asl_cancel")
}

// get reads an artifact as a snapshot sees it; 0 is the latest.
func (l *library) get(h, snapshot uint64, ref string) ([]byte, artifact.Tag, error) {
	v, err := l.view(h, snapshot)
	if err != nil {
		return nil, 0, err
	}
	r, err := artifact.ParseRef(ref)
	if err != nil {
		return nil, 0, report.Usagef("%w", err)
	}
	data, tag, err := v.Get(context.Background(), r)
	if err != nil {
		return nil, 0, &report.Error{What: "read " + ref, Err: err}
	}
	return data, tag, nil
}

func (l *library) view(h, snapshot uint64) (*store.View, error) {
	s, err := l.store(h)
	if err != nil {
		return nil, err
	}
	v, err := s.At(context.Background(), snapshot)
	if err != nil {
		return nil, &report.Error{What: fmt.Sprintf("open snapshot %d", snapshot), Err: err}
	}
	return v, nil
}

// list calls for every artifact that a snapshot sees, until told to stop.
func (l *library) list(h, snapshot uint64, each func(artifact.Ref, artifact.Tag, uint32) bool) error {
	s, err := l.store(h)
	if err != nil {
		return err
	}
	v, err := l.view(h, snapshot)
	if err != nil {
		return err
	}
	seen := map[artifact.Digest]bool{}
	for _, at := range s.Segments() {
		if at.Seq > v.Snapshot.Seq {
			continue
		}
		seg, err := s.ReadSegment(context.Background(), at.Segment)
		if err != nil {
			return &report.Error{What: "read segment " + at.Segment.String(), Err: err}
		}
		for _, e := range seg.Entries {
			if seen[e.Ref.Digest] {
				continue
			}
			seen[e.Ref.Digest] = true
			if !each(e.Ref, e.Tag, e.Raw) {
				return nil
			}
		}
	}
	return nil
}

// snapshots calls for every snapshot, until told to stop.
func (l *library) snapshots(h uint64, each func(number uint64, label, result string) bool) error {
	s, err := l.store(h)
	if err != nil {
		return err
	}
	for _, snap := range s.Snapshots() {
		if !each(snap.Number, snap.Label, snap.Result) {
			return nil
		}
	}
	return nil
}

// verify reads every block and says how many objects are damaged.
func (l *library) verify(h uint64) (int, error) {
	s, err := l.store(h)
	if err != nil {
		return 0, err
	}
	bad, err := s.VerifyBlocks(context.Background(), s.Blocks(), runtime.NumCPU(), func(int64, int64, int64) {})
	if err != nil {
		return 0, &report.Error{What: "verify", Err: err}
	}
	if len(bad) > 0 {
		return len(bad), &report.Error{What: fmt.Sprintf("verify: %s: %s, and %d more", bad[0].Name, bad[0].Why, len(bad)-1), Err: artifact.ErrDamaged}
	}
	return 0, nil
}

// take takes a stream in, as asl-intake does, and gives its snapshot and root.
func (l *library) take(h uint64, name, label string, r io.Reader) (uint64, artifact.Ref, error) {
	s, err := l.store(h)
	if err != nil {
		return 0, artifact.Ref{}, err
	}
	if name == "" {
		return 0, artifact.Ref{}, report.Usagef("a stream wants a name")
	}
	rep, err := intake.Run(context.Background(), s, []source.Source{source.OpenStream(r, name)}, intake.Options{Label: label, Compression: intake.Fast})
	if err != nil {
		return 0, artifact.Ref{}, &report.Error{What: "take in " + name, Err: err}
	}
	src := rep.Manifest.Sources[0]
	root := artifact.Ref{}
	if src.Root != nil {
		root = *src.Root
	}
	if rep.Result != event.Complete { // sealed, and the snapshot says what is missing
		err = &report.Error{What: "take in all of " + name, Err: errors.New(strings.Join(src.Errors, "; ")), Code: report.ResultCode(rep.Result), Means: "What came before is in the snapshot."}
	}
	return rep.Snapshot.Number, root, err
}

var errStopped = errors.New("the callback said to stop")

// read gives the bytes of a source of a snapshot, in order. What the snapshot does not hold is an error: there is nothing to give in its place.
func (l *library) read(h, snapshot uint64, name string, w io.Writer) error {
	v, err := l.view(h, snapshot)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(v.Manifest.Sources, func(s format.SourceResult) bool { return s.Name == name })
	if i < 0 {
		return &report.Error{What: fmt.Sprintf("read %q of snapshot %d", name, v.Snapshot.Number), Err: artifact.ErrNotFound}
	}
	src := &v.Manifest.Sources[i]
	if src.Kind == string(source.Tree) {
		return report.Usagef("%q is a tree: asl-admin restores it", name)
	}
	if src.Root == nil {
		return nil
	}
	zeros := make([]byte, 64<<10)
	ctx := context.Background()
	for page, err := range v.MapPages(ctx, *src.Root) {
		if err != nil {
			return &report.Error{What: "read the map of " + name, Err: err}
		}
		for _, st := range page {
			switch st.Kind {
			case source.Data:
				err = v.Fetch(ctx, []store.Stretch{st}, func(_ store.Stretch, data []byte) error { _, err := w.Write(data); return err },
					func(_ store.Stretch, err error) error { return err })
			case source.Zero:
				for left := st.Len; left > 0 && err == nil; left -= int64(len(zeros)) {
					_, err = w.Write(zeros[:min(left, int64(len(zeros)))])
				}
			default:
				err = fmt.Errorf("%d bytes at %d were not read when it was taken in", st.Len, st.Off)
			}
			if err != nil {
				return &report.Error{What: "read " + name, Err: err}
			}
		}
	}
	return nil
}
