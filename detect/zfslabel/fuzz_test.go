package zfslabel

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"runtime"
	"testing"
)

// packedXDR and packedNative write lists as ZFS would, for seeds and for comparing the two encodings.
func packedXDR(l List) []byte { return append([]byte{1, 1, 0, 0}, xdrList(l)...) }

func xdrList(l List) []byte {
	be := binary.BigEndian
	out := be.AppendUint32(be.AppendUint32(nil, 0), 1)
	text := func(b []byte, s string) []byte {
		b = append(be.AppendUint32(b, uint32(len(s))), s...)
		return append(b, make([]byte, -len(s)&3)...)
	}
	for _, p := range l {
		body := text(nil, p.Name)
		body = be.AppendUint32(body, uint32(p.Type))
		n, data := 1, []byte(nil)
		switch v := p.Value.(type) {
		case bool:
			if p.Type == TypeBoolean {
				n = 0
			} else if v {
				data = be.AppendUint32(nil, 1)
			} else {
				data = be.AppendUint32(nil, 0)
			}
		case uint64:
			data = be.AppendUint64(nil, v)
		case int64:
			data = be.AppendUint32(nil, uint32(int32(v)))
		case string:
			data = text(nil, v)
		case []uint64:
			n, data = len(v), be.AppendUint32(nil, uint32(len(v)))
			for _, x := range v {
				data = be.AppendUint64(data, x)
			}
		case []string:
			n = len(v)
			for _, x := range v {
				data = text(data, x)
			}
		case List:
			data = xdrList(v)
		case []List:
			n = len(v)
			for _, x := range v {
				data = append(data, xdrList(x)...)
			}
		}
		body = append(be.AppendUint32(body, uint32(n)), data...)
		out = be.AppendUint32(out, uint32(len(body)+8))
		out = be.AppendUint32(out, uint32(len(body)+8)) // not looked at, but not zero
		out = append(out, body...)
	}
	return append(out, make([]byte, 8)...)
}

func packedNative(l List, order binary.AppendByteOrder) []byte {
	head := []byte{0, 1, 0, 0}
	if order.String() == "BigEndian" {
		head[1] = 0
	}
	head = order.AppendUint32(order.AppendUint32(head, 0), 1)
	return append(head, nativeList(l, order)...)
}

func nativeList(l List, order binary.AppendByteOrder) []byte {
	var out []byte
	for _, p := range l {
		n, data, behind := 1, []byte(nil), []byte(nil)
		switch v := p.Value.(type) {
		case bool:
			if p.Type == TypeBoolean {
				n = 0
			} else if data = order.AppendUint32(nil, 0); v {
				data = order.AppendUint32(nil, 1)
			}
		case uint64:
			data = order.AppendUint64(nil, v)
		case int64:
			data = order.AppendUint32(nil, uint32(int32(v)))
		case string:
			data = append([]byte(v), 0)
		case []uint64:
			n = len(v)
			for _, x := range v {
				data = order.AppendUint64(data, x)
			}
		case []string:
			n, data = len(v), make([]byte, 8*len(v))
			for _, x := range v {
				data = append(append(data, x...), 0)
			}
		case List:
			data, behind = make([]byte, 24), nativeList(v, order)
		case []List:
			n, data = len(v), make([]byte, 32*len(v))
			for _, x := range v {
				behind = append(behind, nativeList(x, order)...)
			}
		}
		value := (16 + len(p.Name) + 1 + 7) &^ 7
		size := (value + len(data) + 7) &^ 7
		pair := order.AppendUint32(nil, uint32(size))
		pair = order.AppendUint16(pair, uint16(len(p.Name)+1))
		pair = order.AppendUint16(pair, 0)
		pair = order.AppendUint32(order.AppendUint32(pair, uint32(n)), uint32(p.Type))
		pair = append(append(pair, p.Name...), 0)
		pair = append(pair, make([]byte, value-len(pair))...)
		pair = append(pair, data...)
		pair = append(pair, make([]byte, size-len(pair))...)
		out = append(append(out, pair...), behind...)
	}
	return append(out, 0, 0, 0, 0)
}

func everything() List {
	return List{
		{"yes", TypeBoolean, true}, {"flag", TypeBooleanValue, true}, {"n", TypeUint64, uint64(math.MaxUint64)}, {"small", TypeInt32, int64(-5)},
		{"text", TypeString, "a text"}, {"numbers", TypeUint64s, []uint64{1, 2, 3}}, {"texts", TypeStrings, []string{"one", "", "three"}},
		{"list", TypeList, List{{"in", TypeUint64, uint64(7)}, {"deeper", TypeList, List{{"x", TypeString, "y"}}}}},
		{"lists", TypeLists, []List{{{"a", TypeUint64, uint64(1)}}, {{"b", TypeString, "2"}}}}, {"after", TypeUint64, uint64(9)},
	}
}

func TestBothEncodingsSayTheSame(t *testing.T) {
	want, err := json.Marshal(everything())
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"xdr": packedXDR(everything()), "native, little": packedNative(everything(), binary.LittleEndian), "native, big": packedNative(everything(), binary.BigEndian),
	} {
		l, err := Unpack(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := json.Marshal(l); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, want)
		}
		for n := range len(data) { // what breaks off is refused, wherever it does
			if _, err := Unpack(data[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes are a list", name, n, len(data))
			}
		}
	}
}

func TestHostileListsAreRefused(t *testing.T) {
	deep := List{{"x", TypeUint64, uint64(1)}}
	for range maxDepth + 1 {
		deep = List{{"l", TypeList, deep}}
	}
	var many List
	for range maxPairs + 1 {
		many = append(many, Pair{"", TypeBoolean, true})
	}
	count := packedXDR(List{{"numbers", TypeUint64s, []uint64{1, 2}}})
	binary.BigEndian.PutUint32(count[len(count)-8-16-4:], 1<<31)
	binary.BigEndian.PutUint32(count[len(count)-8-16-8:], 1<<31)
	twice := packedXDR(List{{"numbers", TypeUint64s, []uint64{1, 2}}})
	binary.BigEndian.PutUint32(twice[len(twice)-8-16-4:], 1)
	for name, data := range map[string][]byte{
		"two counts that differ": twice,
		"deep":                   packedXDR(deep), "deep, native": packedNative(deep, binary.LittleEndian),
		"many": packedXDR(many), "many, native": packedNative(many, binary.BigEndian),
		"a count of two thousand million": count,
		"no encoding":                     {7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"no byte order":                   {1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	} {
		if l, err := Unpack(data); err == nil {
			t.Errorf("%s: %d entries", name, len(l))
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(packedXDR(everything()))
	f.Add(packedNative(everything(), binary.LittleEndian))
	f.Add(packedNative(everything(), binary.BigEndian))
	for _, name := range []string{"mirror-a", "draid-0", "tank-spare"} {
		f.Add(one(f, name).labels[0][listAt:][:8192])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > listSize {
			return // no label has more
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		l, err := Unpack(data)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
			t.Errorf("%d bytes for a list of %d", used, len(data))
		}
		if err != nil {
			return
		}
		if text, err := json.Marshal(l); err != nil || !json.Valid(text) {
			t.Errorf("%v: %s", err, text)
		}
		if c, err := Interpret(l); err == nil {
			Assemble([]Seen{{Device: "x", Config: c, Labels: [4]Verdict{Good}}, {Device: "y", Config: c, Labels: [4]Verdict{Good}}})
		}
	})
}

// A hostile disk may seal its labels well: the fuzzer's list and ring get right checksums, so that it comes past them.
func FuzzDevice(f *testing.F) {
	m := one(f, "mirror-a")
	list, ub := m.labels[0][listAt:][:4096], m.labels[0][ringAt:][:4096]
	f.Add(list, ub, true, uint16(0))
	f.Add(one(f, "raidz-0").labels[0][listAt:][:8192], ub, false, uint16(700))
	f.Add(packedXDR(everything()), make([]byte, 1024), false, uint16(1))
	f.Fuzz(func(t *testing.T, list, ub []byte, big bool, extra uint16) {
		var order binary.ByteOrder = binary.LittleEndian
		if big {
			order = binary.BigEndian
		}
		m := &image{size: MinSize + int64(extra)*512}
		for i, at := range Offsets(m.size) {
			l := make([]byte, labelSize)
			copy(l[listAt:ringAt-eckSize], list)
			seal(l[listAt:][:listSize], at+listAt, order)
			copy(l[ringAt:], ub)
			seal(l[ringAt:][:1024], at+ringAt, order)
			m.labels[i] = l
		}
		d := Read(m, m.size)
		s := d.Seen("x")
		if text, err := json.Marshal(s); err != nil {
			t.Errorf("%v: %s", err, text)
		}
		words(Assemble([]Seen{s, s}))
		Look(m, m.size)
	})
}
