package session

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/restore"
	"aslrescue/engine/source"
	"aslrescue/engine/source/mapfile"
)

func mapfileCommand() command {
	var out string
	return command{
		name: "mapfile", args: "S[:SOURCE]", min: 1, max: 1, does: "write what of a disk was read as a map file of GNU ddrescue", works: true,
		help: "With the image that restore writes, ddrescue goes on with the rescue from it: what is finished there is not read again. What is unreadable is a\n" +
			"bad sector, what is untried or unstable is not tried.",
		examples: []string{
			"asl-admin --store /mnt/asl/local mapfile 3:sda --to sda.map",
			"asl-admin --store /mnt/asl/local restore 3:sda --to sda.img --fill zero && ddrescue -d /dev/sda sda.img sda.map",
		},
		flags: func(fs *flag.FlagSet) {
			fs.StringVar(&out, "to", "", "write to `FILE`, which must not exist (default: standard output)")
		},
		run: func(ctx context.Context, c *call) report.Result { return runMapfile(ctx, c, out) },
	}
}

func runMapfile(ctx context.Context, c *call, to string) report.Result {
	p, err := c.linear(ctx, c.args[0])
	if err != nil {
		return report.Result{Err: err}
	}
	if to == "" && c.json {
		return report.Result{Err: report.Usagef("mapfile: --json wants --to, as the map itself goes to standard output")}
	}
	if to != "" && inStore(c.dir, to) {
		return report.Result{Err: report.Usagef("mapfile: --to %s lies inside the store %s, which nothing else may write to. Choose a place outside of it", to, c.dir)}
	}
	m, err := mapOf(ctx, p)
	if err != nil {
		return report.Result{Err: &report.Error{What: "read the map of " + p.String(), Err: err}}
	}
	if to == "" {
		if _, err := m.WriteTo(c.std.Out); err != nil {
			return report.Result{Err: &report.Error{What: "write the map file", Err: err}}
		}
		return report.Result{}
	}
	if err := writeFile(to, m, false); err != nil {
		return report.Result{Err: &report.Error{What: "write the map file", Err: err}}
	}
	return report.Result{Text: fmt.Sprintf("%s: %s read, %s bad, %s not tried", to, event.Bytes(m.Sum(mapfile.Finished)), event.Bytes(m.Sum(mapfile.Bad)), event.Bytes(m.Sum(mapfile.NonTried))),
		Fields: map[string]any{"finished": m.Sum(mapfile.Finished), "bad": m.Sum(mapfile.Bad), "untried": m.Sum(mapfile.NonTried)}}
}

// writeFile makes a file, whole and durable or not at all. It replaces nothing, unless it is told to.
func writeFile(path string, content io.WriterTo, replace bool) error {
	at := path
	if replace {
		at = restore.PartName(path)
	}
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = content.WriteTo(f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil && replace {
		err = os.Rename(at, path)
	}
	if err != nil {
		_ = os.Remove(at) // made above; why it is not whole is the error to tell
	}
	return err
}

// mapOf is the map of a linear source of a snapshot, as ddrescue would have it.
func mapOf(ctx context.Context, p intake.Part) (*mapfile.Map, error) {
	m := mapfile.New(p.Source.Length)
	m.Comments = []string{
		"Mapfile. Created by " + Tool("asl-admin"),
		fmt.Sprintf("Snapshot %d of domain %s, source %s", p.View.Snapshot.Number, p.View.Snapshot.Domain, event.Printable(p.Source.Name)),
	}
	m.Phase = byte(mapfile.Finished)
	for page, err := range p.View.MapPages(ctx, *p.Source.Root) {
		if err != nil {
			return nil, err
		}
		for _, st := range page {
			switch st.Kind {
			case source.Data, source.Zero:
				m.Mark(st.Off, st.Len, mapfile.Finished)
			case source.Unreadable:
				m.Mark(st.Off, st.Len, mapfile.Bad)
			default:
				m.Phase = byte(mapfile.NonTried)
			}
		}
	}
	return m, nil
}
