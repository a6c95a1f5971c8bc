// Package wizard gives the face with screens its engine: the one that runs, or a rehearsal.
package wizard

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/rehearse"
	"aslrescue/cmd/internal/report"
	"aslrescue/cmd/internal/session"
	"aslrescue/tui"
	"aslrescue/tui/ask"
)

// Run shows the wizard and says how it ended.
func Run(ctx context.Context, w session.Wizard) report.Result { return run(ctx, w, 0) }

// run takes the rate of a rehearsal's disks in bytes per second: 0 is what disks give, negative is as fast as it goes.
func run(ctx context.Context, w session.Wizard, rate int64) report.Result {
	e, err := engine(ctx, w, rate)
	if err != nil {
		return report.Result{Err: err}
	}
	defer func() { _ = e.Close() }() // a rehearsal leaves nothing behind; a real engine goes on
	if w.Plain {
		return result(e, 0, tui.Plain(ctx, tui.PlainOptions{Engine: e, In: w.IO.In, Out: w.IO.Out}))
	}
	screen := config.Screen()
	console := session.ThisMachine("asl-intake").Console()
	ended, err := tui.Run(ctx, tui.Options{Engine: e, In: os.Stdin, Out: os.Stdout, Term: screen.Term, Console: &console, NoColor: screen.NoColor, UTF8: screen.UTF8, ASCII: w.ASCII,
		Detach: !w.Rehearse, Crashes: os.TempDir()})
	return result(e, ended.Signal, err)
}

func engine(ctx context.Context, w session.Wizard, rate int64) (ask.Engine, error) {
	if !w.Rehearse {
		return w.Attach(ctx)
	}
	o := rehearse.Options{Late: 2 * time.Second, Rate: rate}
	if w.Facts != "" {
		f, err := rehearse.Load(w.Facts)
		if err != nil {
			return nil, report.Usagef("--rehearse: %w", err)
		}
		o.Facts, o.Name = &f, w.Facts
	}
	e, err := rehearse.New(o)
	if err != nil {
		return nil, &report.Error{What: "make a place for the rehearsal", Err: err}
	}
	return e, nil
}

// result is what is left on the terminal when the screens are gone: the report as plain text, for whoever scrolls back.
func result(e ask.Engine, by syscall.Signal, err error) report.Result {
	switch {
	case by != 0:
		return report.Result{Err: report.BySignal(by)}
	case errors.Is(err, context.Canceled):
		return report.Result{Err: err}
	case err != nil:
		return report.Result{Err: &report.Error{What: "show the wizard", Err: err, Next: []string{"asl-intake --plain asks line by line"}}}
	}
	j := e.State().Job
	switch {
	case j.Phase != ask.Idle && j.Phase != ask.Ended:
		return report.Result{Text: "The intake goes on. asl-intake shows it again."}
	case j.Report == nil:
		return report.Result{Text: "Nothing was taken in."}
	}
	return session.JobResult(j.Report)
}
