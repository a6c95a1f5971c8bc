package format

import (
	"aslrescue/engine/artifact"
	"aslrescue/engine/chunk"
)

// ID is 16 random bytes: a store's id, an intake's id, a writer's nonce.
type ID [16]byte

// PartHead is the first record of every part.
type PartHead struct {
	Format     int    `cbor:"format"`
	Store      ID     `cbor:"store"`
	Domain     string `cbor:"domain"`
	Part       uint64 `cbor:"part"`
	Nonce      ID     `cbor:"nonce"`
	Prev       Hash   `cbor:"prev"`                 // hash of the record before
	Supersedes uint64 `cbor:"supersedes,omitempty"` // number of the torn part before, 0 if it is whole
	Tool       string `cbor:"tool"`
}

// Codecs says how an intake compresses; part of what blocks depend on.
type Codecs struct {
	Mode    string `cbor:"mode"`    // none, fast, better
	Library string `cbor:"library"` // and its version; empty for none
	Level   int    `cbor:"level"`
}

// SourceID says what a source of an intake is, well enough to find it again at a later boot.
type SourceID struct {
	Kind   string `cbor:"kind"`
	Path   []byte `cbor:"path"`
	Name   string `cbor:"name"`
	ID     string `cbor:"id"`
	Size   int64  `cbor:"size"` // bytes, -1 if not known
	Model  string `cbor:"model,omitempty"`
	Serial string `cbor:"serial,omitempty"`
	Sector int    `cbor:"sector,omitempty"` // bytes
}

// IntakeBegin begins an intake and fixes all that its roots and blocks depend on.
type IntakeBegin struct {
	Intake  ID           `cbor:"intake"`
	Nonce   ID           `cbor:"nonce"`
	Key     []byte       `cbor:"key"` // Ed25519 public key of the writer
	Label   string       `cbor:"label,omitempty"`
	Sources []SourceID   `cbor:"sources"`
	Chunk   chunk.Params `cbor:"chunk"`
	Codec   Codecs       `cbor:"codec"`
	Tool    string       `cbor:"tool"`
	Clock   int64        `cbor:"clock"` // seconds since 1970 by a clock nobody checked
}

// Resume gives an intake a new writer.
type Resume struct {
	Intake ID     `cbor:"intake"`
	Nonce  ID     `cbor:"nonce"`
	Key    []byte `cbor:"key"`
	Tool   string `cbor:"tool"`
	Clock  int64  `cbor:"clock"`
}

// SealedBlock is a block of an unfinished segment.
type SealedBlock struct {
	ID         artifact.Digest `cbor:"id"`
	Generation uint32          `cbor:"gen,omitempty"`
	Size       uint32          `cbor:"size"`
	Entries    []byte          `cbor:"entries"` // the block's directory, as it stands in the block
}

// SegmentSeal makes a segment visible.
type SegmentSeal struct {
	Intake  ID                `cbor:"intake"`
	Nonce   ID                `cbor:"nonce"`
	Segment artifact.Digest   `cbor:"segment"`
	Size    int64             `cbor:"size"`
	Entries int               `cbor:"entries"`
	Blocks  []artifact.Digest `cbor:"blocks"`
}

// Counts are the bytes of an intake, by what became of them.
type Counts struct {
	Data       int64 `cbor:"data" json:"data"`
	Zero       int64 `cbor:"zero" json:"zero"`
	Unreadable int64 `cbor:"unreadable" json:"unreadable"`
	Untried    int64 `cbor:"untried" json:"untried"`
	New        int64 `cbor:"new" json:"new"`       // raw bytes of artifacts stored by this intake
	Known      int64 `cbor:"known" json:"known"`   // raw bytes of artifacts that were there
	Stored     int64 `cbor:"stored" json:"stored"` // bytes of blocks created
	Files      int64 `cbor:"files" json:"files"`
	Failed     int64 `cbor:"failed" json:"failed"` // entries with something that could not be read
}

// Add sums two counts.
func (c Counts) Add(d Counts) Counts {
	return Counts{c.Data + d.Data, c.Zero + d.Zero, c.Unreadable + d.Unreadable, c.Untried + d.Untried, c.New + d.New,
		c.Known + d.Known, c.Stored + d.Stored, c.Files + d.Files, c.Failed + d.Failed}
}

// Sub takes d away again.
func (c Counts) Sub(d Counts) Counts {
	return Counts{c.Data - d.Data, c.Zero - d.Zero, c.Unreadable - d.Unreadable, c.Untried - d.Untried, c.New - d.New,
		c.Known - d.Known, c.Stored - d.Stored, c.Files - d.Files, c.Failed - d.Failed}
}

// MapState is how far a map is: everything before Next is in Nodes, Pages and Ranges.
type MapState struct {
	Next   int64           `cbor:"next"`             // offset of the next byte, a multiple of the super-block
	Nodes  []*artifact.Ref `cbor:"nodes,omitempty"`  // full nodes
	Pages  []*artifact.Ref `cbor:"pages,omitempty"`  // full pages since the last node
	Ranges []Range         `cbor:"ranges,omitempty"` // of the page being filled
}

// SeenFile is a file of a tree whose content is stored: a row of a tree log.
type SeenFile struct {
	_       struct{} `cbor:",toarray"`
	Path    []byte
	Dev     uint64
	Ino     uint64
	Size    int64
	MSec    int64
	MNsec   int32
	CSec    int64
	CNsec   int32
	Content Entry
}

// SourceState is how far an unfinished intake is with one source.
type SourceState struct {
	Done     bool           `cbor:"done,omitempty"`
	Counts   Counts         `cbor:"counts"`
	Map      *MapState      `cbor:"map,omitempty"`      // linear sources
	Passes   *Passes        `cbor:"passes,omitempty"`   // linear sources that are read by passes
	Logs     []artifact.Ref `cbor:"logs,omitempty"`     // trees
	Tail     []SeenFile     `cbor:"tail,omitempty"`     // trees: rows since the last log
	File     *SeenFile      `cbor:"file,omitempty"`     // trees: a long file being read …
	FileMap  *MapState      `cbor:"filemap,omitempty"`  // … and how far
	Hash     []byte         `cbor:"hash,omitempty"`     // linear sources: state of the BLAKE3 of all read so far
	Partial  *SourceResult  `cbor:"partial,omitempty"`  // gaps and the like so far: of a linear source, or of that long file
	Finished *SourceResult  `cbor:"finished,omitempty"` // where done
}

// ResumePoint acknowledges what was read so far and says how to go on.
type ResumePoint struct {
	Intake ID            `cbor:"intake"`
	Nonce  ID            `cbor:"nonce"`
	Blocks []SealedBlock `cbor:"blocks,omitempty"` // sealed since the last SEGMENT_SEAL or RESUME_POINT
	Stream int64         `cbor:"stream"`           // stream offset
	State  []SourceState `cbor:"state"`
	Forced int           `cbor:"forced,omitempty"` // block ends forced by time so far
	New    int64         `cbor:"new"`              // raw bytes
	Stored int64         `cbor:"stored"`
}

// Snapshot ends an intake: it assigns the number.
type Snapshot struct {
	Number   uint64          `cbor:"number"`
	Domain   string          `cbor:"domain"`
	Intake   ID              `cbor:"intake"`
	Nonce    ID              `cbor:"nonce"`
	Manifest artifact.Digest `cbor:"manifest"`
	Parent   uint64          `cbor:"parent,omitempty"`
	Label    string          `cbor:"label,omitempty"`
	Result   string          `cbor:"result"`
}

// IntakeEnd ends an intake without a snapshot.
type IntakeEnd struct {
	Intake ID     `cbor:"intake"`
	Nonce  ID     `cbor:"nonce"`
	Why    string `cbor:"why"`
}

// Run is a set of segments that divide the digests between them.
type Run struct {
	Level    uint16            `cbor:"level"`
	Segments []artifact.Digest `cbor:"segments"`
}

// SegmentMerge replaces runs by one.
type SegmentMerge struct {
	From [][]artifact.Digest `cbor:"from"`
	To   Run                 `cbor:"to"`
}

// DamagedObject is one object found damaged.
type DamagedObject struct {
	Name string `cbor:"name"`
	Why  string `cbor:"why"`
	// Unread tells that the object could not be read for a reason that may pass, such as a permission. The log does not hold such.
	Unread bool `cbor:"-"`
}

// Damage names objects found damaged.
type Damage struct {
	Objects []DamagedObject `cbor:"objects"`
}

// Approval is a plan that somebody approved.
type Approval struct {
	Plan     artifact.Digest `cbor:"plan"` // hash of what was shown
	What     string          `cbor:"what"`
	How      string          `cbor:"how"` // typed, key, config, token
	Clock    int64           `cbor:"clock"`
	ID       ID              `cbor:"id,omitzero"` // of this consent; a record with an id that stands already says the same once more
	Verb     string          `cbor:"verb,omitempty"`
	Subject  string          `cbor:"subject,omitempty"`
	Gate     uint8           `cbor:"gate,omitempty"`
	Origin   string          `cbor:"origin,omitempty"`   // the token, or where in the config it stands
	Things   []string        `cbor:"things,omitempty"`   // what it was about, as shown
	Commands [][]string      `cbor:"commands,omitempty"` // exactly
}

// Verified says that blocks were read back and found good.
type Verified struct {
	Intake   ID                `cbor:"intake,omitzero"`    // all blocks that this intake made
	Snapshot uint64            `cbor:"snapshot,omitempty"` // all blocks that this snapshot needs
	All      bool              `cbor:"all,omitempty"`      // all blocks of the store
	Blocks   int               `cbor:"blocks"`
	Bytes    int64             `cbor:"bytes"`
	Clock    int64             `cbor:"clock"`
	Except   []artifact.Digest `cbor:"except,omitempty"` // found damaged; see the DAMAGE record
}

// Digest says what hashes a linear source of a snapshot has, as one run of bytes with its gaps as zeros.
type Digest struct {
	Snapshot uint64            `cbor:"snapshot"`
	Source   string            `cbor:"source"` // its name
	Size     int64             `cbor:"size"`
	Sums     map[string][]byte `cbor:"sums"` // blake3, sha256, md5
	Gaps     int64             `cbor:"gaps,omitempty"`
	GapBytes int64             `cbor:"gap_bytes,omitempty"`
	GapList  []byte            `cbor:"gap_list,omitempty"` // BLAKE3 of the list as text
	How      string            `cbor:"how"`                // reading, store
	Clock    int64             `cbor:"clock"`
}

// DigestAt is a Digest and its position.
type DigestAt struct {
	Seq uint64 `cbor:"seq"`
	Digest
}

// Checkpoint is the replayed state at its position.
type Checkpoint struct {
	Sealed    []SealedAt      `cbor:"sealed"` // every level 0 segment
	Runs      []RunOf         `cbor:"runs"`
	Snapshots []SnapshotAt    `cbor:"snapshots"`
	Intakes   []IntakeState   `cbor:"intakes"` // unfinished
	Damage    []DamagedObject `cbor:"damage,omitempty"`
	Verified  []VerifiedAt    `cbor:"verified,omitempty"`
	Digests   []DigestAt      `cbor:"digests,omitempty"`
}

// SealedAt is a level 0 segment and its position.
type SealedAt struct {
	Seq uint64 `cbor:"seq"`
	SegmentSeal
}

// RunOf is a run and the level 0 segments it stands for, by their place in Checkpoint.Sealed.
type RunOf struct {
	Run
	Of []int `cbor:"of"`
}

// SnapshotAt is a snapshot and its position.
type SnapshotAt struct {
	Seq uint64 `cbor:"seq"`
	Snapshot
}

// VerifiedAt is a verification and its position.
type VerifiedAt struct {
	Seq uint64 `cbor:"seq"`
	Verified
}

// IntakeState is an unfinished intake as replay knows it.
type IntakeState struct {
	Seq     uint64            `cbor:"seq"` // of INTAKE_BEGIN: base
	Begin   IntakeBegin       `cbor:"begin"`
	Nonce   ID                `cbor:"nonce"` // of the writer that has it now
	Key     []byte            `cbor:"key"`
	Resumed int               `cbor:"resumed,omitempty"` // times another writer took over
	Point   *ResumePoint      `cbor:"point,omitempty"`   // the last, without Blocks
	Blocks  []SealedBlock     `cbor:"blocks,omitempty"`  // sealed and in no segment yet
	Made    []artifact.Digest `cbor:"made,omitempty"`    // its level 0 segments
}
