// Package session is what the programs do, once their command line is read: it wires configuration, stores, sources and
// reports together.
package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"aslrescue/backends/local"
	"aslrescue/cmd/internal/report"
	"aslrescue/engine/approval"
	"aslrescue/engine/store"
)

// DefaultDomain is whose store a new one is where nobody says otherwise.
const DefaultDomain = "rescue-domain"

// OpenStore opens the store in dir to read and append. Where the medium cannot be written it opens read-only. An empty
// domain is the only one in the store. Close it by its Backend.
func OpenStore(ctx context.Context, dir, domain, tool string) (*store.Store, error) {
	return way{}.openStore(ctx, dir, domain, tool, false)
}

// ReadStore opens the store in dir and writes nothing there, not even the proof that it could.
func ReadStore(ctx context.Context, dir, domain, tool string) (*store.Store, error) {
	return way{}.openStore(ctx, dir, domain, tool, true)
}

func (w way) openStore(ctx context.Context, place, domain, tool string, read bool) (*store.Store, error) {
	b, whose, err := w.open(ctx, place, read)
	if err != nil {
		return nil, openError(place, err)
	}
	if domains, err := store.Domains(ctx, b); err == nil && len(domains) > 0 {
		if err := chosen(domains, domain, report.NoStore); err != nil {
			return keepOrClose(place, b, nil, err)
		}
	}
	s, err := store.Open(ctx, b, store.Options{Domain: cmp.Or(domain, whose), Tool: tool})
	return keepOrClose(place, b, s, err)
}

// chosen tells whether the domain asked for, or the only one, is among those of a store. If not, absent is the exit code.
func chosen(domains []string, domain string, absent report.Code) error {
	var next []string
	for _, d := range domains[:min(len(domains), 5)] {
		next = append(next, "--domain "+d)
	}
	switch {
	case domain == "" && len(domains) > 1:
		return &report.Error{Err: fmt.Errorf("the store holds the domains %s: say which", strings.Join(domains, ", ")), Code: report.Usage, Next: next}
	case domain != "" && !slices.Contains(domains, domain):
		return &report.Error{Err: fmt.Errorf("the store holds %s, not domain %q", strings.Join(domains, ", "), domain), Code: absent, Next: next}
	}
	return nil
}

// typed is a path as one could type it in a command.
func typed(path string) string { return approval.Line([]string{path}) }

func badDomain(s string) error {
	return report.Usagef("--domain %q: want 1 to 63 of a-z 0-9 - _ . beginning with a letter or digit", s)
}

// CreateOrOpenStore opens the store in dir, or makes one of a folder that is absent or empty. A folder that holds
// anything else is refused and left as it is. An empty domain is the only one in the store, in a new one DefaultDomain.
func CreateOrOpenStore(ctx context.Context, dir, domain, tool string) (*store.Store, error) {
	return createOrOpen(ctx, dir, domain, tool, func(b store.Backend) store.Backend { return b })
}

// createOrOpen is CreateOrOpenStore over a backend that is measured.
func createOrOpen(ctx context.Context, dir, domain, tool string, measured func(store.Backend) store.Backend) (*store.Store, error) {
	return way{}.createOrOpen(ctx, dir, domain, tool, measured)
}

func (w way) createOrOpen(ctx context.Context, place, domain, tool string, measured func(store.Backend) store.Backend) (*store.Store, error) {
	at, whose, err := w.make(ctx, place)
	if err != nil {
		return nil, openError(place, err)
	}
	b := measured(at)
	domains, err := store.Domains(ctx, b)
	if err == nil && len(domains) > 0 {
		err = chosen(domains, domain, report.Usage)
	}
	if err == nil && whose != "" && domain != "" && domain != whose {
		err = report.Usagef("the token is for the domain %s, not for %s: leave --domain and domain.id out, or get another token", whose, domain)
	}
	if err != nil {
		return keepOrClose(place, b, nil, err)
	}
	o := store.Options{Domain: domain, Tool: tool}
	if len(domains) > 0 {
		s, err := store.Open(ctx, b, o)
		return keepOrClose(place, b, s, err)
	}
	o.Domain = cmp.Or(domain, whose, DefaultDomain)
	s, err := store.Create(ctx, b, o)
	return keepOrClose(place, b, s, err)
}

func keepOrClose(dir string, b store.Backend, s *store.Store, err error) (*store.Store, error) {
	if err != nil {
		_ = b.Close() // the first error is the one to tell
		return nil, openError(dir, err)
	}
	return s, nil
}

// openError says what was to be opened. A folder of somebody else's is no store of ours, whatever the reason.
func openError(dir string, err error) error {
	e := &report.Error{What: "open the store " + dir, Err: err}
	var inner *report.Error
	if errors.As(err, &inner) {
		e.Code, e.Means, e.Next = inner.Code, inner.Means, inner.Next
	}
	if st, serr := os.Stat(dir); serr == nil && !st.IsDir() {
		e.Code, e.Means = report.NoStore, "A store is a folder, and this is none."
		e.Next = []string{"Give an empty folder, or one that is a store already."}
	}
	if errors.Is(err, local.ErrForeign) {
		e.Code = report.NoStore
	}
	return e
}
