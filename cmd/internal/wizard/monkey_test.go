package wizard

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"aslrescue/tui/ask"
	"aslrescue/tui/theme"
)

var (
	monkeyKeys = flag.Int("monkeys", 30_000, "how many random keys are pressed")
	monkeySeed = flag.Uint64("seed", 0, "of the random keys; 0 takes any")
)

// watcher is the engine as the monkey's overseer sees it: whatever comes from a screen is held against what stood on it.
type watcher struct {
	ask.Engine
	o    *operator
	t    *testing.T
	last string // the key before, and the screen it was pressed on
	text string
	good map[string]bool // hashes that were approved as they must be
}

// Answer wants that a y was pressed on a screen that asked for exactly that, and for a risky plan that the name stood there.
func (w *watcher) Answer(ctx context.Context, a ask.Answer) (string, error) {
	offers, _ := w.Engine.Offers(ctx)
	for _, o := range offers {
		if o.Hash != a.Hash || !a.Yes {
			continue
		}
		want := "Press y to approve exactly this"
		if o.Word != "" {
			want = o.Word + ": press y to do it"
		}
		if w.last != "y" || !strings.Contains(w.text, want) || !strings.Contains(w.text, "Approve: "+o.Way+", pool "+o.Subject) {
			w.t.Errorf("an approval nobody gave: %+v, after %q on\n%s", a, w.last, w.text)
		}
		w.good[a.Hash] = true
	}
	return w.Engine.Answer(ctx, a)
}

// Start wants that g was pressed on a screen that showed the plan.
func (w *watcher) Start(ctx context.Context, hash string) error {
	if w.last != "g" || !strings.Contains(w.text, "FROM") {
		w.t.Errorf("an intake nobody started, after %q on\n%s", w.last, w.text)
	}
	return w.Engine.Start(ctx, hash)
}

// Leave wants a y on a screen that asked for it.
func (w *watcher) Leave(ctx context.Context, off bool) error {
	if w.last != "y" {
		w.t.Errorf("left after %q on\n%s", w.last, w.text)
	}
	return w.Engine.Leave(ctx, off)
}

// A monkey at the keyboard breaks nothing: no panic, no line too long, no character that the font lacks, and nothing is approved, started or
// left that was not asked for and answered as it must be.
func TestAMonkeyAtTheKeyboardApprovesNothing(t *testing.T) {
	seed := *monkeySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	n := *monkeyKeys
	if testing.Short() {
		n = min(n, 5_000)
	}
	const life = 2500 // keys; then a new machine
	for done := 0; done < n && !t.Failed(); done += life {
		t.Run(fmt.Sprint(done), func(t *testing.T) { monkey(t, rnd, min(life, n-done)) })
	}
}

func monkey(t *testing.T, rnd *rand.Rand, n int) {
	w := &watcher{t: t, good: map[string]bool{}}
	o := sit(t, seat{shrink: 1024, engine: func(e ask.Engine) ask.Engine { w.Engine = e; return w }})
	w.o = o
	all := []string{"n", "n", "n", "b", "up", "down", "down", "enter", " ", " ", "esc", "y", "y", "w", "g", "g", "f", "t", "d", "v", "s", "c", "l", "m", "p", "x", "r", "i", "o", "e", "k", "z", "V", "u", "q", "?", "1", "2", "3", "4", "5", "6", "A", "D",
		"left", "right", "pgup", "pgdown", "home", "end", "backspace", "delete", "tab", "ctrl+c", "ctrl+l", "f1", "f4", "+", "-", "/", "t", "a", "n", "k", "é", "世", "\x00", "alt+y", "alt+[", "nn", "wy", "yy", "by", "nq", "oy", "ey", "[A", "qd", "dd"}
	font := theme.Builtin()
	for i := range n {
		w.last = all[rnd.IntN(len(all))]
		w.text = o.text()
		if rnd.IntN(150) == 0 {
			o.typeText("tank") // even a monkey finds the word now and then
			w.text = o.text()
		}
		o.press(w.last)
		switch rnd.IntN(40) {
		case 0:
			w.last = ""
			o.wait()
		case 1:
			o.size(rnd.IntN(200)-2, rnd.IntN(60)-2)
		case 2, 3:
			o.size(80, 25)
		}
		if i%53 == 0 {
			for _, r := range o.text() {
				if r != '\n' && !font.Has(r) {
					t.Fatalf("%q is not in the font", r)
				}
			}
			_ = o.m.View()
		}
	}
	offers, err := o.e.Offers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range offers {
		if f.Answered != "" && !w.good[f.Hash] {
			t.Errorf("%s of %s was done, and nobody approved it", f.Way, f.Subject)
		}
	}
}
