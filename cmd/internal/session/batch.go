package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/messages"
	"aslrescue/cmd/internal/report"
	"aslrescue/detect"
	"aslrescue/detect/probe"
	"aslrescue/engine/event"
	"aslrescue/tui/ask"
)

// batchRun takes in what batch.sources of the config means, one intake after the other, and then does what batch.done says.
type batchRun struct {
	o        *intakeOptions
	c        *config.Config
	std      IO
	pr       *report.Printer
	messages *messages.Keeper

	decide func(context.Context) error // refuses where no place is said and the machine has none; waits for the network
	look   func(context.Context) (*detect.Facts, error)
	intake func(context.Context, *intakeOptions) report.Result
	change func(context.Context) error // returns when other disks may be here
	end    func(verb string) error     // poweroff, reboot

	taken map[string]bool // what was tried, and what was told about, by what stays the same of it
	count int             // intakes
	worst report.Result
}

// runBatch is asl-intake --batch without sources.
func runBatch(ctx context.Context, o *intakeOptions, std IO, pr *report.Printer) report.Result {
	c, err := config.Load(o.where())
	if c.Batch.Sources == "" {
		return report.Result{Err: report.Usagef("nothing to take in: --source is missing, and no asl.conf says batch.sources")}
	}
	if err != nil {
		return report.Result{Err: &report.Error{What: "read the config", Err: err, Code: report.Refused,
			Means: "Without a person, nothing is done by a config that is not understood whole.", Next: []string{"Mend the places named above; asl-admin config shows what holds."}}}
	}
	k := keeper(c, "asl-intake", std, true)
	defer k.Close()
	b := batchRun{o: o, c: c, std: std, pr: pr, messages: k, change: disksChange, end: endMachine, taken: map[string]bool{}}
	b.decide = func(ctx context.Context) error {
		wait, err := time.ParseDuration(c.Batch.WaitNetwork)
		if err != nil {
			wait = probe.NetworkWait
		}
		u, err := Unattended(ctx, ThisMachine("asl-intake"), LookWish(o.where()), wait)
		if err == nil && u.Decision.Mode == detect.Remote {
			o.store = c.RemoteEndpoint
		}
		return err
	}
	b.look = func(ctx context.Context) (*detect.Facts, error) {
		u, err := probe.Once(ctx, ThisMachine("asl-intake"), LookWish(o.where()))
		return &u.Facts, err
	}
	b.intake = func(ctx context.Context, o *intakeOptions) report.Result {
		j := &intakeJob{o: o, std: std, pr: pr}
		res := j.run(ctx)
		if j.messages != nil {
			j.messages.Close()
		}
		return res
	}
	return b.run(ctx)
}

func (b *batchRun) run(ctx context.Context) report.Result {
	if d, err := time.ParseDuration(b.c.Batch.StopAfter); err == nil && d > 0 {
		b.o.until = time.Now().Add(d)
	}
	if b.o.store == "" { // who says a place has looked at it
		looking, done := untilSignal(ctx)
		err := b.decide(looking)
		done()
		if err != nil {
			return report.Result{Err: err}
		}
	}
	for {
		stop, err := b.round(ctx)
		if err != nil {
			return report.Result{Err: err}
		}
		if stop || b.c.Batch.Done != "wait" {
			break
		}
		if err := b.wait(ctx); err != nil {
			b.add(report.Result{Err: err})
			break
		}
	}
	return b.finish()
}

// round takes in everything that is here now. stop says that nothing more is to be done.
func (b *batchRun) round(ctx context.Context) (stop bool, err error) {
	looking, done := untilSignal(ctx)
	f, err := b.look(looking)
	done()
	if err != nil {
		return true, err
	}
	for _, w := range b.wanted(f) {
		if b.taken[w.key] {
			continue
		}
		b.taken[w.key] = true
		if w.refused != "" {
			b.messages.Say().Info(fmt.Sprintf("%s is left alone: %s", w.path, w.refused))
			continue
		}
		b.messages.Say().Info("taking in " + w.what)
		o := *b.o
		o.sources = list{w.path}
		res := b.intake(ctx, &o)
		b.row(w, res)
		if b.add(res) {
			return true, nil
		}
	}
	return false, nil
}

// wait returns when there may be something new.
func (b *batchRun) wait(ctx context.Context) error {
	ctx, done := untilSignal(ctx)
	defer done()
	if !b.o.until.IsZero() {
		var cancel func()
		ctx, cancel = context.WithDeadlineCause(ctx, b.o.until, report.ErrStopped)
		defer cancel()
	}
	b.messages.Keep().Info("waiting for further disks")
	err := b.change(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// add keeps the worst of the results, and says whether it ends the run.
func (b *batchRun) add(res report.Result) (stop bool) {
	b.count++
	code := report.CodeOf(res.Err)
	if res.Err == nil {
		code = report.ResultCode(res.Word)
	}
	if rank(code) >= rank(b.code()) {
		b.worst = res
	}
	switch {
	case code == report.OK:
		return false
	case stopped(code):
		return true
	case code == report.Full, code == report.NoStore, code == report.Approval, code == report.Refused, code == report.Usage, code == report.Internal:
		return true // the next one would not fare better
	}
	return b.c.Batch.StopOn == "gaps" || b.c.Batch.StopOn == "failure" && code != report.Gaps
}

func (b *batchRun) code() report.Code {
	if b.worst.Err != nil {
		return report.CodeOf(b.worst.Err)
	}
	if b.worst.Word == "" {
		return report.OK
	}
	return report.ResultCode(b.worst.Word)
}

func stopped(c report.Code) bool { return c == report.Stopped || c >= 128 }

// rank orders codes by how much they matter in the end: that it was stopped outweighs everything, because the same command goes on.
func rank(c report.Code) int {
	switch {
	case c == report.OK:
		return 0
	case c == report.Gaps:
		return 1
	case stopped(c):
		return 3
	}
	return 2
}

// row tells how one intake ended; the last line is the run's.
func (b *batchRun) row(w wantedSource, res report.Result) {
	fields := map[string]any{"source": w.path, "id": w.key, "result": res.Word, "exit": report.CodeOf(res.Err)}
	if res.Err == nil {
		fields["exit"] = report.ResultCode(res.Word)
	} else {
		fields["error"] = res.Err.Error()
	}
	if m, ok := res.Fields.(map[string]any); ok {
		for _, k := range []string{"snapshot", "intake", "manifest"} {
			if v, ok := m[k]; ok {
				fields[k] = v
			}
		}
	}
	text := strings.TrimSpace(res.Text)
	if res.Err != nil {
		text = w.path + ": " + event.Printable(res.Err.Error())
	}
	b.pr.Row("taken", text, fields)
}

// finish says how the run ended, and ends the machine if that is wanted and everything was sealed.
func (b *batchRun) finish() report.Result {
	res := b.worst
	res.Text = ""
	res.Fields = map[string]any{"intakes": b.count}
	if b.count == 0 {
		res.Err = &report.Error{What: "look for what batch.sources means (" + b.c.Batch.Sources + ")", Err: errNothingHere, Code: report.Gone,
			Next: []string{"Check that the disk is plugged in: asl-intake --preflight lists what is seen.", "batch.done = wait waits for disks to be plugged in."}}
		return res
	}
	verb := b.c.Batch.Done
	if verb != "poweroff" && verb != "reboot" {
		return res
	}
	if r := rank(b.code()); r > 1 {
		b.messages.Say().Warn("batch.done = " + verb + " is not done: not everything was sealed")
		return res
	}
	b.messages.Say().Info("everything is sealed; now " + verb)
	if err := b.end(verb); err != nil {
		b.messages.Say().Warn(err.Error())
	}
	return res
}

var errNothingHere = errors.New("nothing of it is here")

// wantedSource is one thing that the config means.
type wantedSource struct {
	key     string // what stays the same of it
	path    string
	what    string // for people
	refused string
}

// wanted are the disks that batch.sources means, and what it names by a path that is no disk. Where a pattern means a file system of a disk, the
// whole disk is meant.
func (b *batchRun) wanted(f *detect.Facts) []wantedSource {
	var out []wantedSource
	refused := map[string]string{}
	for _, c := range ask.Disks(f, ask.Place{Disks: b.storeDisks(f)}) {
		refused[c.Path] = c.Refused
	}
	named := f.Named(b.c.Policy(nil))
	for i := range f.Disks {
		d := &f.Disks[i]
		if !slices.Contains(named, d.Name) {
			continue
		}
		key := "wwn " + d.WWN
		if d.WWN == "" {
			key = "serial " + d.Serial
		}
		if d.WWN == "" && d.Serial == "" {
			key = "path " + d.Path
		}
		out = append(out, wantedSource{key, d.Path, strings.TrimSpace(d.Path + " " + d.Model + " " + d.Serial), refused[d.Path]})
	}
	for _, p := range b.c.Paths() {
		if st, err := os.Stat(p); err == nil && (st.Mode().IsRegular() || st.IsDir()) { // devices are among the disks
			out = append(out, wantedSource{"path " + p, p, p, ""})
		}
	}
	return out
}

// storeDisks are the disks below the store.
func (b *batchRun) storeDisks(f *detect.Facts) []string {
	store := or(b.o.store, b.c.LocalMount)
	if !isFolder(store) {
		return nil // of a pool when it is imported; a disk of a writable pool is refused anyway
	}
	near := nearest(filepath.Clean(store))
	var st unix.Stat_t
	if unix.Stat(near, &st) != nil {
		return nil
	}
	return disksBelow(f, st.Dev, near)
}

// disksChange returns when the kernel has other block devices than when it was called.
func disksChange(ctx context.Context) error {
	before := blockDevices()
	t := time.NewTicker(2 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			if blockDevices() != before {
				return nil
			}
		}
	}
}

// blockDevices are the kernel's, with the number that tells a disk from one that had its name before.
func blockDevices() string {
	all, _ := filepath.Glob("/sys/block/*") // the pattern is good
	var b strings.Builder
	for _, dir := range all {
		seq, _ := os.ReadFile(filepath.Join(dir, "diskseq")) // older kernels have none
		size, _ := os.ReadFile(filepath.Join(dir, "size"))   // a card that was put in has one
		fmt.Fprintln(&b, filepath.Base(dir), strings.TrimSpace(string(seq)), strings.TrimSpace(string(size)))
	}
	return b.String()
}

// endMachine switches the machine off, or starts it again.
func endMachine(verb string) error {
	if exec.Command("systemctl", verb).Run() == nil || exec.Command(verb).Run() == nil {
		return nil
	}
	return fmt.Errorf("the machine did not %s: do it by hand, everything is sealed", verb)
}
