package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"aslrescue/detect"
)

func zfs(ctx context.Context, m *Machine) (finding, error) {
	z := detect.ZFS{Loaded: m.zfsLoaded(), Module: m.text("/sys/module/zfs/version"), Tools: m.tool("zpool") != "" && m.tool("zfs") != "", Cache: m.exists("/etc/zfs/zpool.cache")}
	z.Installed = z.Loaded || m.moduleInstalled()
	if id := m.number("/sys/module/spl/parameters/spl_hostid"); id != 0 {
		z.HostID = detect.HostID(id)
	} else if b, err := readFile(m, "/etc/hostid"); err == nil && len(b) == 4 {
		z.HostID = detect.HostID(binary.LittleEndian.Uint32(b))
	}
	if z.Tools {
		z.AutoUnits = m.autoUnits()
	}
	if z.Loaded && z.Tools { // otherwise it would load the module, or say that it cannot
		out, err := m.Run(ctx, m.tool("zpool"), "version")
		if err == nil && out.Code == 0 {
			z.Version, _ = parseVersion(out.Out)
		}
	}
	return func(f *detect.Facts) { f.ZFS = &z }, nil
}

// zfsLoaded asks the kernel. Nothing of ZFS is run before it says yes: zpool loads the module by itself, and so does opening /dev/zfs.
func (m *Machine) zfsLoaded() bool { return m.exists("/sys/module/zfs") }

func (m *Machine) moduleInstalled() bool {
	release := m.text("/proc/sys/kernel/osrelease")
	for _, list := range []string{"modules.dep", "modules.builtin"} {
		for _, top := range []string{"/lib/modules/", "/usr/lib/modules/"} {
			for line := range strings.Lines(m.text(top + release + "/" + list)) {
				name, _, _ := strings.Cut(line, ":")
				if i := strings.LastIndexByte(name, '/'); strings.HasPrefix(name[i+1:], "zfs.ko") {
					return true
				}
			}
		}
	}
	return false
}

// autoUnits are units that are wanted at boot and import pools.
func (m *Machine) autoUnits() []string {
	var out []string
	const dir = "/etc/systemd/system/"
	for _, unit := range []string{"zfs-import-cache.service", "zfs-import-scan.service", "zfs-zed.service"} {
		if m.target(dir+unit) == "null" { // masked
			continue
		}
		for _, want := range []string{"zfs-import.target.wants/", "zfs.target.wants/", "multi-user.target.wants/", "sysinit.target.wants/"} {
			if m.exists(dir + want + unit) {
				out = append(out, unit)
				break
			}
		}
	}
	return out
}

// parseVersion reads what "zpool version" prints: the tools' version on the first line, the module's on the second.
func parseVersion(out string) (tools, module string) {
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if v, ok := strings.CutPrefix(line, "zfs-kmod-"); ok {
			module = v
		} else if v, ok := strings.CutPrefix(line, "zfs-"); ok {
			tools = v
		}
	}
	return tools, module
}

var errNotLoaded = errors.New("the module is not loaded")

// zpoolSays makes an error of how zpool ended, without its advice.
func zpoolSays(cmd string, out Output) error {
	first, _, _ := strings.Cut(strings.TrimSpace(out.Err), "\n")
	switch {
	case strings.Contains(out.Err, "modules are not loaded"), strings.Contains(out.Err, "cannot be auto-loaded"):
		return errNotLoaded
	case first == "":
		return fmt.Errorf("%s ended with %d", cmd, out.Code)
	}
	return fmt.Errorf("%s ended with %d: %s", cmd, out.Code, first)
}

// zpoolImport lists what could be imported. Without a pool's name the command only lists.
func zpoolImport(ctx context.Context, m *Machine) ([]detect.Pool, error) {
	out, err := m.Run(ctx, m.tool("zpool"), "import")
	if err != nil {
		return nil, err
	}
	if out.Code != 0 {
		return nil, zpoolSays("zpool import", out)
	}
	return ParseImport(out.Out)
}

// ParseImport reads what "zpool import" lists. Its form differs between versions in blanks only; words that wrap go on after a tab.
func ParseImport(text string) ([]detect.Pool, error) {
	var pools []detect.Pool
	var p *detect.Pool
	field := "" // that lines beginning with a tab go on
	for line := range strings.Lines(text) {
		raw := strings.TrimRight(line, "\n")
		trimmed := strings.TrimSpace(raw)
		if trimmed == "" {
			continue
		}
		key, value, found := strings.Cut(trimmed, ":")
		value = strings.TrimSpace(value)
		header := found && !strings.HasPrefix(raw, "\t")
		if header && key == "pool" {
			pools = append(pools, detect.Pool{Name: value, Listed: &detect.PoolListed{}})
			p, field = &pools[len(pools)-1], ""
			continue
		}
		if p == nil {
			continue // what stands before the first pool is a message
		}
		if !header {
			goOn(p.Listed, field, raw)
			continue
		}
		field = key
		switch key {
		case "id":
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("zpool import: the id of pool %s is %q", p.Name, value)
			}
			p.GUID = detect.GUID(n)
		case "state":
			p.Listed.State, p.Listed.Destroyed = strings.CutSuffix(value, " (DESTROYED)")
		case "status":
			p.Listed.Status = value
		case "action":
			p.Listed.Action = value
		case "comment":
			p.Listed.Comment = value
		case "see":
			p.Listed.MsgID = value[strings.LastIndexByte(value, '/')+1:]
		}
	}
	for i := range pools {
		if pools[i].GUID == 0 || pools[i].Listed.State == "" {
			return nil, fmt.Errorf("zpool import: pool %s has no id or no state", pools[i].Name)
		}
		pools[i].Listed.Reason = reason(pools[i].Listed.Status, pools[i].Listed.State)
	}
	return pools, nil
}

// goOn takes a line that begins with a tab: more of a sentence, or a line of the config.
func goOn(l *detect.PoolListed, field, raw string) {
	switch field {
	case "status":
		l.Status += " " + strings.TrimSpace(raw)
	case "action":
		l.Action += " " + strings.TrimSpace(raw)
	case "comment":
		l.Comment += " " + strings.TrimSpace(raw)
	case "config":
		body := strings.TrimPrefix(raw, "\t")
		depth := (len(body) - len(strings.TrimLeft(body, " "))) / 2
		name, rest, _ := strings.Cut(strings.TrimSpace(body), " ")
		state, aux, _ := strings.Cut(strings.TrimSpace(rest), " ")
		l.Config = append(l.Config, detect.ListedVdev{Depth: depth, Name: name, State: state, Aux: strings.TrimSpace(aux)})
	}
}

// reason knows zpool's sentences by words that both versions have. What is not known is not guessed.
func reason(status, state string) detect.Reason {
	has := func(words string) bool { return strings.Contains(status, words) }
	switch {
	case status == "":
		return ""
	case has("currently imported by another system"):
		return detect.ReasonHostActive
	case has("multihost property on"):
		return detect.ReasonHostRequired
	case has("last accessed by another system"):
		return detect.ReasonHost
	case has("intent log record"), has("intent logs are"):
		return detect.ReasonLog
	case has("missing from the system"), has("are missing"):
		return detect.ReasonMissing
	case has("corrupted data"), has("metadata is corrupted"), has("Unrecoverable"), has("corrupted"):
		return detect.ReasonCorrupt
	case has("cannot be accessed in read-write mode"), has("feature") && has("read-write"):
		return detect.ReasonFeatureWrite
	case has("feature") && state == "UNAVAIL":
		return detect.ReasonFeatureRead
	case has("incompatible version"):
		return detect.ReasonVersion
	case has("older on-disk version"), has("legacy on-disk version"), has("supported features are not enabled"), has("requested compatibility"):
		return detect.ReasonUpgrade
	}
	return detect.ReasonOther
}

// zpoolList tells which pools are imported here, and how.
func zpoolList(ctx context.Context, m *Machine) ([]detect.Pool, error) {
	out, err := m.Run(ctx, m.tool("zpool"), "list", "-Hp", "-o", "name,guid,health,size,free,readonly,altroot")
	if err != nil {
		return nil, err
	}
	if out.Code != 0 {
		return nil, zpoolSays("zpool list", out)
	}
	pools, err := ParseList(out.Out)
	if err != nil || len(pools) == 0 {
		return nil, err
	}
	if out, err := m.Run(ctx, m.tool("zpool"), "status"); err == nil && out.Code == 0 {
		for i := range pools {
			pools[i].Imported.Scan = scanning(out.Out, pools[i].Name)
		}
	}
	out, err = m.Run(ctx, m.tool("zfs"), "list", "-Hp", "-t", "filesystem", "-o", "name,mounted,mountpoint,keystatus")
	if err == nil && out.Code == 0 {
		addDatasets(pools, out.Out)
	}
	return pools, nil
}

// ParseList reads the lines of "zpool list -Hp -o name,guid,health,size,free,readonly,altroot".
func ParseList(text string) ([]detect.Pool, error) {
	var pools []detect.Pool
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 7 {
			return nil, fmt.Errorf("zpool list: a line has %d fields, not 7: %q", len(f), line)
		}
		guid, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("zpool list: the guid of pool %s is %q", f[0], f[1])
		}
		i := &detect.PoolImported{Health: f[2], ReadOnly: f[5] == "on"}
		i.Size, _ = strconv.ParseInt(f[3], 10, 64) // "-" where the pool cannot say
		i.Free, _ = strconv.ParseInt(f[4], 10, 64)
		if f[6] != "-" {
			i.AltRoot = f[6]
		}
		pools = append(pools, detect.Pool{Name: f[0], GUID: detect.GUID(guid), Imported: i})
	}
	return pools, nil
}

// scanning finds what runs on a pool in the output of zpool status.
func scanning(status, pool string) string {
	in := false
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch value = strings.TrimSpace(value); key {
		case "pool":
			in = value == pool
		case "scan":
			if in && strings.Contains(value, "in progress") {
				what, _, _ := strings.Cut(value, " since ")
				return what
			}
		}
	}
	return ""
}

func addDatasets(pools []detect.Pool, text string) {
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 4 {
			continue
		}
		for i := range pools {
			if f[0] != pools[i].Name && !strings.HasPrefix(f[0], pools[i].Name+"/") {
				continue
			}
			if f[1] == "yes" {
				pools[i].Imported.Mounts = append(pools[i].Imported.Mounts, f[2])
			}
			if f[3] == "unavailable" {
				pools[i].Imported.Locked = append(pools[i].Imported.Locked, f[0])
			}
		}
	}
}
