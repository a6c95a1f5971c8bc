package config

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Selector says which sources are meant: by something that stays when disks are plugged in another order. Which disk it means,
// detect.Facts.Named tells.
type Selector struct {
	Kind    string // serial, wwn, model, label, uuid, path
	Pattern string // with * ? and [a-z] as in a shell
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

func checkSelectors(s string) error {
	for _, one := range Several(s) {
		if _, err := ParseSelector(one); err != nil {
			return err
		}
	}
	return nil
}

// Paths are the sources that the config names by a whole path.
func (c *Config) Paths() (all []string) {
	for _, one := range Several(c.Batch.Sources) {
		if s, err := ParseSelector(one); err == nil && s.Kind == "path" && !strings.ContainsAny(s.Pattern, `*?[\`) {
			all = append(all, s.Pattern)
		}
	}
	return all
}
