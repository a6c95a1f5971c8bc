package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/report"
	"aslrescue/detect"
	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
)

// batchOf runs a batch over machines that follow one another, each as a list of disks: "sda S1 LABEL".
func batchOf(t *testing.T, sources, exclude, stopOn, done string, results map[string]report.Result, machines ...[]string) (log string, res report.Result) {
	t.Helper()
	c := config.Default()
	c.Batch.Sources, c.Batch.Exclude, c.Batch.StopOn, c.Batch.Done = sources, exclude, stopOn, done
	var out, errs bytes.Buffer
	std := IO{Out: &out, Err: &errs}
	var b strings.Builder
	n := 0
	run := batchRun{o: &intakeOptions{batch: true, store: t.TempDir()}, c: c, std: std, messages: keeper(c, "asl-intake", std, false), taken: map[string]bool{},
		pr: report.New(report.Options{Program: "asl-intake", Out: &out, Err: &errs}),
		look: func(context.Context) (*detect.Facts, error) {
			f := &detect.Facts{Stack: &detect.Stack{}}
			for _, d := range machines[min(n, len(machines)-1)] {
				var disk detect.Disk
				var label string
				_, _ = fmt.Sscan(d, &disk.Name, &disk.Serial, &label) // a label may be missing
				disk.Path, disk.Size = "/dev/"+disk.Name, 1<<30
				disk.Parts = []detect.Part{{Name: disk.Name + "1", Path: disk.Path + "1", Content: &detect.Content{Kind: "ext4", Label: label}}}
				f.Disks = append(f.Disks, disk)
			}
			f.Host.Medium = "boot"
			return f, nil
		},
		intake: func(_ context.Context, o *intakeOptions) report.Result {
			b.WriteString(strings.Join(o.sources, " ") + "; ")
			if r, ok := results[o.sources[0]]; ok {
				return r
			}
			return report.Result{Word: event.Complete}
		},
		change: func(context.Context) error {
			if n++; n >= len(machines) {
				return errors.New("no more")
			}
			return nil
		},
		end: func(verb string) error { b.WriteString(verb); return nil },
	}
	res = run.run(t.Context())
	return b.String(), res
}

func TestBatchTakesInWhatTheConfigMeans(t *testing.T) {
	failed := report.Result{Word: event.Failed, Err: errors.New("cannot be read")}
	gaps := report.Result{Word: event.CompleteWithGaps}
	full := report.Result{Word: event.Failed, Err: artifact.ErrFull}
	signal := report.Result{Word: event.Stopped, Err: report.BySignal(syscall.SIGTERM)}
	three := []string{"sda S1 ROOT", "sdb S2 DATA", "sdc T3 DATA"}
	for _, c := range []struct {
		name, sources, exclude, stopOn, done string
		results                              map[string]report.Result
		machines                             [][]string
		log                                  string
		code                                 report.Code
	}{
		{"by serial", "serial:S*", "", "failure", "stay", nil, [][]string{three}, "/dev/sda; /dev/sdb; ", report.OK},
		{"by label, but not that one", "label:DATA", "serial:T*", "failure", "stay", nil, [][]string{three}, "/dev/sdb; ", report.OK},
		{"not what the system was booted from", "serial:*", "", "failure", "stay", nil, [][]string{{"boot B1", "sda S1"}}, "/dev/sda; ", report.OK},
		{"nothing of it is here", "serial:X*", "", "failure", "poweroff", nil, [][]string{three}, "", report.Gone},
		{"a failure stops", "serial:*", "", "failure", "poweroff", map[string]report.Result{"/dev/sdb": failed}, [][]string{three}, "/dev/sda; /dev/sdb; ", report.Failed},
		{"a failure does not stop", "serial:*", "", "never", "poweroff", map[string]report.Result{"/dev/sdb": failed}, [][]string{three}, "/dev/sda; /dev/sdb; /dev/sdc; ", report.Failed},
		{"gaps do not stop", "serial:*", "", "failure", "reboot", map[string]report.Result{"/dev/sdb": gaps}, [][]string{three}, "/dev/sda; /dev/sdb; /dev/sdc; reboot", report.Gaps},
		{"gaps stop", "serial:*", "", "gaps", "stay", map[string]report.Result{"/dev/sdb": gaps}, [][]string{three}, "/dev/sda; /dev/sdb; ", report.Gaps},
		{"a full target stops always", "serial:*", "", "never", "poweroff", map[string]report.Result{"/dev/sda": full}, [][]string{three}, "/dev/sda; ", report.Full},
		{"a signal stops always", "serial:*", "", "never", "poweroff", map[string]report.Result{"/dev/sda": signal}, [][]string{three}, "/dev/sda; ", report.ByTerm},
		{"then off", "serial:*", "", "failure", "poweroff", nil, [][]string{three}, "/dev/sda; /dev/sdb; /dev/sdc; poweroff", report.OK},
		{"waits for others, by what stays the same", "serial:*", "", "failure", "wait", nil, [][]string{{"sda S1"}, {"sda S1", "sdb S2"}, {"sda S3", "sdb S1"}}, "/dev/sda; /dev/sdb; /dev/sda; ", report.Failed},
		{"waits from nothing", "serial:*", "", "failure", "wait", nil, [][]string{{}, {"sda S1"}}, "/dev/sda; ", report.Failed},
	} {
		log, res := batchOf(t, c.sources, c.exclude, c.stopOn, c.done, c.results, c.machines...)
		code := report.CodeOf(res.Err)
		if res.Err == nil {
			code = report.ResultCode(res.Word)
		}
		if c.done == "wait" {
			code = report.Failed // waiting ends here because the test ran out of machines
		}
		if log != c.log || code != c.code {
			t.Errorf("%s: did %q, ended with %d (%v); want %q, %d", c.name, log, code, res.Err, c.log, c.code)
		}
	}
}

// Without --store the machine has to have a place: that is found out before anything is begun.
func TestBatchIsRefusedByTheTable(t *testing.T) {
	c := config.Default()
	c.Batch.Sources = "serial:*"
	var out, errs bytes.Buffer
	std := IO{Out: &out, Err: &errs}
	run := batchRun{o: &intakeOptions{batch: true}, c: c, std: std, messages: keeper(c, "asl-intake", std, false), taken: map[string]bool{},
		pr:     report.New(report.Options{Program: "asl-intake", Out: &out, Err: &errs}),
		decide: func(context.Context) error { return Refuse(met(t, "one-pool", func(*detect.Policy) {})) },
		look: func(context.Context) (*detect.Facts, error) {
			t.Error("it looked for sources")
			return &detect.Facts{}, nil
		},
		intake: func(context.Context, *intakeOptions) report.Result { t.Error("it began"); return report.Result{} }}
	if res := run.run(t.Context()); report.CodeOf(res.Err) != report.Refused || !strings.Contains(res.Err.Error(), "could be imported") {
		t.Errorf("ended with %v", res.Err)
	}
}
