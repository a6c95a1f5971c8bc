// Command skips reads what `go test -json` prints, shows what a person wants to see of it, and counts. It fails when a
// test failed, when one was skipped that the list does not name, or when the list names one that is gone: a skipped test
// proves nothing, so each has a reason that somebody wrote down.
//
//	go test -json ./... | go run ./e2e/skips e2e/skips.txt
//
// The list has a line for each test: its name as "engine/source.TestX/case", a tab, the reason.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go test -json ./... | skips LIST")
		os.Exit(2)
	}
	list, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "skips:", err)
		os.Exit(2)
	}
	allowed, err := parseList(string(list))
	if err != nil {
		fmt.Fprintf(os.Stderr, "skips: %s: %v\n", os.Args[1], err)
		os.Exit(2)
	}
	if !check(os.Stdin, allowed, os.Stdout) {
		os.Exit(1)
	}
}

func parseList(text string) (map[string]string, error) {
	allowed := map[string]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		name, reason, ok := strings.Cut(line, "\t")
		if !ok || strings.TrimSpace(reason) == "" || !strings.Contains(name, ".") {
			return nil, fmt.Errorf("line %d: want folder.TestName, a tab, the reason", n)
		}
		allowed[name] = reason
	}
	return allowed, nil
}

// line is one line of `go test -json`.
type line struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

// run is one package or test.
type run struct {
	output []string
	action string // pass, fail, skip; empty while it runs
	pkg    string
	inner  bool // is a subtest
	parent bool // has subtests, which are counted in its place
}

const module = "aslrescue/"

func nameOf(l line) string {
	pkg := strings.TrimPrefix(l.Package, module)
	if l.Test == "" {
		return pkg
	}
	return pkg + "." + l.Test
}

func check(in io.Reader, allowed map[string]string, out io.Writer) bool {
	tests, good := map[string]*run{}, true
	packages, builds := map[string]*run{}, map[string][]string{}
	lines := bufio.NewReader(in)
	for {
		text, err := lines.ReadString('\n')
		if text != "" {
			var l line
			if json.Unmarshal([]byte(text), &l) != nil || l.Action == "" {
				fmt.Fprint(out, text) // what go itself says
			} else if !take(l, tests, packages, builds, out) {
				good = false
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				fmt.Fprintln(out, "read:", err)
				good = false
			}
			break
		}
	}
	for name, p := range packages {
		if p.action == "" {
			fmt.Fprintf(out, "CUT OFF %s: its tests did not end\n", name)
			good = false
		}
	}
	if len(packages) == 0 {
		fmt.Fprintln(out, "NOTHING was tested")
		good = false
	}
	if !skipsAllowed(tests, allowed, out) {
		good = false
	}
	count(tests, packages, out)
	return good
}

// take folds one line in; false where it says that something failed.
func take(l line, tests, packages map[string]*run, builds map[string][]string, out io.Writer) bool {
	if l.Package == "" { // of a build
		builds[l.ImportPath] = append(builds[l.ImportPath], l.Output)
		if l.Action != "build-fail" {
			return true
		}
		fmt.Fprint(out, strings.Join(builds[l.ImportPath], ""))
		return false
	}
	of := packages
	if l.Test != "" {
		of = tests
	}
	name := nameOf(l)
	r := of[name]
	if r == nil {
		r = &run{pkg: strings.TrimPrefix(l.Package, module), inner: strings.Contains(l.Test, "/")}
		of[name] = r
		if i := strings.LastIndexByte(l.Test, '/'); i >= 0 {
			if p := tests[nameOf(line{Package: l.Package, Test: l.Test[:i]})]; p != nil {
				p.parent = true
			}
		}
	}
	switch l.Action {
	case "output":
		r.output = append(r.output, shorten(l.Output))
	case "pass", "fail", "skip":
		r.action = l.Action
		tell(name, r, l, tests, packages, out)
		return l.Action != "fail"
	}
	return true
}

// shorten keeps one line of output from filling the screen.
func shorten(s string) string {
	const most = 2000
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s… and %d bytes more\n", strings.ToValidUTF8(s[:most], ""), len(s)-most)
}

// tell prints failures whole, and a line for each package.
func tell(name string, r *run, l line, tests, packages map[string]*run, out io.Writer) {
	text := strings.Join(r.output, "")
	r.output = nil
	switch {
	case l.Test != "" && l.Action == "fail":
		fmt.Fprint(out, text)
	case l.Test != "" && l.Action == "skip":
		r.output = []string{text}
	case l.Test == "" && l.Action == "fail":
		fmt.Fprint(out, text)
		for _, t := range slices.Sorted(maps.Keys(tests)) { // a panic or a time-out leaves tests without an end
			if tt := tests[t]; tt.action == "" && strings.HasPrefix(t, name+".") {
				tt.action = "fail"
				fmt.Fprint(out, strings.Join(tt.output, ""))
			}
		}
	case l.Test == "" && l.Action == "pass":
		fmt.Fprintf(out, "ok      %-40s %6.1f s\n", name, l.Elapsed)
	}
}

func skipsAllowed(tests map[string]*run, allowed map[string]string, out io.Writer) bool {
	good := true
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		if tests[name].action != "skip" {
			continue
		}
		if why, ok := allowed[name]; ok {
			fmt.Fprintf(out, "skipped %s: %s\n", name, why)
			continue
		}
		fmt.Fprintf(out, "SKIPPED %s, and the list does not name it:\n%s", name, strings.Join(tests[name].output, ""))
		good = false
	}
	for _, name := range slices.Sorted(maps.Keys(allowed)) {
		if tests[name] == nil {
			fmt.Fprintf(out, "GONE %s: the list names it, but there is no such test\n", name)
			good = false
		}
	}
	return good
}

// count counts a test with subtests only through them, unless it failed and none of them did.
func count(tests, packages map[string]*run, out io.Writer) {
	failed := map[string]bool{} // packages and tests in which one was already counted
	n := map[string]int{}
	names := slices.Sorted(maps.Keys(tests))
	for _, name := range slices.Backward(names) { // subtests before their parents
		r := tests[name]
		if r.action == "" {
			r.action = "fail"
		}
		switch {
		case r.action == "fail":
			if !failed[name] {
				n["fail"]++
			}
			failed[r.pkg] = true
			if i := strings.LastIndexByte(name, '/'); r.inner && i >= 0 {
				failed[name[:i]] = true
			}
		case !r.parent:
			n[r.action]++
		}
	}
	for name, p := range packages {
		if p.action != "pass" && p.action != "skip" && !failed[name] {
			n["fail"]++ // did not build, or ended before any test did
		}
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", n["pass"], n["fail"], n["skip"])
}
