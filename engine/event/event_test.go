package event

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"time"
)

// one of each, with every field that JSON would leave out when empty.
var samples = []Event{
	IntakeBegun{At(0), "i1", "evening", "/mnt/asl/local", 2, 4_300_000_000, true},
	PhaseEntered{At(time.Second), Reading},
	SourceOpened{At(1500 * time.Millisecond), "sda", "device", "/dev/sda", "WD Red", "WCC4N7", 1 << 40, Counts{Data: 7}},
	SourceProgress{At(2 * time.Second), "sda", 9, 4096, "etc/fstab", Counts{1, 2, 3, 4, 5, 6, 7, 8}},
	SourceDone{At(3 * time.Second), "sda", "b3:00", Counts{Data: 1}, "grew by 4 kB", 0},
	Gap{At(3 * time.Second), "sda", Unreadable, "etc/shadow", 512, 1024, 3, "input/output error"},
	Message{At(3 * time.Second), Warning, "sda", "slow"},
	BlockSealed{At(4 * time.Second), "b3:01", 8, 1, 8},
	SegmentSealed{At(4 * time.Second), "b3:02", 8, 1, 16},
	ResumePoint{At(4 * time.Second), 12, 99},
	VerifyProgress{At(5 * time.Second), 1, 2, 0},
	SnapshotSealed{At(6 * time.Second), "rescue-domain", 4, "b3:03"},
	IntakeDone{At(7 * time.Second), CompleteWithGaps, 4, "1024 B of sda"},
	Tick{At(8 * time.Second)},
	PassEntered{At(1600 * time.Millisecond), "sda", "copying", 2, true},
}

func TestEveryEventSurvivesItsLine(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range samples {
		line, err := MarshalLine(e)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(line, []byte{'\n'}); n != 1 || line[len(line)-1] != '\n' {
			t.Errorf("not one line: %q", line)
		}
		got, err := UnmarshalLine(line)
		if err != nil || got != e {
			t.Errorf("%s\n got %#v, %v\nwant %#v", line, got, err, e)
		}
		seen[e.kind()] = true
	}
	for _, name := range eventTypes(t) {
		if !seen[name] {
			t.Errorf("event %q has no sample here", name)
		}
	}
}

// eventTypes reads from the source what kind() can say, so that a new event without a sample is noticed.
func eventTypes(t *testing.T) []string {
	f, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "kind" {
			lit := fn.Body.List[0].(*ast.ReturnStmt).Results[0].(*ast.BasicLit).Value
			names = append(names, strings.Trim(lit, `"`))
		}
	}
	return names
}

// The names are an interface: scripts of operators read them.
func TestLinesAreGolden(t *testing.T) {
	for want, e := range map[string]Event{
		`{"type":"phase","at_s":1.000,"phase":"reading"}`: PhaseEntered{At(time.Second), Reading},
		`{"type":"source_progress","at_s":0.250,"source":"sda","off":512,"data":512,"zero":0,"unreadable":0,"untried":0,"new":512,"known":0,"files":0,"file_errors":0}`: SourceProgress{Stamp: At(250 * time.Millisecond), Source: "sda", Off: 512, Counts: Counts{Data: 512, New: 512}},
		`{"type":"intake_done","at_s":61.500,"result":"COMPLETE WITH GAPS","snapshot":4,"why":"bad sectors"}`:                                                           IntakeDone{At(61500 * time.Millisecond), CompleteWithGaps, 4, "bad sectors"},
		`{"type":"gap","at_s":0.000,"source":"sda","kind":"unreadable","off":512,"len":512}`:                                                                            Gap{Source: "sda", Kind: Unreadable, Off: 512, Len: 512},
	} {
		got, err := MarshalLine(e)
		if err != nil || string(got) != want+"\n" {
			t.Errorf("\n got %s%v\nwant %s", got, err, want)
		}
	}
}

func TestUnknownTypesAreSaidToBeUnknown(t *testing.T) {
	if _, err := UnmarshalLine([]byte(`{"type":"from_the_future","x":1}`)); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v, want ErrUnknown", err)
	}
	if _, err := UnmarshalLine([]byte(`{"type":"gap","at_s":"soon"}`)); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("a broken line: got %v", err)
	}
}

func TestNumbersAsText(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Bytes(0), "0 B"}, {Bytes(999), "999 B"}, {Bytes(1000), "1.0 kB"}, {Bytes(4_399_999_999), "4.3 GB"},
		{Bytes(99_999), "99.9 kB"}, {Bytes(999_999), "999 kB"}, {Bytes(1_000_000), "1.0 MB"}, {Bytes(1 << 40), "1.0 TB"},
		{Bytes(9_223_372_036_854_775_807), "9.2 EB"}, {Bytes(-1), "unknown"},
		{Rate(412_000_000), "412 MB/s"}, {Rate(0), "0 B/s"}, {Rate(-1), "unknown"}, {Rate(1e300), "4.6 EB/s"},
		{Duration(0), "0 s"}, {Duration(400 * time.Millisecond), "0.4 s"}, {Duration(42 * time.Second), "42 s"},
		{Duration(200 * time.Second), "3 min 20 s"}, {Duration(2 * time.Hour), "2 h"}, {Duration(76 * time.Hour), "3 d 4 h"},
		{Count(0), "0"}, {Count(999), "999"}, {Count(1234567), "1 234 567"}, {Count(-1234), "-1 234"},
		{CountOf(1, "file", "files"), "1 file"}, {CountOf(2000, "file", "files"), "2 000 files"},
		{Percent(0, 0), "100%"}, {Percent(0, 5), "0%"}, {Percent(999, 1000), "99%"}, {Percent(99_999_999, 100_000_000), "99%"},
		{Percent(7, 5), "100%"}, {Percent(5, -1), "?"}, {Percent(1<<62, 1<<62+1), "99%"},
		{ETA{}.String(), "working it out"}, {ETA{2 * time.Second, 4 * time.Second, true}.String(), "a few seconds"},
		{ETA{45 * time.Minute, 92 * time.Minute, true}.String(), "45 min to 1 h 30 min"},
		{ETA{59 * time.Minute, 59 * time.Minute, true}.String(), "about 59 min"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestLinesForPeople(t *testing.T) {
	for _, c := range []struct {
		e    Event
		want string
	}{
		{samples[2], "sda: device /dev/sda, WD Red, WCC4N7, 1.0 TB, goes on after 7 B"},
		{PassEntered{Source: "sda", Phase: "copying", Pass: 2, Backwards: true}, "sda: copying, pass 2, backwards"},
		{PassEntered{Source: "sda", Phase: "scraping", Pass: 1}, "sda: scraping"},
		{samples[5], "sda: etc/shadow: 1.0 kB unreadable at 512 and after, in 3 places: input/output error"},
		{samples[6], "warning: sda: slow"},
		{samples[12], "COMPLETE WITH GAPS: snapshot 4: 1024 B of sda"},
		{SourceDone{Source: "home", Counts: Counts{Data: 10, New: 10, Files: 1}}, "home: read, 10 B data, 0 B zeros, 10 B new, 1 entry"},
		{SourceDone{Source: "sda", Counts: Counts{Data: 10, Untried: 70, Unreadable: 5}, LeftOut: 50}, "sda: read, 10 B data, 0 B zeros, 0 B new, 25 B missing, 50 B left out by choice"},
		{samples[3], ""},
		{Message{Level: Info, Text: "file \x1b[2J\nCOMPLETE"}, `file \x1b[2J\nCOMPLETE`},
	} {
		if got := Line(c.e); got != c.want {
			t.Errorf("\n got %q\nwant %q", got, c.want)
		}
	}
}
