package backendtest_test

import (
	"bytes"
	"context"
	"io"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"aslrescue/backends/backendtest"
	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
)

// TestItHasTeeth: a backend that keeps every promise passes, and each that breaks one is found out, in the part that
// stands for it.
func TestItHasTeeth(t *testing.T) {
	for _, tt := range []struct {
		name, part string // no part: it passes
		breaks     flaws
	}{
		{"none", "", flaws{}},
		{"refuses what does not hash", "", flaws{checksHash: true}},
		{"read-only", "info", flaws{readOnly: true}},
		{"any name will do", "names", flaws{anyName: true}},
		{"absent is empty", "absent objects", flaws{absentIsEmpty: true}},
		{"drops the last byte", "create and read back", flaws{short: true}},
		{"keeps the caller's slice", "data reused after return", flaws{aliases: true}},
		{"overwrites", "conflict", flaws{overwrites: true}},
		{"first come, no questions", "conflict", flaws{silent: true}},
		{"the same again is refused", "the same again", flaws{never: true}},
		{"damage is conflict", "damage", flaws{noDamage: true}},
		{"heals damage by overwriting", "damage", flaws{heals: true}},
		{"short reads at the end", "ranges", flaws{noEOF: true}},
		{"lists without order", "lists", flaws{folderOrder: true}},
		{"lists what it was to come after", "lists", flaws{inclusive: true}},
		{"forgets after", "lists", flaws{noAfter: true}},
		{"does not hear the context", "a context that ended", flaws{deaf: true}},
		{"checks, then writes", "many at once", flaws{racy: true}},
		{"forgets on reopen", "reopen", flaws{forgets: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &memory{flaws: tt.breaks, objects: map[string][]byte{}}
			err := backendtest.Check(t.Context(), m.open)
			if tt.part == "" && err != nil {
				t.Errorf("got %v", err)
			}
			if tt.part != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.part+": ")) {
				t.Errorf("got %v, want it found out in %q", err, tt.part)
			}
		})
	}
}

// flaws are promises not kept.
type flaws struct {
	checksHash, readOnly, anyName, absentIsEmpty, short, aliases, overwrites, silent, never, noDamage, heals, noEOF, folderOrder, inclusive, noAfter, deaf, racy, forgets bool
}

// memory is the simplest backend.
type memory struct {
	flaws
	mu      sync.Mutex
	objects map[string][]byte
}

func (m *memory) open() (store.Backend, error) {
	if m.forgets {
		return &memory{flaws: m.flaws, objects: map[string][]byte{}}, nil
	}
	return m, nil
}

func (m *memory) check(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil && !m.deaf {
		return err
	}
	if m.anyName {
		return nil
	}
	return store.CheckName(name)
}

func (m *memory) Create(ctx context.Context, name string, data []byte) error {
	if err := m.check(ctx, name); err != nil {
		return err
	}
	kind, hash, _ := strings.Cut(name, "/")
	hashed := kind == "blocks" || kind == "segments"
	if hashed && m.checksHash && artifact.HashBytes(data).String() != hash {
		if old, err := m.get(name); err == nil && artifact.HashBytes(old).String() == hash {
			return artifact.ErrConflict
		}
		return artifact.ErrDamaged
	}
	if m.short && len(data) > 0 {
		data = data[:len(data)-1]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old, taken := m.objects[name]
	if m.racy { // another writer gets in between
		m.mu.Unlock()
		for range 1000 {
			runtime.Gosched()
		}
		m.mu.Lock()
	}
	switch {
	case !taken || m.overwrites:
	case m.heals && hashed && artifact.HashBytes(old).String() != hash:
	case m.never:
		return artifact.ErrConflict
	case m.silent || bytes.Equal(old, data):
		return nil
	case hashed && !m.noDamage && artifact.HashBytes(old).String() != hash:
		return artifact.ErrDamaged
	default:
		return artifact.ErrConflict
	}
	if !m.aliases {
		data = bytes.Clone(data)
	}
	m.objects[name] = data
	if m.heals && taken {
		return artifact.ErrDamaged
	}
	return nil
}

func (m *memory) get(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.objects[name]
	if !ok && !m.absentIsEmpty {
		return nil, artifact.ErrNotFound
	}
	return data, nil
}

func (m *memory) Open(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := m.check(ctx, name); err != nil {
		return nil, err
	}
	data, err := m.get(name)
	if err != nil {
		return nil, err
	}
	size := int64(len(data))
	if off < 0 {
		return nil, io.ErrUnexpectedEOF
	}
	if m.noEOF {
		off = min(off, size)
		n = min(n, size-off)
	}
	if n < 0 {
		n = max(size-off, 0)
	}
	if off > size || n > size-off {
		return nil, io.ErrUnexpectedEOF
	}
	return io.NopCloser(bytes.NewReader(data[off:][:n])), nil
}

func (m *memory) Stat(ctx context.Context, name string) (int64, error) {
	if err := m.check(ctx, name); err != nil {
		return 0, err
	}
	data, err := m.get(name)
	return int64(len(data)), err
}

func (m *memory) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := ctx.Err(); err != nil && !m.deaf {
			yield(store.Entry{}, err)
			return
		}
		m.mu.Lock()
		objects := maps.Clone(m.objects)
		m.mu.Unlock()
		names := slices.Sorted(maps.Keys(objects))
		if m.folderOrder {
			slices.SortFunc(names, func(a, b string) int {
				return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
			})
		}
		for _, name := range names {
			if !strings.HasPrefix(name, prefix) || name < after && !m.noAfter || name == after && !m.inclusive && !m.noAfter {
				continue
			}
			if !yield(store.Entry{Name: name, Size: int64(len(objects[name]))}, nil) {
				return
			}
		}
	}
}

func (m *memory) Info() store.Info {
	return store.Info{Kind: "memory", Where: "here", Publish: "map", ReadOnly: m.readOnly}
}

func (m *memory) Close() error { return nil }
