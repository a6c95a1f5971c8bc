package probe

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"aslrescue/detect"
)

func readFile(m *Machine, p string) ([]byte, error) { return os.ReadFile(m.path(p)) }

func network(_ context.Context, m *Machine) (finding, error) {
	var n detect.Network
	for _, name := range m.names("/sys/class/net") {
		dir := "/sys/class/net/" + name
		if m.text(dir+"/type") == "772" || name == "lo" || !m.exists(dir) { // the loopback
			continue
		}
		if !m.exists(dir+"/device") && !strings.HasPrefix(name, "bond") && !strings.HasPrefix(name, "br") && m.exists("/sys/devices/virtual/net/"+name) && m.text(dir+"/operstate") == "down" {
			continue // virtual ones that nobody uses
		}
		l := detect.Link{Name: name, MAC: m.text(dir + "/address"), Carrier: m.text(dir+"/carrier") == "1", Mbit: int(max(m.number(dir+"/speed"), 0))}
		var flags int
		if _, err := fmt.Sscanf(m.text(dir+"/flags"), "0x%x", &flags); err == nil {
			l.Up = flags&1 != 0
		}
		if m.Addrs != nil {
			l.Addrs = m.Addrs(name)
		}
		n.Links = append(n.Links, l)
	}
	n.Routes = append(routes4(m.text("/proc/net/route")), routes6(m.text("/proc/net/ipv6_route"))...)
	for line := range strings.Lines(m.text("/etc/resolv.conf")) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "nameserver" && !slices.Contains(n.Servers, f[1]) {
			n.Servers = append(n.Servers, f[1])
		}
	}
	return func(f *detect.Facts) {
		c := n
		if f.Network != nil {
			c.DNS = f.Network.DNS
		}
		f.Network = &c
	}, nil
}

// routes4 are the default routes of /proc/net/route, where addresses are hex in the byte order of the machine: little-endian on all
// that this program is built for.
func routes4(text string) []detect.Route {
	var out []detect.Route
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		r := detect.Route{Link: f[0]}
		if b, err := hex.DecodeString(f[2]); err == nil && len(b) == 4 && f[2] != "00000000" {
			r.Via = net.IPv4(b[3], b[2], b[1], b[0]).String()
		}
		out = append(out, r)
	}
	return out
}

func routes6(text string) []detect.Route {
	var out []detect.Route
	zero := strings.Repeat("0", 32)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 10 || f[0] != zero || f[1] != "00" || f[9] == "lo" {
			continue
		}
		r := detect.Route{Link: f[9]}
		if b, err := hex.DecodeString(f[4]); err == nil && len(b) == 16 && f[4] != zero {
			r.Via = net.IP(b).String()
		}
		out = append(out, r)
	}
	return out
}

// endpointHost is the host of an endpoint; empty where none can be asked.
func endpointHost(endpoint string) (host, port string) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" {
		return "", ""
	}
	port = u.Port()
	if port == "" {
		port = "443"
	}
	return u.Hostname(), port
}

func dns(ctx context.Context, m *Machine, w Wish) (finding, error) {
	host, _ := endpointHost(w.Policy.Endpoint)
	if host != "" && w.Proxy != "" { // the proxy looks up the endpoint
		u, err := url.Parse(w.Proxy)
		if err != nil {
			return nil, err
		}
		host = u.Hostname()
	}
	if host == "" {
		return func(*detect.Facts) {}, nil
	}
	l := detect.Lookup{Name: host}
	if net.ParseIP(host) != nil {
		l.Addrs = []string{host}
	} else {
		addrs, err := m.Resolve(ctx, host)
		l.Addrs = addrs
		if err != nil {
			l.Err = dnsError(err)
		}
	}
	return func(f *detect.Facts) {
		n := detect.Network{}
		if f.Network != nil {
			n = *f.Network
		}
		n.DNS = &l
		f.Network = &n
	}, nil
}

func dnsError(err error) string {
	var d *net.DNSError
	if errors.As(err, &d) {
		if d.IsNotFound {
			return "no such host"
		}
		if d.IsTimeout {
			return "the name server does not answer"
		}
		return d.Err
	}
	return err.Error()
}

// bundles are where systems keep the certificates of authorities.
func bundles() []string {
	return []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem", "/etc/ca-certificates/extracted/tls-ca-bundle.pem"}
}

// roots are the certificates of this system, and those of one more file.
func (m *Machine) roots(more string) (path string, pem []byte, err error) {
	for _, p := range bundles() {
		if b, err := readFile(m, p); err == nil {
			path, pem = p, b
			break
		}
	}
	if more != "" {
		b, err := readFile(m, more)
		if err != nil {
			return path, pem, fmt.Errorf("certificates of %s: %s", more, plainError(err))
		}
		pem = append(append(pem, '\n'), b...)
	}
	return path, pem, nil
}

func tlsRoots(_ context.Context, m *Machine, w Wish) (finding, error) {
	p, pem, err := m.roots(w.CA)
	if err != nil {
		return nil, err
	}
	r := detect.Roots{Path: p, Count: strings.Count(string(pem), "-----BEGIN CERTIFICATE-----")}
	return func(f *detect.Facts) { f.Roots = &r }, nil
}
