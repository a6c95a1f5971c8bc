package intake

import (
	"testing"

	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// TestDisksCountAsMemory: what the processes take that read disks is part of the budget, and no disk goes without one for long.
func TestDisksCountAsMemory(t *testing.T) {
	const super = 16 << 20
	for _, budget := range []int64{MinBudget, 128 << 20, DefaultBudget, 1 << 30} {
		for _, compress := range []bool{false, true} {
			for disks := range 20 {
				r, err := divide(budget, 2, super, compress, true, disks)
				if err != nil {
					t.Fatalf("%d MiB, %d disks: %v", budget>>20, disks, err)
				}
				used := int64(r.slots+r.arenas)*super + int64(r.blocks)*format.BlockSizeMax + int64(r.readers)*int64(readerSize(compress)) +
					int64(r.disks)*(source.ReaderOwn+int64(r.ring)*source.RingSlot)
				switch {
				case used > budget-(40<<20):
					t.Errorf("%d MiB, %d disks: %+v takes %d MiB", budget>>20, disks, r, used>>20)
				case (r.disks > 0) != (disks > 0) || r.disks > disks || r.disks > max(1, r.slots-1):
					t.Errorf("%d MiB, %d disks: %+v", budget>>20, disks, r)
				case disks > 0 && (r.ring < source.RingMin || r.ring > source.RingMax):
					t.Errorf("%d MiB, %d disks: %+v", budget>>20, disks, r)
				}
				if budget == DefaultBudget && disks >= 3 && r.disks < 3 {
					t.Errorf("of %d disks %d are read at a time", disks, r.disks)
				}
			}
		}
	}
}
