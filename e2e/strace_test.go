package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// traced are the system calls that change something, or could: what "harmless" looks at. No machine has all of them.
const traced = "open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,mknod,mknodat," +
	"truncate,chmod,fchmodat,fchmodat2,chown,lchown,fchownat,utimensat,setxattr,lsetxattr,removexattr,lremovexattr," +
	"mount,umount2,move_mount,fsmount,pivot_root,swapon,swapoff,reboot,settimeofday,clock_settime,sethostname,init_module,finit_module,delete_module,ioctl,execve"

var (
	callLine = regexp.MustCompile(`^(?:\d+ +)?([a-z_0-9]+)\((.*)$`)
	quoted   = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
	workDir  = regexp.MustCompile(`^AT_FDCWD<([^>]*)>`)
	fdPath   = regexp.MustCompile(`^\d+<([^>]*)>`)
)

// harms lists what a trace shows that changes anything outside of the folders given, writes to a block device, loads a module, or
// mounts. It judges what was tried, not whether it worked.
func harms(trace string, allowed []string, isBlock func(string) bool) []string {
	var found []string
	for line := range strings.Lines(trace) {
		m := callLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue // a signal, an end, a call that goes on
		}
		if why := harm(m[1], m[2], allowed, isBlock); why != "" {
			found = append(found, why+": "+strings.TrimSpace(line))
		}
	}
	return found
}

func harm(call, args string, allowed []string, isBlock func(string) bool) string {
	switch call {
	case "execve":
		return ""
	case "ioctl":
		if p := fdPath.FindStringSubmatch(args); p != nil && isBlock(p[1]) {
			return "an ioctl on a block device"
		}
		return ""
	case "mount", "umount2", "move_mount", "fsmount", "pivot_root", "swapon", "swapoff", "reboot", "settimeofday", "clock_settime", "sethostname",
		"init_module", "finit_module", "delete_module", "mknod", "mknodat":
		return "is never called"
	case "open", "openat", "openat2", "creat":
		writes := call == "creat" || slices.ContainsFunc([]string{"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"}, func(f string) bool { return strings.Contains(quoted.ReplaceAllString(args, ""), f) })
		if !writes {
			return ""
		}
	}
	base := ""
	if d := workDir.FindStringSubmatch(args); d != nil {
		base = d[1]
	} else if d := fdPath.FindStringSubmatch(args); d != nil {
		base = d[1]
	}
	for _, q := range quoted.FindAllStringSubmatch(args, -1) {
		p, err := strconv.Unquote(`"` + q[1] + `"`)
		if err != nil {
			p = q[1]
		}
		if !filepath.IsAbs(p) {
			p = filepath.Join(base, p)
		}
		p = filepath.Clean(p)
		switch {
		case isBlock(p):
			return "writes to a block device"
		case p == "/dev/null" || p == "/dev/tty":
		case !under(p, allowed):
			return "changes " + p
		}
	}
	return ""
}

func isBlockDevice(p string) bool {
	fi, err := os.Stat(p)
	return err == nil && fi.Mode()&(os.ModeDevice|os.ModeCharDevice) == os.ModeDevice
}

// strace runs a program and keeps what it called.
func strace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: strace OUT PROGRAM ARGS…")
	}
	ts.Check(ts.Exec("strace", append([]string{"-f", "-y", "-s", "4096", "-o", args[0], "-e", "trace=?" + strings.ReplaceAll(traced, ",", ",?")}, args[1:]...)...))
}

// harmless holds a trace against the folders that may be written to.
func harmless(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 {
		ts.Fatalf("usage: harmless TRACE [FOLDER…]")
	}
	trace := ts.ReadFile(args[0])
	if strings.Count(trace, "\n") < 20 || !strings.Contains(trace, "/proc/self/mountinfo") {
		ts.Fatalf("%s is no trace of a look at a machine", args[0])
	}
	var allowed []string
	for _, a := range args[1:] {
		allowed = append(allowed, ts.MkAbs(a))
	}
	found := harms(trace, allowed, func(p string) bool { return isBlockDevice(p) || p == ts.MkAbs("disk") }) // "disk" stands for one
	if (len(found) > 0) != neg {
		ts.Fatalf("found %d:\n%s", len(found), strings.Join(found, "\n"))
	}
}

// A guard that sees nothing would let everything pass.
func TestHarmlessSeesEveryHarm(t *testing.T) {
	block := func(p string) bool { return p == "/dev/sda" }
	for line, want := range map[string]string{
		`12 openat(AT_FDCWD</tmp/w>, "/dev/sda", O_RDWR|O_CLOEXEC) = 5</dev/sda>`:                   "block device",
		`12 openat(AT_FDCWD</tmp/w>, "/dev/sda", O_WRONLY|O_DIRECT <unfinished ...>`:                "block device",
		`12 openat(AT_FDCWD</tmp/w>, "/dev/sda", O_RDONLY|O_DIRECT|O_CLOEXEC) = 5</dev/sda>`:        "",
		`12 ioctl(5</dev/sda>, BLKROSET, [1]) = 0`:                                                  "block device",
		`12 ioctl(0</dev/pts/1>, TCGETS, {…}) = 0`:                                                  "",
		`12 openat(AT_FDCWD</tmp/w>, "run/mode", O_RDWR|O_CREAT|O_EXCL, 0600) = 5</tmp/w/run/mode>`: "",
		`12 openat(AT_FDCWD</tmp/w>, "mode", O_RDWR|O_CREAT|O_EXCL, 0600) = 5</tmp/w/mode>`:         "changes /tmp/w/mode",
		`12 openat(7</tmp/w/run>, "../x", O_WRONLY) = -1 EACCES (Permission denied)`:                "changes /tmp/w/x",
		`12 openat(AT_FDCWD</tmp/w>, "/etc/asl/O_RDWR", O_RDONLY) = -1 ENOENT (No such file)`:       "",
		`12 renameat(AT_FDCWD</tmp/w>, "run/a", AT_FDCWD</tmp/w>, "/etc/b") = 0`:                    "changes /etc/b",
		`12 mkdirat(AT_FDCWD</tmp/w>, "run", 0755) = 0`:                                             "",
		`12 unlinkat(AT_FDCWD</tmp/w>, "/var/lib/asl/x", 0) = 0`:                                    "changes /var/lib/asl/x",
		`12 finit_module(5</lib/modules/zfs.ko>, "", 0) = 0`:                                        "never called",
		`12 init_module(0x7f, 12, "") = -1 EPERM (Operation not permitted)`:                         "never called",
		`12 mount("/dev/sda1", "/mnt", "ext4", MS_RDONLY, NULL) = 0`:                                "never called",
		`12 openat(AT_FDCWD</tmp/w>, "/dev/null", O_WRONLY|O_CLOEXEC) = 15</dev/null>`:              "",
		`12 execve("/sbin/modprobe", ["modprobe"], 0x7f /* 3 vars */) = 0`:                          "",
		`12 <... openat resumed>) = 5</proc/cmdline>`:                                               "",
		`12 --- SIGURG {si_signo=SIGURG, si_code=SI_TKILL, si_pid=15112, si_uid=0} ---`:             "",
		`openat(AT_FDCWD</tmp/w>, "/tmp/w/run\n/../evil", O_WRONLY|O_CREAT, 0666) = 3`:              "changes /tmp/w/evil",
	} {
		got := strings.Join(harms(line+"\n", []string{"/tmp/w/run"}, block), "\n")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", line, got, want)
		}
	}
}
