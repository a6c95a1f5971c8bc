package session

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/artifact"
	"aslrescue/engine/digest"
	"aslrescue/engine/event"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// digestNames reads what --digest says: nil for none.
func digestNames(list string) ([]string, error) {
	if list == "none" {
		return nil, nil
	}
	return digest.Parse(list)
}

// digestText is what a plan says of digests: names, or none.
func digestText(list string, noVerify bool) string {
	if list == "" && noVerify {
		return "none"
	}
	names, err := digestNames(list)
	switch {
	case err != nil:
		return list // refused elsewhere
	case names == nil:
		return "none"
	}
	return strings.Join(names, ",")
}

func (j *intakeJob) digests() []string {
	names, _ := digestNames(j.plan.Digest) // was checked with the plan
	return names
}

// sumNames are a record's hashes, the one that is always there first.
func sumNames(d format.Digest) (names []string) {
	for _, n := range []string{digest.BLAKE3, digest.SHA256, digest.MD5} {
		if d.Sums[n] != nil {
			names = append(names, n)
		}
	}
	return names
}

func gapsAsZeros(d format.Digest) string {
	if d.Gaps == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s in %s as zeros)", event.Bytes(d.GapBytes), event.CountOf(d.Gaps, "gap", "gaps"))
}

func digestFields(all []format.Digest) []map[string]any {
	var out []map[string]any
	for _, d := range all {
		sums := map[string]string{}
		for n, s := range d.Sums {
			sums[n] = fmt.Sprintf("%x", s)
		}
		f := map[string]any{"source": d.Source, "size": d.Size, "sums": sums, "gaps": d.Gaps, "gap_bytes": d.GapBytes, "how": d.How, "clock": d.Clock}
		if d.GapList != nil {
			f["gap_list"] = fmt.Sprintf("%x", d.GapList)
		}
		out = append(out, f)
	}
	return out
}

func (c *call) showDigests(v *store.View) {
	for _, d := range c.store.Digests(v.Snapshot.Number) {
		c.row("digest", digestFields([]format.Digest{d.Digest})[0], "  digest     %s: %s", event.Printable(d.Source), digestHow(d.Digest))
		for _, n := range sumNames(d.Digest) {
			c.text("             %-6s %x%s", n, d.Sums[n], gapsAsZeros(d.Digest))
		}
	}
}

func digestHow(d format.Digest) string {
	what := "made while it was read"
	if d.How == "store" {
		what = "made by reading the snapshot back"
	}
	return what + ", " + clock(d.Clock)
}

func digestCommand() command {
	var o digestOptions
	return command{
		name: "digest", args: "S[:SOURCE]", min: 1, max: 1, does: "hash a disk or image as one run of bytes, and write that down", writes: true, works: true,
		help: "Reads the snapshot from the first byte to the last, holds every chunk against its name, and appends what comes of it to the log. Gaps count as\n" +
			"zeros. Whoever has the same bytes, and the list that --gaps prints, comes to the same digests with any tool. Where an earlier digest says\n" +
			"something else, the exit code is 8.",
		examples: []string{
			"asl-admin --store /mnt/asl/local digest 3:sda --digest sha256,md5",
			"asl-admin --store /mnt/asl/local digest latest",
			"asl-admin --store /mnt/asl/local digest 3:sda --gaps",
		},
		flags: func(fs *flag.FlagSet) {
			fs.StringVar(&o.names, "digest", "", "`LIST` of hashes beside blake3: sha256, md5")
			fs.BoolVar(&o.gaps, "gaps", false, "print the gaps only, offset and length a line: what gap_list is the BLAKE3 of")
		},
		run: func(ctx context.Context, c *call) report.Result { return runDigest(ctx, c, o) },
	}
}

type digestOptions struct {
	names string
	gaps  bool
}

func runDigest(ctx context.Context, c *call, o digestOptions) report.Result {
	names, err := digest.Parse(o.names)
	if err != nil {
		return report.Result{Err: report.Usagef("digest: %w", err)}
	}
	p, err := c.linear(ctx, c.args[0])
	if err != nil {
		return report.Result{Err: err}
	}
	if o.gaps {
		g, err := digest.GapsOf(ctx, p.View, *p.Source.Root, func(off, n int64) {
			c.row("gap", map[string]any{"off": off, "len": n}, "%d %d", off, n)
		})
		if err != nil {
			return report.Result{Err: &report.Error{What: "list the gaps of " + p.String(), Err: err}}
		}
		return report.Result{Fields: map[string]any{"gaps": g.Count, "gap_bytes": g.Bytes}}
	}
	m := c.meter("hashing", event.Bytes)
	d, err := digest.Snapshot(ctx, p.View, p.Source, names, m.at)
	m.end()
	if errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	if err != nil {
		return report.Result{Err: &report.Error{What: "hash " + p.String(), Err: err}}
	}
	if err := contradiction(c.store.Digests(p.View.Snapshot.Number), d); err != nil {
		return report.Result{Err: &report.Error{What: "hash " + p.String(), Err: err}}
	}
	d.Clock = time.Now().Unix()
	for _, n := range names { // first: reading it again takes long
		c.text("%-6s  %x", n, d.Sums[n])
	}
	fields := digestFields([]format.Digest{d})[0]
	kept, err := c.record(c.store.ReportDigest(ctx, d))
	if err != nil {
		return report.Result{Err: &report.Error{What: "write the digests of " + p.String() + " into the log", Err: err}, Fields: fields}
	}
	fields["recorded"] = kept
	text := fmt.Sprintf("%s: %d bytes%s", p, d.Size, gapsAsZeros(d))
	if kept {
		text += "; written to the log"
	}
	return report.Result{Text: text, Fields: fields}
}

// contradiction holds new digests against those the log has.
func contradiction(known []format.DigestAt, d format.Digest) error {
	for _, k := range known {
		for n, sum := range d.Sums {
			if was := k.Sums[n]; k.Source == d.Source && was != nil && !bytes.Equal(was, sum) {
				return fmt.Errorf("the %s is %x now, and record %d of the log says %x: %w", n, sum, k.Seq, was, artifact.ErrDamaged)
			}
		}
	}
	return nil
}
