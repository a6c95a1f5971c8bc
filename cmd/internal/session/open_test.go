package session

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"aslrescue/cmd/internal/report"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		all = append(all, p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAbsentAndEmptyFoldersBecomeStores(t *testing.T) {
	ctx := context.Background()
	for _, dir := range []string{filepath.Join(t.TempDir(), "absent"), t.TempDir()} {
		if _, err := OpenStore(ctx, dir, "", "t"); report.CodeOf(err) != report.NoStore {
			t.Errorf("open before: %v, want code 10", err)
		}
		a, err := CreateOrOpenStore(ctx, dir, "", "t")
		if err != nil {
			t.Fatal(err)
		}
		b, err := CreateOrOpenStore(ctx, dir, "", "t")
		if err != nil {
			t.Fatal(err)
		}
		c, err := ReadStore(ctx, dir, DefaultDomain, "t")
		if err != nil {
			t.Fatal(err)
		}
		if a.ID() != b.ID() || a.ID() != c.ID() || a.Domain() != DefaultDomain {
			t.Errorf("not one store: %x %x %x of %q", a.ID(), b.ID(), c.ID(), a.Domain())
		}
		if _, err := ReadStore(ctx, dir, "other", "t"); report.CodeOf(err) != report.NoStore {
			t.Errorf("another domain: %v, want code 10", err)
		}
		for _, s := range []interface{ Close() error }{a.Backend(), b.Backend(), c.Backend()} {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestForeignContentIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "holiday.jpg"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	if _, err := CreateOrOpenStore(context.Background(), dir, "", "t"); report.CodeOf(err) != report.NoStore {
		t.Errorf("create: %v, want code 10", err)
	}
	if _, err := OpenStore(context.Background(), dir, "", "t"); report.CodeOf(err) != report.NoStore {
		t.Errorf("open: %v, want code 10", err)
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("the folder changed from %q to %q", before, after)
	}
}
