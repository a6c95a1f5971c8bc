package intake_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"aslrescue/backends/local"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/store"
	"aslrescue/engine/vfs"
)

// A snapshot must not lean on a block that is gone or cut: what it held is stored again while the source is there.
func TestLostBlocksAreStoredAgain(t *testing.T) {
	for name, hurt := range map[string]func(string) error{
		"removed": os.Remove,
		"cut":     func(f string) error { return os.Truncate(f, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, dir := context.Background(), t.TempDir()
			medium := func() vfs.FS {
				fsys, err := vfs.OS(dir)
				if err != nil {
					t.Fatal(err)
				}
				return fsys
			}
			b, err := local.CreatePath(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := store.Create(ctx, b, store.Options{Domain: domain}); err != nil {
				t.Fatal(err)
			}
			w := onlyImages("lost", mixed(1, 200_000))
			mustTake := func() *intake.Report {
				rep, err := oneIntake(ctx, medium(), w, hasty(intake.None))
				if err != nil || rep.Result != event.Complete {
					t.Fatalf("%+v %v", rep, err)
				}
				return rep
			}
			mustTake()
			blocks, err := filepath.Glob(filepath.Join(dir, "blocks/*/*"))
			if err != nil || len(blocks) == 0 {
				t.Fatalf("%v %v", blocks, err)
			}
			for _, b := range blocks {
				if err := hurt(b); err != nil {
					t.Fatal(err)
				}
			}
			if rep := mustTake(); rep.Blocks == 0 {
				t.Fatal("nothing was stored again")
			}
			s, err := openStore(medium())
			if err != nil {
				t.Fatal(err)
			}
			if err := readsBack(ctx, s, 2, w); err != nil {
				t.Fatal(err)
			}
		})
	}
}
