package format

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
)

// rehead changes a block's or segment's header and makes every checksum fit again.
func rehead(b []byte, size int, body []byte, change func(h []byte)) []byte {
	b = bytes.Clone(b)
	h := b[:size]
	change(h)
	le.PutUint32(h[size-4:], crc(h[:size-4]))
	sum := blockSum(h, body)
	copy(b[len(b)-32:], sum[:])
	return b
}

func wantErr(t *testing.T, what string, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	t.Errorf("%s: got %v, want one of %v", what, err, want)
}

func TestBlockHeaderIsStrict(t *testing.T) {
	good := bytes.Clone(goldenBlock().Seal(0))
	dir := good[le.Uint64(good[40:]) : len(good)-BlockTrailer]
	for i := range BlockHeaderSize - 4 {
		if i >= 24 && i < 28 {
			continue // any generation is right
		}
		for _, x := range []byte{1, 0x80, 0xff} {
			b := rehead(good, BlockHeaderSize, dir, func(h []byte) { h[i] ^= x })
			_, _, err := DecodeBlock(artifact.HashBytes(b), b)
			want := artifact.ErrDamaged
			if i >= 8 && i < 12 || i >= 16 && i < 24 || i == 28 || i == 29 {
				want = artifact.ErrUnsupported
			}
			wantErr(t, fmt.Sprintf("header byte %d xor %#02x", i, x), err, want)
		}
	}
}

func TestBlockDirectoryIsStrict(t *testing.T) {
	good := bytes.Clone(goldenBlock().Seal(0))
	h, _, err := DecodeBlock(artifact.HashBytes(good), good)
	if err != nil {
		t.Fatal(err)
	}
	redo := func(change func(dir []byte)) error {
		b := bytes.Clone(good)
		dir := b[h.Dir : len(b)-BlockTrailer]
		change(dir)
		sum := blockSum(b[:BlockHeaderSize], dir)
		copy(b[len(b)-BlockTrailer:], sum[:])
		_, _, err := DecodeBlock(artifact.HashBytes(b), b)
		return err
	}
	const second = BlockEntrySize // a zstd entry
	for name, c := range map[string]func(d []byte){
		"reserved byte":                 func(d []byte) { d[second+35] = 1 },
		"a hole":                        func(d []byte) { d[second+40]++ },
		"a plain one of another length": func(d []byte) { d[48]++ },
		"zstd that is no shorter":       func(d []byte) { le.PutUint32(d[second+48:], 10) },
		"zstd that is longer":           func(d []byte) { le.PutUint32(d[second+48:], 9) },
		"too large":                     func(d []byte) { le.PutUint32(d[second+48:], artifact.MaxSize+1) },
		"together too large":            func(d []byte) { le.PutUint32(d[second+48:], artifact.MaxSize) },
		"last one longer":               func(d []byte) { le.PutUint32(d[3*second+44:], 1); le.PutUint32(d[3*second+48:], 1) },
		"wraps":                         func(d []byte) { le.PutUint32(d[44:], 0xffffffff); le.PutUint32(d[48:], 0xffffffff) },
	} {
		wantErr(t, name, redo(c), artifact.ErrDamaged)
	}
	wantErr(t, "codec", redo(func(d []byte) { d[34] = 2 }), artifact.ErrUnsupported)
	wantErr(t, "hash id", redo(func(d []byte) { d[32] = 2 }), artifact.ErrUnsupported)
}

func TestEveryFlippedByteOfABlockIsSeen(t *testing.T) {
	good := bytes.Clone(goldenBlock().Seal(0))
	id := artifact.HashBytes(good)
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x10
		if _, _, err := DecodeBlock(id, b); !errors.Is(err, artifact.ErrDamaged) {
			t.Fatalf("byte %d: %v", i, err)
		}
		h, err := DecodeBlockHeader(b)
		if i < BlockHeaderSize {
			wantErr(t, fmt.Sprintf("header byte %d", i), err, artifact.ErrDamaged)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = DecodeBlockDir(h, b, b[h.Dir:])
		if bad := int64(i) >= h.Dir; bad != errors.Is(err, artifact.ErrDamaged) {
			t.Fatalf("byte %d, directory at %d: %v", i, h.Dir, err)
		}
	}
	for n := range good {
		if _, _, err := DecodeBlock(artifact.HashBytes(good[:n]), good[:n]); !errors.Is(err, artifact.ErrDamaged) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
}

func TestSegmentHeaderIsStrict(t *testing.T) {
	rows, entries := goldenSegment()
	good, err := EncodeSegment(0, rows, entries)
	if err != nil {
		t.Fatal(err)
	}
	body := good[le.Uint64(good[56:]) : len(good)-SegmentTrailer]
	for i := range SegmentHeaderSize - 4 {
		if i == 24 || i == 25 {
			continue // any level is right
		}
		for _, x := range []byte{1, 0x80, 0xff} {
			b := rehead(good, SegmentHeaderSize, body, func(h []byte) { h[i] ^= x })
			_, err := DecodeSegment(artifact.HashBytes(b), b)
			want := artifact.ErrDamaged
			if i >= 8 && i < 12 || i >= 16 && i < 24 {
				want = artifact.ErrUnsupported
			}
			wantErr(t, fmt.Sprintf("header byte %d xor %#02x", i, x), err, want)
		}
	}
}

// parts reads a segment as a store does that opens it and looks something up.
func readSegment(b []byte) error {
	h, err := DecodeSegmentHeader(b)
	if err != nil {
		return err
	}
	if h.Size != int64(len(b)) {
		return artifact.ErrDamaged
	}
	if _, err := DecodeSegmentMeta(h, b, b[h.Fences:]); err != nil {
		return err
	}
	for i := range h.Pages() {
		if _, err := DecodePage(b[h.PageAt(i):][:PageSize]); err != nil {
			return err
		}
	}
	for i := range int(h.Blocks) {
		if _, err := DecodeBlockRow(b[h.Table+int64(i)*BlockRowSize:][:BlockRowSize]); err != nil {
			return err
		}
	}
	return nil
}

func TestEveryFlippedByteOfASegmentIsSeen(t *testing.T) {
	rows, entries := goldenSegment()
	good, err := EncodeSegment(3, rows, entries)
	if err != nil || readSegment(good) != nil {
		t.Fatal(err, readSegment(good))
	}
	id := artifact.HashBytes(good)
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x40
		wantErr(t, fmt.Sprintf("byte %d", i), readSegment(b), artifact.ErrDamaged)
		_, err := DecodeSegment(id, b)
		wantErr(t, fmt.Sprintf("byte %d of the whole", i), err, artifact.ErrDamaged)
	}
}

func TestSegmentPagesAreStrict(t *testing.T) {
	_, entries := goldenSegment()
	slices.SortFunc(entries, compareEntries)
	redo := func(n int, change func(p []byte)) error {
		page := make([]byte, PageSize)
		encodePage(page, entries[:n])
		change(page)
		le.PutUint32(page[PageSize-4:], crc(page[:PageSize-4]))
		_, err := DecodePage(page)
		return err
	}
	if err := redo(PageEntries, func([]byte) {}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]func(p []byte){
		"no entries":       func(p []byte) { le.PutUint32(p, 0) },
		"too many":         func(p []byte) { le.PutUint32(p, PageEntries+1) },
		"one less":         func(p []byte) { le.PutUint32(p, 2) },
		"not sorted":       func(p []byte) { p[4] = 0xff },
		"after the last":   func(p []byte) { p[PageSize-5] = 1 },
		"before its block": func(p []byte) { le.PutUint32(p[4+43:], 63) },
		"offset wraps":     func(p []byte) { le.PutUint32(p[4+43:], 0xffffffff) },
		"length":           func(p []byte) { le.PutUint32(p[4+47:], 0xffffffff); le.PutUint32(p[4+51:], 0xffffffff) },
	} {
		wantErr(t, name, redo(3, c), artifact.ErrDamaged)
	}
	wantErr(t, "codec", redo(3, func(p []byte) { p[4+34] = 2 }), artifact.ErrUnsupported)
	wantErr(t, "hash id", redo(3, func(p []byte) { p[4+32] = 2 }), artifact.ErrUnsupported)
	wantErr(t, "short", func() error { _, err := DecodePage(make([]byte, 100)); return err }(), artifact.ErrDamaged)
}

func TestSegmentEncoderRefusesWhatTheDecoderWould(t *testing.T) {
	row := []BlockRow{{digestOf("b"), 0, 1000}}
	ok := SegmentEntry{Ref: refOf("x"), Off: 64, Stored: 5, Raw: 5}
	for name, c := range map[string]struct {
		rows    []BlockRow
		entries []SegmentEntry
	}{
		"nothing":         {row, nil},
		"no block":        {nil, []SegmentEntry{ok}},
		"too many blocks": {append(row, row...), []SegmentEntry{ok}},
		"another block":   {row, []SegmentEntry{{Ref: refOf("x"), Block: 1, Off: 64, Stored: 5, Raw: 5}}},
		"outside":         {row, []SegmentEntry{{Ref: refOf("x"), Off: 920, Stored: 5, Raw: 5}}},
		"two ways":        {row, []SegmentEntry{ok, {Ref: refOf("x"), Off: 64, Stored: 6, Raw: 6}}},
		"block's size":    {[]BlockRow{{digestOf("b"), 0, 10}}, []SegmentEntry{ok}},
	} {
		if b, err := EncodeSegment(0, c.rows, c.entries); err == nil {
			t.Errorf("%s: %d bytes", name, len(b))
		}
	}
	one, err := EncodeSegment(0, row, []SegmentEntry{ok})
	if err != nil {
		t.Fatal(err)
	}
	twice, err := EncodeSegment(0, row, []SegmentEntry{ok, ok})
	if err != nil || !bytes.Equal(one, twice) {
		t.Errorf("the same entry twice is not written once: %v", err)
	}
}

// A filter's fields say where Contains reads; none that a writer could put there may take it out of the fingerprints.
func TestFilterFieldsCannotReachOutside(t *testing.T) {
	rows, entries := goldenSegment()
	good, err := EncodeSegment(0, rows, entries)
	if err != nil {
		t.Fatal(err)
	}
	h, err := DecodeSegmentHeader(good)
	if err != nil {
		t.Fatal(err)
	}
	f := good[h.Filter:]
	length, countLength, count, n := le.Uint32(f[8:]), le.Uint32(f[12:]), le.Uint32(f[16:]), le.Uint32(f[20:])
	t.Logf("%d entries: %d segments of %d, %d fingerprints", h.Entries, count, length, n)
	for _, c := range [][4]uint32{
		{0, countLength, count, n}, {3, countLength, count, n}, {length * 2, countLength, count, n}, {length / 2, countLength, count, n},
		{1 << 31, countLength, count, n}, {length, countLength + 1, count, n}, {length, n, count, n}, {length, 0, count, n}, {length, 0xffffffff, count, n},
		{length, countLength, 0, n}, {length, countLength, count + 1, n}, {length, countLength, count, n - 1}, {length, 0, 0, n}, {1 << 31, 0, 0, 0}, {0, 0, 0, 0},
		{1, countLength, countLength, n}, {1, n - 1, n - 1, n}, {1 << 16, 1 << 16, 1 << 16, n},
	} {
		b := bytes.Clone(good)
		for i, v := range c {
			le.PutUint32(b[int(h.Filter)+8+4*i:], v)
		}
		sum := segmentSum(b[:SegmentHeaderSize], b[h.Fences:len(b)-SegmentTrailer])
		copy(b[len(b)-SegmentTrailer:], sum[:])
		m, err := DecodeSegmentMeta(h, b, b[h.Fences:])
		if err == nil {
			for i := range 10_000 {
				m.MayContain(digestOf(fmt.Sprint(i)))
			}
		}
		wantErr(t, fmt.Sprint("filter fields ", c), err, artifact.ErrDamaged)
	}
}

func TestZerosAreNoBlockAndNoSegment(t *testing.T) {
	for n := range 2 * PageSize {
		b := make([]byte, n)
		id := artifact.HashBytes(b)
		if _, _, err := DecodeBlock(id, b); !errors.Is(err, artifact.ErrDamaged) {
			t.Fatalf("%d zeros are a block: %v", n, err)
		}
		if _, err := DecodeSegment(id, b); !errors.Is(err, artifact.ErrDamaged) {
			t.Fatalf("%d zeros are a segment: %v", n, err)
		}
		for _, c := range goldenCBOR {
			if _, err := c.decode(b); !errors.Is(err, artifact.ErrDamaged) {
				t.Fatalf("%d zeros are a %s: %v", n, c.name, err)
			}
		}
		if n == BlockRowSize {
			if _, err := DecodeBlockRow(b); !errors.Is(err, artifact.ErrDamaged) {
				t.Fatal("zeros are a block row")
			}
		}
		if n == PageSize {
			if _, err := DecodePage(b); !errors.Is(err, artifact.ErrDamaged) {
				t.Fatal("zeros are a page")
			}
		}
		if _, err := DecodeEntries(b); !errors.Is(err, artifact.ErrDamaged) && !errors.Is(err, artifact.ErrUnsupported) {
			t.Fatalf("%d zeros are a directory", n)
		}
	}
}

// grown is a record as a later version may write it.
type grown struct {
	IntakeEnd
	More  string         `cbor:"more"`
	Extra map[string]any `cbor:"extra"`
}

func TestUnknownKeysAreIgnored(t *testing.T) {
	want := IntakeEnd{Intake: idOf(1), Nonce: idOf(2), Why: "x"}
	var got IntakeEnd
	if err := Unmarshal(marshal(t, grown{want, "y", map[string]any{"a": 1.5, "b": nil}}), &got); err != nil || got != want {
		t.Fatalf("%+v: %v", got, err)
	}
	entry := map[int]any{1: []byte("name"), 2: 6, 99: "later"}
	if page, err := DecodeDirPage(marshal(t, []any{entry})); err != nil || len(page) != 1 || string(page[0].Name) != "name" {
		t.Fatalf("%+v: %v", page, err)
	}
}

func TestOnlyTheDeterministicEncodingIsTaken(t *testing.T) {
	raw := func(parts ...any) []byte {
		var b []byte
		for _, p := range parts {
			switch v := p.(type) {
			case int:
				b = append(b, byte(v))
			case string:
				b = append(append(b, 0x60+byte(len(v))), v...)
			case []byte:
				b = append(append(b, 0x40+byte(len(v))), v...)
			}
		}
		return b
	}
	id := bytes.Repeat([]byte{1}, 16)
	for name, b := range map[string][]byte{
		"sorted":         raw(0xa3, "why", "x", "nonce", id, "intake", id), // the one that is right
		"not sorted":     raw(0xa3, "intake", id, "nonce", id, "why", "x"),
		"long integer":   raw(0xb8, 3, "why", "x", "nonce", id, "intake", id),
		"key twice":      raw(0xa4, "why", "x", "why", "x", "nonce", id, "intake", id),
		"other case":     raw(0xa3, "Why", "x", "nonce", id, "intake", id),
		"null":           raw(0xa3, "why", 0xf6, "nonce", id, "intake", id),
		"a key less":     raw(0xa2, "nonce", id, "intake", id),
		"short id":       raw(0xa3, "why", "x", "nonce", id[:15], "intake", id),
		"long id":        raw(0xa3, "why", "x", "nonce", append(slices.Clone(id), 1), "intake", id),
		"id as an array": raw(0xa3, "why", "x", "nonce", 0x82, 1, 1, "intake", id),
		"bytes for text": raw(0xa3, "why", []byte("x"), "nonce", id, "intake", id),
		"indefinite":     raw(0xbf, "why", "x", "nonce", id, "intake", id, 0xff),
		"tagged":         raw(0xc1, 0xa3, "why", "x", "nonce", id, "intake", id),
		"not UTF-8":      raw(0xa3, "why", "\xff", "nonce", id, "intake", id),
		"nothing":        nil,
		"only null":      {0xf6},
	} {
		var got IntakeEnd
		err := Unmarshal(b, &got)
		switch name {
		case "sorted":
			if again := marshal(t, IntakeEnd{idOf(1), idOf(1), "x"}); !bytes.Equal(again, b) {
				// the order is by encoded bytes: shorter keys first
				t.Fatalf("%x, want %x", again, b)
			}
			if err != nil {
				t.Error(err)
			}
		case "other case", "a key less": // an unknown key, and one that is not there: both are room to grow
			if name == "other case" && (err != nil || got.Why != "") {
				t.Errorf("%s: %v, %+v", name, err, got)
			}
		default:
			wantErr(t, name, err, artifact.ErrDamaged)
		}
	}
	var zero MapRoot
	wantErr(t, "short array", Unmarshal([]byte{0x82, 1, 0}, &zero), artifact.ErrDamaged)
}

// What an error says of a file with an odd name must not make a log that nobody can read.
func TestTextThatIsNotUTF8IsWrittenAsEscapes(t *testing.T) {
	why := "open /tmp/a\xffb\xc3(: denied"
	in := Damage{Objects: []DamagedObject{{Name: "blocks/\x80", Why: why}, {Name: strings.Repeat("ä", 40), Why: strings.Repeat("\xfe", 300)}}}
	b := marshal(t, in)
	var got Damage
	if err := Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := Damage{Objects: []DamagedObject{{Name: `blocks/\x80`, Why: `open /tmp/a\xffb\xc3(: denied`}, {Name: strings.Repeat("ä", 40), Why: strings.Repeat(`\xfe`, 300)}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if !utf8.ValidString(Text(why)) || Text("jövő") != "jövő" || Text("a\uFFFDb") != "a\uFFFDb" {
		t.Error("Text changes what needs no change, or leaves what does")
	}
	// byte strings are left alone, whatever their length and however deep they lie
	m := goldenManifest()
	m.Sources[0].Errors = append(m.Sources[0].Errors, "\xff")
	m.Sources[0].Gaps[0].Path = bytes.Repeat([]byte{0xff}, 70_000)
	b = marshal(t, m)
	back, err := DecodeManifest(artifact.HashBytes(b), b)
	if err != nil {
		t.Fatal(err)
	}
	m.Sources[0].Errors[1] = `\xff`
	if !reflect.DeepEqual(back, m) {
		t.Errorf("got %+v", back)
	}
}

func TestMapsAreStrict(t *testing.T) {
	page := func(span int64, ranges ...Range) error { _, err := DecodeMapPage(marshal(t, ranges), span); return err }
	zero := func(n int64) Range { return gapRange(source.Zero, n) }
	if err := page(30, dataRange("a", 10), dataRange("b", 10), zero(10)); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"too short":      page(30, dataRange("a", 10)),
		"too long":       page(30, dataRange("a", 10), zero(21)),
		"wraps":          page(30, zero(1<<62), gapRange(source.Untried, 1<<62), zero(1<<62), gapRange(source.Untried, 1<<62), zero(30)),
		"negative":       page(30, zero(-1), gapRange(source.Untried, 31)),
		"empty range":    page(30, zero(0), gapRange(source.Untried, 30)),
		"not joined":     page(30, zero(10), zero(20)),
		"no reference":   page(30, Range{Kind: source.Data, Len: 30}),
		"short one":      page(30, Range{Kind: source.Data, Len: 30, Ref: make([]byte, 33)}),
		"zero one":       page(30, Range{Kind: source.Data, Len: 30, Ref: make([]byte, 34)}),
		"too many":       page(30, Range{Kind: source.Zero, Len: 30, Ref: make([]byte, 34)}),
		"large chunk":    page(9<<20, dataRange("a", 9<<20)),
		"all zero":       page(MapPageSpan, zero(MapPageSpan)),
		"larger than is": page(MapPageSpan+1, zero(MapPageSpan), gapRange(source.Untried, 1)),
		"nothing":        page(0),
		"node without":   func() error { _, err := DecodeMapNode(marshal(t, []*artifact.Ref{nil, nil}), 2); return err }(),
		"node length":    func() error { _, err := DecodeMapNode(marshal(t, goldenMapNode), 2); return err }(),
		"node of zero":   func() error { _, err := DecodeMapNode(marshal(t, []*artifact.Ref{{}}), 1); return err }(),
		"root size":      func() error { _, err := DecodeMapRoot(marshal(t, MapRoot{Version: 1, Size: -1})); return err }(),
		"root nodes":     func() error { _, err := DecodeMapRoot(marshal(t, MapRoot{Version: 1, Size: 1})); return err }(),
		"root too large": func() error { _, err := DecodeMapRoot(marshal(t, MapRoot{Version: 1, Size: 1<<63 - 1})); return err }(),
	} {
		wantErr(t, name, err, artifact.ErrDamaged)
	}
	wantErr(t, "kind", page(30, gapRange(9, 30)), artifact.ErrUnsupported)
	_, err := DecodeMapRoot(marshal(t, MapRoot{Version: 2}))
	wantErr(t, "root version", err, artifact.ErrUnsupported)
}

func TestAppendRangeJoinsWithoutTouchingWhatIsShared(t *testing.T) {
	a := AppendRange(nil, gapRange(source.Zero, 10))
	b := AppendRange(a, gapRange(source.Zero, 5))
	c := AppendRange(b, dataRange("x", 1))
	c = AppendRange(c, dataRange("x", 1))
	if len(a) != 1 || a[0].Len != 10 || len(b) != 1 || b[0].Len != 15 || len(c) != 3 {
		t.Fatalf("%v %v %v", a, b, c)
	}
}

func TestDirectoriesAreStrict(t *testing.T) {
	one := func(change func(e *Entry)) error {
		e := Entry{Name: []byte("n"), Type: source.Regular, Size: 3, Inline: []byte("abc")}
		change(&e)
		_, err := DecodeDirPage(marshal(t, []Entry{e}))
		return err
	}
	if err := one(func(*Entry) {}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]func(e *Entry){
		"no name":             func(e *Entry) { e.Name = nil },
		"dot":                 func(e *Entry) { e.Name = []byte(".") },
		"dots":                func(e *Entry) { e.Name = []byte("..") },
		"slash":               func(e *Entry) { e.Name = []byte("../x") },
		"zero byte":           func(e *Entry) { e.Name = []byte("a\x00") },
		"long name":           func(e *Entry) { e.Name = bytes.Repeat([]byte("a"), 4097) },
		"mode":                func(e *Entry) { e.Mode = 0o10000 },
		"size":                func(e *Entry) { e.Size = -1 },
		"nanoseconds":         func(e *Entry) { e.MNsec = 1e9 },
		"inline of another":   func(e *Entry) { e.Size = 4 },
		"long inline":         func(e *Entry) { e.Inline = make([]byte, InlineMax+1); e.Size = InlineMax + 1 },
		"content twice":       func(e *Entry) { e.Map = refAt("x") },
		"no content":          func(e *Entry) { e.Inline = nil },
		"content of a pipe":   func(e *Entry) { e.Type = source.FIFO },
		"linked directory":    func(e *Entry) { *e = Entry{Name: e.Name, Type: source.Dir, Link: []byte("x")} },
		"link with content":   func(e *Entry) { e.Link = []byte("x") },
		"directory of a file": func(e *Entry) { e.Dir = refAt("x") },
		"root of nothing":     func(e *Entry) { e.Paged = true },
		"unreadable":          func(e *Entry) { e.Unreadable = 4 },
		"zero reference":      func(e *Entry) { e.Inline, e.Map = nil, &artifact.Ref{} },
		"many ranges": func(e *Entry) {
			e.Inline, e.Size = nil, RangesInEntry+1
			for range RangesInEntry + 1 {
				e.Ranges = append(e.Ranges, dataRange("x", 1))
			}
		},
	} {
		wantErr(t, name, one(c), artifact.ErrDamaged)
	}
	if err := one(func(e *Entry) { *e = Entry{Name: e.Name, Type: source.BlkDev, Major: 8, Link: []byte("x")} }); err != nil {
		t.Errorf("a device that is a hard link: %v", err)
	}
	wantErr(t, "type", one(func(e *Entry) { e.Type = 8 }), artifact.ErrUnsupported)
	wantErr(t, "no type", one(func(e *Entry) { *e = Entry{Name: []byte("name")} }), artifact.ErrUnsupported)
	dev := func(name string) Entry { return Entry{Name: []byte(name), Type: source.FIFO} }
	page := func(e ...Entry) error { _, err := DecodeDirPage(marshal(t, e)); return err }
	wantErr(t, "not sorted", page(dev("b"), dev("a")), artifact.ErrDamaged)
	wantErr(t, "twice", page(dev("a"), dev("a")), artifact.ErrDamaged)
	wantErr(t, "nothing", page(), artifact.ErrDamaged)
	big := dev("a")
	big.Xattrs = []Xattr{{Name: []byte("x"), Value: make([]byte, DirPageSize)}}
	if err := page(big); err != nil {
		t.Errorf("a large entry of its own page: %v", err)
	}
	wantErr(t, "large page", page(big, dev("b")), artifact.ErrDamaged)
	root := func(r ...DirPageRef) error { _, err := DecodeDirRoot(marshal(t, r)); return err }
	wantErr(t, "one page", root(goldenDirRoot[0]), artifact.ErrDamaged)
	wantErr(t, "pages not sorted", root(goldenDirRoot[1], goldenDirRoot[0]), artifact.ErrDamaged)
	_, err := DecodeTreeLog(marshal(t, slices.Repeat(goldenTreeLog, TreeLogRows/2+1)))
	wantErr(t, "long tree log", err, artifact.ErrDamaged)
	_, err = DecodeTreeLog(marshal(t, []SeenFile{{Path: []byte("x")}}))
	wantErr(t, "row without content", err, artifact.ErrDamaged)
	if _, err = DecodeTreeLog(marshal(t, slices.Repeat(goldenTreeLog, TreeLogRows/2))); err != nil {
		t.Error(err)
	}
}

func TestManifestIsStrict(t *testing.T) {
	for name, c := range map[string]func(m *Manifest){
		"root and top":  func(m *Manifest) { m.Sources[0].Root = refAt("x") },
		"neither":       func(m *Manifest) { m.Sources[1].Root = nil },
		"top is a file": func(m *Manifest) { m.Sources[0].Top = &Entry{Type: source.FIFO} },
	} {
		m := goldenManifest()
		c(m)
		b := marshal(t, m)
		_, err := DecodeManifest(artifact.HashBytes(b), b)
		wantErr(t, name, err, artifact.ErrDamaged)
	}
	m := goldenManifest()
	m.Format = 2
	b := marshal(t, m)
	_, err := DecodeManifest(artifact.HashBytes(b), b)
	wantErr(t, "format", err, artifact.ErrUnsupported)
	_, err = DecodeManifest(digestOf("x"), b)
	wantErr(t, "another name", err, artifact.ErrDamaged)
}

func TestExpandIsBoundedByWhatTheDirectorySays(t *testing.T) {
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Expand(make([]byte, 0, 1000), Zstd, zstdOfAs, 200)
	if err != nil || string(got) != strings.Repeat("A", 200) || cap(got) != 1000 {
		t.Fatalf("%q, %d: %v", got, cap(got), err)
	}
	for _, raw := range []uint32{0, 1, 199, 201, 1 << 20, artifact.MaxSize, artifact.MaxSize + 1, 0xffffffff} {
		_, err := d.Expand(nil, Zstd, zstdOfAs, raw)
		wantErr(t, fmt.Sprint(raw), err, artifact.ErrDamaged)
	}
	for n := range zstdOfAs {
		_, err := d.Expand(nil, Zstd, zstdOfAs[:n], 200)
		wantErr(t, fmt.Sprint("cut to ", n), err, artifact.ErrDamaged)
	}
	_, err = d.Expand(nil, Plain, []byte("abc"), 4)
	wantErr(t, "plain", err, artifact.ErrDamaged)
	_, err = d.Expand(nil, 2, []byte("abc"), 3)
	wantErr(t, "codec", err, artifact.ErrUnsupported)
}

func TestHostileCountsAllocateNothing(t *testing.T) {
	var hostile [][]byte
	for _, n := range []uint64{1 << 16, 1 << 20, 1<<20 + 1, 1 << 31, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		b := make([]byte, 9, 1<<20)
		b[0] = 0x9b
		for i := range 8 {
			b[1+i] = byte(n >> (56 - 8*i))
		}
		hostile = append(hostile, b, b[:1<<20])
	}
	for _, b := range hostile {
		for _, c := range goldenCBOR {
			if _, err := c.decode(b); !errors.Is(err, artifact.ErrDamaged) {
				t.Errorf("%s: %x: %v", c.name, b[:9], err)
			}
		}
	}
	nulls := append([]byte{0x9a, 0, 0x0f, 0xff, 0xfb}, bytes.Repeat([]byte{0xf6}, 0xffffb)...)
	if n := testing.AllocsPerRun(1, func() {
		_, err := DecodeDirPage(nulls)
		wantErr(t, "a million nulls", err, artifact.ErrDamaged)
	}); n > 100 {
		t.Errorf("%v allocations", n)
	}
}

// TestObjectsUnderAnotherName: an object that is whole is not what another name says.
func TestObjectsUnderAnotherName(t *testing.T) {
	other := artifact.HashBytes([]byte("other"))
	_, _, err := DecodeBlock(other, goldenBlock().Seal(0))
	wantErr(t, "block", err, artifact.ErrDamaged)
	rows, entries := goldenSegment()
	segment, err := EncodeSegment(0, rows, entries)
	if err != nil {
		t.Fatal(err)
	}
	_, err = DecodeSegment(other, segment)
	wantErr(t, "segment", err, artifact.ErrDamaged)
}

// TestBlockEndsAtItsDirectory: between the last artifact and the directory there is nothing, whatever the header says.
func TestBlockEndsAtItsDirectory(t *testing.T) {
	good := bytes.Clone(goldenBlock().Seal(0))
	at := le.Uint64(good[40:])
	dir := good[at : len(good)-BlockTrailer]
	for _, n := range []int{1, 8, 4096} {
		b := slices.Concat(good[:at], make([]byte, n), good[at:])
		b = rehead(b, BlockHeaderSize, dir, func(h []byte) { le.PutUint64(h[40:], at+uint64(n)) })
		_, _, err := DecodeBlock(artifact.HashBytes(b), b)
		wantErr(t, fmt.Sprintf("%d bytes too many", n), err, artifact.ErrDamaged)
	}
}
