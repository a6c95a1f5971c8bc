package session

import (
	"context"

	"aslrescue/cmd/internal/config"
	"aslrescue/detect"
	"aslrescue/detect/probe"
)

// lookForPools looks at this machine for pools and disks, and at nothing else.
func lookForPools(ctx context.Context) (*detect.Facts, error) {
	w := LookWish(config.System())
	w.PoolsOnly = true
	u, err := probe.Once(ctx, ThisMachine("asl-intake"), w)
	if err != nil {
		return nil, err
	}
	return &u.Facts, nil
}
