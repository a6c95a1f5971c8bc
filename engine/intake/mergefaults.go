package intake

import (
	"fmt"
	"slices"
	"sort"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// mostFaults bounds what is held in memory of each part: a disk with more bad places is told by its map alone.
const mostFaults = 1 << 20

// readFaults reads why ranges of every part are missing.
func (m *merger) readFaults() error {
	for _, p := range m.parts {
		var all []format.Fault
		for f, err := range p.View.Faults(m.ctx, p.Source) {
			if err != nil {
				return fmt.Errorf("snapshot %s: %w", p, err)
			}
			if all = append(all, f); len(all) == mostFaults {
				break
			}
		}
		m.faults = append(m.faults, all)
	}
	return nil
}

// overlapping gives the faults of a part within a run.
func overlapping(all []format.Fault, off, n int64) []format.Fault {
	i := sort.Search(len(all), func(i int) bool { return all[i].Off+all[i].Len > off })
	j := i
	for j < len(all) && all[j].Off < off+n {
		j++
	}
	return all[i:j]
}

// fault says of a run that no part holds how often all of them tried it, and with which error the one it is taken from ended.
func (m *merger) fault(pc mergedPiece, kind source.RangeKind) {
	ends := []int64{pc.Off, pc.Off + pc.Len}
	any := false
	for i := range m.parts {
		for _, f := range overlapping(m.faults[i], pc.Off, pc.Len) {
			ends = append(ends, max(f.Off, pc.Off), min(f.Off+f.Len, pc.Off+pc.Len))
			any = true
		}
	}
	if !any {
		return // nothing is known but that it is missing, which the map says
	}
	slices.Sort(ends)
	ends = slices.Compact(ends)
	for i := range len(ends) - 1 {
		row := format.Fault{Off: ends[i], Len: ends[i+1] - ends[i], Kind: kind}
		for k := range m.parts {
			for _, f := range overlapping(m.faults[k], row.Off, row.Len) {
				row.Tries += f.Tries
				if k == pc.From || row.Errno == 0 {
					row.Errno = f.Errno
				}
				if k == pc.From && f.Kind == kind {
					row.Readings = f.Readings
				}
			}
		}
		if n := len(m.rows); n > 0 {
			if l := &m.rows[n-1]; l.Off+l.Len == row.Off && l.Kind == row.Kind && l.Errno == row.Errno && l.Tries == row.Tries && len(l.Readings)+len(row.Readings) == 0 {
				l.Len += row.Len
				continue
			}
		}
		m.rows = append(m.rows, row)
	}
}

func (m *merger) writeFaults(put emit) error {
	for page := range slices.Chunk(m.rows, format.FaultRows) {
		ref, err := put(artifact.FaultPage, page)
		if err != nil {
			return err
		}
		m.res.Faults = append(m.res.Faults, ref)
	}
	return nil
}

// leftOut takes in a run that the part it comes from left out by choice: it is no gap here either.
func (m *merger) leftOut(pc mergedPiece) bool {
	src := m.parts[pc.From].Source
	if !src.ByChoice(pc.Off, pc.Len) {
		return false
	}
	if m.res.Left == nil {
		m.res.Left = &format.Left{Why: src.Left.Why}
	}
	m.res.Left.Bytes += pc.Len
	m.res.Left.Places++
	return true
}
