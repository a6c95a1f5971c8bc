package detect

import (
	"strings"
	"testing"
)

func TestDisksAreNamedByWhatStays(t *testing.T) {
	d := Disk{
		Name: "sdb", Path: "/dev/sdb", ID: "ata-WDC_WD40EFRX_WD-1", Model: "WDC WD40EFRX/68", Serial: "WD-WCC4N7", WWN: "0x5000C500ABCD",
		Parts: []Part{{Path: "/dev/sdb1", Content: &Content{Kind: "ext4", Label: "DATA 2024", UUID: "0d1f-AA"}}, {Path: "/dev/sdb2"}},
	}
	for word, want := range map[string]bool{
		"serial:WD-WCC4*": true, "serial:wd-*": false, "serial:WD": false, "wwn:0x5000c500abcd": true, "model:*WD40*": true, "model:WDC?WD40EFRX*": true,
		"label:DATA?2024": true, "uuid:0D1F-aa": true, "uuid:*": true, "/dev/sdb": true, "/dev/sdb1": true, "/dev/sd*": true, "/dev/*": true, "/*": false,
		"/dev/disk/by-id/ata-WDC*": true, "/dev/disk/by-id/usb-*": false, "serial:": false, "serial:[": false, "nonsense:x": false, "": false, "*": false, "label:": false,
	} {
		if got := d.named([]string{word}); got != want {
			t.Errorf("%q: %v", word, got)
		}
	}
	if (&Disk{Name: "sdc", Path: "/dev/sdc"}).named([]string{"serial:*", "wwn:*", "label:*", "/dev/disk/by-id/*"}) {
		t.Error("a disk without a serial is meant by serial:*")
	}
}

func TestNumbersForPeople(t *testing.T) {
	for got, want := range map[string]string{
		size(0): "0 B", size(999): "999 B", size(1999): "1.9 kB", size(4_000_787_030_016): "4.0 TB", size(999_999): "999 kB", size(-1): "unknown",
		span(1): "1 second", span(119): "119 seconds", span(7199): "119 minutes", span(-86400 * 3): "3 days", span(86400 * 700): "23 months", span(86400 * 800): "2 years",
		ago(0, 100): "at an unknown time", ago(1000, 990): "just now", ago(1000, 100): "15 minutes ahead of this clock", ago(1000, 1000+3*86400): "3 days ago",
		join(nil): "", join([]string{"a"}): "a", join([]string{"a", "b", "c"}): "a, b and c",
		quote("tank"): "tank", quote("a b's"): `'a b'\''s'`, quote(""): "''", Printable("a\x1b[2J"): `a\x1b[2J`,
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTheTableFitsItsWidth(t *testing.T) {
	for _, m := range machines(t) {
		d := Decide(m.facts, m.policy)
		for _, width := range []int{1, 40, 80, 200} {
			for _, line := range strings.Split(d.Text(width), "\n") {
				if n := len([]rune(line)); n > max(width, 40) && strings.Count(strings.TrimSpace(line[min(len(line), 34):]), " ") > 1 {
					t.Errorf("%s at %d: %d columns: %q", m.file, width, n, line)
				}
			}
		}
	}
}

// A decision says what a reader may do without knowing rows by name.
func TestSubjects(t *testing.T) {
	d := Decision{Rows: []Row{{ID: "a", Verdict: GO}, {ID: "b", About: OfPool(7), Verdict: STOP}, {ID: "c", About: OfDisk("sda"), Verdict: ASK}}}
	if d.Worst() != STOP || d.Worst(Machine) != GO || d.Worst(OfDisk("sda"), Machine) != ASK || d.Worst(TheRemote) != INFO || len(d.About(OfPool(7))) != 1 {
		t.Errorf("%s %s %s", d.Worst(), d.Worst(Machine), d.Worst(OfDisk("sda"), Machine))
	}
}

func TestFactsThatAreNone(t *testing.T) {
	for _, text := range []string{"", "null", "[]", "{}", `{"version":2}`, `{"version":1,"pools":[{"guid":"x"}]}`, `{"version":1,"zfs":{"hostid":"xyz"}}`} {
		if f, err := ParseFacts([]byte(text)); err == nil {
			t.Errorf("%s gives %+v", text, f)
		}
	}
	if f, err := ParseFacts([]byte(`{"version":1,"something_new":{}}`)); err != nil || f.Version != 1 {
		t.Errorf("a field that is not known: %v", err)
	}
}

// Whatever a file of facts says: no panic, five options, one of them taken.
func FuzzDecide(f *testing.F) {
	f.Add([]byte(`{"version":1,"pools":[{"guid":"1","name":"tank","labels":{"state":"active","health":"ONLINE","vdevs":[{"type":"disk","health":"ONLINE"}]}}]}`), []byte(`{"approved":["tank"]}`))
	f.Fuzz(func(t *testing.T, facts, policy []byte) {
		got, err := ParseFacts(facts)
		var p Policy
		if err != nil || strict(policy, &p) != nil {
			return
		}
		taken := 0
		d := Decide(*got, p)
		for _, o := range d.Options {
			if o.Taken {
				taken++
			}
		}
		if len(d.Options) != 5 || taken != 1 {
			t.Errorf("%+v", d.Options)
		}
		_ = d.Text(80)
	})
}
