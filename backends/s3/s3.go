// Package s3 keeps a store in a bucket of any S3-compatible server. Names are the store's own below a prefix; every write is one conditional PUT, and what the server
// says of its abilities is proved before it is believed. No ETag or checksum of the server's is trusted: what counts is BLAKE3.
package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
)

// Options say how the bucket is reached.
type Options struct {
	Endpoint  string // HOST[:PORT] of the server
	Plain     bool   // without TLS: only for servers on this machine
	Region    string
	Creds     *credentials.Credentials
	Transport http.RoundTripper
	// SingleWriter says that nobody else writes there. Without conditional creates the bucket is used only then.
	SingleWriter bool
}

// ErrNoConditional is a server that lets one writer overwrite what another has just created.
var ErrNoConditional = errors.New("the server does not create conditionally (If-None-Match: *), so that two writers could overwrite each other's log")

type backend struct {
	c        *minio.Client
	bucket   string
	prefix   string // with its slash at the end, or empty
	where    string
	readOnly bool
	safe     bool // conditional creates are proved
	mu       sync.Mutex
	own      map[string]bool // without them: names under way here
}

var _ store.Backend = (*backend)(nil)

// Parse reads "s3://BUCKET[/PREFIX]".
func Parse(place string) (bucket, prefix string, err error) {
	u, err := url.Parse(place)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", fmt.Errorf("%q: want s3://BUCKET[/PREFIX]", place)
	}
	prefix = strings.Trim(u.Path, "/")
	if prefix != "" {
		prefix += "/"
	}
	return u.Host, prefix, nil
}

// At is the server at a URL, or Amazon's where that is empty. Keys come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the file that
// AWS_SHARED_CREDENTIALS_FILE and AWS_PROFILE name, as with all tools for S3.
func At(endpoint, region string) Options {
	o := Options{Endpoint: "s3.amazonaws.com", Region: region, Creds: credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}})}
	if endpoint != "" {
		host, plain := strings.CutPrefix(endpoint, "http://")
		o.Endpoint, o.Plain = strings.TrimRight(strings.TrimPrefix(host, "https://"), "/"), plain
	}
	return o
}

// New is the store at "s3://BUCKET[/PREFIX]". Unless it is to be read only, it proves first that objects are created conditionally.
func New(ctx context.Context, place string, readOnly bool, o Options) (store.Backend, error) {
	bucket, prefix, err := Parse(place)
	if err != nil {
		return nil, err
	}
	c, err := minio.New(o.Endpoint, &minio.Options{Creds: o.Creds, Secure: !o.Plain, Region: o.Region, Transport: o.Transport,
		MaxRetries: 1, BucketLookup: minio.BucketLookupAuto})
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", place, o.Endpoint, err)
	}
	b := &backend{c: c, bucket: bucket, prefix: prefix, where: place + " at " + o.Endpoint, readOnly: readOnly, own: map[string]bool{}}
	if readOnly {
		return b, nil
	}
	if err := b.prove(ctx); err != nil && (!o.SingleWriter || !errors.Is(err, ErrNoConditional)) {
		return nil, fmt.Errorf("%s: %w", b.where, err)
	}
	return b, nil
}

// prove tries what the log stands on: a second PUT with other bytes is refused and changes nothing, and of several at once one wins.
func (b *backend) prove(ctx context.Context) error {
	var id [16]byte
	rand.Read(id[:])
	key := b.prefix + "probe/" + hex.EncodeToString(id[:])
	defer func() {
		for _, k := range []string{key, key + "-race"} {
			_ = b.c.RemoveObject(context.WithoutCancel(ctx), b.bucket, k, minio.RemoveObjectOptions{}) // what stays is small and nobody's object
		}
	}()
	err := b.put(ctx, key, []byte("first"), true)
	if err != nil && taken(err) {
		return fmt.Errorf("%w: it says that a key is taken which never was", ErrNoConditional)
	}
	if err != nil {
		return meaning("PUT", key, err)
	}
	err = b.put(ctx, key, []byte("other"), true)
	if err == nil || !taken(err) {
		return fmt.Errorf("%w: the second PUT of a key gave %v", ErrNoConditional, err)
	}
	got, err := b.read(ctx, key)
	if err != nil {
		return meaning("GET", key, err)
	}
	if string(got) != "first" {
		return fmt.Errorf("%w: it said that the key is taken, and overwrote it", ErrNoConditional)
	}
	const racers = 8
	won := make(chan bool, racers)
	for i := range racers {
		go func() { won <- b.put(ctx, key+"-race", fmt.Appendf(nil, "racer %d", i), true) == nil }()
	}
	winners := 0
	for range racers {
		if <-won {
			winners++
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if winners != 1 {
		return fmt.Errorf("%w: of %d PUTs of one key at once %d succeeded", ErrNoConditional, racers, winners)
	}
	b.safe = true
	return nil
}

func (b *backend) put(ctx context.Context, key string, data []byte, conditional bool) error {
	o := minio.PutObjectOptions{ContentType: "application/octet-stream", SendContentMd5: true, DisableMultipart: true}
	if conditional {
		o.SetMatchETagExcept("*")
	}
	_, err := b.c.PutObject(ctx, b.bucket, key, bytes.NewReader(data), int64(len(data)), o)
	return err
}

func (b *backend) read(ctx context.Context, key string) ([]byte, error) {
	o, err := b.c.GetObject(ctx, b.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = o.Close() }() // only read
	return io.ReadAll(o)
}

// taken tells whether a conditional PUT found the key taken.
func taken(err error) bool {
	r := minio.ToErrorResponse(err)
	return r.StatusCode == http.StatusPreconditionFailed || r.Code == "PreconditionFailed"
}

// Create is part of store.Backend.
func (b *backend) Create(ctx context.Context, name string, data []byte) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	if b.readOnly {
		return fmt.Errorf("create %s: %w", name, artifact.ErrReadOnly)
	}
	free, err := b.claim(ctx, name, data)
	if err != nil || free == nil {
		return err
	}
	defer free()
	err = b.put(ctx, b.prefix+name, data, b.safe)
	if err == nil {
		return b.stored(ctx, name, data)
	}
	if taken(err) {
		return b.settle(ctx, name, data)
	}
	return meaning("PUT", name, err)
}

// claim stands in for conditional creates where one process alone writes: it holds the name, and looks first. free is nil if the bytes are there.
func (b *backend) claim(ctx context.Context, name string, data []byte) (free func(), err error) {
	if b.safe {
		return func() {}, nil
	}
	b.mu.Lock()
	taken := b.own[name]
	b.own[name] = true
	b.mu.Unlock()
	if taken {
		return nil, &temporary{fmt.Errorf("create %s: it is under way already", name), 0}
	}
	free = func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.own, name)
	}
	_, err = b.Stat(ctx, name)
	switch {
	case errors.Is(err, artifact.ErrNotFound):
		return free, nil
	case err == nil:
		err = b.settle(ctx, name, data)
	}
	free()
	return nil, err
}

// stored asks whether the object is there as it was sent: some servers say 200 before they know.
func (b *backend) stored(ctx context.Context, name string, data []byte) error {
	size, err := b.Stat(ctx, name)
	switch {
	case errors.Is(err, artifact.ErrNotFound):
		return &temporary{fmt.Errorf("create %s: the server took it and does not have it", name), 0}
	case err != nil:
		return err
	case size != int64(len(data)):
		return fmt.Errorf("create %s: %d bytes of %d arrived: %w", name, size, len(data), artifact.ErrDamaged)
	}
	return nil
}

// settle answers for a name that is taken: what stands there is read and compared.
func (b *backend) settle(ctx context.Context, name string, data []byte) error {
	got, err := b.read(ctx, b.prefix+name)
	if err != nil {
		return meaning("GET", name, err)
	}
	if bytes.Equal(got, data) {
		return nil
	}
	kind, hash, _ := strings.Cut(name, "/")
	if (kind == "blocks" || kind == "segments") && artifact.HashBytes(got).String() != hash {
		return fmt.Errorf("create %s: %w", name, artifact.ErrDamaged)
	}
	return fmt.Errorf("create %s: %w", name, artifact.ErrConflict)
}

// Stat is part of store.Backend.
func (b *backend) Stat(ctx context.Context, name string) (int64, error) {
	if err := store.CheckName(name); err != nil {
		return 0, err
	}
	i, err := b.c.StatObject(ctx, b.bucket, b.prefix+name, minio.StatObjectOptions{})
	if err != nil {
		return 0, meaning("HEAD", name, err)
	}
	return i.Size, nil
}

// Open is part of store.Backend.
func (b *backend) Open(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if off < 0 {
		return nil, fmt.Errorf("open %s: offset %d", name, off)
	}
	size, err := b.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	if n < 0 {
		n = max(size-off, 0)
	}
	if off > size || n > size-off {
		return nil, fmt.Errorf("open %s: %d bytes from %d of %d: %w", name, n, off, size, io.ErrUnexpectedEOF)
	}
	if n == 0 {
		return http.NoBody, nil
	}
	var o minio.GetObjectOptions
	if err := o.SetRange(off, off+min(n, math.MaxInt64-off)-1); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	core := minio.Core{Client: b.c}
	r, _, _, err := core.GetObject(ctx, b.bucket, b.prefix+name, o)
	if err != nil {
		return nil, meaning("GET", name, err)
	}
	return &body{r, name, n}, nil
}

// body is what is read of an object. An end before its time is a broken connection.
type body struct {
	r    io.ReadCloser
	name string
	left int64
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err == nil || err == io.EOF && b.left == 0 {
		return n, nil
	}
	return n, &temporary{fmt.Errorf("GET %s: the connection ended in the middle: %s", b.name, err), 0}
}

func (b *body) Close() error { return b.r.Close() }

// List is part of store.Backend.
func (b *backend) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // ends the listing where it is left early
		o := minio.ListObjectsOptions{Prefix: b.prefix + prefix, Recursive: true}
		if after != "" {
			o.StartAfter = b.prefix + after
		}
		last := after
		for i := range b.c.ListObjects(ctx, b.bucket, o) {
			if i.Err != nil {
				yield(store.Entry{}, meaning("LIST", prefix, i.Err))
				return
			}
			name := strings.TrimPrefix(i.Key, b.prefix)
			if store.CheckName(name) != nil || name <= after {
				continue // somebody else's, or a server that begins too early
			}
			if name <= last {
				yield(store.Entry{}, fmt.Errorf("LIST %s: the server gave %s after %s", prefix, name, last))
				return
			}
			last = name
			if !yield(store.Entry{Name: name, Size: i.Size}, nil) {
				return
			}
		}
		if ctx.Err() != nil {
			yield(store.Entry{}, context.Cause(ctx))
		}
	}
}

// Info is part of store.Backend.
func (b *backend) Info() store.Info {
	how := "if-none-match"
	if !b.safe && !b.readOnly {
		how = "single writer"
	}
	return store.Info{Kind: "s3", Where: b.where, ReadOnly: b.readOnly, Publish: how}
}

// Close is part of store.Backend.
func (b *backend) Close() error { return nil }

// temporary is an error after which the same call may succeed.
type temporary struct {
	error
	after time.Duration
}

func (t *temporary) Unwrap() error { return t.error }

// RetryAfter is as retry.Temporary says.
func (t *temporary) RetryAfter() (time.Duration, bool) { return t.after, true }

// meaning tells what a server's answer is to the engine, and whether it may be another later.
func meaning(verb, name string, err error) error {
	r := minio.ToErrorResponse(err)
	what := fmt.Errorf("%s %s: %w", verb, name, err)
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return what
	case r.Code == "NoSuchKey" || r.StatusCode == http.StatusNotFound && r.Code != "NoSuchBucket":
		return fmt.Errorf("%w: %w", artifact.ErrNotFound, what)
	case r.Code == "QuotaExceeded" || r.StatusCode == http.StatusInsufficientStorage:
		return fmt.Errorf("%w: %w", artifact.ErrFull, what)
	case r.Code == "InvalidRange" || r.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, what)
	case r.StatusCode == http.StatusConflict, r.StatusCode == http.StatusTooManyRequests, r.StatusCode >= 500, r.StatusCode == http.StatusRequestTimeout, r.Code == "SlowDown":
		return &temporary{what, 0}
	case r.StatusCode == 0 && !badCertificate(err): // no answer
		return &temporary{what, 0}
	}
	return what
}

func badCertificate(err error) bool {
	var bad *tls.CertificateVerificationError
	return errors.As(err, &bad)
}
