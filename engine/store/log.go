package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

// ErrBroken means that the log is damaged in a way no crash explains: the store can be read up to there, not written.
var ErrBroken = errors.New("the log is damaged")

func partName(domain string, n uint64) string { return fmt.Sprintf("logs/%s/%012d.aol", domain, n) }

// PartNumber reads the number from a log part's object name.
func PartNumber(name string) (uint64, bool) {
	base := name[strings.LastIndexByte(name, '/')+1:]
	digits, ok := strings.CutSuffix(base, ".aol")
	if !ok || len(digits) != 12 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0
}

// readAll reads a whole object into memory.
func readAll(ctx context.Context, b Backend, name string) ([]byte, error) {
	return readRange(ctx, b, name, 0, -1)
}

func readRange(ctx context.Context, b Backend, name string, off, n int64) ([]byte, error) {
	r, err := b.Open(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // nothing was written: what was read is checked by its hash
	if n >= 0 {
		buf := make([]byte, n)
		if _, err = io.ReadFull(r, buf); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return buf, nil
	}
	var buf bytes.Buffer
	if _, err = buf.ReadFrom(io.LimitReader(r, format.ObjectMax+1)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if buf.Len() > format.ObjectMax {
		return nil, fmt.Errorf("%s: it has more than %d bytes, and no object has: %w", name, format.ObjectMax, artifact.ErrDamaged)
	}
	return buf.Bytes(), nil
}

func newID() format.ID {
	var id format.ID
	rand.Read(id[:]) // never fails since Go 1.24
	return id
}

// replay brings st up to the end of the log. visit, if not nil, sees every record.
func replay(ctx context.Context, b Backend, st *state, visit func(part uint64, r format.Record)) error {
	for {
		ok, err := replayPart(ctx, b, st, visit)
		if !ok || err != nil {
			return err
		}
	}
}

// replayPart reads the part after the last; ok is false where there is none.
func replayPart(ctx context.Context, b Backend, st *state, visit func(uint64, format.Record)) (ok bool, err error) {
	n := st.part + 1
	name := partName(st.domain, n)
	raw, err := readAll(ctx, b, name)
	if errors.Is(err, artifact.ErrNotFound) {
		return false, nil
	}
	if errors.Is(err, artifact.ErrDamaged) { // the file itself is spoilt; a read error may pass: it stops, and is no verdict
		return false, broken(n, err)
	}
	if err != nil {
		return false, fmt.Errorf("log part %d: %w", n, err)
	}
	part, err := format.DecodePart(raw, st.seq+1, st.hash)
	if part.Torn {
		if err := reallyTorn(ctx, b, st.domain, n, raw); err != nil {
			return false, err
		}
	}
	if err == nil {
		err = checkHead(st, n, part)
	}
	if err != nil {
		return false, broken(n, err)
	}
	st.part, st.torn = n, part.Torn
	for _, r := range part.Records {
		if err := st.apply(r); err != nil {
			return false, broken(n, err)
		}
		if visit != nil {
			visit(n, r)
		}
	}
	return true, nil
}

func broken(n uint64, err error) error {
	if errors.Is(err, artifact.ErrUnsupported) {
		return fmt.Errorf("log part %d: %w", n, err)
	}
	return fmt.Errorf("log part %d: %w: %w", n, ErrBroken, err)
}

// reallyTorn lets a cut part pass only if the medium gives the same bytes twice more.
func reallyTorn(ctx context.Context, b Backend, domain string, n uint64, raw []byte) error {
	for range 2 {
		again, err := readAll(Uncached(ctx), b, partName(domain, n))
		if err != nil {
			return fmt.Errorf("log part %d: %w", n, err)
		}
		if !bytes.Equal(raw, again) {
			return fmt.Errorf("log part %d reads differently every time: %w", n, artifact.ErrDamaged)
		}
	}
	return nil
}

// checkHead holds a part against the ones before it.
func checkHead(st *state, n uint64, part format.Part) error {
	if len(part.Records) == 0 {
		if part.Torn && n == 1 {
			return fmt.Errorf("the first part is empty or cut off: %w", artifact.ErrDamaged)
		}
		return nil // torn before its first record: it counts for nothing
	}
	var head format.PartHead
	r := part.Records[0]
	if r.Type != format.PartHeadType {
		return fmt.Errorf("begins with %s instead of PART_HEAD: %w", TypeName(r.Type), artifact.ErrDamaged)
	}
	if err := format.Unmarshal(r.Payload, &head); err != nil {
		return err
	}
	if head.Format != format.Version {
		return fmt.Errorf("format %d: %w", head.Format, artifact.ErrUnsupported)
	}
	if st.store == (format.ID{}) {
		st.store = head.Store
	}
	want := uint64(0)
	if st.torn {
		want = n - 1
	}
	switch {
	case head.Store != st.store:
		return fmt.Errorf("belongs to another store (%x, this is %x): %w", head.Store, st.store, artifact.ErrDamaged)
	case head.Domain != st.domain || head.Part != n || head.Prev != st.hash:
		return fmt.Errorf("is part %d of domain %q, or chains to another record: %w", head.Part, head.Domain, artifact.ErrDamaged)
	case head.Supersedes != want:
		return fmt.Errorf("supersedes part %d, want %d: %w", head.Supersedes, want, artifact.ErrDamaged)
	}
	return nil
}

// openState finds where to begin reading, and reads to the end.
func openState(ctx context.Context, b Backend, domain string) (*state, error) {
	newest := uint64(0)
	var checkpoints []uint64 // those that are listed: a number alone proves nothing of what should stand before it
	for e, err := range b.List(ctx, "logs/"+domain+"/", "") {
		if err != nil {
			return nil, fmt.Errorf("listing the log of domain %q: %w", domain, err)
		}
		if n, ok := PartNumber(e.Name); ok {
			newest = max(newest, n)
			if n%format.CheckpointEvery == 0 {
				checkpoints = append(checkpoints, n)
			}
		}
	}
	slices.Sort(checkpoints)
	for _, at := range slices.Backward(checkpoints) {
		if st := openAtCheckpoint(ctx, b, domain, at); st != nil {
			return st, finishOpen(ctx, b, st, newest)
		}
	}
	st := newState(domain)
	return st, finishOpen(ctx, b, st, newest)
}

func finishOpen(ctx context.Context, b Backend, st *state, newest uint64) error {
	if err := replay(ctx, b, st, nil); err != nil {
		return err
	}
	if st.part < newest {
		return fmt.Errorf("log part %d is missing, part %d exists: %w: %w", st.part+1, newest, ErrBroken, artifact.ErrDamaged)
	}
	return noteBeyond(ctx, b, st)
}

// noteBeyond finds out that the end of the log is gone, where that can be told: the note of a snapshot is written when its record is durable, so
// the next number has none, unless another writer has just sealed it.
func noteBeyond(ctx context.Context, b Backend, st *state) error {
	for {
		next := st.lastSnapshot() + 1
		_, err := b.Stat(ctx, NoteName(st.domain, next))
		if errors.Is(err, artifact.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := replay(ctx, b, st, nil); err != nil {
			return err
		}
		if st.lastSnapshot() < next {
			return fmt.Errorf("the note of snapshot %d exists, and the log, which ends at part %d, does not know it: its newest parts were removed or lost: %w: %w",
				next, st.part, ErrBroken, artifact.ErrDamaged)
		}
	}
}

// openAtCheckpoint gives the state before part n as that part's own first records tell it; nil if they cannot be used,
// and then an older checkpoint, or the beginning, will do.
func openAtCheckpoint(ctx context.Context, b Backend, domain string, n uint64) *state {
	raw, err := readAll(ctx, b, partName(domain, n))
	if err != nil {
		return nil
	}
	head, seq, ok := format.PeekHead(raw)
	if !ok || head.Domain != domain || head.Part != n || head.Supersedes != 0 {
		return nil
	}
	st := newState(domain)
	st.store, st.part, st.seq, st.hash = head.Store, n-1, seq-1, head.Prev
	part, err := format.DecodePart(raw, seq, head.Prev)
	if err != nil || part.Torn || len(part.Records) < 2 || part.Records[1].Type != format.CheckpointType {
		return nil
	}
	return st
}

// record is one to be appended.
type record struct {
	t format.RecordType
	v any
}

// appendLog writes one part. build is called with the state the part will follow, and again if another writer was
// faster; the records it gives are durable and applied when appendLog returns nil. s.mu must be held.
func (s *Store) appendLog(ctx context.Context, build func(*state) ([]record, error)) error {
	if s.broken != nil {
		return fmt.Errorf("cannot append to the log: %w: %w", artifact.ErrReadOnly, s.broken)
	}
	for {
		recs, err := build(s.st)
		if err != nil {
			return err
		}
		part, parsed, err := s.buildPart(recs)
		if err != nil {
			return err
		}
		n := s.st.part + 1
		err = s.b.Create(ctx, partName(s.st.domain, n), part)
		if errors.Is(err, artifact.ErrConflict) {
			if err := s.catchUp(ctx, n); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			// Whether the part is visible is not known now. Appending again could say things twice: this Store stops here.
			s.broken = fmt.Errorf("an append failed earlier: %w", err)
			return fmt.Errorf("log part %d: %w", n, err)
		}
		s.st.part, s.st.torn = n, false
		for _, r := range parsed {
			if err := s.st.apply(r); err != nil {
				return err
			}
		}
		return nil
	}
}

func (s *Store) catchUp(ctx context.Context, lost uint64) error {
	if err := replay(ctx, s.b, s.st, nil); err != nil {
		s.broken = err
		return err
	}
	if s.st.part < lost {
		return fmt.Errorf("log part %d exists and cannot be read: %w", lost, artifact.ErrDamaged)
	}
	return s.refreshIndex(ctx)
}

func (s *Store) buildPart(recs []record) (part []byte, parsed []format.Record, err error) {
	st := s.st
	n := st.part + 1
	head := format.PartHead{Format: format.Version, Store: st.store, Domain: st.domain, Part: n, Nonce: newID(), Prev: st.hash, Tool: s.tool}
	if st.torn {
		head.Supersedes = st.part
	}
	all := []record{{format.PartHeadType, head}}
	if n%format.CheckpointEvery == 0 {
		all = append(all, record{format.CheckpointType, st.checkpoint()})
	}
	pb := format.NewPart(st.seq+1, st.hash)
	for _, r := range append(all, recs...) {
		payload, err := format.Marshal(r.v)
		if err != nil {
			return nil, nil, fmt.Errorf("encoding %s: %w", TypeName(r.t), err)
		}
		if r.t == format.CheckpointType && len(payload) > format.PayloadMax {
			continue // opening takes an older one and reads more
		}
		if len(payload) > format.PayloadMax {
			return nil, nil, fmt.Errorf("%s of %d bytes is too large for the log", TypeName(r.t), len(payload))
		}
		parsed = append(parsed, pb.Add(r.t, payload))
	}
	if n := len(pb.Bytes()); n > format.ObjectMax {
		return nil, nil, fmt.Errorf("a part of %d bytes is too large for the log", n)
	}
	return pb.Bytes(), parsed, nil
}
