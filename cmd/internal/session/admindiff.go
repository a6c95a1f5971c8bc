package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/event"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

func diffCommand() command {
	return command{
		name: "diff", args: "S1 S2", min: 2, max: 2, does: "say how two snapshots differ",
		help: "Sources are compared by name. Of trees: + what came, - what went, M what changed, and how. Of images and devices, and of files:\n" +
			"where and how many bytes differ, in whole chunks. What both hold under one reference is not read.",
		examples: []string{"asl-admin --store /mnt/asl/local diff 3 latest", "asl-admin --store /mnt/asl/local diff 1 2 --json"},
		run: func(ctx context.Context, c *call) report.Result {
			d := differ{c: c, ctx: ctx}
			if err := d.run(); err != nil {
				return report.Result{Err: err}
			}
			return report.Result{Fields: map[string]any{"added": d.added, "removed": d.removed, "changed": d.changed, "bytes": d.bytes}, Text: d.text()}
		},
	}
}

type differ struct {
	c                       *call
	ctx                     context.Context
	a, b                    *store.View
	added, removed, changed int64
	bytes                   int64 // of content that differ
}

func (d *differ) text() string {
	if d.added+d.removed+d.changed == 0 {
		return "no difference"
	}
	return fmt.Sprintf("%s added, %s removed, %s changed; %s of content differ", event.Count(d.added), event.Count(d.removed), event.Count(d.changed), event.Bytes(d.bytes))
}

func (d *differ) run() (err error) {
	if d.a, err = d.c.view(d.ctx, d.c.args[0]); err != nil {
		return err
	}
	if d.b, err = d.c.view(d.ctx, d.c.args[1]); err != nil {
		return err
	}
	was, is := d.a.Manifest.Sources, d.b.Manifest.Sources
	for i := range was {
		j := slices.IndexFunc(is, func(s format.SourceResult) bool { return s.Name == was[i].Name })
		if j < 0 {
			d.gone(was[i].Name, "source")
			continue
		}
		if err := d.sources(&was[i], &is[j]); err != nil {
			return &report.Error{What: "compare " + was[i].Name, Err: err}
		}
	}
	for _, s := range is {
		if !slices.ContainsFunc(was, func(x format.SourceResult) bool { return x.Name == s.Name }) {
			d.came(s.Name, "source")
		}
	}
	return nil
}

func (d *differ) came(path, what string) {
	d.added++
	d.c.row("added", map[string]any{"path": path, "is": what}, "+ %s", event.Printable(path))
}

func (d *differ) gone(path, what string) {
	d.removed++
	d.c.row("removed", map[string]any{"path": path, "was": what}, "- %s", event.Printable(path))
}

func (d *differ) sources(a, b *format.SourceResult) error {
	switch {
	case a.Top != nil && b.Top != nil:
		return d.entries(a.Top, b.Top, a.Name)
	case a.Root != nil && b.Root != nil:
		if *a.Root == *b.Root {
			return nil
		}
		extents, err := collect(store.DiffMaps(d.ctx, d.a, *a.Root, d.b, *b.Root))
		if err != nil {
			return err
		}
		var how []string
		if a.Length != b.Length {
			how = append(how, fmt.Sprintf("%d -> %d bytes long", a.Length, b.Length))
		}
		d.differs(a.Name, how, extents)
		for _, e := range extents {
			d.c.row("extent", map[string]any{"path": a.Name, "off": e.Off, "len": e.Len}, "    %s at %d", event.Bytes(e.Len), e.Off)
		}
		return nil
	}
	d.gone(a.Name, a.Kind)
	d.came(b.Name, b.Kind)
	return nil
}

func collect(seq iter.Seq2[store.Extent, error]) (all []store.Extent, err error) {
	for e, err := range seq {
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, nil
}

// differs prints a change, if there is one.
func (d *differ) differs(path string, how []string, extents []store.Extent) {
	n := int64(0)
	for _, e := range extents {
		n += e.Len
	}
	if n > 0 {
		s := fmt.Sprintf("content %s in %s", event.Bytes(n), event.CountOf(int64(len(extents)), "place", "places"))
		if len(extents) == 1 {
			s = fmt.Sprintf("content %s at %d", event.Bytes(n), extents[0].Off)
		}
		how = append(how, s)
	}
	if len(how) == 0 {
		return
	}
	d.changed++
	d.bytes += n
	d.c.row("changed", map[string]any{"path": path, "how": how, "bytes": n}, "M %s: %s", event.Printable(path), strings.Join(how, "; "))
}

// entries compares two entries of one name.
func (d *differ) entries(a, b *format.Entry, path string) error {
	if a.Type != b.Type {
		d.differs(path, []string{typeName(a.Type) + " -> " + typeName(b.Type)}, nil)
		return nil
	}
	how := metaDiff(a, b)
	extents, err := d.content(a, b)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	d.differs(path, how, extents)
	if a.Type != source.Dir || a.Dir == b.Dir || a.Dir != nil && b.Dir != nil && *a.Dir == *b.Dir {
		return nil
	}
	return d.dirs(a, b, path)
}

// dirs walks two directories side by side.
func (d *differ) dirs(a, b *format.Entry, path string) error {
	nextA, stopA := iter.Pull2(d.a.Dir(d.ctx, a))
	defer stopA()
	nextB, stopB := iter.Pull2(d.b.Dir(d.ctx, b))
	defer stopB()
	x, errA, okA := nextA()
	y, errB, okB := nextB()
	for okA || okB {
		if err := errors.Join(errA, errB); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		order := 0
		switch {
		case !okA:
			order = 1
		case !okB:
			order = -1
		default:
			order = bytes.Compare(x.Name, y.Name)
		}
		var err error
		switch {
		case order < 0:
			err = d.subtree(d.a, x, join(path, string(x.Name)), d.gone)
		case order > 0:
			err = d.subtree(d.b, y, join(path, string(y.Name)), d.came)
		default:
			err = d.entries(x, y, join(path, string(x.Name)))
		}
		if err != nil {
			return err
		}
		if order <= 0 {
			x, errA, okA = nextA()
		}
		if order >= 0 {
			y, errB, okB = nextB()
		}
	}
	return d.ctx.Err()
}

// subtree says of an entry and all below it that they came or went.
func (d *differ) subtree(v *store.View, e *format.Entry, path string, say func(path, what string)) error {
	say(path, typeName(e.Type))
	if e.Type != source.Dir {
		return nil
	}
	for x, err := range v.Dir(d.ctx, e) {
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := d.subtree(v, x, join(path, string(x.Name)), say); err != nil {
			return err
		}
	}
	return nil
}

func timeText(e *format.Entry) string {
	return time.Unix(e.MSec, int64(e.MNsec)).UTC().Format("2006-01-02 15:04:05.999999999Z")
}

func metaDiff(a, b *format.Entry) []string {
	var how []string
	add := func(differs bool, format string, args ...any) {
		if differs {
			how = append(how, fmt.Sprintf(format, args...))
		}
	}
	add(a.Mode != b.Mode, "mode %04o -> %04o", a.Mode, b.Mode)
	add(a.UID != b.UID || a.GID != b.GID, "owner %d:%d -> %d:%d", a.UID, a.GID, b.UID, b.GID)
	add(a.MSec != b.MSec || a.MNsec != b.MNsec, "time %s -> %s", timeText(a), timeText(b))
	add(a.Size != b.Size, "size %d -> %d", a.Size, b.Size)
	add(!bytes.Equal(a.Target, b.Target), "target %s -> %s", event.Printable(string(a.Target)), event.Printable(string(b.Target)))
	add(a.Major != b.Major || a.Minor != b.Minor, "device %d,%d -> %d,%d", a.Major, a.Minor, b.Major, b.Minor)
	add(!bytes.Equal(a.Link, b.Link), "hard link to %q -> %q", a.Link, b.Link)
	add(a.Sparse != b.Sparse, "sparse %v -> %v", a.Sparse, b.Sparse)
	add(!slices.EqualFunc(a.Xattrs, b.Xattrs, func(x, y format.Xattr) bool { return bytes.Equal(x.Name, y.Name) && bytes.Equal(x.Value, y.Value) }), "attributes")
	add(a.Err != b.Err, "what could not be read")
	return how
}

// content says where two files differ.
func (d *differ) content(a, b *format.Entry) ([]store.Extent, error) {
	switch {
	case a.Type != source.Regular || len(a.Link) > 0 || len(b.Link) > 0:
		return nil, nil
	case a.Map != nil && b.Map != nil:
		if *a.Map == *b.Map {
			return nil, nil
		}
		return collect(store.DiffMaps(d.ctx, d.a, *a.Map, d.b, *b.Map))
	case a.Map == nil && b.Map == nil && a.Inline == nil && b.Inline == nil && a.Size > 0 && b.Size > 0:
		return store.DiffRanges(a.Ranges, b.Ranges), nil
	case a.Map == nil && b.Map == nil && bytes.Equal(a.Inline, b.Inline) && a.Size == b.Size:
		return nil, nil
	}
	// One is described in its entry and one elsewhere: that alone says they differ, not where.
	return []store.Extent{{Off: 0, Len: max(a.Size, b.Size)}}, nil
}
