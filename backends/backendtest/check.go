// Package backendtest checks that a backend keeps every promise of store.Backend. It returns errors instead of failing
// a test, so that a program can put the question to a place its user wants to trust.
package backendtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
)

// Check opens a backend again and again and tries every promise. It needs a place made for it: what it creates stays,
// under domains of its own, and some of it is damaged on purpose.
func Check(ctx context.Context, open func() (store.Backend, error)) error {
	b, err := open()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	c := &checker{ctx: ctx, b: b, open: open, domain: "check-" + random(6)}
	defer func() { c.b.Close() }()
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{"info", c.info},
		{"names", c.names},
		{"absent objects", c.absent},
		{"create and read back", c.roundTrip},
		{"data reused after return", c.reuse},
		{"the same again", c.again},
		{"conflict", c.conflict},
		{"damage", c.damage},
		{"ranges", c.ranges},
		{"lists", c.lists},
		{"a context that ended", c.cancelled},
		{"many at once", c.concurrent},
		{"reopen", c.reopen},
	} {
		if err := part.run(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

type checker struct {
	ctx    context.Context
	b      store.Backend
	open   func() (store.Backend, error)
	domain string // begins the domains used by this run
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// fresh is content nobody stored before, of at least size bytes.
func fresh(size int) []byte {
	b := make([]byte, max(size, 16))
	rand.Read(b)
	return b
}

func block(data []byte) string   { return "blocks/" + artifact.HashBytes(data).String() }
func segment(data []byte) string { return "segments/" + artifact.HashBytes(data).String() }

func (c *checker) log(n int) string { return fmt.Sprintf("logs/%s/%012d.aol", c.domain, n) }

func (c *checker) info() error {
	info := c.b.Info()
	if info.Kind == "" || info.Where == "" {
		return fmt.Errorf("kind %q and place %q must both be told", info.Kind, info.Where)
	}
	if info.ReadOnly {
		return fmt.Errorf("%s: %w", info.Where, artifact.ErrReadOnly)
	}
	if info.Publish == "" {
		return errors.New("it is not told how exclusive creation is done")
	}
	return nil
}

// names tries what is not a name of an object.
func (c *checker) names() error {
	h := artifact.HashBytes([]byte("a name")).String()
	for _, name := range []string{
		"", ".", "..", "/", "blocks", "blocks/", "blocks/" + h[:63], "blocks/" + h + "0", "blocks/" + h[:63] + "g",
		"blocks/" + h[:63] + "A", "blocks/" + strings.ToUpper(h), "blocks/" + h[:2] + "/" + h, "Blocks/" + h, "segments/x",
		"/blocks/" + h, "blocks//" + h, "blocks/" + h + "/", "blocks/../blocks/" + h, "other/" + h, h,
		"logs", "logs/", "logs/d", "logs/d/", "logs//n", "logs/../n", "logs/./n", "logs/d/..", "logs/d/../../n", "logs/d/e/n",
		"logs/D/n", "logs/d/N", "logs/.d/n", "logs/d/.n", "logs/d/.tmp-1", "logs/-d/n", "logs/d/a b", "logs/d/a\x00b", "logs/d/a\nb",
		"logs/d/ä", "logs/d/a%2fb", "logs/d/a\\b", "logs/d/a:b", "logs/" + strings.Repeat("d", 64) + "/n",
		"logs/d/" + strings.Repeat("n", 129), "snapshots/../../n",
	} {
		if err := c.b.Create(c.ctx, name, []byte("x")); !errors.Is(err, store.ErrName) {
			return fmt.Errorf("Create of %q: want %q, got %w", name, store.ErrName, nonNil(err))
		}
		if _, err := c.read(c.ctx, name, 0, -1); !errors.Is(err, store.ErrName) {
			return fmt.Errorf("Open of %q: want %q, got %w", name, store.ErrName, nonNil(err))
		}
		if _, err := c.b.Stat(c.ctx, name); !errors.Is(err, store.ErrName) {
			return fmt.Errorf("Stat of %q: want %q, got %w", name, store.ErrName, nonNil(err))
		}
	}
	for _, name := range []string{
		"logs/" + c.domain + "/a..b-c_d.e", "logs/" + c.domain + "/0", "snapshots/" + c.domain + "/m-" + h,
		"logs/" + c.domain + "/" + strings.Repeat("n", 128), "snapshots/" + (c.domain + strings.Repeat("d", 63))[:63] + "/n",
	} {
		if err := c.b.Create(c.ctx, name, []byte("x")); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) absent() error {
	h := hex.EncodeToString(fresh(32))
	for _, name := range []string{"blocks/" + h, "segments/" + h, "logs/" + c.domain + "/absent", "logs/no-" + h[:32] + "/n", "snapshots/no-" + h[:32] + "/n"} {
		if err := c.isAbsent(name); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) isAbsent(name string) error {
	if _, err := c.b.Stat(c.ctx, name); !errors.Is(err, artifact.ErrNotFound) {
		return fmt.Errorf("Stat of %s, which is not there: want %q, got %w", name, artifact.ErrNotFound, nonNil(err))
	}
	for _, n := range []int64{-1, 0, 1} {
		if _, err := c.read(c.ctx, name, 0, n); !errors.Is(err, artifact.ErrNotFound) {
			return fmt.Errorf("Open of %s, which is not there: want %q, got %w", name, artifact.ErrNotFound, nonNil(err))
		}
	}
	return nil
}

// roundTrip stores objects of many sizes and of every kind.
func (c *checker) roundTrip() error {
	for _, size := range []int{16, 511, 512, 513, 4096, 65536, 256<<10 - 1, 256<<10 + 1, 1<<20 + 7} {
		data := fresh(size)
		for _, name := range []string{block(data), segment(data), fmt.Sprintf("logs/%s/size-%d", c.domain, size), fmt.Sprintf("snapshots/%s/size-%d", c.domain, size)} {
			if err := c.b.Create(c.ctx, name, data); err != nil {
				return err
			}
			if err := c.holds(name, data); err != nil {
				return err
			}
		}
	}
	empty := "logs/" + c.domain + "/empty"
	if err := c.b.Create(c.ctx, empty, nil); err != nil {
		return err
	}
	return c.holds(empty, nil)
}

// holds tells whether an object reads back as data, through a cache and from the medium.
func (c *checker) holds(name string, data []byte) error {
	size, err := c.b.Stat(c.ctx, name)
	if err != nil {
		return err
	}
	if size != int64(len(data)) {
		return fmt.Errorf("Stat of %s: want %d bytes, got %d", name, len(data), size)
	}
	for _, ctx := range []context.Context{c.ctx, store.Uncached(c.ctx)} {
		got, err := c.read(ctx, name, 0, -1)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, data) {
			return fmt.Errorf("%s reads back as %d other bytes than the %d stored", name, len(got), len(data))
		}
	}
	return nil
}

func (c *checker) read(ctx context.Context, name string, off, n int64) ([]byte, error) {
	r, err := c.b.Open(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return data, err
}

func (c *checker) reuse() error {
	data := fresh(70000)
	want := bytes.Clone(data)
	name := block(data)
	if err := c.b.Create(c.ctx, name, data); err != nil {
		return err
	}
	clear(data)
	return c.holds(name, want)
}

func (c *checker) again() error {
	data := fresh(70000)
	for _, name := range []string{block(data), segment(data), "logs/" + c.domain + "/again", "snapshots/" + c.domain + "/again"} {
		for range 3 {
			if err := c.b.Create(c.ctx, name, data); err != nil {
				return err
			}
		}
		if err := c.holds(name, data); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) conflict() error {
	data := fresh(5000)
	flipped := bytes.Clone(data)
	flipped[4999] ^= 1
	for _, name := range []string{block(data), segment(data), "logs/" + c.domain + "/conflict", "snapshots/" + c.domain + "/conflict"} {
		if err := c.b.Create(c.ctx, name, data); err != nil {
			return err
		}
		for what, other := range map[string][]byte{"one bit": flipped, "shorter": data[:4999], "longer": append(bytes.Clone(data), 0), "empty": nil} {
			err := c.b.Create(c.ctx, name, other)
			if refusedByHash := name[0] != 'l' && name[:2] != "sn" && errors.Is(err, artifact.ErrDamaged); refusedByHash {
				return fmt.Errorf("Create of %s with other bytes (%s): what is stored is whole, but it says %w", name, what, err)
			}
			if !errors.Is(err, artifact.ErrConflict) {
				return fmt.Errorf("Create of %s with other bytes (%s): want %q, got %w", name, what, artifact.ErrConflict, nonNil(err))
			}
		}
		if err := c.holds(name, data); err != nil {
			return err
		}
	}
	return nil
}

// damage stores bytes under the hash of others, if the place lets it, and then the right ones.
func (c *checker) damage() error {
	for _, kind := range []func([]byte) string{block, segment} {
		right, wrong := fresh(3000), fresh(3000)
		name := kind(right)
		if err := c.b.Create(c.ctx, name, wrong); err != nil {
			if aerr := c.isAbsent(name); aerr != nil {
				return fmt.Errorf("after bytes that do not hash to their name were refused (%w): %w", err, aerr)
			}
			if err := c.b.Create(c.ctx, name, right); err != nil {
				return fmt.Errorf("the right bytes after wrong ones were refused: %w", err)
			}
			continue
		}
		if err := c.b.Create(c.ctx, name, right); !errors.Is(err, artifact.ErrDamaged) {
			return fmt.Errorf("Create of %s, whose stored bytes are damaged: want %q, got %w", name, artifact.ErrDamaged, nonNil(err))
		}
		if err := c.holds(name, wrong); err != nil {
			return fmt.Errorf("a damaged object was changed: %w", err)
		}
	}
	return nil
}

func (c *checker) ranges() error {
	data := fresh(300_000)
	size := int64(len(data))
	name := block(data)
	if err := c.b.Create(c.ctx, name, data); err != nil {
		return err
	}
	for _, r := range [][2]int64{{0, -1}, {0, 0}, {0, 1}, {1, 1}, {size - 1, 1}, {size - 1, -1}, {size, -1}, {size, 0}, {0, size}, {4095, 2}, {262143, 4}, {7, size - 8}} {
		got, err := c.read(c.ctx, name, r[0], r[1])
		if err != nil {
			return fmt.Errorf("%d bytes from %d of %d: %w", r[1], r[0], size, err)
		}
		want := data[r[0]:]
		if r[1] >= 0 {
			want = want[:r[1]]
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%d bytes from %d of %d: got %d bytes, not those", r[1], r[0], size, len(got))
		}
	}
	for _, r := range [][2]int64{{0, size + 1}, {size, 1}, {size - 1, 2}, {size + 1, -1}, {size + 1, 1}, {1, math.MaxInt64}, {math.MaxInt64, 1}} {
		if _, err := c.read(c.ctx, name, r[0], r[1]); !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%d bytes from %d of %d: want %q, got %w", r[1], r[0], size, io.ErrUnexpectedEOF, nonNil(err))
		}
	}
	if _, err := c.read(c.ctx, name, -1, 1); err == nil {
		return errors.New("an offset below zero was let through")
	}
	return nil
}

func (c *checker) lists() error {
	d := c.domain + "l"
	// "d-x/" sorts before "d/": a list by folders alone would have them the other way round.
	want := []string{"logs/" + d + "-x/1", "logs/" + d + ".y/1", "logs/" + d + "/1", "logs/" + d + "/10", "logs/" + d + "/2", "logs/" + d + "/a", "logs/" + d + "0/1"}
	for _, i := range []int{3, 0, 6, 2, 5, 1, 4} {
		if err := c.b.Create(c.ctx, want[i], []byte(want[i])); err != nil {
			return err
		}
	}
	for i := range want {
		if err := c.lists1("logs/"+d, want[i], want[i+1:]); err != nil {
			return err
		}
		if err := c.lists1("logs/"+d, want[i]+"!", want[i+1:]); err != nil {
			return err
		}
	}
	for _, l := range []struct {
		prefix, after string
		want          []string
	}{
		{"logs/" + d, "", want},
		{"logs/" + d, "blocks/0", want},
		{"logs/" + d, "logs/", want},
		{"logs/" + d, "segments/0", nil},
		{"logs/" + d + "/", "", want[2:6]},
		{"logs/" + d + "/1", "", want[2:4]},
		{"logs/" + d + "/a", "", want[5:6]},
		{"logs/" + d + "/b", "", nil},
		{"logs/" + d + "none/", "", nil},
		{"snapshots/" + d, "", nil},
		{"nothing/", "", nil},
	} {
		if err := c.lists1(l.prefix, l.after, l.want); err != nil {
			return err
		}
	}
	return c.listsHashed()
}

// lists1 tells whether a list gives these names with their sizes, each object being its own name.
func (c *checker) lists1(prefix, after string, want []string) error {
	var got []string
	for e, err := range c.b.List(c.ctx, prefix, after) {
		if err != nil {
			return fmt.Errorf("List(%q, %q): %w", prefix, after, err)
		}
		if e.Size != int64(len(e.Name)) {
			return fmt.Errorf("List(%q, %q): %s: want %d bytes, got %d", prefix, after, e.Name, len(e.Name), e.Size)
		}
		got = append(got, e.Name)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("List(%q, %q): want %q, got %q", prefix, after, want, got)
	}
	return nil
}

// listsHashed looks for many blocks and segments in lists that may hold others too.
func (c *checker) listsHashed() error {
	for _, kind := range []func([]byte) string{block, segment} {
		var want []string
		for range 40 {
			data := fresh(40)
			want = append(want, kind(data))
			if err := c.b.Create(c.ctx, kind(data), data); err != nil {
				return err
			}
		}
		slices.Sort(want)
		prefix := want[0][:strings.IndexByte(want[0], '/')+1]
		for _, l := range []struct {
			prefix, after string
			want          []string
		}{{prefix, "", want}, {prefix, want[19], want[20:]}, {prefix, want[39], nil}, {want[7], "", want[7:8]}, {want[7], want[7], nil}} {
			if err := c.listsAmong(l.prefix, l.after, l.want); err != nil {
				return err
			}
		}
		for _, err := range c.b.List(c.ctx, prefix, "") {
			if err != nil {
				return err
			}
			break // a list may be left early
		}
	}
	return nil
}

func (c *checker) listsAmong(prefix, after string, want []string) error {
	last := after
	for e, err := range c.b.List(c.ctx, prefix, after) {
		switch {
		case err != nil:
			return fmt.Errorf("List(%q, %q): %w", prefix, after, err)
		case e.Name <= last:
			return fmt.Errorf("List(%q, %q): %s came after %s", prefix, after, e.Name, last)
		case !strings.HasPrefix(e.Name, prefix):
			return fmt.Errorf("List(%q, %q): gave %s", prefix, after, e.Name)
		}
		last = e.Name
		if len(want) > 0 && e.Name == want[0] {
			want = want[1:]
		}
	}
	if len(want) > 0 {
		return fmt.Errorf("List(%q, %q): %s is missing", prefix, after, want[0])
	}
	return nil
}

func (c *checker) cancelled() error {
	ctx, cancel := context.WithCancel(c.ctx)
	cancel()
	data := fresh(100)
	name := block(data)
	if err := c.b.Create(ctx, name, data); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("Create: want %q, got %w", context.Canceled, nonNil(err))
	}
	if err := c.isAbsent(name); err != nil {
		return err
	}
	if err := c.b.Create(c.ctx, name, data); err != nil {
		return fmt.Errorf("Create after one that was stopped: %w", err)
	}
	if _, err := c.read(ctx, name, 0, -1); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("Open: want %q, got %w", context.Canceled, nonNil(err))
	}
	if _, err := c.b.Stat(ctx, name); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("Stat: want %q, got %w", context.Canceled, nonNil(err))
	}
	var got error
	for _, err := range c.b.List(ctx, "blocks/", "") {
		got = err
	}
	if !errors.Is(got, context.Canceled) {
		return fmt.Errorf("List: want %q, got %w", context.Canceled, nonNil(got))
	}
	return nil
}

// concurrent lets writers race for names: each name gets one content, and only its writers hear that it worked.
func (c *checker) concurrent() error {
	const writers, rounds = 8, 8
	for round := range rounds {
		if err := c.race(c.log(round), writers, func(i int) []byte { return fmt.Appendf(nil, "%d of writer %d", round, i) }); err != nil {
			return err
		}
		same := fresh(20000)
		if err := c.race(block(same), writers, func(int) []byte { return same }); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) race(name string, writers int, content func(i int) []byte) error {
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() { errs[i] = c.b.Create(c.ctx, name, content(i)) })
	}
	wg.Wait()
	won := slices.Index(errs, nil)
	if won < 0 {
		return fmt.Errorf("%d writers at once of %s: none won: %w", writers, name, errs[0])
	}
	for i, err := range errs {
		same := bytes.Equal(content(i), content(won))
		if same && err != nil {
			return fmt.Errorf("%d writers at once of %s: writer %d of the winning bytes: %w", writers, name, i, err)
		}
		if !same && !errors.Is(err, artifact.ErrConflict) {
			return fmt.Errorf("%d writers at once of %s: writers %d and %d: want one %q, got %w", writers, name, won, i, artifact.ErrConflict, nonNil(err))
		}
	}
	return c.holds(name, content(won))
}

// reopen tells whether another backend on the same place sees the same.
func (c *checker) reopen() error {
	data, late := fresh(9000), fresh(9000)
	name := block(data)
	if err := c.b.Create(c.ctx, name, data); err != nil {
		return err
	}
	second, err := c.open()
	if err != nil {
		return fmt.Errorf("a second backend beside the first: %w", err)
	}
	if err := c.b.Create(c.ctx, block(late), late); err != nil {
		return err
	}
	if err := c.b.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	c.b = second
	for _, d := range [][]byte{data, late} {
		if err := c.holds(block(d), d); err != nil {
			return err
		}
		if err := c.b.Create(c.ctx, block(d), d); err != nil {
			return err
		}
		if err := c.b.Create(c.ctx, block(d), d[1:]); !errors.Is(err, artifact.ErrConflict) {
			return fmt.Errorf("other bytes for what the first backend stored: want %q, got %w", artifact.ErrConflict, nonNil(err))
		}
	}
	return nil
}

// nonNil makes "no error" readable in a sentence.
func nonNil(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}
