package main

import (
	"fmt"
	"strings"
	"testing"
)

// stream makes what go test -json prints of words like "p.TestA:pass" and "p:pass".
func stream(words ...string) string {
	var b strings.Builder
	for _, w := range words {
		name, action, _ := strings.Cut(w, ":")
		pkg, test, _ := strings.Cut(name, ".")
		fmt.Fprintf(&b, `{"Action":"run","Package":"aslrescue/%s","Test":%q}`+"\n", pkg, test)
		if action == "" {
			continue
		}
		fmt.Fprintf(&b, `{"Action":"output","Package":"aslrescue/%s","Test":%q,"Output":"said by %s\n"}`+"\n", pkg, test, name)
		fmt.Fprintf(&b, `{"Action":%q,"Package":"aslrescue/%s","Test":%q}`+"\n", action, pkg, test)
	}
	return b.String()
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name, in, list string
		good           bool
		last           string
		says           string
	}{
		{"all pass", stream("p.TestA:pass", "p.TestB:pass", "p:pass"), "", true, "2 passed, 0 failed, 0 skipped", "ok      p"},
		{"a failure", stream("p.TestA:pass", "p.TestB:fail", "p:fail"), "", false, "1 passed, 1 failed, 0 skipped", "said by p.TestB"},
		{"a skip that is listed", stream("p.TestA:skip", "p:pass"), "p.TestA\tno zfs", true, "0 passed, 0 failed, 1 skipped", "skipped p.TestA: no zfs"},
		{"a skip that is not", stream("p.TestA:skip", "p:pass"), "", false, "0 passed, 0 failed, 1 skipped", "SKIPPED p.TestA"},
		{"a listed test that ran after all", stream("p.TestA:pass", "p:pass"), "p.TestA\tno zfs", true, "1 passed, 0 failed, 0 skipped", ""},
		{"a listed test that is gone", stream("p.TestA:pass", "p:pass"), "p.TestB\tno zfs", false, "1 passed, 0 failed, 0 skipped", "GONE p.TestB"},
		{"subtests count, not their parent", stream("p.TestA", "p.TestA/x:pass", "p.TestA/y:pass", "p.TestA:pass", "p:pass"), "", true, "2 passed, 0 failed, 0 skipped", ""},
		{"a failing subtest counts once", stream("p.TestA", "p.TestA/x:pass", "p.TestA/y:fail", "p.TestA:fail", "p:fail"), "", false, "1 passed, 1 failed, 0 skipped", ""},
		{"a parent that fails alone", stream("p.TestA", "p.TestA/x:pass", "p.TestA:fail", "p:fail"), "", false, "1 passed, 1 failed, 0 skipped", ""},
		{"a panic", stream("p.TestA:pass", "p.TestB", "p:fail"), "", false, "1 passed, 1 failed, 0 skipped", "said by p"},
		{"a package that ended without a test's end", stream("p:fail"), "", false, "0 passed, 1 failed, 0 skipped", ""},
		{"cut off", stream("p.TestA:pass", "p:pass", "q"), "", false, "1 passed, 1 failed, 0 skipped", "CUT OFF q"},
		{"a folder without tests", stream("p.TestA:pass", "p:pass", "q:skip"), "", true, "1 passed, 0 failed, 0 skipped", ""},
		{"nothing", "", "", false, "0 passed, 0 failed, 0 skipped", "NOTHING"},
		{"a build that fails", `{"ImportPath":"aslrescue/p [t]","Action":"build-output","Output":"x.go:1: undefined\n"}` + "\n" +
			`{"ImportPath":"aslrescue/p [t]","Action":"build-fail"}` + "\n" + stream("p:fail"), "", false, "0 passed, 1 failed, 0 skipped", "x.go:1: undefined"},
		{"words of go itself", "go: no such tool\n" + stream("p.TestA:pass", "p:pass"), "", true, "1 passed, 0 failed, 0 skipped", "go: no such tool"},
	} {
		allowed, err := parseList(c.list)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		good := check(strings.NewReader(c.in), allowed, &out)
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if good != c.good || lines[len(lines)-1] != c.last || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: good is %v, want last line %q and somewhere %q; got\n%s", c.name, good, c.last, c.says, out.String())
		}
	}
}

func TestAListWithoutReasonsIsRefused(t *testing.T) {
	for _, bad := range []string{"p.TestA", "p.TestA\t ", "TestA\treason"} {
		if got, err := parseList("# comment\n\n" + bad); err == nil {
			t.Errorf("%q was taken: %v", bad, got)
		}
	}
}
