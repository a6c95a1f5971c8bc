package e2e

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// contract is every file and directory that the overlay may have, with its mode: the customer's tree, and the wiring that
// docs/overlay.md gives a reason for. A link stands with its target.
func contract() map[string]string {
	const dir, state, file, program = "d0755", "d0700", "f0644", "f0755"
	return map[string]string{
		"usr": dir, "usr/local": dir, "usr/local/bin": dir, "usr/local/lib": dir,
		"usr/local/bin/asl-intake": program, "usr/local/bin/asl-admin": program, "usr/local/bin/asl-debug": program,
		"usr/local/lib/libasl.so": file,
		"etc":                     dir, "etc/asl": dir, "etc/asl/asl.conf": file, "etc/asl/federation.conf": file, "etc/asl/logging.conf": file,
		"etc/systemd": dir, "etc/systemd/system": dir,
		"etc/systemd/system/asl-preflight.service": file, "etc/systemd/system/asl-intake.service": file,
		"var": dir, "var/lib": dir, "var/lib/asl": dir, "var/lib/asl/runtime": state, "var/lib/asl/cache": state, "var/lib/asl/locks": state,
		"mnt": dir, "mnt/asl": dir, "mnt/asl/local": dir, "mnt/asl/remote": dir,
		// Wiring.
		"etc/systemd/system/asl-shell.service":                             file,
		"etc/systemd/system/multi-user.target.wants":                       dir,
		"etc/systemd/system/multi-user.target.wants/asl-preflight.service": "l../asl-preflight.service",
		"etc/systemd/system/multi-user.target.wants/asl-intake.service":    "l../asl-intake.service",
		"etc/systemd/system/getty.target.wants":                            dir,
		"etc/systemd/system/getty.target.wants/asl-intake.service":         "l../asl-intake.service",
		"etc/systemd/system/getty@tty1.service.d":                          dir,
		"etc/systemd/system/getty@tty1.service.d/20-asl.conf":              file,
		"etc/systemd/system/zfs-import-cache.service":                      "l/dev/null",
		"etc/systemd/system/zfs-import-scan.service":                       "l/dev/null",
		"etc/systemd/system/zfs-zed.service":                               "l/dev/null",
		"etc/tmpfiles.d":                                                   dir,
		"etc/tmpfiles.d/asl.conf":                                          file,
	}
}

// mayBeAbsent is what a tree may lack: the C library wants a C compiler.
func mayBeAbsent() []string { return []string{"usr/local/lib/libasl.so"} }

// breaches walks a tree and holds it against the contract.
func breaches(root string) ([]string, error) {
	var found []string
	left := contract()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, p)
		if err != nil || rel == "." {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		want, ok := left[rel]
		delete(left, rel)
		got := fmt.Sprintf("f%04o", fi.Mode().Perm())
		switch {
		case fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0:
			found = append(found, rel+" has a mode that gives rights away: "+fi.Mode().String())
		case fi.IsDir():
			got = "d" + got[1:]
		case fi.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			got = "l" + to
		case !fi.Mode().IsRegular():
			found = append(found, rel+" is neither file, directory nor link")
		}
		switch {
		case !ok:
			found = append(found, rel+" is not in the contract")
			if fi.IsDir() {
				return fs.SkipDir
			}
			return nil
		case got != want:
			found = append(found, fmt.Sprintf("%s is %s, the contract says %s", rel, got, want))
			return nil
		}
		if fi.Mode().IsRegular() {
			found = append(found, content(p, rel)...)
		}
		return nil
	})
	for _, missing := range slices.Sorted(maps.Keys(left)) {
		if !slices.Contains(mayBeAbsent(), missing) {
			found = append(found, missing+" is missing")
		}
	}
	return found, err
}

var secrets = regexp.MustCompile(`PRIVATE[ +]KEY|(?i)\b(password|passwd|token|secret)\s*=\s*\S`)

// content checks what stands in a file: programs are static, texts hold no secrets.
func content(path, rel string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return []string{err.Error()}
	}
	if strings.HasPrefix(rel, "usr/local/bin/") {
		e, err := elf.NewFile(bytes.NewReader(text))
		if err != nil {
			return []string{rel + " is no program: " + err.Error()}
		}
		for _, p := range e.Progs {
			if p.Type == elf.PT_INTERP {
				return []string{rel + " wants the libraries of the system it runs on"}
			}
		}
		return nil
	}
	if strings.HasPrefix(rel, "etc/") && secrets.Match(text) {
		return []string{rel + " holds a secret"}
	}
	return nil
}

// overlayTree builds the tree around programs that are built as they are shipped.
func overlayTree(t *testing.T) string {
	t.Helper()
	bin, tree := t.TempDir(), filepath.Join(t.TempDir(), "tree")
	if err := programs(bin); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("../overlay/image/tree", tree, bin).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return tree
}

func TestTheOverlayKeepsItsContract(t *testing.T) {
	tree := overlayTree(t)
	found, err := breaches(tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
	t.Run("units", func(t *testing.T) { unitsAreGood(t, tree) })
	t.Run("commands", func(t *testing.T) { commandsExist(t, tree) })
	t.Run("violations", func(t *testing.T) { everyBreachIsSeen(t, tree) })
}

// everyBreachIsSeen does what nobody may do to a tree, one after the other.
func everyBreachIsSeen(t *testing.T, tree string) {
	at := func(p string) string { return filepath.Join(tree, p) }
	write := func(p string) error { return os.WriteFile(at(p), []byte("x\n"), 0o644) }
	for _, c := range []struct {
		want string
		do   func() error
		undo func() error
	}{
		{"usr/local/bin/helper is not in the contract", func() error { return write("usr/local/bin/helper") }, func() error { return os.Remove(at("usr/local/bin/helper")) }},
		{"bin is not in the contract", func() error { return os.Mkdir(at("bin"), 0o755) }, func() error { return os.Remove(at("bin")) }},
		{"var/lib/asl/runtime/mode is not in the contract", func() error { return write("var/lib/asl/runtime/mode") }, func() error { return os.Remove(at("var/lib/asl/runtime/mode")) }},
		{"etc/asl is d0700, the contract says d0755", func() error { return os.Chmod(at("etc/asl"), 0o700) }, func() error { return os.Chmod(at("etc/asl"), 0o755) }},
		{"usr/local/bin/asl-admin has a mode that gives rights away", func() error { return os.Chmod(at("usr/local/bin/asl-admin"), 0o755|fs.ModeSetuid) }, func() error { return os.Chmod(at("usr/local/bin/asl-admin"), 0o755) }},
		{"etc/asl/asl.conf holds a secret", func() error { return appendTo(at("etc/asl/asl.conf"), "token = abc\n") }, func() error { return cut(at("etc/asl/asl.conf"), "token = abc\n") }},
		{"zfs-zed.service is missing", func() error { return os.Remove(at("etc/systemd/system/zfs-zed.service")) }, func() error { return os.Symlink("/dev/null", at("etc/systemd/system/zfs-zed.service")) }},
		{"zfs-zed.service is l../x, the contract says l/dev/null", func() error { return relink("../x", at("etc/systemd/system/zfs-zed.service")) }, func() error { return relink("/dev/null", at("etc/systemd/system/zfs-zed.service")) }},
		{"usr/local/bin/asl-debug is no program", func() error { return os.Rename(at("usr/local/bin/asl-debug"), at("../kept")) }, func() error { return os.Rename(at("../kept"), at("usr/local/bin/asl-debug")) }},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(c.want, "is no program") {
			if err := os.WriteFile(at("usr/local/bin/asl-debug"), []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		found, err := breaches(tree)
		if err != nil || !strings.Contains(strings.Join(found, "\n"), c.want) {
			t.Errorf("not seen: %s; found %q, %v", c.want, found, err)
		}
		if err := c.undo(); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := breaches(tree); err != nil || len(found) > 0 {
		t.Errorf("afterwards: %q, %v", found, err)
	}
}

func appendTo(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(old, text...), 0o644)
}

func cut(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes.TrimSuffix(old, []byte(text)), 0o644)
}

func relink(to, path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Symlink(to, path)
}

// maxExposure is systemd's own score for the sandbox of preflight, times ten: lower is tighter. It may only go down.
const maxExposure = 30

// unitsAreGood has systemd read the units, in a root that has its own units beside ours. Anything it says is a mistake.
func unitsAreGood(t *testing.T, tree string) {
	root := t.TempDir()
	for _, cmd := range [][]string{
		{"cp", "-a", tree + "/.", root},
		{"mkdir", "-p", root + "/usr/lib/systemd", root + "/sbin", root + "/bin"},
		{"cp", "-a", "/usr/lib/systemd/system", root + "/usr/lib/systemd/"},
		{"cp", "/sbin/agetty", root + "/sbin/"},
		{"cp", "/bin/sh", root + "/bin/"},
	} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	// Units of the machine that is built on are none of ours: only what names one of ours counts.
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--root="+root, "asl-preflight.service", "asl-intake.service", "asl-shell.service").CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "asl-") {
			t.Errorf("systemd says: %s", line)
		}
	}
	if err != nil && !bytes.Contains(out, []byte("asl-")) {
		t.Logf("systemd-analyze: %v\n%s", err, out)
	}
	out, err = exec.Command("systemd-analyze", "security", "--offline=yes", "--root="+root, fmt.Sprintf("--threshold=%d", maxExposure), "--no-pager", "asl-preflight.service").CombinedOutput()
	if err != nil {
		t.Errorf("the sandbox of preflight is looser than it was: %v\n%s", err, out)
	}
}

// commandsExist holds what the units start against the programs that are there, and their flags.
func commandsExist(t *testing.T, tree string) {
	units, err := filepath.Glob(filepath.Join(tree, "etc/systemd/system/asl-*.service"))
	if err != nil || len(units) != 3 {
		t.Fatalf("%v, %v", units, err)
	}
	ours := 0
	for _, u := range units {
		text, err := os.ReadFile(u)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^Exec\w+=[-+!@:]*(\S+)(.*)$`).FindAllStringSubmatch(string(text), -1) {
			if !strings.HasPrefix(m[1], "/usr/local/") {
				continue
			}
			ours++
			help, err := exec.Command(filepath.Join(tree, m[1]), "--help").Output()
			if err != nil {
				t.Errorf("%s: %s: %v", u, m[1], err)
			}
			for _, word := range strings.Fields(m[2]) {
				if name, isFlag := strings.CutPrefix(word, "--"); isFlag && !regexp.MustCompile(`(?m)^  -`+name+`\b`).Match(help) {
					t.Errorf("%s: %s has no --%s", u, m[1], name)
				}
			}
		}
	}
	if ours != 2 {
		t.Errorf("%d commands of ours are started", ours)
	}
}

// The same files give the same module, whenever and wherever they were written; everything in it is root's.
func TestTheModuleIsReproducible(t *testing.T) {
	var sums []string
	for i := range 2 {
		dir := t.TempDir()
		tree := filepath.Join(dir, fmt.Sprintf("tree%d", i))
		names := []string{"etc/asl/asl.conf", "usr/local/bin/asl-intake", "var/lib/asl/runtime/.keep"}
		if i == 1 {
			slices.Reverse(names)
		}
		for _, n := range names {
			p := filepath.Join(tree, n)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, []byte(strings.Repeat(n, 1000)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		out := filepath.Join(dir, "asl.srm")
		cmd := exec.Command("../overlay/image/srm", tree, out)
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, string(data))
		list, err := exec.Command("unsquashfs", "-lln", out).Output()
		if err != nil || !bytes.Contains(list, []byte("etc/asl/asl.conf")) {
			t.Fatalf("%v\n%s", err, list)
		}
		for line := range strings.Lines(string(list)) {
			if f := strings.Fields(line); len(f) > 4 && f[1] != "0/0" {
				t.Errorf("not root's: %s", line)
			}
		}
	}
	if sums[0] != sums[1] {
		t.Error("two builds of the same tree differ")
	}
}
