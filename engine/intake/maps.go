package intake

import (
	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// emit stores an artifact of our own making, if it is not known, and gives its name.
type emit func(tag artifact.Tag, v any) (artifact.Ref, error)

// mapBuilder describes a run of bytes as it is read, and stores pages and nodes as they fill, so that memory stays flat.
// Its state is a value: slices in it are only ever appended to or replaced.
type mapBuilder struct {
	format.MapState
	off int64 // bytes described
}

func resumeMap(s format.MapState) *mapBuilder { return &mapBuilder{s, s.Next} }

// state is how to go on from here.
func (m *mapBuilder) state() format.MapState {
	s := m.MapState
	s.Next = m.off
	return s
}

// add describes the next bytes. Only ranges that hold no data may cross the end of a page.
func (m *mapBuilder) add(r format.Range, put emit) error {
	for r.Len > 0 {
		part := r
		part.Len = min(r.Len, format.MapPageSpan-m.off%format.MapPageSpan)
		m.Ranges = format.AppendRange(m.Ranges, part)
		m.off += part.Len
		r.Len -= part.Len
		if m.off%format.MapPageSpan == 0 {
			if err := m.endPage(put); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *mapBuilder) endPage(put emit) error {
	var ref *artifact.Ref
	if !(len(m.Ranges) == 1 && m.Ranges[0].Kind == source.Zero && m.Ranges[0].Len == format.MapPageSpan) {
		r, err := put(artifact.MapPage, m.Ranges)
		if err != nil {
			return err
		}
		ref = &r
	}
	m.Pages, m.Ranges = append(m.Pages, ref), nil
	if len(m.Pages) == format.MapNodePages {
		return m.endNode(put)
	}
	return nil
}

func (m *mapBuilder) endNode(put emit) error {
	var node *artifact.Ref
	for _, p := range m.Pages {
		if p == nil {
			continue
		}
		r, err := put(artifact.MapNode, m.Pages)
		if err != nil {
			return err
		}
		node = &r
		break
	}
	m.Nodes, m.Pages = append(m.Nodes, node), nil
	return nil
}

// finish stores what is open and the root.
func (m *mapBuilder) finish(put emit) (artifact.Ref, error) {
	if len(m.Ranges) > 0 {
		if err := m.endPage(put); err != nil {
			return artifact.Ref{}, err
		}
	}
	if len(m.Pages) > 0 {
		if err := m.endNode(put); err != nil {
			return artifact.Ref{}, err
		}
	}
	return put(artifact.MapRoot, format.MapRoot{Version: format.Version, Size: m.off, Nodes: m.Nodes})
}
