package session

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"aslrescue/engine/source"
	"aslrescue/engine/source/sourcetest"
	"aslrescue/tui/ask"
)

func TestAKeeperShowsWhatTheProgramsPrint(t *testing.T) {
	place := filepath.Join(t.TempDir(), "store")
	tree := sourcetest.NewTree("etc", []sourcetest.Entry{
		{Path: "ssh", Meta: source.Meta{Type: source.Dir, Mode: 0o755}},
		{Path: "ssh/key", Meta: source.Meta{Type: source.Regular, Mode: 0o600}, Content: mix(2_000_000, 4)},
	})
	take(t, place, tree, sourcetest.NewLinear(sourcetest.Config{Name: "disk", Bytes: mix(9_000_000, 5)}))
	k := Keeper{Dir: place}
	snaps, err := k.Snapshots(t.Context())
	if err != nil || len(snaps) != 1 || snaps[0].Number != 1 || snaps[0].Sources != "etc, disk" || snaps[0].Size != 11_000_000 {
		t.Fatalf("%+v, %v", snaps, err)
	}
	top, err := k.Browse(t.Context(), 1, "")
	if err != nil || len(top) != 2 || !top[0].Dir || top[1].Dir || top[1].Size != 9_000_000 {
		t.Errorf("%+v, %v", top, err)
	}
	below, err := k.Browse(t.Context(), 1, "etc/ssh")
	if err != nil || len(below) != 1 || below[0].Name != "key" {
		t.Errorf("%+v, %v", below, err)
	}
	if _, err := k.Browse(t.Context(), 7, ""); err == nil || !strings.Contains(err.Error(), "7") {
		t.Errorf("a snapshot that is not there: %v", err)
	}

	segs, err := k.Segments(t.Context())
	if err != nil || len(segs) == 0 {
		t.Fatal(segs, err)
	}
	raw, blocks := int64(0), 0
	for _, s := range segs {
		for _, b := range s.Blocks {
			if b.Raw <= 0 || b.Raw > b.Most || b.Entries == 0 {
				t.Errorf("a block that is filled like this: %+v", b)
			}
			raw += b.Raw
			blocks++
		}
	}
	if raw < 11_000_000 || blocks < 2 {
		t.Errorf("%d bytes in %d blocks; all of 11 MB is new", raw, blocks)
	}

	id := segs[0].Blocks[0].ID
	for _, c := range []struct {
		program string
		args    []string
		exit    int
		want    string
	}{
		{"asl-admin", []string{"show", "1"}, 0, "snapshot 1 of domain"},
		{"asl-admin", []string{"diff", "1", "1"}, 0, "no difference"},
		{"asl-debug", []string{"block", id}, 0, "the block is good"},
		{"asl-debug", []string{"log"}, 0, "SNAPSHOT"},
		{"asl-debug", []string{"block", "zz"}, 2, "hex digits"},
	} {
		p, err := k.Tool(t.Context(), c.program, c.args...)
		if text := strings.Join(p.Lines, "\n"); err != nil || p.Exit != c.exit || !strings.Contains(text, c.want) {
			t.Errorf("%s %q: exit %d, %v\n%s", c.program, c.args, p.Exit, err, text)
		}
	}
}

// A face cannot have the engine restore, or run what is no command of ours.
func TestAKeeperRunsOnlyWhatChangesNothing(t *testing.T) {
	for _, args := range [][]string{{"asl-admin", "restore", "1", "--to", "/tmp/x"}, {"asl-admin"}, {"sh", "-c", "true"}, {"asl-admin", "--store", "/", "snapshots"}} {
		if p, err := (Keeper{Dir: t.TempDir()}).Tool(t.Context(), args[0], args[1:]...); !errors.Is(err, ask.ErrRefused) {
			t.Errorf("%q: %+v, %v", args, p, err)
		}
	}
}
