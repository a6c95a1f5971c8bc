package wizard

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"aslrescue/tui/ask"
	"aslrescue/tui/screen"
	"aslrescue/tui/theme"
)

var update = flag.Bool("update", false, "write golden screens anew")

// sizes are those that a screen must look right at; the last is the least that is usable.
func sizes() [][2]int { return [][2]int{{80, 24}, {80, 25}, {100, 30}, {160, 50}, {40, 10}} }

// masks replace what is another at each run: rates, ids, and how the counts fell together.
func mask(s string) string {
	for _, m := range []struct{ from, to string }{
		{`Rate [0-9.]+ [kMG]?B/s *`, "Rate ~~~~ MB/s "},
		{`Left .{24}`, "Left ~~~~~~~~~~~~~~~~~~~~~~~~"},
		{`Slowest part: .*`, "Slowest part: ~"},
		{`10 min .*`, "10 min ~"},
		{` *[0-9.]+ [kMG]?B/s`, "  ~~~~ MB/s"},
		{`MB/s  left .*`, "MB/s  left ~"},
		{`\b[0-9a-f]{9,64}\b(\.\.\.)?`, "~~~~~~~~~~~~"},
		{`m-[0-9a-f]+\.*`, "m-~~~~"},
		{`Took +[0-9].*`, "Took ~"},
		{`(?m)^ 12:00:00 .*$`, " 12:00:00 ~"},
		{`(?m)█{2}[█▀▄ ]{25,}██ *$`, "<code>"},
		{`asl-rehearsal-[0-9]+`, "asl-rehearsal-~"},
		{`/tmp/\S+/asl-rehearsal`, "/tmp/~/asl-rehearsal"},
		{`20[0-9]{2}-[01][0-9]-[0-3][0-9] [0-9:]{5}  COMPLETE`, "~~~~-~~-~~ ~~:~~  COMPLETE"},
	} {
		s = regexp.MustCompile(m.from).ReplaceAllString(s, m.to)
	}
	return mapMask(s)
}

// mapMask makes one of the kinds of read cells on lines of a map: where one ends and the next begins depends on when the counts were looked at.
func mapMask(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		if strings.ContainsAny(line, "░█") && strings.Trim(line, " █▓▒░X?\n") == "" {
			line = strings.NewReplacer("▓", "█", "▒", "█").Replace(line)
		}
		out = append(out, line)
	}
	return strings.Join(out, "")
}

// Every screen of the rescue at every size, as golden text; and every cell of it is one that the kernel's own font has.
func TestScreensLookAsTheyDid(t *testing.T) {
	var mu sync.Mutex
	holdAt := int64(16 << 20) // where a super-block begins
	reached, release := make(chan struct{}), make(chan struct{})
	once := false
	o := sit(t, seat{shrink: 64, hold: func(ctx context.Context, _ string, off int64) {
		mu.Lock()
		wait := off >= holdAt && !once
		if wait {
			once = true
			close(reached)
		}
		mu.Unlock()
		if wait {
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
	}})
	letGo := sync.OnceFunc(func() { close(release) })
	defer letGo()
	see := func(name string) { o.golden(name) }
	see("1-check")
	o.press("enter")
	see("1-check-explained")
	o.press("esc", "n")
	see("2-approve")
	o.press("f")
	see("2-approve-folder")
	o.press("esc", "w")
	see("2-gate-read-first")
	o.wait()
	see("2-gate")
	o.typeText("tank")
	see("2-gate-named")
	o.press("y")
	see("2-approved")
	o.press("n")
	o.pick("sdc ")
	o.press(" ")
	see("3-sources")
	o.press("n")
	see("4-plan")
	o.wait()
	o.press("g")
	o.until("the disk that hangs", func() bool {
		select {
		case <-reached:
			return true
		default:
			return false
		}
	})
	o.until("the counts of what was read", func() bool { return o.e.State().Job.Progress.Counts.Settled() == holdAt })
	see("5-intake")
	o.press("m")
	see("5-intake-map")
	o.press("esc", "q")
	see("5-leave")
	o.press("esc", "?")
	see("5-help")
	o.press("esc")
	letGo()
	o.until("the report", o.at(screen.AtReport))
	see("6-report")
	o.press("A")
	see("7-admin")
	o.press("D")
	see("8-debug")
	if ph := o.e.State().Job.Phase; ph != ask.Ended {
		t.Errorf("the job is %s", ph)
	}
}

// golden compares the screen at all sizes with what it was, and looks at every cell.
func (o *operator) golden(name string) {
	o.t.Helper()
	font := theme.Builtin()
	var all strings.Builder
	for _, s := range sizes() {
		o.size(s[0], s[1])
		text := o.text()
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if len(lines) != s[1] {
			o.t.Errorf("%s at %dx%d has %d lines", name, s[0], s[1], len(lines))
		}
		for y, l := range lines {
			if n := len([]rune(l)); n > s[0] {
				o.t.Errorf("%s at %dx%d: line %d has %d cells", name, s[0], s[1], y, n)
			}
			for _, r := range l {
				if !font.Has(r) {
					o.t.Errorf("%s at %dx%d: %q is not in the font", name, s[0], s[1], r)
				}
			}
		}
		fmt.Fprintf(&all, "-- %dx%d --\n%s", s[0], s[1], mask(text))
	}
	o.size(80, 25)
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(all.String()), 0o644); err != nil {
			o.t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		o.t.Fatal(err)
	}
	if got := all.String(); got != string(want) {
		o.t.Errorf("%s is another screen (go test ./cmd/internal/wizard -update writes it anew):\n%s", name, difference(string(want), got))
	}
}

// difference is the lines that differ.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var b strings.Builder
	for i := range max(len(w), len(g)) {
		a, c := "", ""
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			c = g[i]
		}
		if a != c {
			fmt.Fprintf(&b, "line %d\n-%s\n+%s\n", i+1, a, c)
		}
	}
	return b.String()
}

// At any size there is something on the screen, no line is too long, and nothing breaks; also with no character but ASCII, and with the font
// that Debian loads.
func TestEverySizeIsDrawn(t *testing.T) {
	fonts := map[string]theme.Glyphs{"ASCII": theme.ASCII(), "built in": theme.Builtin(), "terminus": theme.Of([]rune("─│┌┐└┘├┤┬┴┼█▒░●•·■✗✘×←↑→↓▲▼◀▶»äöüß±≈≤≥°µ")), "a terminal": theme.Wide()}
	for name, font := range fonts {
		o := sit(t, seat{shrink: 64, glyphs: font})
		o.approvePool()
		o.press("n")
		o.pick("sdb ")
		o.press(" ", "n")
		o.wait()
		o.press("g")
		o.until("the report", o.at(screen.AtReport))
		for _, step := range []string{"1", "2", "3", "4", "5", "6", "A", "D"} {
			o.press(step)
			for _, s := range [][2]int{{1, 1}, {2, 3}, {5, 20}, {20, 5}, {39, 10}, {40, 9}, {40, 10}, {41, 12}, {60, 15}, {72, 16}, {80, 10}, {300, 100}, {0, 0}, {-1, -1}} {
				o.size(s[0], s[1])
				w, h := s[0], s[1]
				if w <= 0 {
					w, h = 80, 24
				}
				lines := strings.Split(strings.TrimSuffix(o.text(), "\n"), "\n")
				if len(lines) != h || strings.TrimSpace(strings.Join(lines, "")) == "" {
					t.Errorf("%s, %s at %v: %d lines", name, step, s, len(lines))
				}
				for _, l := range lines {
					for i, r := range []rune(l) {
						if !font.Has(r) || i >= w {
							t.Errorf("%s, %s at %v: %q in column %d", name, step, s, r, i)
						}
					}
				}
				if o.m.View() == "" {
					t.Errorf("%s, %s at %v: nothing is drawn", name, step, s)
				}
			}
			o.size(80, 24)
		}
	}
}
