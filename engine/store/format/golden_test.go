package format

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"aslrescue/engine/artifact"
	"aslrescue/engine/chunk"
	"aslrescue/engine/source"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// piece is a labelled stretch of a golden file.
type piece struct {
	label string
	n     int
}

// dump writes bytes as hex, 32 a line, with a label before every piece. Runs of zeros are one line "zeros N".
func dump(data []byte, pieces []piece) string {
	var out strings.Builder
	rest := data
	for _, p := range append(pieces, piece{"the rest", len(data)}) {
		b := rest[:min(p.n, len(rest))]
		rest = rest[len(b):]
		if len(b) == 0 {
			continue
		}
		fmt.Fprintf(&out, "# %s\n", p.label)
		for len(b) > 0 {
			zeros := len(b) - len(bytes.TrimLeft(b, "\x00"))
			if zeros >= 16 {
				fmt.Fprintf(&out, "zeros %d\n", zeros)
				b = b[zeros:]
				continue
			}
			n := min(32, len(b))
			if i := bytes.Index(b[:n], make([]byte, 16)); i > 0 {
				n = i
			}
			fmt.Fprintf(&out, "%x\n", b[:n])
			b = b[n:]
		}
	}
	return out.String()
}

func undump(t testing.TB, text string) []byte {
	var data []byte
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if n, ok := strings.CutPrefix(line, "zeros "); ok {
			k, err := strconv.Atoi(n)
			if err != nil {
				t.Fatal(err)
			}
			data = append(data, make([]byte, k)...)
			continue
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		b, err := hex.DecodeString(line)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, b...)
	}
	return data
}

// golden holds data against testdata/name and gives the bytes that stand there.
func golden(t testing.TB, name string, data []byte, pieces ...piece) []byte {
	t.Helper()
	path, text := filepath.Join("testdata", name), dump(data, pieces)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s: what is written now is not what stands there; the format has changed:\n%s", path, firstDifference(text, string(want)))
	}
	return undump(t, string(want))
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d\n got %s\nwant %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

// diag is CBOR for people.
func diag(t testing.TB, b []byte) string {
	t.Helper()
	s, err := cbor.Diagnose(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func refOf(s string) artifact.Ref                { return artifact.Sum([]byte(s)) }
func refAt(s string) *artifact.Ref               { r := refOf(s); return &r }
func digestOf(s string) artifact.Digest          { return refOf(s).Digest }
func idOf(b byte) (id ID)                        { copy(id[:], bytes.Repeat([]byte{b}, 16)); return id }
func hashOf(s string) Hash                       { return Hash(digestOf(s)) }
func keyOf(b byte) []byte                        { return bytes.Repeat([]byte{b}, 32) }
func dataRange(s string, n int64) Range          { return DataRange(refOf(s), n) }
func gapRange(k source.RangeKind, n int64) Range { return Range{Kind: k, Len: n, Ref: []byte{}} }

// zstdOfAs is a frame made by hand: 200 times "A" as one run.
var zstdOfAs = []byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 200, 0x43, 0x06, 0x00, 'A'}

func goldenBlock() *BlockBuilder {
	var b BlockBuilder
	b.Reset(nil)
	hello, as, page := []byte("hello, rescue\n"), bytes.Repeat([]byte("A"), 200), []byte("\x81\x83\x02\x01\x40")
	b.Add(artifact.Sum(hello), artifact.NoTag, Plain, hello, len(hello))
	b.Add(artifact.Sum(as), artifact.NoTag, Zstd, zstdOfAs, len(as))
	b.Add(artifact.SumTagged(artifact.MapPage, page), artifact.MapPage, Plain, page, len(page))
	b.Add(artifact.Sum(nil), artifact.NoTag, Plain, nil, 0)
	return &b
}

func blockPieces(b *BlockBuilder) []piece {
	p := []piece{{"magic, version, header size", 16}, {"flags", 8}, {"generation, suite, 0", 8}, {"artifacts, 0", 8}, {"offset of the directory", 8}, {"0, CRC-32C", 16}}
	for i, e := range b.Entries() {
		p = append(p, piece{fmt.Sprintf("artifact %d, %s", i, e.Codec), int(e.Stored)})
	}
	for i := range b.Entries() {
		p = append(p, piece{fmt.Sprintf("directory entry %d", i), BlockEntrySize})
	}
	return append(p, piece{"BLAKE3 of header and directory", BlockTrailer})
}

func TestGoldenBlocks(t *testing.T) {
	b := goldenBlock()
	want := slices.Clone(b.Entries())
	pieces := blockPieces(b)
	z, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	for gen, data := range [][]byte{slices.Clone(b.Seal(0)), slices.Clone(b.Regenerate(1))} {
		data = golden(t, fmt.Sprintf("block-gen%d.txt", gen), data, pieces...)
		h, got, err := DecodeBlock(artifact.HashBytes(data), data)
		if err != nil || int(h.Generation) != gen || !slices.Equal(got, want) {
			t.Fatalf("generation %d: %+v %+v: %v", gen, h, got, err)
		}
		for _, e := range got {
			raw, err := z.Expand(nil, e.Codec, data[e.Off:][:e.Stored], e.Raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := artifact.Verify(e.Ref, e.Tag, raw); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func goldenSegment() ([]BlockRow, []SegmentEntry) {
	rows := []BlockRow{{digestOf("block 0"), 0, 70_000}, {digestOf("block 1"), 3, 8_000_000}}
	var entries []SegmentEntry
	off := [2]uint32{BlockHeaderSize, BlockHeaderSize}
	for i := range PageEntries + 3 {
		e := SegmentEntry{Ref: refOf(strconv.Itoa(i)), Block: uint32(i % 2), Off: off[i%2], Stored: uint32(10 + i), Raw: uint32(10 + i)}
		if i%3 == 0 {
			e.Codec, e.Raw = Zstd, e.Raw+1000
		}
		if i%5 == 0 {
			e.Tag = artifact.DirPage
		}
		off[i%2] += e.Stored
		entries = append(entries, e)
	}
	return rows, append(entries, SegmentEntry{Ref: entries[4].Ref, Block: 1, Off: 5000, Stored: 14, Raw: 14})
}

func TestGoldenSegment(t *testing.T) {
	rows, entries := goldenSegment()
	data, err := EncodeSegment(0, rows, entries)
	if err != nil {
		t.Fatal(err)
	}
	pieces := []piece{{"magic, version, header size", 16}, {"flags", 8}, {"level, entries per full page, blocks", 8}, {"entries", 8}, {"offsets of pages, block table, fences, filter", 32},
		{"total length", 8}, {"0, CRC-32C", 16}, {"page 0: entries", 4}}
	for i := range PageEntries {
		pieces = append(pieces, piece{fmt.Sprintf("entry %d", i), SegmentEntrySize})
	}
	pieces = append(pieces, piece{"zeros, CRC-32C", 22 + 4}, piece{"page 1", PageSize}, piece{"block table", 2 * BlockRowSize}, piece{"fences", 16}, piece{"filter: seed, segment length, segment count length, segment count, fingerprints", 24},
		piece{"fingerprints", len(data) - SegmentTrailer - (SegmentHeaderSize + 2*PageSize + 2*BlockRowSize + 16 + 24)}, piece{"BLAKE3 of header, fences and filter", SegmentTrailer})
	data = golden(t, "segment.txt", data, pieces...)
	s, err := DecodeSegment(artifact.HashBytes(data), data)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Blocks, rows) || !slices.Equal(s.Entries, entries) || s.Meta.Level != 0 {
		t.Fatalf("decoded something else: %+v", s)
	}
}

// record is a type and a value of it.
type record struct {
	t RecordType
	v any
}

var goldenEntry = Entry{
	Name: []byte("notes.txt"), Type: source.Regular, Mode: 0o644, UID: 1000, GID: 100, MSec: -5, MNsec: 999_999_999, Size: 5000,
	Xattrs: []Xattr{{Name: []byte("user.a"), Value: []byte{}}, {Name: []byte("user.b"), Value: []byte{0xff}}}, Sparse: true,
	Ranges: []Range{dataRange("a", 3000), gapRange(source.Unreadable, 1000), gapRange(source.Zero, 1000)}, Changed: "grew", Unreadable: 1000,
}

var goldenRow = SeenFile{
	Path: []byte("home/notes.txt"), Dev: 0x801, Ino: 77, Size: 5000, MSec: -5, MNsec: 999_999_999, CSec: 1_800_000_000, CNsec: 1,
	Content: Entry{Size: 5000, Ranges: []Range{dataRange("a", 5000)}},
}

func goldenRecords() []record {
	params, codec := chunk.Default(), Codecs{"fast", "klauspost/compress 1.20.3", 1}
	src := SourceID{Kind: "device", Path: []byte("/dev/sda"), Name: "sda", ID: "ata-SERIAL-1000", Size: 1000, Model: "DISK", Serial: "SERIAL", Sector: 512}
	tree := SourceID{Kind: "tree", Path: []byte("/home"), Name: "home", ID: "tree /home 2049 2", Size: -1}
	counts := Counts{1, 2, 3, 4, 5, 6, 7, 8, 9}
	seal := SegmentSeal{Intake: idOf(1), Nonce: idOf(2), Segment: digestOf("segment"), Size: 8736, Entries: 78, Blocks: []artifact.Digest{digestOf("block 0"), digestOf("block 1")}}
	begin := IntakeBegin{Intake: idOf(1), Nonce: idOf(2), Key: keyOf(3), Label: "jövő", Sources: []SourceID{src, tree}, Chunk: params, Codec: codec, Tool: "asl-intake 1", Clock: 1_800_000_000}
	block := SealedBlock{ID: digestOf("block 2"), Generation: 1, Size: 400, Entries: goldenBlock().dir()}
	mapState := &MapState{Next: 16 << 20, Nodes: []*artifact.Ref{nil, refAt("node")}, Pages: []*artifact.Ref{refAt("page"), nil}, Ranges: []Range{dataRange("c", 65536)}}
	point := ResumePoint{Intake: idOf(1), Nonce: idOf(2), Blocks: []SealedBlock{block}, Stream: 16 << 20, Forced: 1, New: 1000, Stored: 900, State: []SourceState{
		{Counts: counts, Map: mapState, Hash: keyOf(6), Partial: &SourceResult{SourceID: src, Gaps: []GapRow{{Off: 512, Len: 512, Kind: "unreadable", Why: "input/output error"}}, GapsAll: 1}},
		{Counts: counts, Logs: []artifact.Ref{refOf("log")}, Tail: []SeenFile{goldenRow}, File: &goldenRow, FileMap: mapState},
		{Done: true, Finished: &SourceResult{SourceID: src, Root: refAt("root"), Length: 1000, Counts: counts}},
	}}
	snap := Snapshot{Number: 7, Domain: "default", Intake: idOf(1), Nonce: idOf(2), Manifest: digestOf("manifest"), Parent: 6, Label: "jövő", Result: "complete"}
	verified := Verified{Intake: idOf(1), Blocks: 2, Bytes: 8_070_000, Clock: 1_800_000_100, Except: []artifact.Digest{digestOf("block 1")}}
	digest := Digest{Snapshot: 7, Source: "a disk", Size: 1000, Sums: map[string][]byte{"blake3": keyOf(1), "md5": keyOf(2)[:16]}, Gaps: 1, GapBytes: 512, GapList: keyOf(3), How: "reading", Clock: 1_800_000_150}
	damage := []DamagedObject{{Name: "blocks/00", Why: "hash"}}
	run := Run{1, []artifact.Digest{digestOf("merged 0"), digestOf("merged 1")}}
	kept := point
	kept.Blocks = nil
	return []record{
		{PartHeadType, PartHead{Format: Version, Store: idOf(9), Domain: "default", Part: 1024, Nonce: idOf(8), Prev: hashOf("before"), Supersedes: 1023, Tool: "asl-intake 1"}},
		{CheckpointType, Checkpoint{Sealed: []SealedAt{{5, seal}}, Runs: []RunOf{{run, []int{0}}}, Snapshots: []SnapshotAt{{6, snap}},
			Intakes: []IntakeState{{Seq: 3, Begin: begin, Nonce: idOf(4), Key: keyOf(5), Resumed: 1, Point: &kept, Blocks: []SealedBlock{block}, Made: []artifact.Digest{digestOf("segment")}}},
			Damage:  damage, Verified: []VerifiedAt{{9, verified}}, Digests: []DigestAt{{10, digest}}}},
		{IntakeBeginType, begin},
		{ResumeType, Resume{Intake: idOf(1), Nonce: idOf(4), Key: keyOf(5), Tool: "asl-intake 1", Clock: 1_800_000_050}},
		{ResumePointType, point},
		{SegmentSealType, seal},
		{SnapshotType, snap},
		{IntakeEndType, IntakeEnd{Intake: idOf(1), Nonce: idOf(2), Why: "given up"}},
		{SegmentMergeType, SegmentMerge{From: [][]artifact.Digest{{digestOf("segment")}, {digestOf("other")}}, To: run}},
		{DamageType, Damage{Objects: damage}},
		{ApprovalType, Approval{Plan: digestOf("plan"), What: "gc", How: "typed", Clock: 1_800_000_200}},
		{VerifiedType, verified},
		{VerifiedType, Verified{Snapshot: 7, Blocks: 2, Bytes: 8_070_000, Clock: 1}},
		{VerifiedType, Verified{All: true, Blocks: 2, Bytes: 8_070_000, Clock: 1}},
		{ApprovalType, Approval{Plan: digestOf("import"), What: "import the pool tank, writable", How: "token", Clock: 1_800_000_300, ID: idOf(6), Verb: "import",
			Subject: "13411770823413532103", Gate: 2, Origin: "import=13411770823413532103:0123456789abcdef", Things: []string{"pool tank (13411770823413532103)", "disk /dev/vdb (DISK1)"},
			Commands: [][]string{{"zpool", "import", "-N", "13411770823413532103"}, {"mount", "-t", "zfs"}}}},
		{DigestType, digest},
		{TombstoneType, map[string]int{}},
	}
}

// dir is the directory's bytes.
func (b *BlockBuilder) dir() []byte {
	data := b.Seal(0)
	return slices.Clone(data[len(data)-BlockTrailer-b.Count()*BlockEntrySize : len(data)-BlockTrailer])
}

const goldenSeq = 4711

func goldenPart(t testing.TB) []byte {
	pb := NewPart(goldenSeq, hashOf("before"))
	for _, r := range goldenRecords() {
		pb.Add(r.t, marshal(t, r.v))
	}
	return pb.Bytes()
}

func TestGoldenPart(t *testing.T) {
	recs := goldenRecords()
	pieces := []piece{{"magic, version, header size, flags", 24}, {"length of the part, 0, CRC-32C", 16}}
	for i, r := range recs {
		payload := marshal(t, r.v)
		pieces = append(pieces, piece{fmt.Sprintf("record %d: logseq, type, payload length", i), 16}, piece{diag(t, payload), len(payload)}, piece{"SHA-256", 32})
	}
	data := golden(t, "part.txt", goldenPart(t), pieces...)
	p, err := DecodePart(data, goldenSeq, hashOf("before"))
	if err != nil || p.Torn || len(p.Records) != len(recs) {
		t.Fatalf("%d records, torn %v: %v", len(p.Records), p.Torn, err)
	}
	for i, r := range p.Records {
		v := reflect.New(reflect.TypeOf(recs[i].v))
		if err := Unmarshal(r.Payload, v.Interface()); err != nil || r.Type != recs[i].t || r.Seq != goldenSeq+uint64(i) {
			t.Fatalf("record %d: %v", i, err)
		}
		if got := v.Elem().Interface(); !reflect.DeepEqual(got, recs[i].v) {
			t.Errorf("record %d: got %+v\nwant %+v", i, got, recs[i].v)
		}
	}
	head, seq, ok := PeekHead(data)
	if !ok || seq != goldenSeq || !reflect.DeepEqual(head, recs[0].v) {
		t.Errorf("PeekHead gives %+v, %d, %v", head, seq, ok)
	}
}

func goldenEvidence() *Evidence {
	return &Evidence{
		Version: Version, Device: map[string]string{"model": "DISK", "serial": "SERIAL"}, SmartBegin: Smart{JSON: []byte("{}")}, SmartEnd: Smart{Why: "smartctl is not there"},
		WritesBegin: Writes{Known: true, Writes: 1, Sectors: 8}, WritesEnd: Writes{Why: "the device is gone"}, Messages: []string{"6,1,2,-;sda: a line"}, MessagesAll: 2, MessagesWhy: "too many",
		Machine: map[string]string{"kernel": "6.1"}, Began: Moment{1_800_000_000, 5000}, Ended: Moment{1_800_000_400, 405_000},
	}
}

func goldenManifest() *Manifest {
	top := Entry{Name: []byte("home"), Type: source.Dir, Mode: 0o755, MSec: 1_700_000_000, Dir: refAt("dir root"), Paged: true}
	counts := Counts{1, 2, 3, 4, 5, 6, 7, 8, 9}
	return &Manifest{
		Format: Version, Store: idOf(9), Domain: "default", Intake: idOf(1), Base: 4711, Parent: 6, Label: "jövő", Result: "complete", Tool: "asl-intake 1",
		Chunk: chunk.Default(), Codec: Codecs{"none", "", 0}, Resumed: 2, Merged: []uint64{3, 5}, Began: 1_800_000_000, Ended: 1_800_000_400, Totals: counts.Add(counts),
		Sources: []SourceResult{
			{SourceID: SourceID{Kind: "tree", Path: []byte("/home"), Name: "home", ID: "tree /home 2049 2", Size: -1}, Top: &top, Length: 5000, Counts: counts,
				Gaps: []GapRow{{Path: []byte("x\xff"), Off: 0, Len: 10, Kind: "untried", Why: "gone"}}, GapsAll: 2000, Errors: []string{"x: permission denied"}, Changed: []string{"y: grew"}},
			{SourceID: SourceID{Kind: "image", Path: []byte("/disk.img"), Name: "disk", ID: "image /disk.img 2049 3", Size: 1000, Sector: 512}, Root: refAt("root"), Length: 1000, Counts: counts,
				Left: &Left{"used-only: ext4", 3, 1}, Evidence: refAt("evidence")},
		},
	}
}

var (
	goldenMapPage = []Range{dataRange("a", 65536), dataRange("b", 100), gapRange(source.Zero, 1<<20), gapRange(source.Unreadable, 512), gapRange(source.Untried, 512), dataRange("c", 4096)}
	goldenMapNode = []*artifact.Ref{nil, refAt("page"), nil}
	goldenMapRoot = MapRoot{Version: Version, Size: MapNodePages*MapPageSpan + 2*MapPageSpan + 1, Nodes: []*artifact.Ref{nil, refAt("node")}}
	goldenDirPage = []Entry{
		{Name: []byte("Dir"), Type: source.Dir, Mode: 0o1777, Dir: refAt("dir page")},
		{Name: []byte("blk"), Type: source.BlkDev, Mode: 0o660, Major: 8, Minor: 1},
		{Name: []byte("chr"), Type: source.CharDev, Major: 1, Minor: 3},
		{Name: []byte("empty"), Type: source.Regular},
		{Name: []byte("fifo"), Type: source.FIFO},
		{Name: []byte("inline"), Type: source.Regular, Size: 3, Inline: []byte("abc")},
		{Name: []byte("link"), Type: source.Regular, Size: 5000, Link: []byte("a/notes.txt")},
		{Name: []byte("long"), Type: source.Regular, Size: 1 << 40, Map: refAt("map root")},
		goldenEntry,
		{Name: []byte("sock"), Type: source.Socket},
		{Name: []byte("sym"), Type: source.Symlink, Mode: 0o777, Target: []byte("../\xff")},
		{Name: []byte("vanished"), Err: "vanished before it was read"},
		{Name: []byte("x\xff"), Type: source.Regular, Size: 9, Err: "permission denied"},
	}
	goldenDirRoot = []DirPageRef{{First: []byte("a"), Ref: refOf("page 0")}, {First: []byte("b"), Ref: refOf("page 1")}}
	goldenLoose   = []LooseRange{looseRange(dataRange("a", 65536), 0, 0), looseRange(gapRange(Untrimmed, 65536), 5, 1), looseRange(gapRange(source.Unreadable, 512), 61, 3), looseRange(gapRange(Unscraped, 1024), 5, 1)}
	goldenFaults  = []Fault{{Off: 512, Len: 1024, Kind: source.Unreadable, Errno: 61, Tries: 3, Readings: [][]byte{}}, {Off: 1 << 40, Len: 512, Kind: source.Untried, Readings: [][]byte{}}, {Off: 2 << 40, Len: 4096, Kind: source.Unstable, Tries: 2, Readings: [][]byte{dataRange("a", 1).Ref, dataRange("b", 1).Ref}}}
	goldenTreeLog = []SeenFile{goldenRow, {Path: []byte("z"), Content: Entry{Size: 1 << 40, Map: refAt("map root")}}}
)

// artifacts of our own making, and how each is read
var goldenCBOR = []struct {
	name   string
	v      any
	decode func([]byte) (any, error)
}{
	{"map-page", goldenMapPage, func(b []byte) (any, error) { return DecodeMapPage(b, sumOf(goldenMapPage)) }},
	{"map-node", goldenMapNode, func(b []byte) (any, error) { return DecodeMapNode(b, 3) }},
	{"map-root", goldenMapRoot, func(b []byte) (any, error) { return DecodeMapRoot(b) }},
	{"dir-page", goldenDirPage, func(b []byte) (any, error) { return DecodeDirPage(b) }},
	{"dir-root", goldenDirRoot, func(b []byte) (any, error) { return DecodeDirRoot(b) }},
	{"loose-page", goldenLoose, func(b []byte) (any, error) { return DecodeLoosePage(b, 65536+65536+1536) }},
	{"fault-page", goldenFaults, func(b []byte) (any, error) { return DecodeFaultPage(b) }},
	{"tree-log", goldenTreeLog, func(b []byte) (any, error) { return DecodeTreeLog(b) }},
	{"evidence", goldenEvidence(), func(b []byte) (any, error) { return DecodeEvidence(b) }},
	{"manifest", goldenManifest(), func(b []byte) (any, error) { return DecodeManifest(artifact.HashBytes(b), b) }},
}

func looseRange(r Range, errno uint16, tries uint32) LooseRange {
	return LooseRange{Kind: r.Kind, Len: r.Len, Ref: r.Ref, Errno: errno, Tries: tries}
}

func sumOf(ranges []Range) (n int64) {
	for _, r := range ranges {
		n += r.Len
	}
	return n
}

func TestGoldenCBOR(t *testing.T) {
	for _, c := range goldenCBOR {
		b := marshal(t, c.v)
		b = golden(t, c.name+".txt", b, piece{diag(t, b), len(b)})
		got, err := c.decode(b)
		if err != nil || !reflect.DeepEqual(got, c.v) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", c.name, err, got, c.v)
		}
		for n := range b {
			if _, err := c.decode(b[:n]); !errors.Is(err, artifact.ErrDamaged) {
				t.Errorf("%s cut to %d of %d bytes: %v", c.name, n, len(b), err)
			}
		}
		if _, err := c.decode(append(slices.Clone(b), 0)); !errors.Is(err, artifact.ErrDamaged) {
			t.Errorf("%s with a byte more: %v", c.name, err)
		}
	}
}

func TestEmptyMapHasOneEncoding(t *testing.T) {
	for _, nodes := range [][]*artifact.Ref{nil, {}} {
		if b := marshal(t, MapRoot{Version: Version, Nodes: nodes}); !bytes.Equal(b, []byte{0x83, 1, 0, 0x80}) {
			t.Errorf("got %x", b)
		}
	}
	if a, b := marshal(t, Range{Kind: source.Zero, Len: 1}), marshal(t, gapRange(source.Zero, 1)); !bytes.Equal(a, b) {
		t.Errorf("a nil and an empty reference differ: %x, %x", a, b)
	}
}
