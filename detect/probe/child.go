package probe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"aslrescue/detect"
	"aslrescue/detect/zfslabel"
)

// ChildArg is the first argument with which this program is started again to look at something that may hang. It stands in no
// help text: people have no use for it.
const ChildArg = "--look-child"

// Request is what a child does: read devices, or ask about a folder.
type Request struct {
	Devices []string `json:"devices,omitempty"`
	Folder  string   `json:"folder,omitempty"`
}

func marshal(r Request) (string, error) {
	b, err := json.Marshal(r)
	return string(b), err
}

// Peeked is what a child says of one device.
type Peeked struct {
	Path    string          `json:"path"`
	Size    int64           `json:"size"`
	Table   string          `json:"table,omitempty"`
	Content *detect.Content `json:"content,omitempty"`
	ZFS     []zfslabel.Seen `json:"zfs,omitempty"`
	Err     string          `json:"err,omitempty"`
}

// Folder is what a child says of a folder.
type Folder struct {
	Exists   bool   `json:"exists"`
	Free     int64  `json:"free"`
	Total    int64  `json:"total"`
	ReadOnly bool   `json:"read_only"`
	Empty    bool   `json:"empty"`
	IsStore  bool   `json:"is_store"`
	Err      string `json:"err,omitempty"`
}

// Child is the other end: it does what the request says, prints a line of JSON for each answer, and gives the exit code. It reads
// devices one after the other, so that an answer about the first is out before the second hangs.
func Child(args []string, out io.Writer) int {
	var r Request
	if len(args) != 1 || json.Unmarshal([]byte(args[0]), &r) != nil {
		fmt.Fprintln(os.Stderr, "this way of starting the program is its own; --help shows the others")
		return 2
	}
	enc := json.NewEncoder(out)
	for _, p := range r.Devices {
		if enc.Encode(peek(p)) != nil {
			return 1 // nobody listens any more
		}
	}
	if r.Folder != "" && enc.Encode(folder(r.Folder)) != nil {
		return 1
	}
	return 0
}

// children reads the lines of a child as values. It ends with the child, or with ctx.
func children[T any](ctx context.Context, m *Machine, r Request, each func(T)) error {
	out, err := m.Child(ctx, r)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }() // only read
	lines := bufio.NewReaderSize(out, 1<<16)
	for {
		line, err := lines.ReadBytes('\n')
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the process that looked ended early: %w", err)
		}
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return fmt.Errorf("the process that looked said something else: %w", err)
		}
		each(v)
	}
}

// peek opens a device and reads what tells about it.
func peek(path string) Peeked {
	d, err := openAligned(path)
	if err != nil {
		return Peeked{Path: path, Err: plainError(err)}
	}
	defer d.close()
	return d.peek(path)
}

func (d *aligned) peek(path string) Peeked {
	p := Peeked{Path: path, Size: d.size}
	table, places := zfslabel.Look(d, d.size)
	p.Table = string(table)
	for i, pl := range places {
		name := path
		if i > 0 {
			name += " (" + pl.Name + ")"
		}
		if s := pl.Found.Seen(name); s.Found() {
			p.ZFS = append(p.ZFS, s)
		}
	}
	p.Content = content(d, d.size)
	if d.failed != nil {
		p.Err = plainError(d.failed)
	}
	return p
}

// plainError leaves out the name, which stands beside it.
func plainError(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return err.Error()
}

// folder asks about a folder and what it lies on. On a dead network share this never comes back.
func folder(path string) Folder {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Folder{Err: plainError(err)}
	}
	f := Folder{Exists: true, Free: int64(st.Bavail) * st.Bsize, Total: int64(st.Blocks) * st.Bsize, ReadOnly: st.Flags&unix.ST_RDONLY != 0}
	d, err := os.Open(path)
	if err != nil {
		f.Err = plainError(err)
		return f
	}
	defer func() { _ = d.Close() }() // only read
	names, err := d.Readdirnames(64)
	if err != nil && !errors.Is(err, io.EOF) {
		f.Err = plainError(err)
		return f
	}
	parts := 0
	f.Empty = true
	for _, n := range names {
		switch n {
		case "blocks", "segments", "snapshots", "logs":
			parts++
			f.Empty = false
		case "lost+found":
		default:
			f.Empty = false
		}
	}
	f.IsStore = parts == 4
	return f
}
