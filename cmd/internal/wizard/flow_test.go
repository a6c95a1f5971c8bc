package wizard

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"aslrescue/detect"
	"aslrescue/engine/event"
	"aslrescue/tui/ask"
	"aslrescue/tui/screen"
)

// The standard rescue: a healthy pool to save to, the failing one of two twins to save. Twelve keys at most, and one word.
func TestTheStandardRescueTakesTwelveKeysAndOneWord(t *testing.T) {
	o := sit(t, seat{shrink: 64})
	o.sees("Who used tank last", "? ask")
	o.press("n", "w")
	o.wait()
	o.typeText("tank") // the one word
	o.press("y")
	o.sees("(o) /mnt/asl/local", "imported writable")
	o.press("n")
	o.pick("sdc")
	o.press(" ", "n")
	o.wait()
	o.sees("FROM", "E21740-0471", "TO", "/mnt/asl/local", "asl-intake --batch --source /dev/sdc --store /mnt/asl/local")
	o.press("g")
	o.until("the report", o.at(screen.AtReport))
	o.sees("C O M P L E T E", "G A P S", "sdc")
	if o.keys > 12 {
		t.Errorf("it took %d keys", o.keys)
	}
	r := o.e.State().Job.Report
	if r.Result != event.CompleteWithGaps || r.Sources[0].Serial != "E21740-0471" {
		t.Errorf("%+v", r)
	}
}

// recorder keeps what was answered and started.
type recorder struct {
	ask.Engine
	answers []ask.Answer
	starts  int
	err     error // in place of the answer
}

func (r *recorder) Answer(ctx context.Context, a ask.Answer) (string, error) {
	r.answers = append(r.answers, a)
	if r.err != nil {
		return "by tty2", r.err
	}
	return r.Engine.Answer(ctx, a)
}

func (r *recorder) Start(ctx context.Context, hash string) error {
	r.starts++
	return r.Engine.Start(ctx, hash)
}

func recorded(t *testing.T) (*operator, *recorder) {
	r := &recorder{}
	return sit(t, seat{shrink: 64, engine: func(e ask.Engine) ask.Engine { r.Engine = e; return r }}), r
}

// Whatever is pressed before the question can be read, and Enter and Esc at any time, is no yes.
func TestNothingButTheLetterAfterReadingIsAYes(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(o *operator)
	}{
		{"typed ahead", func(o *operator) { o.press("w"); o.typeText("tank"); o.press("y", "y") }},
		{"typed ahead, then armed", func(o *operator) { o.press("w"); o.typeText("tank"); o.press("y"); o.wait(); o.press("y") }},
		{"Enter on the name", func(o *operator) { o.press("w"); o.wait(); o.typeText("tank"); o.press("enter", "enter") }},
		{"Enter on nothing", func(o *operator) { o.press("w"); o.wait(); o.press("enter", "enter", "enter") }},
		{"another name", func(o *operator) { o.press("w"); o.wait(); o.typeText("tan"); o.press("y", "y", "enter") }},
		{"Esc after the name", func(o *operator) { o.press("w"); o.wait(); o.typeText("tank"); o.press("esc") }},
		{"the name and Alt", func(o *operator) { o.press("w"); o.wait(); o.typeText("tank"); o.press("alt+y") }},
		{"read-only: Enter", func(o *operator) { o.press("up", "enter"); o.wait(); o.press("enter", "enter") }},
		{"read-only: a capital", func(o *operator) { o.press("up", "enter"); o.wait(); o.press("Y") }},
		{"read-only: typed ahead", func(o *operator) { o.press("up", "enter", "y", "y") }},
		{"an arrow torn apart", func(o *operator) { o.press("up", "enter"); o.wait(); o.press("esc", "[A") }},
		{"too small to be read", func(o *operator) { o.press("w"); o.wait(); o.typeText("tank"); o.size(20, 5); o.press("y") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, r := recorded(t)
			o.press("n")
			o.sees("tank")
			c.do(o)
			o.wait()
			if len(r.answers) > 0 {
				t.Errorf("it was taken for a yes: %+v\n%s", r.answers, o.text())
			}
			for _, p := range o.e.State().Look.Facts.Pools {
				if p.Imported != nil {
					t.Errorf("%s was imported", p.Name)
				}
			}
		})
	}
}

func TestReadOnlyIsAKeyAndSaysWhatWasDone(t *testing.T) {
	o, r := recorded(t)
	o.press("n", "up", "enter")
	o.wait()
	o.sees("Press y to approve exactly this", "readonly=on", "E21740"[:0]+"50026B77-83A1")
	o.press("y")
	if len(r.answers) != 1 || !r.answers[0].Yes || r.answers[0].Word != "" {
		t.Fatalf("%+v", r.answers)
	}
	o.sees("imported read-only")
}

// Answers of other consoles, and plans that changed meanwhile, are told, and nothing is done twice.
func TestAnAnswerThatCameTooLateIsTold(t *testing.T) {
	for err, want := range map[error]string{ask.ErrChanged: "not what is there any more", ask.ErrAnswered: "Another console was first", errors.New("the disk is gone"): "the disk is gone"} {
		o, r := recorded(t)
		r.err = err
		o.approvePool()
		o.sees(want)
		if len(r.answers) != 1 {
			t.Errorf("%v: %d answers", err, len(r.answers))
		}
	}
}

// Back works everywhere, nothing that was chosen is lost on the way, and what was left is found as it was.
func TestBackAndForthLosesNothing(t *testing.T) {
	o := sit(t, seat{shrink: 64})
	o.approvePool()
	o.press("n")
	o.pick("sdb ")
	o.press(" ")
	o.pick("nvme0n1p2")
	o.press(" ", "n")
	o.sees("/dev/sdb", "/dev/nvme0n1p2")
	o.press("+")
	o.sees("--source /dev/nvme0n1p2 --source /dev/sdb")
	o.press("b", "b", "b")
	if at, _ := o.m.At(); at != screen.AtCheck {
		t.Errorf("three steps back is %s", at.Name())
	}
	o.press("n", "n", "n")
	o.sees("--source /dev/nvme0n1p2 --source /dev/sdb")
	o.press("A", "b")
	o.sees("FROM")
	o.press("1")
	o.press("6") // a step that was not seen yet
	o.sees("What was checked")
	// A second wizard on the same engine, after the first was killed in the middle, shows what runs.
	o.press("4")
	o.wait()
	o.press("g")
	o.until("the report", o.at(screen.AtReport))
	second := sitAt(t, o)
	if at, _ := second.m.At(); at != screen.AtReport || !strings.Contains(second.text(), "C O M P L E T E") {
		t.Errorf("the second wizard is at %s:\n%s", at.Name(), second.text())
	}
}

// What cannot be chosen is refused with its reason, on the screen and by whoever makes the plan.
func TestWrongDisksAreRefusedOnTheScreen(t *testing.T) {
	o := sit(t, seat{shrink: 64})
	o.approvePool()
	o.press("n")
	choices, err := o.e.Choices(t.Context(), "/mnt/asl/local")
	if err != nil {
		t.Fatal(err)
	}
	o.press("home")
	refused := 0
	for range choices {
		o.press(" ")
		for _, c := range choices {
			if c.Refused != "" && slices.Contains(o.shared.Picked, c.Path) {
				t.Errorf("%s could be marked: %s", c.Path, c.Refused)
			}
		}
		o.shared.Picked = nil
		o.press("down")
	}
	for _, c := range choices {
		if c.Refused == "" {
			continue
		}
		refused++
		if _, err := o.e.MakePlan(t.Context(), ask.Want{Sources: []string{c.Path}, Place: "/mnt/asl/local"}); !errors.Is(err, ask.ErrRefused) {
			t.Errorf("a plan with %s: %v", c.Path, err)
		}
	}
	if refused < 6 {
		t.Errorf("%d are refused: the boot medium, and both legs of the destination's pool, with their partitions", refused)
	}
}

func TestAFolderCanTakeTheStore(t *testing.T) {
	o := sit(t, seat{shrink: 64})
	o.press("n", "f")
	o.sees("/mnt", "Use this directory")
	o.pick("dying/")
	o.press("enter")
	o.sees("does not answer")
	o.press("b")
	o.pick("usb/")
	o.press("enter")
	o.pick("rescue/")
	o.press("enter", "u")
	o.sees("(o) /mnt/usb/rescue")
	// The plan screen can change it, to a place that is refused, and to one that is not.
	o.press("n")
	o.pick("sdb ")
	o.press(" ", "n")
	o.sees("/mnt/usb/rescue")
	o.press("d", "f", "t")
	for range 8 {
		o.press("backspace")
	}
	o.typeText("/mnt/home")
	o.press("enter")
	o.sees("cannot take the store")
	o.press("d", "f")
	o.pick("nfs/")
	o.press("enter", "u")
	o.sees("--store /mnt/nfs")
}

// sitAt is a second console on the engine of the first.
func sitAt(t *testing.T, first *operator) *operator {
	t.Helper()
	s := *first.shared
	s.Place, s.Picked = ask.Place{}, nil
	o := &operator{t: t, e: first.e, shared: &s}
	o.m = newModel(&s)
	o.do(o.m.Init())
	return o
}

// forgetful lists no place but pools, as an engine may that keeps no folder in mind.
type forgetful struct{ ask.Engine }

func (f forgetful) Places(context.Context) ([]ask.Place, error) { return nil, nil }

func TestAFolderThatWasPickedIsSeen(t *testing.T) {
	o := sit(t, seat{shrink: 64, engine: func(e ask.Engine) ask.Engine { return forgetful{e} }})
	o.press("n", "f")
	o.pick("nfs/")
	o.press("enter", "u")
	o.sees("(o) /mnt/nfs")
}

// Long lists are found through: a disk by what stands on its label, a folder by its name. Esc leaves things as they were.
func TestListsAreSearched(t *testing.T) {
	o := sit(t, seat{shrink: 64})
	o.approvePool()
	o.press("n", "/")
	o.typeText("e21740-0471")
	o.press("enter")
	o.sees("sdc", "Only rows with")
	if strings.Contains(o.text(), "] sdb ") {
		t.Errorf("another row is shown:\n%s", o.text())
	}
	o.press(" ", "/")
	o.typeText("zzz")
	o.press("enter")
	o.sees("none has these letters")
	o.press("/", "ctrl+c", "esc") // what is typed into takes all keys
	o.press("/")
	for range 20 {
		o.press("backspace")
	}
	o.press("enter")
	o.sees("[x] sdc", "] sdb")
	o.press("f", "/")
	o.typeText("usb")
	o.press("enter")
	o.sees("usb/")
	if strings.Contains(o.text(), "nfs/") {
		t.Errorf("another folder is shown:\n%s", o.text())
	}
	o.press("/", "esc")
	o.sees("usb/")
	o.press("/", "backspace", "backspace", "backspace", "enter")
	o.sees("nfs/", "usb/")
}

// The row of the console is about the one that this face is on, whatever the engine was given.
func TestTheConsoleIsTheFacesOwn(t *testing.T) {
	o := sit(t, seat{shrink: 64})
	s := *o.shared
	s.Console = &detect.Console{Kind: detect.Serial, TTY: "/dev/ttyS0", Term: "vt220", Keys: "de"}
	own := &operator{t: t, e: o.e, shared: &s, m: newModel(&s)}
	own.size(0, 0)
	own.wait()
	own.do(own.m.Init())
	own.wait()
	own.sees("serial, /dev/ttyS0, vt220, keyboard de")
	own.size(100, 30)
	own.do(own.m.Init())
	own.wait()
	own.sees("vt220, 100x30, keyboard de")
}
