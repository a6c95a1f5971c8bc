// Package config reads what the operator and the image want: the files in /etc/asl, the kernel's command line, flags.
// It is read once, at the start, and it is the only place of the project that looks at the environment.
//
// Later beats earlier: default, file, kernel command line, flag. Every value keeps where it came from.
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Mode narrows what preflight may decide.
type Mode string

// The modes.
const (
	Auto   Mode = "auto"
	Local  Mode = "local"
	Remote Mode = "remote"
)

// Config is what holds for this run. What can be several things stands in one text, with blanks between them; the methods
// take it apart.
type Config struct {
	Mode           Mode
	LocalMount     string // where the local store is or will be mounted
	LocalDataset   string // of a pool, mounted there: POOL/DATASET, the pool by name or GUID; empty: local.mount is there already
	ApproveImport  string // pools that a run without a person may import: names or GUIDs, blanks between them
	ZFSSnapshots   string // yes: the dataset gets a snapshot of ZFS after each sealed one of ours
	RemoteEndpoint string // https:// or s3://; empty: none
	RemotePin      string // of the endpoint's key, sha256:<64 hex>; empty: the machine's own roots decide
	RemoteCA       string // file with certificates to trust besides the machine's own; empty: none
	RemoteProxy    string // http://HOST:PORT; empty: none
	DomainID       string
	Batch          Batch
	Messages       Messages
	Peers          []Peer // of federation.conf, in the order of their names

	origins map[string]string
	peers   map[string]*Peer
}

// Batch is what a run without a person does.
type Batch struct {
	Sources     string // selectors; empty: the command line says what to take in, or nobody does
	Exclude     string // selectors of what is never taken in
	Label       string // stands with the snapshot
	Compression string
	Verify      string // new, all, none
	StopOn      string // gaps, failure, never: after which result of one source the others are left alone
	StopAfter   string // a duration; empty: when everything is done
	WaitNetwork string // a duration
	Done        string // stay, poweroff, reboot, wait
}

// Origin says where the value of a key came from: "default", "/etc/asl/asl.conf:3", "kernel command line", "--store".
func (c *Config) Origin(key string) string { return c.origins[key] }

// Setting is one key with its value and where that came from.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// Settings are all keys, in the order of the documentation. Those of peers follow.
func (c *Config) Settings() []Setting {
	var out []Setting
	for _, k := range keys() {
		out = append(out, Setting{k.name, *k.value(c), c.origins[k.name]})
	}
	for i := range c.Peers {
		for _, k := range peerKeys() {
			name := "peer." + c.Peers[i].Name + "." + k.name
			out = append(out, Setting{name, *k.value(&c.Peers[i]), or(c.origins[name], "default")})
		}
	}
	return out
}

func or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

// key is one thing that can be set.
type key struct {
	name  string
	files []string // where it may stand
	value func(*Config) *string
	check func(string) error
	many  bool // several values, with blanks or commas between them; in a file also as a list
}

func keys() []key {
	asl, both, logging := []string{aslConf}, []string{aslConf, federationConf}, []string{loggingConf}
	return []key{
		{"mode", asl, func(c *Config) *string { return (*string)(&c.Mode) }, oneOf("auto", "local", "remote"), false},
		{"local.mount", asl, func(c *Config) *string { return &c.LocalMount }, checkPath, false},
		{"local.dataset", asl, func(c *Config) *string { return &c.LocalDataset }, checkDataset, false},
		{"local.zfs-snapshots", asl, func(c *Config) *string { return &c.ZFSSnapshots }, oneOf("yes", "no"), false},
		{"approve.import", asl, func(c *Config) *string { return &c.ApproveImport }, checkPools, true},
		{"remote.endpoint", asl, func(c *Config) *string { return &c.RemoteEndpoint }, checkEndpoint, false},
		{"remote.pin", asl, func(c *Config) *string { return &c.RemotePin }, checkPin, false},
		{"remote.ca", asl, func(c *Config) *string { return &c.RemoteCA }, orEmpty(checkPath), false},
		{"remote.proxy", asl, func(c *Config) *string { return &c.RemoteProxy }, checkProxy, false},
		{"domain.id", both, func(c *Config) *string { return &c.DomainID }, checkDomain, false},
		{"batch.sources", asl, func(c *Config) *string { return &c.Batch.Sources }, checkSelectors, true},
		{"batch.exclude", asl, func(c *Config) *string { return &c.Batch.Exclude }, checkSelectors, true},
		{"batch.label", asl, func(c *Config) *string { return &c.Batch.Label }, checkLabel, false},
		{"batch.compression", asl, func(c *Config) *string { return &c.Batch.Compression }, oneOf("auto", "none", "fast", "better"), false},
		{"batch.verify", asl, func(c *Config) *string { return &c.Batch.Verify }, oneOf("new", "all", "none"), false},
		{"batch.stop-on", asl, func(c *Config) *string { return &c.Batch.StopOn }, oneOf("failure", "gaps", "never"), false},
		{"batch.stop-after", asl, func(c *Config) *string { return &c.Batch.StopAfter }, orEmpty(checkDuration), false},
		{"batch.wait-network", asl, func(c *Config) *string { return &c.Batch.WaitNetwork }, checkDuration, false},
		{"batch.done", asl, func(c *Config) *string { return &c.Batch.Done }, oneOf("stay", "poweroff", "reboot", "wait"), false},
		{"messages.level", logging, func(c *Config) *string { return &c.Messages.Level }, oneOf("debug", "info", "warn", "error"), false},
		{"messages.format", logging, func(c *Config) *string { return &c.Messages.Format }, oneOf("text", "json"), false},
		{"messages.journal", logging, func(c *Config) *string { return &c.Messages.Journal }, oneOf("auto", "yes", "no"), false},
		{"messages.file", logging, func(c *Config) *string { return &c.Messages.File }, orEmpty(checkMessagesFile), false},
		{"messages.file-size", logging, func(c *Config) *string { return &c.Messages.FileSize }, between(64, 1<<20), false},
		{"messages.file-keep", logging, func(c *Config) *string { return &c.Messages.FileKeep }, between(1, 99), false},
		{"messages.ring", logging, func(c *Config) *string { return &c.Messages.Ring }, between(10, 5000), false},
	}
}

// The files of a config folder.
const (
	aslConf        = "asl.conf"
	federationConf = "federation.conf"
	loggingConf    = "logging.conf"
)

// takesSeveral says whether a key may have several values. Of an unknown key that is no matter.
func takesSeveral(name string) bool {
	return slices.ContainsFunc(keys(), func(k key) bool { return k.name == name && k.many }) || !slices.ContainsFunc(keys(), func(k key) bool { return k.name == name })
}

// short are names that the kernel's command line may use, where a boot menu has little room.
func short() map[string]string {
	return map[string]string{"endpoint": "remote.endpoint", "pin": "remote.pin", "sources": "batch.sources", "done": "batch.done"}
}

// Default is the Config where nobody said anything.
func Default() *Config {
	c := &Config{Mode: Auto, LocalMount: "/mnt/asl/local", ZFSSnapshots: "no", DomainID: "rescue-domain",
		Batch:    Batch{Compression: "auto", Verify: "new", StopOn: "failure", WaitNetwork: "60s", Done: "stay"},
		Messages: Messages{Level: "info", Format: "text", Journal: "auto", FileSize: "1024", FileKeep: "3", Ring: "300"},
		origins:  map[string]string{}, peers: map[string]*Peer{}}
	for _, k := range keys() {
		c.origins[k.name] = "default"
	}
	return c
}

// Where says what Load reads. The zero value reads nothing.
type Where struct {
	Dir    string // folder with asl.conf, federation.conf, logging.conf; empty: none
	Kernel string // file with the kernel's command line; empty: none
}

// Folder is where a rescue system has its config, if nobody says otherwise.
const Folder = "/etc/asl"

// In is where a program looks that was given --config DIR: there, and at the kernel's command line.
func In(dir string) Where { return Where{Dir: dir, Kernel: "/proc/cmdline"} }

// System is where a rescue system has its config.
func System() Where { return In(Folder) }

// Flag is a value that was given on the command line.
type Flag struct {
	Key, Value string
	By         string // the flag, as errors and Origin name it: "--store"
}

// Load reads everything. Mistakes come back joined, each a *Mistake, and the Config beside them is good to use: what was
// wrong is left at what held before. Files that do not exist are no mistake.
func Load(w Where, flags ...Flag) (*Config, error) {
	c := Default()
	var errs []error
	if w.Dir != "" {
		if w.Dir != Folder { // a folder that somebody named has to be there
			if fi, err := os.Stat(w.Dir); err != nil || !fi.IsDir() {
				errs = append(errs, &Mistake{File: w.Dir, Err: errors.New("there is no such folder")})
			}
		}
		for _, name := range []string{aslConf, federationConf, loggingConf} {
			errs = append(errs, c.readFile(filepath.Join(w.Dir, name))...)
		}
	}
	if w.Kernel != "" {
		errs = append(errs, c.readKernel(w.Kernel)...)
	}
	for _, f := range flags {
		if m := c.set(f.Key, f.Value, f.By, ""); m != nil {
			m.File = f.By
			errs = append(errs, m)
		}
	}
	errs = append(errs, c.settlePeers()...)
	return c, errors.Join(errs...)
}

// Mistakes are what Load found wrong, one by one.
func Mistakes(err error) []*Mistake {
	var all []*Mistake
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			all = append(all, Mistakes(e)...)
		}
		return all
	}
	var m *Mistake
	if errors.As(err, &m) {
		all = append(all, m)
	}
	return all
}

// set gives a key its value if it is a good one.
func (c *Config) set(name, value, origin, file string) *Mistake {
	if strings.HasPrefix(name, "peer.") {
		return c.setPeer(name, value, origin, file)
	}
	all := keys()
	i := slices.IndexFunc(all, func(k key) bool { return k.name == name && (file == "" || slices.Contains(k.files, file)) })
	if i < 0 {
		return &Mistake{Key: name, Err: unknown(name, file)}
	}
	if all[i].many {
		value = strings.Join(Several(value), " ")
	}
	if err := all[i].check(value); err != nil {
		return &Mistake{Key: name, Err: err}
	}
	*all[i].value(c) = value
	c.origins[name] = origin
	return nil
}

// unknown names the key that was probably meant.
func unknown(name, file string) error {
	best, least := "", len(name)/2+1
	for _, k := range keys() {
		if k.name == name {
			return fmt.Errorf("belongs into %s", strings.Join(k.files, " or "))
		}
		if d := Distance(name, k.name); d < least && (file == "" || slices.Contains(k.files, file)) {
			best, least = k.name, d
		}
	}
	if best == "" {
		return errors.New("unknown key")
	}
	return fmt.Errorf("unknown key; did you mean %s?", best)
}

// Distance is how many letters must be added, dropped or changed to make b of a.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Mistake is one thing wrong in the config.
type Mistake struct {
	File      string // or the flag, or "kernel command line"
	Line, Col int    // from 1; 0 where there is none
	Key       string // empty where the text itself is wrong
	Err       error
}

func (m *Mistake) Error() string {
	s := m.File
	if m.Line > 0 {
		s = fmt.Sprintf("%s:%d:%d", m.File, m.Line, m.Col)
	}
	if m.Key != "" {
		s += ": " + m.Key
	}
	return s + ": " + m.Err.Error()
}

// Unwrap gives the cause.
func (m *Mistake) Unwrap() error { return m.Err }
