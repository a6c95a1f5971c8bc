package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/report"
	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// place is something within a snapshot: all of it, one source, or one entry of a tree.
type place struct {
	view  *store.View
	src   *format.SourceResult // nil: the whole snapshot
	path  string               // within the source
	entry *format.Entry        // nil for a linear source and the whole snapshot
}

// name is what the place is called, for people.
func (p place) name() string {
	if p.src == nil {
		return fmt.Sprintf("snapshot %d", p.view.Snapshot.Number)
	}
	return strings.TrimSuffix(p.src.Name+"/"+p.path, "/")
}

// full is the name with the snapshot's.
func (p place) full() string {
	if p.src == nil {
		return p.name()
	}
	return fmt.Sprintf("%s of snapshot %d", p.name(), p.view.Snapshot.Number)
}

// isDir tells whether there are entries below.
func (p place) isDir() bool {
	return p.src == nil || p.entry != nil && p.entry.Type == source.Dir
}

// splitTarget takes S:PATH apart. A path may hold colons, a snapshot's number does not.
func splitTarget(arg string) (snapshot, path string) {
	snapshot, path, _ = strings.Cut(arg, ":")
	return snapshot, path
}

// find looks a path up. It begins with a source's name; where there is one source only, that may be left out.
func (c *call) find(ctx context.Context, v *store.View, path string) (place, error) {
	p, err := findIn(ctx, v, strings.Trim(path, "/"))
	if err == nil {
		return p, nil
	}
	e := &report.Error{What: fmt.Sprintf("look up %q in snapshot %d", path, v.Snapshot.Number), Err: err}
	if errors.Is(err, artifact.ErrNotFound) && !errors.Is(err, artifact.ErrDamaged) {
		e.Means = "The snapshot holds " + sourcesText(v.Manifest) + "; names count letter by letter."
		e.Next = []string{fmt.Sprintf("asl-admin --store %s ls %d", typed(c.dir), v.Snapshot.Number)}
	}
	return place{}, e
}

func findIn(ctx context.Context, v *store.View, path string) (place, error) {
	sources := v.Manifest.Sources
	if path == "" {
		if len(sources) == 1 {
			return place{view: v, src: &sources[0], entry: sources[0].Top}, nil
		}
		return place{view: v}, nil
	}
	i := slices.IndexFunc(sources, func(s format.SourceResult) bool { return path == s.Name || strings.HasPrefix(path, s.Name+"/") })
	if i >= 0 {
		p, err := descend(ctx, v, &sources[i], strings.Trim(path[len(sources[i].Name):], "/"))
		if err == nil || len(sources) > 1 || !errors.Is(err, artifact.ErrNotFound) {
			return p, err
		}
		if whole, werr := descend(ctx, v, &sources[0], path); werr == nil || !errors.Is(werr, artifact.ErrNotFound) {
			return whole, werr
		}
		return p, err
	}
	if len(sources) > 1 {
		return place{}, fmt.Errorf("no source has that name: %w", artifact.ErrNotFound)
	}
	return descend(ctx, v, &sources[0], path)
}

func descend(ctx context.Context, v *store.View, src *format.SourceResult, path string) (place, error) {
	p := place{view: v, src: src, entry: src.Top, path: path}
	if path == "" {
		return p, nil
	}
	if src.Top == nil {
		return p, fmt.Errorf("%s is one run of bytes and holds no %q: %w", src.Name, path, artifact.ErrNotFound)
	}
	at := src.Name
	for name := range strings.SplitSeq(path, "/") {
		e, err := v.Child(ctx, p.entry, []byte(name))
		if errors.Is(err, artifact.ErrNotFound) && !errors.Is(err, artifact.ErrDamaged) {
			if p.entry.Type != source.Dir {
				return p, fmt.Errorf("%q is no directory and has no %q: %w", at, name, artifact.ErrNotFound)
			}
			return p, fmt.Errorf("%q has no %q%s: %w", at, name, near(ctx, v, p.entry, name), artifact.ErrNotFound)
		}
		if err != nil {
			return p, err
		}
		p.entry, at = e, at+"/"+name
	}
	return p, nil
}

// near names the entries of a directory that may have been meant. Only the first thousand are looked at.
func near(ctx context.Context, v *store.View, dir *format.Entry, name string) string {
	var found []string
	looked := 0
	for e, err := range v.Dir(ctx, dir) {
		if err != nil || looked == 1000 || len(found) == 3 {
			break
		}
		looked++
		if n := string(e.Name); strings.EqualFold(n, name) || config.Distance(n, name) <= min(2, len(name)/3) {
			found = append(found, fmt.Sprintf("%q", n))
		}
	}
	if len(found) == 0 {
		return ""
	}
	return " (it has " + strings.Join(found, ", ") + ")"
}

// content is the entry that holds the bytes of a file: the first name of a file with several.
func (p place) content(ctx context.Context) (*format.Entry, error) {
	if len(p.entry.Link) == 0 {
		return p.entry, nil
	}
	first, err := descend(ctx, p.view, p.src, string(p.entry.Link))
	if err != nil {
		return nil, fmt.Errorf("it is another name of %q: %w", p.entry.Link, err)
	}
	return first.entry, nil
}

// isLost tells errors of single artifacts, behind which the rest can still be had.
func isLost(err error) bool {
	return errors.Is(err, artifact.ErrDamaged) || errors.Is(err, artifact.ErrNotFound) || errors.Is(err, artifact.ErrUnsupported)
}
