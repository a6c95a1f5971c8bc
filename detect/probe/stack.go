package probe

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"aslrescue/detect"
)

func stack(_ context.Context, m *Machine) (finding, error) {
	var s detect.Stack
	s.Arrays = ParseMdstat(m.text("/proc/mdstat"))
	for _, n := range m.names("/sys/block") {
		dir := "/sys/block/" + n
		if name := m.text(dir + "/dm/name"); name != "" {
			s.Maps = append(s.Maps, detect.Map{Name: name, Dev: n, Kind: mapKind(m.text(dir + "/dm/uuid")), Over: m.names(dir + "/slaves")})
		}
	}
	for i, line := range slices.Collect(strings.Lines(m.text("/proc/swaps"))) {
		f := strings.Fields(line)
		if i == 0 || len(f) < 3 {
			continue
		}
		kb, _ := strconv.ParseInt(f[2], 10, 64) // the kernel wrote it
		w := detect.Swap{Path: f[0], Size: kb << 10}
		if dev, ok := strings.CutPrefix(f[0], "/dev/"); ok && !strings.HasPrefix(dev, "zram") {
			w.Disk = m.diskOf(dev)
		} else if f[1] == "file" {
			w.Disk = m.fileDisk(f[0])
		}
		s.Swaps = append(s.Swaps, w)
	}
	mounts, err := m.mounts()
	if err != nil {
		return nil, err
	}
	for _, mt := range mounts {
		dev := m.mountedDevice(mt)
		if dev == "" || strings.HasPrefix(dev, "loop") {
			continue
		}
		ro := slices.Contains(strings.Split(mt.VFSOptions, ","), "ro") // of the file system: a mount that is ro may have one below that is not
		s.Mounts = append(s.Mounts, detect.Mount{Device: "/dev/" + dev, At: mt.Mountpoint, FS: mt.FSType, ReadOnly: ro, Disk: m.diskOf(dev)})
	}
	return func(f *detect.Facts) {
		f.Stack = &s
		mountsOf(f, s.Mounts)
	}, nil
}

func (m *Machine) fileDisk(p string) string {
	mounts, err := m.mounts()
	if err != nil {
		return ""
	}
	best, disk := -1, ""
	for _, mt := range mounts {
		if within(p, mt.Mountpoint) && len(mt.Mountpoint) >= best {
			best, disk = len(mt.Mountpoint), m.diskOf(m.mountedDevice(mt))
		}
	}
	return disk
}

func mapKind(uuid string) string {
	for prefix, kind := range map[string]string{"LVM-": "lvm", "CRYPT-": "crypt", "mpath-": "multipath"} {
		if strings.HasPrefix(uuid, prefix) {
			return kind
		}
	}
	return "other"
}

// ParseMdstat reads /proc/mdstat.
func ParseMdstat(text string) []detect.Array {
	var out []detect.Array
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 3 && f[1] == ":" && strings.HasPrefix(f[0], "md") {
			out = append(out, arrayLine(f))
			continue
		}
		if len(out) == 0 || len(f) == 0 {
			continue
		}
		a := &out[len(out)-1]
		for i, w := range f {
			var want, have int
			if n, _ := fmt.Sscanf(w, "[%d/%d]", &want, &have); n == 2 {
				a.Want, a.Have = want, have
			}
			for _, action := range []string{"resync", "recovery", "reshape", "check"} {
				switch rest, ok := strings.CutPrefix(w, action); {
				case !ok:
				case rest == "" && i+2 < len(f) && f[i+1] == "=": // resync = 12.6% (…
					a.Sync, a.Percent = action, f[i+2]
				case strings.HasPrefix(rest, "=PENDING"), strings.HasPrefix(rest, "=DELAYED"):
					a.Sync = w
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b detect.Array) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// arrayLine reads "md127 : active (auto-read-only) raid1 sdb1[1] sda1[0](F)".
func arrayLine(f []string) detect.Array {
	a := detect.Array{Name: f[0], State: f[2]}
	rest := f[3:]
	if len(rest) > 0 && strings.HasPrefix(rest[0], "(") {
		a.State += " " + rest[0]
		rest = rest[1:]
	}
	for _, w := range rest {
		if name, _, ok := strings.Cut(w, "["); ok {
			a.Members = append(a.Members, name)
		} else if a.Level == "" {
			a.Level = w
		}
	}
	slices.Sort(a.Members)
	return a
}
