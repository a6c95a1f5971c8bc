package intake

import (
	"context"
	"errors"
	"fmt"

	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// samples is how many sealed chunks of a source are compared with it before an interrupted run is gone on with.
const samples = 32

// distrust compares what an interrupted run sealed with the sources as they are now. A source that is not the same any more, though its
// name, serial and size are, is read from its beginning.
func (r *runner) distrust(ctx context.Context) error {
	for i := range r.point.State {
		src, ok := r.sources[i].(source.Linear)
		st := &r.point.State[i]
		if !ok || st.Done || st.Map == nil || r.begin.Sources[i].Kind == string(source.Stream) {
			continue
		}
		same, err := true, error(nil)
		if _, raw := src.(source.Raw); raw {
			same, err = r.sampleRaw(ctx, src, st)
		} else {
			same, err = r.sample(ctx, src, st.Map)
		}
		if len(r.sources) > 1 {
			source.Rest(src) // whose turn it is, is not decided yet
		}
		if err != nil {
			return fmt.Errorf("comparing %s with what was sealed of it: %w", src.Info().Path, err)
		}
		if !same {
			r.emit(event.Message{Stamp: r.now(), Level: event.Warning, Source: r.begin.Sources[i].Name,
				Text: "is not what the interrupted run read: it is read again from its beginning"})
			*st = format.SourceState{}
		}
	}
	return nil
}

// sampleRaw compares chunks of pages spread over all that was described, and the last one.
func (r *runner) sampleRaw(ctx context.Context, src source.Linear, st *format.SourceState) (bool, error) {
	m, err := loadLbaMap(ctx, int64(r.begin.Chunk.SuperBlock), src.Info().Size, r.w.Get, st)
	if err != nil {
		return false, err
	}
	pages := (m.next + format.MapPageSpan - 1) / format.MapPageSpan
	step := max(1, pages/samples)
	for n := int64(0); n < pages; n += step {
		most := 1
		if n+step >= pages {
			n, most = pages-1, samples
		}
		p, err := m.page(ctx, n)
		if err != nil {
			return false, err
		}
		ranges := p.final()
		m.drop()
		if same, err := compare(ctx, src, n*format.MapPageSpan, ranges, most); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

// sample compares chunks spread over all that is sealed, and the last one.
func (r *runner) sample(ctx context.Context, src source.Linear, m *format.MapState) (bool, error) {
	pages := m.Pages
	first := int64(len(m.Nodes)) * format.MapNodePages
	if len(m.Nodes) > 0 && len(pages) == 0 && m.Nodes[len(m.Nodes)-1] != nil {
		var err error
		if pages, err = r.nodePages(ctx, *m.Nodes[len(m.Nodes)-1]); err != nil {
			return false, err
		}
		first -= format.MapNodePages
	}
	step := max(1, len(pages)/samples)
	for i := 0; i < len(pages); i += step {
		if pages[i] == nil {
			continue
		}
		data, err := r.w.Get(ctx, *pages[i])
		if err != nil {
			return false, err
		}
		ranges, err := format.DecodeMapPage(data, format.MapPageSpan)
		if err != nil {
			return false, err
		}
		if same, err := compare(ctx, src, (first+int64(i))*format.MapPageSpan, ranges, 1); !same || err != nil {
			return false, err
		}
	}
	base := m.Next
	for _, rg := range m.Ranges {
		base -= rg.Len
	}
	return compare(ctx, src, base, m.Ranges, samples)
}

func (r *runner) nodePages(ctx context.Context, node artifact.Ref) ([]*artifact.Ref, error) {
	data, err := r.w.Get(ctx, node)
	if err != nil {
		return nil, err
	}
	return format.DecodeMapNode(data, format.MapNodePages)
}

// compare reads at most n of the data ranges again, the last one among them. What cannot be read now proves nothing.
func compare(ctx context.Context, src source.Linear, base int64, ranges []format.Range, n int) (bool, error) {
	step, left := max(1, len(ranges)/n), n
	for i := len(ranges) - 1; i >= 0 && left > 0; i -= step {
		rg := ranges[i]
		if rg.Kind != source.Data {
			continue
		}
		off := base
		for _, before := range ranges[:i] {
			off += before.Len
		}
		want, err := rg.Artifact()
		if err != nil {
			return false, err
		}
		buf := make([]byte, rg.Len)
		k, gaps, err := src.Read(ctx, buf, off)
		if err != nil && !errors.Is(err, source.ErrGone) {
			return false, err
		}
		if err == nil && len(gaps) == 0 && (k < len(buf) || artifact.Sum(buf) != want) {
			return false, nil
		}
		left--
	}
	return true, nil
}
