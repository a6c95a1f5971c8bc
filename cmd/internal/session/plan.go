package session

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
)

// Plan is what an intake will do, as it is shown, kept in a file, and held against the machine before it is done.
type Plan struct {
	Store       string       `toml:"store" json:"store"`
	Domain      string       `toml:"domain" json:"domain"`
	Label       string       `toml:"label,omitempty" json:"label,omitempty"`
	Compression string       `toml:"compression" json:"compression"`
	Verify      string       `toml:"verify" json:"verify"` // new, all, none
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
}

func planOf(o *intakeOptions, store, domain string, sources []source.Source) Plan {
	p := Plan{Store: store, Domain: domain, Label: o.label, Compression: o.compression, Verify: o.verify}
	if o.noVerify {
		p.Verify = "none"
	}
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
		fmt.Fprintf(&head, "# %s: %s %s%s\n", event.Printable(s.Name), s.Kind, event.Printable(s.Path), sizeText(s.Size))
	}
	if found != "" {
		fmt.Fprintf(&head, "# %s\n", found)
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

func readPlan(file string) (Plan, error) {
	var p Plan
	b, err := os.ReadFile(file)
	if err != nil {
		return p, report.Usagef("reading the plan: %w", err)
	}
	d := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, report.Usagef("the plan %s: %w", file, err)
	}
	if p.Store == "" || len(p.Sources) == 0 {
		return p, report.Usagef("the plan %s names no store or no source", file)
	}
	return p, nil
}

// voids says how the machine differs from what the plan was made of; empty if it does not.
func (p Plan) voids(now Plan) string {
	for i, was := range p.Sources {
		is := now.Sources[i]
		if was.Kind != is.Kind || was.ID != is.ID || was.Size != is.Size && was.Kind != string(source.Tree) {
			return fmt.Sprintf("%s was %s %s%s, and is %s %s%s now", was.Path, was.Kind, was.ID, sizeText(was.Size), is.Kind, is.ID, sizeText(is.Size))
		}
	}
	return ""
}
