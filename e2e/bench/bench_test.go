package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"aslrescue/e2e/bench/corpus"
	"aslrescue/e2e/bench/meter"
)

func trace(t *testing.T, store, lines string) audit {
	t.Helper()
	tr := newTracer(store, "/src", "/src")
	for line := range strings.Lines(strings.ReplaceAll(lines, "STORE", store)) {
		tr.line(strings.TrimSpace(line))
	}
	a, err := tr.result()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func storeOf(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range names {
		path := filepath.Join(dir, n)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestEveryFileOfOursNeedsAnFsync(t *testing.T) {
	store := storeOf(t, "blocks/aa/1", "logs/d/1")
	folders := `7 fsync(3<STORE/blocks/aa>) = 0
		7 fsync(3<STORE/logs/d>) = 0
		`
	for _, c := range []struct{ name, lines, want string }{
		{"all", folders + `7 fsync(4<STORE/blocks/aa/tmp>) = 0
			8 fdatasync(5<STORE/logs/d/#12 (deleted)> <unfinished ...>`, ""},
		{"a file", folders + "7 fsync(4<STORE/blocks/aa/tmp>) = 0", "left 2 files (blocks, segments, log parts) and synced 1"},
		{"a folder", "7 fsync(3<STORE/logs/d>) = 0\n7 fsync(4<STORE/a>) = 0\n7 fsync(4<STORE/b>) = 0", "1 folders that were never synced"},
		{"one that failed", folders + "7 fsync(4<STORE/blocks/aa/tmp>) = 0\n7 fsync(4<STORE/x>) = -1 EIO (Input/output error)", "synced 1"},
		{"elsewhere", folders + "7 fsync(4<STORE/a>) = 0\n7 fsync(4</var/cache/x>) = 0", "synced 1"},
		{"all at once", "9 syncfs(3<STORE>) = 0", ""},
		{"synced writes", folders + `7 openat(AT_FDCWD</>, "STORE/a", O_WRONLY|O_CREAT|O_DSYNC, 0444) = 4<STORE/a>
			7 fsync(4<STORE/b>) = 0`, ""},
	} {
		got := trace(t, store, c.lines).missing("first")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTracerTellsHowTheSourceIsRead(t *testing.T) {
	store := storeOf(t, "a")
	for lines, want := range map[string]string{
		`7 openat(AT_FDCWD</src>, "disk.img", O_RDONLY|O_CLOEXEC) = 3</src/disk.img>`:                                     "page cache",
		`7 openat(AT_FDCWD, "/src/disk.img", O_RDONLY|O_DIRECT|O_CLOEXEC <unfinished ...>`:                                "O_DIRECT",
		`7 openat(5</src/tree>, "x", O_RDONLY|O_NOATIME) = 3</src/tree/x>`:                                                "page cache",
		`7 openat(5</src/tree>, "d", O_RDONLY|O_DIRECTORY) = 3</src/tree/d>`:                                              "",
		"7 open(\"disk.img\", O_RDONLY) = 3\n7 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 3</src/disk.img>, 0) = 0x7f000000": "mmap+page cache",
		`7 openat(AT_FDCWD, "/srcs/disk.img", O_RDONLY) = 3`:                                                              "",
	} {
		if a := trace(t, store, lines); a.Read != want {
			t.Errorf("%s: got %q, want %q", lines, a.Read, want)
		}
	}
}

func TestEveryConfigurationIsWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range configs() {
		if seen[c.Name] || c.Mode == "" || c.Group == "" || c.Tool == "" {
			t.Errorf("%+v", c)
		}
		seen[c.Name] = true
		r := newRunner(c, toolbox{c.Tool: "/bin/tool", "asl-admin": "/bin/admin"}, &corpus.Corpus{Dir: "/c"}, "/w", "--one --two")
		for name := range c.Steps {
			s := r.step(name)
			if text := strings.Join(append(s.argv, s.env...), " "); strings.ContainsAny(text, "{}") || s.argv[0] == "" {
				t.Errorf("%s %s: %s", c.Name, name, text)
			}
			if !slices.ContainsFunc(scenarios, func(x scenario) bool { return x.name == name }) {
				t.Errorf("%s has a step %s", c.Name, name)
			}
		}
		if c.Steps["restore"] != "" && c.Restored == "" {
			t.Errorf("%s restores nobody knows what", c.Name)
		}
	}
}

func TestChosenTakesFamiliesAndAlwaysUs(t *testing.T) {
	var names []string
	for _, c := range chosen(configs(), "restic-off, borg") {
		names = append(names, c.Name)
	}
	want := "us-none us-fast us-none-verify borg-none-fixed borg-none-cdc borg-lz4 restic-off"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got %s", got)
	}
}

func TestStepsBringWhatTheyStandOn(t *testing.T) {
	for only, want := range map[string]string{"verify": "first disk2 verify", "again|restore": "first again restore", "tree": ""} {
		b := &bench{only: regexp.MustCompile("^(?:" + only + ")$")}
		if got := strings.Join(b.steps(0), " "); got != want {
			t.Errorf("%s: got %q", only, got)
		}
	}
}

// sampled is a bench that has measured us at 2 s and a peer at 6 s.
func sampled() *bench {
	b := &bench{only: regexp.MustCompile(""), corpus: &corpus.Corpus{}, results: map[key][]sample{}, audited: map[string]map[string]audit{}}
	for _, c := range configs() {
		seconds := map[string]float64{"us-none": 2, "kopia-fixed": 6, "floor": 1.9}[c.Name]
		if seconds == 0 {
			continue
		}
		b.configs = append(b.configs, c)
		for round := range 3 {
			x := seconds * float64(round+1)
			b.results[key{c.Name, "first"}] = append(b.results[key{c.Name, "first"}],
				sample{Round: round, Usage: meter.Usage{Wall: x, User: x, PSS: 300 << 20}, Stored: diskUsage{5e6, 6e6}, Added: diskUsage{4e6, 4e6}})
		}
	}
	b.audited["kopia-fixed"] = map[string]audit{"first": {Files: 3, Synced: 1, Read: "page cache"}}
	return b
}

func TestReport(t *testing.T) {
	var out bytes.Buffer
	b := sampled()
	b.json = filepath.Join(t.TempDir(), "x.json")
	if err := b.report(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`us-none +4\.00 \(2\.00-6\.00\) +4\.00 +300 .* 5 +6 +4 +1\.00x`,
		`kopia-fixed +12\.0 \(6\.00-18\.0\).* 3\.00x .*page cache +1\+0/3 files \+sync`,
		`first +us-none +kopia-fixed +2\.00x +3\.00x +holds`,
		`first +us-none +PSS MiB +<= 256\.00 +300\.000 +MISSED`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	if text, err := os.ReadFile(b.json); err != nil || !bytes.Contains(text, []byte(`"TheirsToOurs": 3`)) {
		t.Errorf("%v: %s", err, text)
	}
	b.fault("OUR FSYNCS ARE MISSING")
	if err := b.report(t.Context(), &out); err == nil || !strings.Contains(err.Error(), "FSYNCS") {
		t.Errorf("a fault must fail the bench, got %v", err)
	}
}

func TestBlanksInTheFolderAreRefused(t *testing.T) {
	if err := cmdCorpus(t.Context(), []string{"--dir", filepath.Join(t.TempDir(), "a b")}); err == nil {
		t.Error("taken")
	}
}
