package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// row of a table of docs/config.md: key, values, default, example.
var row = regexp.MustCompile("(?m)^\\| `([a-z.A-Z-]+)` \\| (.+?) \\|([^|]*)\\| `([^`]+)` \\|$")

// The page is written by hand. This holds it: every key stands there once, in the order of asl-admin config, with its default,
// and its example is taken.
func TestThePageSaysWhatTheKeysAre(t *testing.T) {
	text, err := os.ReadFile("../../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	type said struct{ instead, example string }
	page := map[string]said{}
	var order []string
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		if _, twice := page[m[1]]; twice {
			t.Errorf("%s stands there twice", m[1])
		}
		page[m[1]] = said{strings.Trim(m[3], " `"), m[4]}
		order = append(order, m[1])
	}
	c := Default()
	var want []string
	for _, k := range keys() {
		want = append(want, k.name)
		if got, ok := page[k.name]; !ok || got.instead != *k.value(c) {
			t.Errorf("%s: the default is %q, the page says %+v", k.name, *k.value(c), got)
		}
		if m := Default().set(k.name, page[k.name].example, "page", k.files[0]); m != nil {
			t.Errorf("the example of %s: %v", k.name, m)
		}
	}
	for _, k := range peerKeys() {
		name := "peer.NAME." + k.name
		want = append(want, name)
		p := Default()
		if m := p.set(strings.ReplaceAll(name, "NAME", "home"), page[name].example, "page", federationConf); m != nil {
			t.Errorf("the example of %s: %v", name, m)
		}
		if got := *k.value(p.peers["home"]); got != page[name].example {
			t.Errorf("%s: got %q", name, got)
		}
	}
	// asl.conf, federation.conf, logging.conf: peers stand before messages.
	at := strings.Index(strings.Join(want, " "), "messages.level")
	flat := strings.Join(want, " ")
	peers := strings.Index(flat, " peer.NAME.domain")
	flat = flat[:at] + flat[peers+1:] + " " + strings.TrimSpace(flat[at:peers])
	if got := strings.Join(order, " "); got != flat {
		t.Errorf("the page has\n%s\nthe keys are\n%s", got, flat)
	}
}

// What ships in the image is good as it stands, and says nothing but defaults, so that a stick without changes does what the
// page says.
func TestTheFilesOfTheImageAreGood(t *testing.T) {
	dir := "../../../overlay/rootfs/etc/asl"
	c, err := Load(Where{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	d := Default()
	for i, s := range c.Settings() {
		if s.Key != "messages.file" && s.Value != d.Settings()[i].Value {
			t.Errorf("%s = %q ships, the default is %q", s.Key, s.Value, d.Settings()[i].Value)
		}
	}
	if c.Messages.File != "/var/lib/asl/runtime/messages" {
		t.Errorf("messages go to %q", c.Messages.File)
	}
	// What is commented out as an example has to be good, too.
	live := t.TempDir()
	for _, name := range []string{aslConf, federationConf, loggingConf} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		text = regexp.MustCompile(`(?m)^#(\[?[a-z][a-z.-]*\]?( = .*)?)$`).ReplaceAll(text, []byte("$1"))
		if err := os.WriteFile(filepath.Join(live, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err = Load(Where{Dir: live})
	if err != nil || len(c.Peers) != 1 || c.RemoteEndpoint == "" || c.Batch.Sources == "" {
		t.Errorf("with the examples switched on: %v, %+v", err, c)
	}
}

func TestTheCustomersExampleIsTheCustomers(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/customer.conf")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, aslConf), text, 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Where{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if c.Mode != Auto || c.LocalMount != "/mnt/asl/local" || c.RemoteEndpoint != "https://asl-backend" || c.DomainID != "rescue-domain" {
		t.Errorf("got %+v", c)
	}
	if got, want := c.Origin("remote.endpoint"), filepath.Join(dir, aslConf)+":3"; got != want {
		t.Errorf("origin: got %q, want %q", got, want)
	}
}
