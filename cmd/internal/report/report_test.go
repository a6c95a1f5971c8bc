package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
)

func TestEveryErrorHasItsCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Code
	}{
		{nil, OK},
		{errors.New("anything"), Failed},
		{Usagef("no such flag"), Usage},
		{fmt.Errorf("create blocks/00: %w", artifact.ErrFull), Full},
		{fmt.Errorf("verify: %w", artifact.ErrDamaged), Mismatch},
		{&Error{What: "restore", Err: artifact.ErrDamaged}, Mismatch},
		{fmt.Errorf("wrapped: %w", &Error{Code: Locked, Err: artifact.ErrDamaged}), Locked},
		{BySignal(syscall.SIGINT), ByInt},
		{fmt.Errorf("intake: %w", BySignal(syscall.SIGTERM)), ByTerm},
		{context.Canceled, Stopped},
		{errors.Join(errors.New("x"), ErrInternal), Internal},
	} {
		if got := CodeOf(c.err); got != c.want {
			t.Errorf("%v: got %d, want %d", c.err, got, c.want)
		}
	}
}

func TestEveryRowOfTheTableHelps(t *testing.T) {
	for _, r := range table() {
		if got := CodeOf(r.is); got != r.code {
			t.Errorf("%v: a row above takes it: got %d, want %d", r.is, got, r.code)
		}
		if r.means == "" || len(r.next) == 0 {
			t.Errorf("%v: says neither what it means nor what to do next", r.is)
		}
	}
}

func TestCodesAreInOrderAndSaid(t *testing.T) {
	last := Code(-1)
	for _, c := range Codes() {
		if c.Code <= last || c.Means == "" || c.Code.String() != c.Means {
			t.Errorf("code %d after %d: %q", c.Code, last, c.Means)
		}
		last = c.Code
	}
	for word, want := range map[event.Result]Code{event.Complete: 0, event.CompleteWithGaps: 3, event.Failed: 1, event.Stopped: 75} {
		if got := ResultCode(word); got != want {
			t.Errorf("%s: got %d, want %d", word, got, want)
		}
	}
}

func TestErrorsSayWhatToDoNext(t *testing.T) {
	err := &Error{What: "take in /dev/sda", Err: fmt.Errorf("write\x1b[2J: %w", artifact.ErrFull), Next: []string{"make room"}}
	want := `asl-intake: take in /dev/sda: write\x1b[2J: no room left
  The target has no room left. Everything acknowledged so far is safe.
  -> make room
`
	if got := Text("asl-intake", err); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestNothingOfAPathReachesATerminalRaw(t *testing.T) {
	var out, errs strings.Builder
	p := New(Options{Program: "asl-admin", Out: &out, Err: &errs})
	p.Row("entry", "one\x1b[2Jtwo\u202e\x7f", nil)
	p.Finish(Result{Text: "first\x1b]0;title\x07\n\tsecond\u009b\n", Err: &Error{What: "look", Means: "a\x1bb", Next: []string{"c\x1bd"}}})
	want := "one\\x1b[2Jtwo\\u202e\\x7f\nfirst\\x1b]0;title\\a\n\\tsecond\\u009b\n"
	if out.String() != want {
		t.Errorf("\n got %q\nwant %q", out.String(), want)
	}
	if want := "asl-admin: look\n  a\\x1bb\n  -> c\\x1bd\n"; errs.String() != want {
		t.Errorf("\n got %q\nwant %q", errs.String(), want)
	}
	out.Reset()
	New(Options{Out: &out}).Finish(Result{Text: "path = '\u00a0'", File: true})
	if out.String() != "path = '\u00a0'\n" {
		t.Errorf("a file came out as %q", out.String())
	}
}

// run gives the events of a small intake to a Printer.
func run(o Options, r Result) (out, errs string, code Code) {
	var a, b strings.Builder
	o.Program, o.Out, o.Err = "asl-intake", &a, &b
	p := New(o)
	for _, e := range []event.Event{
		event.IntakeBegun{Intake: "i1", Store: "/s", Sources: 1, Total: 1e9},
		event.PhaseEntered{Phase: event.Reading},
		event.SourceOpened{Source: "sda", Kind: "device", Path: "/dev/sda", Size: 1e9},
	} {
		p.Event(e)
	}
	for i := range 40 {
		p.Event(event.SourceProgress{
			Stamp: event.At(time.Duration(i) * 100 * time.Millisecond), Source: "sda",
			Counts: event.Counts{Data: int64(i) * 1e7, New: int64(i) * 1e7},
		})
	}
	p.Event(event.Gap{Stamp: event.At(4 * time.Second), Source: "sda", Kind: event.Unreadable, Off: 512, Len: 512, Why: "input/output error"})
	p.Event(event.SourceProgress{Stamp: event.At(4 * time.Second), Source: "sda", Counts: event.Counts{Data: 4e8}})
	p.Event(event.IntakeDone{Stamp: event.At(5 * time.Second), Result: event.CompleteWithGaps, Snapshot: 4})
	code = p.Finish(r)
	return a.String(), b.String(), code
}

func TestOffATerminalOnlyTurningPoints(t *testing.T) {
	out, _, code := run(Options{}, Result{Word: event.CompleteWithGaps, Text: "1 snapshot"})
	want := `intake i1 of 1 source, 1.0 GB into /s
reading
sda: device /dev/sda, 1.0 GB
sda: 512 B unreadable at 512: input/output error
COMPLETE WITH GAPS: snapshot 4
1 snapshot
`
	if out != want || code != Gaps {
		t.Errorf("exit %d\n got %s\nwant %s", code, out, want)
	}
}

func TestJSONIsJSONAndEndsWithTheResult(t *testing.T) {
	out, errs, code := run(Options{JSON: true, Terminal: true}, Result{
		Word: event.CompleteWithGaps, Fields: map[string]any{"snapshot": 4}, Err: fmt.Errorf("verify: %w", artifact.ErrDamaged),
	})
	var types []string
	var last map[string]any
	for line := range strings.Lines(out) {
		last = nil
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		types = append(types, last["type"].(string))
	}
	want := "intake_begun phase source_opened progress progress progress progress gap progress intake_done result"
	if got := strings.Join(types, " "); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if last["exit"] != 8.0 || last["snapshot"] != 4.0 || last["error"] != "verify: damaged" || last["next"] == nil || code != Mismatch {
		t.Errorf("exit %d, %v", code, last)
	}
	if !strings.HasPrefix(errs, "asl-intake: verify: damaged\n") {
		t.Errorf("stderr: %q", errs)
	}
}

func TestOnATerminalOneLineIsKeptFresh(t *testing.T) {
	out, _, _ := run(Options{Terminal: true, Width: func() int { return 60 }}, Result{Word: event.CompleteWithGaps})
	if strings.ContainsRune(out, 0x1b) {
		t.Errorf("an escape sequence: %q", out)
	}
	screen := draw(out)
	want := []string{
		"intake i1 of 1 source, 1.0 GB into /s",
		"reading",
		"sda: device /dev/sda, 1.0 GB",
		"sda: 512 B unreadable at 512: input/output error",
		"COMPLETE WITH GAPS: snapshot 4",
		"",
	}
	if strings.Join(screen, "\n") != strings.Join(want, "\n") {
		t.Errorf("left on the screen:\n%s", strings.Join(screen, "\n"))
	}
	for _, l := range strings.FieldsFunc(out, func(r rune) bool { return r == '\r' || r == '\n' }) {
		if len(strings.TrimRight(l, "\b")) > 60 {
			t.Errorf("wider than the terminal: %q", l)
		}
	}
	if !strings.Contains(out, "reading 39%  390 MB of 1.0 GB  100 MB/s") {
		t.Errorf("no progress: %q", out)
	}
}

// draw is a terminal that knows newline, carriage return and backspace.
func draw(s string) []string {
	lines, col := [][]rune{nil}, 0
	for _, r := range s {
		cur := &lines[len(lines)-1]
		switch r {
		case '\n':
			lines, col = append(lines, nil), 0
		case '\r':
			col = 0
		case '\b':
			col--
		default:
			for len(*cur) <= col {
				*cur = append(*cur, ' ')
			}
			(*cur)[col] = r
			col++
		}
	}
	var out []string
	for _, l := range lines {
		out = append(out, strings.TrimRight(string(l), " "))
	}
	return out
}

func TestProgressFitsEveryWidth(t *testing.T) {
	p := new(event.Progress)
	p.Apply(event.PhaseEntered{Phase: event.Reading})
	p.Apply(event.SourceOpened{Source: "a", Size: 1e12})
	p.Apply(event.SourceProgress{Stamp: event.At(time.Minute), Source: "a", Counts: event.Counts{Data: 5e11, New: 4e11, Unreadable: 512, Files: 12345}})
	for width := range 200 {
		if got := Progress(p, width); len(got) > width {
			t.Errorf("width %d: %q", width, got)
		}
	}
	want := "reading 50%  500 GB of 1.0 TB  8.3 GB/s  left: 55 s to 1 min  512 B missing  400 GB new  0 B known  12 345 entries"
	if got := Progress(p, 199); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestWhoCannotReadIsTold(t *testing.T) {
	var errs strings.Builder
	p := New(Options{Program: "asl-admin", Out: brokenWriter{}, Err: &errs})
	p.Row("snapshot", "4", nil)
	if code := p.Finish(Result{}); code != Failed || !strings.Contains(errs.String(), "print to standard output: broken pipe") {
		t.Errorf("exit %d, stderr %q", code, errs.String())
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestRowsAreFlatObjects(t *testing.T) {
	var out, errs strings.Builder
	p := New(Options{Program: "asl-admin", Out: &out, Err: &errs, JSON: true})
	p.Row("snapshot", "", struct {
		Number int `json:"number"`
	}{4})
	p.Row("empty", "", struct{}{})
	p.Finish(Result{})
	want := `{"type":"snapshot","number":4}
{"type":"empty"}
{"type":"result","program":"asl-admin","exit":0}
`
	if out.String() != want || errs.String() != "" {
		t.Errorf("\n got %s%s\nwant %s", out.String(), errs.String(), want)
	}
}

func TestEveryAcknowledgementIsALineOfJSON(t *testing.T) {
	var out strings.Builder
	p := New(Options{JSON: true, Out: &out})
	for i := range 3 {
		p.Event(event.SourceProgress{Source: "sda", Counts: event.Counts{Data: int64(i)}})
		p.Event(event.ResumePoint{LogSeq: uint64(i), Settled: int64(i)})
	}
	if n := strings.Count(out.String(), `{"type":"resume_point",`); n != 3 {
		t.Errorf("%d of 3 were printed:\n%s", n, &out)
	}
}

func TestEverySignalHasItsCode(t *testing.T) {
	for sig, want := range map[syscall.Signal]Code{syscall.SIGHUP: ByHup, syscall.SIGINT: ByInt, syscall.SIGTERM: ByTerm, syscall.SIGQUIT: 131} {
		if got := CodeOf(fmt.Errorf("intake: %w", BySignal(sig))); got != want {
			t.Errorf("%s: got %d, want %d", sig, got, want)
		}
	}
}
