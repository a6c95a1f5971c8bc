package zfs

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Runner runs a command to its end and gives what it printed. ok is false where it failed.
type Runner interface {
	Run(ctx context.Context, argv []string) (output string, ok bool)
}

// Exec runs commands of this system in an environment of its own: in one language, and without variables that change what zpool does.
type Exec struct{}

// where tools lie. A path of somebody's own is not asked: this runs as root.
var where = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// Run runs a command. It is not killed when ctx ends: an import that is cut off in the middle leaves a pool that is neither in nor out. A ^C
// on the terminal does not reach it either.
func (Exec) Run(_ context.Context, argv []string) (string, bool) {
	file, err := find(argv[0])
	if err != nil {
		return err.Error(), false
	}
	cmd := exec.Command(file, argv[1:]...)
	cmd.Env = []string{"LC_ALL=C", "PATH=" + strings.Join(where, ":")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err == nil
}

func find(name string) (string, error) {
	for _, dir := range where {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

// Parameters of the kernel's half of ZFS that hold while a pool is in use.
const (
	hostIDParam  = "spl/parameters/spl_hostid"       // decimal
	noZvolsParam = "zfs/parameters/zvol_inhibit_dev" // 1: volumes do not appear as disks
)

// System is what is not a command.
type System interface {
	Param(name string) (string, error) // of a kernel module
	SetParam(name, value string) error
	Mounts() ([]Mount, error)
	MkdirAll(dir string) error
	Unmount(dir string) error
	Holders(dir string) []string // processes that work below dir: "bash (1234)"
}

// Mount is a mounted file system.
type Mount struct {
	Source, Target, Type string
}

// Linux is this system.
type Linux struct{}

// Param reads a parameter of a module.
func (Linux) Param(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join("/sys/module", name))
	return strings.TrimSpace(string(b)), err
}

// SetParam sets one until the module is unloaded. No file is written.
func (Linux) SetParam(name, value string) error {
	return os.WriteFile(filepath.Join("/sys/module", name), []byte(value), 0)
}

// MkdirAll makes a folder to mount on.
func (Linux) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o755) }

// Unmount takes a file system away, if nothing uses it.
func (Linux) Unmount(dir string) error { return syscall.Unmount(dir, 0) }

// Mounts lists what is mounted, the last on top.
func (Linux) Mounts() ([]Mount, error) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var all []Mount
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 {
			all = append(all, Mount{unescape(f[0]), unescape(f[1]), f[2]})
		}
	}
	return all, nil
}

// unescape undoes what the kernel does to blanks in names of mounts.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Holders names processes with a file, or their folder, below dir.
func (Linux) Holders(dir string) []string {
	var all []string
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	for _, p := range procs {
		if !uses(p, dir) {
			continue
		}
		name, err := os.ReadFile(filepath.Join(p, "comm"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		all = append(all, strings.TrimSpace(string(name))+" ("+filepath.Base(p)+")")
	}
	return all
}

func uses(proc, dir string) bool {
	links, err := filepath.Glob(proc + "/fd/*")
	if err != nil {
		return false
	}
	for _, l := range append(links, proc+"/cwd", proc+"/root", proc+"/exe") {
		if t, err := os.Readlink(l); err == nil && (t == dir || strings.HasPrefix(t, dir+"/")) {
			return true
		}
	}
	return false
}
