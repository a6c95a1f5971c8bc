package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"aslrescue/backends/zfs"
	"aslrescue/engine/approval"
	"aslrescue/engine/store"
)

// Several takes a value apart that may be several things: blanks or commas stand between them.
func Several(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' || r == '\n' || r == '\r' })
}

// oneOf wants one of some words.
func oneOf(words ...string) func(string) error {
	return func(s string) error {
		if slices.Contains(words, s) {
			return nil
		}
		best, least := "", len(s)/2+1
		for _, w := range words {
			if d := Distance(s, w); d < least {
				best, least = w, d
			}
		}
		if best != "" {
			return fmt.Errorf("%q is none of %s; did you mean %s?", s, strings.Join(words, ", "), best)
		}
		return fmt.Errorf("%q is none of %s", s, strings.Join(words, ", "))
	}
}

// orEmpty lets nothing stand for nothing.
func orEmpty(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

// between wants a whole number.
func between(least, most int) func(string) error {
	return func(s string) error {
		if n, err := strconv.Atoi(s); err != nil || n < least || n > most {
			return fmt.Errorf("%q: want a whole number from %d to %d", s, least, most)
		}
		return nil
	}
}

func checkDuration(s string) error {
	if d, err := time.ParseDuration(s); err != nil || d < 0 {
		return fmt.Errorf("%q: want a time like 90s, 45m or 12h", s)
	}
	return nil
}

func checkLabel(s string) error {
	if len(s) > 200 || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("want one line of at most 200 bytes")
	}
	return nil
}

// checkPin wants the hash of a key as text.
func checkPin(s string) error {
	if s == "" {
		return nil
	}
	hash, ok := strings.CutPrefix(s, "sha256:")
	if b, err := hex.DecodeString(hash); !ok || err != nil || len(b) != 32 {
		return errors.New("want sha256: and 64 hex digits, the hash of the server's public key")
	}
	return nil
}

func checkProxy(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5":
		return errors.New("want http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT")
	case u.User != nil:
		return errSecret
	}
	return nil
}

// errSecret refuses what nobody may ship in an image.
var errSecret = errors.New("holds a name or password: secrets never stand in a config file")

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

func checkPools(s string) error {
	for p := range slices.Values(Several(s)) {
		if !zfs.ValidDataset(p + "/x") {
			return fmt.Errorf("%q is neither the name of a pool nor a GUID", p)
		}
	}
	return nil
}

// Approvals are the pools that a run without a person may import, and where that stands.
func (c *Config) Approvals() (all []approval.Entry) {
	for p := range slices.Values(Several(c.ApproveImport)) {
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
		return errSecret
	}
	return nil
}

func checkDomain(s string) error {
	if !store.ValidDomain(s) {
		return fmt.Errorf("%q: want 1 to 63 of a-z 0-9 - _ . beginning with a letter or digit", s)
	}
	return nil
}
