package session

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"strings"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/custody"
)

func reportCommand() command {
	var o reportOptions
	return command{
		name: "report", args: "S", min: 1, max: 1, does: "print all that can be said of a snapshot to somebody who was not there", works: true,
		help: "Identity and health of the disk, whether anything was written to it, what the kernel said, partitions, every gap and the files it touches,\n" +
			"digests, approvals, and where the snapshot stands in the chain of the log. All of it comes from the store, nothing from this machine.\n" +
			"--html writes one page that needs nothing else, with the disk drawn.",
		examples: []string{
			"asl-admin --store /mnt/asl/local report 3",
			"asl-admin --store /mnt/asl/local report 3 --html /mnt/usb/report.html",
			"asl-admin --store /mnt/asl/local report latest --json > report.json",
		},
		flags: func(fs *flag.FlagSet) {
			fs.StringVar(&o.html, "html", "", "write a page to `FILE`, which must not exist")
			fs.BoolVar(&o.overwrite, "overwrite", false, "replace FILE")
		},
		run: func(ctx context.Context, c *call) report.Result { return runReport(ctx, c, o) },
	}
}

type reportOptions struct {
	html      string
	overwrite bool
}

func runReport(ctx context.Context, c *call, o reportOptions) report.Result {
	v, err := c.view(ctx, c.args[0])
	if err != nil {
		return report.Result{Err: err}
	}
	if o.html != "" && inStore(c.dir, o.html) {
		return report.Result{Err: report.Usagef("report: --html %s lies inside the store %s, which nothing else may write to. Choose a place outside of it", o.html, c.dir)}
	}
	r, err := custody.Build(ctx, c.store, v)
	if errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	if err != nil {
		return report.Result{Err: &report.Error{What: fmt.Sprintf("report on snapshot %d of %s", v.Snapshot.Number, c.dir), Err: err}}
	}
	if o.html != "" {
		return c.page(r, o)
	}
	if c.json {
		c.row("report", r, "")
		return report.Result{}
	}
	var text bytes.Buffer
	r.Text(&text)
	for line := range strings.Lines(text.String()) {
		c.text("%s", strings.TrimSuffix(line, "\n"))
	}
	return report.Result{}
}

// page writes the page, whole or not at all.
func (c *call) page(r *custody.Report, o reportOptions) report.Result {
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil {
		return report.Result{Err: fmt.Errorf("%w: %w", report.ErrInternal, err)}
	}
	size := b.Len()
	if err := writeFile(o.html, &b, o.overwrite); err != nil {
		e := &report.Error{What: "write the report to " + o.html, Err: err}
		if errors.Is(err, fs.ErrExist) {
			e.Code, e.Next = report.Usage, []string{"take another name, or --overwrite"}
		}
		return report.Result{Err: e}
	}
	return report.Result{Text: fmt.Sprintf("report on snapshot %d written to %s", r.Snapshot, o.html), Fields: map[string]any{"snapshot": r.Snapshot, "html": o.html, "size": size}}
}
