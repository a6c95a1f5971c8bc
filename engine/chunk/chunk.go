// Package chunk says where a source is cut into chunks. Its functions are pure: the same bytes and Params give the
// same cuts in every process, on every machine and at any degree of parallelism.
//
// A source is divided at multiples of SuperBlock and every super-block is cut on its own, so that super-blocks can be
// cut in parallel and an intake can go on at any of them. Runs of zero pages become Zero pieces, which are stored as
// ranges and not as chunks; what lies between two of them is cut by content.
//
// The defaults come from two ext4 images, and the trees they were made of, where the second had 4 % of its files
// removed, 5 % edited, some added and its directories in another order. What it added, as a part of the first's
// unique bytes (945 MB; the trees 750 MB in 58 000 files):
//
//	nominal average      16 KiB  32 KiB  64 KiB  128 KiB  256 KiB
//	images, Pages         0.237   0.324   0.407    0.495    0.593
//	images, Bytes                         0.444
//	trees, Bytes          0.053   0.057   0.061    0.067    0.069
//	trees, Pages          0.055   0.058   0.062    0.066    0.070
//	chunks, both images  71 000  34 500  17 800    9 300    4 900
//
// Also cutting where a page ends in zeros, as files do on a disk, saved a tenth at means below 40 KiB and nothing at
// the default, for the same number of chunks. Neither way is what limits an intake: see the benchmarks.
package chunk

import (
	"fmt"
	"math/bits"

	"github.com/PlakarKorp/go-cdc-chunkers"
	"github.com/PlakarKorp/go-cdc-chunkers/chunkers/jc"

	"aslrescue/engine/artifact"
)

// Ids of the ways to cut. An id stands for exact cuts: what moves a cut gets a new id.
const (
	PageFold uint32 = 1 // Pages: a cut after a page whose PageHash says so
	ByteJC   uint32 = 1 // Bytes: "jc-v1.0.0" of go-cdc-chunkers, without a key
)

// PageSize is the only page size that PageFold knows, in bytes.
const PageSize = 4096

// Params decide where cuts fall. They are recorded with every intake because its roots depend on them: the names
// they are recorded under are format. All sizes are in bytes.
type Params struct {
	SuperBlock uint32 `cbor:"super_block"` // cutting starts anew at its multiples
	Page       uint32 `cbor:"page"`        // what Zero pieces, and the cuts of Pages, are aligned to
	ZeroRun    uint32 `cbor:"zero_run"`    // so many zero pages in a row, or more, are a Zero piece

	PageAlgo uint32 `cbor:"page_algo"` // how Pages cuts
	Min      uint32 `cbor:"min"`       // whole pages, power of two, as are Avg and Max
	Avg      uint32 `cbor:"avg"`       // nominal; the mean is about 1.2 of it, as Min comes on top
	Max      uint32 `cbor:"max"`

	ByteAlgo uint32 `cbor:"byte_algo"` // how Bytes cuts
	ByteMin  uint32 `cbor:"byte_min"`
	ByteAvg  uint32 `cbor:"byte_avg"` // nominal, power of two; what is left is not cut if it is no longer than this
	ByteMax  uint32 `cbor:"byte_max"`
}

// Default is what a new store uses.
func Default() Params {
	return Params{
		SuperBlock: 16 << 20, Page: PageSize, ZeroRun: 16,
		PageAlgo: PageFold, Min: 16 << 10, Avg: 64 << 10, Max: 256 << 10,
		ByteAlgo: ByteJC, ByteMin: 16 << 10, ByteAvg: 64 << 10, ByteMax: 256 << 10,
	}
}

// Validate refuses what this version cannot cut: unknown algorithms with ErrUnsupported, and sizes that make no sense.
func (p Params) Validate() error {
	switch {
	case p.PageAlgo != PageFold:
		return fmt.Errorf("page chunking algorithm %d: %w", p.PageAlgo, artifact.ErrUnsupported)
	case p.ByteAlgo != ByteJC:
		return fmt.Errorf("byte chunking algorithm %d: %w", p.ByteAlgo, artifact.ErrUnsupported)
	case p.Page != PageSize:
		return fmt.Errorf("page of %d bytes, only %d is known: %w", p.Page, PageSize, artifact.ErrUnsupported)
	case bits.UintSize == 32 && p.ByteAvg > 64<<10: // the library's jump length overflows there and the cuts would differ
		return fmt.Errorf("byte chunks of %d bytes on a 32-bit machine: %w", p.ByteAvg, artifact.ErrUnsupported)
	case !power2(p.Min) || !power2(p.Avg) || !power2(p.Max) || p.Min < p.Page || p.Min >= p.Avg || p.Avg >= p.Max:
		return fmt.Errorf("page chunks: min %d, avg %d, max %d: want powers of two, page <= min < avg < max", p.Min, p.Avg, p.Max)
	case !power2(p.ByteAvg) || p.ByteMin < 64 || p.ByteMin >= p.ByteAvg || p.ByteAvg >= p.ByteMax:
		return fmt.Errorf("byte chunks: min %d, avg %d, max %d: want 64 <= min < avg < max, avg a power of two", p.ByteMin, p.ByteAvg, p.ByteMax)
	case p.Max > artifact.MaxSize || p.ByteMax > artifact.MaxSize:
		return fmt.Errorf("chunks of %d and %d bytes: the largest artifact has %d", p.Max, p.ByteMax, artifact.MaxSize)
	case !power2(p.SuperBlock) || p.SuperBlock < max(p.Max, p.ByteMax) || p.SuperBlock > 1<<30:
		return fmt.Errorf("super-block of %d bytes: want a power of two, max <= super-block <= 1 GiB", p.SuperBlock)
	case p.ZeroRun == 0 || p.ZeroRun > p.SuperBlock/p.Page:
		return fmt.Errorf("zero run of %d pages: want 1 to a super-block", p.ZeroRun)
	}
	return nil
}

func power2(n uint32) bool { return n != 0 && n&(n-1) == 0 }

// Piece is where a chunk or a run of zeros lies in the buffer that was cut, in bytes.
type Piece struct {
	Off, Len int
	Zero     bool // every byte is zero, and there are at least ZeroRun pages of them
}

// Pages cuts a super-block of a device or image and tells of its pieces as they are found, in order and without gaps. Data pieces
// end at page boundaries and have Min to Max bytes; less only before a Zero piece and at the end of buf. buf starts at
// a multiple of SuperBlock in its source; only the end of a source may be less than a page. Needs valid Params.
func (p Params) Pages(buf []byte, found func(Piece)) { p.cut(buf, found, p.cutPages) }

// Bytes cuts a super-block of a file in a tree as Pages does, but data pieces end anywhere. Zero pieces are aligned to
// pages of the file. Needs valid Params.
func (p Params) Bytes(buf []byte, found func(Piece)) { p.cut(buf, found, p.cutBytes) }

// cut finds the zero runs and leaves what lies between them to data.
func (p Params) cut(buf []byte, found func(Piece), data func(buf []byte, off, end int, found func(Piece))) {
	for start := 0; start < len(buf); start += int(p.SuperBlock) {
		end := min(start+int(p.SuperBlock), len(buf))
		from := start // of the data not yet cut
		for off := start; off+PageSize <= end; {
			run := zeroRun(buf[off:end])
			if run < int(p.ZeroRun) {
				off += (run + 1) * PageSize // the page that ended the run is not zero, or is the tail
				continue
			}
			next := off + run*PageSize
			if end-next < PageSize && isZero(buf[next:end]) {
				next = end // what is left of a last page belongs to its run
			}
			data(buf, from, off, found)
			found(Piece{Off: off, Len: next - off, Zero: true})
			from, off = next, next
		}
		data(buf, from, end, found)
	}
}

func (p Params) cutPages(buf []byte, off, end int, found func(Piece)) {
	// A hash up to this cuts: one in Avg/Page. A zero page's is above it for any Avg, so that those never cut.
	lim := ^uint64(0) / uint64(p.Avg/p.Page)
	for start := off; start < end; start = off {
		// No page before Min can cut and a page's hash depends on nothing but the page, so those need no hash.
		last := min(start+int(p.Max), end)
		off = min(start+int(p.Min), end)
		for off < last && PageHash((*[PageSize]byte)(buf[off-PageSize:])) > lim {
			off = min(off+PageSize, last)
		}
		found(Piece{Off: start, Len: off - start})
	}
}

func (p Params) cutBytes(buf []byte, off, end int, found func(Piece)) {
	if end-off <= int(p.ByteAvg) { // the library would not cut it either
		if off < end {
			found(Piece{Off: off, Len: end - off})
		}
		return
	}
	// The zero value is what the library registers as "jc-v1.0.0". Setup fails only for a bad key, and there is none:
	// a key would make cuts differ between stores.
	opts := chunkers.ChunkerOpts{MinSize: int(p.ByteMin), NormalSize: int(p.ByteAvg), MaxSize: int(p.ByteMax)}
	var alg jc.JC
	_ = alg.Setup(&opts)
	for off < end {
		n := alg.Algorithm(&opts, buf[off:end], end-off)
		found(Piece{Off: off, Len: n})
		off += n
	}
}
