package session

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/report"
	"aslrescue/engine/event"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// Admin is the program asl-admin. It returns the exit code.
func Admin(ctx context.Context, args []string, std IO) int {
	p := program{
		name:  "asl-admin",
		about: "asl-admin lists, compares, verifies and restores what a store holds.",
		commands: []command{
			snapshotsCommand(), showCommand(), lsCommand(), catCommand(), diffCommand(), verifyCommand(), restoreCommand(), mergeCommand(), digestCommand(), mapfileCommand(), reportCommand(), gcCommand(), configCommand(),
		},
	}
	return p.main(ctx, args, std)
}

func snapshotsCommand() command {
	return command{
		name: "snapshots", does: "list the snapshots of the store",
		examples: []string{"asl-admin --store /mnt/asl/local snapshots", "asl-admin --store /mnt/asl/local snapshots --json"},
		run:      runSnapshots,
	}
}

func runSnapshots(ctx context.Context, c *call) report.Result {
	snaps := c.store.Snapshots()
	if len(snaps) > 0 {
		c.text("%6s  %-17s %-18s %10s %10s  %s", "NUMBER", "ENDED (BY CLOCK)", "RESULT", "SIZE", "STORED", "SOURCES AND LABEL")
	}
	var failed error
	for _, snap := range snaps {
		v, err := c.store.At(ctx, snap.Number)
		if err != nil {
			failed = &report.Error{What: fmt.Sprintf("read the manifest of snapshot %d", snap.Number), Err: err}
			c.row("snapshot", map[string]any{"number": snap.Number, "domain": snap.Domain, "result": snap.Result, "label": snap.Label, "error": err.Error()},
				"%6d  manifest: %s", snap.Number, event.Printable(err.Error()))
			continue
		}
		m := v.Manifest
		c.row("snapshot", snapshotFields(v), "%6d  %-17s %-18s %10s %10s  %s", snap.Number, clock(m.Ended), m.Result, event.Bytes(lengthOf(m)), event.Bytes(m.Totals.Stored), sourcesText(m))
	}
	for _, in := range c.store.Unfinished() {
		c.row("unfinished", map[string]any{"intake": fmt.Sprintf("%x", in.Begin.Intake), "label": in.Begin.Label, "acknowledged": acknowledged(in), "began": in.Begin.Clock},
			"     -  %-17s %-18s %10s %10s  %s", clock(in.Begin.Clock), "unfinished", "", event.Bytes(acknowledged(in)), beginText(in.Begin))
	}
	if len(snaps) == 0 && c.store.Broken() != nil {
		c.text("no snapshot can be seen before the place where the log is damaged")
	} else if len(snaps) == 0 && failed == nil {
		c.text("there is no snapshot yet")
	}
	return report.Result{Fields: map[string]any{"snapshots": len(snaps)}, Err: failed}
}

// row prints one thing of a list.
func (c *call) row(kind string, fields any, format string, args ...any) {
	c.pr.Row(kind, strings.TrimRight(fmt.Sprintf(format, args...), " "), fields)
}

// text prints a line that only people want.
func (c *call) text(format string, args ...any) {
	if !c.json {
		c.pr.Row("text", strings.TrimRight(fmt.Sprintf(format, args...), " "), struct{}{})
	}
}

func clock(seconds int64) string { return time.Unix(seconds, 0).UTC().Format("2006-01-02 15:04Z") }

func lengthOf(m *format.Manifest) int64 {
	n := int64(0)
	for _, s := range m.Sources {
		n += s.Length
	}
	return n
}

func sourcesText(m *format.Manifest) string {
	var names []string
	for _, s := range m.Sources {
		names = append(names, event.Printable(s.Name))
	}
	return labelled(names, m.Label)
}

func beginText(b format.IntakeBegin) string {
	var names []string
	for _, s := range b.Sources {
		names = append(names, event.Printable(s.Name))
	}
	return labelled(names, b.Label)
}

func labelled(names []string, label string) string {
	s := strings.Join(names, ", ")
	if label != "" {
		s += "  \"" + event.Printable(label) + "\""
	}
	return s
}

func snapshotFields(v *store.View) map[string]any {
	m := v.Manifest
	var names []string
	for _, s := range m.Sources {
		names = append(names, s.Name)
	}
	return map[string]any{"number": v.Snapshot.Number, "domain": v.Snapshot.Domain, "position": v.Snapshot.Seq, "manifest": v.Snapshot.Manifest.String(), "intake": fmt.Sprintf("%x", m.Intake),
		"parent": m.Parent, "label": m.Label, "result": m.Result, "sources": names, "length": lengthOf(m), "began": m.Began, "ended": m.Ended, "totals": m.Totals}
}

func showCommand() command {
	return command{
		name: "show", args: "S", min: 1, max: 1, does: "show all that is known of a snapshot",
		help:     "Sources, sizes, what could not be read, what changed while it was read, and when it was read back and found good.",
		examples: []string{"asl-admin --store /mnt/asl/local show latest", "asl-admin --store /mnt/asl/local show 3 --json"},
		run:      runShow,
	}
}

func runShow(ctx context.Context, c *call) report.Result {
	v, err := c.view(ctx, c.args[0])
	if err != nil {
		return report.Result{Err: err}
	}
	m := v.Manifest
	fields := snapshotFields(v)
	fields["codec"], fields["chunk"], fields["resumed"], fields["tool"], fields["base"] = m.Codec.Mode, m.Chunk, m.Resumed, m.Tool, m.Base
	if len(m.Merged) > 0 {
		fields["merged"] = m.Merged
	}
	c.row("snapshot", fields, "snapshot %d of domain %s: %s", v.Snapshot.Number, v.Snapshot.Domain, m.Result)
	if m.Label != "" {
		c.text("  label      %s", event.Printable(m.Label))
	}
	c.text("  taken      %s to %s, by a clock nobody checked", clock(m.Began), clock(m.Ended))
	c.text("  by         %s, compression %s%s", event.Printable(m.Tool), m.Codec.Mode, resumedText(m.Resumed))
	c.text("  intake     %x", m.Intake)
	if len(m.Merged) > 0 {
		c.text("  merged     of the snapshots %s", strings.Trim(fmt.Sprint(m.Merged), "[]"))
	}
	c.text("  manifest   %s", v.Snapshot.Manifest)
	c.text("  log        sealed at record %d, based on record %d", v.Snapshot.Seq, m.Base)
	c.text("  bytes      %s data, %s zeros, %s new, %s known; %s of blocks", event.Bytes(m.Totals.Data), event.Bytes(m.Totals.Zero), event.Bytes(m.Totals.New), event.Bytes(m.Totals.Known), event.Bytes(m.Totals.Stored))
	for i := range m.Sources {
		c.showSource(&m.Sources[i])
		c.showTouched(ctx, v, &m.Sources[i])
	}
	c.showDigests(v)
	c.showVerified(v)
	return report.Result{}
}

func resumedText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", went on %s after it was interrupted", event.CountOf(int64(n), "time", "times"))
}

func (c *call) showSource(r *format.SourceResult) {
	fields := map[string]any{"name": r.Name, "kind": r.Kind, "path": string(r.Path), "id": r.ID, "model": r.Model, "serial": r.Serial, "length": r.Length, "counts": r.Counts,
		"whole": r.Whole(), "left": r.Left, "gaps": r.GapsAll, "errors": r.Errors, "changed": r.Changed}
	root := ""
	switch {
	case r.Root != nil:
		root = r.Root.String()
	case r.Top != nil && r.Top.Dir != nil:
		root = r.Top.Dir.String()
	}
	fields["root"] = root
	size := event.Bytes(r.Length)
	if r.Top != nil {
		size += ", " + event.CountOf(r.Counts.Files, "entry", "entries")
	}
	c.row("source", fields, "  source     %s: %s %s, %s", event.Printable(r.Name), r.Kind, event.Printable(string(r.Path)), size)
	if id := strings.TrimSpace(r.Model + " " + r.Serial); id != "" {
		c.text("             %s", event.Printable(id))
	}
	c.text("             root %s", or(root, "none: the directory is empty"))
	if l := r.Left; l != nil {
		c.text("             BY CHOICE %s in %s left out: %s", event.Bytes(l.Bytes), event.CountOf(l.Places, "place", "places"), event.Printable(l.Why))
	}
	for _, g := range r.Gaps {
		where := ""
		if len(g.Path) > 0 {
			where = event.Printable(string(g.Path)) + ": "
		}
		why := ""
		if g.Why != "" {
			why = ": " + event.Printable(g.Why)
		}
		c.row("gap", map[string]any{"source": r.Name, "path": string(g.Path), "off": g.Off, "len": g.Len, "kind": g.Kind, "why": g.Why},
			"             MISSING %s%s %s at %d%s", where, event.Bytes(g.Len), g.Kind, g.Off, why)
	}
	if more := r.GapsAll - int64(len(r.Gaps)); more > 0 {
		c.text("             and %s more; the maps hold all of them", event.CountOf(more, "gap", "gaps"))
	}
	for _, e := range r.Errors {
		c.text("             NOT READ %s", event.Printable(e))
	}
	for _, e := range r.Changed {
		c.text("             CHANGED %s", event.Printable(e))
	}
}

// showVerified says which verifications cover all of a snapshot.
func (c *call) showVerified(v *store.View) {
	all := c.store.Verifications()
	i := slices.IndexFunc(all, func(x format.VerifiedAt) bool {
		return x.Seq > v.Snapshot.Seq && (x.All || x.Snapshot == v.Snapshot.Number || x.Intake == v.Snapshot.Intake)
	})
	if i < 0 {
		c.text("  verified   never: asl-admin --store %s verify %d --read-data does it", typed(c.dir), v.Snapshot.Number)
		return
	}
	for _, x := range all[i:] {
		what := ""
		switch {
		case x.Seq <= v.Snapshot.Seq:
			continue
		case x.All:
			what = "all blocks of the store"
		case x.Snapshot == v.Snapshot.Number:
			what = "all blocks it needs"
		case x.Intake == v.Snapshot.Intake:
			what = "the blocks that its intake stored"
		default:
			continue
		}
		c.row("verified", map[string]any{"clock": x.Clock, "covers": what, "blocks": x.Blocks, "bytes": x.Bytes}, "  verified   %s: %s, %s in %s", clock(x.Clock), what, event.Bytes(x.Bytes), event.CountOf(int64(x.Blocks), "block", "blocks"))
	}
}

func configCommand() command {
	return command{
		name: "config", does: "print the configuration and where each value comes from", bare: true,
		help: `Later beats earlier: default, files in /etc/asl, kernel command line (asl.KEY=VALUE), flag. Peers of federation.conf follow.
If something is wrong it says where, shows what holds instead, and ends with code 2.`,
		examples: []string{"asl-admin config", "asl-admin config --config ./etc/asl", "asl-admin config --json"},
		run:      runConfig,
	}
}

func runConfig(_ context.Context, c *call) report.Result {
	for _, s := range c.config.Settings() {
		c.row("setting", s, "%-22s = %-30s # %s", s.Key, event.Printable(s.Value), event.Printable(s.Origin))
	}
	wrong := config.Mistakes(c.mistakes)
	for _, m := range wrong {
		if c.json { // for people they were said already
			c.row("mistake", map[string]any{"file": m.File, "line": m.Line, "column": m.Col, "key": m.Key, "error": m.Err.Error()}, "%v", m)
		}
	}
	res := report.Result{Fields: map[string]any{"peers": len(c.config.Peers), "mistakes": len(wrong)}}
	if len(wrong) > 0 {
		res.Err = &report.Error{What: event.CountOf(int64(len(wrong)), "mistake", "mistakes") + " in the config", Code: report.Usage,
			Means: "What is wrong is left out, and what is shown here holds in its place.", Next: []string{"Mend the places named above; docs/config.md says what each key may be."}}
	}
	return res
}
