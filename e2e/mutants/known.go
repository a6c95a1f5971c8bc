package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// known remembers which test caught a mutant the last time. It is asked first: a run over the whole table takes a quarter of the time, and a
// mutant that it no longer catches goes the long way. It is a hint and no verdict.
type known struct {
	file string
	keep bool // write down what is learnt

	mu sync.Mutex
	by map[string]step
}

// knownFile stands beside the table.
const knownFile = "e2e/mutants/caught.txt"

const knownHead = "# Which test caught a mutant last: name, package, go test -run, arguments. Written by: go run ./e2e/mutants -record\n"

func readKnown(file string, keep bool) (*known, error) {
	k := &known{file: file, keep: keep, by: map[string]step{}}
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if strings.HasPrefix(line, "#") {
			continue
		}
		if len(f) != 4 {
			return nil, fmt.Errorf("%s: want 4 fields with tabs between them: %q", file, line)
		}
		k.by[f[0]] = step{pkg: f[1], run: f[2], args: f[3]}
	}
	return k, nil
}

// steps are those of a mutant, with the one that caught it last before them.
func (k *known) steps(m mutant) []step {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s, ok := k.by[m.name]; ok {
		return append([]step{s}, m.steps...)
	}
	return m.steps
}

// learn takes note of what caught a mutant.
func (k *known) learn(m mutant, s step, test string) error {
	test = strings.TrimSuffix(test, " (hung)")
	if !k.keep || test == "" || test[0] == '(' {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.by[m.name] = step{pkg: s.pkg, run: runOf(test), args: s.args}
	var out strings.Builder
	out.WriteString(knownHead)
	for _, m := range table() {
		if s, ok := k.by[m.name]; ok {
			fmt.Fprintf(&out, "%s\t%s\t%s\t%s\n", m.name, s.pkg, s.run, s.args)
		}
	}
	return os.WriteFile(k.file, []byte(out.String()), 0o644)
}

// runOf is the expression that makes go test run one test and no other.
func runOf(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// stale are the names that stand in the file and no longer in the table.
func (k *known) stale(all []mutant) []string {
	var names []string
	for name := range k.by {
		if !slices.ContainsFunc(all, func(m mutant) bool { return m.name == name }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
