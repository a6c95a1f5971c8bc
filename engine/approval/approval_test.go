package approval

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"aslrescue/engine/store/format"
	"aslrescue/engine/vfs"
	"aslrescue/engine/vfs/memfs"
)

// fake is a plan that is its own sheet.
type fake Sheet

func (f fake) Sheet() Sheet { return Sheet(f) }

func tank(gate Gate) fake {
	return fake{Verb: "import", ID: "13411770823413532103", Word: "tank", Gate: gate, What: "import the pool tank, writable",
		Things:   []Thing{{"pool", "13411770823413532103", "tank"}, {"vdev", "11", "mirror-0"}, {"disk", "DISK1", "/dev/vdb"}, {"disk", "DISK2", "/dev/vdc"}},
		Commands: [][]string{{"zpool", "import", "-N", "13411770823413532103"}}}
}

func TestAPersonsAnswer(t *testing.T) {
	rehearsed := tank(Rewind)
	rehearsed.Rehearsal = "Would be able to return tank to its state as of Tue"
	nameless := tank(Risky)
	nameless.Word = ""
	for _, c := range []struct {
		p      fake
		answer string
		how    string
	}{
		{tank(Reading), "", Key},
		{tank(Reversible), "y", Key},
		{tank(Reversible), "", ""},
		{tank(Reversible), "n", ""},
		{tank(Reversible), "tank", ""},
		{tank(Risky), "tank", Typed},
		{tank(Risky), " tank\n", Typed},
		{tank(Risky), "Tank", ""},
		{tank(Risky), "y", ""},
		{tank(Risky), "", ""},
		{nameless, "", ""},
		{tank(Rewind), "tank", ""},
		{rehearsed, "tank", Typed},
		{rehearsed, "y", ""},
	} {
		a, err := Ask(c.p, HashOf(c.p), c.answer)
		how, _ := a.How()
		if how != c.how || (err == nil) != (c.how != "") || err != nil && !errors.Is(err, ErrMissing) {
			t.Errorf("%s, %q: got %q, %v, want %q", c.p.Gate, c.answer, how, err, c.how)
		}
		if got := a.Holds(c.p); (got == nil) != (c.how != "") {
			t.Errorf("%s, %q: holds: %v", c.p.Gate, c.answer, got)
		}
	}
	if _, err := Ask(tank(Risky), HashOf(tank(Reversible)), "tank"); !errors.Is(err, ErrVoid) {
		t.Errorf("another plan was on the screen: %v", err)
	}
}

// Every change of what the hash is over changes it, and is named; what moves by itself does neither.
func TestADifferenceVoidsAndIsNamed(t *testing.T) {
	was := tank(Risky)
	a, err := Ask(was, HashOf(was), "tank")
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*fake){
		"what is done was import, and is export now":                     func(f *fake) { f.Verb = "export" },
		"what it is done to was 13411770823413532103, and is 12 now":     func(f *fake) { f.ID = "12" },
		"the name was tank, and is rpool now":                            func(f *fake) { f.Word = "rpool" },
		"the gate was risky, and is reversible now":                      func(f *fake) { f.Gate = Reversible },
		"disk /dev/vdc (DISK2) is gone":                                  func(f *fake) { f.Things = f.Things[:3] },
		"disk /dev/vdd (DISK3) is new":                                   func(f *fake) { f.Things = append(f.Things, Thing{"disk", "DISK3", "/dev/vdd"}) },
		"disk /dev/vdc (DISK2) is gone; disk /dev/vdc (DISK9) is new":    func(f *fake) { f.Things[3].ID = "DISK9" },
		"it was about 4 things, and is about 5 now":                      func(f *fake) { f.Things = append(f.Things, f.Things[3]) },
		"zpool import -N 13411770823413532103, and would be zpool impor": func(f *fake) { f.Commands[0][2] = "-f" },
	} {
		now := tank(Risky)
		change(&now)
		if HashOf(now) == HashOf(was) {
			t.Errorf("%s: the hash is the same", want)
		}
		if err := a.Holds(now); !errors.Is(err, ErrVoid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want …%s", err, want)
		}
		if _, err := ByToken(now, TokenOf(was)); err == nil {
			t.Errorf("%s: the old token still works", want)
		}
	}
	now := tank(Risky)
	now.What, now.Undo, now.Rehearsal, now.Changes = "other words", "zpool export", "at 12:01", []string{"the same"}
	now.Things[2].Name, now.Things[3].Name = "/dev/vdc", "/dev/vdb"
	now.Things[2], now.Things[3] = now.Things[3], now.Things[2]
	if HashOf(now) != HashOf(was) || a.Holds(now) != nil {
		t.Errorf("words, and the names that the kernel gives, void it: %v", a.Holds(now))
	}
}

// Fields that run into each other must not make two plans alike.
func TestFieldsDoNotRunTogether(t *testing.T) {
	seen := map[Hash]fake{}
	for _, f := range []fake{
		{Verb: "ab", ID: "c"}, {Verb: "a", ID: "bc"}, {Verb: "a", ID: "b", Word: "c"},
		{Commands: [][]string{{"a", "b"}}}, {Commands: [][]string{{"a"}, {"b"}}}, {Commands: [][]string{{"a b"}}},
		{Things: []Thing{{"a", "b", ""}, {"c", "d", ""}}}, {Things: []Thing{{"a", "bc", ""}, {"d", "", ""}}},
	} {
		if other, ok := seen[HashOf(f)]; ok {
			t.Errorf("%+v and %+v are one", f, other)
		}
		seen[HashOf(f)] = f
	}
}

func TestTheZeroValueApprovesNothing(t *testing.T) {
	var a Approved[fake]
	if err := a.Holds(fake{}); !errors.Is(err, ErrMissing) {
		t.Errorf("got %v", err)
	}
}

func TestTokens(t *testing.T) {
	p := tank(Risky)
	token := TokenOf(p)
	if !strings.HasPrefix(token, "import=13411770823413532103:") {
		t.Fatal(token)
	}
	a, err := ByToken(p, "import=99:0123456789abcdef", token)
	if how, origin := a.How(); err != nil || how != Token || origin != token || a.Holds(p) != nil {
		t.Errorf("got %v", err)
	}
	if _, err := ByToken(p, "import=99:0123456789abcdef"); !errors.Is(err, ErrMissing) {
		t.Errorf("of another pool: %v", err)
	}
	if _, err := ByToken(p, "import="+p.ID+":0123456789abcdef"); !errors.Is(err, ErrVoid) || !strings.Contains(err.Error(), token) {
		t.Errorf("of another plan: %v", err)
	}
	if _, err := ByToken(p); !errors.Is(err, ErrMissing) {
		t.Errorf("none: %v", err)
	}
	if r := tank(Rewind); true {
		if _, err := ByToken(r, TokenOf(r)); !errors.Is(err, ErrMissing) {
			t.Errorf("not rehearsed: %v", err)
		}
	}
	for _, bad := range []string{"", "import", "import=1", "import=1:", "import=1:xyz", "=1:0123456789abcdef", "import=:0123456789abcdef", "import=1:0123456789ABCDEF", "import=1:0123456789abcde", "import=1:0123456789abcdef0"} {
		if _, err := ByToken(p, bad); err == nil {
			t.Errorf("%q is a token", bad)
		}
	}
}

func TestTheConfigApproves(t *testing.T) {
	p := tank(Risky)
	at := func(values ...string) (all []Entry) {
		for _, v := range values {
			all = append(all, Entry{v, "asl.conf:3"})
		}
		return all
	}
	for _, c := range []struct {
		entries   []Entry
		namesakes int
		want      string // of the error; empty: approved
	}{
		{at("tank"), 1, ""},
		{at("other", p.ID), 1, ""},
		{at(p.ID), 2, ""},
		{at("tank", p.ID), 2, ""},
		{at("tank"), 2, "so that asl.conf:3 must say which: " + p.ID},
		{at("tan"), 1, "the config names neither"},
		{at(""), 1, "the config names neither"},
		{nil, 1, "the config names neither"},
	} {
		a, err := ByConfig(p, c.entries, c.namesakes)
		if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v of %d: got %v, want %q", c.entries, c.namesakes, err, c.want)
		}
		if how, _ := a.How(); err == nil && (how != Config || a.Holds(p) != nil) {
			t.Errorf("%v: %s", c.entries, how)
		}
	}
	if _, err := ByConfig(tank(Rewind), at("tank"), 1); !errors.Is(err, ErrMissing) {
		t.Errorf("the config approves what cannot be taken back: %v", err)
	}
}

func TestCommandsAreShownAsTheyCouldBeTyped(t *testing.T) {
	got := Lines([][]string{{"zpool", "import", "-d", "/dev/a b"}, {"echo", "", "it's", "$x"}})
	if want := `zpool import -d '/dev/a b'; echo '' 'it'\''s' '$x'`; got != want {
		t.Errorf("got %s", got)
	}
}

// What was kept is handed over whole and once, also after a power cut; what is cut off is named and left alone.
func TestConsentWaitsForTheStore(t *testing.T) {
	p := tank(Risky)
	a, err := ByToken(p, TokenOf(p))
	if err != nil {
		t.Fatal(err)
	}
	m := memfs.New()
	second, first := a.Record(time.Unix(200, 0)), a.Record(time.Unix(100, 0))
	for _, r := range []format.Approval{second, first} {
		if err := Keep(m, r); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, m, Waiting+"/00.approval", "cut")
	writeFile(t, m, Waiting+"/notes.txt", "not ours")
	down := errors.New("the pool is gone")
	if n, _, err := HandOver(m, func([]format.Approval) error { return down }); n != 0 || !errors.Is(err, down) {
		t.Errorf("got %d, %v", n, err)
	}
	var log []format.Approval
	give := func(all []format.Approval) error { log = append(log, all...); return nil }
	n, spoilt, err := HandOver(m, give)
	if n != 2 || err != nil || !reflect.DeepEqual(log, []format.Approval{first, second}) || !reflect.DeepEqual(spoilt, []string{Waiting + "/00.approval"}) {
		t.Errorf("got %d, %v, %v: %+v", n, spoilt, err, log)
	}
	if n, _, err := HandOver(m, give); n != 0 || err != nil || len(log) != 2 {
		t.Errorf("handed over twice: %d, %v", n, err)
	}
	if n, _, err := HandOver(memfs.New(), give); n != 0 || err != nil {
		t.Errorf("nothing ever waited: %d, %v", n, err)
	}
}

// What Keep promised is there after a power cut at any later moment, whatever the medium dropped.
func TestKeptConsentSurvivesAPowerCut(t *testing.T) {
	m := memfs.New()
	var want format.Approval
	a, err := Ask(tank(Reversible), HashOf(tank(Reversible)), "y")
	if err == nil {
		want = a.Record(time.Unix(100, 0))
		err = Keep(m, want)
	}
	if err != nil {
		t.Fatal(err)
	}
	for c, after := range m.Crashes(m.Ops(), 1, 4) {
		var got []format.Approval
		_, spoilt, err := HandOver(after, func(all []format.Approval) error { got = all; return nil })
		if err != nil || len(spoilt) > 0 || len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			t.Errorf("%s: %+v, %v, %v", c, got, spoilt, err)
		}
	}
}

func writeFile(t *testing.T, fsys vfs.FS, name, text string) {
	f, err := fsys.CreateExcl(name, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
