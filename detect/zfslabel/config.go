package zfslabel

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// GUID names a pool or a vdev. As text, also in JSON, it is decimal, as zpool prints it: no program loses digits of it.
type GUID uint64

func (g GUID) String() string { return strconv.FormatUint(uint64(g), 10) }

// MarshalText gives the decimal digits.
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText reads the decimal digits.
func (g *GUID) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 64)
	*g = GUID(n)
	return err
}

// State is what a label says its pool was when the label was written.
type State uint64

// The states, by ZFS's own numbers.
const (
	Active    State = 0 // imported, and never exported since: in use, or its machine went down
	Exported  State = 1
	Destroyed State = 2
	Spare     State = 3 // the device waits as a spare; the label does not say of which pool
	L2Cache   State = 4 // the device is a read cache; it holds nothing that is not elsewhere
)

func (s State) String() string {
	switch s {
	case Active:
		return "active"
	case Exported:
		return "exported"
	case Destroyed:
		return "destroyed"
	case Spare:
		return "spare"
	case L2Cache:
		return "l2cache"
	}
	return fmt.Sprintf("state %d", uint64(s))
}

// MarshalText gives the name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText gives.
func (s *State) UnmarshalText(text []byte) error {
	for _, k := range []State{Active, Exported, Destroyed, Spare, L2Cache} {
		if k.String() == string(text) {
			*s = k
			return nil
		}
	}
	if _, err := fmt.Sscanf(string(text), "state %d", (*uint64)(s)); err != nil {
		return fmt.Errorf("%q is no state of a pool", text)
	}
	return nil
}

// Role is what a device does for its pool.
type Role string

// The roles.
const (
	RoleData    Role = "data"
	RoleLog     Role = "log"
	RoleSpecial Role = "special" // metadata and small blocks: without it the pool is lost
	RoleDedup   Role = "dedup"   // likewise
	RoleSpare   Role = "spare"
	RoleL2Cache Role = "l2cache"
)

// Config is what one label says, in words. A label of a spare holds little of it.
type Config struct {
	Version   uint64   `json:"version"`
	Name      string   `json:"name,omitempty"`
	State     State    `json:"state"`
	TXG       uint64   `json:"txg"` // in which this label was written: of several, the highest is the newest
	PoolGUID  GUID     `json:"pool_guid,omitempty"`
	HostID    uint64   `json:"hostid"`
	HasHostID bool     `json:"has_hostid"` // false: the machine that used it last had none
	Hostname  string   `json:"hostname,omitempty"`
	TopGUID   GUID     `json:"top_guid,omitempty"`
	GUID      GUID     `json:"guid"` // of this device
	Errata    uint64   `json:"errata,omitempty"`
	Comment   string   `json:"comment,omitempty"`
	TopVdevs  uint64   `json:"vdev_children,omitempty"`     // how many top-level vdevs the pool has
	Holes     []uint64 `json:"holes,omitempty"`             // ids of top-level vdevs that were removed
	Tree      *Vdev    `json:"vdev_tree,omitempty"`         // the top-level vdev that this device belongs to
	ReadNeeds []string `json:"features_for_read,omitempty"` // features without which the pool cannot even be read
	SplitGUID GUID     `json:"split_guid,omitempty"`        // this pool was split off that one
	Role      Role     `json:"role"`
}

// Vdev is one node of a pool's tree.
type Vdev struct {
	Type      string  `json:"type"` // disk, file, mirror, raidz, draid, replacing, spare, missing, hole, indirect
	ID        uint64  `json:"id"`
	GUID      GUID    `json:"guid"`
	Path      string  `json:"path,omitempty"`
	DevID     string  `json:"devid,omitempty"`
	PhysPath  string  `json:"phys_path,omitempty"`
	WholeDisk bool    `json:"whole_disk,omitempty"` // ZFS made the partition itself
	Ashift    uint64  `json:"ashift,omitempty"`
	Asize     uint64  `json:"asize,omitempty"`
	Parity    uint64  `json:"nparity,omitempty"`
	IsLog     bool    `json:"is_log,omitempty"`
	Bias      string  `json:"alloc_bias,omitempty"` // log, special, dedup
	CreateTXG uint64  `json:"create_txg,omitempty"`
	Out       string  `json:"out,omitempty"` // offline, faulted, degraded, removed, not present: as the pool saw it when the label was written
	Children  []*Vdev `json:"children,omitempty"`
}

// Leaf says whether the vdev is a device.
func (v *Vdev) Leaf() bool { return len(v.Children) == 0 }

// Find is the vdev of that guid at or below v; nil where there is none.
func (v *Vdev) Find(g GUID) *Vdev {
	if v == nil || v.GUID == g {
		return v
	}
	for _, c := range v.Children {
		if f := c.Find(g); f != nil {
			return f
		}
	}
	return nil
}

// ErrConfig is the cause where a list unpacks well and still is not a label's.
var ErrConfig = errors.New("not what a label holds")

// errUnfinished is a label as it stands while a device is being added.
var errUnfinished = fmt.Errorf("%w: txg 0", ErrConfig)

// Interpret reads a label's list. It refuses what ZFS would refuse too.
func Interpret(l List) (*Config, error) {
	c := &Config{Name: l.String("name"), Hostname: l.String("hostname"), Comment: l.String("comment")}
	num := func(name string) uint64 { n, _ := l.Uint64(name); return n }
	c.Version, c.TXG, c.Errata, c.TopVdevs = num("version"), num("txg"), num("errata"), num("vdev_children")
	c.State = State(num("state"))
	c.PoolGUID, c.TopGUID, c.GUID, c.SplitGUID = GUID(num("pool_guid")), GUID(num("top_guid")), GUID(num("guid")), GUID(num("split_guid"))
	c.HostID, c.HasHostID = l.Uint64("hostid")
	c.Holes, _ = l.Get("hole_array").([]uint64)
	if f, ok := l.Get("features_for_read").(List); ok {
		for _, p := range f {
			c.ReadNeeds = append(c.ReadNeeds, p.Name)
		}
		slices.Sort(c.ReadNeeds)
	}
	if t, ok := l.Get("vdev_tree").(List); ok {
		c.Tree = vdev(t)
	}
	c.Role = c.role()
	_, hasState := l.Uint64("state")
	switch {
	case !hasState:
		return nil, fmt.Errorf("%w: no state", ErrConfig)
	case c.State > L2Cache:
		return nil, fmt.Errorf("%w: %s", ErrConfig, c.State)
	case c.GUID == 0:
		return nil, fmt.Errorf("%w: the device has no guid", ErrConfig)
	case c.State == Spare || c.State == L2Cache:
		return c, nil
	case c.TXG == 0:
		return nil, errUnfinished
	case c.PoolGUID == 0 || c.Name == "":
		return nil, fmt.Errorf("%w: it names no pool", ErrConfig)
	case c.Tree == nil:
		return nil, fmt.Errorf("%w: no vdev tree", ErrConfig)
	}
	return c, nil
}

func (c *Config) role() Role {
	switch {
	case c.State == Spare:
		return RoleSpare
	case c.State == L2Cache:
		return RoleL2Cache
	case c.Tree == nil:
		return RoleData
	}
	return c.Tree.Role()
}

// Role is what a top-level vdev does for its pool.
func (v *Vdev) Role() Role {
	switch {
	case v.IsLog || v.Bias == "log":
		return RoleLog
	case v.Bias == "special":
		return RoleSpecial
	case v.Bias == "dedup":
		return RoleDedup
	}
	return RoleData
}

func vdev(l List) *Vdev {
	num := func(name string) uint64 { n, _ := l.Uint64(name); return n }
	v := &Vdev{
		Type: l.String("type"), ID: num("id"), GUID: GUID(num("guid")), Path: l.String("path"), DevID: l.String("devid"), PhysPath: l.String("phys_path"),
		WholeDisk: num("whole_disk") == 1, Ashift: num("ashift"), Asize: num("asize"), Parity: num("nparity"), IsLog: num("is_log") == 1,
		Bias: l.String("alloc_bias"), CreateTXG: num("create_txg"),
	}
	if v.Bias == "" {
		v.Bias = l.String("allocation_bias")
	}
	for _, flag := range []struct{ key, word string }{
		{"not_present", "not present"}, {"removed", "removed"}, {"faulted", "faulted"}, {"offline", "offline"}, {"degraded", "degraded"},
	} {
		if num(flag.key) == 1 {
			v.Out = flag.word
			break
		}
	}
	children, _ := l.Get("children").([]List)
	for _, c := range children {
		v.Children = append(v.Children, vdev(c))
	}
	return v
}
