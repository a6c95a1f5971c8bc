// Package store is blocks, segments, the log and snapshots over a Backend. The format is docs/store-format.md. One
// process may have a Store open many times, many processes may write to one store at once.
//
// Goroutines: none of its own. A Store may be used from several goroutines; a Writer says who may call what.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

// ErrNoStore means that there is no store at the place.
var ErrNoStore = errors.New("there is no store here")

// Options say how to open. The zero value reads the only domain there is.
type Options struct {
	Domain string // empty: the only one in the store
	Tool   string // name and version of the program, for the log
	Pages  int    // index pages to keep in memory, 4 KiB each on the store and about 6 KiB here; 0 is 1 024
}

// Store is an open store.
type Store struct {
	b    Backend
	tool string

	mu      sync.Mutex
	st      *state
	ix      *index
	dec     *format.Decoder
	broken  error                      // why nothing can be appended, nil if all is well
	sealed  map[artifact.Digest]uint64 // block: logseq from which it is visible; made when first asked for
	sealedN int
}

// ValidDomain tells whether a domain's name can be part of object names.
func ValidDomain(d string) bool {
	ok := len(d) > 0 && len(d) <= 63 && d[0] != '-' && d[0] != '_' && d[0] != '.'
	for _, c := range []byte(d) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.')
	}
	return ok
}

// Create makes a store of a place that has none and opens it. If another process did so meanwhile, that store is opened.
func Create(ctx context.Context, b Backend, o Options) (*Store, error) {
	if !ValidDomain(o.Domain) {
		return nil, fmt.Errorf("domain %q: want 1 to 63 of a-z 0-9 - _ . beginning with a letter or digit", o.Domain)
	}
	s := &Store{b: b, tool: o.Tool, st: newState(o.Domain)}
	s.st.store = newID()
	part, _, err := s.buildPart(nil)
	if err != nil {
		return nil, err
	}
	if err := b.Create(ctx, partName(o.Domain, 1), part); err != nil && !errors.Is(err, artifact.ErrConflict) {
		return nil, fmt.Errorf("beginning the log: %w", err)
	}
	return Open(ctx, b, o)
}

// Open reads the log and the filters. If the log is damaged, the Store can be read as far as the log is good, appends are refused, and
// Broken says why.
func Open(ctx context.Context, b Backend, o Options) (*Store, error) {
	domain := o.Domain
	domains, err := Domains(ctx, b)
	switch {
	case err != nil:
		return nil, err
	case len(domains) == 0:
		return nil, ErrNoStore
	case domain == "" && len(domains) > 1:
		return nil, fmt.Errorf("the store holds the domains %s: say which", strings.Join(domains, ", "))
	case domain == "":
		domain = domains[0]
	case !slices.Contains(domains, domain):
		return nil, fmt.Errorf("the store holds %s, not domain %q: %w", strings.Join(domains, ", "), domain, ErrNoStore)
	}
	dec, err := format.NewDecoder()
	if err != nil {
		return nil, err
	}
	if o.Pages == 0 {
		o.Pages = 1024
	}
	s := &Store{b: b, tool: o.Tool, dec: dec}
	s.ix = &index{b: b, cache: newPageCache(o.Pages), parts: map[artifact.Digest]*segmentPart{}}
	if s.st, err = openState(ctx, b, domain); err != nil {
		if !errors.Is(err, ErrBroken) {
			return nil, err
		}
		s.broken = err
	}
	return s, s.refreshIndex(ctx)
}

// Domains lists the domains that have a log here, sorted.
func Domains(ctx context.Context, b Backend) ([]string, error) {
	var found []string
	for after := ""; ; {
		name, err := firstAfter(ctx, b, "logs/", after)
		if err != nil || name == "" {
			slices.Sort(found) // names were sorted with their slash
			return found, err
		}
		domain, _, ok := strings.Cut(strings.TrimPrefix(name, "logs/"), "/")
		if ok && ValidDomain(domain) {
			found = append(found, domain)
		}
		after = "logs/" + domain + "/\xff" // greater than every part's name
	}
}

func firstAfter(ctx context.Context, b Backend, prefix, after string) (string, error) {
	for e, err := range b.List(ctx, prefix, after) {
		if err != nil {
			return "", fmt.Errorf("listing %s: %w", prefix, err)
		}
		return e.Name, nil
	}
	return "", nil
}

// refreshIndex opens the segments of runs that are not open yet. s.mu must be held, or s not shared yet.
func (s *Store) refreshIndex(ctx context.Context) error {
	runs := make([]indexRun, 0, len(s.st.runs))
	for _, r := range s.st.runs {
		run, err := s.openRun(ctx, r)
		if err != nil {
			return err
		}
		runs = append(runs, run...)
	}
	s.ix.runs = runs
	return nil
}

// openRun opens a run. Where a merged one is damaged, the level 0 segments it stands for serve instead.
func (s *Store) openRun(ctx context.Context, r runState) ([]indexRun, error) {
	run := indexRun{of: r.of}
	whole := true
	for _, id := range r.Segments {
		p, err := s.part(ctx, id, r)
		if err != nil {
			return nil, err
		}
		whole = whole && p.rescued.Load() == nil
		run.parts = append(run.parts, p)
	}
	if whole || r.Level == 0 {
		return []indexRun{run}, nil
	}
	var runs []indexRun
	for _, i := range r.of {
		p, err := s.levelZero(ctx, i)
		if err != nil {
			return nil, err
		}
		runs = append(runs, indexRun{of: []int{i}, parts: []*segmentPart{p}})
	}
	return runs, nil
}

// levelZero opens the i-th level 0 segment by itself.
func (s *Store) levelZero(ctx context.Context, i int) (*segmentPart, error) {
	id := s.st.sealed[i].Segment
	return s.part(ctx, id, runState{format.Run{Segments: []artifact.Digest{id}}, []int{i}})
}

// part opens a segment of a run, if it is not open yet.
func (s *Store) part(ctx context.Context, id artifact.Digest, r runState) (*segmentPart, error) {
	if p := s.ix.parts[id]; p != nil {
		return p, nil
	}
	p, err := openPart(ctx, s.b, id, r.Level, s.blocksOf(r.of))
	if err != nil {
		return nil, err
	}
	s.ix.parts[id] = p
	return p, nil
}

func (s *Store) blocksOf(of []int) []artifact.Digest {
	var blocks []artifact.Digest
	for _, i := range of {
		blocks = append(blocks, s.st.sealed[i].Blocks...)
	}
	return blocks
}

// Refresh takes in what other writers appended since.
func (s *Store) Refresh(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil
	}
	if err := replay(ctx, s.b, s.st, nil); err != nil {
		return err
	}
	return s.refreshIndex(ctx)
}

// Broken says why nothing can be appended, nil if the log is whole.
func (s *Store) Broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// ID is the store's own.
func (s *Store) ID() format.ID { return s.st.store }

// Domain is whose log was opened.
func (s *Store) Domain() string { return s.st.domain }

// Backend is the place the store lies in.
func (s *Store) Backend() Backend { return s.b }

// Position is the last log record's number, and the part it stands in.
func (s *Store) Position() (seq, part uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st.seq, s.st.part
}

// Snapshots lists all, oldest first.
func (s *Store) Snapshots() []format.SnapshotAt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.st.snapshots)
}

// Unfinished lists the intakes that neither ended in a snapshot nor were given up, oldest first.
func (s *Store) Unfinished() []format.IntakeState {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []format.IntakeState
	for _, in := range s.st.intakes {
		all = append(all, *in)
	}
	slices.SortFunc(all, func(a, b format.IntakeState) int { return int(a.Seq) - int(b.Seq) })
	return all
}

// Damaged lists the objects that DAMAGE records name.
func (s *Store) Damaged() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := make(map[string]string, len(s.st.damage))
	for k, v := range s.st.damage {
		m[k] = v
	}
	return m
}

// Verifications lists what VERIFIED records say, oldest first.
func (s *Store) Verifications() []format.VerifiedAt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.st.verified)
}

// Segments lists the level 0 segments and since when they are visible, oldest first.
func (s *Store) Segments() []format.SealedAt {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []format.SealedAt
	for _, v := range s.st.sealed {
		all = append(all, format.SealedAt{Seq: v.Seq, SegmentSeal: v.SegmentSeal})
	}
	return all
}

// Blocks lists the blocks that segments name, in the order they were sealed, each once.
func (s *Store) Blocks() []artifact.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []artifact.Digest
	seen := map[artifact.Digest]bool{}
	for _, seg := range s.st.sealed {
		for _, b := range seg.Blocks {
			if !seen[b] {
				seen[b], all = true, append(all, b)
			}
		}
	}
	return all
}

// Runs lists the runs that stand for all segments now.
func (s *Store) Runs() []format.Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []format.Run
	for _, r := range s.st.runs {
		all = append(all, r.Run)
	}
	return all
}

// IndexMemory is about how many bytes of memory the index takes for its entries.
func (s *Store) IndexMemory() (bytes int, entries uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ix.memory()
}

// ReportDamage appends a DAMAGE record for objects that none names yet.
func (s *Store) ReportDamage(ctx context.Context, objects []format.DamagedObject) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := func(o format.DamagedObject) bool { _, ok := s.st.damage[o.Name]; return ok || o.Unread }
	if objects = slices.DeleteFunc(slices.Clone(objects), known); len(objects) == 0 {
		return nil
	}
	return s.appendLog(ctx, func(*state) ([]record, error) {
		return []record{{format.DamageType, format.Damage{Objects: objects}}}, nil
	})
}

// Digests lists what DIGEST records say of a snapshot, oldest first.
func (s *Store) Digests(snapshot uint64) (all []format.DigestAt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.st.digests {
		if d.Snapshot == snapshot {
			all = append(all, d)
		}
	}
	return all
}

// ReportDigest appends a DIGEST record.
func (s *Store) ReportDigest(ctx context.Context, d format.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.appendLog(ctx, func(*state) ([]record, error) { return []record{{format.DigestType, d}}, nil })
}

// ReportVerified appends a VERIFIED record.
func (s *Store) ReportVerified(ctx context.Context, v format.Verified) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.appendLog(ctx, func(*state) ([]record, error) { return []record{{format.VerifiedType, v}}, nil })
}

// ReportApprovals appends consent that was given, in the order it was given.
func (s *Store) ReportApprovals(ctx context.Context, all []format.Approval) error {
	if len(all) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.appendLog(ctx, func(*state) ([]record, error) {
		var recs []record
		for _, a := range all {
			recs = append(recs, record{format.ApprovalType, a})
		}
		return recs, nil
	})
}

// LogRecord is a record and the part it stands in.
type LogRecord struct {
	Part uint64
	format.Record
}

// Log reads the whole log from its beginning, checking its chain. The last pair may hold an error.
func Log(ctx context.Context, b Backend, domain string) iter.Seq2[LogRecord, error] {
	return func(yield func(LogRecord, error) bool) {
		st := newState(domain)
		for {
			var recs []LogRecord
			ok, err := replayPart(ctx, b, st, func(part uint64, r format.Record) { recs = append(recs, LogRecord{part, r}) })
			for _, r := range recs {
				if !yield(r, nil) {
					return
				}
			}
			if err != nil {
				yield(LogRecord{}, err)
			}
			if !ok || err != nil {
				return
			}
		}
	}
}

// goneIsDamage turns the absence of an object that the log or a segment names into damage: what was asked for is not absent, it is lost.
func goneIsDamage(err error) error {
	if errors.Is(err, artifact.ErrNotFound) {
		return fmt.Errorf("%w: %w", artifact.ErrDamaged, err)
	}
	return err
}

// shortIsDamage turns the end of an object before its due end into damage.
func shortIsDamage(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", artifact.ErrDamaged, err)
	}
	return err
}
