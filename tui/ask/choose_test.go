package ask

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"aslrescue/detect"
)

// machine has n disks with two partitions each, all of them free.
func machine(n int) detect.Facts {
	f := detect.Facts{Version: detect.FactsVersion, Stack: &detect.Stack{}}
	for i := range n {
		name := string(rune('a' + i))
		d := detect.Disk{Name: "sd" + name, Path: "/dev/sd" + name, Model: "Model", Serial: "S-" + name, WWN: "wwn-" + name, Size: 1 << 30, State: "running"}
		for k := 1; k <= 2; k++ {
			part := fmt.Sprintf("sd%s%d", name, k)
			d.Parts = append(d.Parts, detect.Part{Name: part, Path: "/dev/" + part, Start: int64(k) << 20, Size: 1 << 28})
		}
		f.Disks = append(f.Disks, d)
	}
	return f
}

// hurts is a way in which reading a disk would be wrong: what makes a machine so, and which paths of the disk must then be refused.
type hurt struct {
	name  string
	make  func(f *detect.Facts, place *Place, d *detect.Disk)
	parts []int // partitions that are refused; nil is all of them
	whole bool  // the whole disk is
	word  string
}

func hurts() []hurt {
	all := func(name, word string, make func(*detect.Facts, *Place, *detect.Disk)) hurt {
		return hurt{name, make, nil, true, word}
	}
	one := func(name, word string, make func(*detect.Facts, *Place, *detect.Disk)) hurt {
		return hurt{name, make, []int{0}, true, word}
	}
	leg := func(d *detect.Disk, ro bool) detect.Pool {
		return detect.Pool{Name: "tank", Labels: &detect.PoolLabels{Vdevs: []detect.Vdev{{Type: "mirror", Children: []detect.Vdev{{Type: "disk", Device: d.Parts[0].Path, Disk: d.Name}}}}}, Imported: &detect.PoolImported{ReadOnly: ro}}
	}
	return []hurt{
		all("the destination", "store", func(_ *detect.Facts, p *Place, d *detect.Disk) { p.Disks = append(p.Disks, d.Name) }),
		all("the boot medium", "booted", func(f *detect.Facts, _ *Place, d *detect.Disk) { f.Host.Medium = d.Name }),
		all("the running system", "runs from", func(f *detect.Facts, _ *Place, d *detect.Disk) { f.Host.RootDev = d.Name }),
		all("a second way to a disk, by WWN", "second way", func(f *detect.Facts, _ *Place, d *detect.Disk) {
			o := *d
			o.Name, o.Path, o.Parts, o.Serial = "sd0", "/dev/sd0", nil, ""
			f.Disks = slices.Insert(f.Disks, 0, o)
		}),
		all("a second way to a disk, by serial", "second way", func(f *detect.Facts, _ *Place, d *detect.Disk) {
			o := *d
			o.Name, o.Path, o.Parts, o.WWN = "sd0", "/dev/sd0", nil, ""
			f.Disks = slices.Insert(f.Disks, 0, o)
		}),
		all("an empty drive", "no size", func(_ *detect.Facts, _ *Place, d *detect.Disk) { d.Size = 0 }),
		one("a leg of a pool in use", "pool tank", func(f *detect.Facts, _ *Place, d *detect.Disk) { f.Pools = append(f.Pools, leg(d, false)) }),
		one("mounted writable", "mounted", func(f *detect.Facts, _ *Place, d *detect.Disk) {
			f.Stack.Mounts = append(f.Stack.Mounts, detect.Mount{Device: d.Parts[0].Path, At: "/mnt/x", Disk: d.Name})
		}),
		one("swap", "swaps", func(f *detect.Facts, _ *Place, d *detect.Disk) {
			f.Stack.Swaps = append(f.Stack.Swaps, detect.Swap{Path: d.Parts[0].Path, Disk: d.Name})
		}),
		one("an array that runs", "array md0", func(f *detect.Facts, _ *Place, d *detect.Disk) {
			f.Stack.Arrays = append(f.Stack.Arrays, detect.Array{Name: "md0", State: "active", Members: []string{d.Parts[0].Name}})
		}),
		one("a volume that is mounted writable", "vg-root", func(f *detect.Facts, _ *Place, d *detect.Disk) {
			f.Stack.Maps = append(f.Stack.Maps, detect.Map{Name: "vg-root", Dev: "dm-0", Kind: "lvm", Over: []string{d.Parts[0].Name}})
			f.Stack.Mounts = append(f.Stack.Mounts, detect.Mount{Device: "/dev/mapper/vg-root", At: "/mnt/y"})
		}),
		one("held by something nobody could look at", "in use by dm-3", func(f *detect.Facts, _ *Place, d *detect.Disk) {
			f.Stack = nil
			d.Parts[0].Holders = []string{"dm-3"}
		}),
	}
}

// Every way of picking a wrong disk is refused: each reason, on each disk of the machine, as a whole, by its partition, alone, before and after
// good ones. And no other disk is refused for it.
func TestWrongDisksAreRefusedInAllCases(t *testing.T) {
	cases := 0
	for _, h := range hurts() {
		for i := range 4 {
			f, place := machine(4), Place{Path: "/mnt/asl/local"}
			name := f.Disks[i].Name
			h.make(&f, &place, &f.Disks[i])
			k := slices.IndexFunc(f.Disks, func(d detect.Disk) bool { return d.Name == name })
			d := &f.Disks[k]
			bad := []string{d.Path}
			for n, p := range d.Parts {
				if h.parts == nil || slices.Contains(h.parts, n) {
					bad = append(bad, p.Path)
				}
			}
			choices := Disks(&f, place)
			var good []string
			for _, c := range choices {
				switch wrong := slices.Contains(bad, c.Path); {
				case wrong != (c.Refused != ""):
					t.Errorf("%s on %s: %s: refused %q", h.name, name, c.Path, c.Refused)
				case wrong && !strings.Contains(c.Refused, h.word):
					t.Errorf("%s on %s: %s: the reason is %q, want one with %q", h.name, name, c.Path, c.Refused, h.word)
				case !wrong && c.Parent == "":
					good = append(good, c.Path)
				}
			}
			for _, b := range bad {
				for _, pick := range [][]string{{b}, append(slices.Clone(good), b), append([]string{b}, good...)} {
					if err := Check(choices, pick, place); !errors.Is(err, ErrRefused) {
						t.Errorf("%s on %s: picking %v: %v", h.name, name, pick, err)
					}
					cases++
				}
			}
			if err := Check(choices, good, place); err != nil {
				t.Errorf("%s on %s: the others are refused too: %v", h.name, name, err)
			}
		}
	}
	if cases < 300 {
		t.Errorf("only %d cases", cases)
	}
}

func TestWhatCannotBeTakenInTogetherIsRefused(t *testing.T) {
	f, place := machine(2), Place{Path: "/mnt/asl/local"}
	choices := Disks(&f, place)
	for _, pick := range [][]string{
		{}, {"/dev/sda", "/dev/sda"}, {"/dev/sda", "/dev/sda1"}, {"/dev/sda1", "/dev/sda"}, {"/dev/sda1", "/dev/sda2", "/dev/sda"}, {"/dev/sda", "/dev/./sda"},
		{"/dev/sdz"}, {"sda"}, {"/"}, {"/mnt"}, {"/mnt/asl/local"}, {"/mnt/asl/local/blocks"}, {"/home", "/home"}, {"/home", "/home/a"}, {"/home/a", "/home"}, {"/home/../mnt"},
	} {
		if err := Check(choices, pick, place); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", pick, err)
		}
	}
	for _, pick := range [][]string{{"/dev/sda"}, {"/dev/sdb1", "/dev/sda"}, {"/dev/sda1", "/dev/sda2"}, {"/home/a", "/home/ab"}, {"/mnt/asl/locals"}, {"/dev/sda", "/srv"}} {
		if err := Check(choices, pick, place); err != nil {
			t.Errorf("%q: %v", pick, err)
		}
	}
}

// What is only read does not stand in the way, and twins are pointed out to each other.
func TestWhatDoesNotChangeMayBeRead(t *testing.T) {
	f := machine(2)
	f.Stack.Mounts = []detect.Mount{{Device: "/dev/sda1", At: "/mnt/x", ReadOnly: true, Disk: "sda"}}
	f.Stack.Arrays = []detect.Array{{Name: "md0", State: "active (auto-read-only)", Members: []string{"sda2"}}}
	f.Pools = []detect.Pool{{Name: "old", Labels: &detect.PoolLabels{Vdevs: []detect.Vdev{{Type: "disk", Device: "/dev/sdb1", Disk: "sdb"}}}, Imported: &detect.PoolImported{ReadOnly: true}}}
	for _, c := range Disks(&f, Place{}) {
		if c.Refused != "" {
			t.Errorf("%s: %s", c.Path, c.Refused)
		}
		if c.Parent == "" && c.Twin == "" {
			t.Errorf("%s has a twin, and nobody says so", c.Path)
		}
	}
}
