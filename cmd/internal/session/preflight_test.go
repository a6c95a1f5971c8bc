package session

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"aslrescue/cmd/internal/report"
	"aslrescue/detect"
	"aslrescue/detect/probe"

	"github.com/rogpeppe/go-internal/txtar"
)

// met is a machine of detect's testdata, with the policy changed.
func met(t *testing.T, name string, change func(*detect.Policy)) probe.Update {
	t.Helper()
	files, err := filepath.Glob("../../../detect/testdata/*-" + name + ".txtar")
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: %q, %v", name, files, err)
	}
	a, err := txtar.ParseFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		if f.Name != "facts.json" {
			continue
		}
		facts, err := detect.ParseFacts(f.Data)
		if err != nil {
			t.Fatal(err)
		}
		p := detect.Policy{LocalMount: "/mnt/asl/local"}
		change(&p)
		return probe.Update{Facts: *facts, Policy: p, Decision: detect.Decide(*facts, p), Done: true}
	}
	t.Fatal("no facts")
	return probe.Update{}
}

// A run without a person stops for what concerns it, and for nothing else.
func TestRefusing(t *testing.T) {
	for _, c := range []struct {
		machine string
		change  func(*detect.Policy)
		says    string // empty: it goes on
	}{
		{"ordinary", func(p *detect.Policy) { p.Endpoint = "https://asl-backend" }, ""},
		{"ordinary", func(p *detect.Policy) { p.Mode = "local" }, "a person has to say where the store is"},
		{"approved-guid", func(p *detect.Policy) { p.Approved = []string{"tank"} }, ""},
		{"one-pool", func(*detect.Policy) {}, "tank could be imported: approve one"},
		{"our-own", func(p *detect.Policy) { p.Approved, p.HostID = []string{"tank"}, 0xa51c0de5 }, ""},
		{"our-own", func(p *detect.Policy) { p.Approved = []string{"tank"} }, "could be imported"},
		{"usb-store", func(*detect.Policy) {}, ""},
		{"usb-store", func(p *detect.Policy) { p.Mistakes = []string{"asl.conf:1:1: x"} }, "STOP rows"},
		{"no-ram", func(*detect.Policy) {}, "STOP rows"},
		{"state-on-source", func(p *detect.Policy) { p.Sources = []string{"serial:WD-*"} }, "STOP rows"},
		{"offline-disk", func(p *detect.Policy) { p.Sources = []string{"serial:W5012345"} }, "STOP rows"},
		{"no-link", func(p *detect.Policy) { p.Endpoint = "https://asl-backend" }, "a person has to say"},
	} {
		err := Refuse(met(t, c.machine, c.change))
		if c.says == "" {
			if err != nil {
				t.Errorf("%s: %v", c.machine, err)
			}
			continue
		}
		if !errors.Is(err, report.ErrRefused) || report.CodeOf(err) != report.Refused || !strings.Contains(err.Error(), c.says) || len(report.Explain(err).Next) < 2 {
			t.Errorf("%s: got %v, want %q", c.machine, err, c.says)
		}
	}
}
