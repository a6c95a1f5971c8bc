package store

import (
	"context"
	"encoding/binary"
	"flag"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

var scaleEntries = flag.Int("entries", 1_000_000, "entries of the synthetic index; 15000000 stand for a TiB of images")

// files is a Backend that can only create and read, so that a large index takes no memory of the test's own.
type files string

func (f files) path(name string) string { return filepath.Join(string(f), filepath.Base(name)) }

func (f files) Create(_ context.Context, name string, data []byte) error {
	return os.WriteFile(f.path(name), data, 0o600)
}

func (f files) Open(_ context.Context, name string, off, n int64) (io.ReadCloser, error) {
	file, err := os.Open(f.path(name))
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(file, off, n), file}, nil
}

func (f files) Stat(context.Context, string) (int64, error)                  { return 0, os.ErrInvalid }
func (f files) List(context.Context, string, string) iter.Seq2[Entry, error] { return nil }
func (f files) Info() Info                                                   { return Info{} }
func (f files) Close() error                                                 { return nil }

// entryAt is the i-th of n made-up entries whose digests ascend and are spread as hashes are.
func entryAt(i, n int) format.SegmentEntry {
	step := ^uint64(0) / uint64(n)
	d := artifact.Sum(binary.LittleEndian.AppendUint64(nil, uint64(i))).Digest
	jitter := binary.LittleEndian.Uint64(d[:]) % step
	binary.BigEndian.PutUint64(d[:], uint64(i)*step+jitter)
	return format.SegmentEntry{Ref: artifact.Ref{Hash: artifact.BLAKE3, Digest: d}, Block: uint32(i % 64), Off: 64, Stored: 65536, Raw: 65536}
}

// An index of a TiB of images fits into 20 MiB and forgets nothing: every entry is found, nothing else is.
func TestIndexIsExactAndSmall(t *testing.T) {
	n := *scaleEntries
	ctx := context.Background()
	s := &Store{b: files(t.TempDir()), st: newState("scale")}
	s.ix = &index{b: s.b, cache: newPageCache(1024), parts: map[artifact.Digest]*segmentPart{}}
	run := makeRun(t, s, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var all format.SegmentSeal // the level 0 segment that the run stands for names its blocks
	for i := range 64 {
		all.Blocks = append(all.Blocks, blockAt(i))
	}
	s.st.sealed = []sealedSegment{{0, all}}
	s.st.runs = []runState{run}
	if err := s.refreshIndex(ctx); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	counted, entries := s.ix.memory()
	heap := int(after.HeapAlloc) - int(before.HeapAlloc)
	t.Logf("%d entries in %d segments: %d bytes of memory by its own count, %d by the runtime's: %.2f bits an entry, %.1f MiB for 15 million",
		entries, len(run.Segments), counted, heap, float64(heap)*8/float64(n), float64(heap)/float64(n)*15e6/(1<<20))
	if limit := 20 << 20; float64(heap)/float64(n)*15e6 > float64(limit) {
		t.Errorf("15 million entries would take more than %d bytes", limit)
	}
	checkLookups(t, &s.ix.runs[0], s.ix, n)
}

func blockAt(i int) artifact.Digest { return artifact.Sum([]byte{byte(i)}).Digest }

func makeRun(t *testing.T, s *Store, n int) runState {
	run := runState{format.Run{Level: 4}, []int{0}}
	rows := make([]format.BlockRow, 64)
	for i := range rows {
		rows[i] = format.BlockRow{ID: blockAt(i), Size: 8 << 20}
	}
	for at := 0; at < n; at += mergePart {
		var entries []format.SegmentEntry
		for i := at; i < min(n, at+mergePart); i++ {
			entries = append(entries, entryAt(i, n))
		}
		data, err := format.EncodeSegment(4, rows, entries)
		if err != nil {
			t.Fatal(err)
		}
		id := artifact.HashBytes(data)
		if err := s.b.Create(context.Background(), "segments/"+id.String(), data); err != nil {
			t.Fatal(err)
		}
		run.Segments = append(run.Segments, id)
	}
	return run
}

func checkLookups(t *testing.T, run *indexRun, ix *index, n int) {
	ctx := context.Background()
	falseYes := 0
	for i := 0; i < n; i += max(1, n/200_000) {
		e := entryAt(i, n)
		if got, err := ix.find(ctx, e.Ref.Digest, true); err != nil || len(got) != 1 || got[0].entry.Ref != e.Ref {
			t.Fatalf("entry %d: %v %v", i, got, err)
		}
		absent := e.Ref.Digest
		absent[0] ^= 0x55
		absent[31] ^= 1
		if got, err := ix.find(ctx, absent, true); err != nil || len(got) != 0 {
			t.Fatalf("what is not there was found: %v %v", got, err)
		}
		for _, p := range run.partsFor(absent) {
			if p.meta.MayContain(absent) {
				falseYes++
			}
		}
	}
	t.Logf("filters said yes to what is not there %d times in %d", falseYes, min(n, 200_000))
}

// TestKeysOverBoundaries: digests that share their first eight bytes may lie in several parts of a run. All are found.
func TestKeysOverBoundaries(t *testing.T) {
	ctx := context.Background()
	s := &Store{b: files(t.TempDir()), st: newState("boundary")}
	ix := &index{b: s.b, cache: newPageCache(64)}
	at := func(key uint64, rest byte) artifact.Digest {
		var d artifact.Digest
		binary.BigEndian.PutUint64(d[:], key)
		d[31] = rest
		return d
	}
	rows := []format.BlockRow{{ID: blockAt(0), Size: 8 << 20}}
	parts := [][]artifact.Digest{{at(1, 1), at(5, 1)}, {at(5, 2)}, {at(5, 3), at(7, 1)}, {at(9, 1)}}
	run := indexRun{of: []int{0}}
	for _, part := range parts {
		var entries []format.SegmentEntry
		for i, d := range part {
			entries = append(entries, format.SegmentEntry{Ref: artifact.Ref{Hash: artifact.BLAKE3, Digest: d}, Off: uint32(64 + i*100), Stored: 100, Raw: 100})
		}
		data, err := format.EncodeSegment(1, rows, entries)
		if err != nil {
			t.Fatal(err)
		}
		id := artifact.HashBytes(data)
		if err := s.b.Create(ctx, "segments/"+id.String(), data); err != nil {
			t.Fatal(err)
		}
		p, err := openPart(ctx, s.b, id, 1, []artifact.Digest{blockAt(0)})
		if err != nil || p.meta == nil {
			t.Fatal(err)
		}
		run.parts = append(run.parts, p)
	}
	ix.runs = []indexRun{run}
	for i, part := range parts {
		for _, d := range part {
			if got, err := ix.find(ctx, d, true); err != nil || len(got) != 1 || got[0].entry.Ref.Digest != d {
				t.Errorf("part %d, %s: %v, %v", i, d, got, err)
			}
		}
	}
	for _, d := range []artifact.Digest{at(0, 0), at(5, 9), at(6, 0), at(10, 0)} {
		if got, err := ix.find(ctx, d, true); err != nil || len(got) != 0 {
			t.Errorf("%s is not there: %v, %v", d, got, err)
		}
	}
}
