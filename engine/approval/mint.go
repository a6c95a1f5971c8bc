package approval

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

// How consent was given, as the log has it.
const (
	Typed  = "typed"  // the name was typed
	Key    = "key"    // y
	Config = "config" // the config names it
	Token  = "token"  // --approve
)

// Approved is a plan that was consented to. The zero value is none, and Holds refuses it.
type Approved[P Plan] struct {
	plan   P
	sheet  Sheet
	how    string
	origin string
	minted bool
}

// Ask is a person's answer to a plan that was shown: shown is the hash of the sheet that was on the screen, answer is what was typed.
func Ask[P Plan](p P, shown Hash, answer string) (Approved[P], error) {
	s := p.Sheet()
	if s.Hash() != shown {
		return Approved[P]{}, fmt.Errorf("%w: what was shown is not what would be done any more", ErrVoid)
	}
	how, err := s.answered(strings.TrimSpace(answer))
	if err != nil {
		return Approved[P]{}, err
	}
	return Approved[P]{p, s, how, "", true}, nil
}

// answered says how an answer gives consent, or why it does not.
func (s Sheet) answered(answer string) (how string, err error) {
	switch s.Gate {
	case Reading:
		return Key, nil
	case Reversible:
		if answer == "y" || answer == "Y" {
			return Key, nil
		}
		return "", fmt.Errorf("%w: y was not pressed", ErrMissing)
	case Rewind:
		if s.Rehearsal == "" {
			return "", fmt.Errorf("%w: what it would do was not rehearsed", ErrMissing)
		}
	}
	if s.Word == "" {
		return "", fmt.Errorf("%w: there is no name to type", ErrMissing)
	}
	if answer != s.Word {
		return "", fmt.Errorf("%w: %s was not typed", ErrMissing, s.Word)
	}
	return Typed, nil
}

// TokenOf is what a dry run prints, and --approve takes: import=<guid>:<hash>.
func TokenOf(p Plan) string {
	s := p.Sheet()
	return s.Verb + "=" + s.ID + ":" + s.Hash().Short()
}

// AToken is a token taken apart.
type AToken struct {
	Verb, ID, Hash string
}

// ParseToken reads a token.
func ParseToken(text string) (AToken, error) {
	verb, rest, ok := strings.Cut(text, "=")
	id, hash, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 || verb == "" || id == "" || len(hash) != shortHash || strings.Trim(hash, "0123456789abcdef") != "" {
		return AToken{}, fmt.Errorf("%q is no token: want VERB=ID:HASH as a dry run prints it, HASH being %d hex digits", text, shortHash)
	}
	return AToken{verb, id, hash}, nil
}

// ByToken is consent by one of the tokens given. A token for this thing but another plan is void, and not the same as none.
func ByToken[P Plan](p P, tokens ...string) (Approved[P], error) {
	if len(tokens) == 0 {
		return Approved[P]{}, ErrMissing
	}
	s := p.Sheet()
	void := ""
	for _, text := range tokens {
		t, err := ParseToken(text)
		if err != nil {
			return Approved[P]{}, err
		}
		if t.Verb != s.Verb || t.ID != s.ID {
			continue
		}
		if t.Hash == s.Hash().Short() {
			if s.Gate == Rewind && s.Rehearsal == "" {
				return Approved[P]{}, fmt.Errorf("%w: what it would do was not rehearsed", ErrMissing)
			}
			return Approved[P]{p, s, Token, text, true}, nil
		}
		void = text
	}
	if void != "" {
		return Approved[P]{}, fmt.Errorf("%w: %s is for another plan: since it was printed the pool, its disks or the command changed; the token is %s now", ErrVoid, void, TokenOf(p))
	}
	return Approved[P]{}, fmt.Errorf("%w: no token for %s=%s", ErrMissing, s.Verb, s.ID)
}

// Entry is one thing that the config approves.
type Entry struct {
	Value  string // an id, or a name
	Origin string // where it stands: /etc/asl/asl.conf:3
}

// ByConfig is consent by the config, for runs without a person only. A name approves only where it is one thing's: namesakes is how many
// things have the name of p, p included. What cannot be taken back is never approved this way.
func ByConfig[P Plan](p P, entries []Entry, namesakes int) (Approved[P], error) {
	s := p.Sheet()
	if s.Gate == Rewind {
		return Approved[P]{}, fmt.Errorf("%w: a config cannot approve what cannot be taken back", ErrMissing)
	}
	var err error
	for _, e := range entries {
		switch {
		case e.Value == s.ID, e.Value == s.Word && e.Value != "" && namesakes == 1:
			return Approved[P]{p, s, Config, e.Origin, true}, nil
		case e.Value == s.Word && e.Value != "":
			err = fmt.Errorf("%w: %s is not the name of one alone, or not all could be looked at, so that %s must say which: %s", ErrMissing, s.Word, e.Origin, s.ID)
		}
	}
	if err == nil {
		err = fmt.Errorf("%w: the config names neither %s nor %s", ErrMissing, s.ID, s.Word)
	}
	return Approved[P]{}, err
}

// Holds tells whether the approval is one, and is of what would be done now. The plan now is made of the machine as it is at this
// moment. An error names every difference.
func (a Approved[P]) Holds(now P) error {
	if !a.minted {
		return ErrMissing
	}
	if d := a.sheet.Differences(now.Sheet()); d != nil {
		return fmt.Errorf("%w: %s", ErrVoid, strings.Join(d, "; "))
	}
	return nil
}

// Plan is what was approved.
func (a Approved[P]) Plan() P { return a.plan }

// How says by what, as the log has it, and where that stands if it stands somewhere.
func (a Approved[P]) How() (how, origin string) { return a.how, a.origin }

// Record is the approval as the log keeps it. The clock is the machine's, which is often wrong.
func (a Approved[P]) Record(clock time.Time) format.Approval {
	r := format.Approval{Plan: artifact.Digest(a.sheet.Hash()), What: a.sheet.What, How: a.how, Clock: clock.Unix(),
		Verb: a.sheet.Verb, Subject: a.sheet.ID, Gate: uint8(a.sheet.Gate), Origin: a.origin, Commands: a.sheet.Commands}
	rand.Read(r.ID[:]) // never fails since Go 1.24
	for _, t := range a.sheet.Things {
		r.Things = append(r.Things, t.String())
	}
	return r
}
