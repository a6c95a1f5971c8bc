package session

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

func logCommand() command {
	var part uint64
	return command{
		name: "log", does: "print every record of the log, checking its chain",
		examples: []string{
			"asl-debug --store /mnt/asl/local log",
			"asl-debug --store /mnt/asl/local log --part 12 --json",
		},
		flags: func(fs *flag.FlagSet) { fs.Uint64Var(&part, "part", 0, "only part `N`") },
		run:   func(ctx context.Context, c *call) report.Result { return runLog(ctx, c, part) },
	}
}

func runLog(ctx context.Context, c *call, part uint64) report.Result {
	records, last := 0, uint64(0)
	for rec, err := range store.Log(ctx, c.store.Backend(), c.store.Domain()) {
		if err != nil {
			return report.Result{Err: &report.Error{What: fmt.Sprintf("read the log of domain %s behind part %d", c.store.Domain(), last), Err: err},
				Fields: map[string]any{"records": records, "last_part": last}}
		}
		last = rec.Part
		if part != 0 && rec.Part != part {
			continue
		}
		records++
		c.printRecord(rec)
	}
	if part > last {
		return report.Result{Err: &report.Error{What: fmt.Sprintf("read part %d of the log", part), Err: fmt.Errorf("its last part is %d: %w", last, artifact.ErrNotFound)}}
	}
	return report.Result{Text: fmt.Sprintf("%s in %s, and the chain holds", event.CountOf(int64(records), "record", "records"), event.CountOf(int64(last), "part", "parts")),
		Fields: map[string]any{"records": records, "last_part": last}}
}

// printRecord prints a record with its payload.
func (c *call) printRecord(rec store.LogRecord) {
	payload, err := decodePayload(rec.Record)
	fields := map[string]any{"part": rec.Part, "seq": rec.Seq, "record": store.TypeName(rec.Type), "bytes": len(rec.Payload), "hash": hex.EncodeToString(rec.Hash[:])}
	if err != nil {
		fields["error"], fields["payload_hex"] = err.Error(), hex.EncodeToString(rec.Payload)
	} else {
		fields["payload"] = readable(payload)
	}
	c.row("record", fields, "part %d record %d %s, %d bytes, %s", rec.Part, rec.Seq, store.TypeName(rec.Type), len(rec.Payload), hex.EncodeToString(rec.Hash[:6]))
	switch {
	case c.json:
	case err != nil:
		c.text("  %s", event.Printable(err.Error()))
		for _, line := range hexLines(rec.Payload, 16) {
			c.text("  %s", line)
		}
	default:
		c.tree("  ", readable(payload))
	}
}

// decodePayload gives what a record says; of a type that is not known, whatever map its CBOR is.
func decodePayload(r format.Record) (any, error) {
	var v any
	switch r.Type {
	case format.PartHeadType:
		v = &format.PartHead{}
	case format.CheckpointType:
		v = &format.Checkpoint{}
	case format.SegmentSealType:
		v = &format.SegmentSeal{}
	case format.IntakeBeginType:
		v = &format.IntakeBegin{}
	case format.ResumeType:
		v = &format.Resume{}
	case format.ResumePointType:
		v = &format.ResumePoint{}
	case format.SnapshotType:
		v = &format.Snapshot{}
	case format.IntakeEndType:
		v = &format.IntakeEnd{}
	case format.SegmentMergeType:
		v = &format.SegmentMerge{}
	case format.DamageType:
		v = &format.Damage{}
	case format.ApprovalType:
		v = &format.Approval{}
	case format.VerifiedType:
		v = &format.Verified{}
	case format.DigestType:
		v = &format.Digest{}
	default:
		return nil, fmt.Errorf("a type this version does not know: %w", artifact.ErrUnsupported)
	}
	return v, format.Unmarshal(r.Payload, v)
}

// readable turns any structure of the format into maps, lists and texts with the names that docs/store-format.md uses: ids, hashes and
// references as hex, names as text, block directories as rows. Empty fields are left out.
func readable(v any) any { return read(reflect.ValueOf(v)) }

func read(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
	}
	if v.CanInterface() {
		switch x := v.Interface().(type) {
		case artifact.Ref:
			return x.String()
		case *artifact.Ref:
			return x.String()
		case artifact.Digest:
			return x.String()
		case format.ID:
			return hex.EncodeToString(x[:])
		case format.Hash:
			return hex.EncodeToString(x[:])
		case source.FileType:
			return typeName(x)
		case format.Range:
			return rangeText(x)
		case format.SealedBlock:
			return sealedBlock(x)
		case []byte:
			return bytesText(x)
		case fmt.Stringer:
			if v.Kind() != reflect.Struct && v.Kind() != reflect.Pointer {
				return x.String()
			}
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return read(v.Elem())
	case reflect.Struct:
		return readStruct(v)
	case reflect.Map:
		out := fields{}
		for it := v.MapRange(); it.Next(); {
			out = append(out, field{fmt.Sprint(it.Key()), read(it.Value())})
		}
		slices.SortFunc(out, func(a, b field) int { return strings.Compare(a.name, b.name) })
		return out
	case reflect.Slice, reflect.Array:
		out := make([]any, v.Len())
		for i := range out {
			out[i] = read(v.Index(i))
		}
		return out
	}
	return v.Interface()
}

// fields is a map that keeps its order.
type fields []field

type field struct {
	name  string
	value any
}

// MarshalJSON is a JSON object in that order.
func (f fields) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, x := range f {
		if i > 0 {
			out = append(out, ',')
		}
		b, err := json.Marshal(x.value)
		if err != nil {
			return nil, err
		}
		out = strconv.AppendQuote(out, x.name)
		out = append(append(out, ':'), b...)
	}
	return append(out, '}'), nil
}

func readStruct(v reflect.Value) fields {
	var out fields
	for i := range v.NumField() {
		t := v.Type().Field(i)
		if !t.IsExported() || v.Field(i).IsZero() {
			continue
		}
		if t.Anonymous {
			if inner, ok := read(v.Field(i)).(fields); ok {
				out = append(out, inner...)
				continue
			}
		}
		if t.Name == "Mode" && t.Type.Kind() == reflect.Uint32 {
			out = append(out, field{"mode", fmt.Sprintf("%04o", v.Field(i).Uint())})
			continue
		}
		name, _, _ := strings.Cut(t.Tag.Get("cbor"), ",")
		if _, err := strconv.Atoi(name); err == nil || name == "" { // arrays, and maps with numbers for keys
			name = strings.ToLower(t.Name)
		}
		out = append(out, field{name, read(v.Field(i))})
	}
	return out
}

func rangeText(r format.Range) string {
	s := fmt.Sprintf("%s %d", r.Kind, r.Len)
	if ref, err := r.Artifact(); err == nil {
		s += " " + ref.String()
	}
	return s
}

func sealedBlock(b format.SealedBlock) fields {
	out := fields{{"id", b.ID.String()}, {"gen", b.Generation}, {"size", b.Size}}
	entries, err := format.DecodeEntries(b.Entries)
	if err != nil {
		return append(out, field{"error", err.Error()})
	}
	rows := make([]any, len(entries))
	for i, e := range entries {
		rows[i] = fmt.Sprintf("%s %s %s at %d stored %d raw %d", e.Ref, e.Tag, e.Codec, e.Off, e.Stored, e.Raw)
	}
	return append(out, field{"entries", rows})
}

// bytesText is bytes as text if they are that, and hex otherwise.
func bytesText(b []byte) string {
	if utf8.Valid(b) && !slices.ContainsFunc(b, func(c byte) bool { return c < 32 || c == 127 }) {
		return string(b)
	}
	return "hex:" + hex.EncodeToString(b)
}

// tree prints what readable gave, a line each.
func (c *call) tree(indent string, v any) {
	switch v := v.(type) {
	case fields:
		for _, f := range v {
			c.branch(indent, f.name, f.value)
		}
	case []any:
		for i, x := range v {
			c.branch(indent, "["+strconv.Itoa(i)+"]", x)
		}
	default:
		c.text("%s%s", indent, event.Printable(fmt.Sprint(v)))
	}
}

func (c *call) branch(indent, name string, v any) {
	switch x := v.(type) {
	case fields:
		c.text("%s%s", indent, name)
		c.tree(indent+"  ", x)
	case []any:
		c.text("%s%s: %d", indent, name, len(x))
		c.tree(indent+"  ", x)
	default:
		c.text("%s%-12s %s", indent, name, event.Printable(fmt.Sprint(cmp.Or(v, any("none")))))
	}
}
