package intake

import (
	"aslrescue/engine/artifact"
	"aslrescue/engine/chunk"
	"aslrescue/engine/digest"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// unit is what goes through the pipeline: a super-block of a linear source, or a batch of a tree's items. Units keep
// their order from the feeder to the packer; each stage fills in more.
type unit struct {
	src  int    // place of the source
	slot []byte // the buffer that content lies in; nil if there is none
	last bool   // of its source

	// linear sources: what was read
	content run
	off     int64
	sum     digest.Piece // of the BLAKE3 of the whole source

	raw *rawPart // of sources that are read by passes

	// trees
	steps []step
	bytes int64 // of file content

	hashed chan struct{} // closed when content is cut and hashed
	packed chan struct{} // closed when adds are compressed
	arena  []byte        // memory of compressed forms

	// what the sequencer decided
	adds   []add
	state  func() []format.SourceState // how to go on after this unit
	stream int64                       // stream offset after it
	endSeg bool
	err    error
	newRaw int64
}

// run is a stretch of content: the bytes, what could not be read of them, and how they were cut.
type run struct {
	data   []byte
	gaps   []source.Gap // offsets within the run's source or file
	pieces []piece
	err    error // nothing further can be read
}

// piece is a cut with its name, or a stretch without data.
type piece struct {
	kind source.RangeKind
	off  int // in data
	len  int
	ref  artifact.Ref
	why  string

	errno uint16
	tries uint32
}

// step is one item of a tree, with what was read of it.
type step struct {
	item  source.Item
	file  *openFile // of a regular file that is read
	off   int64     // of this part
	whole bool      // the file is in this one step
	first bool
	last  bool
	want  int              // bytes of the slot it has
	run   run              // content
	row   *format.SeenFile // stored by an earlier run: not read again
	link  string           // first name of the same file
	fail  string           // the file could not be opened, or changed
	moved string           // how it changed while it was read
}

// add is an artifact to be stored.
type add struct {
	ref    artifact.Ref
	tag    artifact.Tag
	data   []byte
	codec  format.Codec
	stored []byte
}

// cutAndHash names the pieces of r. base is where r.data begins in its source, a multiple of the super-block. Around what could not be
// read, cutting begins anew at the next page, so that cuts behind a gap do not depend on what stood before it. Each piece is hashed as soon as it
// is cut, and then done is told how far that is, while the bytes are still in the processor's cache.
func (r *run) cutAndHash(p chunk.Params, base int64, cut func([]byte, func(chunk.Piece)), done func(int)) {
	at := 0
	data := func(end int) {
		for at < end {
			stop := end
			if lead := at % int(p.Page); lead != 0 {
				stop = min(end, at-lead+int(p.Page))
			}
			cut(r.data[at:stop], func(c chunk.Piece) {
				pc := piece{kind: source.Data, off: at + c.Off, len: c.Len}
				if c.Zero {
					pc.kind = source.Zero
				} else {
					pc.ref = artifact.Sum(r.data[pc.off:][:pc.len])
				}
				r.pieces = append(r.pieces, pc)
				done(pc.off + pc.len)
			})
			at = stop
		}
	}
	for _, g := range r.gaps {
		off := int(g.Off - base)
		if off > len(r.data) {
			break
		}
		data(off)
		n := min(int(g.Len), len(r.data)-off)
		r.pieces = append(r.pieces, piece{kind: g.Kind, off: off, len: n, why: g.Why, errno: g.Errno, tries: g.Tries})
		at = off + n
	}
	data(len(r.data))
}
