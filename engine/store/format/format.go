// Package format is every byte a store puts on disk: encode and decode, no I/O. The specification is
// docs/store-format.md; a decoder accepts what an encoder of this version can have written and refuses everything else with
// an error that wraps artifact.ErrDamaged or artifact.ErrUnsupported.
package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"reflect"
	"strings"
	"unicode/utf8"

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

var encMode = must(func() (cbor.EncMode, error) {
	opts := cbor.CoreDetEncOptions()
	opts.NilContainers = cbor.NilContainerAsEmpty // nil and empty are the same, and so are their bytes
	return opts.EncMode()
}())

var decOptions = cbor.DecOptions{
	DupMapKey:         cbor.DupMapKeyEnforcedAPF,
	IndefLength:       cbor.IndefLengthForbidden,
	MaxNestedLevels:   16,
	MaxArrayElements:  1 << 20,
	MaxMapPairs:       1 << 12,
	TagsMd:            cbor.TagsForbidden,
	FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
}

var (
	decMode = must(decOptions.DecMode())
	// knownMode refuses what decMode ignores.
	knownMode = must(func() (cbor.DecMode, error) {
		opts := decOptions
		opts.ExtraReturnErrors = cbor.ExtraDecErrorUnknownField
		return opts.DecMode()
	}())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // constant options: cannot fail once it has not failed in a test
	}
	return v
}

// Marshal encodes v as deterministic CBOR. Strings that are not UTF-8, as errors that quote a file's name can be, are
// written as Text gives them: no reader would take them otherwise.
func Marshal(v any) ([]byte, error) {
	b, err := encMode.Marshal(v)
	if err != nil || textsAreValid(b) {
		return b, err
	}
	return repairTexts(b), nil
}

// Unmarshal decodes CBOR that Marshal made into the zero value v points to. Unknown keys of maps are ignored; trailing bytes, and
// whatever Marshal would have written otherwise, are damage.
func Unmarshal(b []byte, v any) error {
	if err := decMode.Unmarshal(b, v); err != nil {
		return damaged("cbor: %v", err)
	}
	again, err := encMode.Marshal(v)
	if err != nil {
		return damaged("cbor: %v", err)
	}
	if !bytes.Equal(again, b) && knownMode.Unmarshal(b, reflect.New(reflect.TypeOf(v).Elem()).Interface()) == nil {
		return damaged("cbor: not in the deterministic encoding")
	}
	return nil
}

// Text is s with what is not UTF-8 written as \xNN, which is how a string stands in CBOR.
func Text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// nextItem gives the bytes that an item of Marshal's CBOR begins with: its head, and of strings the content.
func nextItem(b []byte) (major byte, head, content []byte, rest []byte) {
	major, n := b[0]>>5, 1
	arg := uint64(b[0] & 31)
	if arg >= 24 {
		n += 1 << (arg - 24)
		arg = 0
		for _, c := range b[1:n] {
			arg = arg<<8 | uint64(c)
		}
	}
	head, rest = b[:n], b[n:]
	if major == majorBytes || major == majorText {
		content, rest = rest[:arg], rest[arg:]
	}
	return major, head, content, rest
}

const (
	majorBytes = 2
	majorText  = 3
	majorArray = 4
)

func textsAreValid(b []byte) bool {
	for len(b) > 0 {
		major, _, content, rest := nextItem(b)
		if major == majorText && !utf8.Valid(content) {
			return false
		}
		b = rest
	}
	return true
}

func repairTexts(b []byte) []byte {
	out := make([]byte, 0, len(b)+64)
	for len(b) > 0 {
		major, head, content, rest := nextItem(b)
		if major == majorText {
			out = append(out, must(encMode.Marshal(Text(string(content))))...)
		} else {
			out = append(append(out, head...), content...)
		}
		b = rest
	}
	return out
}

// checkCount refuses an array of more elements than its bytes, or max, can hold: nothing is allocated for it then.
func checkCount(b []byte, least, most int) error {
	if len(b) == 0 || b[0]>>5 != majorArray {
		return damaged("cbor: not an array")
	}
	n := uint64(b[0] & 31)
	switch {
	case n < 24:
	case n <= 27 && len(b) > 1<<(n-24):
		_, head, _, _ := nextItem(b)
		n = 0
		for _, c := range head[1:] {
			n = n<<8 | uint64(c)
		}
	default:
		return damaged("cbor: array without a length")
	}
	if n > uint64(len(b)/least) || n > uint64(most) {
		return damaged("cbor: array of %d elements in %d bytes", n, len(b))
	}
	return nil
}
