package custody

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"aslrescue/backends/local"
	"aslrescue/engine/digest"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/source/sourcetest"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// keep writes the page of a made-up hurt disk to a file, to look at it.
var keep = flag.String("keep", "", "write the page of TestReport to this `FILE`")

// sysfs is a small sysfs with one disk, sdb, whose counters can be set.
func sysfs(t testing.TB) (root string, stat func(writes, sectors int)) {
	t.Helper()
	root = t.TempDir()
	disk := filepath.Join(root, "devices/pci0/ata3/host2/target2:0:0/2:0:0:0/block/sdb")
	put := func(name, text string) {
		p := filepath.Join(disk, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"queue/logical_block_size": "512", "queue/physical_block_size": "4096", "queue/rotational": "1", "removable": "0", "ro": "0", "device/vendor": "ATA     ", "device/rev": "82.0", "wwid": "naa.50014ee2b1234567"} {
		put(name, text)
	}
	stat = func(w, s int) { put("stat", fmt.Sprintf("100 0 8000 50 %d 0 %d 0 0 0 0 0 0 0 0 0 0", w, s)) }
	stat(3, 24)
	return root, stat
}

const smartJSON = `{"smart_status":{"passed":%t},"temperature":{"current":%d},"power_on_time":{"hours":41235},"power_cycle_count":122,"ata_smart_attributes":{"table":[{"id":5,"name":"Reallocated_Sector_Ct","raw":{"value":%d,"string":"%d"}},{"id":197,"name":"Current_Pending_Sector","raw":{"value":%d,"string":"%d"}}]}}`

// TestWitness: what sysfs, smartctl and the kernel say of a disk at the beginning and at the end is kept, and nothing of other disks.
func TestWitness(t *testing.T) {
	root, stat := sysfs(t)
	disk := filepath.Join(root, "devices/pci0/ata3/host2/target2:0:0/2:0:0:0/block/sdb")
	if got := writes(disk); got != (format.Writes{Known: true, Writes: 3, Sectors: 24}) {
		t.Errorf("counters %+v", got)
	}
	stat(4, 32)
	row := Written(format.Writes{Known: true, Writes: 3, Sectors: 24}, writes(disk))
	if row.Good || !strings.Contains(row.Verdict, "1 writes of 8 sectors") {
		t.Errorf("a write was seen as %+v", row)
	}
	if w := writes(root); w.Known || w.Why == "" {
		t.Errorf("no counters are %+v", w)
	}
	if row := Written(format.Writes{Why: "gone"}, format.Writes{}); row.Good || !strings.Contains(row.Verdict, "gone") {
		t.Errorf("%+v", row)
	}
	l := listen("/nowhere", append(namesOf(disk, "/dev/sdb1"), "2:0:0:0"))
	for _, rec := range []string{
		"6,1,1000001,-;sd 2:0:0:0: [sdb] tag#3 Sense Key : Medium Error\n SUBSYSTEM=scsi\n DEVICE=+scsi:2:0:0:0\n",
		"3,2,2000002,-;ata3.00: failed command: READ DMA EXT\n",
		"3,3,3000003,-;blk_update_request: I/O error, dev sdb, sector 1234\n",
		"3,4,3000004,-;I/O error, dev sdbc, sector 1\n",
		"3,5,3000005,-;ata30: link is slow\n",
		"6,6,3000006,-;EXT4-fs (sdb1): error\n",
		"6,7,3000007,-;EXT4-fs (sda1): mounted\n",
		"garbage",
	} {
		l.take(rec)
	}
	lines, all, why := l.end()
	if all != 4 || len(lines) != 4 || lines[0] != "[1.000001] sd 2:0:0:0: [sdb] tag#3 Sense Key : Medium Error" || !strings.Contains(why, "cannot be read") {
		t.Errorf("%d: %q, %s", all, lines, why)
	}
}

func TestSmartRows(t *testing.T) {
	rows := smartRows(format.Smart{JSON: fmt.Appendf(nil, smartJSON, true, 38, 8, 8, 0, 0)}, format.Smart{JSON: fmt.Appendf(nil, smartJSON, false, 44, 8, 8, 24, 24)})
	got := fmt.Sprint(rows)
	for _, want := range []string{"{health passed FAILED}", "{temperature 38 °C 44 °C}", "{pending sectors 0 24}", "{reallocated sectors 8 8}"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing of %s", want, got)
		}
	}
	if rows := smartRows(format.Smart{Why: "smartctl is not there"}, format.Smart{}); len(rows) != 1 || rows[0].What != "none" || rows[0].Begin != "smartctl is not there" {
		t.Errorf("%+v", rows)
	}
	if rows := smartRows(format.Smart{JSON: []byte("[")}, format.Smart{JSON: []byte("{}")}); len(rows) != 1 {
		t.Errorf("%+v", rows)
	}
}

// told is a Witness that says what it was told to.
type told struct{ ev *format.Evidence }

func (told) Begin(context.Context, int, source.Info, func(event.Level, string)) {
}
func (told) Hot(int) bool                                { return false }
func (told) Pause(context.Context, int)                  {}
func (w told) End(context.Context, int) *format.Evidence { return w.ev }
func (told) Close()                                      {}

// hurtDisk is a disk with a partition table and an ext4 file system, as tools of the system make them.
func hurtDisk(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	for i := range 40 {
		p := filepath.Join(dir, fmt.Sprintf("home/ada/letters/%d/letter %02d.txt", 1990+i/5, i))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 20_000+9000*i)
		sourcetest.Pattern{Seed: uint64(i)}.Fill(b, 0)
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	disk, part := filepath.Join(t.TempDir(), "disk"), filepath.Join(t.TempDir(), "part")
	tool(t, "", "truncate", "-s", "28M", disk)
	tool(t, "label: gpt\nlabel-id: 11111111-2222-3333-4444-555555555555\nsize=3M, type=U, name=\"EFI\"\nsize=20M, type=L, name=\"data\"\n", "sfdisk", "-q", disk)
	tool(t, "", "mkfs.ext4", "-q", "-F", "-b", "1024", "-L", "home", "-d", dir, part, "20m")
	b, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	fs, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	copy(b[4<<20:], fs)
	return b
}

func tool(t testing.TB, in, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(in)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/sbin:"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// rescued takes a hurt disk in and gives its store and snapshot.
func rescued(t testing.TB, bad []source.Gap) (*store.Store, *store.View, []byte) {
	t.Helper()
	disk := hurtDisk(t)
	b, err := local.CreatePath(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	s, err := store.Create(t.Context(), b, store.Options{Domain: "rescue-domain", Tool: "asl-intake 1"})
	if err != nil {
		t.Fatal(err)
	}
	ev := &format.Evidence{Version: format.Version,
		Device:      map[string]string{"model": "WDC WD40EFRX", "serial": "WD-WCC4E0000021", "wwn": "naa.50014ee2b1234567", "firmware": "82.00A82", "transport": "ATA", "path": "/dev/sdb", "name": "sdb", "size": fmt.Sprint(len(disk)), "logical": "512", "physical": "4096", "rotational": "1", "removable": "0", "read_only": "1"},
		SmartBegin:  format.Smart{JSON: fmt.Appendf(nil, smartJSON, true, 38, 8, 8, 0, 0)},
		SmartEnd:    format.Smart{JSON: fmt.Appendf(nil, smartJSON, true, 41, 8, 8, 24, 24)},
		WritesBegin: format.Writes{Known: true, Writes: 3, Sectors: 24}, WritesEnd: format.Writes{Known: true, Writes: 3, Sectors: 24},
		Messages: []string{"[1234.567890] sd 2:0:0:0: [sdb] tag#3 Sense Key : Medium Error [current]", "[1234.567901] I/O error, dev sdb, sector 14336 <b>&"}, MessagesAll: 2,
		Machine: map[string]string{"kernel": "Linux 6.12.58 x86_64", "hostname": "sysrescue", "boot": "aaffd085-45fb-4925-bc63-4fa5cec37f18", "clock": "not set by any time server"},
		Began:   format.Moment{Clock: 1_800_000_000, Uptime: 312_400}, Ended: format.Moment{Clock: 1_800_000_812, Uptime: 1_124_900}}
	at := time.Unix(1_800_000_000, 0)
	src := sourcetest.NewLinear(sourcetest.Config{Name: "sdb", ID: "device wwn=naa.50014ee2b1234567 serial=WD-WCC4E0000021", Bytes: disk, Bad: bad})
	rep, err := intake.Run(t.Context(), s, []source.Source{src}, intake.Options{Label: "Ada's old server", Witness: told{ev}, Digest: []string{digest.BLAKE3, digest.SHA256}, Clock: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.At(t.Context(), rep.Snapshot.Number)
	if err != nil {
		t.Fatal(err)
	}
	return s, v, disk
}

// TestReport: of a hurt disk it says what is missing and what that touches, that the log holds, and who read it, on a page that needs nothing else.
func TestReport(t *testing.T) {
	bad := []source.Gap{{Off: 9 << 20, Len: 8 * 512}, {Off: 11<<20 + 512*40, Len: 512 * 160}, {Off: 13<<20 + 4096, Len: 512}, {Off: 19<<20 + 7*512, Len: 512 * 33}}
	s, v, _ := rescued(t, bad)
	r, err := Build(t.Context(), s, v)
	if err != nil {
		t.Fatal(err)
	}
	src := r.Sources[0]
	if r.Result != string(event.CompleteWithGaps) || !r.Log.Checked || r.Log.Signature != "good" || r.Log.Record != v.Snapshot.Seq || len(r.Problems)+len(src.Problems) > 0 {
		t.Errorf("%+v, %+v", r.Log, r.Problems)
	}
	lost := int64(0)
	for _, g := range bad {
		lost += g.Len
	}
	if src.GapBytes != lost || int(src.GapsAll) != len(bad) || len(src.Gaps) != len(bad) || !src.Writes.Good || len(src.Disk.Table.Partitions) != 2 {
		t.Errorf("%d bytes in %d gaps, want %d in %d: %+v", src.GapBytes, src.GapsAll, lost, len(bad), src.Gaps)
	}
	if len(src.Digests) != 1 || src.Digests[0].GapBytes != lost {
		t.Errorf("digests %+v", src.Digests)
	}
	if len(src.Touched) != 1 || len(src.Touched[0].Touches) == 0 || !strings.Contains(fmt.Sprint(src.Touched), "/home/ada/letters/1996/letter 34.txt") {
		t.Errorf("touched %+v", src.Touched)
	}
	var text, page bytes.Buffer
	r.Text(&text)
	if err := r.HTML(&page); err != nil {
		t.Fatal(err)
	}
	js, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for name, out := range map[string]string{"text": text.String(), "page": page.String(), "json": string(js)} {
		for _, want := range []string{"WD-WCC4E0000021", "WDC WD40EFRX", "letter ", src.Digests[0].Sums["sha256"], r.Log.HeadHash, "Medium Error", "COMPLETE WITH GAPS", "not set by any time server", map[string]string{"page": "9 437 184"}[name]} {
			if !strings.Contains(out, want) {
				t.Errorf("the %s does not say %q", name, want)
			}
		}
	}
	for what, pattern := range map[string]string{"a script": `(?i)<script|javascript:|\son\w+=`, "something from elsewhere": `(?i)(src|href)=|@import|url\(|https?://`, "what was not escaped": `<b>&[^a]`} {
		if m := regexp.MustCompile(pattern).FindString(page.String()); m != "" {
			t.Errorf("the page has %s: %s", what, m)
		}
	}
	if *keep != "" {
		if err := os.WriteFile(*keep, page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReportOfAChangedLog: a report never says that a chain holds which does not.
func TestReportOfAChangedNote(t *testing.T) {
	s, v, _ := rescued(t, nil)
	r, err := Build(t.Context(), s, v)
	if err != nil || r.Log.Signature != "good" || r.Sources[0].GapsAll != 0 {
		t.Fatalf("%+v, %v", r.Log, err)
	}
	name := filepath.Join(s.Backend().Info().Where, r.Log.Note)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.IndexByte(b, '\n')+1] ^= 1
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err = Build(t.Context(), s, v); err != nil || !strings.HasPrefix(r.Log.Signature, "NOT GOOD") {
		t.Errorf("%q, %v", r.Log.Signature, err)
	}
}
