package session

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/store/format"
)

func mergeCommand() command {
	var o mergeOptions
	return command{
		name: "merge", args: "S1[:SOURCE] S2[:SOURCE] ...", min: 2, max: -1, does: "make one snapshot of several that each read other parts of a disk", writes: true, works: true,
		help: "Every byte comes from a snapshot that holds it. No data is copied: the new snapshot is a map over what the store holds already.\n" +
			"Where two of them hold different bytes for one place, the merge is refused and says where; --prefer takes those of one of them,\n" +
			"and the new snapshot says so; --unstable takes none: the place is a gap, and what each of them holds is kept. What none of them holds stays a gap.",
		examples: []string{
			"asl-admin --store /mnt/asl/local merge 3 4",
			"asl-admin --store /mnt/asl/local merge 3:sda 4:sdb 7 --label \"three rescues\"",
			"asl-admin --store /mnt/asl/local merge 3 4 --prefer 4",
		},
		flags: func(fs *flag.FlagSet) {
			fs.StringVar(&o.label, "label", "", "`TEXT` to find the new snapshot by")
			fs.StringVar(&o.prefer, "prefer", "", "`S` whose bytes are taken where two hold different ones")
			fs.BoolVar(&o.unstable, "unstable", false, "take nobody's bytes where two hold different ones: the place counts as unstable, and what each read is kept")
			fs.BoolVar(&o.different, "different", false, "merge also what does not call itself the same disk, such as two image files of it")
		},
		run: func(ctx context.Context, c *call) report.Result { return runMerge(ctx, c, o) },
	}
}

type mergeOptions struct {
	label, prefer string
	different     bool
	unstable      bool
}

func runMerge(ctx context.Context, c *call, o mergeOptions) report.Result {
	parts, err := c.parts(ctx, c.args)
	if err != nil {
		return report.Result{Err: err}
	}
	m := c.meter("comparing", event.Bytes)
	mo := intake.MergeOptions{ID: intake.NewID(), Label: o.label, Different: o.different, Unstable: o.unstable, Progress: m.at}
	claim, err := net.Listen("unix", claimName(c.store.ID(), mo.ID))
	if err != nil {
		return report.Result{Err: err}
	}
	defer func() { _ = claim.Close() }() // the process's end gives it back too
	ended, err := intake.EndMerges(ctx, c.store, func(id format.ID) bool {
		l, err := net.Listen("unix", claimName(c.store.ID(), id))
		if err == nil {
			_ = l.Close() // it was only asked whether somebody has it
		}
		return err == nil
	}, time.Now().Unix())
	if err != nil {
		return report.Result{Err: &report.Error{What: "merge snapshots " + strings.Join(c.args, " and "), Err: err}}
	}
	if ended > 0 {
		c.text("%s that was interrupted is ended; it left nothing visible", event.CountOf(int64(ended), "merge", "merges"))
	}
	if o.prefer != "" && o.unstable {
		return report.Result{Err: report.Usagef("merge --prefer and --unstable contradict each other")}
	}
	if o.prefer != "" {
		if mo.Prefer = slices.Index(c.args, o.prefer) + 1; mo.Prefer == 0 {
			return report.Result{Err: report.Usagef("merge --prefer %s: it is none of %s", o.prefer, strings.Join(c.args, ", "))}
		}
	}
	out, err := intake.Merge(ctx, c.store, parts, mo)
	m.end()
	if errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	if out != nil {
		for _, k := range out.Conflicts {
			c.row("conflict", map[string]any{"off": k.Off, "len": k.Len, "a": k.A.String(), "b": k.B.String()}, "DIFFERENT %s at %d: %s and %s hold other bytes", event.Bytes(k.Len), k.Off, k.A, k.B)
		}
		if more := out.Places - len(out.Conflicts); more > 0 {
			c.text("and %s more", event.CountOf(int64(more), "place", "places"))
		}
	}
	if err != nil {
		return report.Result{Err: mergeError(c, out, err)}
	}
	return c.merged(parts, out)
}

func mergeError(c *call, out *intake.Merged, err error) error {
	e := &report.Error{What: "merge snapshots " + strings.Join(c.args, " and "), Err: err}
	switch {
	case errors.Is(err, intake.ErrConflict):
		e.Err = fmt.Errorf("%s in %s differ: %w", event.Bytes(out.Differing), event.CountOf(int64(out.Places), "place", "places"), err)
		e.Code, e.Means = report.Mismatch, "Which of them is right, no program can tell: the disk changed between the rescues, or one of them read badly. Nothing was written."
		e.Next = []string{"read those places a third time, if the disk still can", "say whose bytes to take: --prefer " + c.args[0] + "; the new snapshot will say where", "or nobody's: --unstable keeps what each holds, and the place counts as a gap"}
	case errors.Is(err, intake.ErrOther):
		e.Code, e.Means = report.Usage, "Nothing was written."
		e.Next = []string{"asl-admin --store " + typed(c.dir) + " show S tells what a snapshot was taken of"}
		if !strings.Contains(err.Error(), " bytes, ") {
			e.Next = append(e.Next, "if it is the same disk all the same, as with two image files of it: --different")
		}
	}
	return e
}

func (c *call) merged(parts []intake.Part, out *intake.Merged) report.Result {
	src := &out.Manifest.Sources[0]
	var from []map[string]any
	var text strings.Builder
	fmt.Fprintf(&text, "%s: snapshot %d of domain %s holds %s of %s", out.Manifest.Result, out.Snapshot.Number, out.Snapshot.Domain, event.Bytes(src.Counts.Data+src.Counts.Zero), event.Bytes(src.Length))
	if lost := src.Counts.Unreadable + src.Counts.Untried; lost > 0 {
		fmt.Fprintf(&text, "; %s missing in %s", event.Bytes(lost), event.CountOf(src.GapsAll, "place", "places"))
	}
	for i, p := range parts {
		fmt.Fprintf(&text, "\n  from     %s: %s", p, event.Bytes(out.Gained[i]))
		from = append(from, map[string]any{"part": p.String(), "bytes": out.Gained[i]})
	}
	fmt.Fprintf(&text, "\n  stored   %s of maps", event.Bytes(out.Stored-out.Cut))
	if out.Cut > 0 {
		fmt.Fprintf(&text, ", and %s of chunks that were wanted in part", event.Bytes(out.Cut))
	}
	fmt.Fprintf(&text, "\n  next     asl-admin --store %s show %d", typed(c.dir), out.Snapshot.Number)
	return report.Result{Word: event.Result(out.Manifest.Result), Text: text.String(), Fields: map[string]any{"snapshot": out.Snapshot.Number, "manifest": out.Snapshot.Manifest.String(),
		"from": from, "totals": src.Counts, "gaps": src.GapsAll, "stored": out.Stored, "cut": out.Cut, "conflicts": out.Places, "differing": out.Differing}}
}

// parts finds what S[:SOURCE] names, each a linear source. Where a snapshot has several and none is named, it is the one that is the same disk as
// the first part.
func (c *call) parts(ctx context.Context, args []string) ([]intake.Part, error) {
	var parts []intake.Part
	for _, arg := range args {
		snapshot, path := splitTarget(arg)
		v, err := c.view(ctx, snapshot)
		if err != nil {
			return nil, err
		}
		if path == "" && len(v.Manifest.Sources) > 1 && len(parts) > 0 {
			if i := slices.IndexFunc(v.Manifest.Sources, func(s format.SourceResult) bool { return s.ID == parts[0].Source.ID }); i >= 0 {
				parts = append(parts, intake.Part{View: v, Source: &v.Manifest.Sources[i]})
				continue
			}
		}
		src, err := c.linear(ctx, arg)
		if err != nil {
			return nil, err
		}
		parts = append(parts, src)
	}
	return parts, nil
}

// linear finds the one linear source that S[:SOURCE] names.
func (c *call) linear(ctx context.Context, arg string) (intake.Part, error) {
	snapshot, path := splitTarget(arg)
	v, err := c.view(ctx, snapshot)
	if err != nil {
		return intake.Part{}, err
	}
	p, err := c.find(ctx, v, path)
	switch {
	case err != nil:
		return intake.Part{}, err
	case p.src == nil:
		return intake.Part{}, report.Usagef("snapshot %s has several sources (%s): say which, as %s:SOURCE", snapshot, sourcesText(v.Manifest), snapshot)
	case p.src.Root == nil:
		return intake.Part{}, report.Usagef("%s is a tree: this works on disks, images and streams", arg)
	}
	return intake.Part{View: v, Source: p.src}, nil
}
