package format

import (
	"fmt"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
)

// FaultRows is how many rows a full fault page has.
const FaultRows = 4096

// Fault says why a range of a linear source holds no data. The map says only that it holds none: how often a sector was tried must not
// change the root.
type Fault struct {
	_        struct{} `cbor:",toarray"`
	Off, Len int64
	Kind     source.RangeKind // Unreadable, Untried or Unstable
	Errno    uint16           // Linux's number of the last error, 0 where there was none
	Tries    uint32           // reads in vain, 0 where none was made
	Readings [][]byte         // of what is unstable: references of what the reads gave
}

// leastFault is the least encoded size of a row in bytes.
const leastFault = 7

func (f Fault) check() error {
	switch {
	case f.Kind < source.Unreadable || f.Kind > source.Unstable:
		return damaged("fault of kind %d", f.Kind)
	case f.Off < 0 || f.Len <= 0:
		return damaged("fault of %d bytes at %d", f.Len, f.Off)
	case f.Kind != source.Unstable && len(f.Readings) > 0:
		return damaged("%s fault at %d with readings", f.Kind, f.Off)
	}
	for _, b := range f.Readings {
		var r artifact.Ref
		if err := r.UnmarshalBinary(b); err != nil {
			return damaged("fault at %d: %v", f.Off, err)
		}
		if err := checkRef(&r); err != nil {
			return err
		}
	}
	return nil
}

// DecodeFaultPage reads a fault page: rows in order of offset that do not overlap.
func DecodeFaultPage(b []byte) ([]Fault, error) {
	if err := checkCount(b, leastFault, FaultRows); err != nil {
		return nil, fmt.Errorf("fault page: %w", err)
	}
	var rows []Fault
	if err := Unmarshal(b, &rows); err != nil {
		return nil, fmt.Errorf("fault page: %w", err)
	}
	end := int64(0)
	for _, f := range rows {
		if err := f.check(); err != nil {
			return nil, fmt.Errorf("fault page: %w", err)
		}
		if f.Off < end {
			return nil, damaged("fault page: the row at %d overlaps the one before", f.Off)
		}
		end = f.Off + f.Len
	}
	return rows, nil
}

// Kinds that only an unfinished intake knows: nothing of them was read, and later passes are to try.
const (
	Untrimmed source.RangeKind = 6 // a read of it as a whole failed
	Unscraped source.RangeKind = 7 // both ends of it are bad
)

// LooseRange is a stretch of a loose page.
type LooseRange struct {
	_     struct{} `cbor:",toarray"`
	Kind  source.RangeKind
	Len   int64  // bytes
	Ref   []byte // of data, as in a map
	Errno uint16 // as in Fault
	Tries uint32
}

// DecodeLoosePage reads a loose page that must cover span bytes.
func DecodeLoosePage(b []byte, span int64) ([]LooseRange, error) {
	const least = 6
	if err := checkCount(b, least, 1<<20); err != nil {
		return nil, fmt.Errorf("loose page: %w", err)
	}
	var rows []LooseRange
	if err := Unmarshal(b, &rows); err != nil {
		return nil, fmt.Errorf("loose page: %w", err)
	}
	left := span
	for i, r := range rows {
		plain := Range{Kind: r.Kind, Len: r.Len, Ref: r.Ref}
		if r.Kind == Untrimmed || r.Kind == Unscraped {
			plain.Kind = source.Untried
		}
		if err := plain.check(); err != nil {
			return nil, fmt.Errorf("loose page: range %d: %w", i, err)
		}
		if r.Len > left {
			return nil, damaged("loose page: range %d goes beyond %d bytes", i, span)
		}
		left -= r.Len
	}
	if left != 0 {
		return nil, damaged("loose page: %d of %d bytes are not described", left, span)
	}
	return rows, nil
}

// PageEdit is a page of a map that was written again.
type PageEdit struct {
	_    struct{} `cbor:",toarray"`
	Page int64
	Ref  *artifact.Ref // null where it is one zero range
}

// Passes is how far the reading of a linear source by passes is.
type Passes struct {
	Phase string         `cbor:"phase"`           // copying, trimming, scraping, retrying, settling
	Pass  int            `cbor:"pass"`            // within the phase, from 1
	Pos   int64          `cbor:"pos"`             // where the pass is
	Loose []byte         `cbor:"loose,omitempty"` // super-blocks whose cuts are not final: see section 8
	Open  []LooseRange   `cbor:"open,omitempty"`  // of the page being filled, if it is loose
	Edits []PageEdit     `cbor:"edits,omitempty"` // pages that replace those of the map
	Fault []artifact.Ref `cbor:"fault,omitempty"` // fault pages so far
	Tail  []Fault        `cbor:"tail,omitempty"`  // rows since
}
