// Package config reads what the operator and the image want: the files in /etc/asl, the kernel's command line, flags.
// It is read once, at the start, and it is the only place of the project that looks at the environment.
//
// Later beats earlier: default, file, kernel command line, flag. Every value keeps where it came from.
package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aslrescue/backends/zfs"
	"aslrescue/engine/approval"
	"aslrescue/engine/store"
)

// Mode narrows what preflight may decide.
type Mode string

// The modes.
const (
	Auto   Mode = "auto"
	Local  Mode = "local"
	Remote Mode = "remote"
)

// Config is what holds for this run.
type Config struct {
	Mode           Mode
	LocalMount     string // where the local store is or will be mounted
	LocalDataset   string // of a pool, mounted there: POOL/DATASET, the pool by name or GUID; empty: local.mount is there already
	ApproveImport  string // pools that a run without a person may import: names or GUIDs, blanks between them
	ZFSSnapshots   string // yes: the dataset gets a snapshot of ZFS after each sealed one of ours
	RemoteEndpoint string // https:// or s3://; empty: none
	DomainID       string

	origins map[string]string
}

// Origin says where the value of a key came from: "default", "/etc/asl/asl.conf:3", "kernel command line", "--store".
func (c *Config) Origin(key string) string { return c.origins[key] }

// Setting is one key with its value and where that came from.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// Settings are all keys, in the order of the documentation.
func (c *Config) Settings() []Setting {
	var out []Setting
	for _, k := range keys() {
		out = append(out, Setting{k.name, *k.value(c), c.origins[k.name]})
	}
	return out
}

// key is one thing that can be set.
type key struct {
	name  string
	files []string // where it may stand
	value func(*Config) *string
	check func(string) error
}

func keys() []key {
	asl := []string{"asl.conf"}
	return []key{
		{"mode", asl, func(c *Config) *string { return (*string)(&c.Mode) }, checkMode},
		{"local.mount", asl, func(c *Config) *string { return &c.LocalMount }, checkPath},
		{"local.dataset", asl, func(c *Config) *string { return &c.LocalDataset }, checkDataset},
		{"local.zfs-snapshots", asl, func(c *Config) *string { return &c.ZFSSnapshots }, checkYesNo},
		{"approve.import", asl, func(c *Config) *string { return &c.ApproveImport }, checkPools},
		{"remote.endpoint", asl, func(c *Config) *string { return &c.RemoteEndpoint }, checkEndpoint},
		{"domain.id", []string{"asl.conf", "federation.conf"}, func(c *Config) *string { return &c.DomainID }, checkDomain},
	}
}

// Default is the Config where nobody said anything.
func Default() *Config {
	c := &Config{Mode: Auto, LocalMount: "/mnt/asl/local", ZFSSnapshots: "no", DomainID: "rescue-domain", origins: map[string]string{}}
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

// System is where a rescue system has its config.
func System() Where { return Where{Dir: "/etc/asl", Kernel: "/proc/cmdline"} }

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
		for _, name := range []string{"asl.conf", "federation.conf", "logging.conf"} {
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
	return c, errors.Join(errs...)
}

// set gives a key its value if it is a good one.
func (c *Config) set(name, value, origin, file string) *Mistake {
	all := keys()
	i := slices.IndexFunc(all, func(k key) bool { return k.name == name && (file == "" || slices.Contains(k.files, file)) })
	if i < 0 {
		return &Mistake{Key: name, Err: unknown(name, file)}
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

func checkMode(s string) error {
	switch Mode(s) {
	case Auto, Local, Remote:
		return nil
	}
	return fmt.Errorf("%q is none of auto, local, remote", s)
}

func checkPath(s string) error {
	if !filepath.IsAbs(s) || filepath.Clean(s) != s {
		return fmt.Errorf("%q is not an absolute path without detours", s)
	}
	return nil
}

func checkDataset(s string) error {
	if s != "" && !zfs.ValidDataset(s) {
		return fmt.Errorf("%q: want POOL/DATASET, the pool by its name or GUID", s)
	}
	return nil
}

func checkYesNo(s string) error {
	if s != "yes" && s != "no" {
		return fmt.Errorf("%q: want yes or no", s)
	}
	return nil
}

func checkPools(s string) error {
	for p := range strings.FieldsSeq(s) {
		if !zfs.ValidDataset(p + "/x") {
			return fmt.Errorf("%q is neither the name of a pool nor a GUID", p)
		}
	}
	return nil
}

// Approvals are the pools that a run without a person may import, and where that stands.
func (c *Config) Approvals() (all []approval.Entry) {
	for p := range strings.FieldsSeq(c.ApproveImport) {
		all = append(all, approval.Entry{Value: p, Origin: c.Origin("approve.import")})
	}
	return all
}

func checkEndpoint(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "s3":
		return errors.New("want https://HOST or s3://BUCKET/PREFIX")
	case u.User != nil:
		return errors.New("holds a name or password: secrets never stand in a config file")
	}
	return nil
}

func checkDomain(s string) error {
	if !store.ValidDomain(s) {
		return fmt.Errorf("%q: want 1 to 63 of a-z 0-9 - _ . beginning with a letter or digit", s)
	}
	return nil
}

// readKernel takes words like asl.local.mount=/mnt/x. The kernel lets quotes keep blanks together.
func (c *Config) readKernel(file string) []error {
	const name = "kernel command line"
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return []error{&Mistake{File: name, Err: err}}
	}
	var errs []error
	quoted := false
	for word := range strings.FieldsFuncSeq(string(text), func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t' || r == '\n')
	}) {
		k, v, ok := strings.Cut(strings.ReplaceAll(word, `"`, ""), "=")
		k, ours := strings.CutPrefix(k, "asl.")
		if !ok || !ours {
			continue
		}
		if m := c.set(k, v, name, ""); m != nil {
			m.File = name
			errs = append(errs, m)
		}
	}
	return errs
}
