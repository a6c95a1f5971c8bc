package main

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// audit is what one step of one configuration did for durability, seen by strace in a run of its own on a small corpus.
type audit struct {
	Files   int // regular files it left
	Synced  int // fsync, fdatasync of files there, or opened so that every write is synced
	Dirs    int // fsync of folders there
	Whole   int // sync, syncfs
	Read    string
	Missing []string // folders that got files and were never synced
}

// durable says whether a step left nothing to the page cache.
func (a audit) durable() bool { return a.Whole > 0 || a.Synced >= a.Files }

func (a audit) String() string {
	if a.Whole > 0 {
		return fmt.Sprintf("%d+%d/%d files, %d whole", a.Synced, a.Dirs, a.Files, a.Whole)
	}
	return fmt.Sprintf("%d+%d/%d files", a.Synced, a.Dirs, a.Files)
}

// missing says what is wrong with our durability; "" = nothing. A peer that leaves it to the page cache gets a sync in its
// timed span instead.
func (a audit) missing(step string) string {
	switch {
	case a.Whole > 0:
		return ""
	case a.Synced < a.Files:
		return fmt.Sprintf("OUR FSYNCS ARE MISSING: %s left %d files (blocks, segments, log parts) and synced %d", step, a.Files, a.Synced)
	case len(a.Missing) > 0:
		return fmt.Sprintf("OUR FSYNCS ARE MISSING: %s put files into %d folders that were never synced, so their names can be lost: %s",
			step, len(a.Missing), strings.Join(a.Missing[:min(3, len(a.Missing))], ", "))
	}
	return ""
}

var (
	syncCall = regexp.MustCompile(`\b(fsync|fdatasync)\(\d+<([^>]*)>`)
	wholeCal = regexp.MustCompile(`\b(syncfs|sync)\(`)
	openCall = regexp.MustCompile(`\bopen(?:at2?)?\((?:(?:\d+|AT_FDCWD)<([^>]*)>, )?(?:AT_FDCWD, )?"([^"]*)".*?\b(O_[A-Z_|]+)`)
	mmapCall = regexp.MustCompile(`\bmmap\([^<]*<([^>]*)>`)
)

// tracer reads strace's output: which calls concern target, and how source was read.
type tracer struct {
	target, source, dir string
	a                   audit
	dirs                map[string]bool
	how                 map[string]bool
}

func newTracer(target, source, dir string) *tracer {
	return &tracer{target: target, source: source, dir: dir, dirs: map[string]bool{}, how: map[string]bool{}}
}

func (t *tracer) line(s string) {
	if strings.Contains(s, " = -1 ") {
		return
	}
	if m := syncCall.FindStringSubmatch(s); m != nil && within(t.target, m[2]) {
		t.sync(strings.TrimSuffix(m[2], " (deleted)"))
	} else if wholeCal.MatchString(s) {
		t.a.Whole++
	} else if m := openCall.FindStringSubmatch(s); m != nil {
		t.open(t.abs(m[1], m[2]), m[3])
	} else if m := mmapCall.FindStringSubmatch(s); m != nil && within(t.source, m[1]) {
		t.how["mmap"] = true
	}
}

func (t *tracer) sync(path string) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		t.dirs[path] = true
		t.a.Dirs++
		return
	}
	t.a.Synced++
}

// abs finds a name that is relative to an open folder, or to where the command was started.
func (t *tracer) abs(folder, path string) string {
	switch {
	case filepath.IsAbs(path):
		return path
	case folder != "":
		return filepath.Join(folder, path)
	}
	return filepath.Join(t.dir, path)
}

func (t *tracer) open(path, flags string) {
	switch {
	case within(t.target, path) && (strings.Contains(flags, "O_SYNC") || strings.Contains(flags, "O_DSYNC")):
		t.a.Synced++
	case !within(t.source, path) || strings.Contains(flags, "O_DIRECTORY") || strings.Contains(flags, "O_PATH"):
	case strings.Contains(flags, "O_DIRECT"):
		t.how["O_DIRECT"] = true
	default:
		t.how["page cache"] = true
	}
}

func within(root, path string) bool {
	return root != "" && (path == root || strings.HasPrefix(path, root+"/"))
}

// result compares with what stands in target now.
func (t *tracer) result() (audit, error) {
	var how []string
	for h := range t.how {
		how = append(how, h)
	}
	slices.Sort(how)
	t.a.Read = strings.Join(how, "+")
	holders := map[string]bool{}
	err := filepath.WalkDir(t.target, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			t.a.Files++
			holders[filepath.Dir(path)] = true
		}
		return err
	})
	for dir := range holders {
		if !t.dirs[dir] {
			t.a.Missing = append(t.a.Missing, dir)
		}
	}
	slices.Sort(t.a.Missing)
	return t.a, err
}

// traced runs argv under strace.
func traced(ctx context.Context, cmd step, target, source, log string) (audit, error) {
	line := append([]string{"strace", "-f", "-y", "-qq", "--seccomp-bpf", "-s", "4096", "-o", log,
		"-e", "trace=fsync,fdatasync,syncfs,sync,open,openat,openat2,mmap", "--"}, cmd.argv...)
	cmd.argv = line
	if err := cmd.plain(ctx); err != nil {
		return audit{}, err
	}
	f, err := os.Open(log)
	if err != nil {
		return audit{}, err
	}
	defer f.Close()
	t := newTracer(target, source, cmd.dir)
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		t.line(s.Text())
	}
	if s.Err() != nil {
		return audit{}, s.Err()
	}
	return t.result()
}

// auditAll traces the steps that write, each into an empty place, and returns what it saw by step. Later steps of a chain
// write as the first did.
func (b *bench) auditAll(ctx context.Context, r *runner) (map[string]audit, error) {
	seen := map[string]audit{}
	defer r.cleanup()
	for _, name := range []string{"first", "restore", "tree"} {
		if !b.audits(name) || r.c.Steps[name] == "" {
			continue
		}
		if name == "tree" {
			r.cleanup()
		}
		if name != "restore" {
			if err := r.prepare(ctx); err != nil {
				return seen, err
			}
		}
		target, source := r.vars["{repo}"], filepath.Join(r.corpus.Dir, "disk.img")
		switch name {
		case "restore":
			target, source = r.vars["{out}"], r.vars["{repo}"]
		case "tree":
			source = r.corpus.TreePath()
		}
		if r.c.Tool == "kopia" && name == "first" {
			source = r.vars["{links}"]
		}
		a, err := traced(ctx, r.step(name), target, source, filepath.Join(r.vars["{home}"], "strace"))
		if err != nil {
			return seen, err
		}
		seen[name] = a
	}
	return seen, nil
}

// audits says whether a traced step is needed for what was chosen: restore needs a first.
func (b *bench) audits(name string) bool {
	switch name {
	case "first":
		return b.selects("first", "again", "disk2", "restore", "verify")
	case "tree":
		return b.selects("tree", "tree-again")
	}
	return b.selects(name)
}

// auditOf maps a step to the traced one that writes as it does.
func auditOf(name string) string {
	switch name {
	case "again", "disk2":
		return "first"
	case "tree-again":
		return "tree"
	}
	return name
}
