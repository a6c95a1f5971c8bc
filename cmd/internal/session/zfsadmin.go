package session

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"aslrescue/backends/zfs"
	"aslrescue/cmd/internal/report"
)

// attach takes the dataset that c.dir names into use, read-only unless the command writes to the log, and leaves its folder in c.dir.
func (c *call) attach(ctx context.Context, cmd *command, tokens []string) (*zfs.Attached, error) {
	dataset, _, err := zfsPlace(c.dir)
	if err != nil {
		return nil, err
	}
	if err := badToken(tokens); err != nil {
		return nil, report.Usagef("--approve: %w", err)
	}
	p := realPools(tokens, c.config.Approvals())
	u := PoolUse{Dataset: dataset, Mount: c.config.LocalMount, Domain: c.config.DomainID, ReadOnly: !cmd.writes}
	plan, err := p.plan(ctx, u)
	if err != nil {
		return nil, err
	}
	at, err := p.attach(ctx, plan, u)
	if err != nil {
		if !plan.Imported && report.CodeOf(err) == report.Approval {
			fmt.Fprint(c.std.Err, sheetText(plan.Import))
		}
		return nil, err
	}
	c.dir = at.Mount
	return at, nil
}

// localPlace is where the store lies when nobody says: at local.mount, or on the dataset that is to be mounted there and is not yet.
func localPlace(mount, dataset string) string {
	if _, err := os.Stat(filepath.Join(mount, "logs")); err != nil && dataset != "" {
		return zfsPrefix + dataset
	}
	return mount
}

func isZFSPlace(dir string) bool { return strings.HasPrefix(dir, zfsPrefix) }
