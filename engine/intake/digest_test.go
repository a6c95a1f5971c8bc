package intake_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"lukechampine.com/blake3"

	"aslrescue/engine/digest"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/source/sourcetest"
	"aslrescue/engine/vfs/memfs"
)

// TestDigests: whatever could not be read, and however often the intake was interrupted, the digests are those of the bytes with zeros for the gaps.
func TestDigests(t *testing.T) {
	content := mixed(4, 141<<14) // whole super-blocks, and more than is on its way at once, so that a stop comes in the middle
	for name, tt := range map[string]struct {
		bad   []source.Gap
		names []string
		stops int
		how   string
	}{
		"whole":               {nil, []string{digest.BLAKE3}, 0, "reading"},
		"read back":           {nil, []string{digest.BLAKE3, digest.SHA256}, 0, "store"},
		"gaps":                {[]source.Gap{{Off: 512, Len: 1024}, {Off: 60_416, Len: 512}}, []string{digest.BLAKE3}, 0, "reading"},
		"gaps, read back":     {[]source.Gap{{Off: 512, Len: 1024}, {Off: 60_416, Len: 512}}, []string{digest.BLAKE3, digest.SHA256}, 0, "store"},
		"passes":              {nil, []string{digest.BLAKE3}, 0, "reading"},
		"passes, jumps":       {[]source.Gap{{Off: 300_032, Len: 512}, {Off: 900_096, Len: 2048}}, []string{digest.BLAKE3}, 0, "store"},
		"passes, backwards":   {nil, []string{digest.BLAKE3}, 0, "store"},
		"passes, interrupted": {[]source.Gap{{Off: 300_032, Len: 512}}, []string{digest.BLAKE3}, 3, "store"},
		"interrupted":         {[]source.Gap{{Off: 100_352, Len: 512}}, []string{digest.BLAKE3}, 5, "reading"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys, err := newMedium(memfs.Options{})
			if err != nil {
				t.Fatal(err)
			}
			o := hasty(intake.Fast)
			o.Digest = tt.names
			o.Reading.Reverse = strings.HasSuffix(name, "backwards")
			w := &world{label: name, sources: func() []source.Source {
				c := sourcetest.Config{Name: "disk", Bytes: content, Bad: tt.bad}
				if strings.HasPrefix(name, "passes") {
					return []source.Source{sourcetest.NewDisk(c)}
				}
				return []source.Source{sourcetest.NewLinear(c)}
			}}
			rep, err := stoppedIntake(t, fsys, w, o, tt.stops)
			if err != nil {
				t.Fatal(err)
			}
			if (rep.Resumed > 0) != (tt.stops > 0) {
				t.Errorf("went on from %d", rep.Resumed)
			}
			s, err := openStore(fsys)
			if err != nil {
				t.Fatal(err)
			}
			all := s.Digests(rep.Snapshot.Number)
			if len(all) != 1 {
				t.Fatalf("%d records", len(all))
			}
			d := all[0].Digest
			with := bytes.Clone(content)
			gapBytes := int64(0)
			for _, g := range tt.bad {
				clear(with[g.Off:][:g.Len])
				gapBytes += g.Len
			}
			b3, sha := blake3.Sum256(with), sha256.Sum256(with)
			if !bytes.Equal(d.Sums[digest.BLAKE3], b3[:]) || d.Sums[digest.SHA256] != nil && !bytes.Equal(d.Sums[digest.SHA256], sha[:]) || len(d.Sums) != len(tt.names) {
				t.Errorf("other sums: %+v", d)
			}
			if d.How != tt.how || d.Size != int64(len(content)) || d.GapBytes != gapBytes || d.Gaps != int64(len(tt.bad)) || (d.GapList == nil) != (len(tt.bad) == 0) {
				t.Errorf("%+v", d)
			}
			// By what was read and by what is stored it is the same.
			v, err := s.At(t.Context(), rep.Snapshot.Number)
			if err != nil {
				t.Fatal(err)
			}
			again, err := digest.Snapshot(t.Context(), v, &v.Manifest.Sources[0], []string{digest.BLAKE3}, nil)
			if err != nil || !bytes.Equal(again.Sums[digest.BLAKE3], b3[:]) || !bytes.Equal(again.GapList, d.GapList) {
				t.Errorf("read back: %+v, %v", again, err)
			}
		})
	}
}

// stoppedIntake stops and goes on so many times before it lets an intake end.
func stoppedIntake(t *testing.T, fsys *memfs.FS, w *world, o intake.Options, stops int) (*intake.Report, error) {
	t.Helper()
	var rep *intake.Report
	var err error
	for n := 0; ; n++ {
		one := o
		if n < stops {
			stop, cancel := context.WithCancel(t.Context())
			one.Stop, one.Events = stop, func(e event.Event) {
				if _, ok := e.(event.BlockSealed); ok {
					cancel()
				}
			}
		}
		s, serr := openStore(fsys)
		if serr != nil {
			t.Fatal(serr)
		}
		src := w.sources()
		if in, ok := intake.Find(s.Unfinished(), src); ok {
			one.Resume = &in.Begin.Intake
		}
		rep, err = intake.Run(t.Context(), s, src, one)
		if !errors.Is(err, intake.ErrStopped) {
			return rep, err
		}
	}
}
