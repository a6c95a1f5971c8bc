package approval

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"aslrescue/engine/store/format"
	"aslrescue/engine/vfs"
)

// Waiting is the folder where consent waits for a store to stand in: the store may lie on the very pool that was approved. It is in the
// state directory, see docs/store-format.md section 5.
const Waiting = "approvals"

const (
	suffix  = ".approval"
	maxFile = 1 << 20 // a plan about ten thousand disks is shorter
)

// Keep makes a record durable in fsys, which is the state directory's runtime folder, before what it allows is done.
func Keep(fsys vfs.FS, r format.Approval) error {
	err := keep(fsys, r)
	if err != nil {
		return fmt.Errorf("keep the approval in the state directory: %w", err)
	}
	return nil
}

func keep(fsys vfs.FS, r format.Approval) error {
	if err := fsys.Mkdir(Waiting, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	} else if err == nil {
		if err := fsys.SyncDir("."); err != nil {
			return err
		}
	}
	data, err := format.Marshal(r)
	if err != nil {
		return err
	}
	name := path.Join(Waiting, hex.EncodeToString(r.ID[:])+suffix)
	f, err := fsys.CreateExcl(name, 0o444)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.SyncDir(Waiting)
	}
	return err
}

// HandOver gives all that waits to log, oldest first, and takes it away once log has it. What cannot be read is left where it is and
// named in spoilt: it was cut off by a crash before anything was done on its strength.
func HandOver(fsys vfs.FS, log func([]format.Approval) error) (n int, spoilt []string, err error) {
	entries, err := fsys.ReadDir(Waiting)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, fmt.Errorf("look for approvals that wait: %w", err)
	}
	var all []format.Approval
	var names []string
	for _, e := range entries {
		name := path.Join(Waiting, e.Name())
		if !strings.HasSuffix(name, suffix) {
			continue
		}
		r, err := readWaiting(fsys, name)
		if err != nil {
			spoilt = append(spoilt, name)
			continue
		}
		all, names = append(all, r), append(names, name)
	}
	if len(all) == 0 {
		return 0, spoilt, nil
	}
	slices.SortStableFunc(all, func(a, b format.Approval) int { return int(a.Clock - b.Clock) })
	if err := log(all); err != nil {
		return 0, spoilt, err
	}
	for _, name := range names {
		if err := fsys.Remove(name); err != nil {
			return len(all), spoilt, fmt.Errorf("take away an approval that stands in the log: %w", err)
		}
	}
	return len(all), spoilt, nil
}

func readWaiting(fsys vfs.FS, name string) (r format.Approval, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return r, err
	}
	defer func() { _ = f.Close() }() // only read
	if f.Size() > maxFile {
		return r, fmt.Errorf("%s: %d bytes", name, f.Size())
	}
	b := make([]byte, f.Size())
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return r, err
	}
	return r, format.Unmarshal(b, &r)
}
