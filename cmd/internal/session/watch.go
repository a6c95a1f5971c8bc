package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"aslrescue/cmd/internal/attach"
	"aslrescue/cmd/internal/report"
	"aslrescue/cmd/internal/wire"
	"aslrescue/engine/event"
	"aslrescue/tui/ask"
)

// watch attaches to the engine that runs and prints what it says until its intake ends; once says only how it stands. It starts nothing,
// stops nothing, and asks nothing.
func watch(ctx context.Context, o *intakeOptions, pr *report.Printer, once bool) report.Result {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	r, err := attach.Dial(ctx, o.place(), Tool("asl-intake"), terminalName())
	if errors.Is(err, wire.ErrNoEngine) {
		return report.Result{Err: &report.Error{What: "attach to the engine", Err: err, Means: "No wizard is at work on this machine. A run with --batch has no engine of its own.",
			Next: []string{"asl-intake without --batch starts one."}}}
	}
	if err != nil {
		return report.Result{Err: &report.Error{What: "attach to the engine", Err: err}}
	}
	defer r.Close()
	if once {
		st := r.State()
		return report.Result{Text: standsText(&st), Fields: statusFields(&st)}
	}
	w := watcher{pr: pr, json: o.json}
	for {
		st := r.State()
		w.show(&st)
		if st.Job.Phase == ask.Ended && st.Job.Report != nil {
			return JobResult(st.Job.Report)
		}
		select {
		case <-ctx.Done():
			return report.Result{Text: "left; the engine goes on", Fields: statusFields(&st)}
		case <-r.Gone():
			st = r.State()
			return report.Result{Err: &report.Error{What: "watch the engine", Err: errors.New(st.Lost)}}
		case <-r.News():
		}
	}
}

// watcher prints what is new.
type watcher struct {
	pr   *report.Printer
	json bool
	seq  uint64
	last time.Duration
	any  bool
}

func (w *watcher) show(st *ask.State) {
	for _, l := range st.Lines {
		if l.Seq <= w.seq {
			continue
		}
		w.seq = l.Seq
		text := event.Printable(l.Text)
		if l.From != "" {
			text = l.From + ": " + text
		}
		w.pr.Row("line", l.At.Format("15:04:05")+" "+text, l)
	}
	p := &st.Job.Progress
	if p.Begun && st.Job.Phase != ask.Ended && (!w.any || p.Now-w.last >= 5*time.Second || p.Now < w.last) {
		w.any, w.last = true, p.Now
		w.pr.Row("status", report.Progress(p, 200), statusFields(st))
	}
}

func standsText(st *ask.State) string {
	if st.Job.Phase == ask.Idle {
		return "the engine runs; nothing was begun"
	}
	if r := st.Job.Report; r != nil {
		return JobResult(r).Text
	}
	return string(st.Job.Phase) + ": " + report.Progress(&st.Job.Progress, 200)
}

func statusFields(st *ask.State) map[string]any {
	p := &st.Job.Progress
	done, of := p.Done()
	f := map[string]any{"phase": st.Job.Phase, "stage": p.Stage, "done": done, "total": of, "safe": p.Safe, "stored": p.Stored, "faces": st.Faces, "intake": p.Intake}
	if st.Job.Report != nil {
		f["report"] = st.Job.Report
	}
	return f
}

// JobResult is what a person, or a script, is told at the end of a job.
func JobResult(r *ask.Report) report.Result {
	var b strings.Builder
	if r.Snapshot > 0 {
		fmt.Fprintf(&b, "%s: snapshot %d, %s\n", r.Result, r.Snapshot, event.Duration(r.Took))
	} else {
		fmt.Fprintf(&b, "%s\n", r.Result)
	}
	if r.Why != "" {
		fmt.Fprintf(&b, "  %s\n", event.Printable(r.Why))
	}
	for _, n := range r.Next {
		fmt.Fprintf(&b, "  next     %s\n", event.Printable(n))
	}
	return report.Result{Word: r.Result, Text: b.String(), Fields: map[string]any{"report": r}}
}

// terminalName is where this face is, for people.
func terminalName() string {
	if !term.IsTerminal(0) {
		return fmt.Sprintf("process %d", os.Getpid())
	}
	name, err := os.Readlink("/proc/self/fd/0")
	if err != nil {
		return "a terminal"
	}
	return strings.TrimPrefix(name, "/dev/")
}
