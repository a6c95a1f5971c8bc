package session

import (
	"context"

	"aslrescue/cmd/internal/report"
	"aslrescue/tui/ask"
)

// Wizard is what the command line says of the face with screens. Whoever draws stands outside: importing a screen library has effects that no
// test of a session needs.
type Wizard struct {
	Rehearse bool
	Facts    string // file with a captured machine; empty: the built-in one
	Plain    bool   // questions line by line
	ASCII    bool
	Attach   func(context.Context) (ask.Engine, error) // to the engine that runs; it starts one if there is none
	IO       IO
}

// wizard tells whether a person is to be asked.
func (o *intakeOptions) wizard() bool {
	if o.alone() > 0 || o.listDir != "" {
		return false
	}
	return o.rehearse || o.plain || o.ascii || !o.batch && !o.dryRun && len(o.sources) == 0 && o.plan == "" && o.store == ""
}

func (o *intakeOptions) checkWizard() error {
	switch {
	case o.batch || o.dryRun || o.json || o.plan != "" || o.store != "":
		return report.Usagef("--rehearse, --plain and --ascii are for the wizard: --batch, --dry-run, --json, --plan and --store do not go with it")
	case o.rehearse && len(o.sources) > 1:
		return report.Usagef("--rehearse takes one file with facts, or none")
	case !o.rehearse && len(o.sources) > 0:
		return report.Usagef("the wizard asks for sources; with --batch they are given")
	}
	return nil
}

// runWizard hands over to whoever draws.
func runWizard(ctx context.Context, o *intakeOptions, std IO) report.Result {
	w := Wizard{Rehearse: o.rehearse, Plain: o.plain, ASCII: o.ascii, IO: std, Attach: func(ctx context.Context) (ask.Engine, error) {
		r, err := attachEngine(ctx, o, terminalName())
		if err != nil {
			return nil, &report.Error{What: "attach to the engine", Err: err, Next: []string{"asl-intake --rehearse shows the wizard on a made-up machine", "asl-intake --batch needs no engine beside it"}}
		}
		r.Keep(func(context.Context) error {
			_, err := startEngine(o.place(), o)
			if report.CodeOf(err) == report.Locked {
				return nil // another face was quicker
			}
			return err
		})
		return r, nil
	}}
	if len(o.sources) == 1 {
		w.Facts = o.sources[0]
	}
	switch {
	case std.Wizard == nil:
		return report.Result{Err: report.Usagef("--batch is missing: this program has no wizard")}
	case !std.Terminal && !o.plain:
		return report.Result{Err: report.Usagef("--batch is missing: the wizard wants a terminal, and standard output is none (--plain asks line by line)")}
	}
	return std.Wizard(ctx, w)
}
