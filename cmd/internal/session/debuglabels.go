package session

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"aslrescue/cmd/internal/report"
	"aslrescue/detect/zfslabel"
	"aslrescue/engine/event"
)

func labelsCommand() command {
	var all, ring bool
	return command{
		name: "labels", args: "DEV|FILE [...]", min: 1, max: -1, bare: true,
		does: "read the ZFS labels of disks, partitions and images, and what pools they make",
		help: `It needs no ZFS and only reads. A whole disk is looked into partition by partition. Give all devices of a pool at
once, and it says whether the pool is whole. With --json, guids and numbers above 2^53 stand as text.
The exit code is 0 if every label is good, 8 if one is damaged or cannot be read, 1 if there is no label at all.`,
		examples: []string{"asl-debug labels /dev/sdb", "asl-debug labels /dev/sd[bcd]1 --json", "asl-debug labels disk.img --uberblocks --all"},
		flags: func(fs *flag.FlagSet) {
			fs.BoolVar(&all, "all", false, "print everything that the best label of each device says")
			fs.BoolVar(&ring, "uberblocks", false, "print every uberblock of the best label of each device")
		},
		run: func(ctx context.Context, c *call) report.Result { return runLabels(ctx, c, all, ring) },
	}
}

// errNoLabel is the answer where nothing of ZFS was found.
var errNoLabel = errors.New("no label of ZFS is on it")

func runLabels(ctx context.Context, c *call, all, ring bool) report.Result {
	var seen []zfslabel.Seen
	bad := 0
	for _, path := range c.args {
		table, places, err := look(ctx, path)
		if err != nil {
			return report.Result{Err: &report.Error{What: "read the labels of " + path, Err: err}}
		}
		for _, p := range places {
			s := p.Found.Seen(placeName(path, p))
			if !s.Found() && (p.Number > 0 || len(places) > 1) {
				continue // a partition with something else on it
			}
			c.place(s, path, table, p, all, ring)
			if s.Found() {
				seen = append(seen, s)
				bad += troubled(s.Labels)
			}
		}
	}
	a := zfslabel.Assemble(seen)
	for _, p := range a.Pools {
		c.pool(p)
	}
	result := report.Result{Fields: map[string]any{"devices": len(seen), "pools": len(a.Pools), "bad_labels": bad}}
	switch {
	case len(seen) == 0:
		result.Err = &report.Error{What: "look for ZFS on " + strings.Join(c.args, ", "), Err: errNoLabel, Means: "It belongs to no pool, or its labels were overwritten at both ends.",
			Next: []string{"If the pool was made on a partition, give that or the whole disk."}}
	case bad > 0:
		result.Err = &report.Error{What: event.CountOf(int64(bad), "label is", "labels are") + " damaged or cannot be read", Code: report.Mismatch,
			Means: "ZFS keeps four copies on each device and needs one good one.", Next: []string{"Read the device with asl-intake first; repair nothing on the disk itself."}}
	}
	return result
}

// look opens a device for reading and looks at it. A disk that hangs does not hold up who gives up waiting.
func look(ctx context.Context, path string) (zfslabel.Table, []zfslabel.Place, error) {
	type answer struct {
		table  zfslabel.Table
		places []zfslabel.Place
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		f, err := os.Open(path)
		if err != nil {
			done <- answer{err: err}
			return
		}
		defer func() { _ = f.Close() }() // only read
		fi, err := f.Stat()
		if err == nil && !fi.Mode().IsRegular() && fi.Mode()&(os.ModeDevice|os.ModeCharDevice) != os.ModeDevice {
			err = errors.New("it is neither a block device nor a file")
		}
		size := int64(0)
		if err == nil {
			size, err = f.Seek(0, io.SeekEnd)
		}
		if err != nil {
			done <- answer{err: err}
			return
		}
		table, places := zfslabel.Look(f, size)
		done <- answer{table, places, nil}
	}()
	select {
	case a := <-done:
		return a.table, a.places, a.err
	case <-ctx.Done():
		return "", nil, context.Cause(ctx)
	}
}

func placeName(path string, p zfslabel.Place) string {
	if p.Start == 0 {
		return path
	}
	return path + ", " + p.Name
}

// troubled counts the labels that are not as ZFS wrote them, on a device that has any.
func troubled(labels [4]zfslabel.Verdict) int {
	n := 0
	for _, v := range labels {
		if v != zfslabel.Good && v != zfslabel.Unfinished {
			n++
		}
	}
	return n
}

// place prints what is on one device.
func (c *call) place(s zfslabel.Seen, path string, table zfslabel.Table, p zfslabel.Place, all, ring bool) {
	fields := map[string]any{"device": s.Device, "path": path, "partition": p.Number, "start": p.Start, "size": p.Found.Size, "table": table, "labels": p.Found.Labels, "config": s.Config, "last": s.Last}
	best := p.Found.Best()
	if all && best != nil {
		fields["list"] = best.List
	}
	name := event.Printable(s.Device)
	switch {
	case !s.Found():
		note := ""
		if table != zfslabel.NoTable {
			note = "; it has a partition table, and no partition of it has one either"
		}
		c.row("device", fields, "%s: no label of ZFS%s", name, note)
		return
	case slices.Contains(s.Labels[:], zfslabel.Unfinished) && s.Config == nil:
		c.row("device", fields, "%s: it was being added to a pool, and that was never finished: it belongs to none", name)
	case s.Config == nil:
		c.row("device", fields, "%s: there was ZFS here, and no label can be read any more", name)
	case s.Config.Role == zfslabel.RoleSpare || s.Config.Role == zfslabel.RoleL2Cache:
		c.row("device", fields, "%s: %s", name, map[zfslabel.Role]string{
			zfslabel.RoleSpare: "a spare; its label does not say of which pool", zfslabel.RoleL2Cache: "a read cache; it holds nothing that is not elsewhere"}[s.Config.Role])
	default:
		c.row("device", fields, "%s: part of the pool %q", name, event.Printable(s.Config.Name))
	}
	if s.Config != nil {
		c.words(s)
	}
	c.labelLines(p.Found)
	if best == nil {
		return
	}
	if all && !c.json {
		c.text("  everything in label %d", best.Index)
		c.tree("    ", listFields(best.List))
	}
	if ring {
		c.ring(s.Device, best)
	}
}

// words says in words what the best label says.
func (c *call) words(s zfslabel.Seen) {
	conf := s.Config
	if s.Damaged {
		c.text("  beware     no label here has a right checksum; what follows is a hint")
	}
	if conf.Role != zfslabel.RoleSpare && conf.Role != zfslabel.RoleL2Cache {
		c.text("  pool       guid %s", conf.PoolGUID)
		if conf.Comment != "" {
			c.text("  comment    %s", event.Printable(conf.Comment))
		}
		c.text("  state      %s", stateText(conf.State))
		c.text("  last host  %s", hostText(conf))
	}
	where := ""
	if v := conf.Tree; v != nil && !v.Leaf() {
		where = fmt.Sprintf(" in %s", topText(v))
	}
	leaf := conf.Tree.Find(conf.GUID)
	if leaf != nil && leaf.Path != "" {
		where += ", was " + event.Printable(leaf.Path)
	}
	if conf.Role != zfslabel.RoleData {
		where += ", role " + string(conf.Role)
	}
	c.text("  device     vdev %s%s", conf.GUID, where)
	if s.Last != nil {
		c.text("  written    %s by the clock of that host, txg %d%s", clock(s.Last.Timestamp), s.Last.TXG, multihostText(s.Last.MMP))
	}
	if len(conf.ReadNeeds) > 0 {
		c.text("  needs      %s", event.Printable(strings.Join(conf.ReadNeeds, ", ")))
	}
}

func topText(v *zfslabel.Vdev) string {
	kind := event.Printable(v.Type)
	if v.Type == "raidz" || v.Type == "draid" {
		kind += fmt.Sprint(v.Parity)
	}
	return fmt.Sprintf("%s-%d of %s", kind, v.ID, event.CountOf(int64(len(v.Children)), "device", "devices"))
}

func stateText(s zfslabel.State) string {
	switch s {
	case zfslabel.Active:
		return "active: never exported. It is in use, or its machine went down"
	case zfslabel.Exported:
		return "exported: it was put away cleanly"
	case zfslabel.Destroyed:
		return "destroyed: somebody ran zpool destroy; its data may still be there"
	}
	return s.String()
}

func hostText(conf *zfslabel.Config) string {
	id := "without a hostid"
	if conf.HasHostID {
		id = fmt.Sprintf("hostid %08x", conf.HostID)
	}
	return fmt.Sprintf("%s, %s", or(event.Printable(conf.Hostname), "unnamed"), id)
}

func multihostText(m zfslabel.MMP) string {
	if !m.On() {
		return ""
	}
	return "; multihost was on"
}

// labelLines says how the four labels are.
func (c *call) labelLines(d *zfslabel.Device) {
	good := 0
	for _, l := range d.Labels {
		if l.Verdict == zfslabel.Good {
			good++
		}
	}
	if good == 4 {
		c.text("  labels     all 4 good, %s", event.CountOf(int64(len(d.Labels[0].Uberblocks)), "uberblock in each", "uberblocks in each"))
		return
	}
	c.text("  labels     %d of 4 good", good)
	for _, l := range d.Labels {
		why := ""
		if l.Why != "" {
			why = ": " + event.Printable(l.Why)
		}
		sound := 0
		for _, u := range l.Uberblocks {
			if u.Good {
				sound++
			}
		}
		c.text("    %d at %d: %s%s; %s", l.Index, l.Offset, l.Verdict, why, event.CountOf(int64(sound), "good uberblock", "good uberblocks"))
	}
}

func (c *call) ring(device string, l *zfslabel.Label) {
	c.text("  uberblocks of label %d", l.Index)
	for _, u := range l.Uberblocks {
		state := ""
		if !u.Good {
			state = "  DAMAGED"
		}
		if u.Heartbeat {
			state += "  multihost heartbeat"
		}
		c.row("uberblock", map[string]any{"device": device, "label": l.Index, "uberblock": u}, "    %3d  txg %-10d %s%s", u.Slot, u.TXG, clock(u.Timestamp), state)
	}
}

// pool prints a pool as its devices make it.
func (c *call) pool(p zfslabel.Pool) {
	c.row("pool", p, "pool %q: %s as far as labels tell, %s", event.Printable(p.Name), p.Health, event.CountOf(int64(len(p.Devices)), "device here", "devices here"))
	for _, t := range p.Tops {
		c.node("  ", t)
	}
	for _, g := range p.SameName {
		c.text("  note: another pool here has the same name, with guid %s; name this one by %s", g, p.GUID)
	}
	for _, f := range p.Findings {
		c.text("  note: %s", event.Printable(f))
	}
}

func (c *call) node(indent string, n *zfslabel.Node) {
	name := event.Printable(n.Type)
	switch {
	case n.Presence == zfslabel.Unknown:
		name = fmt.Sprintf("top-level vdev %d", n.ID)
	case n.Device != "":
		name = event.Printable(n.Device)
	case n.Presence == zfslabel.Missing:
		name = "vdev " + n.GUID.String()
		if n.Path != "" {
			name += ", was " + event.Printable(n.Path)
		}
	case n.Vdev != nil && !n.Vdev.Leaf():
		name = topText(n.Vdev)
	}
	if n.Role != "" && n.Role != zfslabel.RoleData {
		name += " (" + string(n.Role) + ")"
	}
	state := string(n.Health)
	if n.Presence != "" && n.Presence != zfslabel.Present {
		state = string(n.Presence)
	}
	c.text("%s%s  %s", indent, name, state)
	for _, child := range n.Children {
		c.node(indent+"  ", child)
	}
}

// listFields makes a list fit for tree.
func listFields(l zfslabel.List) fields {
	var out fields
	for _, p := range l {
		var v any
		switch x := p.Value.(type) {
		case zfslabel.List:
			v = listFields(x)
		case []zfslabel.List:
			var all []any
			for _, y := range x {
				all = append(all, listFields(y))
			}
			v = all
		default:
			v = fmt.Sprint(x)
		}
		out = append(out, field{event.Printable(p.Name), v})
	}
	return out
}
