package intake

import (
	"context"
	"fmt"

	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// Witness gathers what the machine can tell of a source while it is read.
type Witness interface {
	// Begin is told before anything is read. say tells of the source what matters while it is read.
	Begin(ctx context.Context, i int, src source.Info, say func(event.Level, string))
	// Hot tells whether a source is to be left alone for a while, and Pause waits for the end of that. Any goroutine may ask.
	Hot(i int) bool
	Pause(ctx context.Context, i int)
	// End is asked when all was read; nil where there is nothing to tell.
	End(ctx context.Context, i int) *format.Evidence
	// Close lets go of what did not come to its end.
	Close()
}

// evidence stores what was gathered, behind everything that was read and in a segment of its own: it is never the same twice, and what stands before it
// must be.
func (r *runner) evidence(ctx context.Context, rep *Report, m *format.Manifest) error {
	if r.o.Witness == nil {
		return nil
	}
	point := r.point
	point.Blocks, point.Stored = nil, r.point.Stored+rep.Stored
	p := r.w.Packer(point)
	for i := range m.Sources {
		ev := r.o.Witness.End(ctx, i)
		if ev == nil {
			continue
		}
		ref, err := p.Put(ctx, artifact.Evidence, ev)
		if err != nil {
			return fmt.Errorf("storing the evidence of %s: %w", m.Sources[i].Name, err)
		}
		m.Sources[i].Evidence = &ref
	}
	made, err := p.Finish(ctx)
	if err != nil {
		return fmt.Errorf("storing the evidence: %w", err)
	}
	if r.check != nil {
		r.check.Add(p.Stored, made...)
	}
	rep.Blocks += len(made)
	rep.Stored += p.Stored
	return nil
}
