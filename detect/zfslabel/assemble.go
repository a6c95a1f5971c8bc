package zfslabel

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Health is what an import would find, as far as labels tell.
type Health string

// The states, by zpool's words.
const (
	Online   Health = "ONLINE"
	Degraded Health = "DEGRADED" // everything can be read, with less redundancy than planned
	Unavail  Health = "UNAVAIL"  // something that is needed is not here
)

// Assembly is what the devices of a machine are together.
type Assembly struct {
	Pools  []Pool   `json:"pools,omitempty"`
	Spares []string `json:"spares,omitempty"` // devices that wait as spares; their labels do not say for whom
	Caches []string `json:"caches,omitempty"`
	Lost   []string `json:"lost,omitempty"` // devices on which there was ZFS, and no label can be read any more
	// Unfinished are devices that were being added to a pool when something went wrong. They belong to none.
	Unfinished []string `json:"unfinished,omitempty"`
}

// Pool is one pool, put together from the labels of its devices.
type Pool struct {
	GUID      GUID       `json:"guid"`
	Name      string     `json:"name"`
	State     State      `json:"state"`
	Health    Health     `json:"health"`
	Version   uint64     `json:"version"`
	TXG       uint64     `json:"txg"` // of the newest label
	HostID    uint64     `json:"hostid"`
	HasHostID bool       `json:"has_hostid"`
	Hostname  string     `json:"hostname,omitempty"`
	Comment   string     `json:"comment,omitempty"`
	ReadNeeds []string   `json:"features_for_read,omitempty"`
	Last      *Uberblock `json:"last,omitempty"`
	Tops      []*Node    `json:"tops"`
	Complete  bool       `json:"complete"`            // the uberblock's sum of guids proves that no top-level vdev is unknown
	Devices   []string   `json:"devices"`             // every device that carries it
	SameName  []GUID     `json:"same_name,omitempty"` // other pools here with that name: it must be named by its guid
	Findings  []string   `json:"findings,omitempty"`  // what a person should know, one sentence each
}

// Presence says what became of one vdev of the tree.
type Presence string

// The presences.
const (
	Present Presence = "present"
	Missing Presence = "missing" // no device here carries it
	Behind  Presence = "behind"  // the device is here, but was away while the pool went on
	Out     Presence = "out"     // the pool itself had put it out of use
	Unknown Presence = "unknown" // a top-level vdev of which no device is here
)

// Node is a vdev and the device that is it.
type Node struct {
	Vdev     *Vdev    `json:"-"`
	Type     string   `json:"type"`
	ID       uint64   `json:"id"`
	GUID     GUID     `json:"guid"`
	Path     string   `json:"path,omitempty"`     // where it was when the label was written
	Role     Role     `json:"role,omitempty"`     // of a top-level vdev
	Presence Presence `json:"presence,omitempty"` // of a leaf, or an unknown top-level vdev
	Health   Health   `json:"health"`
	Device   string   `json:"device,omitempty"` // of a leaf, where it is here
	Also     []string `json:"also,omitempty"`   // the same leaf seen again: a clone, or a second way to the same disk
	Children []*Node  `json:"children,omitempty"`
}

// Assemble puts devices together into pools, in the order of their names. It is a pure function.
func Assemble(seen []Seen) Assembly {
	var a Assembly
	pools := map[GUID][]Seen{}
	for _, s := range seen {
		switch {
		case s.Config == nil:
			switch {
			case slices.Contains(s.Labels[:], Unfinished):
				a.Unfinished = append(a.Unfinished, s.Device)
			case s.Found():
				a.Lost = append(a.Lost, s.Device)
			}
		case s.Config.State == Spare:
			a.Spares = append(a.Spares, s.Device)
		case s.Config.State == L2Cache:
			a.Caches = append(a.Caches, s.Device)
		default:
			pools[s.Config.PoolGUID] = append(pools[s.Config.PoolGUID], s)
		}
	}
	for _, guid := range slices.Sorted(maps.Keys(pools)) {
		a.Pools = append(a.Pools, assemble(guid, pools[guid]))
	}
	slices.SortStableFunc(a.Pools, func(x, y Pool) int { return cmp.Compare(x.Name, y.Name) })
	for i := range a.Pools {
		for j := range a.Pools {
			if i != j && a.Pools[i].Name == a.Pools[j].Name {
				a.Pools[i].SameName = append(a.Pools[i].SameName, a.Pools[j].GUID)
			}
		}
	}
	return a
}

// believe orders devices by how much their label is worth: a right checksum first, then the newest, then the newest write;
// then by name, so that the order in which they were given does not matter.
func believe(a, b Seen) int {
	bad := func(s Seen) int {
		if s.Damaged {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(bad(a), bad(b)), -cmp.Compare(a.Config.TXG, b.Config.TXG), -cmp.Compare(a.lastTXG(), b.lastTXG()), cmp.Compare(a.Device, b.Device))
}

func (s Seen) lastTXG() uint64 {
	if s.Last == nil {
		return 0
	}
	return s.Last.TXG
}

func assemble(guid GUID, members []Seen) Pool {
	members = slices.Clone(members)
	slices.SortStableFunc(members, believe)
	c := members[0].Config
	p := Pool{GUID: guid, Name: c.Name, State: c.State, Version: c.Version, TXG: c.TXG, HostID: c.HostID, HasHostID: c.HasHostID, Hostname: c.Hostname,
		Comment: c.Comment, ReadNeeds: c.ReadNeeds, Health: Online}
	for _, m := range members {
		p.Devices = append(p.Devices, m.Device)
		if m.Last != nil && (p.Last == nil || newer(*m.Last, *p.Last) > 0) {
			p.Last = m.Last
		}
		if m.Damaged {
			p.find("%s: no label of it has a right checksum; what it says is taken as a hint", m.Device)
		}
		if m.Config.Name != c.Name {
			p.find("%s: its label calls the pool %q, the newest calls it %q", m.Device, m.Config.Name, c.Name)
		}
	}
	slices.Sort(p.Devices)
	p.tops(c, members)
	for _, t := range p.Tops {
		p.Health = worse(p.Health, t.asPart())
	}
	return p
}

func (p *Pool) find(format string, args ...any) {
	p.Findings = append(p.Findings, fmt.Sprintf(format, args...))
}

// tops builds the tree of every top-level vdev from the label to believe most among its members.
func (p *Pool) tops(c *Config, members []Seen) {
	trees := map[uint64]*Config{}
	for _, m := range members { // the most believed come first
		if t := m.Config.Tree; t != nil && trees[t.ID] == nil {
			trees[t.ID] = m.Config
		}
	}
	sum := p.GUID
	for _, id := range slices.Sorted(maps.Keys(trees)) {
		from := trees[id]
		if id >= c.TopVdevs && from != c {
			p.find("an old label knows a top-level vdev %d that the pool has no more", id)
			continue
		}
		b := builder{pool: p, top: from, members: members}
		n := b.node(from.Tree)
		n.Role = from.Tree.Role()
		p.Tops = append(p.Tops, n)
		sum += sumOf(from.Tree)
	}
	p.Complete = p.Last != nil && p.Last.GUIDSum == sum
	p.unknown(c, trees)
	p.strangers(members)
}

// unknown adds the top-level vdevs of which nothing is here. Those that were removed long ago look the same in a label;
// the sum of guids tells them apart.
func (p *Pool) unknown(c *Config, trees map[uint64]*Config) {
	if p.Complete {
		return
	}
	const most = 64 // a hostile label may claim any number
	for id := uint64(0); id < min(c.TopVdevs, most); id++ {
		if trees[id] == nil && !slices.Contains(c.Holes, id) {
			p.Tops = append(p.Tops, &Node{Type: "unknown", ID: id, Presence: Unknown, Health: Unavail})
		}
	}
	if c.TopVdevs > most {
		p.find("the label claims %d top-level vdevs; %d of them are looked for", c.TopVdevs, most)
	}
	slices.SortStableFunc(p.Tops, func(a, b *Node) int { return cmp.Compare(a.ID, b.ID) })
	if n := p.missing(); n > 0 {
		p.find("%d of its %d top-level vdevs are missing altogether: no device of them is here, or they were removed long ago", n, c.TopVdevs)
	} else if p.Last != nil {
		p.find("the newest uberblock counts vdevs that no label knows: the pool changed after its labels were written, or a device is missing")
	}
}

func (p *Pool) missing() int {
	n := 0
	for _, t := range p.Tops {
		if t.Presence == Unknown {
			n++
		}
	}
	return n
}

// strangers finds devices whose own label names this pool, while the pool's newest labels do not know them.
func (p *Pool) strangers(members []Seen) {
	for _, m := range members {
		known := slices.ContainsFunc(p.Tops, func(t *Node) bool { return t.Vdev.Find(m.Config.GUID) != nil })
		if !known {
			p.find("%s: it was part of the pool once, and the newest labels do not know it any more", m.Device)
		}
	}
}

func sumOf(v *Vdev) GUID {
	sum := v.GUID
	for _, c := range v.Children {
		sum += sumOf(c)
	}
	return sum
}

// builder makes nodes of the tree of one top-level vdev.
type builder struct {
	pool    *Pool
	top     *Config // whose tree it is
	members []Seen
}

func (b *builder) node(v *Vdev) *Node {
	n := &Node{Vdev: v, Type: v.Type, ID: v.ID, GUID: v.GUID, Path: v.Path}
	if v.Leaf() {
		b.leaf(n)
		return n
	}
	bad, slow := 0, 0
	for _, c := range v.Children {
		child := b.node(c)
		n.Children = append(n.Children, child)
		switch child.Health {
		case Unavail:
			bad++
		case Degraded:
			slow++
		}
	}
	may := 0 // how many may fail
	switch kind, _, _ := strings.Cut(v.Type, "-"); kind {
	case "mirror", "replacing", "spare":
		may = len(v.Children) - 1
	case "raidz", "draid":
		may = int(min(v.Parity, uint64(len(v.Children))))
	}
	switch {
	case bad > may:
		n.Health = Unavail
	case bad+slow > 0:
		n.Health = Degraded
	default:
		n.Health = Online
	}
	return n
}

// leaf finds the device that is this vdev.
func (b *builder) leaf(n *Node) {
	n.Presence, n.Health = Missing, Unavail
	var mine []Seen
	for _, m := range b.members {
		if m.Config.GUID == n.GUID {
			mine = append(mine, m)
		}
	}
	switch n.Type {
	case "hole", "missing", "indirect", "dspare":
		n.Presence, n.Health = "", Online // never a device of its own
		return
	}
	if len(mine) == 0 {
		return
	}
	n.Device = mine[0].Device
	for _, m := range mine[1:] {
		n.Also = append(n.Also, m.Device)
	}
	if len(n.Also) > 0 {
		b.pool.find("%s and %s are the same vdev: a second way to one disk, or a clone. Only one of them may be used", n.Device, strings.Join(n.Also, " and "))
	}
	switch {
	case n.Vdev.Out == "offline" || n.Vdev.Out == "faulted" || n.Vdev.Out == "removed":
		n.Presence = Out
		b.pool.find("%s: the pool had put it out of use (%s)", n.Device, n.Vdev.Out)
	case b.behind(mine[0]):
		n.Presence = Behind
		b.pool.find("%s: it was away while the pool went on; its label is of txg %d, the newest of %d", n.Device, mine[0].Config.TXG, b.top.TXG)
	case n.Vdev.Out == "degraded":
		n.Presence, n.Health = Present, Degraded
	default:
		n.Presence, n.Health = Present, Online
	}
}

// behind says whether the pool went on without a device. A label alone may be older because the power went in the middle
// of writing them; then no device has an uberblock of that txg.
func (b *builder) behind(m Seen) bool {
	if m.Config.TXG >= b.top.TXG || m.lastTXG() >= b.top.TXG {
		return false
	}
	return slices.ContainsFunc(b.members, func(o Seen) bool {
		return o.lastTXG() >= b.top.TXG && b.top.Tree.Find(o.Config.GUID) != nil
	})
}

// asPart is what the health of a top-level vdev means for its pool: a pool comes up without its log, if it is told to.
func (n *Node) asPart() Health {
	if n.Role == RoleLog && n.Health == Unavail {
		return Degraded
	}
	return n.Health
}

func worse(a, b Health) Health {
	rank := func(h Health) int { return slices.Index([]Health{Online, Degraded, Unavail}, h) }
	if rank(b) > rank(a) {
		return b
	}
	return a
}
