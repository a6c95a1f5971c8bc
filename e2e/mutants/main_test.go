package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryMutantCanBeMade(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	all := table()
	if err := check(root, all); err != nil {
		t.Error(err)
	}
	if len(all) < 40 {
		t.Errorf("%d mutants, want 40 at least", len(all))
	}
	for _, m := range all {
		if len(m.steps) == 0 || len(m.edits) == 0 || len(m.edits)%2 != 0 {
			t.Errorf("%s: %d steps, %d texts", m.name, len(m.steps), len(m.edits))
		}
	}
}

func TestApplyWantsOnePlace(t *testing.T) {
	m := mutant{edits: []string{"b", "x"}}
	for src, want := range map[string]string{"abc": "axc", "ac": "", "abb": ""} {
		got, err := m.apply(src)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", src, got, err)
		}
	}
}

func TestFailedNamesTheDeepestTest(t *testing.T) {
	for out, want := range map[string]string{
		"--- FAIL: TestA (0.1s)\n    --- FAIL: TestA/b (0.1s)\nFAIL\n":       "TestA/b",
		"--- FAIL: TestA (0.1s)\n--- FAIL: TestB (0.1s)\n":                   "TestA",
		"panic: test timed out after 1s\n\trunning tests:\n\t\tTestA (1s)\n": "(hung)",
		"panic: runtime error\n":                                             "(panic)",
		"FAIL x [build failed]\n":                                            "(no test named)",
	} {
		if got := failed(out); strings.TrimSpace(got) != want {
			t.Errorf("%q: got %q, want %q", out, got, want)
		}
	}
}

// TestKnownIsAHint: what caught a mutant is asked first, and what the file says of mutants that are gone is found out.
func TestKnownIsAHint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "caught.txt")
	k, err := readKnown(file, true)
	if err != nil {
		t.Fatal(err)
	}
	m := table()[0]
	if got := k.steps(m); len(got) != len(m.steps) {
		t.Errorf("before anything is known: %v", got)
	}
	if err := k.learn(m, step{pkg: "a/b", args: "-kills 3"}, "TestX/one_(two)"); err != nil {
		t.Fatal(err)
	}
	if k, err = readKnown(file, false); err != nil {
		t.Fatal(err)
	}
	if got := k.steps(m); len(got) != len(m.steps)+1 || got[0] != (step{pkg: "a/b", run: `^TestX$/^one_\(two\)$`, args: "-kills 3"}) {
		t.Errorf("first is %+v", got[0])
	}
	if got := k.stale(table()[1:]); len(got) != 1 || got[0] != m.name {
		t.Errorf("stale: %q", got)
	}
}

func TestKnownNamesMutantsThatAre(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	k, err := readKnown(filepath.Join(root, knownFile), false)
	if err != nil {
		t.Fatal(err)
	}
	if names := k.stale(table()); len(names) > 0 {
		t.Errorf("%s names mutants that are gone: %q", knownFile, names)
	}
}
