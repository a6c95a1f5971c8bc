package session

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
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

func verifyCommand() command {
	var o verifyOptions
	return command{
		name: "verify", args: "[S]", max: 1, does: "check that snapshots can be read back", writes: true, works: true,
		help: "Without --read-data the structure is checked: every object that is needed exists and has its size, every map, directory and\n" +
			"segment decodes. With it every block is read from the medium, past any cache, and every artifact is hashed. Without S all\n" +
			"snapshots are checked, and with --read-data every block of the store. What is found damaged is recorded in the log, so that\n" +
			"readers and later intakes do not rely on it; so is success.",
		examples: []string{
			"asl-admin --store /mnt/asl/local verify",
			"asl-admin --store /mnt/asl/local verify latest --read-data",
		},
		flags: func(fs *flag.FlagSet) {
			fs.BoolVar(&o.data, "read-data", false, "read every block from the medium and hash everything")
			fs.IntVar(&o.workers, "workers", 2*runtime.GOMAXPROCS(0), "`N` blocks read at a time")
		},
		run: func(ctx context.Context, c *call) report.Result {
			k := &checker{c: c, ctx: ctx, o: o}
			return k.run()
		},
	}
}

type verifyOptions struct {
	data    bool
	workers int
}

// checker verifies snapshots.
type checker struct {
	c     *call
	ctx   context.Context
	o     verifyOptions
	reach *store.Reach
	bad   []store.Problem
	bytes int64
	read  int // blocks
}

func (k *checker) run() report.Result {
	began := time.Now()
	numbers, err := k.numbers()
	if err != nil {
		return report.Result{Err: err}
	}
	k.reach = store.NewReach()
	upTo, err := k.structure(numbers)
	if err == nil {
		err = k.objects(upTo)
	}
	if err == nil && k.o.data {
		err = k.data(numbers)
	}
	if err != nil {
		if errors.Is(err, context.Canceled) {
			err = context.Cause(k.ctx)
		}
		return report.Result{Err: &report.Error{What: "verify " + k.c.dir, Err: err}}
	}
	return k.result(numbers, time.Since(began))
}

// numbers are the snapshots to check.
func (k *checker) numbers() ([]uint64, error) {
	if len(k.c.args) == 1 {
		n, err := number(k.c.args[0])
		if err != nil {
			return nil, err
		}
		all := k.c.store.Snapshots()
		if n == 0 && len(all) > 0 {
			n = all[len(all)-1].Number
		}
		if !slices.ContainsFunc(all, func(s format.SnapshotAt) bool { return s.Number == n }) {
			return nil, &report.Error{What: "verify snapshot " + k.c.args[0] + " of " + k.c.dir, Err: artifact.ErrNotFound}
		}
		return []uint64{n}, nil
	}
	var numbers []uint64
	for _, s := range k.c.store.Snapshots() {
		numbers = append(numbers, s.Number)
	}
	return numbers, nil
}

// structure walks the snapshots and gives the position of the last.
func (k *checker) structure(numbers []uint64) (upTo uint64, err error) {
	if err := k.c.store.Broken(); err != nil {
		k.found(store.Problem{Object: "the log", Err: err})
	}
	m := k.c.meter("walking", event.Count)
	defer m.end()
	for i, n := range numbers {
		v, err := k.c.store.At(k.ctx, n)
		if err != nil && !isLost(err) {
			return upTo, err
		}
		if err != nil {
			k.found(store.Problem{Object: k.manifest(n), Needs: fmt.Sprintf("snapshot %d", n), Err: err})
			continue
		}
		upTo = max(upTo, v.Snapshot.Seq)
		if err := k.reach.Walk(k.ctx, v, func(p store.Problem) {
			p.Needs = fmt.Sprintf("snapshot %d: %s", n, p.Needs)
			k.found(p)
		}); err != nil {
			return upTo, err
		}
		m.at(int64(i+1), int64(len(numbers)))
	}
	return upTo, nil
}

// manifest is the object that describes a snapshot.
func (k *checker) manifest(n uint64) string {
	for _, s := range k.c.store.Snapshots() {
		if s.Number == n {
			return fmt.Sprintf("snapshots/%s/m-%s", s.Domain, s.Manifest)
		}
	}
	return ""
}

func (k *checker) objects(upTo uint64) error {
	m := k.c.meter("checking objects", event.Count)
	defer m.end()
	return k.reach.CheckStructure(k.ctx, k.c.store, upTo, func(done, total int) { m.at(int64(done), int64(total)) }, k.found)
}

// data reads every block that is needed; where all snapshots are checked, every block there is.
func (k *checker) data(numbers []uint64) error {
	ids := k.reach.Sorted()
	all := len(k.c.args) == 0
	if all {
		ids = k.c.store.Blocks()
	}
	m := k.c.meter("reading", event.Bytes)
	bad, err := k.c.store.VerifyBlocks(k.ctx, ids, k.o.workers, func(done, total, _ int64) { k.bytes = max(k.bytes, total); m.at(done, total) })
	m.end()
	k.read = len(ids)
	for _, b := range bad {
		if !slices.ContainsFunc(k.bad, func(p store.Problem) bool { return p.Object == b.Name }) {
			k.found(store.Problem{Object: b.Name, Err: damageWhy(b.Why)})
		}
	}
	if err != nil || len(k.bad) > 0 || len(ids) == 0 {
		return err
	}
	done := format.Verified{All: all, Blocks: len(ids), Bytes: k.bytes, Clock: time.Now().Unix()}
	if !all {
		done.Snapshot = numbers[0]
	}
	_, err = k.c.record(k.c.store.ReportVerified(k.ctx, done))
	return err
}

// record lets pass that a store that cannot be written to keeps no record of a finding.
func (c *call) record(err error) (kept bool, _ error) {
	if errors.Is(err, artifact.ErrReadOnly) || errors.Is(err, artifact.ErrFull) {
		c.say("the finding is not recorded in the log: %v", err)
		return false, nil
	}
	return err == nil, err
}

// damageWhy is a finding that is told in words.
type damageWhy string

func (d damageWhy) Error() string        { return string(d) }
func (d damageWhy) Is(target error) bool { return target == artifact.ErrDamaged }

func (k *checker) found(p store.Problem) {
	k.bad = append(k.bad, p)
	k.c.row("damage", map[string]any{"object": p.Object, "needs": p.Needs, "why": p.Err.Error()}, "DAMAGED %s", event.Printable(p.Error()))
}

func (k *checker) result(numbers []uint64, took time.Duration) report.Result {
	var objects []format.DamagedObject
	for _, p := range k.bad {
		if store.CheckName(p.Object) == nil {
			objects = append(objects, format.DamagedObject{Name: p.Object, Why: p.Err.Error()})
		}
	}
	fields := map[string]any{"snapshots": numbers, "blocks": len(k.reach.Blocks), "artifacts": k.reach.Artifacts, "blocks_read": k.read, "bytes_read": k.bytes, "damaged": len(k.bad), "took_s": event.Seconds(took)}
	if len(k.bad) == 0 {
		text := fmt.Sprintf("good: %s, %s in %s", event.CountOf(int64(len(numbers)), "snapshot", "snapshots"), event.CountOf(k.reach.Artifacts, "artifact", "artifacts"), event.CountOf(int64(len(k.reach.Blocks)), "block", "blocks"))
		if k.o.data {
			text += fmt.Sprintf("; %s in %s read from the medium", event.Bytes(k.bytes), event.CountOf(int64(k.read), "block", "blocks"))
		} else {
			text += "; the data was not read, --read-data does that"
		}
		text += ", " + event.Duration(took)
		if n := len(k.c.store.Damaged()); n > 0 && len(k.c.args) == 0 {
			fields["damaged_before"] = n
			text += fmt.Sprintf("\n%s: %s before, and no snapshot needs that any more", k.wholeText(numbers), event.CountOf(int64(n), "object was found damaged", "objects were found damaged"))
		}
		return report.Result{Text: text, Fields: fields}
	}
	if k.healed() {
		fields["snapshots_whole"] = true
		k.c.text("%s", k.wholeText(numbers)+": no snapshot needs what is damaged, its content is stored anew")
	}
	_, err := k.c.record(k.c.store.ReportDamage(k.ctx, objects))
	return report.Result{Fields: fields, Err: errors.Join(&report.Error{What: "verify " + k.c.dir,
		Err: fmt.Errorf("%s: %w", event.CountOf(int64(len(k.bad)), "finding", "findings"), artifact.ErrDamaged)}, err)}
}

// healed tells whether no snapshot needs anything of what is damaged.
func (k *checker) healed() bool {
	for _, p := range k.bad {
		d, err := artifact.ParseDigest(strings.TrimPrefix(p.Object, "blocks/"))
		if _, needed := k.reach.Blocks[d]; err != nil || needed || p.Needs != "" {
			return false
		}
	}
	return true
}

func (k *checker) wholeText(numbers []uint64) string {
	if len(numbers) == 1 {
		return fmt.Sprintf("snapshot %d is whole", numbers[0])
	}
	return fmt.Sprintf("all %d snapshots are whole", len(numbers))
}

func gcCommand() command {
	return command{
		name: "gc", args: "check", min: 1, max: 1, does: "say what nothing needs, and why the rest stays",
		help: "A dry run: it deletes nothing. What another process is just writing looks like something left behind, so look at a quiet store.",
		examples: []string{
			"asl-admin --store /mnt/asl/local gc check",
			"asl-admin --store /mnt/asl/local gc check --json",
		},
		run: runGC,
	}
}

// heap is objects of one kind and use.
type heap struct {
	count int
	bytes int64
}

func runGC(ctx context.Context, c *call) report.Result {
	if c.args[0] != "check" {
		return report.Result{Err: report.Usagef("gc %s: gc check is all there is; it deletes nothing", c.args[0])}
	}
	heaps, err := c.gc(ctx)
	if err != nil {
		return report.Result{Err: &report.Error{What: "gc check of " + c.dir, Err: err}}
	}
	why := map[store.Use]string{
		store.UseLog: "is the log", store.UseSnapshot: "is needed by snapshots", store.UseUnfinished: "lets an unfinished intake go on",
		store.UseIndex: "says where artifacts lie", store.UseNothing: "is sealed, but no snapshot needs it", store.UseOrphan: "is not named by the log",
	}
	free := heap{}
	keys := make([]heapKey, 0, len(heaps))
	for k := range heaps {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b heapKey) int { return cmp.Or(cmp.Compare(a.use, b.use), cmp.Compare(a.kind, b.kind)) })
	for _, k := range keys {
		h, word := heaps[k], "stays"
		if k.loose() {
			word = "LOOSE"
			free.count, free.bytes = free.count+h.count, free.bytes+h.bytes
		}
		c.row("use", map[string]any{"kind": k.kind, "use": k.use, "objects": h.count, "bytes": h.bytes, "loose": k.loose()}, "%s  %10s in %9s of %-9s %s", word, event.Bytes(h.bytes), event.CountOf(int64(h.count), "object", "objects"), k.kind, or(why[k.use], "is not ours"))
	}
	return report.Result{Text: fmt.Sprintf("nothing needs %s in %s; nothing was deleted", event.Bytes(free.bytes), event.CountOf(int64(free.count), "object", "objects")),
		Fields: map[string]any{"loose_objects": free.count, "loose_bytes": free.bytes}}
}

type heapKey struct {
	kind string // blocks, segments, snapshots, logs, leftovers
	use  store.Use
}

func (k heapKey) loose() bool {
	return k.use == store.UseNothing || k.use == store.UseOrphan
}

// gc sorts everything in the store by what needs it, and lists what nothing does.
func (c *call) gc(ctx context.Context) (map[heapKey]heap, error) {
	b := c.store.Backend()
	domains, err := store.Domains(ctx, b)
	if err != nil {
		return nil, err
	}
	reach := store.NewReach()
	var stores []*store.Store
	for _, d := range domains {
		s, err := store.Open(ctx, b, store.Options{Domain: d, Tool: Tool(c.program)})
		if err == nil {
			err = s.Broken()
		}
		if err != nil { // what the rest of the log names would look loose
			return nil, fmt.Errorf("domain %s: %w", d, err)
		}
		if err := reachAll(ctx, s, reach); err != nil {
			return nil, fmt.Errorf("domain %s: %w", d, err)
		}
		stores = append(stores, s)
	}
	heaps := map[heapKey]heap{}
	add := func(kind string, use store.Use, name string, size int64) {
		k := heapKey{kind, use}
		heaps[k] = heap{heaps[k].count + 1, heaps[k].bytes + size}
		if k.loose() {
			c.row("loose", map[string]any{"name": name, "size": size, "use": use}, "loose  %s  %s", name, event.Bytes(size))
		}
	}
	err = store.Uses(ctx, b, stores, reach, func(o store.ObjectUse) error {
		kind, _, _ := strings.Cut(o.Name, "/")
		add(kind, o.Use, o.Name, o.Size)
		return nil
	})
	for _, name := range b.Info().Foreign {
		size := int64(0)
		if st, err := os.Lstat(filepath.Join(c.dir, name)); err == nil {
			size = st.Size()
		}
		use := store.Use("foreign")
		if strings.HasPrefix(path.Base(name), local.TempPrefix) {
			use = store.UseOrphan
		}
		add("leftovers", use, name, size)
	}
	return heaps, err
}

// reachAll collects what the snapshots of a store need. Damage makes nothing loose: then it is an error.
func reachAll(ctx context.Context, s *store.Store, reach *store.Reach) error {
	var hurt error
	for _, snap := range s.Snapshots() {
		v, err := s.At(ctx, snap.Number)
		if err != nil {
			return err
		}
		if err := reach.Walk(ctx, v, func(p store.Problem) { hurt = errors.Join(hurt, p) }); err != nil {
			return err
		}
		if hurt != nil {
			return fmt.Errorf("snapshot %d is hurt, so what it needs cannot be told: %w", snap.Number, hurt)
		}
	}
	return nil
}
