package session

import (
	"context"

	"aslrescue/engine/custody"
	"aslrescue/engine/event"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// touchedShown bounds what is printed of files that gaps touch; the report has all.
const touchedShown = 50

// showTouched names the files that the gaps of a disk touch, where its file system is known.
func (c *call) showTouched(ctx context.Context, v *store.View, src *format.SourceResult) {
	if src.Root == nil || src.Missing() == 0 {
		return
	}
	disk, all, err := custody.Touched(ctx, v, src)
	if err != nil {
		c.text("             which files that touches: %s", event.Printable(err.Error()))
		return
	}
	for _, t := range all {
		where := custody.VolumeText(disk, t.Volume)
		if t.Free > 0 {
			c.text("             %s of it in %s lie in free space, where nothing is lost", event.Bytes(t.Free), event.Printable(where))
		}
		for i, x := range t.Touches {
			if i == touchedShown && !c.json {
				c.text("             and %s more: asl-admin --store %s report %d lists them", event.CountOf(int64(len(t.Touches)-i), "thing", "things"), typed(c.dir), v.Snapshot.Number)
				break
			}
			c.row("touched", map[string]any{"source": src.Name, "volume": where, "path": x.Path, "inode": x.Inode, "what": x.What, "bytes": x.Bytes, "off": x.Off},
				"             TOUCHED %s in %s: %s missing", event.Printable(custody.TouchText(x)), event.Printable(where), event.Bytes(x.Bytes))
		}
		for _, p := range t.Problems {
			c.text("             %s: %s", event.Printable(where), event.Printable(p))
		}
	}
}
