package session

import (
	"context"
	"slices"
	"sync"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/custody"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
)

// The orders of --order. A disk is hurt if its own record says so.
const (
	asGiven   = "as-given"
	hurtFirst = "hurt-first"
	hurtLast  = "hurt-last"
)

func orderMistake(word string) error {
	if slices.Contains([]string{"", asGiven, hurtFirst, hurtLast}, word) {
		return nil
	}
	return report.Usagef("--order %q: want %s, %s or %s", word, hurtFirst, hurtLast, asGiven)
}

// arrange puts the sources in the order that was asked for. It comes before the plan, whose order it becomes. Where an interrupted intake of the
// same sources can be gone on with, its order holds, whatever the disks say by now.
func (j *intakeJob) arrange(ctx context.Context) {
	if len(j.sources) < 2 || j.o.order == "" || j.o.order == asGiven {
		return
	}
	hurt := make([]bool, len(j.sources))
	var wg sync.WaitGroup
	ask := j.ask
	if ask == nil {
		ask = func(info source.Info) bool { return info.Kind == source.Device && custody.Hurt(ctx, info) }
	}
	for i, src := range j.sources {
		wg.Go(func() { hurt[i] = ask(src.Info()) })
	}
	wg.Wait()
	j.hurt = map[string]bool{}
	for i, src := range j.sources {
		j.hurt[src.Info().Path] = hurt[i]
	}
	if sources, ok := j.asBegun(ctx); ok {
		j.sources = sources
		return
	}
	slices.SortStableFunc(j.sources, func(a, b source.Source) int {
		rank := func(s source.Source) int {
			if j.hurt[s.Info().Path] == (j.o.order == hurtFirst) {
				return 0
			}
			return 1
		}
		return rank(a) - rank(b)
	})
}

// asBegun gives the sources in the order of the interrupted intake that would be gone on with.
func (j *intakeJob) asBegun(ctx context.Context) ([]source.Source, bool) {
	if j.dir == "" || j.o.reading.resume != "auto" {
		return nil, false
	}
	s, err := ReadStore(ctx, j.dir, j.o.domain, Tool("asl-intake"))
	if err != nil {
		return nil, false // that is said where the store is wanted
	}
	defer func() { _ = s.Backend().Close() }() // only read
	return intake.InOrderBegun(s.Unfinished(), j.sources)
}
