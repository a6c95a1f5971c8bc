package session

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// Tool is a program's name and the version it was built from.
func Tool(program string) string {
	v := "devel"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && len(s.Value) >= 12:
				v = s.Value[:12]
			case s.Key == "vcs.modified" && s.Value == "true":
				v += "+changes"
			}
		}
	}
	return program + " " + v
}

func damageError(bad []format.DamagedObject) error {
	var lines []error
	for _, b := range bad[:min(len(bad), 20)] {
		lines = append(lines, fmt.Errorf("%s: %s", b.Name, b.Why))
	}
	return fmt.Errorf("%s damaged: %w\n%w", event.CountOf(int64(len(bad)), "object is", "objects are"), artifact.ErrDamaged, errors.Join(lines...))
}

// summary is what a person, or a script, is told at the end of an intake.
type summary struct {
	rep    *intake.Report
	s      *store.Store
	dir    string
	took   time.Duration
	verify string
}

func (u *summary) fields() map[string]any {
	f := map[string]any{"intake": fmt.Sprintf("%x", u.rep.Intake), "blocks_created": u.rep.Blocks, "bytes_stored": u.rep.Stored, "read_back": u.rep.Verified,
		"took_s": event.Seconds(u.took), "went_on_from": u.rep.Resumed}
	if u.rep.Manifest != nil && u.rep.Snapshot.Number > 0 {
		f["snapshot"], f["domain"], f["manifest"] = u.rep.Snapshot.Number, u.rep.Snapshot.Domain, u.rep.Snapshot.Manifest.String()
		f["totals"] = u.rep.Manifest.Totals
		f["older_blocks_never_read_back"] = u.neverReadBack()
		if len(u.rep.Digests) > 0 {
			f["digests"] = digestFields(u.rep.Digests)
		}
	}
	return f
}

func (u *summary) text() string {
	var b strings.Builder
	m := u.rep.Manifest
	fmt.Fprintf(&b, "snapshot %d of domain %s, %s\n", u.rep.Snapshot.Number, u.rep.Snapshot.Domain, event.Duration(u.took))
	for i := range m.Sources {
		sourceText(&b, &m.Sources[i])
	}
	fmt.Fprintf(&b, "  stored   %s new, as %s in %s; %s were known\n", event.Bytes(m.Totals.New), event.Bytes(m.Totals.Stored), event.CountOf(int64(u.rep.Blocks), "block", "blocks"), event.Bytes(m.Totals.Known))
	for _, d := range u.rep.Digests {
		for _, name := range sumNames(d) {
			fmt.Fprintf(&b, "  digest   %s %s %x%s\n", event.Printable(d.Source), name, d.Sums[name], gapsAsZeros(d))
		}
	}
	switch {
	case u.verify == "none":
		fmt.Fprintln(&b, "  verified nothing: --no-verify was given")
	case u.verify == "all":
		fmt.Fprintln(&b, "  verified every block of the store was read back and is good")
	default:
		fmt.Fprintf(&b, "  verified %s of this run read back and good%s\n", event.CountOf(int64(u.rep.Blocks), "block", "blocks"), u.olderText())
	}
	fmt.Fprintf(&b, "  next     asl-admin --store %s show %d", typed(u.dir), u.rep.Snapshot.Number)
	return b.String()
}

func sourceText(b *strings.Builder, r *format.SourceResult) {
	fmt.Fprintf(b, "  source   %s: %s, %s", event.Printable(r.Name), r.Kind, event.Bytes(r.Length))
	if r.Top != nil {
		fmt.Fprintf(b, ", %s", event.CountOf(r.Counts.Files, "entry", "entries"))
	}
	fmt.Fprintln(b)
	if l := r.Left; l != nil {
		fmt.Fprintf(b, "           %s left out by choice: %s\n", event.Bytes(l.Bytes), event.Printable(l.Why))
	}
	if r.Whole() {
		return
	}
	if n := r.Missing(); n > 0 {
		fmt.Fprintf(b, "           %s missing in %s\n", event.Bytes(n), event.CountOf(r.GapsAll, "place", "places"))
	}
	for _, e := range append(slices.Clip(r.Errors), r.Changed...)[:min(10, len(r.Errors)+len(r.Changed))] {
		fmt.Fprintf(b, "           %s\n", event.Printable(e))
	}
	if more := r.Counts.Failed - 10; more > 0 {
		fmt.Fprintf(b, "           and %s more\n", event.Count(more))
	}
}

// neverReadBack counts blocks of earlier intakes that no VERIFIED record covers.
func (u *summary) neverReadBack() int {
	n, _ := u.older()
	return n
}

func (u *summary) olderText() string {
	never, last := u.older()
	switch {
	case never > 0:
		return fmt.Sprintf("; of older ones %s never read back (--verify all does)", event.CountOf(int64(never), "was", "were"))
	case last > 0:
		return "; older ones last on " + time.Unix(last, 0).UTC().Format("2006-01-02 15:04 UTC")
	}
	return ""
}

func (u *summary) older() (never int, last int64) {
	checked := u.s.Verifications()
	for _, seg := range u.s.Segments() {
		if seg.Intake == u.rep.Intake {
			continue
		}
		ok := false
		for _, v := range checked {
			if v.Intake == seg.Intake || v.All && v.Seq > seg.Seq {
				ok, last = true, max(last, v.Clock)
			}
		}
		if !ok {
			never += len(seg.Blocks)
		}
	}
	return never, last
}
