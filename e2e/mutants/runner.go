package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// mutant is one guarantee taken away.
type mutant struct {
	name  string
	file  string
	edits []string // old text, new text, and so on; old text must stand exactly once
	steps []step   // which tests should notice, the cheapest first
}

// step is some tests of one package.
type step struct {
	pkg  string
	run  string // regexp of go test -run; empty is all
	args string // after -args
	long bool   // takes minutes; left out by -short
}

func (s step) String() string {
	out := s.pkg
	if s.run != "" {
		out += " " + s.run
	}
	return strings.TrimSpace(out + " " + s.args)
}

// stepTime bounds one step. A mutant that hangs is caught by it.
const stepTime = 15 * time.Minute

type verdict string

const (
	caught   verdict = "caught"
	survived verdict = "SURVIVED"
	broken   verdict = "BROKEN"
)

type result struct {
	verdict
	m    mutant
	by   string
	took time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("%-8s %6.1f s  %-44s %s", r.verdict, r.took.Seconds(), r.m.name, r.by)
}

type runner struct {
	root, dir string
	short     bool
	known     *known

	mu    sync.Mutex
	sound map[string]bool // whether tests pass without a mutant
}

// try makes a mutant and runs its steps until one fails.
func (r *runner) try(ctx context.Context, n int, m mutant) (res result) {
	began := time.Now()
	res = result{m: m, verdict: survived}
	defer func() { res.took = time.Since(began) }()
	overlay, err := r.overlay(n, m)
	if err != nil {
		res.verdict, res.by = broken, err.Error()
		return res
	}
	var asked []string
	for _, s := range r.known.steps(m) {
		if s.long && r.short {
			continue
		}
		out, err := r.test(ctx, overlay, s)
		if ctx.Err() != nil {
			res.verdict, res.by = broken, "interrupted"
			return res
		}
		if err == nil {
			asked = append(asked, s.String())
			continue
		}
		if strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]") {
			res.verdict, res.by = broken, s.pkg+" does not build:\n"+out
			return res
		}
		test := failed(out)
		if test == unnamed { // it was killed from outside, or for want of memory
			res.verdict, res.by = broken, fmt.Sprintf("%s ended without a word of a test: %v\n%s", s, err, out)
			return res
		}
		if !r.passes(ctx, s, test) { // it says nothing of the mutant then
			asked = append(asked, s.String()+" (fails anyway: "+test+")")
			continue
		}
		res.verdict, res.by = caught, s.pkg+" "+test
		if err := r.known.learn(m, s, test); err != nil {
			res.verdict, res.by = broken, err.Error()
		}
		return res
	}
	res.by = "none of: " + strings.Join(asked, "; ")
	return res
}

// overlay writes the mutated file and the list that makes go take it.
func (r *runner) overlay(n int, m mutant) (string, error) {
	file := filepath.Join(r.root, m.file)
	src, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	text, err := m.apply(string(src))
	if err != nil {
		return "", err
	}
	mutated := filepath.Join(r.dir, fmt.Sprintf("%d-%s", n, filepath.Base(file)))
	if err := os.WriteFile(mutated, []byte(text), 0o644); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {file: mutated}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(r.dir, fmt.Sprintf("%d.json", n))
	return overlay, os.WriteFile(overlay, list, 0o644)
}

// test runs a step; overlay may be empty. The overlay is in the environment, so that tests which build programs build
// mutated ones.
func (r *runner) test(ctx context.Context, overlay string, s step) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTime+2*time.Minute) // building takes its time too
	defer cancel()
	args := []string{"test", "-count=1", "-failfast", "-vet=off", "-timeout=" + stepTime.String()}
	if s.run != "" {
		args = append(args, "-run="+s.run)
	}
	args = append(args, "./"+s.pkg)
	if s.args != "" {
		args = append(append(args, "-args"), strings.Fields(s.args)...)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = r.root
	cmd.Env = os.Environ()
	if overlay != "" {
		cmd.Env = append(cmd.Env, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

const unnamed = "(no test named)"

var failLine = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// failed names the test that failed, as deep as it can.
func failed(out string) string {
	name := ""
	for _, m := range failLine.FindAllStringSubmatch(out, -1) {
		if name == "" || strings.HasPrefix(m[1], name+"/") {
			name = m[1]
		}
	}
	switch {
	case strings.Contains(out, "panic: test timed out"):
		return strings.TrimSpace(name + " (hung)")
	case name == "" && strings.Contains(out, "panic: "):
		return "(panic)"
	case name == "":
		return unnamed
	}
	return name
}

// passes makes sure that the test fails because of the mutant and not anyway.
func (r *runner) passes(ctx context.Context, s step, test string) bool {
	top, _, _ := strings.Cut(strings.TrimSuffix(test, " (hung)"), "/")
	if top != "" && top[0] != '(' && s.run == "" {
		s.run = "^" + top + "$"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ok, known := r.sound[s.String()]
	if !known {
		_, err := r.test(ctx, "", s)
		ok = err == nil
		if ctx.Err() == nil {
			r.sound[s.String()] = ok
		}
	}
	return ok
}
