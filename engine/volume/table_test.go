package volume

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sfdisk partitions an empty image as a script says, and gives it with what sfdisk reads of it.
func sfdisk(t testing.TB, script string, sizeMB int64) (img []byte, says map[string][2]int64) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, sizeMB<<20); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sfdisk", "-q", file)
	cmd.Stdin = strings.NewReader(script)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/sbin:"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var dump struct {
		Table struct {
			Partitions []struct {
				Node        string
				Start, Size int64
			}
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal([]byte(run(t, "sfdisk", "-J", file)), &dump); err != nil {
		t.Fatal(err)
	}
	says = map[string][2]int64{}
	for _, p := range dump.Table.Partitions {
		says[strings.TrimPrefix(p.Node, file)] = [2]int64{p.Start * 512, p.Size * 512}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b, says
}

func TestTables(t *testing.T) {
	for kind, script := range map[string]string{
		"gpt": "label: gpt\nsize=4M, type=U, name=\"the first\"\nsize=10M, type=L\nsize=3M, type=S\n",
		"mbr": "label: dos\nsize=4M, type=c\nsize=5M, type=83\ntype=5\nsize=3M, type=83\nsize=4M, type=7\n",
	} {
		img, says := sfdisk(t, script, 64)
		check := func(how string, b []byte, gaps []Span, problem string) {
			t.Helper()
			tab := ReadTable(holey{b, gaps}, int64(len(b)), 512)
			if tab.Kind != kind || len(tab.Partitions) != len(says) || (len(tab.Problems) > 0) != (problem != "") {
				t.Errorf("%s, %s: %+v", kind, how, tab)
				return
			}
			for _, p := range tab.Partitions {
				if want := says[fmt.Sprint(p.Number)]; want != [2]int64{p.Off, p.Len} && !p.Extended {
					t.Errorf("%s, %s: %+v, sfdisk says %v", kind, how, p, want)
				}
			}
			if problem != "" && !strings.Contains(strings.Join(tab.Problems, "\n"), problem) {
				t.Errorf("%s, %s: %q", kind, how, tab.Problems)
			}
		}
		check("whole", img, nil, "")
		if kind == "gpt" {
			check("first sectors unreadable", img, []Span{{0, 40 * 512}}, "cannot be read")
			b := bytes.Clone(img)
			b[512+20] ^= 1
			check("first header damaged", b, nil, "second is")
			b[len(b)-512+20] ^= 1
			if tab := ReadTable(bytes.NewReader(b), int64(len(b)), 512); tab.Kind != "none" || len(tab.Problems) != 3 {
				t.Errorf("both copies damaged: %+v", tab)
			}
		}
	}
	if tab := ReadTable(bytes.NewReader(make([]byte, 1<<20)), 1<<20, 512); tab.Kind != "none" || len(tab.Problems) != 0 {
		t.Errorf("an empty disk: %+v", tab)
	}
}

// TestDisk: of a disk with partitions, what is in use and what is touched is found in the right one.
func TestDisk(t *testing.T) {
	img, says := sfdisk(t, "label: gpt\nsize=2M, type=L\nsize=30M, type=L\n", 40)
	fs := mkext(t, sampleTree(t), "-b", "1024")
	at := says["2"][0]
	copy(img[at:], fs)
	d := Look(bytes.NewReader(img), int64(len(img)), 512)
	if len(d.Volumes) != 2 || d.Volumes[0].Info != nil || d.Volumes[1].Info == nil || d.Volumes[1].Info.Kind != "ext4" {
		t.Fatalf("%+v", d.Volumes)
	}
	used, why, err := d.Used(t.Context(), int64(len(img)))
	if err != nil || len(why) != 2 {
		t.Fatal(why, err)
	}
	in, err := mustOpen(t, fs).Used(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if free := int64(len(img)) - sum(used); free != int64(len(fs))-sum(in) || free == 0 {
		t.Errorf("%d bytes of the disk are left out", free)
	}
	gaps := []Span{{0, 512}, {at, int64(len(fs))}}
	all, err := d.TouchedBy(t.Context(), gaps)
	if err != nil || len(all) != 2 || all[0].Volume != 1 || all[1].Volume != -1 || all[1].Touches[0].What != "partition table" {
		t.Fatalf("%+v, %v", all, err)
	}
	if !strings.Contains(fmt.Sprint(all[0].Touches), "/one/two/three/four/letter.txt") {
		t.Errorf("%+v", all[0].Touches)
	}
}
