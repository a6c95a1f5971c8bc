package intake_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"aslrescue/backends/local"
	"aslrescue/engine/chunk"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/source/sourcetest"
	"aslrescue/engine/store"
	"aslrescue/engine/vfs/memfs"
)

// TestRoundTrip: every byte of every kind of source comes back, however it is cut and compressed, and the same sources
// again are known.
func TestRoundTrip(t *testing.T) {
	w := newWorld("all kinds", 1, 200_000)
	for _, c := range []intake.Compression{intake.None, intake.Fast, intake.Better} {
		for name, p := range map[string]chunk.Params{"tiny": tiny(), "default": chunk.Default()} {
			t.Run(fmt.Sprint(c, " ", name), func(t *testing.T) {
				fsys, err := newMedium(memfs.Options{})
				if err != nil {
					t.Fatal(err)
				}
				o := hasty(c)
				o.Chunk = p
				first := mustComplete(t, fsys, w, o)
				if !first.Verified || first.Blocks == 0 || first.Snapshot.Number != 1 {
					t.Errorf("first: %+v", first)
				}
				again := mustComplete(t, fsys, w, o)
				if again.Blocks != 0 || again.Stored != 0 || again.Manifest.Totals.New != 0 {
					t.Errorf("the same again stored %d blocks, %d bytes, %d new", again.Blocks, again.Stored, again.Manifest.Totals.New)
				}
				if roots(first.Manifest) != roots(again.Manifest) {
					t.Error("the same again has other roots")
				}
				s, err := inspect(t.Context(), fsys, expect{worlds: worlds(w), oneCopy: true})
				if err != nil {
					t.Fatal(err)
				}
				if n := len(s.Unfinished()); n != 0 || len(s.Snapshots()) != 2 {
					t.Errorf("%d unfinished, %d snapshots", n, len(s.Snapshots()))
				}
			})
		}
	}
}

// TestRoundTripOfNothing: sources without a byte are sources.
func TestRoundTripOfNothing(t *testing.T) {
	fsys, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{label: "nothing", truth: map[string]string{"image": "", "tree/": "dir", "stream": "", "zeros": string(make([]byte, 70_000))}}
	w.sources = func() []source.Source {
		return []source.Source{image("image", []byte{}), sourcetest.NewTree("tree", nil), source.OpenStream(bytes.NewReader(nil), "stream"), image("zeros", make([]byte, 70_000))}
	}
	mustComplete(t, fsys, w, hasty(intake.Fast))
	if _, err := inspect(t.Context(), fsys, expect{worlds: worlds(w)}); err != nil {
		t.Fatal(err)
	}
	s, _ := openStore(fsys)
	if rep, err := intake.Run(t.Context(), s, nil, hasty(intake.Fast)); err == nil {
		t.Errorf("no source at all: %+v", rep)
	}
}

// TestRoundTripOverSegments: stream offsets over 256 MiB end blocks and segments, and maps have more than one page.
func TestRoundTripOverSegments(t *testing.T) {
	fsys, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := sparseWorld()
	o := hasty(intake.None)
	o.Chunk = chunk.Default()
	o.ForceAfter = -1
	mustComplete(t, fsys, w, o)
	s, err := inspect(t.Context(), fsys, expect{worlds: worlds(w), oneCopy: true})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.Segments()); n != 2 {
		t.Errorf("%d segments, want 2", n)
	}
	if again := mustComplete(t, fsys, w, o); again.Blocks != 0 {
		t.Errorf("the same again stored %d blocks", again.Blocks)
	}
}

// sparse is an image that is zeros but for a few places.
type sparse struct {
	source.Linear
	at map[int64][]byte
}

func (s *sparse) Read(ctx context.Context, buf []byte, off int64) (int, []source.Gap, error) {
	buf = buf[:min(int64(len(buf)), s.Info().Size-off)]
	clear(buf)
	for at, data := range s.at {
		if at+int64(len(data)) > off && at < off+int64(len(buf)) {
			copy(buf[max(0, at-off):], data[max(0, off-at):])
		}
	}
	return len(buf), nil, ctx.Err()
}

const sparseSize = 300<<20 + 4096

// sparseWorld is one image of more than a segment's span.
func sparseWorld() *world {
	at := map[int64][]byte{0: noise(1, 50_000), 64<<20 - 8192: noise(2, 30_000), 255 << 20: noise(3, 40_000), 256 << 20: noise(4, 10_000), 257 << 20: noise(1, 50_000), sparseSize - 100: words(5, 100)}
	w := &world{label: "sparse", truth: map[string]string{}}
	content := make([]byte, sparseSize)
	for off, data := range at {
		copy(content[off:], data)
	}
	w.truth["disk"] = string(content)
	w.sources = func() []source.Source {
		return []source.Source{&sparse{sourcetest.NewLinear(sourcetest.Config{Name: "disk", Size: sparseSize}), at}}
	}
	return w
}

// TestRoundTripOnDisk: a tree with everything odd, an image and a stream, from and to a real file system.
func TestRoundTripOnDisk(t *testing.T) {
	dir, img := t.TempDir(), filepath.Join(t.TempDir(), "image")
	if err := sourcetest.MakeOdd(dir, sourcetest.Odd{Deep: 25, Wide: 1500, Plain: os.Geteuid() != 0}); err != nil {
		t.Fatal(err)
	}
	content := mixed(9, 500_000)
	if err := os.WriteFile(img, content, 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{label: "real"}
	w.sources = func() []source.Source {
		tree, err := source.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		file, err := source.Open(img)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tree.Close(); _ = file.Close() })
		return []source.Source{tree, file, source.OpenStream(bytes.NewReader(content), "stdin")}
	}
	place := filepath.Join(t.TempDir(), "store")
	b, err := local.CreatePath(place)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s, err := store.Create(t.Context(), b, store.Options{Domain: domain})
	if err != nil {
		t.Fatal(err)
	}
	var was string
	for _, c := range []intake.Compression{intake.Fast, intake.None} {
		o := hasty(c)
		o.ForceAfter = 0
		rep, err := run(t.Context(), s, w, o)
		if err != nil || rep.Result != event.Complete {
			t.Fatalf("%+v, %v", rep, err)
		}
		if was != "" && (rep.Blocks != 0 || roots(rep.Manifest) != was) {
			t.Errorf("the same again: %d blocks, equal roots %v", rep.Blocks, roots(rep.Manifest) == was)
		}
		was = roots(rep.Manifest)
		v, err := s.At(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readBack(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		if got["image"] != string(content) || got["stdin"] != string(content) {
			t.Error("the image or the stream differs")
		}
		onDisk(t, dir, rep.Manifest.Sources[0].Name, got)
	}
}

// onDisk compares the contents of a tree's files with what was read back.
func onDisk(t *testing.T, dir, name string, got map[string]string) {
	t.Helper()
	files := 0
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for path, what := range got {
		rel, ok := bytes.CutPrefix([]byte(path), []byte(name+"/"))
		if !ok || len(what) < 5 || what[:5] != "file " {
			continue
		}
		st, err := root.Lstat(string(rel))
		if err != nil {
			t.Errorf("%q: %v", rel, err)
			continue
		}
		if !st.Mode().IsRegular() {
			continue
		}
		files++
		if data, err := root.ReadFile(string(rel)); err != nil || string(data) != what[5:] {
			t.Errorf("%q: %d bytes, was %d: %v", rel, len(what)-5, len(data), err)
		}
	}
	if files < 1500 {
		t.Errorf("only %d files", files)
	}
}
