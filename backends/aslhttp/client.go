package aslhttp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
)

// Options say how the endpoint is reached.
type Options struct {
	Token string
	Roots *x509.CertPool // nil: the machine's own
	Pin   string         // "sha256:<64 hex>" of the server's public key; with it nothing else of the certificate counts
	Cert  *tls.Certificate
	Proxy *url.URL
	// Silence is how long the endpoint may say and take nothing before the connection counts as broken; 0 is a minute.
	Silence time.Duration
	Conns   int // at most at a time; 0 is 8
}

type client struct {
	base    string
	token   string
	silence time.Duration
	http    *http.Client
	caps    Capabilities

	mu   sync.Mutex
	free int64 // as the endpoint said last, less what was stored since
}

var _ store.Backend = (*client)(nil)

// New is the store at an endpoint, "https://HOST[:PORT][/PATH]". It asks what the endpoint is, once; nothing is tried again: see backends/retry.
func New(ctx context.Context, endpoint string, o Options) (store.Backend, Capabilities, error) {
	c, err := newClient(endpoint, o)
	if err != nil {
		return nil, Capabilities{}, err
	}
	if err := c.ask(ctx); err != nil {
		return nil, Capabilities{}, err
	}
	if c.caps.Protocol[0] > Version || c.caps.Protocol[1] < Version {
		return nil, c.caps, fmt.Errorf("%s speaks versions %d to %d of the protocol, this program %d: %w", endpoint, c.caps.Protocol[0], c.caps.Protocol[1], Version, artifact.ErrUnsupported)
	}
	if c.caps.Role == "" {
		return nil, c.caps, fmt.Errorf("%s: %w", endpoint, ErrToken)
	}
	return c, c.caps, nil
}

func newClient(endpoint string, o Options) (*client, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("endpoint %q: want https://HOST[:PORT][/PATH]", endpoint)
	}
	if o.Silence == 0 {
		o.Silence = time.Minute
	}
	if o.Conns == 0 {
		o.Conns = 8
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots}
	if o.Cert != nil {
		conf.Certificates = []tls.Certificate{*o.Cert}
	}
	if o.Pin != "" {
		want, err := ParsePin(o.Pin)
		if err != nil {
			return nil, err
		}
		conf.InsecureSkipVerify = true // the key alone counts: it is looked at here
		conf.VerifyConnection = func(s tls.ConnectionState) error {
			if got := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo); got != want {
				return fmt.Errorf("its key is sha256:%x, the pin wants another", got)
			}
			return nil
		}
	}
	dial := &net.Dialer{Timeout: o.Silence, KeepAlive: 15 * time.Second}
	t := &http.Transport{
		TLSClientConfig: conf, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &patient{Conn: conn, silence: o.Silence}, nil
		},
		MaxConnsPerHost: o.Conns, MaxIdleConnsPerHost: o.Conns, IdleConnTimeout: o.Silence, TLSHandshakeTimeout: o.Silence, ExpectContinueTimeout: 5 * time.Second,
		WriteBufferSize: 256 << 10, ReadBufferSize: 64 << 10, DisableCompression: true,
	}
	if o.Proxy != nil {
		t.Proxy = http.ProxyURL(o.Proxy)
	}
	return &client{base: strings.TrimRight(endpoint, "/") + root, token: o.Token, silence: o.Silence, free: -1,
		http: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// ParsePin reads "sha256:<64 hex>".
func ParsePin(s string) (pin [32]byte, err error) {
	h, ok := strings.CutPrefix(strings.ToLower(s), "sha256:")
	b, err := hex.DecodeString(h)
	if !ok || err != nil || len(b) != len(pin) {
		return pin, fmt.Errorf("pin %q: want sha256: and 64 hex digits", s)
	}
	return [32]byte(b), nil
}

// patient is a connection that breaks where for a while nothing moves, and not before: an object may take long on a slow line.
type patient struct {
	net.Conn
	silence time.Duration
}

func (p *patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(p.silence)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

func (p *patient) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		if err := p.SetWriteDeadline(time.Now().Add(p.silence)); err != nil {
			return done, err
		}
		n, err := p.Conn.Write(b[done:min(done+64<<10, len(b))])
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

func (c *client) ask(ctx context.Context) error {
	res, err := c.do(ctx, http.MethodGet, "", nil, nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // only read
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&c.caps); err != nil {
		return fmt.Errorf("%s does not say what it is: %w", c.base, err)
	}
	if c.caps.Free != nil {
		c.mu.Lock()
		c.free = *c.caps.Free
		c.mu.Unlock()
	}
	return nil
}

// do sends a request and gives the answer, if it is a success. path is below the root, with its query.
func (c *client) do(ctx context.Context, method, path string, body []byte, header http.Header) (*http.Response, error) {
	what := method + " " + root + path
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.broken(ctx, what, err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		defer func() { _ = res.Body.Close() }() // only read
		return nil, problemOf(what, res)
	}
	return res, nil
}

// broken is the error of a request that got no answer.
func (c *client) broken(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var bad *tls.CertificateVerificationError
	if errors.As(err, &bad) || strings.Contains(err.Error(), "the pin wants another") {
		err = fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) { // which would say that the object is shorter
		err = errEarly
	}
	return &Error{What: what, err: err}
}

var errEarly = errors.New("the connection ended in the middle")

// Create is part of store.Backend.
func (c *client) Create(ctx context.Context, name string, data []byte) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	if int64(len(data)) > maxObject {
		return fmt.Errorf("create %s: %d bytes are more than the endpoint takes", name, len(data))
	}
	if data == nil {
		data = []byte{}
	}
	h := http.Header{contentHeader: {"b3:" + artifact.HashBytes(data).String()}, "Content-Type": {"application/octet-stream"}}
	if len(data) > 64<<10 {
		h.Set("Expect", "100-continue")
	}
	res, err := c.do(ctx, http.MethodPut, name, data, h)
	if err != nil {
		return err
	}
	_ = res.Body.Close()                                                       // the answer is its status
	if res.StatusCode == http.StatusCreated && strings.Count(name, "/") == 1 { // what a quota counts, and most of what fills a place
		c.mu.Lock()
		if c.free > 0 {
			c.free = max(c.free-int64(len(data)), 0)
		}
		c.mu.Unlock()
	}
	return nil
}

// Stat is part of store.Backend.
func (c *client) Stat(ctx context.Context, name string) (int64, error) {
	if err := store.CheckName(name); err != nil {
		return 0, err
	}
	res, err := c.do(ctx, http.MethodHead, name, nil, nil)
	if err != nil {
		return 0, headError(err)
	}
	_ = res.Body.Close() // there is none
	if res.ContentLength < 0 {
		return 0, fmt.Errorf("HEAD %s: the endpoint does not tell the size", name)
	}
	return res.ContentLength, nil
}

// headError gives an answer without a body the meaning of its status.
func headError(err error) error {
	var e *Error
	if errors.As(err, &e) && e.err == nil {
		switch e.Status {
		case http.StatusNotFound:
			e.err, e.Kind = artifact.ErrNotFound, absent.name
		case http.StatusBadRequest:
			e.err, e.Kind = store.ErrName, badName.name
		case http.StatusForbidden:
			e.err, e.Kind = ErrForbidden, forbidden.name
		}
	}
	return err
}

// Open is part of store.Backend.
func (c *client) Open(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := store.CheckName(name); err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, fmt.Errorf("open %s: offset %d", name, off)
	}
	if n > 0 && off > math.MaxInt64-n {
		return nil, fmt.Errorf("open %s: %d bytes from %d: %w", name, n, off, c.beyond(ctx, name))
	}
	if n == 0 {
		return c.nothing(ctx, name, off)
	}
	h := http.Header{}
	if store.WantsUncached(ctx) {
		h.Set(mediumHeader, "1")
	}
	want := http.StatusOK
	if off > 0 || n > 0 {
		want = http.StatusPartialContent
		last := ""
		if n > 0 {
			last = fmt.Sprint(off + n - 1)
		}
		h.Set("Range", fmt.Sprintf("bytes=%d-%s", off, last))
	}
	ctx, cancel := context.WithCancel(ctx)
	res, err := c.do(ctx, http.MethodGet, name, nil, h)
	if err != nil {
		cancel()
		var e *Error
		if n < 0 && errors.As(err, &e) && e.Status == http.StatusRequestedRangeNotSatisfiable {
			return c.nothing(context.WithoutCancel(ctx), name, off) // it may end just there
		}
		return nil, err
	}
	size := res.ContentLength
	if res.StatusCode != want || size < 0 || n > 0 && size != n {
		_ = res.Body.Close() // nothing of it is used
		cancel()
		if res.StatusCode == want && size >= 0 && size < n {
			return nil, fmt.Errorf("open %s: %d bytes from %d, there are %d: %w", name, n, off, size, io.ErrUnexpectedEOF)
		}
		return nil, &Error{What: "GET " + root + name, Status: res.StatusCode, Detail: fmt.Sprintf("%d bytes where %d were asked for", size, n)}
	}
	return &body{c: c, r: res.Body, what: "GET " + root + name, left: size, ctx: ctx, cancel: cancel}, nil
}

// beyond is the error of a range that no object can have.
func (c *client) beyond(ctx context.Context, name string) error {
	if _, err := c.Stat(ctx, name); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// nothing reads no bytes at off.
func (c *client) nothing(ctx context.Context, name string, off int64) (io.ReadCloser, error) {
	size, err := c.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	if off > size {
		return nil, fmt.Errorf("open %s: from %d of %d: %w", name, off, size, io.ErrUnexpectedEOF)
	}
	return http.NoBody, nil
}

// body is what is read of an object. An end before its time is a broken connection.
type body struct {
	c      *client
	r      io.ReadCloser
	what   string
	left   int64
	ctx    context.Context
	cancel func()
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	if err == nil || err == io.EOF && b.left == 0 {
		return n, nil
	}
	return n, b.c.broken(b.ctx, b.what, err)
}

func (b *body) Close() error {
	b.cancel()
	return b.r.Close()
}

// List is part of store.Backend.
func (c *client) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for {
			page, err := c.page(ctx, prefix, after)
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			for _, o := range page.Objects {
				if store.CheckName(o.Name) != nil || o.Name <= after || !strings.HasPrefix(o.Name, prefix) || o.Size < 0 {
					yield(store.Entry{}, fmt.Errorf("list of %s: the endpoint gave %q, which does not belong there", prefix, o.Name))
					return
				}
				after = o.Name
				if !yield(store.Entry{Name: o.Name, Size: o.Size}, nil) {
					return
				}
			}
			if !page.More {
				return
			}
			if len(page.Objects) == 0 {
				yield(store.Entry{}, fmt.Errorf("list of %s: the endpoint says that there are more, and gives none", prefix))
				return
			}
		}
	}
}

func (c *client) page(ctx context.Context, prefix, after string) (l list, err error) {
	res, err := c.do(ctx, http.MethodGet, "list?"+url.Values{"prefix": {prefix}, "after": {after}}.Encode(), nil, nil)
	if err != nil {
		return l, err
	}
	defer func() { _ = res.Body.Close() }() // only read
	if err := json.NewDecoder(io.LimitReader(res.Body, 16<<20)).Decode(&l); err != nil {
		return l, c.broken(ctx, "GET "+root+"list", err)
	}
	return l, nil
}

// verify has blocks read again where they lie.
func (c *client) verify(ctx context.Context, name string) (int64, error) {
	res, err := c.do(ctx, http.MethodPost, "verify", []byte(name+"\n"), http.Header{"Content-Type": {"text/plain"}})
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }() // only read
	line, err := bufio.NewReader(io.LimitReader(res.Body, 64<<10)).ReadBytes('\n')
	var v verified
	if err == nil {
		err = json.Unmarshal(line, &v)
	}
	if err != nil || v.Name != name {
		return 0, c.broken(ctx, "POST "+root+"verify", errEarly)
	}
	switch v.State {
	case good:
		return v.Size, nil
	case hurt:
		return v.Size, fmt.Errorf("%s: %s: %w", name, v.Why, artifact.ErrDamaged)
	case missing:
		return v.Size, fmt.Errorf("%s: %w", name, artifact.ErrNotFound)
	}
	return v.Size, fmt.Errorf("%s: %s", name, v.Why)
}

// Info is part of store.Backend.
func (c *client) Info() store.Info {
	return store.Info{Kind: "https", Where: strings.TrimSuffix(c.base, root), ReadOnly: c.caps.Role == Read, Publish: "if-none-match", Verify: c.verify,
		Free: func() (int64, bool) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return max(c.free, 0), c.free >= 0
		}}
}

// Close is part of store.Backend.
func (c *client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}
