package session

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// Debug is the program asl-debug. It returns the exit code.
func Debug(ctx context.Context, args []string, std IO) int {
	p := program{
		name:  "asl-debug",
		about: "asl-debug prints and checks every structure of a store, and reads ZFS labels. It changes nothing.",
		commands: []command{
			validateCommand(), logCommand(), snapshotCommand(), blockCommand(), segmentCommand(), artifactCommand(), labelsCommand(),
		},
	}
	return p.main(ctx, args, std)
}

func blockCommand() command {
	return command{
		name: "block", args: "ID", min: 1, max: 1, does: "read a block from the medium, check and print it",
		help:     "ID is the block's 64 hex digits, or as many of the first as tell it from others.",
		examples: []string{"asl-debug --store /mnt/asl/local block 00af31", "asl-debug --store /mnt/asl/local block 00af31 --json"},
		run:      runBlock,
	}
}

// object finds the one object that begins with prefix: "blocks/00af31".
func (c *call) object(ctx context.Context, kind, prefix string) (artifact.Digest, error) {
	var d artifact.Digest
	prefix = strings.ToLower(strings.TrimPrefix(prefix, kind+"/"))
	if len(prefix) == 64 {
		d, err := artifact.ParseDigest(prefix)
		if err != nil {
			return d, report.Usagef("%s: %w", prefix, err)
		}
		return d, nil
	}
	if prefix == "" || strings.Trim(prefix, "0123456789abcdef") != "" {
		return d, report.Usagef("%q: want the hex digits of an id, or the first few", prefix)
	}
	var found []string
	for e, err := range c.store.Backend().List(ctx, kind+"/"+prefix, "") {
		if err != nil {
			return d, err
		}
		if found = append(found, strings.TrimPrefix(e.Name, kind+"/")); len(found) > 5 {
			break
		}
	}
	switch len(found) {
	case 0:
		return d, &report.Error{What: "look for " + kind + "/" + prefix + "…", Err: artifact.ErrNotFound}
	case 1:
		return artifact.ParseDigest(found[0])
	}
	return d, report.Usagef("%s begins several names: %s", prefix, strings.Join(found[:min(len(found), 5)], ", "))
}

func runBlock(ctx context.Context, c *call) report.Result {
	id, err := c.object(ctx, "blocks", c.args[0])
	if err != nil {
		return report.Result{Err: err}
	}
	r, err := c.store.ReadBlock(ctx, id)
	if err != nil && r.Size == 0 {
		return report.Result{Err: &report.Error{What: "read block " + id.String(), Err: err}}
	}
	known := c.store.Damaged()["blocks/"+id.String()]
	c.row("block", map[string]any{"id": id.String(), "size": r.Size, "generation": r.Header.Generation, "artifacts": len(r.Entries), "directory_at": r.Header.Dir, "known_damage": known},
		"block %s: %d bytes, generation %d, %s, directory at %d", id, r.Size, r.Header.Generation, event.CountOf(int64(len(r.Entries)), "artifact", "artifacts"), r.Header.Dir)
	if known != "" {
		c.text("  the log knows it as damaged: %s", event.Printable(known))
	}
	bad := 0
	for i, e := range r.Entries {
		state := "good"
		if r.Bad[i] != nil {
			state = r.Bad[i].Error()
			bad++
		}
		c.row("entry", map[string]any{"ref": e.Ref.String(), "tag": e.Tag.String(), "codec": e.Codec.String(), "off": e.Off, "stored": e.Stored, "raw": e.Raw, "good": r.Bad[i] == nil},
			"  %s %-9s %-5s at %8d stored %7d raw %7d  %s", e.Ref, e.Tag, e.Codec, e.Off, e.Stored, e.Raw, state)
	}
	if err == nil && bad > 0 {
		err = fmt.Errorf("%s: %w", event.CountOf(int64(bad), "artifact does not hash right", "artifacts do not hash right"), artifact.ErrDamaged)
	}
	if err != nil {
		return report.Result{Err: &report.Error{What: "validate block " + id.String(), Err: err}, Fields: map[string]any{"bad": bad}}
	}
	return report.Result{Text: "the block is good", Fields: map[string]any{"bad": 0}}
}

func segmentCommand() command {
	return command{
		name: "segment", args: "ID", min: 1, max: 1, does: "read a segment, check and print it",
		help:     "ID is the segment's 64 hex digits, or as many of the first as tell it from others.",
		examples: []string{"asl-debug --store /mnt/asl/local segment 7c", "asl-debug --store /mnt/asl/local segment 7c --json"},
		run:      runSegment,
	}
}

func runSegment(ctx context.Context, c *call) report.Result {
	id, err := c.object(ctx, "segments", c.args[0])
	if err != nil {
		return report.Result{Err: err}
	}
	seg, err := c.store.ReadSegment(ctx, id)
	if err != nil {
		return report.Result{Err: &report.Error{What: "validate segment " + id.String(), Err: err}}
	}
	m := seg.Meta
	c.row("segment", map[string]any{"id": id.String(), "size": m.Size, "level": m.Level, "entries": m.Entries, "blocks": len(seg.Blocks), "pages": m.Pages(), "filter_at": m.Filter},
		"segment %s: level %d, %d bytes, %s in %s, %d pages", id, m.Level, m.Size, event.CountOf(int64(m.Entries), "entry", "entries"), event.CountOf(int64(len(seg.Blocks)), "block", "blocks"), m.Pages())
	for i, b := range seg.Blocks {
		c.row("block", map[string]any{"row": i, "id": b.ID.String(), "generation": b.Generation, "size": b.Size}, "  block %4d %s generation %d, %d bytes", i, b.ID, b.Generation, b.Size)
	}
	missed := 0
	for _, e := range seg.Entries {
		if !m.MayContain(e.Ref.Digest) {
			missed++
		}
		c.row("entry", map[string]any{"ref": e.Ref.String(), "tag": e.Tag.String(), "codec": e.Codec.String(), "block": e.Block, "off": e.Off, "stored": e.Stored, "raw": e.Raw},
			"  %s %-9s %-5s block %4d at %8d stored %7d raw %7d", e.Ref, e.Tag, e.Codec, e.Block, e.Off, e.Stored, e.Raw)
	}
	if missed > 0 {
		err = fmt.Errorf("the filter denies %s: %w", event.CountOf(int64(missed), "entry", "entries"), artifact.ErrDamaged)
	}
	for _, s := range c.store.Segments() {
		if s.Segment == id && err == nil {
			err = c.store.SegmentAgrees(ctx, s.SegmentSeal, seg)
		}
	}
	if err != nil {
		return report.Result{Err: &report.Error{What: "validate segment " + id.String(), Err: err}}
	}
	return report.Result{Text: "the segment is good, and its blocks say the same"}
}

func snapshotCommand() command {
	return command{
		name: "snapshot", args: "S", min: 1, max: 1, does: "print a snapshot's record, manifest and note, and check the signature",
		examples: []string{"asl-debug --store /mnt/asl/local snapshot latest"},
		run:      runSnapshot,
	}
}

func runSnapshot(ctx context.Context, c *call) report.Result {
	v, err := c.view(ctx, c.args[0])
	if err != nil {
		return report.Result{Err: err}
	}
	keys, err := c.writerKeys(ctx)
	if err != nil {
		return report.Result{Err: err}
	}
	rec := keys.records[v.Snapshot.Seq]
	c.printRecord(rec)
	c.row("manifest", map[string]any{"id": v.Snapshot.Manifest.String(), "manifest": readable(v.Manifest)}, "manifest %s", v.Snapshot.Manifest)
	if !c.json {
		c.tree("  ", readable(v.Manifest))
	}
	return c.note(ctx, v.Snapshot, rec, keys)
}

// note prints the note of a snapshot and what its signature is worth.
func (c *call) note(ctx context.Context, snap format.SnapshotAt, rec store.LogRecord, keys *writerKeys) report.Result {
	text, found, err := store.CheckNote(ctx, c.store.Backend(), snap, rec.Hash, keys.keys[snap.Nonce])
	c.row("note", map[string]any{"name": store.NoteName(snap.Domain, snap.Number), "text": string(text), "signature": string(found)}, "note %s: %s", store.NoteName(snap.Domain, snap.Number), found)
	for line := range strings.Lines(string(text)) {
		c.text("  %s", event.Printable(strings.TrimSuffix(line, "\n")))
	}
	if err != nil {
		return report.Result{Err: &report.Error{What: fmt.Sprintf("check the signature of snapshot %d", snap.Number), Err: err,
			Means: "Somebody else than the writer of the intake signed this, or the note or the log was changed since."}}
	}
	return report.Result{Fields: map[string]any{"signature": string(found)}}
}

// writerKeys is what the log says of writers, and its SNAPSHOT records.
type writerKeys struct {
	keys    map[format.ID][]byte
	records map[uint64]store.LogRecord
}

// writerKeys reads the whole log. A log that breaks off gives what stands before.
func (c *call) writerKeys(ctx context.Context) (*writerKeys, error) {
	w := &writerKeys{map[format.ID][]byte{}, map[uint64]store.LogRecord{}}
	for rec, err := range store.Log(ctx, c.store.Backend(), c.store.Domain()) {
		if errors.Is(err, store.ErrBroken) {
			break
		}
		if err != nil {
			return nil, err
		}
		w.add(rec)
	}
	return w, nil
}

func (w *writerKeys) add(rec store.LogRecord) {
	switch rec.Type {
	case format.IntakeBeginType:
		var v format.IntakeBegin
		if format.Unmarshal(rec.Payload, &v) == nil {
			w.keys[v.Nonce] = v.Key
		}
	case format.ResumeType:
		var v format.Resume
		if format.Unmarshal(rec.Payload, &v) == nil {
			w.keys[v.Nonce] = v.Key
		}
	case format.SnapshotType:
		w.records[rec.Seq] = rec
	}
}

func artifactCommand() command {
	var raw bool
	return command{
		name: "artifact", args: "REF", min: 1, max: 1, does: "print an artifact, decoded where it has a type",
		help: "REF is b3: and 64 hex digits. It looks past snapshots: also at what no snapshot shows yet.",
		examples: []string{
			"asl-debug --store /mnt/asl/local artifact b3:0123…",
			"asl-debug --store /mnt/asl/local artifact b3:0123… --raw > bytes",
		},
		flags: func(fs *flag.FlagSet) { fs.BoolVar(&raw, "raw", false, "write nothing but its bytes") },
		run:   func(ctx context.Context, c *call) report.Result { return runArtifact(ctx, c, raw) },
	}
}

func runArtifact(ctx context.Context, c *call, raw bool) report.Result {
	arg := c.args[0]
	if !strings.HasPrefix(arg, "b3:") {
		arg = "b3:" + arg
	}
	ref, err := artifact.ParseRef(arg)
	if err != nil {
		return report.Result{Err: report.Usagef("%w", err)}
	}
	c.say("looking past snapshots, at everything that was ever sealed here")
	v := c.store.Beyond()
	data, tag, err := v.Get(ctx, ref)
	if err != nil {
		return report.Result{Err: &report.Error{What: "read artifact", Err: err}}
	}
	if raw && !c.json {
		_, err := c.std.Out.Write(data)
		return report.Result{Err: err}
	}
	where, err := v.Where(ctx, ref)
	if err != nil {
		return report.Result{Err: err}
	}
	decoded, err := decodeArtifact(tag, data)
	if err != nil {
		return report.Result{Err: &report.Error{What: fmt.Sprintf("decode %s as %s", ref, tag), Err: err}}
	}
	var blocks []string
	for _, b := range where {
		blocks = append(blocks, b.String())
	}
	fields := map[string]any{"ref": ref.String(), "tag": tag.String(), "bytes": len(data), "blocks": blocks}
	if decoded != nil {
		fields["decoded"] = readable(decoded)
	}
	if raw || decoded == nil {
		fields["base64"] = data
	}
	c.row("artifact", fields, "artifact %s: %s, %d bytes, in block %s", ref, tag, len(data), strings.Join(blocks, ", "))
	switch {
	case c.json:
	case decoded != nil:
		c.tree("  ", readable(decoded))
	default:
		for _, line := range hexLines(data, 16) {
			c.text("  %s", line)
		}
	}
	return report.Result{}
}

// decodeArtifact gives what a tagged artifact says; nil for one that is just bytes.
func decodeArtifact(tag artifact.Tag, data []byte) (any, error) {
	switch tag {
	case artifact.NoTag:
		return nil, nil
	case artifact.MapPage:
		var v []format.Range
		return &v, format.Unmarshal(data, &v)
	case artifact.MapNode:
		var v []*artifact.Ref
		return &v, format.Unmarshal(data, &v)
	case artifact.MapRoot:
		v, err := format.DecodeMapRoot(data)
		return &v, err
	case artifact.LoosePage:
		var v []format.LooseRange
		return &v, format.Unmarshal(data, &v)
	case artifact.FaultPage:
		v, err := format.DecodeFaultPage(data)
		return &v, err
	case artifact.DirPage:
		v, err := format.DecodeDirPage(data)
		return &v, err
	case artifact.DirRoot:
		v, err := format.DecodeDirRoot(data)
		return &v, err
	case artifact.TreeLog:
		v, err := format.DecodeTreeLog(data)
		return &v, err
	}
	return nil, nil
}

// hexLines shows the first bytes of something as numbers and letters.
func hexLines(data []byte, most int) []string {
	var lines []string
	for off := 0; off < len(data) && len(lines) < most; off += 16 {
		some := data[off:min(off+16, len(data))]
		text := []byte(some)
		text = append([]byte(nil), text...)
		for i, b := range text {
			if b < 32 || b > 126 {
				text[i] = '.'
			}
		}
		lines = append(lines, fmt.Sprintf("%08x  % -47x  %s", off, some, text))
	}
	if more := len(data) - most*16; more > 0 {
		lines = append(lines, fmt.Sprintf("and %s; --raw gives all", event.CountOf(int64(more), "byte", "bytes")))
	}
	return lines
}
