package wizard

import (
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"aslrescue/tui/screen"
)

// Letters that are read in one piece are as good as letters that come one by one.
func TestLettersInOnePieceAreEachACommand(t *testing.T) {
	o := sit(t, seat{shrink: 64})
	o.press("nq")
	o.sees("Leave", "leave the wizard")
	if at, _ := o.m.At(); at != screen.AtApprove {
		t.Errorf("n went to %s", at.Name())
	}
	o.press("esc", "bnb")
	if at, over := o.m.At(); at != screen.AtCheck || over != nil {
		t.Errorf("b, n, b went to %s, under %v", at.Name(), over)
	}
	o.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("nn"), Paste: true})
	if at, _ := o.m.At(); at != screen.AtCheck {
		t.Errorf("what was pasted went to %s", at.Name())
	}
}

// What is left of a torn arrow is no command, however often it is torn, and takes no letter with it that comes behind it.
func TestWhatIsLeftOfATornKeyIsNoCommand(t *testing.T) {
	for _, keys := range [][]string{{"esc", "[A"}, {"esc", "[", "A"}, {"esc", "OA"}, {"esc", "[1;5A"}, {"esc", "[1", ";5", "D"}, {"esc", "[5~"}} {
		o := sit(t, seat{shrink: 64})
		o.press("n")
		o.press(keys...)
		if at, over := o.m.At(); at != screen.AtApprove || over != nil {
			t.Errorf("%q went to %s, under %v", keys, at.Name(), over)
		}
		last := len(keys) - 1
		o.press("b", "n")
		o.press(append(keys[:last:last], keys[last]+"b")...)
		if at, _ := o.m.At(); at != screen.AtCheck {
			t.Errorf("b behind %q went to %s", keys, at.Name())
		}
	}
	o := sit(t, seat{shrink: 64})
	o.press("esc", "A")
	if at, _ := o.m.At(); at != screen.AtAdmin {
		t.Errorf("A after Esc went to %s", at.Name())
	}
}

// A piece is never an answer: over a question it is one unknown key, and what opened the question does not answer it.
func TestAPieceAnswersNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(o *operator)
	}{
		{"by", func(o *operator) { o.press("up", "enter"); o.wait(); o.press("by") }},
		{"yy", func(o *operator) { o.press("up", "enter"); o.wait(); o.press("yy") }},
		{"by, pasted", func(o *operator) { o.press("up", "enter"); o.wait(); o.paste("by") }},
		{"yy, pasted", func(o *operator) { o.press("up", "enter"); o.wait(); o.paste("yy") }},
		{"y, pasted", func(o *operator) { o.press("up", "enter"); o.wait(); o.paste("y") }},
		{"yy after the name", func(o *operator) { o.press("w"); o.wait(); o.typeText("tank"); o.press("yy") }},
		{"name and y", func(o *operator) { o.press("w"); o.wait(); o.press("tanky") }},
		{"opened and named", func(o *operator) { o.press("wtank"); o.wait(); o.press("y") }},
		{"opened and answered", func(o *operator) { o.press("wtanky"); o.wait() }},
	} {
		for _, inline := range []bool{false, true} { // true: what comes later is waited for before the rest of a piece, as a sequence does
			t.Run(c.name, func(t *testing.T) {
				o, r := recorded(t)
				o.press("n")
				if inline {
					o.clock()
				}
				c.do(o)
				o.wait()
				if len(r.answers) > 0 {
					t.Errorf("it was taken for an answer: %+v\n%s", r.answers, o.text())
				}
			})
		}
	}
}

// A piece that opens a menu chooses nothing in it.
func TestAPieceChoosesNothingInTheMenuItOpens(t *testing.T) {
	o := sit(t, seat{shrink: 64})
	o.press("qd")
	o.sees("leave the wizard")
	if o.left {
		t.Error("it was left")
	}
	o.press("d")
	if !o.left {
		t.Error("it was not left by a key of its own")
	}
}

// What comes in one piece with the key that shows a plan does not start it.
func TestAPieceStartsNoPlanThatWasNotSeen(t *testing.T) {
	for _, inline := range []bool{false, true} {
		o, r := recorded(t)
		o.approvePool()
		o.press("n")
		o.pick("sdb ")
		o.press(" ")
		if inline {
			o.clock()
		}
		o.press("ng")
		o.press("vg")
		if r.starts > 0 {
			t.Errorf("it was started unseen (%v)", inline)
		}
	}
}

func (o *operator) paste(s string) {
	o.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(s), Paste: true})
}

// clock lets time pass in commands that wait, as it does in the program.
func (o *operator) clock() {
	now := noon()
	o.shared.Arm = 1500 * time.Millisecond // as the program has it
	o.shared.Now = func() time.Time { return now }
	o.shared.Later = func(d time.Duration, m tea.Msg) tea.Cmd {
		if d <= 250*time.Millisecond { // the state is looked at again and again
			return func() tea.Msg { return later{m} }
		}
		return func() tea.Msg { now = now.Add(d); return m }
	}
}
