package zfslabel

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// like says all that zdb -l says, in its words: which labels there are, and everything that stands in them.
func like(d *Device) string {
	const line = "------------------------------------\n"
	texts := map[string][]Label{}
	for _, l := range d.Labels {
		if l.List != nil {
			t := listLike(l.List, "    ")
			texts[t] = append(texts[t], l)
		}
	}
	var b strings.Builder
	for _, l := range d.Labels {
		if l.List == nil {
			fmt.Fprintf(&b, "failed to unpack label %d\n", l.Index)
			continue
		}
		t := listLike(l.List, "    ")
		if texts[t][0].Index != l.Index {
			continue // told together with the first of them
		}
		note := ""
		if l.Verdict == Damaged {
			note = "(Bad label cksum)"
		}
		fmt.Fprintf(&b, "%sLABEL %d %s\n%s%s    labels = ", line, l.Index, note, line, t)
		for _, same := range texts[t] {
			fmt.Fprintf(&b, "%d ", same.Index)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func listLike(l List, indent string) string {
	var b strings.Builder
	for _, p := range l {
		switch v := p.Value.(type) {
		case bool:
			fmt.Fprintf(&b, "%s%s\n", indent, p.Name)
		case string:
			fmt.Fprintf(&b, "%s%s: '%s'\n", indent, p.Name, v)
		case List:
			fmt.Fprintf(&b, "%s%s:\n%s", indent, p.Name, listLike(v, indent+"    "))
		case []List:
			for i, c := range v {
				fmt.Fprintf(&b, "%s%s[%d]:\n%s", indent, p.Name, i, listLike(c, indent+"    "))
			}
		default:
			fmt.Fprintf(&b, "%s%s: %v\n", indent, p.Name, v)
		}
	}
	return b.String()
}

func TestLabelsSayWhatZdbSays(t *testing.T) {
	all := images(t)
	if len(all) < 30 {
		t.Errorf("only %d images", len(all))
	}
	for _, m := range all {
		want, err := os.ReadFile(filepath.Join("testdata/zdb", m.name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		if got := like(Read(m, m.size)); got != string(want) {
			t.Errorf("%s: got\n%s\nzdb says\n%s", m.name, got, want)
		}
	}
}

// zdbUber is one uberblock as zdb prints it.
var zdbUber = regexp.MustCompile(`(?s)    Uberblock\[(\d+)\]([^\n]*)\n(.*?)        labels = ([0-3 ]+)\n`)

func field(body, name string) uint64 {
	m := regexp.MustCompile(`(?m)^\t` + name + ` = (\w+)`).FindStringSubmatch(body)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// zdb does not check the uberblocks: it prints damaged ones like others.
func TestUberblocksSayWhatZdbSays(t *testing.T) {
	seen := 0
	for _, m := range images(t) {
		want := map[string]int{}
		for _, u := range zdbUber.FindAllStringSubmatch(m.zdb, -1) {
			for _, label := range strings.Fields(u[4]) {
				want[fmt.Sprintf("label %s slot %s version %d txg %d sum %d time %d delay %d checkpoint %d", label, u[1], field(u[3], "version"), field(u[3], "txg"),
					field(u[3], "guid_sum"), field(u[3], "timestamp"), field(u[3], "mmp_delay"), field(u[3], "checkpoint_txg"))]++
			}
		}
		d := Read(m, m.size)
		if slices.ContainsFunc(d.Labels[:], func(l Label) bool { return l.List == nil && len(l.Uberblocks) > 0 }) {
			continue // zdb takes the size of the slots from a list; without one it prints zeros
		}
		for _, l := range d.Labels {
			for _, u := range l.Uberblocks {
				seen++
				want[fmt.Sprintf("label %d slot %d version %d txg %d sum %d time %d delay %d checkpoint %d", l.Index, u.Slot, u.Version, u.TXG, u.GUIDSum, u.Timestamp, u.MMP.Delay, u.CheckpointTXG)]--
			}
		}
		for k, n := range want {
			if n != 0 {
				t.Errorf("%s: %s: %+d", m.name, k, n)
			}
		}
	}
	if seen < 1000 {
		t.Errorf("only %d uberblocks", seen)
	}
}

func TestBigEndianReadsAsLittleEndian(t *testing.T) {
	little, big := one(t, "mirror-a"), one(t, "big-endian")
	a, b := Read(little, little.size), Read(big, big.size)
	for i := range a.Labels {
		if b.Labels[i].Verdict != Good {
			t.Errorf("label %d: %s: %s", i, b.Labels[i].Verdict, b.Labels[i].Why)
		}
		for j, u := range b.Labels[i].Uberblocks {
			if !u.BigEndian {
				t.Errorf("label %d: uberblock %d is little-endian", i, j)
			}
			u.BigEndian = false
			if u != a.Labels[i].Uberblocks[j] {
				t.Errorf("label %d: %+v, %+v", i, u, a.Labels[i].Uberblocks[j])
			}
		}
	}
}

func verdicts(d *Device) string {
	var all []string
	for _, l := range d.Labels {
		good := 0
		for _, u := range l.Uberblocks {
			if u.Good {
				good++
			}
		}
		all = append(all, fmt.Sprintf("%s %d/%d", l.Verdict, good, len(l.Uberblocks)))
	}
	return strings.Join(all, ", ")
}

func TestDamageIsCalledDamage(t *testing.T) {
	const whole = "good 32/32"
	for name, want := range map[string][4]string{
		"mirror-a":                       {whole, whole, whole, whole},
		"broken-start-zeroed":            {"absent 0/0", "absent 0/0", whole, whole},
		"broken-end-zeroed":              {whole, whole, "absent 0/0", "absent 0/0"},
		"broken-start-overwritten":       {"absent 0/0", "damaged 32/32", whole, whole},
		"broken-one-bit-in-the-list":     {"damaged 32/32", whole, whole, whole},
		"broken-one-bit-behind-the-list": {"damaged 32/32", whole, whole, whole},
		"broken-one-bit-in-each-list":    {"damaged 32/32", "damaged 32/32", "damaged 32/32", "damaged 32/32"},
		"broken-list-cut":                {"damaged 32/32", "damaged 32/32", "damaged 32/32", "damaged 32/32"},
		"broken-rings-zeroed":            {"good 0/0", "good 0/0", "good 0/0", "good 0/0"},
		"broken-ring-half":               {"good 16/16", whole, whole, whole},
		"broken-lists-zeroed":            {"damaged 32/32", "damaged 32/32", "damaged 32/32", "damaged 32/32"},
		"broken-cut-short":               {whole, whole, "absent 0/0", "absent 0/0"},
		"broken-moved":                   {"damaged 0/32", "damaged 0/32", whole, whole},
		"broken-longer":                  {whole, whole, whole, whole},
		"broken-empty":                   {"absent 0/0", "absent 0/0", "absent 0/0", "absent 0/0"},
	} {
		m := one(t, name)
		d := Read(m, m.size)
		if got := verdicts(d); got != strings.Join(want[:], ", ") {
			t.Errorf("%s: got %s, want %s", name, got, strings.Join(want[:], ", "))
		}
		for _, l := range d.Labels {
			if (l.Verdict == Damaged) != (l.Why != "") {
				t.Errorf("%s: label %d is %s because of %q", name, l.Index, l.Verdict, l.Why)
			}
		}
		s := d.Seen(name)
		if hint := name == "broken-one-bit-in-each-list"; s.Damaged != hint {
			t.Errorf("%s: damaged is %v", name, s.Damaged)
		}
	}
}

func TestOneBitAnywhereInALabelIsSeen(t *testing.T) {
	m := one(t, "mirror-a")
	for _, off := range []int{listAt, listAt + 1, listAt + 4, listAt + 17, listAt + 2000, listAt + listSize - 41, listAt + listSize - 40, listAt + listSize - 1} {
		m.labels[2][off] ^= 0x10
		if d := Read(m, m.size); d.Labels[2].Verdict == Good {
			t.Errorf("a bit at %d is not seen", off)
		}
		m.labels[2][off] ^= 0x10
	}
}

// faulty gives an error for some ranges.
type faulty struct {
	r        io.ReaderAt
	from, to int64
}

var errMedium = errors.New("medium error")

func (f faulty) ReadAt(p []byte, off int64) (int, error) {
	if off < f.to && off+int64(len(p)) > f.from {
		return 0, errMedium
	}
	return f.r.ReadAt(p, off)
}

func TestWhatCannotBeReadIsSaidAndTheRestCounts(t *testing.T) {
	m := one(t, "mirror-a")
	d := Read(faulty{m, listAt, listAt + 512}, m.size)
	if got := verdicts(d); got != "unreadable 32/32, good 32/32, good 32/32, good 32/32" || !strings.Contains(d.Labels[0].Why, "medium error") {
		t.Errorf("list: %s", got)
	}
	d = Read(faulty{m, ringAt + 8192, ringAt + 8704}, m.size)
	if got := verdicts(d); got != "good 30/30, good 32/32, good 32/32, good 32/32" {
		t.Errorf("ring: %s", got)
	}
	d = Read(faulty{m, 0, m.size}, m.size)
	if got := verdicts(d); got != "unreadable 0/0, unreadable 0/0, unreadable 0/0, unreadable 0/0" || !d.Found() || d.Best() != nil {
		t.Errorf("all: %s", got)
	}
}

func TestSmallDevicesHaveNoLabels(t *testing.T) {
	m := one(t, "mirror-a")
	for _, size := range []int64{-1, 0, 1, 512, labelSize, MinSize - 1} {
		if Read(m, size).Found() {
			t.Errorf("found something on %d bytes", size)
		}
	}
	if Read(m, m.size+10*labelSize).Labels[0].Verdict != Good {
		t.Error("a device that ends before its size says")
	}
}

// A pool as the labels of its devices make it, in words, against a golden file.
func TestPoolsAreAssembled(t *testing.T) {
	byName := map[string]Seen{}
	for _, m := range images(t) {
		byName[m.name] = Read(m, m.size).Seen(m.name)
	}
	var b strings.Builder
	for _, c := range []struct{ what, devices string }{
		{"a mirror, whole", "mirror-a mirror-b"},
		{"a mirror, half", "mirror-b"},
		{"raidz, one missing", "raidz-0 raidz-1 raidz-2"},
		{"raidz, two missing", "raidz-0 raidz-1"},
		{"draid, most missing", "draid-0 draid-1 cache"},
		{"two top-level vdevs, one device of each", "special-0 special-8"},
		{"two top-level vdevs, nothing of the second", "special-0"},
		{"two mirrors, half of each", "new-0 new-2"},
		{"a pool with spare and log", "tank-1 tank-2 tank-3 tank-log tank-spare"},
		{"the log is missing", "tank-1 tank-2 tank-3"},
		{"only the log is here", "tank-log"},
		{"destroyed", "gone-1 gone-2"},
		{"exported", "away"},
		{"one side was put offline", "off-1 off-2"},
		{"only the side that was put offline", "off-2"},
		{"being added, never finished", "half"},
		{"the same disk twice", "mirror-a mirror-b big-endian"},
		{"a device of which no label is good", "broken-one-bit-in-each-list mirror-b"},
		{"nothing readable", "broken-lists-zeroed"},
		{"nothing", "broken-empty"},
	} {
		var seen []Seen
		for _, n := range strings.Fields(c.devices) {
			s, ok := byName[n]
			if !ok {
				t.Fatalf("no fixture %s", n)
			}
			seen = append(seen, s)
		}
		a := Assemble(seen)
		slices.Reverse(seen)
		if words(Assemble(seen)) != words(a) {
			t.Errorf("%s: the order of the devices matters:\n%s\n%s", c.what, words(a), words(Assemble(seen)))
		}
		fmt.Fprintf(&b, "# %s: %s\n%s\n", c.what, c.devices, words(a))
	}
	golden(t, "testdata/pools.txt", b.String())
}

func words(a Assembly) string {
	var b strings.Builder
	var node func(indent string, n *Node)
	node = func(indent string, n *Node) {
		fmt.Fprintf(&b, "%s%s %d %s", indent, n.Type, n.ID, n.Health)
		for _, s := range []string{string(n.Role), string(n.Presence), n.Device, strings.Join(n.Also, " also ")} {
			if s != "" {
				b.WriteString(", " + s)
			}
		}
		b.WriteString("\n")
		for _, c := range n.Children {
			node(indent+"  ", c)
		}
	}
	for _, p := range a.Pools {
		fmt.Fprintf(&b, "pool %s %s %s, host %s %x %v, txg %d, complete %v\n", p.Name, p.Health, p.State, p.Hostname, p.HostID, p.HasHostID, p.TXG, p.Complete)
		for _, t := range p.Tops {
			node("  ", t)
		}
		for _, f := range p.Findings {
			b.WriteString("  * " + f + "\n")
		}
	}
	for _, more := range []struct {
		what    string
		devices []string
	}{{"spares", a.Spares}, {"caches", a.Caches}, {"lost", a.Lost}, {"unfinished", a.Unfinished}} {
		if len(more.devices) > 0 {
			slices.Sort(more.devices)
			fmt.Fprintf(&b, "%s: %s\n", more.what, strings.Join(more.devices, " "))
		}
	}
	return b.String()
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; -update writes it anew. Got\n%s", file, got)
	}
}

func TestPoolsOfOneNameAreToldApart(t *testing.T) {
	m := one(t, "away")
	a := Read(m, m.size).Seen("a")
	b := a
	other := *a.Config
	other.PoolGUID++
	b.Config, b.Device = &other, "b"
	got := Assemble([]Seen{a, b})
	if len(got.Pools) != 2 || !slices.Equal(got.Pools[0].SameName, []GUID{got.Pools[1].GUID}) || !slices.Equal(got.Pools[1].SameName, []GUID{got.Pools[0].GUID}) {
		t.Errorf("got %+v", got)
	}
}

// What a machine's facts keep of a device says the same after it was written and read again.
func TestSeenSurvivesJSON(t *testing.T) {
	var before, after []Seen
	for _, m := range images(t) {
		before = append(before, Read(m, m.size).Seen(m.name))
	}
	text, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &after); err != nil {
		t.Fatal(err)
	}
	if words(Assemble(before)) != words(Assemble(after)) {
		t.Errorf("got\n%s\nwant\n%s", words(Assemble(after)), words(Assemble(before)))
	}
}

// Pool configs that no fixture has.
func TestAssembleJudgesRedundancy(t *testing.T) {
	leaf := func(guid GUID) *Vdev { return &Vdev{Type: "disk", GUID: guid} }
	group := func(kind string, id uint64, parity uint64, guids ...GUID) *Vdev {
		v := &Vdev{Type: kind, ID: id, GUID: 1000 + GUID(id), Parity: parity}
		for _, g := range guids {
			v.Children = append(v.Children, leaf(g))
		}
		return v
	}
	out := func(guid GUID) *Vdev { return &Vdev{Type: "disk", ID: 1, GUID: guid, Out: "faulted"} }
	bias := func(v *Vdev, b string) *Vdev { v.Bias = b; return v }
	for _, c := range []struct {
		name string
		tops []*Vdev
		here []GUID
		want Health
	}{
		{"raidz2, two of five missing", []*Vdev{group("raidz", 0, 2, 1, 2, 3, 4, 5)}, []GUID{1, 2, 3}, Degraded},
		{"raidz2, three of five missing", []*Vdev{group("raidz", 0, 2, 1, 2, 3, 4, 5)}, []GUID{1, 2}, Unavail},
		{"three-way mirror, two missing", []*Vdev{group("mirror", 0, 0, 1, 2, 3)}, []GUID{3}, Degraded},
		{"draid1, one missing", []*Vdev{group("draid", 0, 1, 1, 2, 3)}, []GUID{1, 2}, Degraded},
		{"the log is here and was out of use", []*Vdev{group("mirror", 0, 0, 1, 2), bias(out(8), "log")}, []GUID{1, 2, 8}, Degraded},
		{"a disk without redundancy was out of use", []*Vdev{group("mirror", 0, 0, 1, 2), out(8)}, []GUID{1, 2, 8}, Unavail},
		{"nothing of the log, which might be a removed vdev too", []*Vdev{group("mirror", 0, 0, 1, 2), bias(leaf(9), "log")}, []GUID{1, 2}, Unavail},
		{"special missing", []*Vdev{group("mirror", 0, 0, 1, 2), bias(group("mirror", 1, 0, 9, 10), "special")}, []GUID{1, 2}, Unavail},
		{"special, half", []*Vdev{group("mirror", 0, 0, 1, 2), bias(group("mirror", 1, 0, 9, 10), "special")}, []GUID{1, 2, 9}, Degraded},
		{"two disks, both here", []*Vdev{leaf(1), {Type: "disk", ID: 1, GUID: 2}}, []GUID{1, 2}, Online},
	} {
		var seen []Seen
		for _, top := range c.tops {
			for _, g := range c.here {
				if top.Find(g) != nil {
					seen = append(seen, Seen{Device: g.String(), Labels: [4]Verdict{Good, Good, Good, Good}, Config: &Config{Name: "p", PoolGUID: 7, GUID: g, TXG: 5, TopVdevs: uint64(len(c.tops)), Tree: top}})
				}
			}
		}
		p := Assemble(seen).Pools[0]
		if p.Health != c.want {
			t.Errorf("%s: got %s, want %s: %v", c.name, p.Health, c.want, p.Findings)
		}
	}
}

func TestPartitionsAreLookedInto(t *testing.T) {
	m := one(t, "away")
	const start = 1 << 20
	disk := &image{size: start + m.size + 9<<20}
	r := &onDisk{m, start, disk.size, map[int64][]byte{}}
	table, places := Look(r, disk.size)
	if table != NoTable || len(places) != 2 || places[1].Start != start {
		t.Fatalf("without a table: %q, %+v", table, places)
	}
	// The same with a GPT.
	r.put(512, gptHeader(1, 2, r.entries(1024, start, m.size)))
	table, places = Look(r, disk.size)
	if table != GPT || len(places) != 2 || places[1].Number != 1 || places[1].Found.Labels[3].Verdict != Good {
		t.Fatalf("with a table: %q, %+v", table, places)
	}
	// Only its copy at the end is good.
	last := disk.size - 512
	r.put(last, gptHeader(last/512, 2, r.entries(1024, start, m.size)))
	r.put(512, make([]byte, 512))
	if table, places = Look(r, disk.size); table != GPTBackup || len(places) != 2 {
		t.Fatalf("with the copy: %q, %+v", table, places)
	}
	r.put(last, make([]byte, 512))
	boot := make([]byte, 512)
	boot[446+4] = 0xbf
	binary.LittleEndian.PutUint32(boot[446+8:], start/512)
	binary.LittleEndian.PutUint32(boot[446+12:], uint32(m.size/512))
	boot[510], boot[511] = 0x55, 0xaa
	r.put(0, boot)
	if table, places = Look(r, disk.size); table != MBR || len(places) != 2 || places[1].Found.Best() == nil {
		t.Fatalf("with an old table: %q, %+v", table, places)
	}
}

// onDisk is an image at some place of a disk.
type onDisk struct {
	m     *image
	start int64
	size  int64
	other map[int64][]byte
}

func (d *onDisk) put(at int64, b []byte) { d.other[at] = b }

func (d *onDisk) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off+int64(len(p)) > d.size {
		return 0, io.EOF
	}
	if from, to := max(off, d.start), min(off+int64(len(p)), d.start+d.m.size); from < to {
		if _, err := d.m.ReadAt(p[from-off:to-off], from-d.start); err != nil {
			return 0, err
		}
	}
	for at, b := range d.other {
		if from, to := max(off, at), min(off+int64(len(p)), at+int64(len(b))); from < to {
			copy(p[from-off:to-off], b[from-at:])
		}
	}
	return len(p), nil
}

// entries puts four entries of a GPT at a place and gives them.
func (d *onDisk) entries(at, start, size int64) []byte {
	b := make([]byte, 4*128)
	b[0] = 1
	binary.LittleEndian.PutUint64(b[32:], uint64(start/512))
	binary.LittleEndian.PutUint64(b[40:], uint64((start+size)/512-1))
	b[56], b[58] = 'z', 'f'
	d.put(at, b)
	return b
}

// A device that was away has an older label, and no uberblock of the time since.
func TestADeviceThatWasAwayIsBehind(t *testing.T) {
	tree := &Vdev{Type: "mirror", GUID: 10, Children: []*Vdev{{Type: "disk", GUID: 1}, {Type: "disk", GUID: 2}}}
	see := func(guid GUID, label, last uint64) Seen {
		return Seen{Device: guid.String(), Labels: [4]Verdict{Good, Good, Good, Good}, Last: &Uberblock{TXG: last, GUIDSum: 7 + 10 + 1 + 2, Good: true},
			Config: &Config{Name: "p", PoolGUID: 7, GUID: guid, TXG: label, TopVdevs: 1, Tree: tree}}
	}
	for _, c := range []struct {
		what string
		seen []Seen
		want Presence
	}{
		{"away since", []Seen{see(1, 90, 120), see(2, 50, 60)}, Behind},
		{"the same label", []Seen{see(1, 50, 120), see(2, 50, 120)}, Present},
		{"an older label that was written to since", []Seen{see(1, 90, 120), see(2, 50, 120)}, Present},
		{"the power went while labels were written", []Seen{see(1, 90, 89), see(2, 50, 89)}, Present},
	} {
		p := Assemble(c.seen).Pools[0]
		if got := p.Tops[0].Children[1].Presence; got != c.want || (c.want == Behind) != (p.Health == Degraded) || (c.want == Behind) != (len(p.Findings) == 1) {
			t.Errorf("%s: got %s, %s, %v", c.what, got, p.Health, p.Findings)
		}
	}
}

// Labels are written before the uberblock that makes them count.
func TestALabelThatNoUberblockConfirmsIsNotBelieved(t *testing.T) {
	d := &Device{Labels: [4]Label{
		{Verdict: Good, Config: &Config{TXG: 200}, Uberblocks: []Uberblock{{TXG: 150, Good: true}, {TXG: 300}}},
		{Verdict: Good, Config: &Config{TXG: 100}},
		{Verdict: Damaged, Config: &Config{TXG: 150}},
		{Verdict: Good, Config: &Config{TXG: 120}},
	}}
	if got := d.Best().Config.TXG; got != 120 {
		t.Errorf("believes the label of txg %d", got)
	}
	if got, ok := d.Last(); !ok || got.TXG != 150 {
		t.Errorf("the newest uberblock is %+v", got)
	}
	d.Labels[1].Verdict, d.Labels[3].Verdict = Damaged, Damaged
	if got := d.Best().Config.TXG; got != 200 {
		t.Errorf("of those that are left it believes the label of txg %d", got)
	}
}
