package kill

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCalls reads what an intake really asked of the kernel, and wants every promise of durability in it: a file is synced
// before it gets its name, takes nobody's place, its folder is synced before the log or anybody else is told of it, and
// nothing in the store is ever opened again for writing.
func TestCalls(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Log("strace is not here: no call was looked at") // the same is wanted of the operations in memory elsewhere
		return
	}
	s := newStand(t, "crumbs", "little")
	dir := filepath.Join(s.dir, "calls")
	must(t, os.Mkdir(dir, 0o755))
	store := filepath.Join(dir, "store")
	for i, name := range []string{"crumbs", "little", "crumbs"} { // a new store, a used one, one that has it all
		trace := filepath.Join(dir, fmt.Sprint("trace-", i))
		p, err := s.intake(s.jobs[name], store, strace, "-f", "--seccomp-bpf", "-qq", "-y", "-s", "200", "-o", trace, "-e",
			"trace=openat,openat2,open,creat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,truncate,ftruncate,mkdirat")
		must(t, err)
		if o := p.wait(); o.code() != 0 {
			t.Fatalf("run %d: %s", i, o)
		}
		a := audit{store: store, synced: map[string]bool{}, open: map[string]call{}}
		must(t, a.read(trace))
		if err := errors.Join(a.wrong...); err != nil {
			t.Errorf("run %d: %v", i, err)
		}
		if a.named < 3 {
			t.Errorf("run %d: only %d files were seen to get their names", i, a.named)
		}
		t.Logf("run %d: %d files named, %d folders and files synced", i, a.named, a.syncs)
	}
	r := &series{stand: s, store: store, files: watch{}, j: s.jobs["crumbs"]}
	must(t, r.check())
}

// call is one call as strace writes it.
type call struct {
	name, args string
	before     []string // names that were not durable when an fsync of their folder began
}

// audit follows the calls of one run.
type audit struct {
	store  string
	synced map[string]bool // files whose content is durable
	loose  []string        // names that are not durable yet
	open   map[string]call // calls under way, by thread
	wrong  []error
	named  int
	syncs  int
}

var (
	straceLine = regexp.MustCompile(`^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$`)
	fdPath     = regexp.MustCompile(`^\d+<([^>]*)>`)
	quoted     = regexp.MustCompile(`^"((?:[^"\\]|\\.)*)"`)
)

func (a *audit) read(trace string) error {
	f, err := os.Open(trace)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		m := straceLine.FindStringSubmatch(in.Text())
		if m == nil {
			continue // signals
		}
		thread, rest := m[1], m[4]
		c := call{name: m[3], args: rest}
		if m[2] != "" { // the rest of a call that began before
			c = a.open[thread]
			c.args += rest
		} else {
			c = a.begins(c)
		}
		if args, ok := strings.CutSuffix(rest, "<unfinished ...>"); ok {
			c.args = args
			a.open[thread] = c
			continue
		}
		delete(a.open, thread)
		if ok := regexp.MustCompile(`\) += (\d+)`).MatchString(rest); ok {
			a.ends(c)
		}
	}
	return in.Err()
}

func (a *audit) fail(format string, args ...any) {
	a.wrong = append(a.wrong, fmt.Errorf(format, args...))
}

func (a *audit) inStore(p string) bool { return p == a.store || strings.HasPrefix(p, a.store+"/") }

// places gives the paths that a call names, in order: "at" calls have a folder and a name.
func places(args string) (all []string) {
	dir := ""
	for rest := args; rest != ""; {
		rest = strings.TrimLeft(rest, ", ")
		switch {
		case strings.HasPrefix(rest, "AT_FDCWD"):
			_, after, _ := strings.Cut(rest, ",")
			if m := regexp.MustCompile(`^AT_FDCWD<([^>]*)>`).FindStringSubmatch(rest); m != nil {
				dir = m[1]
			}
			rest = after
		case fdPath.MatchString(rest):
			m := fdPath.FindStringSubmatch(rest)
			dir, rest = m[1], rest[len(m[0]):]
			if !strings.HasPrefix(strings.TrimLeft(rest, ", "), `"`) {
				return append(all, dir)
			}
		case quoted.MatchString(rest):
			m := quoted.FindStringSubmatch(rest)
			rest = rest[len(m[0]):]
			if path.IsAbs(m[1]) {
				all = append(all, m[1])
			} else {
				all = append(all, path.Join(dir, m[1]))
			}
		default:
			return all
		}
	}
	return all
}

// begins sees a call when it is made: what it wants to be true must be true already.
func (a *audit) begins(c call) call {
	ps := places(c.args)
	switch c.name {
	case "fsync":
		c.before = slices.Clone(a.loose)
	case "write":
		if strings.HasPrefix(c.args, "1<") {
			if strings.Contains(c.args, `resume_point`) || strings.Contains(c.args, `snapshot_sealed`) {
				a.durable("something was acknowledged")
			}
			return c
		}
		a.synced[firstOf(c.args)] = false
	case "renameat2", "linkat":
		if len(ps) < 2 || !a.inStore(ps[1]) {
			return c
		}
		if c.name == "renameat2" && !strings.Contains(c.args, "RENAME_NOREPLACE") {
			a.fail("%s may have taken another's place", ps[1])
		}
		if strings.HasPrefix(path.Base(ps[1]), ".tmp-") {
			return c // the proof at the beginning
		}
		if !a.synced[ps[0]] {
			a.fail("%s got its name before its content was synced", ps[1])
		}
		if strings.HasPrefix(ps[1], a.store+"/logs/") {
			a.durable("the log went on with " + path.Base(ps[1]))
		}
		a.named++
	case "rename", "renameat", "link", "truncate", "ftruncate", "pwrite64", "creat", "open":
		if slices.ContainsFunc(ps, a.inStore) {
			a.fail("%s(%s", c.name, c.args)
		}
	case "openat", "openat2":
		writes := strings.Contains(c.args, "O_WRONLY") || strings.Contains(c.args, "O_RDWR") || strings.Contains(c.args, "O_TRUNC")
		if writes && len(ps) > 0 && a.inStore(ps[0]) && !strings.Contains(c.args, "O_EXCL") {
			a.fail("opened for writing: %s", c.args)
		}
	case "unlink", "unlinkat":
		if len(ps) > 0 && a.inStore(ps[0]) && !strings.HasPrefix(path.Base(ps[0]), ".tmp-") {
			a.fail("%s was removed", ps[0])
		}
	}
	return c
}

func firstOf(args string) string {
	if m := fdPath.FindStringSubmatch(args); m != nil {
		return m[1]
	}
	return ""
}

func (a *audit) durable(when string) {
	if len(a.loose) > 0 {
		a.fail("%s while the folder was not synced of %s", when, a.loose)
	}
}

// ends sees a call when it has come back well: what it promises is true from here on.
func (a *audit) ends(c call) {
	ps := places(c.args)
	switch c.name {
	case "fsync":
		a.syncs++
		p := firstOf(c.args)
		a.synced[p] = true
		a.loose = slices.DeleteFunc(a.loose, func(name string) bool { return path.Dir(name) == p && slices.Contains(c.before, name) })
	case "renameat2", "linkat":
		if len(ps) > 1 && a.inStore(ps[1]) && !strings.HasPrefix(path.Base(ps[1]), ".tmp-") {
			a.loose = append(a.loose, ps[1])
		}
	case "mkdirat":
		if len(ps) > 0 && a.inStore(ps[0]) {
			a.loose = append(a.loose, ps[0])
		}
	}
}
