package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/pelletier/go-toml/v2"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
)

// Plan is what an intake will do, as it is shown, kept in a file, and held against the machine before it is done.
type Plan struct {
	Store       string       `toml:"store" json:"store"`
	Domain      string       `toml:"domain" json:"domain"`
	Label       string       `toml:"label,omitempty" json:"label,omitempty"`
	Compression string       `toml:"compression" json:"compression"`
	Verify      string       `toml:"verify" json:"verify"`                           // new, all, none
	Digest      string       `toml:"digest" json:"digest"`                           // blake3 and others, or none
	UsedOnly    bool         `toml:"used_only,omitempty" json:"used_only,omitempty"` // of disks only what their file systems call used
	Files       bool         `toml:"files,omitempty" json:"files,omitempty"`         // of partitions the files, mounted
	Order       string       `toml:"order,omitempty" json:"order,omitempty"`         // of the sources below; empty: as they were given
	Pause       bool         `toml:"pause_when_hot,omitempty" json:"pause_when_hot,omitempty"`
	Sources     []PlanSource `toml:"source" json:"sources"`
}

// PlanSource is one source as it was when the plan was made.
type PlanSource struct {
	Path   string `toml:"path" json:"path"`
	Name   string `toml:"name" json:"name"`
	Kind   string `toml:"kind" json:"kind"`
	ID     string `toml:"id" json:"id"`
	Size   int64  `toml:"size" json:"size"` // bytes, -1 where not known
	Model  string `toml:"model,omitempty" json:"model,omitempty"`
	Serial string `toml:"serial,omitempty" json:"serial,omitempty"`
	Hurt   bool   `toml:"hurt,omitempty" json:"hurt,omitempty"` // by the disk's own record, where the order depends on it
}

func planOf(o *intakeOptions, dir, domain string, sources []source.Source) Plan {
	if abs, err := filepath.Abs(dir); err == nil && isFolder(dir) { // the plan may be done from another folder
		dir = abs
	}
	p := Plan{Store: dir, Domain: domain, Label: o.label, Compression: o.compression, Verify: o.verify}
	if o.noVerify {
		p.Verify = "none"
	}
	p.Digest = digestText(o.digest, o.noVerify)
	if o.order != asGiven {
		p.Order = o.order
	}
	p.UsedOnly, p.Files, p.Pause = o.usedOnly, o.files, o.reading.pauseWhenHot
	for _, src := range sources {
		d := intake.Describe(src)
		p.Sources = append(p.Sources, PlanSource{Path: string(d.Path), Name: d.Name, Kind: d.Kind, ID: d.ID, Size: d.Size, Model: d.Model, Serial: d.Serial})
	}
	return p
}

// Hash is what an approval of the plan is bound to.
func (p Plan) Hash() artifact.Digest {
	b, err := toml.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return artifact.HashBytes(b)
}

// Text is the plan as a file that --plan takes, with comments for people.
func (p Plan) Text(found string) string {
	b, err := toml.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers only
	}
	var head strings.Builder
	fmt.Fprintf(&head, "# asl-intake would do this; nothing was done. Plan %s\n", p.Hash().Short())
	for _, s := range p.Sources {
		hurt := ""
		if s.Hurt {
			hurt = ", hurt"
		}
		fmt.Fprintf(&head, "# %s: %s %s%s%s\n", event.Printable(s.Name), s.Kind, event.Printable(s.Path), sizeText(s.Size), hurt)
	}
	for line := range strings.Lines(found) {
		fmt.Fprintf(&head, "# %s\n", strings.TrimSuffix(line, "\n"))
	}
	fmt.Fprint(&head, "# To do it: asl-intake --batch --plan THIS-FILE\n\n")
	return head.String() + string(b)
}

func sizeText(n int64) string {
	if n < 0 {
		return ""
	}
	return ", " + event.Bytes(n)
}

// maxPlan is more than any plan needs.
const maxPlan = 1 << 20

// readPlanFile reads a regular file of a plan's size, and hangs on nothing else.
func readPlanFile(file string) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", file)
	case st.Size() > maxPlan:
		return nil, fmt.Errorf("%s has %d bytes, and no plan is larger than %d", file, st.Size(), maxPlan)
	}
	return io.ReadAll(io.LimitReader(f, maxPlan))
}

// planMistake says where in the file something is wrong, if the decoder knows.
func planMistake(file string, err error) error {
	var strict *toml.StrictMissingError
	var d *toml.DecodeError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		var all []string
		for i := range strict.Errors {
			line, col := strict.Errors[i].Position()
			all = append(all, fmt.Sprintf("%s:%d:%d: unknown key %s", file, line, col, strings.Join(strict.Errors[i].Key(), ".")))
		}
		return report.Usagef("the plan %s", strings.Join(all, "; "))
	}
	if errors.As(err, &d) {
		line, col := d.Position()
		key := strings.Join(d.Key(), ".")
		if key != "" {
			key += ": "
		}
		return report.Usagef("the plan %s:%d:%d: %s%s", file, line, col, key, strings.TrimPrefix(d.Error(), "toml: "))
	}
	return report.Usagef("the plan %s: %w", file, err)
}

func readPlan(file string) (Plan, error) {
	var p Plan
	b, err := readPlanFile(file)
	if err != nil {
		return p, report.Usagef("reading the plan: %w", err)
	}
	d := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, planMistake(file, err)
	}
	if _, err := intake.Codec(intake.Compression(p.Compression)); err != nil {
		return p, report.Usagef("the plan %s: compression: %w", file, err)
	}
	if _, err := digestNames(p.Digest); err != nil {
		return p, report.Usagef("the plan %s: %w", file, err)
	}
	if !slices.Contains([]string{"new", "all", "none"}, p.Verify) {
		return p, report.Usagef("the plan %s: verify is %q: want new, all or none", file, p.Verify)
	}
	if err := orderMistake(p.Order); err != nil {
		return p, report.Usagef("the plan %s: order: %w", file, err)
	}
	if p.Domain != "" && !store.ValidDomain(p.Domain) {
		return p, report.Usagef("the plan %s: domain %q: want 1 to 63 of a-z 0-9 - _ . beginning with a letter or digit", file, p.Domain)
	}
	if slices.ContainsFunc(p.Sources, func(s PlanSource) bool { return s.Path == "" && s.Kind != string(source.Stream) }) {
		return p, report.Usagef("the plan %s: a source has no path", file)
	}
	if p.Store == "" || len(p.Sources) == 0 {
		return p, report.Usagef("the plan %s names no store or no source", file)
	}
	return p, nil
}

// exactly is what a source was, to the byte.
func (s PlanSource) exactly() string {
	text := s.Kind
	if id := strings.TrimSpace(strings.TrimPrefix(s.ID, s.Kind)); id != "" {
		text += " " + id
	}
	if s.Size >= 0 {
		text += fmt.Sprintf(", %d bytes", s.Size)
	}
	return text
}

// voids says how the machine differs from what the plan was made of; empty if it does not.
func (p Plan) voids(now Plan) string {
	for i, was := range p.Sources {
		is := now.Sources[i]
		if was.Kind != is.Kind || was.ID != is.ID || was.Size != is.Size && was.Kind != string(source.Tree) {
			return fmt.Sprintf("%s was %s, and is %s now", was.Path, was.exactly(), is.exactly())
		}
	}
	return ""
}
