package session

import (
	"os"
	"path/filepath"
	"testing"
)

// shelf makes a store with a snapshot of a tree src with a small and a larger file.
func shelf(t *testing.T) (place, src string) {
	t.Helper()
	src, place = filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "store")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(src, "small.txt"), []byte("small"))
	write(t, filepath.Join(src, "zlarge"), mix(300_000, 3))
	take(t, place, openTree(t, src))
	return place, src
}

func TestWhatIsNotThereIsNamed(t *testing.T) {
	place, _ := shelf(t)
	refused(t, 10, `"src" has no "zzz"`, Admin, "--store", place, "ls", "latest", "src/zzz")
	refused(t, 10, `"src" has no "Small.txt" (it has "small.txt")`, Admin, "--store", place, "cat", "1:src/Small.txt")
	refused(t, 10, `"src/small.txt" is no directory`, Admin, "--store", place, "ls", "1", "src/small.txt/x")
	refused(t, 10, `"src" has no "zzz"`, Admin, "--store", place, "ls", "latest", "zzz")
}

func TestNothingIsRestoredIntoTheStore(t *testing.T) {
	place, _ := shelf(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(place, "blocks"), link); err != nil {
		t.Fatal(err)
	}
	before := names(t, place)
	for _, to := range []string{place, filepath.Join(place, "back"), filepath.Join(place, "a", "b"), filepath.Join(link, "x"), link} {
		refused(t, 2, "lies inside the store", Admin, "--store", place, "restore", "latest", "--to", to, "--merge")
	}
	if after := names(t, place); len(before) != len(after) {
		t.Errorf("%d names became %d", len(before), len(after))
	}
}
