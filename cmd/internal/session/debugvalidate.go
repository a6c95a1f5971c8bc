package session

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"aslrescue/backends/local"
	"aslrescue/cmd/internal/report"
	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

func validateCommand() command {
	workers := 0
	return command{
		name: "validate", does: "check everything in the store, whatever it takes",
		help: "The log's chain from part 1, every segment and every block read from the medium, whether segments, blocks and log say the same, merged\n" +
			"runs against their sources, what each snapshot needs, notes, and files that are not ours. Nothing is written, not even to the log:\n" +
			"asl-admin verify records what it finds.",
		examples: []string{"asl-debug --store /mnt/asl/local validate", "asl-debug --store /mnt/asl/local validate --json"},
		flags: func(fs *flag.FlagSet) {
			fs.IntVar(&workers, "workers", 2*runtime.GOMAXPROCS(0), "`N` blocks read at a time")
		},
		run: func(ctx context.Context, c *call) report.Result {
			v := &validator{c: c, ctx: ctx, workers: workers, hurt: map[string]bool{}}
			return v.run()
		},
	}
}

// validator checks one domain's log and all objects.
type validator struct {
	c       *call
	ctx     context.Context
	workers int
	hurt    map[string]bool // objects said to be damaged
	bad     int
	remarks int
	counts  map[string]int64
	keys    writerKeys
}

func (v *validator) run() report.Result {
	began := time.Now()
	v.counts = map[string]int64{}
	v.keys = writerKeys{map[format.ID][]byte{}, map[uint64]store.LogRecord{}}
	for _, check := range []struct {
		what string
		do   func() error
	}{
		{"the log", v.log}, {"segments", v.segments}, {"merged runs", v.runs}, {"blocks", v.blocks}, {"snapshots", v.snapshots}, {"other files", v.others},
	} {
		bad := v.bad
		if err := check.do(); err != nil {
			if errors.Is(err, context.Canceled) {
				err = context.Cause(v.ctx)
			}
			return report.Result{Err: &report.Error{What: "validate " + check.what + " of " + v.c.dir, Err: err}}
		}
		word := "good"
		if v.bad > bad {
			word = event.CountOf(int64(v.bad-bad), "finding", "findings")
		}
		v.c.row("checked", map[string]any{"what": check.what, "count": v.counts[check.what], "findings": v.bad - bad}, "%-12s %10s  %s", check.what, event.Count(v.counts[check.what]), word)
	}
	fields := map[string]any{"findings": v.bad, "remarks": v.remarks, "took_s": event.Seconds(time.Since(began))}
	if v.bad > 0 {
		return report.Result{Fields: fields, Err: &report.Error{What: "validate " + v.c.dir, Err: fmt.Errorf("%s: %w", event.CountOf(int64(v.bad), "finding", "findings"), artifact.ErrDamaged)}}
	}
	return report.Result{Text: "everything is good, " + event.Duration(time.Since(began)), Fields: fields}
}

// found names what is hurt.
func (v *validator) found(object string, err error) {
	v.bad++
	v.hurt[object] = true
	known := ""
	if v.c.store.Damaged()[object] != "" {
		known = " (the log knows)"
	}
	v.c.row("damage", map[string]any{"object": object, "why": err.Error(), "known": known != ""}, "DAMAGED %s: %s%s", event.Printable(object), event.Printable(err.Error()), known)
}

// remark names what is odd and hurts nothing.
func (v *validator) remark(object, what string) {
	v.remarks++
	v.c.row("remark", map[string]any{"object": object, "what": what}, "remark  %s: %s", event.Printable(object), event.Printable(what))
}

func (v *validator) log() error {
	b, domain, last := v.c.store.Backend(), v.c.store.Domain(), uint64(0)
	m := v.c.meter("reading the log", event.Count)
	defer m.end()
	_, parts := v.c.store.Position()
	for rec, err := range store.Log(v.ctx, b, domain) {
		if err != nil {
			if !errors.Is(err, store.ErrBroken) && !isLost(err) {
				return err
			}
			v.found("logs/"+domain, err)
			break
		}
		last = rec.Part
		v.counts["the log"]++
		v.keys.add(rec)
		if _, err := decodePayload(rec.Record); err != nil && rec.Type != format.TombstoneType {
			v.remark("logs/"+domain, fmt.Sprintf("record %d of type %s: %v", rec.Seq, store.TypeName(rec.Type), err))
		}
		m.at(int64(last), int64(parts))
	}
	_, strays, err := store.PartList(v.ctx, b, domain, last)
	for _, s := range strays {
		v.found(s, errors.New("stands behind the end of the log that can be read, or is no part"))
	}
	if err != nil {
		return err
	}
	if _, read := v.c.store.Position(); v.c.store.Broken() == nil && read > last {
		v.found("logs/"+domain, fmt.Errorf("read from part 1 it ends at part %d, read from the last checkpoint at %d: %w", last, read, artifact.ErrDamaged))
	}
	return nil
}

// segments reads every segment there is, and holds those that the log names against it and their blocks.
func (v *validator) segments() error {
	seals := map[artifact.Digest]format.SegmentSeal{}
	for _, s := range v.c.store.Segments() {
		seals[s.Segment] = s.SegmentSeal
	}
	named := map[artifact.Digest]bool{}
	for id := range seals {
		named[id] = true
	}
	for _, r := range v.c.store.Runs() {
		for _, id := range r.Segments {
			named[id] = true
		}
	}
	m := v.c.meter("reading segments", event.Count)
	defer m.end()
	total := int64(len(named))
	for e, err := range v.c.store.Backend().List(v.ctx, "segments/", "") {
		if err != nil {
			return err
		}
		id, err := artifact.ParseDigest(path.Base(e.Name))
		if err != nil {
			return err
		}
		if !named[id] {
			v.remark(e.Name, "the log does not name it")
		}
		delete(named, id)
		seg, err := v.c.store.ReadSegment(v.ctx, id)
		if seal, ok := seals[id]; ok && err == nil {
			err = v.c.store.SegmentAgrees(v.ctx, seal, seg)
		}
		if err := v.judge(e.Name, err); err != nil {
			return err
		}
		v.counts["segments"]++
		m.at(v.counts["segments"], total)
	}
	for id := range named {
		v.found("segments/"+id.String(), artifact.ErrNotFound)
	}
	return nil
}

// judge makes damage a finding; other errors end the check.
func (v *validator) judge(object string, err error) error {
	if err == nil || !isLost(err) {
		return err
	}
	v.found(object, err)
	return nil
}

func (v *validator) runs() error {
	m := v.c.meter("comparing runs", event.Count)
	defer m.end()
	all := v.c.store.Runs()
	for i, r := range all {
		if r.Level > 0 {
			v.counts["merged runs"]++
			if err := v.judge("segments/"+r.Segments[0].String(), v.c.store.RunAgrees(v.ctx, i)); err != nil {
				return err
			}
		}
		m.at(int64(i+1), int64(len(all)))
	}
	return nil
}

// blocks reads every block there is, and looks for those that should be there.
func (v *validator) blocks() error {
	named := map[artifact.Digest]bool{}
	for _, id := range v.c.store.Blocks() {
		named[id] = true
	}
	for _, in := range v.c.store.Unfinished() {
		for _, b := range in.Blocks {
			named[b.ID] = true
		}
	}
	var ids []artifact.Digest
	for e, err := range v.c.store.Backend().List(v.ctx, "blocks/", "") {
		if err != nil {
			return err
		}
		id, err := artifact.ParseDigest(path.Base(e.Name))
		if err != nil {
			return err
		}
		if !named[id] {
			v.remark(e.Name, "the log does not name it: left by a writer that died, or being written")
		}
		delete(named, id)
		ids = append(ids, id)
	}
	for id := range named {
		v.found("blocks/"+id.String(), artifact.ErrNotFound)
	}
	m := v.c.meter("reading blocks", event.Bytes)
	bad, err := v.c.store.VerifyBlocks(v.ctx, ids, v.workers, func(done, total, _ int64) { m.at(done, total) })
	m.end()
	for _, b := range bad {
		v.found(b.Name, damageWhy(b.Why))
	}
	v.counts["blocks"] = int64(len(ids))
	return err
}

// snapshots walks what every snapshot needs and checks its note.
func (v *validator) snapshots() error {
	reach := store.NewReach()
	m := v.c.meter("walking snapshots", event.Count)
	defer m.end()
	all := v.c.store.Snapshots()
	for i, snap := range all {
		name := fmt.Sprintf("snapshot %d", snap.Number)
		view, err := v.c.store.At(v.ctx, snap.Number)
		if err == nil {
			err = reach.Walk(v.ctx, view, func(p store.Problem) { v.found(name, p) })
		}
		if err := v.judge(name, err); err != nil {
			return err
		}
		_, found, err := store.CheckNote(v.ctx, v.c.store.Backend(), snap, v.keys.records[snap.Seq].Hash, v.keys.keys[snap.Nonce])
		if err := v.judge(store.NoteName(snap.Domain, snap.Number), err); err != nil {
			return err
		}
		if found == store.Unsigned {
			v.remark(store.NoteName(snap.Domain, snap.Number), string(found))
		}
		v.counts["snapshots"]++
		m.at(int64(i+1), int64(len(all)))
	}
	for id := range reach.Blocks {
		if name := "blocks/" + id.String(); v.hurt[name] {
			v.remark(name, "a snapshot needs it")
		}
	}
	return nil
}

// named are the objects in snapshots/ that the log knows.
func (v *validator) named() map[string]bool {
	named := map[string]bool{}
	for _, s := range v.c.store.Snapshots() {
		named[store.NoteName(s.Domain, s.Number)] = true
		named[fmt.Sprintf("snapshots/%s/m-%s", s.Domain, s.Manifest)] = true
	}
	return named
}

// sealedSince tells whether another writer has sealed the snapshot of an object since the log was read.
func (v *validator) sealedSince(name string) bool {
	return v.c.store.Refresh(v.ctx) == nil && v.named()[name]
}

// others names what is not part of the store.
func (v *validator) others() error {
	mine := "snapshots/" + v.c.store.Domain() + "/"
	named := v.named()
	for e, err := range v.c.store.Backend().List(v.ctx, mine, "") {
		if err != nil {
			return err
		}
		switch {
		case named[e.Name]:
		case v.sealedSince(e.Name):
		case strings.HasSuffix(e.Name, ".note"): // it is written when the record is durable
			v.found(e.Name, errors.New("the log knows no such snapshot: its newest parts were removed or lost"))
		default: // it is written before the record
			v.remark(e.Name, "no snapshot names it: left by a writer that died, or what named it was removed from the end of the log")
		}
	}
	for _, name := range slices.Sorted(slices.Values(v.c.store.Backend().Info().Foreign)) {
		v.counts["other files"]++
		what := "is not ours"
		if strings.HasPrefix(path.Base(name), local.TempPrefix) {
			what = "left by a writer that died, or being written"
		}
		v.remark(name, what)
	}
	return nil
}
