package restore_test

import (
	"path/filepath"
	"sync"
	"testing"

	"aslrescue/engine/restore"
	"aslrescue/engine/source/sourcetest"
)

// BenchmarkImage writes and syncs 1 GiB without a zero in it, by two goroutines.
func BenchmarkImage(b *testing.B) {
	const size, piece = 1 << 30, 1 << 20
	buf := make([]byte, piece)
	sourcetest.Pattern{Seed: 1}.Fill(buf, 0)
	b.SetBytes(size)
	for b.Loop() {
		w, err := restore.Linear(filepath.Join(b.TempDir(), "img"), size, restore.Refuse)
		if err != nil {
			b.Fatal(err)
		}
		var wg sync.WaitGroup
		for part := range int64(2) {
			wg.Go(func() {
				for off := part * piece; off < size; off += 2 * piece {
					if _, err := w.WriteAt(buf, off); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if err := w.Finish(); err != nil {
			b.Fatal(err)
		}
	}
}
