package session

import (
	"context"
	"fmt"
	"slices"
	"time"

	"aslrescue/cmd/internal/report"
	"aslrescue/detect"
	"aslrescue/detect/probe"
)

// Unattended looks until it is known how a run without a person goes on. Where only the network is missing it waits for it; at boot
// it is often not there yet. An error is a refusal, with the reasons.
func Unattended(ctx context.Context, m *probe.Machine, w probe.Wish, wait time.Duration) (probe.Update, error) {
	u, err := probe.WaitForNetwork(ctx, m, w, wait)
	if err != nil {
		return u, err
	}
	return u, Refuse(u)
}

// Refuse says why a run without a person does not go on: STOP rows about the machine, its state, the place chosen or a disk that is
// to be taken in, or that no rule gives a mode without a person. A STOP about something else refuses nothing.
func Refuse(u probe.Update) error {
	d := &u.Decision
	about := []detect.Subject{detect.Machine, detect.TheStateDir}
	switch {
	case d.Mode == detect.Remote:
		about = append(about, detect.TheRemote)
	case d.Rule == 1:
		about = append(about, detect.TheStore)
	case d.Pool != 0:
		about = append(about, detect.OfPool(d.Pool))
	}
	for _, disk := range u.Facts.Named(u.Policy) {
		about = append(about, detect.OfDisk(disk))
	}
	what, next := d.Why, []string{}
	for _, o := range d.Options[:d.Rule-1] { // why each of the others was not taken
		if !slices.Contains(next, o.Why) {
			next = append(next, o.Why)
		}
	}
	if stops := slices.DeleteFunc(slices.Clone(d.About(about...)), func(r detect.Row) bool { return r.Verdict != detect.STOP }); len(stops) > 0 {
		what, next = "the preflight table has STOP rows", nil
		for _, r := range stops {
			next = append(next, fmt.Sprintf("%s: %s", r.What, r.Found))
		}
	} else if d.Mode != detect.Operator {
		return nil
	}
	return &report.Error{What: "go on without a person", Err: fmt.Errorf("%w: %s", report.ErrRefused, what), Means: "Nothing was written, and nothing was imported.",
		Next: append(next, "asl-intake --preflight shows the whole table")}
}
