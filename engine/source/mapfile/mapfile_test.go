package mapfile

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const sample = `# Mapfile. Created by GNU ddrescue version 1.27
# Command line: ddrescue -d -c18 /dev/fd0 fdimage mapfile
# current_pos  current_status  current_pass
0x00120000     ?               1
#      pos        size  status
0x00000000  0x00117000  +
0x00117000  512  -   # decimal
0x00117200  010000  /
0x00118200  0x00007E00  *
0x00120000  0x00048000  ?
`

func TestRead(t *testing.T) {
	m, err := Read(strings.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	want := []Block{{0, 0x117000, Finished}, {0x117000, 512, Bad}, {0x117200, 4096, NonScraped}, {0x118200, 0x7e00, NonTrimmed}, {0x120000, 0x48000, NonTried}}
	if m.Pos != 0x120000 || m.Phase != '?' || m.Pass != 1 || !reflect.DeepEqual(m.Blocks, want) || m.End() != 0x168000 {
		t.Errorf("%+v", m)
	}
	old, err := Read(strings.NewReader("0x10 +\n0 0x10 +\n"))
	if err != nil || old.Pass != 1 || old.Phase != '+' {
		t.Errorf("of an older version: %+v, %v", old, err)
	}
}

func TestWhatIsWrongIsToldWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "no status line",
		"# only\n":                             "no status line",
		"0 x 1\n":                              `line 1: status "x"`,
		"0 ? 0\n":                              `line 1: pass "0"`,
		"0 ? 0x1\n":                            "line 1: pass",
		"one ? 1\n":                            `line 1: "one"`,
		"-1 ? 1\n":                             `line 1: "-1"`,
		"0 ? 1\n0 1 + 4\n":                     "line 2:",
		"0 ? 1\n\n0 1 F\n":                     `line 3: status "F"`,
		"0 ? 1\n0 0 +\n":                       "empty",
		"0 ? 1\n0 16 +\n17 16 -\n":             "does not join",
		"0 ? 1\n0 16 +\n8 16 -\n":              "does not join",
		"0 ? 1\n0x7fffffffffffffff 1 +":        "beyond any disk",
		"0 ? 1\n0 0x8000000000000000 +":        "no position or size",
		"0 ? 1\n1_0 1 +":                       "no position or size",
		"this is a letter to my aunt\n":        "no status line",
		"0 ? 1\n" + strings.Repeat("x", 2<<20): "too long",
	} {
		if _, err := Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func TestMarkIsWhatAnArraySays(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const size = 300
	all := []Status{NonTried, NonTrimmed, NonScraped, Bad, Finished}
	for range 50 {
		m := New(size)
		plain := bytes.Repeat([]byte{byte(NonTried)}, size)
		for range 60 {
			off, n, s := r.IntN(size+20)-10, r.IntN(40), all[r.IntN(len(all))]
			m.Mark(int64(off), int64(n), s)
			for i := max(0, off); i < min(size, off+n); i++ {
				plain[i] = byte(s)
			}
			at := int64(0)
			for i, b := range m.Blocks {
				if b.Pos != at || b.Size <= 0 || i > 0 && m.Blocks[i-1].Status == b.Status {
					t.Fatalf("blocks %v", m.Blocks)
				}
				if want := bytes.Repeat([]byte{byte(b.Status)}, int(b.Size)); !bytes.Equal(plain[b.Pos:b.End()], want) {
					t.Fatalf("block %+v, want %q", b, plain[b.Pos:b.End()])
				}
				if m.Find(b.Pos) != i || m.Find(b.End()-1) != i {
					t.Fatalf("not found: %+v", b)
				}
				at = b.End()
			}
			if at != size {
				t.Fatalf("blocks end at %d", at)
			}
		}
	}
}

// What we write, ddrescue goes on from; what it writes, we read; and nothing is lost on the way.
func TestRoundTripThroughDdrescue(t *testing.T) {
	if _, err := exec.LookPath("ddrescue"); err != nil {
		t.Skip("GNU ddrescue is needed for the round trip")
	}
	dir := t.TempDir()
	file := func(s string) string { return filepath.Join(dir, s) }
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	if err := os.WriteFile(file("in"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	m := New(int64(len(data)))
	m.Mark(0, 300<<10, Finished)
	m.Mark(300<<10, 512, Bad)
	m.Mark(300<<10+512, 2048, NonScraped)
	m.Mark(400<<10, 64<<10, NonTrimmed)
	m.Pos, m.Pass = 500<<10, 2
	m.Comments = []string{"made by a test"}
	save := func(name string, m *Map) {
		var b bytes.Buffer
		if _, err := m.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file(name), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func(name string) *Map {
		f, err := os.Open(file(name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		m, err := Read(f)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	save("map", m)
	if back := load("map"); back.Pos != m.Pos || back.Pass != 2 || back.Phase != '?' || !reflect.DeepEqual(back.Blocks, m.Blocks) || back.Comments[0] != m.Comments[0] {
		t.Errorf("%+v, want %+v", back, m)
	}
	// ddrescuelog reads it as strictly as ddrescue does: the same blocks come back.
	out, err := exec.Command("ddrescuelog", "--invert-mapfile", file("map")).Output()
	if err != nil {
		t.Fatal(err)
	}
	inverted, err := Read(bytes.NewReader(out))
	if err != nil || inverted.Sum(Bad) != m.Sum(Finished) || inverted.Sum(Finished) != int64(len(data))-m.Sum(Finished) {
		t.Errorf("inverted by ddrescuelog: %v, %+v", err, inverted)
	}
	// It goes on where our map says: what is finished there is not read again, so it stays as it is in the image.
	ours := bytes.Repeat([]byte{0xee}, 300<<10)
	if err := os.WriteFile(file("out"), ours, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command("ddrescue", "-q", file("in"), file("out"), file("map")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	got, err := os.ReadFile(file("out"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:300<<10], ours) || !bytes.Equal(got[300<<10+512:], data[300<<10+512:]) {
		t.Error("ddrescue did not go on from our map")
	}
	end := load("map")
	if end.Sum(Finished)+end.Sum(Bad) != int64(len(data)) || end.Phase != '+' {
		t.Errorf("at the end: %+v", end)
	}
}

func TestReadSpans(t *testing.T) {
	for text, want := range map[string][]Span{
		"0-512\n":                        {{0, 512}},
		"# c\n1024+512\n0x0 - 0x200 # d": {{0, 512}, {1024, 1536}},
		"0-10\n5-20\n20-30\n":            {{0, 30}},
		"":                               nil,
		sample:                           {{0, 0x117000}},
	} {
		got, err := ReadSpans(strings.NewReader(text))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{"5\n": "line 1", "5-5": "empty", "9-3": "backwards", "a-b": "no position", "0 ? 1\n0 5 q\n": "line 2"} {
		if got, err := ReadSpans(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("0 ? 1\n0 16 +\n16 1 -\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		m.WriteTo(&out)
		again, err := Read(&out)
		if err != nil || !reflect.DeepEqual(again.Blocks, m.Blocks) || again.Pos != m.Pos || again.Phase != m.Phase {
			t.Fatalf("%+v comes back as %+v, %v", m, again, err)
		}
	})
}
