package custody

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"aslrescue/engine/event"
	"aslrescue/engine/volume"
)

//go:embed report.html
var page string

// HTML writes the report as one page that needs nothing else: no script, no font, no picture from elsewhere.
func (r *Report) HTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"bytes": event.Bytes, "count": event.Count, "text": event.Printable, "clock": clockText, "uptime": uptimeText, "sums": sumRows, "facts": factRows, "chunks": chunks,
		"many": event.CountOf, "touch": TouchText, "list": func(v []string) string { return strings.Join(v, ", ") }, "commands": commandText,
		"share": func(n, of int64) string { return shareText(n, of) }, "left": func(n, m int64) int64 { return n - m }, "lower": strings.ToLower, "volume": VolumeText, "limit": limitTouches, "head": headGaps,
	}).Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, r)
}

func clockText(sec int64) string {
	if sec == 0 {
		return "not known"
	}
	return time.Unix(sec, 0).UTC().Format("2006-01-02 15:04:05 UTC")
}

func uptimeText(ms int64) string {
	if ms == 0 {
		return "not known"
	}
	d := time.Duration(ms) * time.Millisecond
	return fmt.Sprintf("%d h %02d min %06.3f s", int(d.Hours()), int(d.Minutes())%60, d.Seconds()-60*float64(int(d.Minutes())))
}

// row is a name and a value.
type row struct{ Name, Value string }

func sumRows(sums map[string]string) (rows []row) {
	for _, n := range []string{"blake3", "sha256", "md5"} {
		if sums[n] != "" {
			rows = append(rows, row{map[string]string{"blake3": "BLAKE3", "sha256": "SHA-256", "md5": "MD5"}[n], sums[n]})
		}
	}
	return rows
}

// factRows are the facts of a device in the order a person asks for them.
func factRows(facts map[string]string) (rows []row) {
	names := []row{{"vendor", "vendor"}, {"model", "model"}, {"serial", "serial number"}, {"wwn", "WWN"}, {"firmware", "firmware"}, {"transport", "connected by"}, {"path", "read as"}, {"name", "kernel name"},
		{"partition", "partition"}, {"partition_start", "begins at sector"}, {"size", "size"}, {"logical", "logical sector"}, {"physical", "physical sector"}, {"rotational", "rotating"}, {"removable", "removable"}, {"read_only", "set read-only"}, {"behind", "backed by"}, {"why", "not known"}}
	for _, n := range names {
		v := facts[n.Name]
		if v == "" {
			continue
		}
		switch n.Name {
		case "size":
			if n, err := strconv.ParseInt(v, 10, 64); err == nil {
				v = event.Count(n)
			}
			v += " bytes"
		case "logical", "physical":
			v += " bytes"
		case "rotational", "removable", "read_only":
			v = map[string]string{"0": "no", "1": "yes"}[v]
		}
		rows = append(rows, row{n.Value, v})
	}
	return rows
}

func shareText(n, of int64) string {
	if of == 0 {
		return ""
	}
	p := 100 * float64(n) / float64(of)
	switch {
	case n > 0 && p < 0.0001:
		return "< 0.0001 %"
	case p >= 99.9999 && n < of:
		return "> 99.9999 %"
	case p == 0 || p == 100:
		return fmt.Sprintf("%.0f %%", p)
	case p < 1:
		return fmt.Sprintf("%.4f %%", p)
	}
	return fmt.Sprintf("%.2f %%", p)
}

func commandText(c []string) string { return strings.Join(c, " ") }

// chunks divides a hash so that it can be read aloud.
func chunks(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i += 8 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s[i:min(i+8, len(s))])
	}
	return b.String()
}

// VolumeText names a volume for people.
func VolumeText(d *volume.Disk, i int) string {
	if i < 0 || d == nil || i >= len(d.Volumes) {
		return "outside of all partitions"
	}
	v := d.Volumes[i]
	name := "whole disk"
	if v.Partition > 0 {
		name = fmt.Sprintf("partition %d", v.Partition)
	}
	if v.Info != nil {
		name += ", " + v.Info.Kind
		if v.Info.Label != "" {
			name += " “" + v.Info.Label + "”"
		}
	}
	return name
}

// What a page shows of long lists; text and JSON have more.
const (
	touchesOnPage = 400
	gapsOnPage    = 400
)

func limitTouches(t []volume.Touch) []volume.Touch { return t[:min(len(t), touchesOnPage)] }
func headGaps(g []GapRow) []GapRow                 { return g[:min(len(g), gapsOnPage)] }

// Map is the disk drawn as an SVG.
func (sr *SourceReport) Map() template.HTML {
	if len(sr.cells) == 0 {
		return ""
	}
	const step, size = 10, 8
	rows := (len(sr.cells) + cellsWide - 1) / cellsWide
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="map" viewBox="0 0 %d %d" role="img" aria-label="map of the disk">`, cellsWide*step, rows*step)
	// One path for each kind: a page with two thousand squares stays small.
	paths := map[string]*strings.Builder{}
	for i, c := range sr.cells {
		w := c.word()
		if paths[w] == nil {
			paths[w] = &strings.Builder{}
		}
		fmt.Fprintf(paths[w], "M%d %dh%dv%dh-%dz", i%cellsWide*step, i/cellsWide*step, size, size, size)
	}
	for _, w := range []string{"zero", "left", "data", "untried", "unstable", "bad"} {
		if p := paths[w]; p != nil {
			fmt.Fprintf(&b, `<path class="%s" d="%s"/>`, w, p)
		}
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) // of numbers and words of our own only
}

// CellBytes is what a square of the map stands for.
func (sr *SourceReport) CellBytes() int64 { return cellBytes(sr.Length) }

// Kinds are the words that stand below the map.
func (sr *SourceReport) Kinds() (rows []struct {
	Class, Name string
	Bytes       int64
}) {
	left := int64(0)
	if sr.Left != nil {
		left = sr.Left.Bytes
	}
	unstable := int64(0)
	for _, c := range sr.cells {
		unstable += c.unstable
	}
	for _, k := range []struct {
		Class, Name string
		Bytes       int64
	}{{"data", "data", sr.Counts.Data}, {"zero", "zeros", sr.Counts.Zero}, {"bad", "unreadable", sr.Counts.Unreadable - unstable}, {"unstable", "unstable", unstable}, {"untried", "untried", sr.Counts.Untried - left}, {"left", "left out by choice", left}} {
		if k.Bytes > 0 || k.Class == "data" || k.Class == "bad" {
			rows = append(rows, k)
		}
	}
	return rows
}

// Good tells whether nothing is missing.
func (r *Report) Good() bool { return r.Result == string(event.Complete) }

// Latest gives the newest digests that say everything the older ones do.
func (sr *SourceReport) Latest() []DigestRow {
	var out []DigestRow
	for _, d := range slices.Backward(sr.Digests) {
		if !slices.ContainsFunc(out, func(o DigestRow) bool { return covers(o.Sums, d.Sums) }) {
			out = append(out, d)
		}
	}
	return out
}

func covers(a, b map[string]string) bool {
	for n, s := range b {
		if a[n] != s {
			return false
		}
	}
	return true
}

// HexOf is for templates.
func (a ApprovalRow) HexOf() string { return a.Plan.String() }
