package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
)

// Backend is a place for create-only named objects: a folder, an https endpoint, a bucket. It knows nothing of what
// the objects mean. Names are "blocks/<64 hex>", "segments/<64 hex>", "snapshots/<domain>/<name>",
// "logs/<domain>/<name>" and nothing else, see CheckName. All methods may be called from several goroutines at once.
//
// Errors wrap artifact.ErrNotFound, ErrConflict, ErrDamaged, ErrFull, ErrReadOnly, ErrName, or the context's error.
type Backend interface {
	// Create stores an object. When it returns nil the object is durable, whole, and immutable from then on. The same
	// bytes under the same name again are no error. Other bytes under that name are ErrConflict; if the name says the
	// hash of its content (blocks, segments) and the stored bytes do not have it, ErrDamaged. data may be reused after
	// return.
	Create(ctx context.Context, name string, data []byte) error
	// Open reads n bytes from off, to the end if n < 0. A read past the end is io.ErrUnexpectedEOF.
	Open(ctx context.Context, name string, off, n int64) (io.ReadCloser, error)
	// Stat tells the size in bytes.
	Stat(ctx context.Context, name string) (int64, error)
	// List gives the objects whose name begins with prefix ("blocks/", "logs/<domain>/" …) and is greater than after,
	// sorted by name. An error ends it. What is absent from a list may exist.
	List(ctx context.Context, prefix, after string) iter.Seq2[Entry, error]
	// Info tells what the place is and can do.
	Info() Info
	Close() error
}

// Entry is one row of a list.
type Entry struct {
	Name string
	Size int64 // bytes
}

// Info describes a Backend as values.
type Info struct {
	Kind     string // "local", "https", "s3"
	Where    string // for people: a path or URL without secrets
	ReadOnly bool
	Free     func() (bytes int64, ok bool) // room left; ok is false where that is not known; nil likewise
	Foreign  []string                      // names found that are not ours, and leftovers of writers that died
	Publish  string                        // how exclusive creation is done: "renameat2", "link", "if-none-match"
	// Verify has a block checked where it lies, every byte of it read from the medium and held against its hashes: nil, ErrDamaged, ErrNotFound, or why it could not
	// be. It gives the block's size, and is nil where reading the block is the only way.
	Verify func(ctx context.Context, name string) (size int64, err error)
}

// Uncached is put into a context to ask Open for bytes from the medium, not from a cache. Best effort.
func Uncached(ctx context.Context) context.Context {
	return context.WithValue(ctx, uncachedKey{}, true)
}

// WantsUncached tells whether ctx came from Uncached.
func WantsUncached(ctx context.Context) bool { v, _ := ctx.Value(uncachedKey{}).(bool); return v }

type uncachedKey struct{}

// ErrName is a name that no object can have.
var ErrName = errors.New("not a name of an object")

// CheckName tells whether name can name an object. What it lets through is safe as a path: lower case only, so that
// media which do not tell case apart keep names apart, and no step begins with a dot.
func CheckName(name string) error {
	kind, rest, _ := strings.Cut(name, "/")
	ok := false
	switch kind {
	case "blocks", "segments":
		ok = len(rest) == 64 && strings.Trim(rest, "0123456789abcdef") == ""
	case "snapshots", "logs":
		domain, base, _ := strings.Cut(rest, "/")
		ok = isStep(domain, 63) && isStep(base, 128)
	}
	if !ok {
		return fmt.Errorf("%q: %w", name, ErrName)
	}
	return nil
}

// isStep tells whether s is 1 to most characters of a-z 0-9 - _ . and begins with a letter or digit.
func isStep(s string, most int) bool {
	const alnum = "abcdefghijklmnopqrstuvwxyz0123456789"
	return s != "" && len(s) <= most && strings.Trim(s, alnum+"-_.") == "" && strings.ContainsRune(alnum, rune(s[0]))
}
