package probe

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"aslrescue/detect"
)

// served is a machine whose every connection leads to a server of the test, whose authority it trusts.
func served(t *testing.T, h http.HandlerFunc) (*fake, *httptest.Server) {
	f := server(t)
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail are the point
	s.StartTLS()
	t.Cleanup(s.Close)
	f.file("/etc/ssl/certs/ca-certificates.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	f.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
	}
	f.Resolve = func(context.Context, string) ([]string, error) { return []string{"192.168.7.9"}, nil }
	f.wish.Policy.Endpoint = "https://example.com/"
	return f, s
}

func capable(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || r.URL.Path != "/asl/v1/" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Date", time.Unix(1_798_000_000+7200, 0).UTC().Format(http.TimeFormat))
	_, _ = w.Write([]byte(`{"protocol":[1,2],"domain":"rescue-domain","store_id":"abc","max_block":1}`))
}

func TestAnEndpointThatIsRight(t *testing.T) {
	f, s := served(t, capable)
	u := f.once()
	e := u.Facts.Endpoint
	if e == nil || e.Stage != detect.Answered || e.Domain != "rescue-domain" || e.StoreID != "abc" || e.Protocol[1] != 2 || e.Cert.Problem != "" || e.Addr != s.Listener.Addr().String() {
		t.Fatalf("%+v", e)
	}
	if c := u.Facts.Clock; c.Server-c.Local != 7200 {
		t.Errorf("%+v", c)
	}
	if u.Decision.Mode != detect.Remote || u.Decision.Rule != 3 {
		t.Error(u.Decision.Text(110))
	}
}

func TestWhatCanBeWrongWithAnEndpoint(t *testing.T) {
	html := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>Welcome to the hotel")) }
	elsewhere := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://elsewhere/", http.StatusFound)
	}
	right := strings.Repeat("00", 32)
	for name, c := range map[string]struct {
		h       http.HandlerFunc
		change  func(*fake)
		stage   detect.EndpointStage
		problem string
		says    string
	}{
		"authority":     {capable, func(f *fake) { f.file("/etc/ssl/certs/ca-certificates.crt", "") }, detect.AtTLS, "authority", ""},
		"name":          {capable, func(f *fake) { f.wish.Policy.Endpoint = "https://other.test" }, detect.AtTLS, "name", ""},
		"expired":       {capable, func(f *fake) { f.clock.now = time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC) }, detect.AtTLS, "expired", ""},
		"not yet":       {capable, func(f *fake) { f.clock.now = time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC) }, detect.AtTLS, "not-yet-valid", ""},
		"pin":           {capable, func(f *fake) { f.wish.Policy.Pin = "sha256:" + right }, detect.AtTLS, "pin", ""},
		"portal":        {html, nil, detect.AtProtocol, "", "versions of the protocol"},
		"redirect":      {elsewhere, nil, detect.AtProtocol, "", "status 302"},
		"another place": {http.NotFound, nil, detect.AtProtocol, "", "status 404"},
		"refused": {capable, func(f *fake) {
			f.Dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}
		}, detect.AtConnect, "", "connection refused"},
		"no name": {capable, func(f *fake) {
			f.Dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "example.com", IsNotFound: true}}
			}
		}, detect.AtName, "", "no such host"},
		"no TLS": {capable, func(f *fake) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = c.Write([]byte("220 mail ready\r\n"))
					_ = c.Close()
				}
			}()
			f.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
			}
		}, detect.AtTLS, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := served(t, c.h)
			if c.change != nil {
				c.change(f)
			}
			u := f.once()
			e := u.Facts.Endpoint
			if e == nil || e.Stage != c.stage || !strings.Contains(e.Err, c.says) || e.Err == "" {
				t.Fatalf("%+v", e)
			}
			problem := ""
			if e.Cert != nil {
				problem = e.Cert.Problem
			}
			if problem != c.problem {
				t.Errorf("problem %q, want %q", problem, c.problem)
			}
			if u.Decision.Mode != detect.Operator {
				t.Errorf("mode %s", u.Decision.Mode)
			}
		})
	}
}

// With a pin the key counts and nothing else: neither clock, nor name, nor authority.
func TestAPinnedKeyIsEnough(t *testing.T) {
	f, _ := served(t, capable)
	pin := f.once().Facts.Endpoint.Cert.Pin
	f.wish.Policy.Pin = strings.ToUpper(pin[:7]) + pin[7:]
	f.file("/etc/ssl/certs/ca-certificates.crt", "")
	f.clock.now = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	if e := f.once().Facts.Endpoint; e.Stage != detect.Answered {
		t.Errorf("%+v", e)
	}
}

// The house's own authority comes from a file of the config.
func TestAFurtherAuthority(t *testing.T) {
	f, _ := served(t, capable)
	own := string(must(os.ReadFile(f.path("/etc/ssl/certs/ca-certificates.crt"))))
	f.file("/etc/ssl/certs/ca-certificates.crt", "")
	f.wish.CA = "/etc/asl/ca.pem"
	u := f.once()
	if p, _ := u.Facts.Probe("tls-roots"); p.State != detect.Failed || !strings.Contains(p.Why, "/etc/asl/ca.pem: no such file") {
		t.Errorf("%+v", p)
	}
	if e := u.Facts.Endpoint; e.Stage != detect.AtTLS || !strings.Contains(e.Err, "/etc/asl/ca.pem") {
		t.Errorf("%+v", e)
	}
	f.file("/etc/asl/ca.pem", own)
	u = f.once()
	if e := u.Facts.Endpoint; e.Stage != detect.Answered || u.Facts.Roots.Count != 1 {
		t.Errorf("%+v, %+v", e, u.Facts.Roots)
	}
}

func TestByAProxy(t *testing.T) {
	f, s := served(t, capable)
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.Host)
		if len(asked) == 2 {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		there, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		here, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = here.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n"))
		go func() { _, _ = io.Copy(there, here); _ = there.Close() }()
		go func() { _, _ = io.Copy(here, there); _ = here.Close() }()
	}))
	defer proxy.Close()
	f.Dial = (&net.Dialer{}).DialContext
	f.wish.Proxy = proxy.URL
	u := f.once()
	if e := u.Facts.Endpoint; e.Stage != detect.Answered || len(asked) != 1 || asked[0] != "CONNECT example.com:443" {
		t.Errorf("%+v, asked %q", e, asked)
	}
	if d := u.Facts.Network.DNS; d.Name != "127.0.0.1" {
		t.Errorf("%+v", d)
	}
	if e := f.once().Facts.Endpoint; e.Stage != detect.AtConnect || !strings.Contains(e.Err, "407") {
		t.Errorf("%+v", e)
	}
	f.wish.Proxy = "socks5://127.0.0.1:9"
	if e := f.once().Facts.Endpoint; e.Stage != detect.AtConnect || !strings.Contains(e.Err, "only when the store is opened") {
		t.Errorf("%+v", e)
	}
}

// A server that takes the connection and says nothing is given up like a disk.
func TestAnEndpointThatHangsHoldsUpNothing(t *testing.T) {
	f, _ := served(t, capable)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	look := Start(ctx, f.Machine, f.wish)
	until(t, look, "all but the endpoint", func(u Update) bool { return len(u.Decision.Late) == 1 && u.Decision.Late[0] == "endpoint" })
	f.clock.advance(Limit)
	u := until(t, look, "given up", func(u Update) bool { return u.Done })
	if o := u.Decision.Options[2]; o.Taken || !strings.Contains(o.Why, "did not answer within 5 s") {
		t.Errorf("%+v", o)
	}
}

// waiting runs WaitForNetwork while its clock goes on a second at a time, and tells how long it waited.
func waiting(t *testing.T, f *fake, limit time.Duration, each func(time.Duration)) (Update, time.Duration) {
	t.Helper()
	ctx, cancel := timeoutContext()
	defer cancel()
	type end struct {
		u   Update
		err error
	}
	done := make(chan end, 1)
	go func() {
		u, err := WaitForNetwork(ctx, f.Machine, f.wish, limit)
		done <- end{u, err}
	}()
	began := f.clock.Now()
	for {
		select {
		case e := <-done:
			if e.err != nil {
				t.Fatal(e.err)
			}
			return e.u, f.clock.Now().Sub(began)
		case <-time.After(20 * time.Millisecond): // 5 s of the clock are a second: enough for a handshake under load
			if each != nil {
				each(f.clock.Now().Sub(began))
			}
			f.clock.advance(100 * time.Millisecond)
		}
	}
}

func TestBatchWaitsForTheNetwork(t *testing.T) {
	f, _ := served(t, capable)
	var up atomic.Bool
	dial := f.Dial
	f.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !up.Load() {
			return nil, &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}
		}
		return dial(ctx, network, addr)
	}
	f.file("/sys/class/net/enp3s0/carrier", "0\n")
	u, took := waiting(t, f, NetworkWait, func(at time.Duration) {
		if at >= 10*time.Second && !up.Load() {
			f.file("/sys/class/net/enp3s0/carrier", "1\n")
			up.Store(true)
		}
	})
	if u.Decision.Mode != detect.Remote || took < 10*time.Second || took >= NetworkWait {
		t.Errorf("mode %s after %v", u.Decision.Mode, took)
	}
}

func TestBatchDoesNotWaitForEver(t *testing.T) {
	f, _ := served(t, capable)
	f.Dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}
	}
	f.Resolve = func(context.Context, string) ([]string, error) { return nil, errors.New("no network") }
	u, took := waiting(t, f, 20*time.Second, nil)
	if u.Decision.Mode != detect.Operator || took < 20*time.Second || !strings.Contains(strings.Join(u.Decision.Missing, "\n"), "network is unreachable") {
		t.Errorf("mode %s after %v: %q", u.Decision.Mode, took, u.Decision.Missing)
	}
}

// Where the network could change nothing, nobody waits for it.
func TestBatchDoesNotWaitForWhatItDoesNotNeed(t *testing.T) {
	for name, change := range map[string]func(*fake){
		"no endpoint":  func(f *fake) { f.wish.Policy.Endpoint = "" },
		"only local":   func(f *fake) { f.wish.Policy.Mode = "local" },
		"wrong server": func(f *fake) { f.wish.Policy.Pin = "sha256:" + strings.Repeat("00", 32) },
	} {
		f, _ := served(t, capable)
		change(f)
		if u, took := waiting(t, f, NetworkWait, nil); u.Decision.Mode != detect.Operator || took >= NetworkWait/2 {
			t.Errorf("%s: mode %s after %v", name, u.Decision.Mode, took)
		}
	}
}
