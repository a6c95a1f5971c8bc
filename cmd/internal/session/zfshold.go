package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"aslrescue/backends/zfs"
	"aslrescue/cmd/internal/report"
	"aslrescue/detect"
	"aslrescue/engine/approval"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
	"aslrescue/engine/vfs"
)

// stateDir is where mutable state lies that must outlive the process: RAM by default, or a stick.
const stateDir = StateDir + "/runtime"

// pools is how a program without a person at it comes to a dataset: it looks, plans, takes the consent that was given in advance, imports
// and mounts. This is the only caller of ByToken and ByConfig.
type pools struct {
	look   func(context.Context) (*detect.Facts, error)
	zfs    zfs.ZFS
	state  string           // folder in which consent waits for a store
	tokens []string         // --approve
	config []approval.Entry // approve.import
	now    func() time.Time
}

func realPools(tokens []string, config []approval.Entry) pools {
	return pools{look: lookForPools, zfs: zfs.Real(), state: stateDir, tokens: tokens, config: config, now: time.Now}
}

func (p pools) plan(ctx context.Context, u PoolUse) (PoolPlan, error) {
	f, err := p.look(ctx)
	if err != nil {
		return PoolPlan{}, &report.Error{What: "look for pools", Err: err}
	}
	plan, err := PlanPool(f, u)
	return plan, poolError(err)
}

// attach takes a dataset into use. What it returns must be let go of, whatever happens after.
func (p pools) attach(ctx context.Context, plan PoolPlan, u PoolUse) (*zfs.Attached, error) {
	if plan.Imported {
		at, err := p.zfs.Use(ctx, plan.Use)
		return at, poolError(err)
	}
	a, err := p.approved(plan)
	if err != nil {
		means := ""
		if gone := notHere(plan.Devices); gone != "" && errors.Is(err, approval.ErrVoid) {
			means = "Consent was given to something else, and nothing was done. Of the pool's disks not here: " + gone + "."
		}
		return nil, &report.Error{What: plan.Import.Sheet().What, Err: err, Means: means, Next: []string{
			"Read the plan: the same command with --dry-run prints it.", "To approve exactly that: --approve " + approval.TokenOf(plan.Import),
			"Or name the pool in asl.conf: approve.import = " + plan.Import.Pool.GUID}}
	}
	if err := p.keep(a.Record(p.now())); err != nil {
		return nil, &report.Error{What: plan.Import.Sheet().What, Err: err, Means: "Consent is written down before anything is done, and could not be: nothing was done.", Next: []string{"make room or write access for " + p.state}}
	}
	at, err := p.zfs.Attach(ctx, a, PlanAgain(p.look, u))
	return at, poolError(err)
}

// notHere names the disks of a pool that are missing, as the pool knew them.
func notHere(devices []zfs.Device) string {
	var gone []string
	for _, d := range devices {
		if d.Path == "" {
			gone = append(gone, detect.Printable(d.Was)+" ("+d.Vdev+")")
		}
	}
	return strings.Join(gone, ", ")
}

func (p pools) approved(plan PoolPlan) (approval.Approved[zfs.Import], error) {
	a, err := approval.ByToken(plan.Import, p.tokens...)
	if err == nil || errors.Is(err, approval.ErrVoid) { // a token that is void is a warning: the config must not silence it
		return a, err
	}
	b, berr := approval.ByConfig(plan.Import, p.config, plan.Namesakes)
	switch {
	case berr == nil && plan.Standing.Foreign: // as preflight decides too
		return a, fmt.Errorf("%w: the config names it, but another system used it last and did not let go of it. Whether that one still runs cannot be seen from here, so that somebody must say so by a token", approval.ErrMissing)
	case berr == nil:
		return b, nil
	case len(p.config) > 0 && len(p.tokens) == 0:
		err = berr
	}
	return a, err
}

func (p pools) keep(r format.Approval) error {
	if err := os.MkdirAll(p.state, 0o755); err != nil {
		return err
	}
	d, err := vfs.OS(p.state)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // what was kept is durable
	return approval.Keep(d, r)
}

// handOver writes consent that waits into the log of a store that was opened to write.
func handOver(ctx context.Context, state string, s *store.Store) error {
	if _, err := os.Stat(filepath.Join(state, approval.Waiting)); err != nil {
		return nil // nothing ever waited here
	}
	d, err := vfs.OS(state)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // names taken away are not what durability hangs on
	_, _, err = approval.HandOver(d, func(all []format.Approval) error { return s.ReportApprovals(ctx, all) })
	return err
}

// sheetText is a plan for people, with what to give to approve it.
func sheetText(p approval.Plan) string {
	s := p.Sheet()
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", s.What)
	for _, t := range s.Things {
		fmt.Fprintf(&b, "  %-13s%s\n", t.Kind, nameAndID(t))
	}
	for _, c := range s.Commands {
		fmt.Fprintf(&b, "  $ %s\n", approval.Line(c))
	}
	for _, c := range s.Changes {
		fmt.Fprintf(&b, "  %s\n", detect.Printable(c))
	}
	fmt.Fprintf(&b, "  Undo: %s.\n", s.Undo)
	return b.String()
}

func nameAndID(t approval.Thing) string {
	if t.Name == "" {
		return t.ID
	}
	return detect.Printable(t.Name) + " (" + t.ID + ")"
}

// sheetFields is a plan for programs.
func sheetFields(p approval.Plan) map[string]any {
	s := p.Sheet()
	var things []map[string]string
	for _, t := range s.Things {
		things = append(things, map[string]string{"kind": t.Kind, "id": t.ID, "name": t.Name})
	}
	return map[string]any{"token": approval.TokenOf(p), "what": s.What, "gate": s.Gate.String(), "things": things, "commands": s.Commands, "changes": s.Changes, "undo": s.Undo}
}

// guard catches the signals that end a program, from before the pool is touched until it is let go of: a program that simply
// ends leaves a pool imported, and its own system will not take it.
type guard struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	ch     chan os.Signal
	wg     sync.WaitGroup
}

// guarded begins to catch them; done ends it.
func guarded(parent context.Context) *guard {
	g := &guard{ch: make(chan os.Signal, 4)}
	g.ctx, g.cancel = context.WithCancelCause(parent)
	signal.Notify(g.ch, endings()...)
	g.wg.Go(func() {
		for sig := range g.ch {
			g.cancel(report.BySignal(sig.(syscall.Signal)))
		}
	})
	return g
}

func (g *guard) done() {
	signal.Stop(g.ch)
	close(g.ch)
	g.wg.Wait()
	g.cancel(nil)
}
