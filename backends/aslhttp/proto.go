// Package aslhttp keeps a store at an https endpoint, by the protocol of docs/protocol.md: New is the client, a store.Backend; Server is the server, over
// any other Backend.
package aslhttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
)

// Version of the protocol.
const Version = 1

const (
	root          = "/asl/v1/"
	maxObject     = 80 << 20 // bytes
	listMost      = 1000
	verifyMost    = 64
	contentHeader = "Asl-Content"
	mediumHeader  = "Asl-Uncached"
	problemType   = "application/problem+json"
	urn           = "urn:asl:"
)

// Capabilities is what the endpoint says of itself.
type Capabilities struct {
	Protocol  [2]int `json:"protocol"`
	Time      int64  `json:"time"` // seconds since 1970, by the server
	MaxObject int64  `json:"max_object"`
	Domain    string `json:"domain,omitempty"`
	Role      Role   `json:"role,omitempty"`
	Free      *int64 `json:"free,omitempty"` // bytes that may still be stored; -1: not known
}

type list struct {
	Objects []listed `json:"objects"`
	More    bool     `json:"more"`
}

type listed struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

type verified struct {
	Name  string `json:"name"`
	Size  int64  `json:"size,omitempty"`
	State string `json:"state"`
	Why   string `json:"why,omitempty"`
}

// States of a block that was verified.
const (
	good    = "good"
	hurt    = "damaged"
	missing = "absent"
	unread  = "unread"
)

// problem is how an error crosses the line, see "Errors" in docs/protocol.md.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// kind is a row of the table of errors.
type kind struct {
	name   string
	status int
	title  string
	is     error // what the engine calls it; nil: an error of its own
}

var (
	badName     = kind{"name", http.StatusBadRequest, "no object can have that name", store.ErrName}
	badRequest  = kind{"request", http.StatusBadRequest, "the request is not one of the protocol's", nil}
	noToken     = kind{"token", http.StatusUnauthorized, "the token is missing, or not one of this server's", ErrToken}
	forbidden   = kind{"forbidden", http.StatusForbidden, "the token may not do that", ErrForbidden}
	absent      = kind{"absent", http.StatusNotFound, "there is no such object", artifact.ErrNotFound}
	conflict    = kind{"conflict", http.StatusConflict, "the name is taken by other bytes", artifact.ErrConflict}
	damagedName = kind{"damaged", http.StatusConflict, "what stands under the name is not what its name says", artifact.ErrDamaged}
	damagedRead = kind{"damaged", http.StatusInternalServerError, "the object cannot be read", artifact.ErrDamaged}
	large       = kind{"large", http.StatusRequestEntityTooLarge, "the object is too large", nil}
	pastEnd     = kind{"range", http.StatusRequestedRangeNotSatisfiable, "the object is shorter", io.ErrUnexpectedEOF}
	badDigest   = kind{"digest", http.StatusUnprocessableEntity, "the body is not what the request says of it", ErrDigest}
	busy        = kind{"busy", http.StatusServiceUnavailable, "too much at once", nil}
	full        = kind{"full", http.StatusInsufficientStorage, "there is no room left, or the token may store no more", artifact.ErrFull}
	readOnly    = kind{"read-only", http.StatusForbidden, "the store takes nothing", artifact.ErrReadOnly}
	internal    = kind{"internal", http.StatusInternalServerError, "the server failed", nil}
)

var kinds = []kind{badName, badRequest, noToken, forbidden, absent, conflict, damagedName, large, pastEnd, badDigest, busy, full, readOnly, internal}

// What an endpoint may say beside the engine's own errors.
var (
	ErrToken     = errors.New("the endpoint does not know the token")
	ErrForbidden = errors.New("the token may not do that")
	ErrDigest    = errors.New("the bytes that arrived are not those that were sent")
)

// Error is an answer that was no success, or none at all.
type Error struct {
	What   string // the request
	Status int    // 0: there was no answer
	Kind   string // of the table in docs/protocol.md; empty where the answer did not say
	Detail string
	Wait   time.Duration // at least so long before it is tried again; of what is temporary
	err    error
}

func (e *Error) Error() string {
	s := e.What + ": "
	switch {
	case e.Status == 0:
		return s + e.err.Error()
	case e.err != nil:
		s += e.err.Error()
	default:
		s += fmt.Sprintf("the endpoint answered %d %s", e.Status, http.StatusText(e.Status))
	}
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.err }

// RetryAfter tells whether the same request may succeed later, and how long to wait at least.
func (e *Error) RetryAfter() (time.Duration, bool) {
	if e.Status == 0 {
		return 0, !errors.Is(e.err, context.Canceled) && !errors.Is(e.err, ErrCertificate)
	}
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return e.Wait, e.Kind != damagedRead.name
	case http.StatusUnprocessableEntity: // changed on the way
		return 0, true
	}
	return 0, false
}

// Changed tells whether other bytes arrived than were sent.
func (e *Error) Changed() bool { return e.Status == http.StatusUnprocessableEntity }

// ErrCertificate is a certificate that will be as wrong the next time.
var ErrCertificate = errors.New("the endpoint's certificate")

// problemOf reads the answer that was no success.
func problemOf(what string, res *http.Response) *Error {
	e := &Error{What: what, Status: res.StatusCode}
	body, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // what does not come is not told
	var p problem
	if json.Unmarshal(body, &p) == nil && len(p.Type) > len(urn) && p.Type[:len(urn)] == urn {
		e.Kind, e.Detail = p.Type[len(urn):], p.Detail
	}
	for _, k := range kinds {
		if k.name == e.Kind && k.is != nil {
			e.err = k.is
		}
	}
	if e.Kind == "" && res.StatusCode == http.StatusUnauthorized {
		e.err = ErrToken
	}
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 {
		e.Wait = min(time.Duration(s)*time.Second, 5*time.Minute)
	}
	return e
}
