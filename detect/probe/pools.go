package probe

import (
	"slices"
	"strings"

	"aslrescue/detect"
	"aslrescue/detect/zfslabel"
)

// pools puts together what labels, zpool import and zpool list say.
func pools(seen []zfslabel.Seen, listed, imported []detect.Pool, disk func(device string) string) []detect.Pool {
	var out []detect.Pool
	at := func(g detect.GUID, name string) *detect.Pool {
		for i := range out {
			if out[i].GUID == g {
				return &out[i]
			}
		}
		out = append(out, detect.Pool{GUID: g, Name: name})
		return &out[len(out)-1]
	}
	a := zfslabel.Assemble(seen)
	for i := range a.Pools {
		p := at(detect.GUID(a.Pools[i].GUID), a.Pools[i].Name)
		p.Labels = labels(&a.Pools[i], seen, disk)
	}
	for _, l := range listed {
		at(l.GUID, l.Name).Listed = l.Listed
	}
	for _, l := range imported {
		p := at(l.GUID, l.Name)
		p.Imported, p.Name = l.Imported, l.Name // it may have been imported under another name
	}
	slices.SortFunc(out, func(a, b detect.Pool) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return int(min(max(int64(a.GUID>>1)-int64(b.GUID>>1), -1), 1))
	})
	return out
}

func labels(p *zfslabel.Pool, seen []zfslabel.Seen, disk func(string) string) *detect.PoolLabels {
	l := &detect.PoolLabels{
		State: p.State.String(), Health: string(p.Health), Complete: p.Complete, HostName: p.Hostname, Txg: p.TXG, Version: p.Version,
		Features: p.ReadNeeds, Problems: p.Findings,
	}
	if p.HasHostID {
		l.HostID = detect.HostID(p.HostID)
	}
	if p.Last != nil {
		l.Txg, l.Written, l.MMP = max(l.Txg, p.Last.TXG), p.Last.Timestamp, p.Last.MMP.On()
	}
	for _, t := range p.Tops {
		v := vdev(t, seen, disk)
		v.Log = t.Role == zfslabel.RoleLog
		l.Vdevs = append(l.Vdevs, v)
	}
	for _, s := range seen { // a device whose other labels are damaged
		if s.Why != "" && slices.Contains(p.Devices, s.Device) {
			l.Problems = append(l.Problems, s.Device+": "+s.Why)
		}
	}
	return l
}

func vdev(n *zfslabel.Node, seen []zfslabel.Seen, disk func(string) string) detect.Vdev {
	v := detect.Vdev{GUID: detect.GUID(n.GUID), Type: n.Type, Path: n.Path, Device: n.Device, Presence: string(n.Presence), Health: string(n.Health)}
	if n.Vdev != nil {
		v.Parity = int(n.Vdev.Parity)
	}
	if n.Device != "" {
		v.Disk = disk(n.Device)
		for _, s := range seen {
			if s.Device == n.Device {
				for _, l := range s.Labels {
					if l == zfslabel.Good {
						v.Labels++
					}
				}
				break
			}
		}
	}
	for _, c := range n.Children {
		v.Children = append(v.Children, vdev(c, seen, disk))
	}
	return v
}
