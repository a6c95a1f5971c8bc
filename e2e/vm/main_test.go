package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
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
	s, err = parseScript("x", []byte("# a\n#: disk A 1M\n#: same A\necho\n#: boot cut\n#: bare\n#: times 3\n#: cut READING\n#: later 2s 5s\necho again\n"))
	if err != nil || !slices.Equal(s.same, []string{"A"}) {
		t.Fatalf("%+v, %v", s, err)
	}
	if once := s.boots[0].each(7); len(once) != 1 || once[0].name != "first" || once[0].delay != 0 {
		t.Errorf("a boot that is made once: %+v", once)
	}
	for times, want := range map[int]string{0: "cut-03", 12: "cut-12"} {
		all := s.boots[1].each(times)
		if last := all[len(all)-1]; last.name != want || last.cut != "READING" || last.text != "echo again\n" || !last.bare || !strings.Contains(strings.Join(s.command(machine{}, last), " "), " lab.bare") {
			t.Errorf("%d times: %+v", times, last)
		}
		for _, b := range all {
			if b.delay < 2*time.Second || b.delay > 5*time.Second {
				t.Errorf("%s is cut after %s", b.name, b.delay)
			}
		}
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
		"# a\n#: times 0":                 "times 0",
		"# a\n#: later 2s":                "later MIN MAX",
		"# a\n#: later 2s 1s":             "the shorter one first",
		"# a\n#: same A":                  "no disk A",
	} {
		if _, err := parseScript("x", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// Disks that are hidden are not plugged in, and all that are have the serial by which the script finds them.
func TestTheCommandHasTheDisks(t *testing.T) {
	s, err := parseScript("x", []byte("# a\n#: disk A 1M\n#: disk B 1M empty throttling.iops-total=1\n#: hide A\n#: text screen\necho\n"))
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Join(s.command(machine{image: "/i", run: "/r", job: "/j", out: "/o"}, s.boots[0]), " ")
	for _, want := range []string{"serial=B,id=dev-B", "throttling.iops-total=1", "readonly=on,file=/i/root.squashfs", "accel tcg", "-kernel /i/vmlinuz"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
	if strings.Contains(line, "serial=A") {
		t.Errorf("hidden: %s", line)
	}
}

// What a script orders from the host is done, and it can see that it was.
func TestOrders(t *testing.T) {
	s, err := parseScript("x", []byte("# a\n#: disk A 1M\n#: disk B 1M\n#: same B\necho\n"))
	if err != nil {
		t.Fatal(err)
	}
	m := machine{run: t.TempDir(), job: t.TempDir(), out: t.TempDir()}
	for _, d := range s.disks {
		if err := d.make(t.Context(), filepath.Join(m.run, d.serial+".img")); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", filepath.Join(m.run, "monitor"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	said := make(chan string, 1)
	go func() { // as QEMU speaks: a greeting, a prompt, the line as it is typed, what it says, a prompt
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "QEMU 7.2 (Debian)\r\n((qemu) ")
		line, _ := bufio.NewReader(c).ReadString('\n')
		fmt.Fprint(c, line, "\r\n(qemu) ")
		said <- line
	}()
	if err := os.WriteFile(filepath.Join(m.job, "order"), []byte("hashes\nsendkey ret\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.orders(s)
	if got := <-said; got != "sendkey ret\n" {
		t.Errorf("the monitor was told %q", got)
	}
	if _, err := os.Stat(filepath.Join(m.job, "order")); err == nil {
		t.Error("the order is still there")
	}
	const zeros = "sha256 30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58\n" // of a MiB of them
	if all, err := os.ReadFile(filepath.Join(m.job, "hashes")); err != nil || string(all) != "A "+zeros+"B "+zeros {
		t.Errorf("%s, %v", all, err)
	}
	if same, err := m.hashes(s, true); err != nil || same != "B "+zeros {
		t.Errorf("%s, %v", same, err)
	}
}
