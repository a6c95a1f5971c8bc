package format

import (
	"fmt"
	"slices"

	"aslrescue/engine/artifact"
	"aslrescue/engine/chunk"
	"aslrescue/engine/source"
)

// GapsKept is how many gaps a manifest lists; the maps hold all.
const GapsKept = 1000

// GapRow is a range of a source that holds no data.
type GapRow struct {
	Path []byte `cbor:"path,omitempty"` // of a file in a tree
	Off  int64  `cbor:"off"`
	Len  int64  `cbor:"len"`
	Kind string `cbor:"kind"`
	Why  string `cbor:"why,omitempty"`
}

// SourceResult is what became of one source.
type SourceResult struct {
	SourceID
	Root    *artifact.Ref  `cbor:"root,omitempty"` // MapRoot of a linear source
	Top     *Entry         `cbor:"top,omitempty"`  // of a tree
	Length  int64          `cbor:"length"`         // bytes; of a tree the sum of its files
	Counts  Counts         `cbor:"counts"`
	Gaps    []GapRow       `cbor:"gaps,omitempty"`
	GapsAll int64          `cbor:"gaps_all,omitempty"` // their number, also of those not listed
	Faults  []artifact.Ref `cbor:"faults,omitempty"`   // of a linear source: fault pages, in order of offset
	Errors  []string       `cbor:"errors,omitempty"`   // the first that could not be read, and why
	Changed []string       `cbor:"changed,omitempty"`  // what changed while it was read
	Left    *Left          `cbor:"left,omitempty"`     // what was not read because the plan said so
	// Evidence is what the machine that read it could tell of it.
	Evidence *artifact.Ref `cbor:"evidence,omitempty"`
}

// Left is what was left out by choice. It is untried in the map, and no gap.
type Left struct {
	Why    string `cbor:"why" json:"why"`
	Bytes  int64  `cbor:"bytes" json:"bytes"`
	Places int64  `cbor:"places" json:"places"`
}

// Missing is how many bytes of it are missing against the plan.
func (r *SourceResult) Missing() int64 {
	return r.Counts.Unreadable + r.Counts.Untried - r.Chosen()
}

// Chosen is how many bytes of it were left out by choice.
func (r *SourceResult) Chosen() int64 {
	if r == nil || r.Left == nil {
		return 0
	}
	return r.Left.Bytes
}

// ByChoice tells whether an untried range was left out because the plan said so. Where other ranges were not reached either, and more than are listed, it
// may be one of those.
func (r *SourceResult) ByChoice(off, n int64) bool {
	if r.Left == nil {
		return false
	}
	return r.Counts.Untried == r.Left.Bytes || !slices.ContainsFunc(r.Gaps, func(g GapRow) bool { return g.Off < off+n && off < g.Off+g.Len })
}

// Whole tells whether nothing is missing of the source and nothing changed under the reader.
func (r *SourceResult) Whole() bool {
	return r.GapsAll == 0 && r.Counts.Failed == 0 && len(r.Errors) == 0 && len(r.Changed) == 0 && r.Missing() == 0
}

// check refuses a source that has neither map nor tree, or both.
func (r *SourceResult) check() error {
	if (r.Root == nil) == (r.Top == nil) {
		return damaged("want a root or a top entry")
	}
	if l := r.Left; l != nil && (r.Root == nil || l.Bytes < 0 || l.Bytes > r.Counts.Untried || l.Places < 0) {
		return damaged("%d bytes left out, %d untried", l.Bytes, r.Counts.Untried)
	}
	if r.Evidence != nil {
		if err := checkRef(r.Evidence); err != nil {
			return err
		}
	}
	if r.Root != nil {
		for i := range r.Faults {
			if err := checkRef(&r.Faults[i]); err != nil {
				return err
			}
		}
		return checkRef(r.Root)
	}
	if r.Top.Type != source.Dir {
		return damaged("its top is no directory")
	}
	return r.Top.checkBody()
}

// Manifest describes one snapshot. Its BLAKE3 is its name.
type Manifest struct {
	Format  int            `cbor:"format"`
	Store   ID             `cbor:"store"`
	Domain  string         `cbor:"domain"`
	Intake  ID             `cbor:"intake"`
	Base    uint64         `cbor:"base"` // log position against which "known" was decided
	Parent  uint64         `cbor:"parent,omitempty"`
	Label   string         `cbor:"label,omitempty"`
	Result  string         `cbor:"result"`
	Tool    string         `cbor:"tool"`
	Chunk   chunk.Params   `cbor:"chunk"`
	Codec   Codecs         `cbor:"codec"`
	Sources []SourceResult `cbor:"sources"`
	Totals  Counts         `cbor:"totals"`
	Resumed int            `cbor:"resumed,omitempty"` // how often another writer took over
	Merged  []uint64       `cbor:"merged,omitempty"`  // the snapshots that this one was made of
	Began   int64          `cbor:"began"`             // by a clock nobody checked
	Ended   int64          `cbor:"ended"`
}

// DecodeManifest reads the manifest named id.
func DecodeManifest(id artifact.Digest, b []byte) (*Manifest, error) {
	if got := artifact.HashBytes(b); got != id {
		return nil, damaged("manifest: bytes hash to %s", got)
	}
	m := &Manifest{}
	if err := Unmarshal(b, m); err != nil {
		return nil, err
	}
	if m.Format != Version {
		return nil, unsupported("manifest: format %d", m.Format)
	}
	for i := range m.Sources {
		if err := m.Sources[i].check(); err != nil {
			return nil, fmt.Errorf("manifest: source %d: %w", i, err)
		}
	}
	return m, nil
}
