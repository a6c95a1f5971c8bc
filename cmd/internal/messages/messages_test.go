package messages

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"aslrescue/cmd/internal/config"
)

func conf(file string) config.Messages {
	return config.Messages{Level: "info", Format: "text", Journal: "no", File: file, FileSize: "64", FileKeep: "2", Ring: "10"}
}

func read(t *testing.T, path string) string {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

func TestAMessageGoesWhereItShould(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runtime", "messages")
	var screen bytes.Buffer
	k := New(conf(path), Options{Program: "asl-test", Screen: &screen})
	k.Say().Warn("the disk is slow", "disk", "sda", "name", "a b")
	k.Keep().Info("intake began")
	k.Say().Debug("nobody hears this")
	k.Say().With("n", 1).WithGroup("g").Info("two\nlines", "x", 2)
	k.Close()
	if got, want := screen.String(), "asl-test: the disk is slow disk=sda name=\"a b\"\nasl-test: two\\nlines n=1 g.x=2\n"; got != want {
		t.Errorf("screen: got %q, want %q", got, want)
	}
	lines := strings.Split(strings.TrimSpace(read(t, path)), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], ` WARN  asl-test: the disk is slow disk=sda name="a b"`) || !strings.HasSuffix(lines[1], " INFO  asl-test: intake began") {
		t.Errorf("file: %q", lines)
	}
	if r := k.Recent(); len(r) != 3 || r[0].Level != slog.LevelWarn || r[1].Text != "intake began" {
		t.Errorf("ring: %+v", r)
	}
}

func TestLevels(t *testing.T) {
	for level, want := range map[string]string{"debug": "diwe di", "info": "iwe i", "warn": "we i", "error": "e i"} {
		var screen bytes.Buffer
		c := conf("")
		c.Level = level
		k := New(c, Options{Program: "p", Screen: &screen})
		k.Keep().Debug("d")
		k.Keep().Info("i")
		k.Keep().Warn("w")
		k.Keep().Error("e")
		kept := ""
		for _, m := range k.Recent() {
			kept += m.Text
		}
		k.Say().Debug("d") // the screen has what people should read now, whatever is kept
		k.Say().Info("i")
		if got := kept + " " + strings.NewReplacer("p: ", "", "\n", "").Replace(screen.String()); got != want {
			t.Errorf("%s: got %q, want %q", level, got, want)
		}
	}
}

func TestTheJournalGetsPriorities(t *testing.T) {
	for _, c := range []struct {
		journal string
		systemd bool
		want    string
	}{
		{"auto", true, "<4>one\\ntwo\n"}, {"auto", false, "p: one\\ntwo\n"}, {"yes", false, "<4>one\\ntwo\n"}, {"no", true, "p: one\\ntwo\n"},
	} {
		var screen bytes.Buffer
		m := conf("")
		m.Journal = c.journal
		New(m, Options{Program: "p", Screen: &screen, Systemd: c.systemd}).Say().Warn("one\ntwo")
		if screen.String() != c.want {
			t.Errorf("%s, %v: %q", c.journal, c.systemd, screen.String())
		}
	}
}

func TestWhatStandsOnTheScreenCannotMoveTheCursor(t *testing.T) {
	var screen bytes.Buffer
	path := filepath.Join(t.TempDir(), "messages")
	New(conf(path), Options{Program: "p", Screen: &screen}).Say().Info("disk \x1b[2J")
	if strings.Contains(screen.String()+read(t, path), "\x1b") {
		t.Errorf("%q", screen.String())
	}
}

func TestTheRingForgetsTheOldest(t *testing.T) {
	k := New(conf(""), Options{Screen: &bytes.Buffer{}})
	for i := range 25 {
		k.Keep().Info(fmt.Sprint(i))
	}
	r := k.Recent()
	if len(r) != 10 || r[0].Text != "15" || r[9].Text != "24" {
		t.Errorf("got %+v", r)
	}
}

func TestJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "messages")
	c := conf(path)
	c.Format = "json"
	New(c, Options{Program: "p", Screen: &bytes.Buffer{}}).Keep().Error("two\nlines")
	var m map[string]any
	if err := json.Unmarshal([]byte(read(t, path)), &m); err != nil || m["text"] != "two\nlines" || m["level"] != "ERROR" || m["program"] != "p" {
		t.Errorf("%v, %v", m, err)
	}
}

// Several programs write at once: no message is lost, told twice or torn, and no file grows beyond its size by more than a few lines.
func TestSeveralProgramsKeepTheirMessagesInOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "messages")
	const writers, each = 4, 1000
	c := conf(path)
	c.FileKeep = "9"
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			k := New(c, Options{Program: "p", Screen: &bytes.Buffer{}})
			defer k.Close()
			for i := range each {
				k.Keep().Info(fmt.Sprintf("writer %d message %04d %s.", w, i, strings.Repeat("x", 40)))
			}
		})
	}
	wg.Wait()
	seen, files := map[string]int{}, 0
	for n := range 10 {
		text := read(t, path+strings.TrimSuffix(fmt.Sprintf(".%d", n), ".0"))
		if len(text) > 64<<10+writers*200 {
			t.Errorf("file %d has %d bytes", n, len(text))
		}
		if text != "" {
			files++
		}
		for line := range strings.Lines(text) {
			_, m, _ := strings.Cut(line, "writer")
			seen[m]++
		}
	}
	for w := range writers {
		for i := range each {
			if m := fmt.Sprintf(" %d message %04d %s.\n", w, i, strings.Repeat("x", 40)); seen[m] != 1 {
				t.Errorf("%d times: %q", seen[m], m)
			}
		}
	}
	if len(seen) != writers*each || files < 4 {
		t.Errorf("%d messages in %d files", len(seen), files)
	}
}

func TestOldFilesGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "messages")
	k := New(conf(path), Options{Program: "p", Screen: &bytes.Buffer{}})
	for i := range 4000 {
		k.Keep().Info(fmt.Sprintf("message %04d %s", i, strings.Repeat("x", 60)))
	}
	names, err := filepath.Glob(path + "*")
	if err != nil || len(names) != 3 {
		t.Errorf("got %v, %v", names, err)
	}
	if !strings.Contains(read(t, path), "message 3999") {
		t.Error("the newest is not in the newest file")
	}
}

func TestWhatCannotBeKeptIsSaidOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var screen bytes.Buffer
	k := New(conf(filepath.Join(dir, "file", "messages")), Options{Program: "p", Screen: &screen})
	k.Keep().Info("one")
	k.Say().Info("two")
	if got := screen.String(); strings.Count(got, "not kept") != 1 || !strings.HasSuffix(got, "p: two\n") {
		t.Errorf("got %q", got)
	}
	if r := k.Recent(); len(r) != 3 {
		t.Errorf("ring: %+v", r)
	}
}

// Whoever put a link there does not decide which file root writes.
func TestALinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "victim"), filepath.Join(dir, "messages")); err != nil {
		t.Fatal(err)
	}
	k := New(conf(filepath.Join(dir, "messages")), Options{Program: "p", Screen: &bytes.Buffer{}})
	k.Keep().Info("one")
	if read(t, filepath.Join(dir, "victim")) != "" {
		t.Error("it was")
	}
}

func TestProgramsThatWriteNothingKeepNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "messages")
	New(conf(path), Options{Program: "p", Screen: &bytes.Buffer{}, NoFile: true}).Say().Info("one")
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
