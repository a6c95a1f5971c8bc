package custody

import (
	"fmt"
	"io"
	"strings"

	"aslrescue/engine/event"
)

// Text writes the report for a terminal, or for paper. Lists are whole as far as the report is.
func (r *Report) Text(w io.Writer) {
	p := func(format string, args ...any) {
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
	kv := func(name, format string, args ...any) { p("  %-18s %s", name, fmt.Sprintf(format, args...)) }
	p("SNAPSHOT %d OF %s: %s", r.Snapshot, event.Printable(r.Domain), r.Result)
	if r.Label != "" {
		kv("label", "%s", event.Printable(r.Label))
	}
	kv("taken", "%s to %s, as the machine's clock claimed", clockText(r.Began), clockText(r.Ended))
	kv("by", "%s, compression %s", event.Printable(r.Tool), r.Codec)
	if len(r.Merged) > 0 {
		kv("merged", "of the snapshots %s", strings.Trim(fmt.Sprint(r.Merged), "[]"))
	}
	if r.Resumed > 0 {
		kv("interrupted", "%s", event.CountOf(int64(r.Resumed), "time", "times"))
	}
	for _, x := range r.Problems {
		p("  ! %s", event.Printable(x))
	}
	for _, s := range r.Sources {
		p("")
		s.text(p, kv)
	}
	p("")
	p("APPROVALS")
	if len(r.Approvals) == 0 {
		p("  none were needed between the snapshot before and this one")
	}
	for _, a := range r.Approvals {
		p("  record %d: %s, by %s, %s as claimed; plan %s", a.Record, event.Printable(a.What), event.Printable(a.How), clockText(a.Clock), a.Plan)
		for _, x := range a.Things {
			p("    %s", event.Printable(x))
		}
		for _, c := range a.Commands {
			p("    $ %s", event.Printable(commandText(c)))
		}
	}
	p("")
	p("LOG")
	kv("this snapshot", "record %d in part %d, %s", r.Log.Record, r.Log.Part, r.Log.Hash)
	kv("end of the log", "record %d, %s", r.Log.Head, r.Log.HeadHash)
	kv("chain", "%s", map[bool]string{true: "holds, from record 1 on", false: "COULD NOT BE FOLLOWED"}[r.Log.Checked])
	kv("signature", "%s, by %s, key %s", r.Log.Signature, r.Log.Signed, r.Log.Key)
	kv("manifest", "%s", r.Manifest)
	kv("intake", "%s", r.Intake)
	kv("store", "%s", r.Store)
	for _, v := range r.Verified {
		kv("read back", "%s: %s in %s, %s as claimed", v.Covers, event.Bytes(v.Bytes), event.CountOf(int64(v.Blocks), "block", "blocks"), clockText(v.Clock))
	}
	if len(r.Verified) == 0 {
		kv("read back", "never")
	}
	kv("to check", "asl-debug --store DIR validate; asl-debug --store DIR log")
}

func (sr *SourceReport) text(p func(string, ...any), kv func(string, string, ...any)) {
	p("SOURCE %s: %s, %d bytes", event.Printable(sr.Name), sr.Kind, sr.Length)
	for _, x := range sr.Problems {
		p("  ! %s", event.Printable(x))
	}
	if sr.Device == nil {
		kv("path", "%s", event.Printable(sr.Path))
	}
	for _, f := range factRows(sr.Device) {
		kv(f.Name, "%s", event.Printable(f.Value))
	}
	kv("known as", "%s", event.Printable(sr.ID))
	kv("root", "%s", sr.Root)
	for _, k := range sr.Kinds() {
		kv(k.Name, "%d bytes %s", k.Bytes, shareText(k.Bytes, sr.Length))
	}
	if l := sr.Left; l != nil {
		kv("by choice", "%s", event.Printable(l.Why))
	}
	for _, d := range sr.Latest() {
		for _, s := range sumRows(d.Sums) {
			kv(s.Name, "%s", s.Value)
		}
		how := "while it was read"
		if d.How == "store" {
			how = "by reading the snapshot back"
		}
		kv("", "made %s, log record %d", how, d.Record)
		if d.Gaps > 0 {
			kv("", "%d bytes in %s as zeros; BLAKE3 of their list %s", d.GapBytes, event.CountOf(d.Gaps, "gap", "gaps"), d.GapList)
		}
	}
	if w := sr.Writes; w != nil {
		kv("written to it", "%s", w.Verdict)
	}
	for _, s := range sr.Smart {
		if s.What == "none" {
			kv("SMART", "%s", event.Printable(s.Begin))
			continue
		}
		kv("SMART", "%-24s %s before, %s after", s.What, event.Printable(s.Begin), event.Printable(s.End))
	}
	for _, s := range sr.Seen {
		kv("SMART", "after %s: %s", s.After, event.Printable(s.What))
	}
	sr.diskText(p, kv)
	for _, x := range sr.Changed {
		p("  CHANGED %s", event.Printable(x))
	}
	for _, x := range sr.Errors {
		p("  NOT READ %s", event.Printable(x))
	}
	for _, g := range sr.Gaps {
		p("  GAP %d bytes at %d: %s%s", g.Len, g.Off, g.Kind, gapText(g))
	}
	if more := sr.GapsAll - int64(len(sr.Gaps)); more > 0 {
		p("  and %s more", event.CountOf(more, "gap", "gaps"))
	}
	if len(sr.Gaps) == 0 && len(sr.Errors) == 0 {
		kv("gaps", "none")
	}
	sr.machineText(p, kv)
}

func gapText(g GapRow) string {
	var s strings.Builder
	if g.Why != "" {
		fmt.Fprintf(&s, ", %s", event.Printable(g.Why))
	}
	if g.Errno != 0 {
		fmt.Fprintf(&s, " (errno %d)", g.Errno)
	}
	if g.Tries > 0 {
		fmt.Fprintf(&s, ", %s", event.CountOf(int64(g.Tries), "try", "tries"))
	}
	if len(g.Touches) > 0 {
		fmt.Fprintf(&s, "; touches %s", event.Printable(strings.Join(g.Touches, ", ")))
	}
	return s.String()
}

func (sr *SourceReport) diskText(p func(string, ...any), kv func(string, string, ...any)) {
	if sr.Disk == nil {
		return
	}
	kv("partition table", "%s %s", sr.Disk.Table.Kind, sr.Disk.Table.ID)
	for _, x := range sr.Disk.Table.Problems {
		p("  ! %s", event.Printable(x))
	}
	for _, t := range sr.Disk.Table.Partitions {
		kv(fmt.Sprintf("partition %d", t.Number), "%d bytes at %d, %s %s", t.Len, t.Off, first(t.Means, t.Type), event.Printable(t.Name))
	}
	for i, v := range sr.Disk.Volumes {
		if v.Info != nil {
			kv("file system", "%s, %s %s", event.Printable(VolumeText(sr.Disk, i)), v.Info.UUID, v.Info.Dirty)
		}
	}
	for _, t := range sr.Touched {
		p("  MISSING in %s: %d bytes", event.Printable(VolumeText(sr.Disk, t.Volume)), t.Bytes)
		if t.Free > 0 {
			p("    %d bytes of them lie in free space, where nothing is lost", t.Free)
		}
		for _, x := range t.Touches {
			p("    %s: %d bytes, the first at %d", event.Printable(TouchText(x)), x.Bytes, x.Off)
		}
		for _, x := range t.Problems {
			p("    ! %s", event.Printable(x))
		}
	}
}

func (sr *SourceReport) machineText(p func(string, ...any), kv func(string, string, ...any)) {
	if sr.Machine == nil {
		return
	}
	for _, l := range sr.Messages {
		p("  kernel: %s", event.Printable(l))
	}
	if sr.More > 0 {
		p("  and %s more", event.CountOf(sr.More, "message", "messages"))
	}
	if len(sr.Messages) == 0 && sr.NoLines == "" {
		kv("kernel messages", "none about it")
	}
	if sr.NoLines != "" {
		p("  ! %s", event.Printable(sr.NoLines))
	}
	for _, k := range []string{"kernel", "hostname", "boot", "clock"} {
		if v := sr.Machine[k]; v != "" {
			kv("machine: "+k, "%s", event.Printable(v))
		}
	}
	if sr.Began != nil && sr.Ended != nil {
		kv("reading began", "%s as claimed, %s after start", clockText(sr.Began.Clock), uptimeText(sr.Began.Uptime))
		kv("reading ended", "%s as claimed, %s after start", clockText(sr.Ended.Clock), uptimeText(sr.Ended.Uptime))
	}
}
