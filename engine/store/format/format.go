// Package format is every byte a store puts on disk: encode and decode, no I/O. The specification is
// docs/store-format.md; a decoder accepts what an encoder of this version can have written and refuses everything else with
// an error that wraps artifact.ErrDamaged or artifact.ErrUnsupported.
package format

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/fxamacker/cbor/v2"

	"aslrescue/engine/artifact"
)

// Version is the version of blocks, segments, log parts and CBOR structures that this package writes.
const Version = 1

var le = binary.LittleEndian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crc(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func damaged(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, artifact.ErrDamaged)...)
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, artifact.ErrUnsupported)...)
}

var encMode = must(cbor.CoreDetEncOptions().EncMode())

var decMode = must(cbor.DecOptions{
	DupMapKey:        cbor.DupMapKeyEnforcedAPF,
	IndefLength:      cbor.IndefLengthForbidden,
	MaxNestedLevels:  16,
	MaxArrayElements: 1 << 22,
	MaxMapPairs:      1 << 12,
	TagsMd:           cbor.TagsForbidden,
}.DecMode())

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // constant options: cannot fail once it has not failed in a test
	}
	return v
}

// Marshal encodes v as deterministic CBOR.
func Marshal(v any) ([]byte, error) { return encMode.Marshal(v) }

// Unmarshal decodes CBOR that Marshal made; trailing bytes are damage.
func Unmarshal(b []byte, v any) error {
	if err := decMode.Unmarshal(b, v); err != nil {
		return damaged("cbor: %v", err)
	}
	return nil
}
