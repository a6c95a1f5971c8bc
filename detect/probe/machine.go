// Package probe looks at the machine it runs on and gives detect.Facts. It only reads: it opens no device for writing, mounts
// nothing, loads no module. What can wait in the kernel for ever happens in a child process, which is abandoned when it does not
// come back.
package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"aslrescue/detect"
)

// Limit is how long a probe may take. Then it is told as failed, and what it started is left alone. A machine that is itself so slow
// that only to start a process takes it more than a twentieth of that gets twenty times what that took, but never more than Slowest: it is
// the disk that is to be found dead, not the processor.
const (
	Limit   = 5 * time.Second
	Slowest = time.Minute
)

// limit is how long a probe may take where a process starts in that time; below 0: it has not started yet.
func limit(start time.Duration) time.Duration {
	if start < 0 {
		return Slowest
	}
	return min(max(Limit, 20*start), Slowest)
}

// Machine is what probes look at. System gives the real one; tests give a folder and made-up tools.
type Machine struct {
	Root    string // in front of /proc, /sys, /dev, /etc; empty is the real one
	Tool    string // how this program calls itself
	Made    int64  // when it was made, seconds since 1970; 0 if that is not known
	UID     int
	Console func() detect.Console
	Clock   Clock

	// Run runs a tool. What it prints and how it ends is data; an error means that it could not be run, or did not end in time.
	Run func(ctx context.Context, name string, args ...string) (Output, error)
	// Child starts this program again to do one Request, and gives what it prints.
	Child func(ctx context.Context, r Request) (io.ReadCloser, error)

	Resolve func(ctx context.Context, host string) ([]string, error)
	Dial    Dialer
	Addrs   func(link string) []string // of a network card
	Synced  func() bool                // whether the kernel says that its clock is kept right
}

// Clock is the time, and waiting for it.
type Clock interface {
	Now() time.Time
	After(time.Duration) <-chan time.Time
}

// Output is what a tool printed and how it ended.
type Output struct {
	Out, Err string
	Code     int
}

func (m *Machine) path(p string) string { return filepath.Join(m.Root+"/", p) }

// text is a small file of /proc or /sys without its newline; empty where it is not there.
func (m *Machine) text(p string) string {
	b, err := os.ReadFile(m.path(p))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (m *Machine) number(p string) int64 {
	n, err := strconv.ParseInt(m.text(p), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (m *Machine) exists(p string) bool {
	_, err := os.Lstat(m.path(p))
	return err == nil
}

// names are the entries of a folder, sorted; none where it is not there.
func (m *Machine) names(dir string) []string {
	list, err := os.ReadDir(m.path(dir))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

// target is the last part of what a link points to.
func (m *Machine) target(link string) string {
	to, err := os.Readlink(m.path(link))
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// diskOf gives the whole disk below a device: of a partition its disk, of an array or a map the first disk it lies on.
func (m *Machine) diskOf(name string) string {
	for range 8 { // arrays on maps on arrays end somewhere
		if name == "" {
			return ""
		}
		if m.exists("/sys/block/" + name) {
			slaves := m.names("/sys/block/" + name + "/slaves")
			if len(slaves) == 0 {
				return name
			}
			name = slaves[0]
			continue
		}
		// A partition stands below its disk.
		real, err := filepath.EvalSymlinks(m.path("/sys/class/block/" + name))
		if err != nil {
			return ""
		}
		name = filepath.Base(filepath.Dir(real))
	}
	return ""
}

// deviceName is the kernel's name of a device number, "8:1".
func (m *Machine) deviceName(number string) string { return m.target("/sys/dev/block/" + number) }

// tool finds a program where a rescue system has those.
func (m *Machine) tool(name string) string {
	for _, dir := range strings.Split(ToolPath, ":") {
		if fi, err := os.Stat(m.path(dir + "/" + name)); err == nil && !fi.IsDir() && fi.Mode()&0o111 != 0 {
			return dir + "/" + name
		}
	}
	return ""
}

// ToolPath is where programs are looked for. The environment has no say in what a rescue runs as root.
const ToolPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// late is the error of a probe that was given up after so long.
type late time.Duration

func (l late) Error() string {
	return fmt.Sprintf("it did not answer within %d s", time.Duration(l)/time.Second)
}

const errLate = late(Limit)

func isLate(err error) bool {
	var l late
	return errors.As(err, &l)
}
