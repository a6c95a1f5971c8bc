// Package zfslabel reads what ZFS wrote at both ends of a device: which pool it belongs to, who used it last, what the
// pool is made of. It needs no ZFS on the machine, only reads, and trusts nothing: every length, count and depth that a
// label claims is checked, and a label counts only with a right checksum.
//
// Read looks at one device. Assemble puts several devices together into pools. Both decide nothing.
package zfslabel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// The layout of a label. A device holds four, two at each end; its size counts in whole labels.
const (
	labelSize = 256 << 10
	listAt    = 16 << 10
	listSize  = 112 << 10
	ringAt    = 128 << 10
	ringSize  = 128 << 10

	// MinSize is the smallest device that can hold four labels.
	MinSize = 4 * labelSize
)

// Verdict is what one label is worth.
type Verdict string

// The verdicts.
const (
	Good       Verdict = "good"
	Damaged    Verdict = "damaged"    // ZFS wrote there, and it is not what ZFS wrote
	Absent     Verdict = "absent"     // nothing of ZFS
	Unreadable Verdict = "unreadable" // the device gave an error
	Unfinished Verdict = "unfinished" // ZFS was about to add the device to a pool, and never did
)

// Label is one of the four.
type Label struct {
	Index      int         `json:"index"`
	Offset     int64       `json:"offset"` // on the device
	Verdict    Verdict     `json:"verdict"`
	Why        string      `json:"why,omitempty"`    // of every verdict but good and absent
	Config     *Config     `json:"config,omitempty"` // also of a damaged label, if it could be read in spite of that
	List       List        `json:"-"`                // all that the label says, as it stands there
	Uberblocks []Uberblock `json:"-"`
}

// Device is what was found on one device, partition or image.
type Device struct {
	Size   int64    `json:"size"`
	Labels [4]Label `json:"labels"`
}

// Offsets are where the labels of a device of that size begin.
func Offsets(size int64) [4]int64 {
	end := size &^ (labelSize - 1)
	return [4]int64{0, labelSize, end - 2*labelSize, end - labelSize}
}

// Read reads the four labels of a device. It reads at most 1 MiB, and what cannot be read is a verdict, not an error.
func Read(r io.ReaderAt, size int64) *Device {
	d := &Device{Size: size}
	for i, at := range Offsets(size) {
		d.Labels[i] = Label{Index: i, Offset: at, Verdict: Absent}
		if size >= MinSize {
			d.Labels[i].read(r)
		}
	}
	return d
}

func (l *Label) read(r io.ReaderAt) {
	list, errList := readAll(r, l.Offset+listAt, listSize)
	rest, errRing := readRing(r, l.Offset+ringAt)
	if errList != nil {
		l.Verdict, l.Why = Unreadable, errList.Error()
	} else {
		l.readList(list)
	}
	ashift := uint64(0)
	if l.Config != nil && l.Config.Tree != nil {
		ashift = l.Config.Tree.Ashift
	}
	l.Uberblocks = ring(rest, l.Offset+ringAt, ashift)
	switch _, ok := best(l.Uberblocks); {
	case l.Verdict == Absent && ok:
		l.Verdict, l.Why = Damaged, "the list is gone, uberblocks are still there"
	case l.Verdict == Absent && errRing != nil:
		l.Verdict, l.Why = Unreadable, errRing.Error()
	}
}

func readAll(r io.ReaderAt, at int64, n int) ([]byte, error) {
	b := make([]byte, n)
	if got, err := r.ReadAt(b, at); got < n {
		if err == nil || err == io.EOF {
			err = fmt.Errorf("the device ends after %d bytes of %d at %d", got, n, at)
		}
		return nil, err
	}
	return b, nil
}

// readRing leaves zeros where the device cannot be read: the other uberblocks are worth as much.
func readRing(r io.ReaderAt, at int64) ([]byte, error) {
	b, err := readAll(r, at, ringSize)
	if err == nil {
		return b, nil
	}
	b = make([]byte, ringSize)
	const step = 8 << 10
	for off := 0; off < ringSize; off += step {
		if part, err := readAll(r, at+int64(off), step); err == nil {
			copy(b[off:], part)
		}
	}
	return b, err
}

// readList judges the list of the label.
func (l *Label) readList(data []byte) {
	tail := data[len(data)-eckSize:]
	little := binary.LittleEndian.Uint64(tail) == eckMagic
	ours := little || binary.BigEndian.Uint64(tail) == eckMagic
	var order binary.ByteOrder = binary.BigEndian
	if little {
		order = binary.LittleEndian
	}
	right := ours && sealed(data, l.Offset+listAt, order)
	list, err := Unpack(data[:len(data)-eckSize])
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%w: it is empty", ErrList)
	}
	if err == nil {
		l.List = list
		l.Config, err = Interpret(list)
	}
	switch {
	case right && err == nil:
		l.Verdict = Good
	case right && errors.Is(err, errUnfinished):
		l.Verdict, l.Why = Unfinished, "a device was being added to a pool, and that was never finished"
	case right:
		l.Verdict, l.Why = Damaged, "its checksum is right, and still: "+err.Error()
	case err == nil:
		l.Verdict, l.Why = Damaged, "its checksum is wrong"
	case ours:
		l.Verdict, l.Why = Damaged, "its checksum is wrong, and what is left cannot be read: "+err.Error()
	default:
		l.List = nil // other people's bytes that happened to begin like a list
	}
}

// Found says whether there is anything of ZFS, or anything that could not be looked at.
func (d *Device) Found() bool {
	return slices.ContainsFunc(d.Labels[:], func(l Label) bool { return l.Verdict != Absent })
}

// Best is the label to believe: of the good ones the newest that an uberblock confirms, else the newest. Where none is
// good, it is the newest that could be read at all; nil where there is none of those either.
func (d *Device) Best() *Label {
	last, ok := d.Last()
	var found *Label
	rank := func(l *Label) int {
		switch {
		case l.Verdict == Good && (!ok || l.Config.TXG <= last.TXG):
			return 2
		case l.Verdict == Good:
			return 1
		}
		return 0
	}
	for i := range d.Labels {
		l := &d.Labels[i]
		if l.Config == nil {
			continue
		}
		if found == nil || rank(l) > rank(found) || rank(l) == rank(found) && l.Config.TXG > found.Config.TXG {
			found = l
		}
	}
	return found
}

// Last is the newest good uberblock of the device: when the pool was last written, as far as this device knows.
func (d *Device) Last() (Uberblock, bool) {
	var all []Uberblock
	for i := range d.Labels {
		all = append(all, d.Labels[i].Uberblocks...)
	}
	return best(all)
}

// Seen is what the assembly of pools needs to know of a device: little enough to be kept with a machine's facts.
type Seen struct {
	Device  string     `json:"device"`            // as the caller names it: /dev/sdb1
	Labels  [4]Verdict `json:"labels"`            // each label's
	Config  *Config    `json:"config,omitempty"`  // of the best label
	Damaged bool       `json:"damaged,omitempty"` // that label's checksum is wrong: a hint, no proof
	Last    *Uberblock `json:"last,omitempty"`    // the newest
	Why     string     `json:"why,omitempty"`     // what is wrong with the worst label, if anything is
}

// Seen sums up what was found.
func (d *Device) Seen(device string) Seen {
	s := Seen{Device: device}
	for i, l := range d.Labels {
		s.Labels[i] = l.Verdict
		if l.Why != "" && s.Why == "" {
			s.Why = fmt.Sprintf("label %d: %s", l.Index, l.Why)
		}
	}
	if l := d.Best(); l != nil {
		s.Config, s.Damaged = l.Config, l.Verdict != Good
	}
	if u, ok := d.Last(); ok {
		s.Last = &u
	}
	return s
}

// Found says whether there is anything of ZFS, or anything that could not be looked at.
func (s Seen) Found() bool {
	return slices.ContainsFunc(s.Labels[:], func(v Verdict) bool { return v != Absent })
}
