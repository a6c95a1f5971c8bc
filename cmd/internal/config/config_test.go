package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// folder makes a config folder of name, text pairs.
func folder(t *testing.T, files ...string) Where {
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Where{Dir: dir, Kernel: filepath.Join(dir, "cmdline")}
}

func TestWithoutFilesEverythingIsDefault(t *testing.T) {
	c, err := Load(folder(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Settings() {
		if s.Origin != "default" {
			t.Errorf("%+v", s)
		}
	}
	for _, k := range keys() {
		if err := k.check(*k.value(c)); err != nil {
			t.Errorf("the default of %s is wrong: %v", k.name, err)
		}
	}
}

func TestLaterBeatsEarlier(t *testing.T) {
	w := folder(t,
		"asl.conf", "mode = \"local\"\n[local]\nmount = '/mnt/a'\n[domain]\nid = one\n[approve]\nimport = 'tank 8066927676112265382'",
		"federation.conf", "domain.id = two\n",
		"cmdline", "BOOT_IMAGE=/vmlinuz asl.mode=remote quiet \"asl.local.mount=/mnt/with blank\" asl.remote.endpoint=s3://bucket/prefix\n")
	c, err := Load(w, Flag{"local.mount", "/mnt/c", "--store"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Setting{
		{"mode", "remote", "kernel command line"},
		{"local.mount", "/mnt/c", "--store"},
		{"local.dataset", "", "default"},
		{"local.zfs-snapshots", "no", "default"},
		{"approve.import", "tank 8066927676112265382", filepath.Join(w.Dir, "asl.conf") + ":7"},
		{"remote.endpoint", "s3://bucket/prefix", "kernel command line"},
		{"domain.id", "two", filepath.Join(w.Dir, "federation.conf") + ":1"},
	}
	for _, w := range want {
		if !slices.Contains(c.Settings(), w) {
			t.Errorf("no %+v in %+v", w, c.Settings())
		}
	}
	if got := c.Approvals(); len(got) != 2 || got[1].Value != "8066927676112265382" || got[1].Origin != filepath.Join(w.Dir, "asl.conf")+":7" {
		t.Errorf("approvals: %+v", got)
	}
	c, err = Load(w)
	if err != nil || c.LocalMount != "/mnt/with blank" {
		t.Errorf("got %q, %v", c.LocalMount, err)
	}
}

func TestMistakesSayWhereAndWhatWasMeant(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"asl.conf", "mode = auto\n  local.mont = /mnt\n", ":2:3: local.mont: unknown key; did you mean local.mount?"},
		{"asl.conf", "[remote]\n\nendpont = \"https://x\"\n", ":3:1: remote.endpont: unknown key; did you mean remote.endpoint?"},
		{"asl.conf", "remote = { endpoint = \"https://x\", pun = 1 }\n", ":1:36: remote.pun: unknown key"},
		{"asl.conf", "colour = blue", ":1:1: colour: unknown key"},
		{"federation.conf", "mode = auto", ":1:1: mode: belongs into asl.conf"},
		{"logging.conf", "domain.id = x", ":1:1: domain.id: belongs into asl.conf or federation.conf"},
		{"asl.conf", "mode = fast", `:1:1: mode: "fast" is none of auto, local, remote`},
		{"asl.conf", "local.mount = mnt", `:1:1: local.mount: "mnt" is not an absolute path without detours`},
		{"asl.conf", "local.dataset = tank", `:1:1: local.dataset: "tank": want POOL/DATASET, the pool by its name or GUID`},
		{"asl.conf", "approve.import = 'tank -f'", `:1:1: approve.import: "-f" is neither the name of a pool nor a GUID`},
		{"asl.conf", "local.zfs-snapshots = maybe", `:1:1: local.zfs-snapshots: "maybe" is none of yes, no`},
		{"asl.conf", "local.mount = [\"/a\", \"/b\"]", ":1:1: local.mount: want one value, not a list"},
		{"asl.conf", "remote.endpoint = http://x", ":1:1: remote.endpoint: want https://HOST or s3://BUCKET/PREFIX"},
		{"asl.conf", "remote.endpoint = https://me:pw@x", ":1:1: remote.endpoint: holds a name or password: secrets never stand in a config file"},
		{"asl.conf", "domain.id = 'Ä'", `:1:1: domain.id: "Ä": want 1 to 63 of a-z 0-9 - _ . beginning with a letter or digit`},
		{"asl.conf", "mode = auto local", ":1:"},
		{"asl.conf", "mode = auto\nmode = local", ":2:1:"},
		{"asl.conf", "mode", ":1:"},
	} {
		w := folder(t, c.file, c.text)
		cfg, err := Load(w)
		if err == nil || !strings.Contains(err.Error(), filepath.Join(w.Dir, c.file)+c.want) {
			t.Errorf("%q:\n got %v\nwant …%s", c.text, err, c.want)
		}
		if cfg == nil || cfg.LocalMount != "/mnt/asl/local" {
			t.Errorf("%q: the config beside the mistake is not good to use: %+v", c.text, cfg)
		}
	}
}

func TestOneMistakeDoesNotHideOthers(t *testing.T) {
	w := folder(t, "asl.conf", "mode = fast\ndomain.id = good\nlocal.mont = /x\n", "cmdline", "asl.mod=local")
	c, err := Load(w, Flag{"mode", "never", "--mode"})
	if err == nil || len(strings.Split(err.Error(), "\n")) != 4 || c.DomainID != "good" {
		t.Errorf("got %+v, %v", c, err)
	}
	for _, part := range []string{"kernel command line: mod: unknown key; did you mean mode?", `--mode: mode: "never"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in %v", part, err)
		}
	}
}

func TestBareWords(t *testing.T) {
	for in, want := range map[string]string{
		"a = word":                         "a = 'word'",
		"a=word # note":                    "a='word' # note",
		"a = 10.0.0.1\r\n":                 "a = '10.0.0.1'\r\n",
		"a = https://x/#part":              "a = 'https://x/#part'",
		"a = 12":                           "a = 12",
		"a = true":                         "a = true",
		"a = \"text\"":                     "a = \"text\"",
		"a = two words":                    "a = two words",
		"a = it's":                         "a = it's",
		"# a = word":                       "# a = word",
		"s = \"\"\"\na = b\n\"\"\"\nc = d": "s = \"\"\"\na = b\n\"\"\"\nc = 'd'",
	} {
		if got := string(quoteBareWords([]byte(in))); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestListsAndWordsAreTheSame(t *testing.T) {
	for text, want := range map[string]string{
		`batch.sources = ["serial:A*", "label:B?C"] # two`: "serial:A* label:B?C",
		"batch.sources = [\n  'serial:A*', # one\n]":       "serial:A*",
		`batch.sources = "serial:A*,  wwn:0x5"`:            "serial:A* wwn:0x5",
		`batch.sources = serial:WD-*`:                      "serial:WD-*",
		`batch.sources = []`:                               "",
		"approve.import = [ 8066927676112265382, 'tank' ]": "",
	} {
		c, err := Load(folder(t, "asl.conf", text))
		if err != nil || c.Batch.Sources != want {
			t.Errorf("%s: got %q, %v", text, c.Batch.Sources, err)
		}
	}
	c, err := Load(folder(t, "asl.conf", "approve.import = [ 8066927676112265382, 'tank' ]\nlocal.zfs-snapshots = true"))
	if err != nil || len(c.Approvals()) != 2 || c.ZFSSnapshots != "yes" {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestTheKernelsLineKnowsShortNames(t *testing.T) {
	w := folder(t, "asl.conf", "mode = local\nbatch.done = poweroff\n", "cmdline", "quiet asl.mode=remote asl.endpoint=https://pxe asl.done=wait \"asl.sources=serial:A label:B\" asl.peer.x.key=y\n")
	c, err := Load(w)
	if c.Mode != Remote || c.RemoteEndpoint != "https://pxe" || c.Batch.Done != "wait" || c.Batch.Sources != "serial:A label:B" || c.Origin("remote.endpoint") != "kernel command line" {
		t.Errorf("got %+v", c)
	}
	if err == nil || err.Error() != "kernel command line: peer.x.key: belongs into federation.conf" {
		t.Errorf("got %v", err)
	}
}

const goodKey = "home+6debe8af+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"

func TestPeers(t *testing.T) {
	w := folder(t, "federation.conf", "domain.id = here\n[peer.home]\nendpoint = https://store.example\nkey = "+goodKey+"\n[peer.\"b.c\"]\ndomain = other\nendpoint = s3://bucket/x\nkey = '"+goodKey+"'\ndirection = both\nadmission = signed\n")
	c, err := Load(w)
	if err != nil || len(c.Peers) != 2 {
		t.Fatalf("got %+v, %v", c.Peers, err)
	}
	if got, want := c.Peers[1], (Peer{"home", "home", "https://store.example", goodKey, "", "push", "manual"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := c.Peers[0], (Peer{"b.c", "other", "s3://bucket/x", goodKey, "", "both", "signed"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if c.Origin("peer.home.key") != filepath.Join(w.Dir, "federation.conf")+":4" {
		t.Errorf("origin: %q", c.Origin("peer.home.key"))
	}
}

func TestMistakesInPeers(t *testing.T) {
	const whole = "[peer.home]\nendpoint = https://x\nkey = " + goodKey + "\n"
	for _, c := range []struct{ text, want string }{
		{"[peer.home]\nendpoint = https://x\n", ":2:1: peer.home: key is missing; the peer is left out"},
		{"[peer.home]\nkey = " + goodKey, ":2:1: peer.home: endpoint is missing; the peer is left out"},
		{whole + "directon = push", ":4:1: peer.home.directon: unknown key; did you mean peer.home.direction?"},
		{whole + "direction = puhs", `:4:1: peer.home.direction: "puhs" is none of push, pull, both, none; did you mean push?`},
		{"[peer.Home]\nendpoint = https://x", `:2:1: peer.Home.endpoint: the peer's name: "Home": want 1 to 63`},
		{"[peer.home]\nendpoint = https://x\nkey = PRIVATE+KEY+home+1+x", ":3:1: peer.home.key: is a private key"},
		{"[peer.home]\nendpoint = https://x\nkey = nonsense", ":3:1: peer.home.key: want the public key"},
		{"peer = 1", ":1:1: peer: unknown key"},
		{"[peer]\nhome = 1", ":2:1: peer.home: want peer.NAME.KEY"},
	} {
		w := folder(t, "federation.conf", c.text)
		cfg, err := Load(w)
		if err == nil || !strings.Contains(err.Error(), filepath.Join(w.Dir, "federation.conf")+c.want) {
			t.Errorf("%q:\n got %v\nwant …%s", c.text, err, c.want)
		}
		if whole := strings.HasPrefix(c.text, whole); (len(cfg.Peers) == 1) != whole {
			t.Errorf("%q: %d peers", c.text, len(cfg.Peers))
		}
	}
	if _, err := Load(folder(t, "asl.conf", whole)); err == nil || !strings.Contains(err.Error(), "belongs into federation.conf") {
		t.Errorf("a peer in asl.conf: %v", err)
	}
}

func TestSelectors(t *testing.T) {
	for s, want := range map[string]Selector{
		"serial:WD-*": {"serial", "WD-*"}, "label:DATA?2024": {"label", "DATA?2024"}, "/dev/disk/by-id/usb-*-0:0": {"path", "/dev/disk/by-id/usb-*-0:0"},
		"path:/dev/sd[a-c]": {"path", "/dev/sd[a-c]"}, "uuid:A1B2-C3D4": {"uuid", "A1B2-C3D4"},
	} {
		if got, err := ParseSelector(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for s, want := range map[string]string{"sdb": "want a path, or one of serial", "seral:x": "seral is none of serial", "serial:": "the pattern is missing", "serial:[a": "a bracket is not closed", "path:dev": "begins with /"} {
		if _, err := ParseSelector(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", s, err)
		}
	}
	c, err := Load(folder(t, "asl.conf", "batch.sources = 'serial:WD-* /srv/image /dev/sd? path:/home'"))
	if err != nil || !slices.Equal(c.Paths(), []string{"/srv/image", "/home"}) {
		t.Errorf("%q, %v", c.Paths(), err)
	}
}

func TestPolicyCarriesTheMistakes(t *testing.T) {
	w := folder(t, "asl.conf", "mode = local\napprove.import = 'tank 8066927676112265382'\nbatch.sources = serial:A\nbatch.exclude = model:B\nbatch.done = never\nwhat = 1\n")
	c, err := Load(w)
	p := c.Policy(err)
	if p.Mode != "local" || !slices.Equal(p.Approved, []string{"tank", "8066927676112265382"}) || !slices.Equal(p.Sources, []string{"serial:A"}) || !slices.Equal(p.Exclude, []string{"model:B"}) || len(p.Mistakes) != 2 {
		t.Errorf("got %+v", p)
	}
	if !strings.HasPrefix(p.Mistakes[1], filepath.Join(w.Dir, "asl.conf")+":6:1: what: unknown key") {
		t.Errorf("got %q", p.Mistakes)
	}
}

func TestAFolderThatWasNamedHasToBeThere(t *testing.T) {
	if _, err := Load(Where{Dir: filepath.Join(t.TempDir(), "none")}); err == nil || !strings.Contains(err.Error(), "no such folder") {
		t.Errorf("got %v", err)
	}
}

// Whatever stands in the files and on the kernel's line: no panic, every mistake stands somewhere, and the Config is good to use.
func FuzzFile(f *testing.F) {
	f.Add("mode = auto\n[local]\nmount = '/x'", "asl.mode=remote")
	f.Add("a = { b = [1, {c = \"\"\"\n", "\"asl.batch.sources=serial:[\" asl.")
	f.Add("[peer.home]\nendpoint = https://x\nkey = "+goodKey, "asl.peer.x=y")
	f.Add("batch.sources = ['serial:*', [1], {a=2}]\nlocal.zfs-snapshots = true", "")
	f.Fuzz(func(t *testing.T, text, line string) {
		entries, err := parse([]byte(text))
		for _, e := range entries {
			if err == nil && (e.line < 1 || e.col < 1) {
				t.Errorf("%q stands nowhere", e.key)
			}
		}
		c := Default()
		c.take(entries, "asl.conf")
		c.take(entries, "federation.conf")
		c.kernel(line)
		c.settlePeers()
		for _, k := range keys() {
			if err := k.check(*k.value(c)); err != nil {
				t.Errorf("%s was let in: %v", k.name, err)
			}
		}
		for _, p := range c.Peers {
			for _, k := range peerKeys() {
				if err := k.check(*k.value(&p)); err != nil {
					t.Errorf("peer %s: %s was let in: %v", p.Name, k.name, err)
				}
			}
		}
		c.Paths()
		c.Policy(err)
	})
}
