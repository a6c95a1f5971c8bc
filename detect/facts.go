// Package detect says what machine this is and what to do about it. Facts are what was seen, a Policy is what the config wants,
// and Decide makes of both a table with a reason for every line, and the mode in which the rescue goes on.
//
// Nothing here looks at a machine: package probe does, and gives Facts. They are plain values that survive a way through JSON, so
// that a machine can be written to a file, sent with a report of a mistake, and decided on again elsewhere.
package detect

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// FactsVersion is the version of the form in which facts are written. Fields are only added; a reader leaves out what it does not know.
const FactsVersion = 1

// Facts is what was seen on a machine, without judging it. A pointer that is nil was not looked at, or could not be seen; Probes
// says which, and why.
type Facts struct {
	Version int    `json:"version"`
	Tool    string `json:"tool,omitempty"` // which program looked

	Host     Host      `json:"host"`
	Console  *Console  `json:"console,omitempty"`
	Memory   *Memory   `json:"memory,omitempty"`
	Clock    *Clock    `json:"clock,omitempty"`
	Power    *Power    `json:"power,omitempty"`
	State    *Place    `json:"state,omitempty"` // where our own mutable state lies
	Network  *Network  `json:"network,omitempty"`
	Endpoint *Endpoint `json:"endpoint,omitempty"` // nil also where none is wanted
	Roots    *Roots    `json:"tls_roots,omitempty"`
	ZFS      *ZFS      `json:"zfs,omitempty"`
	Pools    []Pool    `json:"pools,omitempty"`
	Disks    []Disk    `json:"disks,omitempty"`
	Stack    *Stack    `json:"stack,omitempty"`
	Store    *Store    `json:"store,omitempty"` // what is at local.mount

	Probes []Probe `json:"probes,omitempty"`
}

// ProbeState says how far a probe has come.
type ProbeState string

// The states of a probe.
const (
	Done    ProbeState = "done"
	Looking ProbeState = "looking" // still looking
	Failed  ProbeState = "failed"  // it will give nothing: Why says why
)

// Probe is one of those that gave the facts. Disks have one each, named "disk sda".
type Probe struct {
	Name  string     `json:"name"`
	State ProbeState `json:"state"`
	Why   string     `json:"why,omitempty"`
}

// Probe gives the probe of a name.
func (f *Facts) Probe(name string) (Probe, bool) {
	for _, p := range f.Probes {
		if p.Name == name {
			return p, true
		}
	}
	return Probe{}, false
}

// Host is the running system.
type Host struct {
	Name    string `json:"name,omitempty"`
	System  string `json:"system,omitempty"` // as os-release calls it
	Kernel  string `json:"kernel,omitempty"`
	UID     int    `json:"uid"`
	NoMDLVM bool   `json:"nomdlvm,omitempty"` // the kernel was told to leave md and LVM alone
	ToRAM   bool   `json:"copytoram,omitempty"`
	Medium  string `json:"medium,omitempty"` // disk the system was booted from: "sdb"; empty: none, or not known
	RootFS  string `json:"root_fs,omitempty"`
	RootDev string `json:"root_dev,omitempty"` // disk below /, empty where / lies in RAM
}

// ConsoleKind is what the program talks to.
type ConsoleKind string

// The kinds of console.
const (
	VT      ConsoleKind = "vt"
	Serial  ConsoleKind = "serial"
	SSH     ConsoleKind = "ssh"
	PTY     ConsoleKind = "pty"  // a terminal emulator, tmux
	NoTTY   ConsoleKind = "none" // a pipe, a file, nothing
	OddTerm ConsoleKind = "unknown"
)

// Console is the terminal.
type Console struct {
	Kind ConsoleKind `json:"kind"`
	TTY  string      `json:"tty,omitempty"`
	Term string      `json:"term,omitempty"`
	Cols int         `json:"cols,omitempty"`
	Rows int         `json:"rows,omitempty"`
	UTF8 bool        `json:"utf8,omitempty"`
	Keys string      `json:"keys,omitempty"` // the keyboard's layout, where something says it
}

// Memory is in bytes.
type Memory struct {
	Total     int64 `json:"total"`
	Available int64 `json:"available"`
	RootTotal int64 `json:"root_total,omitempty"` // of the file system that holds what is written below /, where it is in RAM
	RootFree  int64 `json:"root_free,omitempty"`
}

// Clock is the system's time and what can be held against it. Times are seconds since 1970.
type Clock struct {
	Now     int64  `json:"now"`
	RTC     int64  `json:"rtc,omitempty"`
	Synced  bool   `json:"synced,omitempty"`  // the kernel says that something keeps it right
	Program int64  `json:"program,omitempty"` // when this program was made: no right clock is before that
	Server  int64  `json:"server,omitempty"`  // what the endpoint said, at the moment of Local
	Local   int64  `json:"local,omitempty"`
	Zone    string `json:"zone,omitempty"`
}

// Power is the supply.
type Power struct {
	Mains   *bool `json:"mains,omitempty"`   // nil: the machine does not say
	Battery *int  `json:"battery,omitempty"` // percent; nil: none
}

// Medium is what bytes at a path lie on.
type Medium string

// The media.
const (
	RAM     Medium = "ram"
	USB     Medium = "usb"
	Fixed   Medium = "disk"
	Net     Medium = "network"
	Unknown Medium = "unknown"
)

// Place is a folder of the live system and what it lies on.
type Place struct {
	Path     string `json:"path"`
	Exists   bool   `json:"exists"`
	FS       string `json:"fs,omitempty"`
	Medium   Medium `json:"medium,omitempty"`
	Disk     string `json:"disk,omitempty"` // "sda"
	ReadOnly bool   `json:"read_only,omitempty"`
	Free     int64  `json:"free,omitempty"`
}

// Network is links, the way out, and names.
type Network struct {
	Links   []Link   `json:"links,omitempty"`   // without the loopback
	Routes  []Route  `json:"routes,omitempty"`  // default routes
	Servers []string `json:"servers,omitempty"` // of names
	DNS     *Lookup  `json:"dns,omitempty"`     // nil: nothing was to be looked up
}

// Link is a network card.
type Link struct {
	Name    string   `json:"name"`
	Up      bool     `json:"up,omitempty"`
	Carrier bool     `json:"carrier,omitempty"`
	Mbit    int      `json:"mbit,omitempty"`
	MAC     string   `json:"mac,omitempty"`
	Addrs   []string `json:"addrs,omitempty"` // without those that are only of the link
}

// Route is a default route.
type Route struct {
	Via  string `json:"via,omitempty"`
	Link string `json:"link"`
}

// Lookup is a name that was asked for.
type Lookup struct {
	Name  string   `json:"name"`
	Addrs []string `json:"addrs,omitempty"`
	Err   string   `json:"err,omitempty"`
}

// EndpointStage is how far talking to the endpoint came.
type EndpointStage string

// The stages, in their order. The one that stands in Facts is the one that failed, or Answered.
const (
	AtName     EndpointStage = "name"
	AtConnect  EndpointStage = "connect"
	AtTLS      EndpointStage = "tls"
	AtProtocol EndpointStage = "protocol"
	Answered   EndpointStage = "answered"
)

// Endpoint is the remote place, as it answered.
type Endpoint struct {
	URL      string        `json:"url"`
	Stage    EndpointStage `json:"stage"`
	Err      string        `json:"err,omitempty"`
	Addr     string        `json:"addr,omitempty"` // that was connected to
	Cert     *Cert         `json:"cert,omitempty"`
	Status   int           `json:"status,omitempty"`   // of HTTP
	Protocol []int         `json:"protocol,omitempty"` // first and last version the server speaks
	Domain   string        `json:"domain,omitempty"`
	StoreID  string        `json:"store_id,omitempty"`
}

// Cert is the server's certificate.
type Cert struct {
	Subject   string   `json:"subject,omitempty"`
	Issuer    string   `json:"issuer,omitempty"`
	Names     []string `json:"names,omitempty"`
	NotBefore int64    `json:"not_before,omitempty"`
	NotAfter  int64    `json:"not_after,omitempty"`
	Pin       string   `json:"pin,omitempty"`     // SHA-256 of its public key: "sha256:<64 hex>"
	Problem   string   `json:"problem,omitempty"` // why it is not trusted: expired, not-yet-valid, name, authority, pin; empty: it is
}

// Roots are the certificate authorities this system trusts.
type Roots struct {
	Path  string `json:"path,omitempty"`
	Count int    `json:"count"`
}

// ZFS is what this system can do with pools.
type ZFS struct {
	Loaded    bool     `json:"loaded"`               // the module is in the kernel
	Module    string   `json:"module,omitempty"`     // its version
	Installed bool     `json:"installed,omitempty"`  // there is one for this kernel, loaded or not
	Tools     bool     `json:"tools"`                // zpool and zfs are there
	Version   string   `json:"version,omitempty"`    // of the tools; empty where it could not be asked without loading the module
	HostID    HostID   `json:"hostid,omitempty"`     // of this system; 0: none
	Cache     bool     `json:"cachefile,omitempty"`  // there is a zpool.cache
	AutoUnits []string `json:"auto_units,omitempty"` // units that would import pools by themselves
}

// GUID is the number of a pool or a vdev. Text and JSON have it as decimal digits, as zpool does.
type GUID uint64

func (g GUID) String() string { return strconv.FormatUint(uint64(g), 10) }

// MarshalText gives decimal digits.
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText reads decimal digits.
func (g *GUID) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 10, 64)
	*g = GUID(n)
	return err
}

// HostID is what ZFS knows a host by. Text has it in hex, as zpool does.
type HostID uint32

func (h HostID) String() string { return fmt.Sprintf("%08x", uint32(h)) }

// MarshalText gives hex digits.
func (h HostID) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads hex digits.
func (h *HostID) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 16, 32)
	*h = HostID(n)
	return err
}

// Pool is one pool, by its GUID, and all that is known of it from each side.
type Pool struct {
	GUID GUID   `json:"guid"`
	Name string `json:"name"`

	Labels   *PoolLabels   `json:"labels,omitempty"`   // what we read on the disks; nil: no label of it
	Listed   *PoolListed   `json:"listed,omitempty"`   // what `zpool import` says; nil: nothing, or it was not asked
	Imported *PoolImported `json:"imported,omitempty"` // how it is imported here; nil: it is not
}

// PoolLabels is what the labels say of a pool. They are read by us; nothing of it needs ZFS.
type PoolLabels struct {
	State    string   `json:"state"`              // active, exported, destroyed
	Health   string   `json:"health"`             // ONLINE, DEGRADED, UNAVAIL, by which of its parts are here
	Complete bool     `json:"complete,omitempty"` // the labels prove that they know every top-level vdev
	HostID   HostID   `json:"hostid,omitempty"`
	HostName string   `json:"hostname,omitempty"`
	Txg      uint64   `json:"txg,omitempty"`
	Written  int64    `json:"written,omitempty"`   // when the newest uberblock was, by the clock of who wrote it
	MMP      bool     `json:"multihost,omitempty"` // whoever has the pool leaves signs of life
	Version  uint64   `json:"version,omitempty"`
	Features []string `json:"features_for_read,omitempty"`
	Vdevs    []Vdev   `json:"vdevs,omitempty"`    // top-level ones, also those of which no label is here
	Problems []string `json:"problems,omitempty"` // labels that are damaged or contradict each other
}

// Vdev is a node of a pool's tree.
type Vdev struct {
	GUID     GUID   `json:"guid,omitempty"`
	Type     string `json:"type"`             // disk, file, mirror, raidz, draid, spare, replacing, missing, hole
	Parity   int    `json:"parity,omitempty"` // of raidz and draid
	Log      bool   `json:"log,omitempty"`
	Path     string `json:"path,omitempty"`     // where its own host had it
	Device   string `json:"device,omitempty"`   // where it is here: "/dev/sdb1"; empty: not here
	Disk     string `json:"disk,omitempty"`     // "sdb"
	Labels   int    `json:"labels,omitempty"`   // how many of its four are good
	Presence string `json:"presence,omitempty"` // of a leaf: present, missing, behind, out; of a top-level vdev also unknown
	Health   string `json:"health"`             // ONLINE, DEGRADED, UNAVAIL
	Children []Vdev `json:"children,omitempty"`
}

// PoolListed is one pool of what `zpool import` lists.
type PoolListed struct {
	State     string       `json:"state"` // ONLINE, DEGRADED, FAULTED, UNAVAIL …
	Destroyed bool         `json:"destroyed,omitempty"`
	Status    string       `json:"status,omitempty"` // its words, only to be looked up by
	Action    string       `json:"action,omitempty"`
	Comment   string       `json:"comment,omitempty"`
	Reason    Reason       `json:"reason,omitempty"` // what Status means
	MsgID     string       `json:"msgid,omitempty"`  // ZFS-8000-EY
	Config    []ListedVdev `json:"config,omitempty"`
}

// Reason is what the words of zpool's status line mean. Its advice is not repeated: some of it destroys pools.
type Reason string

// The reasons.
const (
	ReasonHost         Reason = "hostid-mismatch" // last used by another system
	ReasonHostActive   Reason = "hostid-active"   // another system has it now
	ReasonHostRequired Reason = "hostid-required" // multihost is on, and this system has no hostid
	ReasonMissing      Reason = "missing-device"
	ReasonCorrupt      Reason = "corrupt"
	ReasonFeatureRead  Reason = "feature-read"  // cannot be read with this ZFS
	ReasonFeatureWrite Reason = "feature-write" // can only be read
	ReasonVersion      Reason = "version"
	ReasonLog          Reason = "log-missing"
	ReasonUpgrade      Reason = "old-format" // works, and could be upgraded: never by us
	ReasonOther        Reason = "other"
)

// ListedVdev is a line of its config.
type ListedVdev struct {
	Depth int    `json:"depth"`
	Name  string `json:"name"`
	State string `json:"state,omitempty"` // empty: the name is that of a section: logs, cache, spares
	Aux   string `json:"aux,omitempty"`
}

// PoolImported is a pool that is imported in this system.
type PoolImported struct {
	Health   string   `json:"health"`
	ReadOnly bool     `json:"read_only,omitempty"`
	AltRoot  string   `json:"altroot,omitempty"`
	Size     int64    `json:"size,omitempty"`
	Free     int64    `json:"free,omitempty"`
	Scan     string   `json:"scan,omitempty"` // what resilver or scrub runs
	Mounts   []string `json:"mounts,omitempty"`
	Locked   []string `json:"locked,omitempty"` // encrypted datasets without their key
}

// Disk is a whole disk. What it is: model, serial, WWN, size; never its name, which changes from boot to boot.
type Disk struct {
	Name      string   `json:"name"`         // "sda"
	Path      string   `json:"path"`         // "/dev/sda"
	ID        string   `json:"id,omitempty"` // its stable name below /dev/disk/by-id
	Model     string   `json:"model,omitempty"`
	Serial    string   `json:"serial,omitempty"`
	WWN       string   `json:"wwn,omitempty"`
	Size      int64    `json:"size"`
	Logical   int      `json:"logical_sector,omitempty"`
	Physical  int      `json:"physical_sector,omitempty"`
	Rotating  bool     `json:"rotating,omitempty"`
	Removable bool     `json:"removable,omitempty"`
	Transport string   `json:"transport,omitempty"` // sata, sas, nvme, usb, virtio, mmc …
	ReadOnly  bool     `json:"read_only,omitempty"` // the kernel lets nobody write
	State     string   `json:"state,omitempty"`     // running, offline …, where the kernel says
	Table     string   `json:"table,omitempty"`     // gpt, dos; empty: none
	Content   *Content `json:"content,omitempty"`   // on the disk itself
	Parts     []Part   `json:"parts,omitempty"`
	Holders   []string `json:"holders,omitempty"` // what the kernel has built upon it: md0, dm-0
	Mounts    []string `json:"mounts,omitempty"`
	Smart     *Smart   `json:"smart,omitempty"`
	Before    *Writes  `json:"writes_before,omitempty"` // the kernel's counters when looking began
	After     *Writes  `json:"writes_after,omitempty"`  // and when it ended
}

// Part is a partition.
type Part struct {
	Name    string   `json:"name"` // "sda1"
	Path    string   `json:"path"`
	Start   int64    `json:"start"` // bytes
	Size    int64    `json:"size"`
	Content *Content `json:"content,omitempty"`
	Holders []string `json:"holders,omitempty"`
	Mounts  []string `json:"mounts,omitempty"`
}

// Content is what the first bytes say lies on a device.
type Content struct {
	Kind  string `json:"kind"` // ext4, xfs, btrfs, ntfs, vfat, exfat, iso9660, swap, luks, lvm, md, zfs, squashfs …
	Label string `json:"label,omitempty"`
	UUID  string `json:"uuid,omitempty"`
	Dirty bool   `json:"dirty,omitempty"` // it was not unmounted: mounting it would replay a journal, and write
}

// Smart is a disk's own word on its health.
type Smart struct {
	Passed      *bool `json:"passed,omitempty"`
	Hours       int64 `json:"hours,omitempty"`
	Celsius     int   `json:"celsius,omitempty"`
	Reallocated int64 `json:"reallocated,omitempty"`
	Pending     int64 `json:"pending,omitempty"` // sectors it could not read and waits to replace
	Uncorrected int64 `json:"uncorrected,omitempty"`
	CRC         int64 `json:"crc,omitempty"`          // errors of the cable
	MediaErrors int64 `json:"media_errors,omitempty"` // of NVMe
	UsedPercent int   `json:"used_percent,omitempty"`
	Critical    int   `json:"critical,omitempty"` // NVMe's bits of warning
}

// Writes are the kernel's counters of a device.
type Writes struct {
	IOs     uint64 `json:"ios"`
	Sectors uint64 `json:"sectors"`
}

// Stack is what something else has already activated on top of disks.
type Stack struct {
	Arrays []Array `json:"arrays,omitempty"`
	Maps   []Map   `json:"maps,omitempty"`
	Swaps  []Swap  `json:"swaps,omitempty"`
	Mounts []Mount `json:"mounts,omitempty"` // of block devices
}

// Array is an md array.
type Array struct {
	Name    string   `json:"name"`
	Level   string   `json:"level,omitempty"`
	State   string   `json:"state"` // active, active (read-only), active (auto-read-only), inactive
	Members []string `json:"members,omitempty"`
	Want    int      `json:"want,omitempty"` // disks it should have
	Have    int      `json:"have,omitempty"`
	Sync    string   `json:"sync,omitempty"` // resync, recovery, reshape, check; with "=PENDING" or "=DELAYED" where it waits
	Percent string   `json:"percent,omitempty"`
}

// Map is a device-mapper device.
type Map struct {
	Name string   `json:"name"` // "vg0-root"
	Dev  string   `json:"dev"`  // "dm-0"
	Kind string   `json:"kind"` // lvm, crypt, multipath, other
	Over []string `json:"over,omitempty"`
}

// Swap is swap that is in use.
type Swap struct {
	Path string `json:"path"`
	Size int64  `json:"size,omitempty"`
	Disk string `json:"disk,omitempty"` // below it; empty: in RAM
}

// Mount is a mounted device.
type Mount struct {
	Device   string `json:"device"`
	At       string `json:"at"`
	FS       string `json:"fs,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
	Disk     string `json:"disk,omitempty"` // below it
}

// Store is what is at local.mount.
type Store struct {
	Place
	Mounted bool   `json:"mounted"`            // something is mounted there
	IsStore bool   `json:"is_store,omitempty"` // and a store is in it
	Empty   bool   `json:"empty,omitempty"`
	Source  string `json:"source,omitempty"` // what is mounted: a dataset or a device
}

// Marshal gives facts as they are written to files: indented, with a newline.
func (f *Facts) Marshal() ([]byte, error) {
	b, err := json.MarshalIndent(f, "", "  ")
	return append(b, '\n'), err
}

// ParseFacts reads what Marshal wrote.
func ParseFacts(b []byte) (*Facts, error) {
	var f Facts
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("read facts: %w", err)
	}
	switch {
	case f.Version == 0:
		return nil, fmt.Errorf("read facts: no version in it: these are no facts")
	case f.Version > FactsVersion:
		return nil, fmt.Errorf("read facts: version %d is newer than this program knows (%d)", f.Version, FactsVersion)
	}
	return &f, nil
}
