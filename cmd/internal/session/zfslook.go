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

// lookForPools looks at this machine for pools and disks, and at nothing else.
func lookForPools(ctx context.Context) (*detect.Facts, error) {
	w := LookWish(config.System())
	w.PoolsOnly, w.Patience = true, patience
	u, err := probe.Once(ctx, ThisMachine("asl-intake"), w)
	if err != nil {
		return nil, err
	}
	if u.Facts.Clock == nil { // of who looks for pools only: when they were used last is said as a time ago
		u.Facts.Clock = &detect.Clock{Now: time.Now().Unix()}
	}
	return &u.Facts, nil
}
