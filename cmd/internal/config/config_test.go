package config

import (
	"os"
	"path/filepath"
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

// The example is the customer's, letter by letter.
func TestTheCustomersExampleParsesAsItStands(t *testing.T) {
	w := folder(t, "asl.conf", `mode = auto           # auto | local | remote
local.mount = /mnt/asl/local
remote.endpoint = https://asl-backend
domain.id = rescue-domain
`)
	c, err := Load(w)
	if err != nil {
		t.Fatal(err)
	}
	if c.Mode != Auto || c.LocalMount != "/mnt/asl/local" || c.RemoteEndpoint != "https://asl-backend" || c.DomainID != "rescue-domain" {
		t.Errorf("got %+v", c)
	}
	if got, want := c.Origin("remote.endpoint"), filepath.Join(w.Dir, "asl.conf")+":3"; got != want {
		t.Errorf("origin: got %q, want %q", got, want)
	}
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
	for i, s := range c.Settings() {
		if s != want[i] {
			t.Errorf("got %+v, want %+v", s, want[i])
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
		{"asl.conf", "remote = { endpoint = \"https://x\", pin = 1 }\n", ":1:36: remote.pin: unknown key"},
		{"asl.conf", "colour = blue", ":1:1: colour: unknown key"},
		{"federation.conf", "mode = auto", ":1:1: mode: belongs into asl.conf"},
		{"logging.conf", "domain.id = x", ":1:1: domain.id: belongs into asl.conf or federation.conf"},
		{"asl.conf", "mode = fast", `:1:1: mode: "fast" is none of auto, local, remote`},
		{"asl.conf", "local.mount = mnt", `:1:1: local.mount: "mnt" is not an absolute path without detours`},
		{"asl.conf", "local.dataset = tank", `:1:1: local.dataset: "tank": want POOL/DATASET, the pool by its name or GUID`},
		{"asl.conf", "approve.import = 'tank -f'", `:1:1: approve.import: "-f" is neither the name of a pool nor a GUID`},
		{"asl.conf", "local.zfs-snapshots = maybe", `:1:1: local.zfs-snapshots: "maybe": want yes or no`},
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

// Whatever stands in a file: no panic, and the Config is good to use.
func FuzzFile(f *testing.F) {
	f.Add("mode = auto\n[local]\nmount = '/x'")
	f.Add("a = { b = [1, {c = \"\"\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parse([]byte(text))
		for _, e := range entries {
			if err == nil && (e.line < 1 || e.col < 1) {
				t.Errorf("%q stands nowhere", e.key)
			}
		}
	})
}
