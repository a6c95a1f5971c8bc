package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestScriptsParse(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	all, err := scripts(here)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 5 {
		t.Errorf("only %d scripts", len(all))
	}
	page, err := os.ReadFile("../../docs/vm.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if !strings.Contains(string(page), "| `"+s.name+"` |") {
			t.Errorf("docs/vm.md does not name %s", s.name)
		}
	}
}

func TestHeadsOfScripts(t *testing.T) {
	s, err := parseScript("x", []byte("# Shows a thing.\n#: disk D1 64M\n#: disk EXT 1G ext4\necho one\n#: cut HALFWAY\n#: boot again\n#: hide D1 EXT\necho two\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s.about != "Shows a thing." || len(s.disks) != 2 || s.disks[1].size != 1<<30 || s.disks[1].fill != "ext4" {
		t.Errorf("%+v", s)
	}
	if len(s.boots) != 2 || s.boots[0].cut != "HALFWAY" || s.boots[1].name != "again" || !slices.Equal(s.boots[1].hide, []string{"D1", "EXT"}) || s.boots[1].text != "echo two\n" {
		t.Errorf("%+v", s.boots)
	}
	for text, want := range map[string]string{
		"echo":                            "no comment",
		"# a\n#: disk D1":                 "want disk SERIAL SIZE",
		"# a\n#: disk D1 64":              `size "64"`,
		"# a\n#: disk D1 0M":              `size "0M"`,
		"# a\n#: disk D1 1M xfs":          "not xfs",
		"# a\n#: disk root 1M":            "a disk root already",
		"# a\n#: disk A 1M\n#: disk A 1M": "x.sh:3: there is a disk A already",
		"# a\n#: fly away":                `"fly"`,
		"# a\n#: boot":                    "and what",
	} {
		if _, err := parseScript("x", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// Disks that are hidden are not plugged in, and all that are have the serial by which the script finds them.
func TestTheCommandHasTheDisks(t *testing.T) {
	s, err := parseScript("x", []byte("# a\n#: disk A 1M\n#: disk B 1M empty throttling.iops-total=1\n#: hide A\necho\n"))
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Join(s.command(machine{image: "/i", run: "/r", job: "/j", out: "/o"}, s.boots[0]), " ")
	for _, want := range []string{"serial=B,id=dev-B", "throttling.iops-total=1", "readonly=on,file=/i/root.squashfs", "accel tcg"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
	if strings.Contains(line, "serial=A") {
		t.Errorf("hidden: %s", line)
	}
}
