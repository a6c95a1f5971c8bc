package store

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

// history is a log in which everything happens that a state remembers.
func history() []record {
	d := func(s string) artifact.Digest { return artifact.Sum([]byte(s)).Digest }
	block := func(s string) format.SealedBlock { return format.SealedBlock{ID: d(s), Size: 500, Entries: []byte{}} }
	a, b, c := format.ID{1}, format.ID{2}, format.ID{3}
	first, second := format.ID{11}, format.ID{12}
	list := []record{
		{format.IntakeBeginType, format.IntakeBegin{Intake: a, Nonce: first, Key: []byte("key a"), Label: "a"}},
		{format.ResumePointType, format.ResumePoint{Intake: a, Nonce: first, Stream: 1, Blocks: []format.SealedBlock{block("a1"), block("a2")}}},
	}
	var from [][]artifact.Digest
	for _, name := range []string{"s1", "s2", "s3"} {
		list = append(list, record{format.SegmentSealType, format.SegmentSeal{Intake: a, Nonce: first, Segment: d(name), Size: 9, Entries: 1, Blocks: []artifact.Digest{d(name + " block")}}})
		from = append(from, []artifact.Digest{d(name)})
	}
	return append(list,
		record{format.SegmentMergeType, format.SegmentMerge{From: from[:2], To: format.Run{Level: 1, Segments: []artifact.Digest{d("merged")}}}},
		record{format.SnapshotType, format.Snapshot{Number: 1, Domain: "home", Intake: a, Nonce: first, Manifest: d("manifest"), Label: "a"}},
		record{format.DamageType, format.Damage{Objects: []format.DamagedObject{{Name: "blocks/x", Why: "bad"}}}},
		record{format.VerifiedType, format.Verified{All: true, Clock: 5}},
		record{format.DigestType, format.Digest{}},
		record{format.IntakeBeginType, format.IntakeBegin{Intake: b, Nonce: first, Key: []byte("key b"), Label: "b"}},
		record{format.ResumePointType, format.ResumePoint{Intake: b, Nonce: first, Stream: 2, Blocks: []format.SealedBlock{block("b1"), block("b2"), block("b3")}}},
		record{format.SegmentSealType, format.SegmentSeal{Intake: b, Nonce: first, Segment: d("s4"), Size: 9, Entries: 2, Blocks: []artifact.Digest{d("b1"), d("b2")}}},
		record{format.ResumeType, format.Resume{Intake: b, Nonce: second, Key: []byte("key 2")}},
		record{format.ResumePointType, format.ResumePoint{Intake: b, Nonce: first, Stream: 99, Blocks: []format.SealedBlock{block("late")}}}, // a writer that was replaced
		record{format.IntakeBeginType, format.IntakeBegin{Intake: c, Nonce: first, Label: "c"}},
		record{format.IntakeEndType, format.IntakeEnd{Intake: c, Nonce: first, Why: "given up"}},
	)
}

func replayed(t *testing.T, list []record) *state {
	t.Helper()
	st := newState("home")
	for i, r := range list {
		payload, err := format.Marshal(r.v)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.apply(format.Record{Seq: uint64(i + 1), Type: r.t, Payload: payload}); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

// TestStateOfAHistory: what records do to an intake that is not finished.
func TestStateOfAHistory(t *testing.T) {
	st := replayed(t, history())
	in := st.intakes[format.ID{2}]
	if len(st.intakes) != 1 || in == nil {
		t.Fatalf("%d intakes are unfinished", len(st.intakes))
	}
	if in.Point == nil || in.Point.Stream != 2 || in.Nonce != (format.ID{12}) || string(in.Key) != "key 2" || in.Resumed != 1 {
		t.Errorf("a writer that was replaced is heard: %+v, point %+v", in, in.Point)
	}
	if len(in.Blocks) != 1 || in.Blocks[0].ID != artifact.Sum([]byte("b3")).Digest {
		t.Errorf("blocks in no segment yet: %d, want b3", len(in.Blocks))
	}
	if len(in.Made) != 1 || len(st.sealed) != 4 || len(st.snapshots) != 1 || len(st.damage) != 1 || len(st.runs) != 3 {
		t.Errorf("made %d, sealed %d, snapshots %d, damage %d, runs %d", len(in.Made), len(st.sealed), len(st.snapshots), len(st.damage), len(st.runs))
	}
}

// TestCheckpointSaysAll: a state that comes out of a checkpoint is the one that went in, in every field there is.
func TestCheckpointSaysAll(t *testing.T) {
	want := replayed(t, history())
	fields := reflect.ValueOf(*want)
	for i := range fields.NumField() {
		if name := fields.Type().Field(i).Name; fields.Field(i).IsZero() && name != "store" && name != "part" && name != "torn" && name != "hash" {
			t.Errorf("the history leaves %s empty: the test says nothing of it", name)
		}
	}
	payload, err := format.Marshal(want.checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	got := newState("home")
	if err := got.apply(format.Record{Seq: want.seq, Type: format.CheckpointType, Payload: payload, Hash: want.hash}); err != nil {
		t.Fatal(err)
	}
	for i := range fields.NumField() {
		name := fields.Type().Field(i).Name
		a, b := reflect.ValueOf(*want), reflect.ValueOf(*got)
		if x, y := text(t, a.Field(i)), text(t, b.Field(i)); x != y {
			t.Errorf("%s is\n%s\nafter a checkpoint, was\n%s", name, y, x)
		}
	}
}

// text shows a field with all that it points to.
func text(t *testing.T, v reflect.Value) string {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "nil"
		}
		return text(t, v.Elem())
	case reflect.Map:
		out := ""
		for _, k := range sortedKeys(v) {
			out += k.String() + fmt.Sprint(k) + ": " + text(t, v.MapIndex(k)) + "\n"
		}
		return out
	case reflect.Struct:
		out := "{"
		for i := range v.NumField() {
			out += v.Type().Field(i).Name + ":" + text(t, v.Field(i)) + " "
		}
		return out + "}"
	case reflect.Slice, reflect.Array:
		out := "["
		for i := range v.Len() {
			out += text(t, v.Index(i)) + " "
		}
		return out + "]"
	}
	return fmt.Sprint(v)
}

func sortedKeys(m reflect.Value) []reflect.Value {
	return slices.SortedFunc(slices.Values(m.MapKeys()), func(a, b reflect.Value) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
}
