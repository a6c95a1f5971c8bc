package session

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/event"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

func lsCommand() command {
	var long, deep bool
	return command{
		name: "ls", args: "S [PATH]", min: 1, max: 2, does: "list what a snapshot holds",
		help: "PATH begins with the name of a source; where there is one source only, that may be left out.",
		examples: []string{
			"asl-admin --store /mnt/asl/local ls latest",
			"asl-admin --store /mnt/asl/local ls 3 etc/ssh -l",
			"asl-admin --store /mnt/asl/local ls 3 home -R --json",
		},
		flags: func(fs *flag.FlagSet) {
			fs.BoolVar(&long, "l", false, "show type, mode, owner, size and time")
			fs.BoolVar(&deep, "R", false, "list directories below, too")
		},
		run: func(ctx context.Context, c *call) report.Result {
			l := lister{c: c, ctx: ctx, long: long, deep: deep}
			return report.Result{Err: l.run(), Fields: map[string]any{"entries": l.count}}
		},
	}
}

type lister struct {
	c          *call
	ctx        context.Context
	long, deep bool
	count      int64
	lost       error // the first directory that could not be read whole
}

func (l *lister) run() error {
	v, err := l.c.view(l.ctx, l.c.args[0])
	if err != nil {
		return err
	}
	path := ""
	if len(l.c.args) > 1 {
		path = l.c.args[1]
	}
	p, err := l.c.find(l.ctx, v, path)
	if err != nil {
		return err
	}
	switch {
	case p.src == nil:
		err = l.sources(p)
	case p.entry == nil:
		l.source(p.src)
	case p.isDir():
		err = l.dir(p, p.entry, "")
	default:
		l.entry(p.entry, string(p.entry.Name))
	}
	return errors.Join(err, l.lost)
}

func (l *lister) sources(p place) error {
	for i := range p.view.Manifest.Sources {
		src := &p.view.Manifest.Sources[i]
		l.source(src)
		if l.deep && src.Top != nil {
			if err := l.dir(place{view: p.view, src: src, entry: src.Top}, src.Top, src.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lister) source(src *format.SourceResult) {
	if src.Top != nil {
		e := *src.Top
		e.Name = []byte(src.Name)
		l.entry(&e, src.Name)
		return
	}
	l.count++
	text := event.Printable(src.Name)
	if l.long {
		text = fmt.Sprintf("%-10s %11s %14s %-16s %s", src.Kind, "-", event.Count(src.Length), "", text)
	}
	l.c.row("entry", map[string]any{"path": src.Name, "kind": src.Kind, "size": src.Length, "ref": src.Root}, "%s", text)
}

func (l *lister) dir(p place, dir *format.Entry, prefix string) error {
	for e, err := range p.view.Dir(l.ctx, dir) {
		if err != nil && !isLost(err) {
			return err
		}
		if err != nil {
			l.c.say("a part of %s cannot be listed: %v", or(prefix, p.name()), err)
			l.lost = err
			continue
		}
		path := join(prefix, string(e.Name))
		l.entry(e, path)
		if l.deep && e.Type == source.Dir {
			if err := l.dir(p, e, path); err != nil {
				return err
			}
		}
	}
	return l.ctx.Err()
}

func (l *lister) entry(e *format.Entry, path string) {
	l.count++
	if l.c.json {
		l.c.pr.Row("entry", "", entryFields(e, path))
		return
	}
	text := event.Printable(path)
	if l.long {
		text = longText(e, text)
	}
	l.c.text("%s", text)
}

func longText(e *format.Entry, name string) string {
	size := event.Count(e.Size)
	if e.Type == source.CharDev || e.Type == source.BlkDev {
		size = fmt.Sprintf("%d, %d", e.Major, e.Minor)
	}
	s := fmt.Sprintf("%s %11s %14s %-16s %s", modeText(e), fmt.Sprintf("%d:%d", e.UID, e.GID), size, time.Unix(e.MSec, 0).UTC().Format("2006-01-02 15:04"), name)
	switch {
	case e.Type == source.Symlink:
		s += " -> " + event.Printable(string(e.Target))
	case len(e.Link) > 0:
		s += " is also " + event.Printable(string(e.Link))
	}
	if e.Err != "" {
		s += "  NOT READ: " + event.Printable(e.Err)
	}
	if e.Unreadable > 0 {
		s += "  MISSING " + event.Bytes(e.Unreadable)
	}
	if e.Changed != "" {
		s += "  CHANGED: " + event.Printable(e.Changed)
	}
	return s
}

func typeName(t source.FileType) string {
	names := map[source.FileType]string{source.Regular: "file", source.Dir: "dir", source.Symlink: "symlink", source.CharDev: "char", source.BlkDev: "block", source.FIFO: "fifo", source.Socket: "socket"}
	if n, ok := names[t]; ok {
		return n
	}
	return "unknown"
}

// modeText is type and mode as ls shows them.
func modeText(e *format.Entry) string {
	kind := "?-dlcbps"[min(int(e.Type), 7)]
	b := []byte("rwxrwxrwx")
	for i := range b {
		if e.Mode&(1<<(8-i)) == 0 {
			b[i] = '-'
		}
	}
	for i, special := range []struct {
		bit uint32
		at  int
		set byte
	}{{0o4000, 2, 's'}, {0o2000, 5, 's'}, {0o1000, 8, 't'}} {
		_ = i
		if e.Mode&special.bit == 0 {
			continue
		}
		if b[special.at] == '-' {
			special.set -= 'a' - 'A'
		}
		b[special.at] = special.set
	}
	mark := " "
	if len(e.Xattrs) > 0 {
		mark = "+"
	}
	return string(kind) + string(b) + mark
}

func entryFields(e *format.Entry, path string) map[string]any {
	f := map[string]any{"path": path, "kind": typeName(e.Type), "mode": fmt.Sprintf("%04o", e.Mode), "uid": e.UID, "gid": e.GID, "size": e.Size,
		"mtime": fmt.Sprintf("%d.%09d", e.MSec, e.MNsec)}
	if path != string([]rune(path)) { // JSON holds no bytes that are not UTF-8
		f["path_base64"] = base64.StdEncoding.EncodeToString([]byte(path))
	}
	for k, v := range map[string]string{"target": string(e.Target), "hard_link": string(e.Link), "error": e.Err, "changed": e.Changed} {
		if v != "" {
			f[k] = v
		}
	}
	if e.Unreadable > 0 {
		f["unreadable"] = e.Unreadable
	}
	if e.Type == source.CharDev || e.Type == source.BlkDev {
		f["major"], f["minor"] = e.Major, e.Minor
	}
	for k, ref := range map[string]fmt.Stringer{"map": e.Map, "dir": e.Dir} {
		switch {
		case k == "map" && e.Map != nil, k == "dir" && e.Dir != nil:
			f[k] = ref.String()
		}
	}
	if len(e.Xattrs) > 0 {
		x := map[string]string{}
		for _, a := range e.Xattrs {
			x[string(a.Name)] = base64.StdEncoding.EncodeToString(a.Value)
		}
		f["xattrs"] = x
	}
	return f
}

func catCommand() command {
	return command{
		exact: true, name: "cat", args: "S:PATH", min: 1, max: 1, does: "write a file, an image or a device to standard output",
		help: "What is missing reads as zeros, is said on standard error, and makes the exit code 3. With --json the bytes come in rows, as base64.",
		examples: []string{
			"asl-admin --store /mnt/asl/local cat latest:etc/fstab",
			"asl-admin --store /mnt/asl/local cat 3:sda | dd of=/dev/sdc bs=1M",
		},
		run: runCat,
	}
}

func runCat(ctx context.Context, c *call) report.Result {
	snapshot, path := splitTarget(c.args[0])
	v, err := c.view(ctx, snapshot)
	if err != nil {
		return report.Result{Err: err}
	}
	p, err := c.find(ctx, v, path)
	if err != nil {
		return report.Result{Err: err}
	}
	if p.isDir() || p.entry != nil && p.entry.Type != source.Regular {
		return report.Result{Err: report.Usagef("%s is neither a file nor an image or a device; ls lists directories", p.name())}
	}
	k := concatenator{c: c, p: p, out: c.std.Out}
	if c.json {
		k.out = rowWriter{c}
	}
	if err := k.run(ctx); err != nil {
		if errors.Is(err, context.Canceled) {
			err = context.Cause(ctx)
		}
		return report.Result{Err: &report.Error{What: "read " + p.name(), Err: err}}
	}
	if k.lost > 0 {
		return report.Result{Err: &report.Error{What: "read " + p.name(), Err: fmt.Errorf("%s are missing and came as zeros", event.Bytes(k.lost)), Code: report.Gaps}}
	}
	return report.Result{Fields: map[string]any{"bytes": k.at}}
}

// rowWriter prints bytes as rows of base64.
type rowWriter struct{ c *call }

func (w rowWriter) Write(b []byte) (int, error) {
	w.c.pr.Row("data", "", map[string]any{"base64": base64.StdEncoding.EncodeToString(b)})
	return len(b), nil
}

// concatenator writes content in order. What it has written is at.
type concatenator struct {
	c    *call
	p    place
	out  io.Writer
	at   int64
	lost int64
	hid  int64 // by pages of the map that are damaged
}

func (k *concatenator) run(ctx context.Context) error {
	e, size := k.p.entry, k.p.src.Length
	if e != nil {
		var err error
		if e, err = k.p.content(ctx); err != nil {
			return err
		}
		size = e.Size
		if len(e.Inline) > 0 {
			_, err := k.out.Write(e.Inline)
			k.at = size
			return err
		}
	}
	a := newAhead(ctx, k.p.view, 2, func(send func(*window) bool) {
		w := &window{}
		for page, err := range k.p.pagesOf(ctx, e) {
			if err != nil && (!isLost(err) || page == nil) {
				w.content, w.err = nil, err
				break
			}
			ok := sift(k.p.name(), page, err, func(st store.Stretch) bool {
				w.add(st)
				if !w.full() {
					return true
				}
				full := w
				w = &window{}
				return send(full)
			}, func(m missing) {
				k.c.say("missing: %s", m)
				if m.Kind == "damaged" { // what was never saved is counted in the snapshot
					k.hid += m.Len
				}
			})
			if !ok {
				return
			}
		}
		send(w)
	})
	defer a.stop()
	for {
		w, err := a.next()
		if err != nil {
			return err
		}
		if w == nil {
			break
		}
		if err := k.window(w); err != nil {
			return err
		}
		a.free(w)
	}
	k.lost += k.hid + k.missing(e)
	return k.zeros(size)
}

// missing is what was never saved, by the entry or the manifest.
func (k *concatenator) missing(e *format.Entry) int64 {
	if e != nil {
		return e.Unreadable
	}
	return k.p.src.Counts.Unreadable + k.p.src.Counts.Untried
}

func (k *concatenator) window(w *window) error {
	for i, st := range w.content {
		data, err := w.stretch(i)
		if err != nil {
			k.c.say("missing: %s", missing{k.p.name(), st.Off, st.Len, "damaged", err.Error()})
			k.lost += st.Len
			continue
		}
		if err := k.zeros(st.Off); err != nil {
			return err
		}
		n, err := k.out.Write(data)
		k.at += int64(n)
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}

// zeros writes zeros up to an offset.
func (k *concatenator) zeros(to int64) error {
	buf := make([]byte, min(max(to-k.at, 0), 1<<20))
	for k.at < to {
		n, err := k.out.Write(buf[:min(int64(len(buf)), to-k.at)])
		k.at += int64(n)
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}
