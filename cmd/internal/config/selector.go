package config

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Selector says which sources are meant: by something that stays when disks are plugged in another order.
type Selector struct {
	Kind    string // serial, wwn, model, label, uuid, path
	Pattern string // with * ? and [a-z] as in a shell
}

// Disk is what a Selector looks at.
type Disk struct {
	Serial, WWN, Model string
	Labels, UUIDs      []string // of the file systems on it
	Paths              []string // the device, and every link that udev made for it
}

func selectorKinds() []string { return []string{"serial", "wwn", "model", "label", "uuid", "path"} }

// ParseSelector reads KIND:PATTERN, or a path.
func ParseSelector(s string) (Selector, error) {
	if strings.HasPrefix(s, "/") {
		return Selector{"path", s}, checkPattern(s)
	}
	kind, pattern, ok := strings.Cut(s, ":")
	switch {
	case !ok:
		return Selector{}, fmt.Errorf("%q: want a path, or one of %s with a colon and a pattern: serial:WD-*", s, strings.Join(selectorKinds(), ", "))
	case !slices.Contains(selectorKinds(), kind):
		return Selector{}, fmt.Errorf("%q: %s is none of %s", s, kind, strings.Join(selectorKinds(), ", "))
	case pattern == "":
		return Selector{}, fmt.Errorf("%q: the pattern is missing; * is any", s)
	case kind == "path" && !strings.HasPrefix(pattern, "/"):
		return Selector{}, fmt.Errorf("%q: want a path that begins with /", s)
	}
	return Selector{kind, pattern}, checkPattern(pattern)
}

func checkPattern(p string) error {
	if _, err := path.Match(p, ""); err != nil {
		return fmt.Errorf("%q: %w", p, errors.New("a bracket is not closed"))
	}
	return nil
}

// Match says whether the disk is meant. A disk without the thing asked for is never meant, not even by *.
func (s Selector) Match(d Disk) bool {
	values := map[string][]string{"serial": {d.Serial}, "wwn": {d.WWN}, "model": {d.Model}, "label": d.Labels, "uuid": d.UUIDs, "path": d.Paths}[s.Kind]
	return slices.ContainsFunc(values, func(v string) bool {
		if v == "" {
			return false
		}
		if s.Kind != "path" {
			v, s.Pattern = strings.ReplaceAll(v, "/", "|"), strings.ReplaceAll(s.Pattern, "/", "|") // only in paths does * end at a slash
		}
		if s.Kind == "wwn" || s.Kind == "uuid" {
			v, s.Pattern = strings.ToLower(v), strings.ToLower(s.Pattern)
		}
		ok, err := path.Match(s.Pattern, v)
		return err == nil && ok
	})
}

func checkSelectors(s string) error {
	for _, one := range Several(s) {
		if _, err := ParseSelector(one); err != nil {
			return err
		}
	}
	return nil
}

// SourceSelectors are what batch.sources means, and what batch.exclude takes out of it.
func (c *Config) SourceSelectors() (take, leave []Selector) {
	parse := func(s string) (all []Selector) {
		for _, one := range Several(s) {
			if x, err := ParseSelector(one); err == nil { // checked when it was read
				all = append(all, x)
			}
		}
		return all
	}
	return parse(c.Batch.Sources), parse(c.Batch.Exclude)
}

// Wants says whether the config means this disk to be taken in.
func (c *Config) Wants(d Disk) bool {
	take, leave := c.SourceSelectors()
	means := func(s Selector) bool { return s.Match(d) }
	return slices.ContainsFunc(take, means) && !slices.ContainsFunc(leave, means)
}
