package session

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"aslrescue/backends/zfs"
	"aslrescue/cmd/internal/report"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
)

// onPool does an intake into a dataset of a pool: the pool is imported as approved, and exported at the end if this program imported it.
func (j *intakeJob) onPool(ctx context.Context) (res report.Result) {
	u := j.poolUse()
	plan, err := j.pools.plan(ctx, u)
	if err != nil {
		return report.Result{Err: err}
	}
	if err := j.outsidePool(plan); err != nil {
		return report.Result{Err: err}
	}
	g := guarded(ctx)
	defer g.done()
	j.early = g.ctx
	at, err := j.pools.attach(g.ctx, plan, u)
	if err != nil {
		r := report.Result{Err: err}
		if !plan.Imported && report.CodeOf(err) == report.Approval {
			fmt.Fprint(j.std.Err, sheetText(plan.Import))
			r.Fields = map[string]any{"approval": sheetFields(plan.Import)}
		}
		return r
	}
	defer func() {
		if err := at.Detach(); err != nil {
			res.Err = both(res.Err, poolError(err))
		} else if at.Exported() {
			j.say("the pool %s is exported", at.Pool)
		}
	}()
	j.dir = at.Mount
	if at.Imported() {
		j.say("the pool %s is imported, and %s mounted at %s: %s free", at.Pool, at.Dataset.Name, at.Mount, event.Bytes(at.Dataset.Avail))
	} else {
		j.say("%s of the pool %s, which was imported already, is at %s: %s free", at.Dataset.Name, at.Pool, at.Mount, event.Bytes(at.Dataset.Avail))
	}
	if at.Dataset.Compresses() && j.plan.Compression == string(intake.Auto) {
		j.compression = intake.None
		j.say("the dataset compresses by itself (%s): blocks are stored as they are", at.Dataset.Compression)
	}
	if g.ctx.Err() != nil {
		return report.Result{Err: context.Cause(g.ctx)}
	}
	res = j.intoStore(ctx)
	if n := j.sealed; n > 0 && j.snapshots && (res.Word == event.Complete || res.Word == event.CompleteWithGaps) {
		text, err := snapshotToo(at, j.store.Domain(), n)
		if err != nil {
			res.Err = both(res.Err, err)
		} else {
			j.say("%s", text)
		}
	}
	return res
}

// snapshotToo gives the dataset a snapshot of ZFS after a sealed one of ours, and says so.
func snapshotToo(at *zfs.Attached, domain string, n uint64) (string, error) {
	name := fmt.Sprintf("asl-%s-%010d", domain, n)
	if err := at.Snapshot(name); err != nil {
		return "", poolError(err)
	}
	return fmt.Sprintf("ZFS snapshot %s@%s", at.Dataset.Name, name), nil
}

// both keeps the first error, which decides the exit code, and says the other too.
func both(first, second error) error {
	if first == nil {
		return second
	}
	return fmt.Errorf("%w\n%w", first, second)
}

func (j *intakeJob) poolUse() PoolUse {
	return PoolUse{Dataset: strings.TrimPrefix(j.plan.Store, zfsPrefix), Mount: j.mount, Domain: j.plan.Domain}
}

// outsidePool refuses a source that the pool lies on: what is written to the store would change what is read.
func (j *intakeJob) outsidePool(plan PoolPlan) error {
	for _, s := range j.sources {
		in := s.Info()
		if in.Kind != source.Device {
			continue
		}
		var src unix.Stat_t
		if unix.Stat(in.Path, &src) != nil {
			continue
		}
		for _, d := range plan.Devices {
			path, err := filepath.EvalSymlinks(d.Path)
			var st unix.Stat_t
			if err != nil || unix.Stat(path, &st) != nil {
				continue
			}
			if onDisk(st.Rdev, src.Rdev) || onDisk(src.Rdev, st.Rdev) {
				return report.Usagef("the store %s lies on the source %s: it would take in itself. Choose a place outside the source", j.plan.Store, in.Path)
			}
		}
	}
	return nil
}

// poolDryRun is what a dry run says of the pool, as comments of the plan file.
func (j *intakeJob) poolDryRun(ctx context.Context) (text string, fields map[string]any, err error) {
	plan, err := j.pools.plan(ctx, j.poolUse())
	if err != nil {
		return "", nil, err
	}
	if err := j.outsidePool(plan); err != nil {
		return "", nil, err
	}
	if plan.Imported {
		return "The pool is imported already; it is used as it is.", map[string]any{"imported": true}, nil
	}
	how := "To approve exactly this: --approve " + sheetFields(plan.Import)["token"].(string)
	if a, err := j.pools.approved(plan); err == nil {
		by, origin := a.How()
		how = "Approved by " + strings.TrimSpace(by+" "+origin) + "."
	}
	return "Before it: " + sheetText(plan.Import) + how, sheetFields(plan.Import), nil
}
