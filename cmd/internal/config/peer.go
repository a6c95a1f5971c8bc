package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Peer is another domain's store, and what passes between it and ours.
type Peer struct {
	Name      string // as federation.conf calls it: [peer.NAME]
	Domain    string // its domain.id; the name, if nothing else is said
	Endpoint  string
	Key       string // with which its snapshots are signed: a verifier key of a signed note
	Pin       string // of the endpoint's TLS key
	Direction string // push, pull, both, none
	Admission string // manual, signed: whether its snapshots want a person's word
}

type peerKey struct {
	name  string
	value func(*Peer) *string
	check func(string) error
}

func peerKeys() []peerKey {
	return []peerKey{
		{"domain", func(p *Peer) *string { return &p.Domain }, checkDomain},
		{"endpoint", func(p *Peer) *string { return &p.Endpoint }, checkPeerEndpoint},
		{"key", func(p *Peer) *string { return &p.Key }, checkVerifier},
		{"pin", func(p *Peer) *string { return &p.Pin }, checkPin},
		{"direction", func(p *Peer) *string { return &p.Direction }, oneOf("push", "pull", "both", "none")},
		{"admission", func(p *Peer) *string { return &p.Admission }, oneOf("manual", "signed")},
	}
}

// setPeer takes peer.NAME.KEY. Whom to trust is said in a file and nowhere else.
func (c *Config) setPeer(name, value, origin, file string) *Mistake {
	if file != federationConf {
		return &Mistake{Key: name, Err: errors.New("belongs into " + federationConf)}
	}
	rest := strings.TrimPrefix(name, "peer.")
	i := strings.LastIndexByte(rest, '.')
	if i < 0 {
		return &Mistake{Key: name, Err: errors.New("want peer.NAME.KEY, or [peer.NAME] above the keys")}
	}
	who, what := rest[:i], rest[i+1:]
	if err := checkDomain(who); err != nil {
		return &Mistake{Key: name, Err: fmt.Errorf("the peer's name: %w", err)}
	}
	all := peerKeys()
	at := slices.IndexFunc(all, func(k peerKey) bool { return k.name == what })
	if at < 0 {
		best, least := "", len(what)/2+1
		for _, k := range all {
			if d := Distance(what, k.name); d < least {
				best, least = k.name, d
			}
		}
		if best != "" {
			return &Mistake{Key: name, Err: fmt.Errorf("unknown key; did you mean peer.%s.%s?", who, best)}
		}
		return &Mistake{Key: name, Err: errors.New("unknown key")}
	}
	p := c.peers[who]
	if p == nil {
		p = &Peer{Name: who, Domain: who, Direction: "push", Admission: "manual"}
		c.peers[who] = p
		c.origins["peer."+who] = origin
	}
	if err := all[at].check(value); err != nil {
		return &Mistake{Key: name, Err: err}
	}
	*all[at].value(p) = value
	c.origins[name] = origin
	return nil
}

// settlePeers takes the peers that are whole. Half a peer is a mistake, and no peer.
func (c *Config) settlePeers() []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.peers)) {
		p := c.peers[name]
		missing := ""
		switch {
		case p.Endpoint == "":
			missing = "endpoint"
		case p.Key == "":
			missing = "key"
		}
		if missing != "" {
			file, line := place(c.origins["peer."+name])
			errs = append(errs, &Mistake{File: file, Line: line, Col: 1, Key: "peer." + name, Err: fmt.Errorf("%s is missing; the peer is left out", missing)})
			continue
		}
		c.Peers = append(c.Peers, *p)
	}
	return errs
}

// place takes an origin apart.
func place(origin string) (file string, line int) {
	i := strings.LastIndexByte(origin, ':')
	if i < 0 {
		return origin, 0
	}
	if _, err := fmt.Sscanf(origin[i+1:], "%d", &line); err != nil {
		return origin, 0
	}
	return origin[:i], line
}

func checkPeerEndpoint(s string) error {
	if s == "" {
		return errors.New("want https://HOST or s3://BUCKET/PREFIX")
	}
	return checkEndpoint(s)
}

func checkVerifier(s string) error {
	if strings.HasPrefix(s, "PRIVATE+KEY+") {
		return errors.New("is a private key: secrets never stand in a config file, and this one is known to whoever read it")
	}
	if _, err := note.NewVerifier(s); err != nil {
		return errors.New("want the public key that the peer's snapshots are signed with: NAME+HASH+KEY")
	}
	return nil
}
