package probe

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"aslrescue/detect"
)

// Dialer connects.
type Dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// capabilities is what GET /asl/v1/ of the endpoint says, as far as preflight wants it.
type capabilities struct {
	Protocol []int  `json:"protocol"` // first and last version
	Domain   string `json:"domain"`
	StoreID  string `json:"store_id"`
}

// errPin is a key that is not the one in the config.
var errPin = errors.New("its key is not the one that the config names")

func endpoint(ctx context.Context, m *Machine, w Wish) (finding, error) {
	if w.Policy.Endpoint == "" {
		return func(*detect.Facts) {}, nil
	}
	host, port := endpointHost(w.Policy.Endpoint)
	if host == "" {
		return nil, errors.New("it is no https:// address: whether it works is proved when the store is opened")
	}
	e := detect.Endpoint{URL: w.Policy.Endpoint}
	server, local := m.ask(ctx, &e, host, port, w)
	return func(f *detect.Facts) {
		f.Endpoint = &e
		if server != 0 {
			c := detect.Clock{}
			if f.Clock != nil {
				c = *f.Clock
			}
			c.Server, c.Local = server, local
			f.Clock = &c
		}
	}, nil
}

// ask goes as far as it can and notes where it ended. It gives what time the server says it is, and what time it was here.
func (m *Machine) ask(ctx context.Context, e *detect.Endpoint, host, port string, w Wish) (server, local int64) {
	fail := func(at detect.EndpointStage, err error) (int64, int64) {
		e.Stage, e.Err = at, plainNet(err)
		return 0, 0
	}
	conn, err := m.reach(ctx, w.Proxy, net.JoinHostPort(host, port))
	if err != nil {
		var d *net.DNSError
		if errors.As(err, &d) {
			return fail(detect.AtName, errors.New(dnsError(err)))
		}
		return fail(detect.AtConnect, err)
	}
	defer func() { _ = conn.Close() }() // nothing was written that has to arrive
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	e.Addr = conn.RemoteAddr().String()
	_, pem, err := m.roots(w.CA)
	if err != nil && w.Policy.Pin == "" {
		return fail(detect.AtTLS, err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	secure := tls.Client(conn, &tls.Config{
		ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		InsecureSkipVerify:    true, // what is wrong with a certificate is a finding: it is looked at below, and nothing is said before that
		VerifyPeerCertificate: nil,
		VerifyConnection: func(s tls.ConnectionState) error {
			e.Cert = certificate(s.PeerCertificates[0])
			return judgeCert(e.Cert, s.PeerCertificates, roots, host, w.Policy.Pin, m.Clock.Now())
		},
	})
	if err := secure.HandshakeContext(ctx); err != nil {
		return fail(detect.AtTLS, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(e.URL, "/")+"/asl/v1/", nil)
	if err != nil {
		return fail(detect.AtProtocol, err)
	}
	used := false
	client := http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			if used {
				return nil, errors.New("it ended the connection")
			}
			used = true
			return secure, nil
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req.Header.Set("Accept", "application/json")
	before := m.Clock.Now()
	res, err := client.Do(req)
	if err != nil {
		return fail(detect.AtProtocol, err)
	}
	defer func() { _ = res.Body.Close() }() // only read
	e.Status = res.StatusCode
	if t, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		server, local = t.Unix(), before.Unix()
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	var caps capabilities
	if err == nil {
		err = json.Unmarshal(body, &caps)
	}
	switch {
	case res.StatusCode != http.StatusOK:
		e.Stage, e.Err = detect.AtProtocol, fmt.Sprintf("status %d", res.StatusCode)
	case err != nil || len(caps.Protocol) != 2:
		e.Stage, e.Err = detect.AtProtocol, "it does not say which versions of the protocol it speaks"
	default:
		e.Stage, e.Protocol, e.Domain, e.StoreID = detect.Answered, caps.Protocol, caps.Domain, caps.StoreID
	}
	return server, local
}

// reach connects, by a proxy if there is one.
func (m *Machine) reach(ctx context.Context, proxy, addr string) (net.Conn, error) {
	if proxy == "" {
		return m.Dial(ctx, "tcp", addr)
	}
	u, err := url.Parse(proxy)
	if err != nil || u.Scheme != "http" {
		return nil, fmt.Errorf("the way by %s is tried only when the store is opened", proxy)
	}
	conn, err := m.Dial(ctx, "tcp", u.Host)
	if err != nil {
		return nil, fmt.Errorf("the proxy %s: %w", u.Host, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	err = req.Write(conn)
	var res *http.Response
	if err == nil {
		res, err = http.ReadResponse(bufio.NewReader(conn), req) // nothing follows: the endpoint is silent until it is spoken to
	}
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("the proxy %s says %s", u.Host, res.Status)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func certificate(c *x509.Certificate) *detect.Cert {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return &detect.Cert{Subject: c.Subject.String(), Issuer: c.Issuer.String(), Names: names, NotBefore: c.NotBefore.Unix(), NotAfter: c.NotAfter.Unix(),
		Pin: "sha256:" + hex.EncodeToString(sum[:])}
}

// judgeCert says whether the certificate is trusted, and notes why not. With a pin only the key counts: the clock of a rescue machine
// is often wrong.
func judgeCert(c *detect.Cert, chain []*x509.Certificate, roots *x509.CertPool, host, pin string, now time.Time) error {
	if pin != "" {
		if !strings.EqualFold(pin, c.Pin) {
			c.Problem = "pin"
			return errPin
		}
		return nil
	}
	between := x509.NewCertPool()
	for _, i := range chain[1:] {
		between.AddCert(i)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between, CurrentTime: now})
	if err == nil {
		return nil
	}
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &name):
		c.Problem = "name"
	case now.Before(chain[0].NotBefore):
		c.Problem = "not-yet-valid"
	case now.After(chain[0].NotAfter):
		c.Problem = "expired"
	case errors.As(err, &authority):
		c.Problem = "authority"
	default:
		c.Problem = "other"
	}
	return err
}

// plainNet leaves out addresses that stand elsewhere.
func plainNet(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || isLate(err) {
		return "no answer"
	}
	for _, e := range []syscall.Errno{syscall.ECONNREFUSED, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ETIMEDOUT, syscall.ECONNRESET} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}
