package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "aslrescue"

// layers says which folders of the project a folder may import. The engine is the middle and knows nobody; a folder that
// is not named here imports nothing of the project.
func layers() map[string][]string {
	return map[string][]string{
		"cmd":      {"cmd", "tui", "engine", "detect", "backends"},
		"tui":      {"tui", "engine", "detect"},
		"backends": {"backends", "engine"},
		"engine":   {"engine"},
		"detect":   {"detect"},
		"overlay":  {"overlay"},
		"e2e":      {"e2e"}, // the programs are run from outside, as a user runs them
	}
}

// testLayers says what tests of a folder may import besides: what survives a power cut is proved over the backend that
// will be used, not over a copy of it.
func testLayers() map[string][]string {
	return map[string][]string{"engine": {"backends"}}
}

// topFolders are the customer's; others begin with a dot.
func topFolders() []string {
	return []string{"cmd", "tui", "engine", "detect", "backends", "overlay", "docs", "e2e"}
}

func topFiles() []string {
	return []string{"go.mod", "go.sum", "Taskfile.yml", "README.md", "LICENSE", "CHANGELOG.md"}
}

// ban is an import or a name that only some folders may use.
type ban struct {
	what    func(importPath string) bool
	name    string   // how violations name it
	allowed []string // folders or files, with all below them
	why     string
	tests   bool // tests are free
}

func bans() []ban {
	is := func(want ...string) func(string) bool {
		return func(p string) bool { return slices.Contains(want, p) }
	}
	return []ban{
		{is("C"), "cgo", []string{"cmd/libasl"}, "everything else is built static", false},
		{func(p string) bool { return strings.HasPrefix(p, "github.com/charmbracelet/") }, "a screen library",
			[]string{"tui", "cmd"}, "events out, values in: importing bubbletea alone already writes to the terminal", false},
		{is("unsafe"), "unsafe", []string{
			"engine/source/tree.go",       // statx and getdents buffers of the kernel
			"engine/source/fsid.go",       // the UUID of a file system is an ioctl
			"engine/source/device.go",     // O_DIRECT wants aligned memory; ioctls
			"engine/restore/linear.go",    // the size of a block device is an ioctl
			"engine/source/readermain.go", // capabilities are given up on all threads
			"tui/console/vt.go",           // the console's font is an ioctl
			"cmd/libasl",                  // C's memory
		}, "memory is not read behind the compiler's back without a name here", true},
		{is("net/http/pprof", "expvar"), "a debug server", nil, "importing it opens doors by init", false},
	}
}

// environment are the functions of os that only config may call: a program's settings come from one place.
func environment() []string { return []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"} }

func environmentAllowed() []string {
	return []string{"cmd/internal/config", "e2e"}
}

func under(file string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return file == f || strings.HasPrefix(file, f+"/") })
}

// violations opens every Go file below root with the parser. It does not ask the go command: what that says comes out of
// the cache of tests, and a new folder would be missed.
func violations(root string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil || rel == "." {
			return err
		}
		file := filepath.ToSlash(rel)
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") || file == "dist" || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(file) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, v := range fileViolations(file, f) {
			found = append(found, file+": "+v)
		}
		return nil
	})
	return found, err
}

func fileViolations(file string, f *ast.File) []string {
	var found []string
	test := strings.HasSuffix(file, "_test.go")
	top, _, _ := strings.Cut(file, "/")
	osName := "" // what package os is called here
	for _, spec := range f.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		if p == "os" {
			osName = "os"
			if spec.Name != nil {
				osName = spec.Name.Name
			}
		}
		if p == module || strings.HasPrefix(p, module+"/") {
			to := strings.TrimPrefix(strings.TrimPrefix(p, module), "/")
			may := layers()[top]
			if test {
				may = slices.Concat(may, testLayers()[top])
			}
			if !under(to, may) {
				found = append(found, fmt.Sprintf("imports %s; %s may import only %v of the project", p, top, may))
			}
			if path.Base(to) != "test" && strings.HasSuffix(path.Base(to), "test") && !test && !strings.HasSuffix(path.Dir(file), "test") {
				found = append(found, fmt.Sprintf("imports %s, which is for tests", p))
			}
		}
		for _, b := range bans() {
			if b.what(p) && !under(file, b.allowed) && !(test && b.tests) {
				found = append(found, fmt.Sprintf("imports %s: %s only in %v: %s", p, b.name, b.allowed, b.why))
			}
		}
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			found = append(found, "has func init: what a program does begins in main")
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok || test || osName == "" || under(file, environmentAllowed()) {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == osName && slices.Contains(environment(), sel.Sel.Name) {
			found = append(found, "reads the environment with os."+sel.Sel.Name+": only cmd/internal/config does")
		}
		return true
	})
	return found
}

func TestNobodyReachesPastTheLayers(t *testing.T) {
	found, err := violations("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
}

// Each violation is planted in a copy of nothing but itself, in a folder that did not exist before.
func TestEveryPlantedViolationIsCaught(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"engine/new/x.go", `import "aslrescue/backends/local"`, "may import only [engine]"},
		{"engine/new/x_test.go", `import "aslrescue/cmd/internal/report"`, "may import only [engine backends]"},
		{"engine/new/x_test.go", `import "aslrescue/backends/local"`, ""},
		{"tui/screen/x.go", `import "aslrescue/cmd/internal/config"`, "may import only [tui engine detect]"},
		{"detect/x.go", `import "aslrescue/engine/event"`, "may import only [detect]"},
		{"e2e/x.go", `import "aslrescue/engine/event"`, "may import only [e2e]"},
		{"somewhere/x.go", `import "aslrescue/engine/event"`, "may import only []"},
		{"cmd/asl-admin/x.go", `import "aslrescue/backends/backendtest"`, "which is for tests"},
		{"cmd/asl-admin/x.go", `import "C"`, "cgo only in"},
		{"engine/new/x.go", `import tea "github.com/charmbracelet/bubbletea"`, "a screen library only in"},
		{"backends/s3/x.go", `import "unsafe"`, "unsafe only in"},
		{"backends/s3/x.go", `import _ "net/http/pprof"`, "a debug server only in"},
		{"backends/s3/x.go", `import sys "os"` + "\n" + `func f() string { return sys.Getenv("X") }`, "reads the environment"},
		{"tui/x.go", `import "os"` + "\n" + `func f() { g(os.LookupEnv) }`, "reads the environment"},
		{"tui/x.go", `func init() {}`, "has func init"},
		{"tui/fine/x.go", `import ("os"; "aslrescue/engine/event")` + "\n" + `var open = os.Open`, ""},
		{"engine/new/x_test.go", `import ("unsafe"; "aslrescue/engine/source/sourcetest")`, ""},
	} {
		root := t.TempDir()
		p := filepath.Join(root, c.file)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte("package x\n"+c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		found, err := violations(root)
		all := strings.Join(found, "\n")
		if err != nil || (c.want == "") != (all == "") || !strings.Contains(all, c.want) {
			t.Errorf("%s: %s: got %q, %v, want %q", c.file, c.text, all, err, c.want)
		}
	}
}

// tracked are the files that a clone gets: those git knows, or all where there is no git.
func tracked(t *testing.T) []string {
	if _, err := os.Stat("../.git"); err == nil {
		if out, err := exec.Command("git", "-C", "..", "ls-files", "-z").Output(); err == nil {
			return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		}
	}
	var files []string
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel("..", p)
		if err == nil && d.IsDir() && (rel == ".git" || rel == "dist" || rel == ".task") {
			return fs.SkipDir
		}
		if err == nil && !d.IsDir() {
			files = append(files, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTheTopIsTheCustomers(t *testing.T) {
	for _, f := range tracked(t) {
		top, _, folder := strings.Cut(f, "/")
		switch {
		case strings.HasPrefix(top, "."):
		case folder && !slices.Contains(topFolders(), top):
			t.Errorf("%s: no folder %s at the top, only %v", f, top, topFolders())
		case !folder && !slices.Contains(topFiles(), top):
			t.Errorf("%s: no such file at the top, only %v", f, topFiles())
		}
	}
}

// A file that names a place of the machine it was written on works nowhere else.
func TestNoFileNamesTheMachineItWasWrittenOn(t *testing.T) {
	here, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	homes := regexp.MustCompile(`/(home|Users)/[a-z][a-z0-9_-]+/(src|go|Documents|work|projects)/`)
	for _, f := range tracked(t) {
		text, err := os.ReadFile(filepath.Join("..", f))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, not committed yet
		}
		if err != nil {
			if fi, serr := os.Lstat(filepath.Join("..", f)); serr == nil && !fi.Mode().IsRegular() {
				continue
			}
			t.Fatal(err)
		}
		if strings.Count(here, "/") > 1 && bytes.Contains(text, []byte(here)) {
			t.Errorf("%s: names %s", f, here)
		}
		if m := homes.Find(text); m != nil {
			t.Errorf("%s: names %s", f, m)
		}
		if b := binary(text); b != "" {
			t.Errorf("%s: is %s: what is built does not belong among the sources", f, b)
		}
	}
}

func binary(text []byte) string {
	for magic, name := range map[string]string{
		"\x7fELF": "an ELF binary", "!<arch>\n": "an archive of objects", "\xcf\xfa\xed\xfe": "a Mach-O binary", "hsqs": "a squashfs image",
	} {
		if bytes.HasPrefix(text, []byte(magic)) {
			return name
		}
	}
	return ""
}

// Versions come from the public proxy for everybody: a replaced or private module would build on one machine only.
func TestModulesArePublicAndUnreplaced(t *testing.T) {
	for _, mod := range []string{"../go.mod", "tools.mod"} {
		text, err := os.ReadFile(mod)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if word == "replace" || word == "exclude" || strings.Contains(line, "=>") {
				t.Errorf("%s: %s", mod, line)
			}
		}
	}
}
