package intake_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/source/sourcetest"
	"aslrescue/engine/store/format"
	"aslrescue/engine/vfs/memfs"
)

// withGaps takes in a source that cannot be read whole, and gives what is told of it and what is kept.
func withGaps(t *testing.T, open func() source.Source) (format.SourceResult, map[string]string) {
	t.Helper()
	fsys, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{label: "gaps", sources: func() []source.Source { return []source.Source{open()} }}
	rep, err := oneIntake(t.Context(), fsys, w, hasty(intake.Fast))
	if err != nil || rep.Result != event.CompleteWithGaps || rep.Manifest.Result != string(event.CompleteWithGaps) {
		t.Fatalf("%+v, %v", rep, err)
	}
	s, err := openStore(fsys)
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.At(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readBack(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return v.Manifest.Sources[0], got
}

// holed is content with question marks where it cannot be read.
func holed(content []byte, gaps ...source.Gap) string {
	b := bytes.Clone(content)
	for _, g := range gaps {
		copy(b[g.Off:g.Off+g.Len], bytes.Repeat([]byte{'?'}, int(g.Len)))
	}
	return string(b)
}

func TestBadRanges(t *testing.T) {
	content := mixed(1, 150_000)
	size := int64(len(content))
	for _, bad := range [][]source.Gap{
		{{Off: 0, Len: 512}},
		{{Off: 512, Len: 512}, {Off: 1536, Len: 512}},
		{{Off: 16<<10 - 512, Len: 1024}},
		{{Off: 0, Len: size}},
		{{Off: size - size%512, Len: size % 512}},
		{{Off: 20_480, Len: 60_000 - 60_000%512}, {Off: 100_352, Len: 512}},
	} {
		res, got := withGaps(t, func() source.Source {
			return sourcetest.NewLinear(sourcetest.Config{Name: "disk", Bytes: content, Bad: bad})
		})
		if got["disk"] != holed(content, bad...) {
			t.Errorf("%v: other bytes are kept", bad)
		}
		want, told := int64(0), int64(0)
		for _, g := range bad {
			want += g.Len
		}
		for _, g := range res.Gaps {
			told += g.Len
			if g.Kind != "unreadable" || g.Why == "" || !slices.ContainsFunc(bad, func(b source.Gap) bool { return b.Off <= g.Off && g.Off+g.Len <= b.Off+b.Len }) {
				t.Errorf("%v: gap %+v", bad, g)
			}
		}
		c := res.Counts
		if told != want || c.Unreadable != want || c.Data+c.Zero+c.Unreadable+c.Untried != size || res.Length != size || int(res.GapsAll) != len(res.Gaps) {
			t.Errorf("%v: %d bytes told, counts %+v", bad, told, c)
		}
	}
}

// TestSourcesThatGo: what was read before a source went stands, the rest is untried.
func TestSourcesThatGo(t *testing.T) {
	content := mixed(2, 100_000)
	const unit = 16 << 10
	for name, tt := range map[string]struct {
		c       sourcetest.Config
		kept    int
		changed bool
	}{
		"gone at once":                 {sourcetest.Config{Bytes: content, GoneAfter: 1}, unit, false},
		"gone in the middle":           {sourcetest.Config{Bytes: content, GoneAfter: 3}, 3 * unit, false},
		"shrunk":                       {sourcetest.Config{Bytes: content, ShrinkAfter: 2, ShrinkTo: 50_000}, 50_000, true},
		"shrunk to less than was read": {sourcetest.Config{Bytes: content, ShrinkAfter: 2, ShrinkTo: 5_000}, 2 * unit, true},
	} {
		tt.c.Name = "disk"
		res, got := withGaps(t, func() source.Source { return sourcetest.NewLinear(tt.c) })
		if want := holed(content, source.Gap{Off: int64(tt.kept), Len: int64(len(content) - tt.kept)}); got["disk"] != want {
			t.Errorf("%s: %d bytes kept, other ones than wanted", name, len(got["disk"]))
		}
		if res.Counts.Untried != int64(len(content)-tt.kept) || len(res.Gaps) != 1 || res.Gaps[0].Kind != "untried" || res.Gaps[0].Why == "" {
			t.Errorf("%s: %+v", name, res)
		}
		if tt.changed != (len(res.Changed) > 0) {
			t.Errorf("%s: changed %q", name, res.Changed)
		}
	}
	res, _ := withGaps(t, func() source.Source {
		return sourcetest.NewLinear(sourcetest.Config{Name: "disk", Bytes: content, ChangeAfter: 3})
	})
	if len(res.Changed) != 1 || len(res.Gaps) != 0 {
		t.Errorf("changed: %+v", res)
	}
}

// TestStreamThatBreaks: a stream's size is not known, but that it broke is.
func TestStreamThatBreaks(t *testing.T) {
	content := mixed(3, 50_000)
	res, got := withGaps(t, func() source.Source {
		return source.OpenStream(io.MultiReader(bytes.NewReader(content), failing{}), "pipe")
	})
	if got["pipe"] != string(content) {
		t.Errorf("%d bytes kept of %d", len(got["pipe"]), len(content))
	}
	if len(res.Errors)+len(res.Gaps)+len(res.Changed) == 0 {
		t.Errorf("nothing is told: %+v", res)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the other end hung up") }

// TestBadFiles: what cannot be read of a tree is told with its path, and everything else is kept.
func TestBadFiles(t *testing.T) {
	good, long := words(1, 5000), mixed(2, 90_000)
	bad := []source.Gap{{Off: 20_480, Len: 4096}}
	entries := []sourcetest.Entry{
		{Path: "a/good", Content: good},
		{Path: "a/denied", Content: good, OpenErr: unix.EACCES},
		{Path: "a/vanished", Content: good, OpenErr: unix.ENOENT},
		{Path: "a/changes", Content: good, Changes: true},
		{Path: "a/shrinks", Content: good, Shrinks: true},
		{Path: "a/bad", Content: good, Bad: []source.Gap{{Off: 512, Len: 1024}}},
		{Path: "a/closed", Meta: source.Meta{Type: source.Dir, Mode: 0o700}, Err: "permission denied"},
		{Path: "a/unknown", Err: "vanished since it was listed"},
		{Path: "a/xattr", Content: good, Err: "attributes could not be read"},
		{Path: "long bad", Content: long, Bad: bad},
		{Path: "long denied", Content: long, OpenErr: unix.EACCES},
		{Path: "long shrinks", Content: long, Shrinks: true},
		{Path: "long stale", Content: long, Stale: 30_720},
		{Path: "z good", Content: long},
	}
	res, got := withGaps(t, func() source.Source { return sourcetest.NewTree("tree", entries) })
	for path, want := range map[string]string{
		"a/good":       string(good),
		"a/bad":        holed(good, source.Gap{Off: 512, Len: 1024}),
		"a/shrinks":    string(good[:2500]),
		"long bad":     holed(long, bad...),
		"long shrinks": string(long[:45_000]),
		"long stale":   holed(long, source.Gap{Off: 30_720, Len: 90_000 - 30_720}),
		"z good":       string(long),
	} {
		if got["tree/"+path] != "file "+want {
			t.Errorf("%s: %d bytes, want %d", path, len(got["tree/"+path])-5, len(want))
		}
	}
	all := strings.Join(append(slices.Clone(res.Errors), res.Changed...), "\n")
	for _, g := range res.Gaps {
		all += "\n" + string(g.Path)
	}
	for _, e := range entries {
		_, there := got["tree/"+e.Path]
		if !there {
			t.Errorf("%s is not in the tree", e.Path)
		}
		if wrong := !strings.Contains(e.Path, "good"); wrong != strings.Contains(all, e.Path) {
			t.Errorf("%s is told: %v", e.Path, !wrong)
		}
	}
	if res.Whole() {
		t.Error("the source counts as whole")
	}
}

// TestTreeThatGoes: a tree whose root is gone fails the intake, which goes on when it is back.
func TestTreeThatGoes(t *testing.T) {
	w := newWorld("one", 1, 60_000)
	fsys, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	broken := *w
	broken.sources = func() []source.Source {
		list := w.sources()
		list[1].(*sourcetest.Tree).StopAfter(7)
		return list
	}
	if rep, err := oneIntake(t.Context(), fsys, &broken, hasty(intake.None)); !errors.Is(err, source.ErrGone) || rep.Result != event.Failed {
		t.Fatalf("%+v, %v", rep, err)
	}
	mustComplete(t, fsys, w, hasty(intake.None))
	if _, err := inspect(t.Context(), fsys, expect{worlds: worlds(w), oneCopy: true}); err != nil {
		t.Fatal(err)
	}
}

// TestGapsAfterInterruption: an intake of bad sources that was interrupted tells the same gaps and has the same roots.
func TestGapsAfterInterruption(t *testing.T) {
	content, long := mixed(4, 120_000), mixed(5, 70_000)
	bad := []source.Gap{{Off: 4096, Len: 512}, {Off: 40_960, Len: 30_208}, {Off: 100_352, Len: 512}}
	entries := []sourcetest.Entry{
		{Path: "a", Content: words(1, 3000)}, {Path: "b", Content: words(2, 3000), Bad: []source.Gap{{Off: 1024, Len: 512}}},
		{Path: "c", Content: words(3, 3000), OpenErr: unix.EACCES}, {Path: "long", Content: long, Bad: []source.Gap{{Off: 512, Len: 512}, {Off: 50_176, Len: 1024}}},
		{Path: "z", Content: noise(3, 4000)},
	}
	w := &world{label: "gaps", sources: func() []source.Source {
		return []source.Source{sourcetest.NewLinear(sourcetest.Config{Name: "disk", Bytes: content, Bad: bad}), sourcetest.NewTree("tree", entries)}
	}}
	base, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k := &witness{}
	o := hasty(intake.None)
	o.Events = k.event
	clean, err := oneIntake(t.Context(), base.CrashAt(0, memfs.Pattern{}), w, o)
	if err != nil {
		t.Fatal(err)
	}
	tell := func(m *format.Manifest) string {
		var b strings.Builder
		for _, s := range m.Sources {
			c := s.Counts
			// A file that an earlier run read whole is not looked into again for what of it is zeros.
			c.Data, c.Zero, c.New, c.Known, c.Stored = c.Data+c.Zero, 0, 0, 0, 0
			fmt.Fprintf(&b, "%s %d %+v errors %q changed %q gaps", s.Name, s.Length, c, s.Errors, s.Changed)
			for _, g := range s.Gaps {
				fmt.Fprintf(&b, " %s:%d+%d %s", g.Path, g.Off, g.Len, g.Kind)
			}
			b.WriteString("\n")
		}
		return b.String()
	}
	_, used, err := eachN(t.Context(), 1, 1, func(n int) (bool, error) {
		if n > k.seen {
			return false, nil
		}
		fsys := base.CrashAt(0, memfs.Pattern{})
		stop, cancel := context.WithCancel(t.Context())
		defer cancel()
		k := &witness{at: func(seen int) {
			if seen == n {
				cancel()
			}
		}}
		o := hasty(intake.None)
		o.Events, o.Stop = k.event, stop
		rep, err := oneIntake(t.Context(), fsys, w, o)
		if errors.Is(err, intake.ErrStopped) {
			rep, err = oneIntake(t.Context(), fsys, w, hasty(intake.None))
		}
		if err != nil || rep.Result != event.CompleteWithGaps {
			return true, fmt.Errorf("stopped at event %d: %+v, %w", n, rep, err)
		}
		if roots(rep.Manifest) != roots(clean.Manifest) {
			return true, fmt.Errorf("stopped at event %d: other roots", n)
		}
		if got, want := tell(rep.Manifest), tell(clean.Manifest); got != want {
			return true, fmt.Errorf("stopped at event %d:\n%swant\n%s", n, got, want)
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("interruptions: %d", used)
}
