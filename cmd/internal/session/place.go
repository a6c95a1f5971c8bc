package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"aslrescue/backends/aslhttp"
	"aslrescue/backends/local"
	"aslrescue/backends/retry"
	"aslrescue/backends/s3"
	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/report"
	"aslrescue/engine/event"
	"aslrescue/engine/store"
)

// isRemote tells whether a place lies behind a network.
func isRemote(place string) bool {
	return strings.HasPrefix(place, "https://") || strings.HasPrefix(place, "s3://")
}

// isFolder tells whether a place is a folder of this machine.
func isFolder(place string) bool { return !isRemote(place) && !isZFSPlace(place) }

// remoteOptions are the flags for places behind a network.
type remoteOptions struct {
	token, ca, cert string
	limit           time.Duration
	single          bool
}

func (o *remoteOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.token, "token-file", o.token, "`FILE` with the token for an https:// store (default: the systemd credential asl-token, or "+tokenFile+")")
	fs.StringVar(&o.ca, "tls-ca", o.ca, "`FILE` with certificates to trust besides the machine's own (default: remote.ca of asl.conf)")
	fs.StringVar(&o.cert, "tls-cert", o.cert, "`FILE` with a certificate and its key to show to the endpoint")
	fs.DurationVar(&o.limit, "give-up-after", o.limit, "`TIME` that a store behind a network may not answer before it is an error; 0 is never: it goes on by itself when the line is back")
	fs.BoolVar(&o.single, "single-writer", o.single, "nobody else writes to this s3:// store now: wanted only for servers without conditional creates")
}

// tokenFile is where a token lies that was typed at this machine.
const tokenFile = RunDir + "/token"

// way is how a place is reached. The zero value serves for folders.
type way struct {
	remoteOptions
	config *config.Config
	say    func(format string, a ...any)
}

// open reaches a place. domain is whose store it is to be where nobody says; it may be empty.
func (w way) open(ctx context.Context, place string, read bool) (b store.Backend, domain string, err error) {
	switch {
	case place == "":
		return nil, "", report.Usagef("no store given: say --store DIR")
	case strings.HasPrefix(place, "https://"):
		return w.https(ctx, place, read)
	case strings.HasPrefix(place, "s3://"):
		b, err = w.s3(ctx, place, read)
	case read:
		b, err = local.OpenPath(place, local.ReadOnly())
	default:
		b, err = local.OpenPath(place)
	}
	return b, "", err
}

// OpenPlace reaches a place for a server: a folder becomes a store when something is put there.
func OpenPlace(ctx context.Context, place string, say func(string, ...any)) (store.Backend, error) {
	b, _, err := way{say: say}.make(ctx, place)
	if err != nil {
		return nil, openError(place, err)
	}
	return b, nil
}

// make is open, where a folder that is absent or empty becomes a store.
func (w way) make(ctx context.Context, place string) (b store.Backend, domain string, err error) {
	if !isRemote(place) && place != "" {
		b, err = local.CreatePath(place)
		if !errors.Is(err, fs.ErrExist) || errors.Is(err, local.ErrForeign) {
			return b, "", err
		}
	}
	return w.open(ctx, place, false)
}

func (w way) https(ctx context.Context, place string, read bool) (store.Backend, string, error) {
	o := aslhttp.Options{}
	var err error
	if o.Token, err = w.word(); err != nil {
		return nil, "", err
	}
	if o.Roots, err = w.roots(); err != nil {
		return nil, "", err
	}
	if w.cert != "" {
		pair, err := tls.LoadX509KeyPair(w.cert, w.cert)
		if err != nil {
			return nil, "", report.Usagef("--tls-cert: %w", err)
		}
		o.Cert = &pair
	}
	if w.config != nil && sameEndpoint(place, w.config.RemoteEndpoint) { // a pin is of one key
		o.Pin = w.config.RemotePin
	}
	if o.Proxy, err = w.proxy(); err != nil {
		return nil, "", err
	}
	var b store.Backend
	var caps aslhttp.Capabilities
	patience := w.patience(place)
	err = retry.Do(ctx, patience, func() (err error) {
		b, caps, err = aslhttp.New(ctx, place, o)
		return err
	})
	if err != nil {
		return nil, "", endpointError(err)
	}
	whose := caps.Domain
	if whose == aslhttp.EveryDomain {
		whose = ""
	}
	return retry.New(readOnlyIf(read, b), patience), whose, nil
}

// endpointError adds what a person can do.
func endpointError(err error) error {
	e := &report.Error{Err: err, Code: report.NoStore}
	switch {
	case errors.Is(err, aslhttp.ErrToken):
		e.Code, e.Means = report.Approval, "The endpoint takes nothing from who shows no token of its file."
		e.Next = []string{"Write the token into " + tokenFile + " (mode 0600), or give --token-file FILE."}
	case errors.Is(err, aslhttp.ErrCertificate):
		e.Means = fmt.Sprintf("This machine's clock says %s; a certificate is valid for a time.", time.Now().UTC().Format("2006-01-02 15:04 UTC"))
		e.Next = []string{"--tls-ca FILE trusts a private authority.", "remote.pin in asl.conf names the endpoint's key; then the clock does not matter."}
	}
	return e
}

// readOnlyIf keeps a command that only looks from writing.
func readOnlyIf(read bool, b store.Backend) store.Backend {
	if read {
		return &looked{b}
	}
	return b
}

type looked struct{ store.Backend }

func (l *looked) Info() store.Info {
	i := l.Backend.Info()
	i.ReadOnly = true
	return i
}

// word is the token: from the file that was given, a credential of systemd's, or where the wizard keeps what was typed.
func (w way) word() (string, error) {
	files := []string{config.Credential("asl-token"), tokenFile}
	if w.token != "" {
		files = []string{w.token}
	}
	for _, f := range files {
		if f == "" {
			continue
		}
		b, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) && w.token == "" {
			continue
		}
		if err != nil {
			return "", report.Usagef("read the token: %w", err)
		}
		word := strings.TrimSpace(string(b))
		if word == "" || strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", report.Usagef("the token in %s is not one word of printable ASCII", f)
		}
		return word, nil
	}
	return "", nil
}

func (w way) roots() (*x509.CertPool, error) {
	file := w.ca
	if file == "" && w.config != nil {
		file = w.config.RemoteCA
	}
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, report.Usagef("read the certificates to trust: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, report.Usagef("%s holds no certificate", file)
	}
	return pool, nil
}

func (w way) proxy() (*url.URL, error) {
	if w.config == nil || w.config.RemoteProxy == "" {
		return nil, nil
	}
	u, err := url.Parse(w.config.RemoteProxy)
	if err != nil {
		return nil, report.Usagef("remote.proxy: %w", err)
	}
	return u, nil
}

func sameEndpoint(a, b string) bool { return strings.TrimRight(a, "/") == strings.TrimRight(b, "/") }

func (w way) s3(ctx context.Context, place string, read bool) (store.Backend, error) {
	roots, err := w.roots()
	if err != nil {
		return nil, err
	}
	proxy, err := w.proxy()
	if err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig, t.Proxy = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
	if proxy != nil {
		t.Proxy = http.ProxyURL(proxy)
	}
	o := s3.At(config.S3())
	o.Transport, o.SingleWriter = t, w.single
	patience := w.patience(place)
	var b store.Backend
	err = retry.Do(ctx, patience, func() (err error) {
		b, err = s3.New(ctx, place, read, o)
		return err
	})
	if err != nil {
		e := &report.Error{Err: err, Code: report.NoStore}
		if errors.Is(err, s3.ErrNoConditional) {
			e.Next = []string{"--single-writer uses it all the same, if nobody else writes there now.", "Let asl-backend serve a store, and use https://."}
		}
		return nil, e
	}
	return retry.New(b, patience), nil
}

// patience says how long to try, and tells people about a place that does not answer: at once, and then every minute.
func (w way) patience(place string) retry.Options {
	var mu sync.Mutex
	var told time.Duration
	return retry.Options{Limit: w.limit, Tell: func(s retry.State) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case w.say == nil:
		case s.Down == 0:
			if told > 0 {
				w.say("%s answers again after %d tries", place, s.Tries)
			}
			told = 0
		case told == 0 || s.Down-told >= time.Minute:
			told = s.Down
			w.say("%s does not answer for %s; it is tried again and goes on by itself. Last: %v", place, event.Duration(s.Down), s.Err)
		}
	}}
}
