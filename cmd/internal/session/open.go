// Package session is what the programs do, once their command line is read: it wires configuration, stores, sources and
// reports together.
package session

import (
	"context"
	"errors"
	"io/fs"

	"aslrescue/backends/local"
	"aslrescue/cmd/internal/report"
	"aslrescue/engine/store"
)

// DefaultDomain is whose store a new one is where nobody says otherwise.
const DefaultDomain = "rescue-domain"

// OpenStore opens the store in dir to read and append. Where the medium cannot be written it opens read-only. An empty
// domain is the only one in the store. Close it by its Backend.
func OpenStore(ctx context.Context, dir, domain, tool string) (*store.Store, error) {
	return openStore(ctx, dir, domain, tool)
}

// ReadStore opens the store in dir and writes nothing there, not even the proof that it could.
func ReadStore(ctx context.Context, dir, domain, tool string) (*store.Store, error) {
	return openStore(ctx, dir, domain, tool, local.ReadOnly())
}

func openStore(ctx context.Context, dir, domain, tool string, opts ...local.Option) (*store.Store, error) {
	if dir == "" {
		return nil, report.Usagef("no store given: say --store DIR")
	}
	b, err := local.OpenPath(dir, opts...)
	if err != nil {
		return nil, openError(dir, err)
	}
	s, err := store.Open(ctx, b, store.Options{Domain: domain, Tool: tool})
	return keepOrClose(dir, b, s, err)
}

// CreateOrOpenStore opens the store in dir, or makes one of a folder that is absent or empty. A folder that holds
// anything else is refused and left as it is. An empty domain is the only one in the store, in a new one DefaultDomain.
func CreateOrOpenStore(ctx context.Context, dir, domain, tool string) (*store.Store, error) {
	if dir == "" {
		return nil, report.Usagef("no store given: say --store DIR")
	}
	b, err := local.CreatePath(dir)
	if errors.Is(err, fs.ErrExist) && !errors.Is(err, local.ErrForeign) {
		b, err = local.OpenPath(dir)
	}
	if err != nil {
		return nil, openError(dir, err)
	}
	if domain == "" {
		domains, err := store.Domains(ctx, b)
		if err != nil || len(domains) > 0 {
			s, oerr := store.Open(ctx, b, store.Options{Tool: tool})
			return keepOrClose(dir, b, s, errors.Join(err, oerr))
		}
		domain = DefaultDomain
	}
	s, err := store.Create(ctx, b, store.Options{Domain: domain, Tool: tool})
	return keepOrClose(dir, b, s, err)
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
	if errors.Is(err, local.ErrForeign) {
		e.Code = report.NoStore
	}
	return e
}
