package store

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

// sealedSegment is a level 0 segment and where the log made it visible.
type sealedSegment struct {
	Seq uint64
	format.SegmentSeal
}

// runState is a run and the level 0 segments it stands for, by their place in state.sealed.
type runState struct {
	format.Run
	of []int
}

// state is what a domain's log says, replayed. It is a value of the log alone: no I/O, no clock.
type state struct {
	store  format.ID
	domain string
	part   uint64 // last part read
	torn   bool   // that part was cut, and the next must supersede it
	seq    uint64 // of the last record
	hash   format.Hash

	sealed    []sealedSegment
	runs      []runState
	snapshots []format.SnapshotAt
	intakes   map[format.ID]*format.IntakeState // unfinished
	damage    map[string]string                 // object name: what is wrong with it
	verified  []format.VerifiedAt
	digests   []format.DigestAt
}

func newState(domain string) *state {
	return &state{domain: domain, intakes: map[format.ID]*format.IntakeState{}, damage: map[string]string{}}
}

// apply takes in one record. An error means that a record which verifies says what it cannot say: a defect of a
// writer, not of the medium.
func (s *state) apply(r format.Record) error {
	fail := func(err error) error { return fmt.Errorf("log record %d of type %s: %w", r.Seq, TypeName(r.Type), err) }
	payload := func(v any) error { return format.Unmarshal(r.Payload, v) }
	s.seq, s.hash = r.Seq, r.Hash
	switch r.Type {
	case format.SegmentSealType:
		var v format.SegmentSeal
		if err := payload(&v); err != nil {
			return fail(err)
		}
		s.sealSegment(r.Seq, v)
	case format.IntakeBeginType:
		var v format.IntakeBegin
		if err := payload(&v); err != nil {
			return fail(err)
		}
		s.intakes[v.Intake] = &format.IntakeState{Seq: r.Seq, Begin: v, Nonce: v.Nonce, Key: v.Key}
	case format.ResumeType:
		var v format.Resume
		if err := payload(&v); err != nil {
			return fail(err)
		}
		if in := s.intakes[v.Intake]; in != nil {
			in.Nonce, in.Key, in.Resumed = v.Nonce, v.Key, in.Resumed+1
		}
	case format.ResumePointType:
		var v format.ResumePoint
		if err := payload(&v); err != nil {
			return fail(err)
		}
		if in := s.intakes[v.Intake]; in != nil && in.Nonce == v.Nonce {
			in.Blocks = append(in.Blocks, v.Blocks...)
			v.Blocks = nil
			in.Point = &v
		}
	case format.SnapshotType:
		var v format.Snapshot
		if err := payload(&v); err != nil {
			return fail(err)
		}
		delete(s.intakes, v.Intake)
		s.snapshots = append(s.snapshots, format.SnapshotAt{Seq: r.Seq, Snapshot: v})
	case format.IntakeEndType:
		var v format.IntakeEnd
		if err := payload(&v); err != nil {
			return fail(err)
		}
		delete(s.intakes, v.Intake)
	case format.SegmentMergeType:
		var v format.SegmentMerge
		if err := payload(&v); err != nil {
			return fail(err)
		}
		s.mergeRuns(v)
	case format.DamageType:
		var v format.Damage
		if err := payload(&v); err != nil {
			return fail(err)
		}
		for _, o := range v.Objects {
			s.damage[o.Name] = o.Why
		}
	case format.VerifiedType:
		var v format.Verified
		if err := payload(&v); err != nil {
			return fail(err)
		}
		s.verified = append(s.verified, format.VerifiedAt{Seq: r.Seq, Verified: v})
	case format.DigestType:
		var v format.Digest
		if err := payload(&v); err != nil {
			return fail(err)
		}
		s.digests = append(s.digests, format.DigestAt{Seq: r.Seq, Digest: v})
	case format.CheckpointType:
		var v format.Checkpoint
		if err := payload(&v); err != nil {
			return fail(err)
		}
		if s.sealed == nil { // opening begins here; a reader that came all the way knows it already
			return s.restore(v)
		}
	}
	return nil
}

func (s *state) sealSegment(seq uint64, v format.SegmentSeal) {
	if slices.ContainsFunc(s.sealed, func(x sealedSegment) bool { return x.Segment == v.Segment }) {
		// The same segment may be sealed by two intakes that read the same source: it is one run.
	} else {
		s.sealed = append(s.sealed, sealedSegment{seq, v})
		s.runs = append(s.runs, runState{format.Run{Segments: []artifact.Digest{v.Segment}}, []int{len(s.sealed) - 1}})
	}
	in := s.intakes[v.Intake]
	if in == nil || in.Nonce != v.Nonce {
		return
	}
	in.Made = append(in.Made, v.Segment)
	in.Blocks = slices.DeleteFunc(in.Blocks, func(b format.SealedBlock) bool { return slices.Contains(v.Blocks, b.ID) })
}

// mergeRuns replaces runs by one, if all of them still stand: of two writers that merge the same runs, the second changes nothing.
func (s *state) mergeRuns(v format.SegmentMerge) {
	merged := runState{Run: v.To}
	rest := slices.Clone(s.runs)
	for _, from := range v.From {
		i := slices.IndexFunc(rest, func(r runState) bool { return slices.Equal(r.Segments, from) })
		if i < 0 {
			return
		}
		merged.of = append(merged.of, rest[i].of...)
		rest = slices.Delete(rest, i, i+1)
	}
	slices.Sort(merged.of)
	s.runs = append(rest, merged)
}

func (s *state) checkpoint() format.Checkpoint {
	c := format.Checkpoint{Snapshots: s.snapshots, Verified: s.verified, Digests: s.digests}
	for _, seg := range s.sealed {
		c.Sealed = append(c.Sealed, format.SealedAt{Seq: seg.Seq, SegmentSeal: seg.SegmentSeal})
	}
	for _, r := range s.runs {
		c.Runs = append(c.Runs, format.RunOf{Run: r.Run, Of: r.of})
	}
	for _, in := range s.intakes {
		c.Intakes = append(c.Intakes, *in)
	}
	slices.SortFunc(c.Intakes, func(a, b format.IntakeState) int { return bytes.Compare(a.Begin.Intake[:], b.Begin.Intake[:]) })
	for _, name := range slices.Sorted(maps.Keys(s.damage)) {
		c.Damage = append(c.Damage, format.DamagedObject{Name: name, Why: s.damage[name]})
	}
	return c
}

func (s *state) restore(c format.Checkpoint) error {
	for _, v := range c.Sealed {
		s.sealed = append(s.sealed, sealedSegment{v.Seq, v.SegmentSeal})
	}
	for _, r := range c.Runs {
		for _, i := range r.Of {
			if i < 0 || i >= len(s.sealed) {
				return fmt.Errorf("log: checkpoint names segment %d of %d: %w", i, len(s.sealed), artifact.ErrDamaged)
			}
		}
		s.runs = append(s.runs, runState{r.Run, r.Of})
	}
	s.snapshots, s.verified, s.digests = c.Snapshots, c.Verified, c.Digests
	for i := range c.Intakes {
		s.intakes[c.Intakes[i].Begin.Intake] = &c.Intakes[i]
	}
	for _, d := range c.Damage {
		s.damage[d.Name] = d.Why
	}
	return nil
}

func (s *state) lastSnapshot() uint64 {
	if n := len(s.snapshots); n > 0 {
		return s.snapshots[n-1].Number
	}
	return 0
}

// TypeName is a record type as docs/store-format.md writes it.
func TypeName(t format.RecordType) string {
	names := map[format.RecordType]string{
		format.SegmentSealType: "SEGMENT_SEAL", format.TombstoneType: "TOMBSTONE", format.PartHeadType: "PART_HEAD",
		format.CheckpointType: "CHECKPOINT", format.IntakeBeginType: "INTAKE_BEGIN", format.ResumeType: "RESUME",
		format.ResumePointType: "RESUME_POINT", format.SnapshotType: "SNAPSHOT", format.IntakeEndType: "INTAKE_END",
		format.SegmentMergeType: "SEGMENT_MERGE", format.DamageType: "DAMAGE", format.ApprovalType: "APPROVAL", format.VerifiedType: "VERIFIED",
		format.DigestType: "DIGEST",
	}
	if n, ok := names[t]; ok {
		return n
	}
	return fmt.Sprintf("type %#08x", uint32(t))
}
