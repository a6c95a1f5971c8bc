package session

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWithJSONStdoutIsJSONWhateverIsWrong(t *testing.T) {
	for _, args := range [][]string{
		{"--json", "--no-such-flag"}, {"--no-such-flag", "--json"}, {"-json", "--workers", "x"}, {"no-such-command", "--json=true"},
		{"--json", "--help"}, {"--version", "--json"}, {"--json"},
	} {
		for name, program := range map[string]func(context.Context, []string, IO) int{"intake": Intake, "admin": Admin, "debug": Debug} {
			out, _, code := asl(t, program, args...)
			last := ""
			for line := range strings.Lines(out) {
				var v struct {
					Type string `json:"type"`
					Exit *int   `json:"exit"`
				}
				if err := json.Unmarshal([]byte(line), &v); err != nil {
					t.Fatalf("%s %q: %v in %s", name, args, err, line)
				}
				if last = v.Type; last == "result" && (v.Exit == nil || *v.Exit != code) {
					t.Errorf("%s %q: exit %d is not in %s", name, args, code, line)
				}
			}
			if last != "result" {
				t.Errorf("%s %q: no result in %q", name, args, out)
			}
		}
	}
}

func TestOutputThatCannotBeWrittenTaintsNoWork(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	file, place := filepath.Join(t.TempDir(), "disk.img"), filepath.Join(t.TempDir(), "store")
	write(t, file, mix(100_000, 1))
	for _, c := range []struct {
		program func(context.Context, []string, IO) int
		code    int
		args    []string
	}{
		{Intake, 0, []string{"--batch", "--source", file, "--store", place}},
		{Admin, 0, []string{"--store", place, "verify"}},
		{Admin, 0, []string{"--store", place, "restore", "latest", "--to", file + ".back"}},
		{Admin, 1, []string{"--store", place, "snapshots"}}, // printing is what it is for
		{Intake, 1, []string{"--dry-run", "--source", file, "--store", place}},
	} {
		var errs bytes.Buffer
		if code := c.program(t.Context(), c.args, IO{Out: full, Err: &errs}); code != c.code || strings.Count(errs.String(), "print to standard output") != 1 {
			t.Errorf("%q: exit %d, want %d\n%s", c.args, code, c.code, errs.String())
		}
	}
}
