package detect

import (
	"fmt"
	"strings"
	"time"
)

// stamp is a moment in UTC, to the minute.
func stamp(s int64) string { return time.Unix(s, 0).UTC().Format("2006-01-02 15:04 UTC") }

// needsNet tells whether anything is wanted of the network.
func (j *judge) needsNet() bool { return j.p.Endpoint != "" && j.p.Mode != "local" }

// without is the verdict on something of the network that is missing.
func (j *judge) without(found, why string, next ...string) []Row {
	if !j.needsNet() {
		return info(found, "Nothing is wanted of the network: the config names no endpoint, or only a local store.")
	}
	return stop(found, why, next...)
}

func (j *judge) link() []Row {
	n := j.f.Network
	if n == nil {
		return unseen()
	}
	var found []string
	live := 0
	for _, l := range n.Links {
		s := Printable(l.Name)
		switch {
		case !l.Up:
			s += " down"
		case !l.Carrier:
			s += " no cable or signal"
		default:
			live++
			if l.Mbit > 0 {
				s += fmt.Sprintf(" %d Mbit/s", l.Mbit)
			}
			if len(l.Addrs) == 0 {
				s += " no address"
			} else {
				s += " " + strings.Join(l.Addrs, " ")
			}
		}
		found = append(found, s)
	}
	switch {
	case len(n.Links) == 0:
		return j.without("no network card", "The endpoint cannot be reached. The card may want firmware that this system has not.", "dmesg | grep -i firmware")
	case live == 0:
		return j.without(strings.Join(found, "; "), "The endpoint cannot be reached.", "plug in a cable, or nmtui for a wireless network, then look again")
	}
	return fine(strings.Join(found, "; "), "There is a link.")
}

func (j *judge) route() []Row {
	n := j.f.Network
	if n == nil {
		return unseen()
	}
	if len(n.Routes) == 0 {
		return j.without("no default route", "No address from DHCP, or a static one without its gateway.", "ip route; nmtui sets an address, then look again")
	}
	var found []string
	for _, r := range n.Routes {
		if r.Via == "" {
			found = append(found, "by "+r.Link)
		} else {
			found = append(found, "via "+r.Via+" by "+r.Link)
		}
	}
	return fine(strings.Join(found, "; "), "There is a way out.")
}

func (j *judge) dns() []Row {
	n := j.f.Network
	if n == nil {
		return unseen()
	}
	servers := "no name server"
	if len(n.Servers) > 0 {
		servers = "servers " + strings.Join(n.Servers, ", ")
	}
	if n.DNS == nil {
		return info(servers, "Nothing was to be looked up.")
	}
	if n.DNS.Err != "" || len(n.DNS.Addrs) == 0 {
		why := n.DNS.Err
		if why == "" {
			why = "no address"
		}
		return j.without(fmt.Sprintf("%s: %s (%s)", Printable(n.DNS.Name), Printable(why), servers), "The endpoint's name leads nowhere.",
			"check remote.endpoint of asl.conf, and /etc/resolv.conf", "or give the address itself: asl.remote.endpoint=https://ADDRESS on the kernel command line")
	}
	return fine(fmt.Sprintf("%s is %s", Printable(n.DNS.Name), strings.Join(n.DNS.Addrs, ", ")), "The endpoint's name is known.")
}

func (j *judge) roots() []Row {
	r := j.f.Roots
	if r == nil {
		return unseen()
	}
	if r.Count > 0 {
		return fine(plural(int64(r.Count), "authority", "authorities"), "Certificates can be checked.")
	}
	if j.p.Pin != "" {
		return info("none", "The endpoint is known by its pin, and needs none.")
	}
	return j.without("none", "No certificate could be checked.", "name the endpoint's key: remote.pin in asl.conf")
}

func (j *judge) endpoint() []Row {
	if j.p.Endpoint == "" {
		if j.p.Mode == "remote" {
			return stop("none", "The config allows only a remote store, and names none.", "remote.endpoint in asl.conf")
		}
		return info("none in the config", "Only a local store can be used.")
	}
	e := j.f.Endpoint
	if e == nil {
		return unseen()
	}
	bad := j.endpointFault(e)
	if bad == "" {
		found := e.URL + " answers"
		if e.Domain != "" {
			found += ", domain " + Printable(e.Domain)
		}
		return fine(found, "Certificate and protocol are right.")
	}
	if j.p.Mode == "local" {
		return info(bad, "The config allows only a local store.")
	}
	return stop(bad, j.endpointMeans(e), j.endpointNext(e)...)
}

// ProtocolVersion is the one version of ASL-HTTP that this program speaks.
const ProtocolVersion = 1

// endpointFault says what is wrong with the endpoint; empty if nothing is.
func (j *judge) endpointFault(e *Endpoint) string {
	why := Printable(e.Err)
	switch e.Stage {
	case AtName:
		return "its name leads nowhere: " + why
	case AtConnect:
		return "it does not answer: " + why
	case AtTLS:
		if e.Cert == nil {
			return "no secure connection: " + why
		}
		switch e.Cert.Problem {
		case "expired":
			return "its certificate ended on " + stamp(e.Cert.NotAfter)
		case "not-yet-valid":
			return "its certificate begins on " + stamp(e.Cert.NotBefore) + ", and this clock is before that"
		case "name":
			return "its certificate is for " + Printable(strings.Join(e.Cert.Names, ", ")) + ", not for " + hostOf(e.URL)
		case "authority":
			return "its certificate is signed by " + Printable(e.Cert.Issuer) + ", whom this system does not trust"
		case "pin":
			return "its key is " + e.Cert.Pin + ", not the one the config names"
		}
		return "no secure connection: " + why
	case AtProtocol:
		return "what answers there is no ASL server: " + why
	case Answered:
		if len(e.Protocol) == 2 && (e.Protocol[0] > ProtocolVersion || e.Protocol[1] < ProtocolVersion) {
			return fmt.Sprintf("it speaks versions %d to %d of the protocol, this program %d", e.Protocol[0], e.Protocol[1], ProtocolVersion)
		}
		return ""
	}
	return "it could not be asked: " + why
}

func (j *judge) endpointMeans(e *Endpoint) string {
	if e.Stage != AtTLS || e.Cert == nil {
		return "Nothing can be stored there as things are."
	}
	switch e.Cert.Problem {
	case "expired", "not-yet-valid":
		return "If this clock is right, the server needs a new certificate; if it is wrong, set it first."
	case "pin":
		return "Whoever answers there is not the server the config means, or that server has a new key."
	}
	return "It is not certain who answers there."
}

func (j *judge) endpointNext(e *Endpoint) []string {
	if e.Stage == AtTLS && e.Cert != nil {
		switch e.Cert.Problem {
		case "expired", "not-yet-valid":
			return []string{"date -u shows this clock; date -u -s 'YYYY-MM-DD HH:MM' sets it, then look again"}
		case "authority":
			return []string{"if you know by another way that this is its key, name it in asl.conf: remote.pin = " + e.Cert.Pin}
		case "pin":
			return []string{"ask who runs the server for its key, by another way than this network"}
		}
	}
	switch e.Stage {
	case AtName, AtConnect:
		return []string{"see the rows on network above", "check that the server runs, and that no firewall stands between"}
	}
	return []string{"check remote.endpoint of asl.conf"}
}

func hostOf(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}
