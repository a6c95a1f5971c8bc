package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"aslrescue/cmd/internal/report"
	"aslrescue/tui/ask"
)

// self runs this program again, to do what may hang in the kernel: reading a folder of a dying disk. It gives what the child printed. When ctx
// ends the child is killed and no longer waited for, because a process that hangs in the kernel does not die.
func self(ctx context.Context, args ...string) ([]byte, error) {
	return runChild(ctx, "/proc/self/exe", args...)
}

// childRunner is self, or another in tests.
type childRunner func(ctx context.Context, args ...string) ([]byte, error)

func runChild(ctx context.Context, program string, args ...string) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }() // ends when the kernel lets go of the child
	select {
	case err := <-done:
		if err != nil && errs.Len() > 0 {
			return nil, errors.New(firstLine(errs.String()))
		}
		return out.Bytes(), err
	case <-ctx.Done():
		_ = cmd.Process.Kill() // it may be beyond that
		return nil, context.Cause(ctx)
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// slowAfter is how long a folder may take.
const slowAfter = 5 * time.Second

// maxListed is how many entries of a folder are listed: a picker is no file manager.
const maxListed = 2000

// Dir lists a folder, in a process that can be given up.
func (l *Live) Dir(ctx context.Context, path string) (ask.Listing, error) {
	if !filepath.IsAbs(path) {
		return ask.Listing{}, fmt.Errorf("%w: %q is no absolute path", ask.ErrRefused, path)
	}
	return listByChild(ctx, l.o.Child, slowAfter, path)
}

func listByChild(ctx context.Context, child childRunner, after time.Duration, path string) (ask.Listing, error) {
	var list ask.Listing
	ctx, cancel := context.WithTimeoutCause(ctx, after, ask.ErrSlow)
	defer cancel()
	b, err := child(ctx, "--list-dir", path)
	if errors.Is(err, ask.ErrSlow) {
		return list, fmt.Errorf("list %s: %w", path, err)
	}
	if err != nil {
		return list, err
	}
	return list, json.Unmarshal(b, &list)
}

// listDir is what the child does.
func listDir(path string, out io.Writer) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOATIME, 0)
	if errors.Is(err, syscall.EPERM) { // not ours: the mount's own noatime must do
		f, err = os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	list := ask.Listing{Path: path}
	names, err := f.Readdirnames(-1)
	if err != nil && len(names) == 0 {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if len(list.Entries) == maxListed {
			list.More = len(names) - maxListed
			break
		}
		e := ask.DirEntry{Name: name}
		if st, err := os.Lstat(filepath.Join(path, name)); err == nil { // what cannot be looked at is still a name
			e.Dir = st.IsDir()
			if st.Mode().IsRegular() {
				e.Size = st.Size()
			}
		}
		list.Entries = append(list.Entries, e)
	}
	return json.NewEncoder(out).Encode(list)
}

// runListDir is asl-intake --list-dir.
func runListDir(path string, std IO) int {
	if err := listDir(path, std.Out); err != nil {
		fmt.Fprintln(std.Err, err)
		return int(report.Failed)
	}
	return int(report.OK)
}
