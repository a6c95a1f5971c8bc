// Package mapfile reads and writes the map files of GNU ddrescue, so that a rescue begun with the one program goes on with the other. Its Map
// is also what the passes over a disk are planned on.
package mapfile

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Status is what is known of a block: the character that stands for it in a file.
type Status byte

// The statuses of blocks.
const (
	NonTried   Status = '?'
	NonTrimmed Status = '*' // a read of it as a whole failed
	NonScraped Status = '/' // both its ends are bad
	Bad        Status = '-'
	Finished   Status = '+'
)

func (s Status) valid() bool {
	switch s {
	case NonTried, NonTrimmed, NonScraped, Bad, Finished:
		return true
	}
	return false
}

// Block is a run of bytes of one status.
type Block struct {
	Pos, Size int64
	Status    Status
}

// End is the offset behind the block.
func (b Block) End() int64 { return b.Pos + b.Size }

// Map says of every byte from the first block to the last what is known of it. Blocks join, and neighbours differ.
type Map struct {
	Comments []string // heading lines without the #
	Pos      int64    // where reading is
	Phase    byte     // ? * / - copying to retrying, + finished, F and G as ddrescue has them
	Pass     int      // within the phase, from 1
	Blocks   []Block
}

// New is a map of which nothing was tried.
func New(size int64) *Map {
	m := &Map{Phase: '?', Pass: 1}
	if size > 0 {
		m.Blocks = []Block{{0, size, NonTried}}
	}
	return m
}

// End is the offset behind the last block.
func (m *Map) End() int64 {
	if len(m.Blocks) == 0 {
		return 0
	}
	return m.Blocks[len(m.Blocks)-1].End()
}

// Sum is how many bytes have a status.
func (m *Map) Sum(s Status) (n int64) {
	for _, b := range m.Blocks {
		if b.Status == s {
			n += b.Size
		}
	}
	return n
}

// Find is the number of the block that holds off, or how many blocks there are if none does.
func (m *Map) Find(off int64) int {
	i, exact := slices.BinarySearchFunc(m.Blocks, off, func(b Block, off int64) int {
		switch {
		case b.Pos > off:
			return 1
		case b.Pos < off:
			return -1
		}
		return 0
	})
	if !exact && i > 0 && m.Blocks[i-1].End() > off {
		i--
	}
	return i
}

// Mark gives n bytes at off a status. What lies beyond the map's ends is left out.
func (m *Map) Mark(off, n int64, s Status) {
	if len(m.Blocks) == 0 {
		return
	}
	end := min(off+n, m.End())
	if off = max(off, m.Blocks[0].Pos); off >= end {
		return
	}
	i, j := m.Find(off), m.Find(end-1)
	first, last := m.Blocks[i], m.Blocks[j]
	var buf [5]Block
	repl := buf[:0]
	put := func(b Block) {
		if k := len(repl); b.Size > 0 && k > 0 && repl[k-1].Status == b.Status {
			repl[k-1].Size += b.Size
		} else if b.Size > 0 {
			repl = append(repl, b)
		}
	}
	if i > 0 {
		i--
		put(m.Blocks[i])
	}
	put(Block{first.Pos, off - first.Pos, first.Status})
	put(Block{off, end - off, s})
	put(Block{end, last.End() - end, last.Status})
	if j+1 < len(m.Blocks) {
		j++
		put(m.Blocks[j])
	}
	m.Blocks = slices.Replace(m.Blocks, i, j+1, repl...)
}

// Clone is a copy that shares nothing with m.
func (m *Map) Clone() *Map {
	c := *m
	c.Comments, c.Blocks = slices.Clone(m.Comments), slices.Clone(m.Blocks)
	return &c
}

// maxLine is longer than any line that ddrescue writes but its command line.
const maxLine = 1 << 20

// Read reads a map file. What is wrong is told with its line.
func Read(r io.Reader) (*Map, error) {
	m := &Map{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxLine)
	seen := false
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		text := uncommented(line)
		f := strings.Fields(text)
		var err error
		switch {
		case len(f) == 0:
			if c := strings.TrimSpace(line); !seen && strings.HasPrefix(c, "#") {
				m.Comments = append(m.Comments, strings.TrimPrefix(c[1:], " "))
			}
		case !seen:
			seen = true
			err = m.status(f)
		default:
			err = m.block(f)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if !seen {
		return nil, fmt.Errorf("it has no status line: it is no map file of ddrescue")
	}
	return m, nil
}

// uncommented is a line without its comment, which a # begins at the line's start or behind a space.
func uncommented(s string) string {
	for i := range len(s) {
		if s[i] == '#' && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t') {
			return s[:i]
		}
	}
	return s
}

func (m *Map) status(f []string) (err error) {
	if len(f) != 2 && len(f) != 3 {
		return fmt.Errorf("%q is no status line: want a position, one of ?*/-FG+, and the number of the pass", strings.Join(f, " "))
	}
	if m.Pos, err = number(f[0]); err != nil {
		return err
	}
	if len(f[1]) != 1 || !strings.Contains("?*/-FG+", f[1]) {
		return fmt.Errorf("status %q: want one of ?*/-FG+", f[1])
	}
	m.Phase, m.Pass = f[1][0], 1
	if len(f) == 3 { // versions before 1.22 write none
		if m.Pass, err = strconv.Atoi(f[2]); err != nil || m.Pass < 1 {
			return fmt.Errorf("pass %q: want a positive decimal number", f[2])
		}
	}
	return nil
}

func (m *Map) block(f []string) error {
	if len(f) != 3 {
		return fmt.Errorf("%q is no block: want a position, a size and one of ?*/-+", strings.Join(f, " "))
	}
	pos, err := number(f[0])
	if err != nil {
		return err
	}
	size, err := number(f[1])
	if err != nil {
		return err
	}
	if len(f[2]) != 1 || !Status(f[2][0]).valid() {
		return fmt.Errorf("status %q of a block: want one of ?*/-+", f[2])
	}
	switch b := (Block{pos, size, Status(f[2][0])}); {
	case size == 0:
		return fmt.Errorf("the block at %d is empty", pos)
	case pos > 1<<62 || size > 1<<62:
		return fmt.Errorf("the block at %d of %d bytes is beyond any disk", pos, size)
	case len(m.Blocks) == 0:
		m.Blocks = append(m.Blocks, b)
	case pos != m.End():
		return fmt.Errorf("the block at %d does not join the one before, which ends at %d", pos, m.End())
	case m.Blocks[len(m.Blocks)-1].Status == b.Status:
		m.Blocks[len(m.Blocks)-1].Size += size
	default:
		m.Blocks = append(m.Blocks, b)
	}
	return nil
}

// number reads a number as C++ writes one: decimal, hexadecimal, octal.
func number(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil || n < 0 || strings.ContainsAny(s, "_oO+") {
		return 0, fmt.Errorf("%q is no position or size", s)
	}
	return n, nil
}

// WriteTo writes the map as ddrescue 1.22 and later read it.
func (m *Map) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	for _, c := range m.Comments {
		fmt.Fprintf(&b, "# %s\n", strings.ReplaceAll(c, "\n", " "))
	}
	b.WriteString("# current_pos  current_status  current_pass\n")
	phase := m.Phase
	if phase == 0 {
		phase = '?'
	}
	fmt.Fprintf(&b, "0x%08X     %c               %d\n", m.Pos, phase, max(1, m.Pass))
	b.WriteString("#      pos        size  status\n")
	for _, x := range m.Blocks {
		fmt.Fprintf(&b, "0x%08X  0x%08X  %c\n", x.Pos, x.Size, x.Status)
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}
