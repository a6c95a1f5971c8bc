package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A program in C uses every function of the library, the programs read what it wrote, Python reads it through ctypes, and
// damage is found by all of them.
func TestTheCLibrary(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "LD_LIBRARY_PATH=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	for _, d := range []string{"lib", "bin"} {
		if err := os.Mkdir(in(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run("go", "build", "-trimpath", "-buildmode=c-shared", "-o", in("lib/libasl.so"), "../cmd/libasl")
	// As it is found in the image: from bin in lib beside it, because /usr/local/lib is not searched on every system.
	run("gcc", "-Wall", "-Wextra", "-Werror", "-I../cmd/libasl", "-o", in("bin/program"), "libasl/program.c", "-L"+in("lib"), "-lasl", "-Wl,-rpath,$ORIGIN/../lib")
	ref := run(in("bin/program"), in("store"))
	run("python3", "libasl/program.py", in("lib/libasl.so"), in("store"), ref)

	if err := programs(in("bin")); err != nil {
		t.Fatal(err)
	}
	if out := run(in("bin/asl-admin"), "--store", in("store"), "snapshots"); !strings.Contains(out, `"from C"`) {
		t.Errorf("asl-admin says %s", out)
	}
	if out := run(in("bin/asl-debug"), "--store", in("store"), "artifact", ref, "--raw"); !strings.HasSuffix(out, "hello") {
		t.Errorf("asl-debug says %s", out)
	}
	run(in("bin/asl-admin"), "--store", in("store"), "verify", "--read-data")
	run(in("bin/asl-debug"), "--store", in("store"), "validate")

	blocks, err := filepath.Glob(in("store/blocks/*/*"))
	if err != nil || len(blocks) < 4 {
		t.Fatalf("%v, %v", blocks, err)
	}
	if err := os.Chmod(blocks[0], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := flip(blocks[0], "4000"); err != nil {
		if err := flip(blocks[0], "70"); err != nil {
			t.Fatal(err)
		}
	}
	run("python3", "libasl/program.py", in("lib/libasl.so"), in("store"), ref, "damaged")
}

// What the header promises is what the library has, and the page says of it.
func TestTheHeaderAndThePageName(t *testing.T) {
	header, err := os.ReadFile("../cmd/libasl/asl.h")
	if err != nil {
		t.Fatal(err)
	}
	abi, err := os.ReadFile("../cmd/libasl/abi.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/c-abi.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(abi)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "//export ")
		if !ok {
			continue
		}
		n++
		if !strings.Contains(string(header), name+"(") {
			t.Errorf("asl.h does not declare %s", name)
		}
		if !strings.Contains(string(page), "`"+name) {
			t.Errorf("docs/c-abi.md does not name %s", name)
		}
	}
	if declared := strings.Count(string(header), " asl_"); n < 14 || declared < n {
		t.Errorf("%d functions, %d declared", n, declared)
	}
}
