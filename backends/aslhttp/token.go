package aslhttp

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
)

// Role is what a token may do, see "Tokens" in docs/protocol.md.
type Role string

// Roles.
const (
	Full   Role = "full"
	Append Role = "append"
	Read   Role = "read"
)

// Token is what the server knows of one.
type Token struct {
	Hash   [sha256.Size]byte // of the word
	Role   Role
	Domain string
	Quota  int64 // bytes; 0: none
}

// EveryDomain in place of a domain lets a token do what it may in all of them.
const EveryDomain = "*"

// HashToken is what stands for a token's word in a server's file.
func HashToken(word string) [sha256.Size]byte { return sha256.Sum256([]byte(word)) }

// ParseTokens reads a server's file of tokens: on each line the SHA-256 of the word, the role, the domain, and a quota in bytes if there is one. Empty lines and what
// follows a # do not count.
func ParseTokens(r io.Reader) ([]Token, error) {
	var all []Token
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		f := strings.Fields(text)
		if len(f) == 0 {
			continue
		}
		t, err := parseToken(f)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		for _, x := range all {
			if x.Hash == t.Hash {
				return nil, fmt.Errorf("line %d: this token stands in the file twice", n)
			}
		}
		all = append(all, t)
	}
	return all, lines.Err()
}

func parseToken(f []string) (t Token, err error) {
	if len(f) != 3 && len(f) != 4 {
		return t, fmt.Errorf("want HASH ROLE DOMAIN [QUOTA], there are %d words", len(f))
	}
	h, err := hex.DecodeString(f[0])
	if err != nil || len(h) != len(t.Hash) {
		return t, fmt.Errorf("%q is no SHA-256", f[0])
	}
	t.Hash, t.Role, t.Domain = [sha256.Size]byte(h), Role(f[1]), f[2]
	if t.Role != Full && t.Role != Append && t.Role != Read {
		return t, fmt.Errorf("role %q: want full, append or read", f[1])
	}
	if !store.ValidDomain(t.Domain) && t.Domain != EveryDomain {
		return t, fmt.Errorf("%q cannot be a domain", f[2])
	}
	if len(f) == 4 {
		if t.Quota, err = strconv.ParseInt(f[3], 10, 64); err != nil || t.Quota <= 0 {
			return t, fmt.Errorf("quota %q: want bytes", f[3])
		}
	}
	return t, nil
}

// holder is a token in use.
type holder struct {
	Token
	used    int64                        // bytes that count against the quota
	created map[artifact.Digest]struct{} // blocks and segments: counted, and to be verified by a token that may not read them
}

// createdMost bounds what is remembered for one token: 8 TiB of blocks.
const createdMost = 1 << 20

// mayRead tells whether the object may be had by its name.
func (t Token) mayRead(name string) bool {
	kind, rest, _ := strings.Cut(name, "/")
	switch kind {
	case "blocks":
		return t.Role != Append
	case "segments":
		return true
	}
	domain, _, _ := strings.Cut(rest, "/")
	return domain == t.Domain || t.Domain == EveryDomain
}

// mayCreate tells whether the object may be made.
func (t Token) mayCreate(name string) bool {
	kind, _, _ := strings.Cut(name, "/")
	return t.Role != Read && (kind == "blocks" || t.mayRead(name))
}

// mayList tells whether the name may be shown in a list.
func (t Token) mayList(name string) bool {
	return t.mayRead(name) && (t.Role != Append || !strings.HasPrefix(name, "segments/"))
}
