package zfslabel

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// What a hostile label may ask for. A label of ZFS's own stays far below each of them.
const (
	maxDepth = 16     // lists within lists
	maxPairs = 16_384 // pairs in all lists of one label
)

// ErrList is the cause of every refusal of a packed list.
var ErrList = errors.New("not a list that ZFS wrote")

// Type is the type of a pair's value, by ZFS's own numbers.
type Type int32

// The types.
const (
	TypeBoolean      Type = 1 // the name alone
	TypeByte         Type = 2
	TypeInt16        Type = 3
	TypeUint16       Type = 4
	TypeInt32        Type = 5
	TypeUint32       Type = 6
	TypeInt64        Type = 7
	TypeUint64       Type = 8
	TypeString       Type = 9
	TypeBytes        Type = 10
	TypeInt16s       Type = 11
	TypeUint16s      Type = 12
	TypeInt32s       Type = 13
	TypeUint32s      Type = 14
	TypeInt64s       Type = 15
	TypeUint64s      Type = 16
	TypeStrings      Type = 17
	TypeHrtime       Type = 18
	TypeList         Type = 19
	TypeLists        Type = 20
	TypeBooleanValue Type = 21
	TypeInt8         Type = 22
	TypeUint8        Type = 23
	TypeBooleans     Type = 24
	TypeInt8s        Type = 25
	TypeUint8s       Type = 26
	TypeDouble       Type = 27
)

// Pair is one entry of a list. Value is one of: bool, int64, uint64, float64, string, []byte, []bool, []int64, []uint64,
// []string, List, []List: numbers are widened to 64 bits.
type Pair struct {
	Name  string
	Type  Type
	Value any
}

// List is ZFS's nvlist: names and values, in the order in which they were packed.
type List []Pair

// Get finds a value by its name; nil where there is none. Where a name stands twice, the first counts.
func (l List) Get(name string) any {
	for _, p := range l {
		if p.Name == name {
			return p.Value
		}
	}
	return nil
}

// Uint64 is a number of the list, and whether it is there.
func (l List) Uint64(name string) (uint64, bool) {
	n, ok := l.Get(name).(uint64)
	return n, ok
}

// String is a text of the list; empty where there is none.
func (l List) String(name string) string {
	s, _ := l.Get(name).(string)
	return s
}

// MarshalJSON gives an object in the order of the list. A number that a program which counts in float64 would spoil
// stands as text.
func (l List) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, p := range l {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(p.Name)
		if err != nil {
			return nil, err
		}
		v := p.Value
		switch x := v.(type) {
		case float64:
			if math.IsNaN(x) || math.IsInf(x, 0) {
				v = fmt.Sprint(x)
			}
		case uint64:
			if x > 1<<53 {
				v = fmt.Sprint(x)
			}
		}
		value, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Unpack reads a packed list: of either encoding, and of either byte order.
func Unpack(data []byte) (List, error) {
	if len(data) < 4 {
		return nil, fmt.Errorf("%w: %d bytes are too few", ErrList, len(data))
	}
	if data[1] > 1 {
		return nil, fmt.Errorf("%w: byte order %d is neither 0 nor 1", ErrList, data[1])
	}
	var order binary.ByteOrder = binary.BigEndian
	if data[1] == 1 {
		order = binary.LittleEndian
	}
	budget := maxPairs
	switch data[0] {
	case 0:
		d := &native{cursor{data[4:], order, &budget}}
		return d.whole()
	case 1:
		d := &xdr{cursor{data[4:], binary.BigEndian, &budget}} // XDR is big-endian, whoever wrote it
		return d.list(0)
	}
	return nil, fmt.Errorf("%w: encoding %d is neither native nor XDR", ErrList, data[0])
}

// cursor takes values off the front of bytes. What it was asked for and did not find is an error, never a panic.
type cursor struct {
	rest   []byte
	order  binary.ByteOrder
	budget *int // of pairs
}

func (c *cursor) take(n int) ([]byte, error) {
	if n < 0 || n > len(c.rest) {
		return nil, fmt.Errorf("%w: it breaks off", ErrList)
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b, nil
}

func (c *cursor) u32() (uint32, error) {
	b, err := c.take(4)
	if err != nil {
		return 0, err
	}
	return c.order.Uint32(b), nil
}

func (c *cursor) u64() (uint64, error) {
	b, err := c.take(8)
	if err != nil {
		return 0, err
	}
	return c.order.Uint64(b), nil
}

func (c *cursor) onePair(depth int) error {
	if *c.budget--; *c.budget < 0 {
		return fmt.Errorf("%w: more than %d entries", ErrList, maxPairs)
	}
	if depth >= maxDepth {
		return fmt.Errorf("%w: lists within lists, more than %d deep", ErrList, maxDepth)
	}
	return nil
}

// width says how many bytes one element of a number type has in memory; 0 for what is no number.
func (t Type) width() int {
	switch t {
	case TypeByte, TypeInt8, TypeUint8, TypeBytes, TypeInt8s, TypeUint8s:
		return 1
	case TypeInt16, TypeUint16, TypeInt16s, TypeUint16s:
		return 2
	case TypeInt32, TypeUint32, TypeInt32s, TypeUint32s, TypeBooleanValue, TypeBooleans:
		return 4
	case TypeInt64, TypeUint64, TypeInt64s, TypeUint64s, TypeHrtime, TypeDouble:
		return 8
	}
	return 0
}

// array says whether values of the type are several.
func (t Type) array() bool {
	switch t {
	case TypeBytes, TypeInt16s, TypeUint16s, TypeInt32s, TypeUint32s, TypeInt64s, TypeUint64s, TypeBooleans, TypeInt8s, TypeUint8s:
		return true
	}
	return false
}

func (t Type) signed() bool {
	switch t {
	case TypeInt8, TypeInt16, TypeInt32, TypeInt64, TypeHrtime, TypeInt8s, TypeInt16s, TypeInt32s, TypeInt64s:
		return true
	}
	return false
}

// signExtend widens the lowest width bytes of n.
func signExtend(n uint64, width int) int64 {
	shift := 64 - 8*width
	return int64(n<<shift) >> shift
}

// numbers makes the value of a number type of its elements, which raw gives one by one.
func numbers(t Type, n int, raw func() (uint64, error)) (any, error) {
	w := t.width()
	var bools []bool
	var signed []int64
	var unsigned []uint64
	for range n {
		u, err := raw()
		if err != nil {
			return nil, err
		}
		switch {
		case t == TypeBooleanValue || t == TypeBooleans:
			bools = append(bools, u != 0)
		case t.signed():
			signed = append(signed, signExtend(u, w))
		default:
			unsigned = append(unsigned, u&(^uint64(0)>>(64-8*w)))
		}
	}
	if t.array() {
		switch {
		case t == TypeBooleans:
			return bools, nil
		case t.signed():
			return signed, nil
		}
		return unsigned, nil
	}
	switch {
	case t == TypeDouble:
		return math.Float64frombits(unsigned[0]), nil
	case t == TypeBooleanValue:
		return bools[0], nil
	case t.signed():
		return signed[0], nil
	}
	return unsigned[0], nil
}

// xdr is the encoding that every label has.
type xdr struct{ cursor }

func (d *xdr) list(depth int) (List, error) {
	if _, err := d.take(8); err != nil { // version and flags
		return nil, err
	}
	var l List
	for {
		encoded, err := d.u32()
		if err != nil {
			return nil, err
		}
		decoded, err := d.u32()
		if err != nil {
			return nil, err
		}
		if decoded == 0 {
			return l, nil
		}
		if err := d.onePair(depth); err != nil {
			return nil, err
		}
		if encoded < 8 {
			return nil, fmt.Errorf("%w: an entry of %d bytes", ErrList, encoded)
		}
		body, err := d.take(int(encoded) - 8)
		if err != nil {
			return nil, err
		}
		in := &xdr{cursor{body, d.order, d.budget}}
		p, err := in.pair(depth)
		if err != nil {
			return nil, err
		}
		l = append(l, p)
	}
}

func (d *xdr) text() (string, error) {
	n, err := d.u32()
	if err != nil {
		return "", err
	}
	if n > uint32(len(d.rest)) {
		return "", fmt.Errorf("%w: a text of %d bytes", ErrList, n)
	}
	b, err := d.take(int(n+3) &^ 3)
	if err != nil {
		return "", err
	}
	b = b[:n]
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b), nil
}

func (d *xdr) pair(depth int) (Pair, error) {
	var p Pair
	var err error
	if p.Name, err = d.text(); err != nil {
		return p, err
	}
	t, err := d.u32()
	if err != nil {
		return p, err
	}
	n, err := d.u32()
	if err != nil {
		return p, err
	}
	p.Type = Type(t)
	if p.Value, err = d.value(p.Type, n, depth); err != nil {
		return p, fmt.Errorf("%q: %w", p.Name, err)
	}
	return p, nil
}

func (d *xdr) value(t Type, n uint32, depth int) (any, error) {
	switch {
	case t == TypeBoolean:
		return true, nil
	case t == TypeString:
		return d.text()
	case t == TypeList:
		return d.list(depth + 1)
	case t == TypeBytes:
		b, err := d.take(int(min(n, math.MaxInt32)))
		return bytes.Clone(b), err
	case t == TypeStrings:
		var all []string
		for range n {
			s, err := d.text()
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
		return all, nil
	case t == TypeLists:
		var all []List
		for range n {
			l, err := d.list(depth + 1)
			if err != nil {
				return nil, err
			}
			all = append(all, l)
		}
		return all, nil
	case t.width() == 0:
		return nil, fmt.Errorf("%w: no such type as %d", ErrList, t)
	case t.array():
		if n > 0 { // the count stands there a second time
			again, err := d.u32()
			if err != nil {
				return nil, err
			}
			if again != n {
				return nil, fmt.Errorf("%w: %d values, or %d", ErrList, n, again)
			}
		}
	case n != 1:
		return nil, fmt.Errorf("%w: %d values instead of one", ErrList, n)
	}
	if t.width() == 8 {
		return numbers(t, int(min(n, math.MaxInt32)), d.u64)
	}
	return numbers(t, int(min(n, math.MaxInt32)), func() (uint64, error) { // four bytes are the least that XDR has
		u, err := d.u32()
		return uint64(u), err
	})
}

// native is what memory looked like on the machine that wrote it. Labels do not have it; other files of ZFS may.
type native struct{ cursor }

func (d *native) whole() (List, error) {
	if _, err := d.take(8); err != nil { // version and flags
		return nil, err
	}
	return d.list(0)
}

// list reads pairs up to four zero bytes. An embedded list follows the pair that holds it, without a header of its own.
func (d *native) list(depth int) (List, error) {
	var l List
	for {
		size, err := d.u32()
		if err != nil {
			return nil, err
		}
		if size == 0 {
			return l, nil
		}
		if err := d.onePair(depth); err != nil {
			return nil, err
		}
		if size < 16 {
			return nil, fmt.Errorf("%w: an entry of %d bytes", ErrList, size)
		}
		body, err := d.take(int(min(size, math.MaxInt32)) - 4)
		if err != nil {
			return nil, err
		}
		p, err := d.pair(body, depth)
		if err != nil {
			return nil, err
		}
		l = append(l, p)
	}
}

// pair reads an entry. body is all of it but its size.
func (d *native) pair(body []byte, depth int) (Pair, error) {
	var p Pair
	nameSize := int(int16(d.order.Uint16(body)))
	n := d.order.Uint32(body[4:])
	p.Type = Type(d.order.Uint32(body[8:]))
	if nameSize < 1 || 12+nameSize > len(body) || body[12+nameSize-1] != 0 {
		return p, fmt.Errorf("%w: a name of %d bytes", ErrList, nameSize)
	}
	p.Name = upToZero(body[12 : 12+nameSize])
	at := (16+nameSize+7)&^7 - 4 // values are aligned to eight bytes, counted from the entry's size
	in := &native{cursor{body[min(at, len(body)):], d.order, d.budget}}
	v, err := d.value(in, p.Type, n, depth)
	if err != nil {
		return p, fmt.Errorf("%q: %w", p.Name, err)
	}
	p.Value = v
	return p, nil
}

// value reads the value that stands in an entry; lists stand behind it.
func (d *native) value(in *native, t Type, n uint32, depth int) (any, error) {
	switch {
	case t == TypeBoolean:
		return true, nil
	case t == TypeString:
		return upToZero(in.rest), nil
	case t == TypeList:
		return d.list(depth + 1)
	case t == TypeBytes:
		b, err := in.take(int(min(n, math.MaxInt32)))
		return bytes.Clone(b), err
	case t == TypeStrings:
		if uint64(n)*9 > uint64(len(in.rest)) { // a pointer and a zero byte for each
			return nil, fmt.Errorf("%w: %d texts", ErrList, n)
		}
		in.rest = in.rest[8*n:]
		var all []string
		for range n {
			s := upToZero(in.rest)
			all = append(all, s)
			in.rest = in.rest[min(len(s)+1, len(in.rest)):]
		}
		return all, nil
	case t == TypeLists:
		if uint64(n)*32 > uint64(len(in.rest)) { // a pointer and a header for each
			return nil, fmt.Errorf("%w: %d lists", ErrList, n)
		}
		var all []List
		for range n {
			l, err := d.list(depth + 1)
			if err != nil {
				return nil, err
			}
			all = append(all, l)
		}
		return all, nil
	case t.width() == 0:
		return nil, fmt.Errorf("%w: no such type as %d", ErrList, t)
	case !t.array() && n != 1:
		return nil, fmt.Errorf("%w: %d values instead of one", ErrList, n)
	}
	w := t.width()
	return numbers(t, int(min(n, math.MaxInt32)), func() (uint64, error) {
		b, err := in.take(w)
		if err != nil {
			return 0, err
		}
		switch w {
		case 1:
			return uint64(b[0]), nil
		case 2:
			return uint64(d.order.Uint16(b)), nil
		case 4:
			return uint64(d.order.Uint32(b)), nil
		}
		return d.order.Uint64(b), nil
	})
}

func upToZero(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
