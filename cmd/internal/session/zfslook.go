package session

import (
	"context"
	"time"

	"aslrescue/cmd/internal/config"
	"aslrescue/detect"
	"aslrescue/detect/probe"
)

// patience is how long a disk may take to answer when a pool is planned: the time that the kernel gives it. A disk that comes too late would
// look like one that was pulled.
const patience = 30 * time.Second

// looks is how often is looked where what was seen does not fit together: after an export udev reads the partition tables anew, and for a
// moment the partitions that the pool lies on are not there.
const looks = 4

// lookForPools looks at this machine for pools and disks, and at nothing else.
func lookForPools(ctx context.Context) (*detect.Facts, error) {
	w := LookWish(config.System())
	w.PoolsOnly, w.Patience = true, patience
	var f *detect.Facts
	for n := range looks {
		u, err := probe.Once(ctx, ThisMachine("asl-intake"), w)
		if err != nil {
			return nil, err
		}
		if f = &u.Facts; f.Clock == nil { // of who looks for pools only: when they were used last is said as a time ago
			f.Clock = &detect.Clock{Now: time.Now().Unix()}
		}
		if n == looks-1 || fits(f) {
			break
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return f, nil
}

// fits tells whether each pool that zpool lists was seen on disks too, and as many of them as zpool sees.
func fits(f *detect.Facts) bool {
	for i := range f.Pools {
		p := &f.Pools[i]
		if p.Listed == nil || p.Imported != nil {
			continue
		}
		if p.Labels == nil || p.Listed.State == "ONLINE" && p.Labels.Health != "ONLINE" {
			return false
		}
	}
	return true
}
