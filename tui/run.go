package tui

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"aslrescue/detect"
	"aslrescue/tui/console"
	"aslrescue/tui/screen"
	"aslrescue/tui/theme"
)

// Options say where the wizard is shown, and over which engine.
type Options struct {
	Engine  Engine
	In, Out *os.File
	Term    string // as the environment has it
	Console *detect.Console
	NoColor bool
	UTF8    bool
	ASCII   bool   // asked for
	Detach  bool   // the engine goes on without the wizard
	Crashes string // folder for the text of a crash
	Exit    func(code int)
}

// Ended is how the wizard ended.
type Ended struct {
	How    screen.Leaving
	Signal syscall.Signal // that ended it; 0: none did
}

// arm is how long an approval is shown before it is taken.
const arm = 1500 * time.Millisecond

// Run shows the wizard until it is left. The terminal is left as it was found, also if a signal ends it or any goroutine of it panics.
func Run(ctx context.Context, o Options) (Ended, error) {
	if o.Exit == nil {
		o.Exit = os.Exit
	}
	own, err := console.Own(o.Out)
	if err != nil {
		return Ended{}, err
	}
	vt := console.IsVT(o.Out)
	var prog atomic.Pointer[tea.Program]
	out := console.NewOut(own, func() {
		if p := prog.Load(); p != nil {
			p.Send(repaintMsg{})
		}
	})
	defer out.Close()
	t := console.Take(o.In, o.Out, out, vt)
	defer t.Restore()
	crash := func(r any, stack []byte) {
		t.Restore()
		fmt.Fprintf(os.Stderr, "asl-intake: a mistake in the wizard: %v\n  The engine and the store are intact. %s\n", r, crashFile(o.Crashes, r, stack))
		o.Exit(70)
	}
	defer func() {
		if r := recover(); r != nil {
			crash(r, debug.Stack())
		}
	}()
	look := lookOf(o, vt)
	s := &screen.Shared{Engine: o.Engine, Arm: arm, Detach: o.Detach, Flush: func() { console.Flush(o.In) }, Crash: crash}
	m := NewModel(s, look)
	w, h := console.Size(o.Out)
	m.resize(tea.WindowSizeMsg{Width: w, Height: h})
	s.Console = o.Console
	s.Facts = func() []string { return m.facts(o, vt) }
	p := tea.NewProgram(m, tea.WithInput(o.In), tea.WithOutput(out), tea.WithAltScreen(), tea.WithoutSignalHandler(), tea.WithoutCatchPanics(), tea.WithFPS(30), tea.WithContext(ctx))
	prog.Store(p)
	var ended Ended
	stop := watch(p, o.Out, vt, crash)
	_, err = p.Run()
	sig := stop()
	t.Restore()
	ended.Signal = sig
	if m.left != nil {
		ended.How = *m.left
	}
	if errors.Is(err, tea.ErrProgramKilled) && (sig != 0 || ctx.Err() != nil) {
		err = nil
	}
	return ended, err
}

// lookOf decides how things look by what the terminal is, not by what it calls itself, where that can be told.
func lookOf(o Options, vt bool) Look {
	l := Look{Glyphs: theme.ASCII(), Colour: !o.NoColor && o.Term != "dumb" && o.Term != "vt220" && o.Term != "vt100" && o.Term != "vt102" && o.Term != ""}
	switch {
	case o.ASCII:
	case vt:
		l.Colour = !o.NoColor
		l.Glyphs = theme.Builtin()
		if font, err := console.Font(o.Out); err == nil && len(font) > 0 {
			l.Glyphs = theme.Of(font)
		}
	case o.UTF8 && o.Term != "vt220" && o.Term != "vt100" && o.Term != "vt102" && o.Term != "dumb":
		l.Glyphs = theme.Wide()
	}
	if b := console.Speed(o.Out); b > 0 && b <= 9600 && (o.Term == "vt220" || o.Term == "vt100" || o.Term == "vt102") {
		l.Every = 2 * time.Second // a frame takes as long on such a line
	}
	return l
}

// slowToEnd is how long the program may take to end by itself. Killed, it closes its input under the goroutine that reads it.
const slowToEnd = 5 * time.Second

// watch follows signals and the size of the terminal. The goroutines end with stop, which gives the signal that ended the program, if one did.
func watch(p *tea.Program, out *os.File, vt bool, crash func(any, []byte)) (stop func() syscall.Signal) {
	ends, sizes, done := make(chan os.Signal, 4), make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(ends, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(sizes, syscall.SIGWINCH, syscall.SIGCONT)
	var by atomic.Int64
	guarded := func(f func()) {
		go func() {
			defer func() {
				if r := recover(); r != nil {
					crash(r, debug.Stack())
				}
			}()
			f()
		}()
	}
	guarded(func() {
		select {
		case sig := <-ends:
			by.Store(int64(sig.(syscall.Signal)))
			late := time.AfterFunc(slowToEnd, p.Kill)
			defer late.Stop()
			p.Quit()
		case <-done:
		}
	})
	guarded(func() {
		again := time.NewTicker(time.Minute) // what others wrote on a console stays until it is drawn over
		defer again.Stop()
		for {
			w, h := console.Size(out)
			p.Send(tea.WindowSizeMsg{Width: w, Height: h})
		wait:
			for {
				select {
				case <-sizes:
					break wait
				case <-again.C:
					if vt {
						p.Send(repaintMsg{})
					}
				case <-done:
					return
				}
			}
		}
	})
	return func() syscall.Signal {
		signal.Stop(ends)
		signal.Stop(sizes)
		close(done)
		return syscall.Signal(by.Load())
	}
}

// crashFile writes down what a person who mends it needs, and says where it lies.
func crashFile(dir string, r any, stack []byte) string {
	if dir == "" {
		return ""
	}
	file := filepath.Join(dir, fmt.Sprintf("wizard-crash-%d.txt", time.Now().UnixNano()))
	if err := os.WriteFile(file, fmt.Appendf(nil, "%v\n\n%s", r, stack), 0o600); err != nil {
		return "What happened could not be written down: " + err.Error()
	}
	return "What happened stands in " + file + "."
}

// facts is what the debug tab says of the console.
func (m *Model) facts(o Options, vt bool) []string {
	kind := "a terminal emulator, a serial line or ssh"
	if vt {
		kind = "a console of the kernel's own"
	}
	sw, sh := console.Size(o.Out)
	font := "not asked"
	if f, err := console.Font(o.Out); err == nil {
		font = fmt.Sprintf("%d characters", len(f))
	}
	return []string{
		fmt.Sprintf("TERM    %s: %s", o.Term, kind),
		fmt.Sprintf("Size    %dx%d by the terminal, %dx%d drawn", sw, sh, m.w, m.h),
		fmt.Sprintf("Font    %s, line speed %d bit/s", font, console.Speed(o.Out)),
		fmt.Sprintf("Frames  %d drawn, state every %s", m.frames, m.every),
	}
}
