package session

import (
	"context"
	"errors"

	"aslrescue/detect"
)

// lookForPools looks at this machine for pools and disks, and at nothing else.
func lookForPools(ctx context.Context) (*detect.Facts, error) {
	return nil, errors.New("this build does not look at machines")
}
