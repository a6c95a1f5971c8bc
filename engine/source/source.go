// Package source reads what is to be saved: trees, image files, block devices, streams. Reading never writes: devices
// and files are opened read-only, trees without touching access times. A range that cannot be read is a value, not a
// failure, so that one bad sector does not end the rescue of the rest.
package source

import (
	"context"
	"io"
	"iter"
)

// RangeKind says what is known of a range of a source's bytes.
type RangeKind uint8

// The numbers are format constants.
const (
	Data       RangeKind = 1 // read
	Zero       RangeKind = 2 // read, and all zeros
	Unreadable RangeKind = 3 // tried, and the medium gave an error
	Untried    RangeKind = 4 // not tried yet, or not by choice
	Unstable   RangeKind = 5 // read more than once, and the reads differ: no byte of it is vouched for
)

func (k RangeKind) String() string {
	switch k {
	case Data:
		return "data"
	case Zero:
		return "zero"
	case Unreadable:
		return "unreadable"
	case Untried:
		return "untried"
	case Unstable:
		return "unstable"
	}
	return "unknown"
}

// Gap is a range that holds no data.
type Gap struct {
	Off, Len int64     // bytes
	Kind     RangeKind // Unreadable, Untried or Unstable
	Why      string    // the error, for people
	Errno    uint16    // Linux's number of the last error; 0 where none is known
	Tries    uint32    // how often it was read in vain; 0 where that was not counted
}

// Kind is the shape of a source.
type Kind string

// The kinds of source. Image, Device and Stream are linear: one run of bytes.
const (
	Tree   Kind = "tree"   // a directory and all below it
	Image  Kind = "image"  // a regular file taken as one run of bytes
	Device Kind = "device" // a block device
	Stream Kind = "stream" // standard input
)

// Info describes a source. ID finds the same source again at a later boot: for devices serial, WWN and size, never
// the name the kernel gave it; for files and trees the absolute path, device and inode.
type Info struct {
	Kind   Kind
	Path   string // as the operator gave it, made absolute
	Name   string // short, unique within one intake: what `restore S:NAME` says
	ID     string
	Size   int64 // bytes; -1 where not known before the end
	Model  string
	Serial string
	Sector int // logical sector size in bytes, 512 where it has none
}

// Linear is a source that is one run of bytes.
type Linear interface {
	Info() Info
	// Read fills buf with what stands at off, and says which ranges of it (offsets within the source) could not be
	// read; those bytes of buf are zero. n < len(buf) only at the end of the source. An error means that nothing
	// further can be read (ErrGone: the device is gone): what was read before stands. Images and devices may be read
	// by several goroutines at once; a stream by one, at offsets that join.
	Read(ctx context.Context, buf []byte, off int64) (n int, gaps []Gap, err error)
	// Changed says, after reading, whether and how the source changed meanwhile; empty if it did not.
	Changed() string
	Close() error
}

// Time is seconds and nanoseconds since 1970, as the file system gives it.
type Time struct {
	Sec  int64
	Nsec int32
}

// FileType is what an entry of a tree is.
type FileType uint8

// The numbers are format constants.
const (
	Regular FileType = 1
	Dir     FileType = 2
	Symlink FileType = 3
	CharDev FileType = 4
	BlkDev  FileType = 5
	FIFO    FileType = 6
	Socket  FileType = 7
)

// Meta is what a tree keeps of a file besides its content.
type Meta struct {
	Type       FileType
	Mode       uint32 // permission bits with setuid, setgid, sticky: st_mode & 07777
	UID, GID   uint32
	MTime      Time
	Size       int64 // bytes; of regular files
	Major      uint32
	Minor      uint32
	LinkTarget []byte  // of symlinks; any bytes but NUL
	Xattrs     []Xattr // sorted by name; ACLs stand among them as system.posix_acl_*
	Sparse     bool    // fewer blocks allocated than the size wants
}

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Stamp identifies the state of a file well enough to skip it when an interrupted walk is made again.
type Stamp struct {
	Dev, Ino uint64
	Size     int64
	MTime    Time
	CTime    Time
}

// Item is one step of a walk. A walk enters a directory, gives its entries sorted by name as bytes (descending into
// directories where they stand), and leaves it. The first item enters the root (empty Path), the last leaves it. Each
// item whose Meta.Type is Dir has its Leave, also where it could not be read. Meta.Type is 0 where not even the type is
// known, as of what vanished since it was listed; Err then says why.
type Item struct {
	Path  string // relative to the root, slash-separated; any bytes but NUL
	Leave bool   // the end of the directory at Path; the rest of Item is empty
	Meta  Meta
	Stamp Stamp
	Links uint64 // st_nlink: more than 1 means other names may stand for the same inode
	Err   string // what of this entry could not be read, for people; empty if all was
}

// TreeSource is a source that is a directory.
type TreeSource interface {
	Info() Info
	// Walk gives the items in order. It stays on the root's file system unless told otherwise; a mount point below
	// is an Item with its Err saying so. The sequence ends early only if ctx does or the root itself is gone.
	Walk(ctx context.Context) iter.Seq2[Item, error]
	// OpenFile opens a regular file of the walk for reading, without touching its access time. It may be called by
	// several goroutines at once, also while a walk is under way; ReadRange reads past its bad sectors.
	OpenFile(path string) (TreeFile, error)
	Close() error
}

// TreeFile is an open file of a tree.
type TreeFile interface {
	io.ReaderAt
	io.Closer
	// Stamp is the file's state now, to compare with the state before reading.
	Stamp() (Stamp, error)
}
