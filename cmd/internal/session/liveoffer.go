package session

import (
	"context"
	"fmt"

	"aslrescue/tui/ask"
)

// Offers are the changes to pools that can be approved.
func (l *Live) Offers(context.Context) ([]ask.Offer, error) { return nil, nil }

// Answer gives or withholds consent.
func (l *Live) Answer(_ context.Context, a ask.Answer) (string, error) {
	return "", fmt.Errorf("%w: nothing with the hash %.8s is offered", ask.ErrChanged, a.Hash)
}
