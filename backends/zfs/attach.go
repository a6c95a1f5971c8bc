package zfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"aslrescue/engine/approval"
)

// ZFS is the means by which pools are used.
type ZFS struct {
	Runner   Runner
	System   System
	Datasets Datasets
	Sleep    func(time.Duration) // between attempts to let go; nil: time.Sleep
}

// Real is this machine's.
func Real() ZFS { return ZFS{Runner: Exec{}, System: Linux{}, Datasets: GoZFS{}} }

// Attached is a dataset that is mounted, and what must be undone when it is not needed any more.
type Attached struct {
	z        ZFS
	Dataset  Dataset
	Mount    string
	Pool     string
	imported bool    // by us
	exported bool    // again
	mounted  bool    // by us
	params   []param // as they were before
}

// param is a parameter of the kernel's half of ZFS.
type param struct{ name, value string }

// Attach imports the pool as it was approved and mounts its dataset. again makes the plan anew from the machine as it is at this moment: where
// it is another the approval is void, and nothing was done. What was done is undone when a later step fails.
func (z ZFS) Attach(ctx context.Context, a approval.Approved[Import], again func(context.Context) (Import, error)) (*Attached, error) {
	now, err := again(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", approval.ErrVoid, err)
	}
	if err := a.Holds(now); err != nil {
		return nil, err
	}
	at := &Attached{z: z, Pool: now.Pool.Name, Mount: now.Use.Mount}
	if err := at.open(ctx, now); err != nil {
		if uerr := at.Detach(); uerr != nil {
			err = errors.Join(err, uerr)
		}
		return nil, err
	}
	return at, nil
}

// Use mounts a dataset of a pool that is imported already, by somebody else. That pool is not exported at the end.
func (z ZFS) Use(ctx context.Context, u Use) (*Attached, error) {
	pool, _, _ := strings.Cut(u.Dataset, "/")
	at := &Attached{z: z, Pool: pool, Mount: u.Mount}
	if err := at.mount(ctx, u); err != nil {
		if uerr := at.Detach(); uerr != nil {
			err = errors.Join(err, uerr)
		}
		return nil, err
	}
	return at, nil
}

func (at *Attached) open(ctx context.Context, i Import) error {
	commands := i.Commands()
	if i.Use.Load {
		if out, ok := at.z.Runner.Run(ctx, commands[0]); !ok {
			return &Error{What: "load the ZFS module", Err: fmt.Errorf("%w: %s", ErrNoZFS, reason(out)), Next: []string{"Boot an image that has ZFS for this kernel, or store elsewhere: --store DIR."}}
		}
		commands = commands[1:]
	}
	if err := at.prepare(i.Use); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if out, ok := at.z.Runner.Run(ctx, commands[0]); !ok {
		return told("import the pool "+i.Pool.Name, out)
	}
	at.imported = true
	if err := at.isIt(ctx, i.Pool); err != nil {
		return err
	}
	if i.Use.Dataset == "" {
		return nil
	}
	return at.mount(ctx, i.Use)
}

// prepare gives the system the hostid that pools shall know it by, and keeps volumes of the pool from appearing as disks: udev, LVM and md
// would look into them, and begin to write.
func (at *Attached) prepare(u Use) error {
	if err := at.set(noZvolsParam, "1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if u.HostID == 0 {
		return nil
	}
	return at.set(hostIDParam, fmt.Sprint(u.HostID))
}

func (at *Attached) set(name, value string) error {
	before, err := at.z.System.Param(name)
	if err == nil && before != value {
		if err = at.z.System.SetParam(name, value); err == nil {
			at.params = append(at.params, param{name, before})
		}
	}
	if err != nil {
		return &Error{What: "set " + name + " of the ZFS module", Err: errors.Join(ErrNoZFS, err), Means: "Nothing was imported.",
			Next: []string{"modprobe zfs, as root; then run this again."}}
	}
	return nil
}

// isIt makes sure that the pool that has the name now is the one that was approved.
func (at *Attached) isIt(ctx context.Context, p Pool) error {
	out, ok := at.z.Runner.Run(ctx, []string{"zpool", "get", "-Hp", "-o", "value", "guid", p.Name})
	if !ok {
		return told("look at the imported pool "+p.Name, out)
	}
	if guid := strings.TrimSpace(out); guid != p.GUID {
		at.imported = false // whosever that is
		return &Error{What: "import the pool " + p.Name, Err: fmt.Errorf("%w: it has the GUID %s, approved was %s", ErrNamesake, guid, p.GUID)}
	}
	return nil
}

// mount makes the dataset if it is not there, and mounts it if it is not mounted.
func (at *Attached) mount(ctx context.Context, u Use) error {
	d, err := at.z.Datasets.Get(u.Dataset)
	if errors.Is(err, ErrDataset) && !u.ReadOnly {
		if err = at.create(u.Dataset); err == nil {
			d, err = at.z.Datasets.Get(u.Dataset)
		}
	}
	switch {
	case err != nil:
		return at.about(err)
	case d.Type != "filesystem":
		return &Error{What: "use the dataset " + u.Dataset, Err: fmt.Errorf("%w: it is a %s", ErrDataset, d.Type), Means: "A store needs a file system.", Next: []string{"Name another dataset: it is made if it is not there."}}
	case d.Locked:
		return &Error{What: "use the dataset " + u.Dataset, Err: ErrLocked, Means: "What lies in it cannot be read or written without its key, and ASL Rescue does not ask for keys.",
			Next: []string{"Import the pool and load the key by hand: zpool import -N " + at.Pool + ", then zfs load-key " + u.Dataset, "Then run this again: a pool that is imported already is used as it is.", "Or name a dataset of the pool that is not encrypted."}}
	}
	at.Dataset = d
	mounts, err := at.z.System.Mounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.Type == "zfs" && m.Source == u.Dataset {
			at.Mount = m.Target
			return nil
		}
	}
	for _, m := range mounts {
		if m.Target == u.Mount {
			return &Error{What: "mount " + u.Dataset + " at " + u.Mount, Err: fmt.Errorf("%w: %s is mounted there", ErrDataset, m.Source), Means: "It would be hidden.",
				Next: []string{"umount " + u.Mount + ", or name another place: local.mount in asl.conf"}}
		}
	}
	return at.mountAt(ctx, u)
}

func (at *Attached) mountAt(ctx context.Context, u Use) error {
	if err := at.z.System.MkdirAll(u.Mount); err != nil {
		return &Error{What: "make the folder " + u.Mount + " to mount on", Err: errors.Join(ErrDataset, err), Next: []string{"name another place: local.mount in asl.conf"}}
	}
	opts := "zfsutil"
	if u.ReadOnly {
		opts = "ro,zfsutil"
	}
	if out, ok := at.z.Runner.Run(ctx, mountCommand(u, opts)); !ok {
		return told("mount "+u.Dataset+" at "+u.Mount, out)
	}
	at.Mount, at.mounted = u.Mount, true
	return nil
}

func (at *Attached) create(ds string) error {
	for _, d := range steps(ds) {
		if _, err := at.z.Datasets.Get(d); err == nil {
			continue
		} else if !errors.Is(err, ErrDataset) {
			return err
		}
		if err := at.z.Datasets.Create(d, map[string]string{noAuto: "noauto"}); err != nil {
			return err
		}
	}
	return nil
}

// about adds what only this call knows.
func (at *Attached) about(err error) error {
	var e *Error
	if errors.As(err, &e) && errors.Is(err, ErrDataset) && e.Next == nil {
		e.Next = []string{"zfs list -r " + at.Pool + " shows its datasets."}
	}
	return err
}

// Snapshot makes a snapshot, in the sense of ZFS, of the dataset.
func (at *Attached) Snapshot(name string) error { return at.z.Datasets.Snapshot(at.Dataset.Name, name) }

// Imported tells whether Detach will export the pool.
func (at *Attached) Imported() bool { return at.imported }

// Exported tells whether Detach exported the pool.
func (at *Attached) Exported() bool { return at.exported }

// tries is how often letting go is tried, a second apart: a scanner of the desktop or udev may have a look at what is new.
const tries = 5

// Detach unmounts what Attach mounted, exports what it imported, and gives the module its parameters back. It runs to its end also when the program was told
// to stop.
func (at *Attached) Detach() error {
	if at.mounted {
		err := at.again(func() error { return at.z.System.Unmount(at.Mount) })
		if err != nil {
			return at.busy("unmount "+at.Mount, err)
		}
		at.mounted = false
	}
	if at.imported {
		err := at.again(func() error {
			if out, ok := at.z.Runner.Run(context.Background(), []string{"zpool", "export", at.Pool}); !ok {
				return told("export the pool "+at.Pool, out)
			}
			return nil
		})
		if err != nil {
			return at.busy("export the pool "+at.Pool, err)
		}
		at.imported, at.exported = false, true
	}
	for len(at.params) > 0 {
		p := at.params[len(at.params)-1]
		if err := at.z.System.SetParam(p.name, p.value); err != nil {
			return fmt.Errorf("give the ZFS module its %s back: %w", p.name, err)
		}
		at.params = at.params[:len(at.params)-1]
	}
	return nil
}

func (at *Attached) again(do func() error) (err error) {
	sleep := at.z.Sleep
	if sleep == nil {
		sleep = time.Sleep
	}
	for n := range tries {
		if n > 0 {
			sleep(time.Second)
		}
		if err = do(); err == nil {
			return nil
		}
	}
	return err
}

// busy says who keeps the pool from being let go.
func (at *Attached) busy(what string, err error) error {
	var e *Error
	if errors.As(err, &e) && !errors.Is(err, ErrBusy) {
		return err
	}
	b := &Error{What: what, Err: ErrBusy, Means: "Everything acknowledged is safe, but the pool is still imported: its own system will not take it until it is exported.",
		Next: []string{"zpool export " + at.Pool}}
	if at.mounted {
		b.Next = []string{"umount " + at.Mount + " && zpool export " + at.Pool}
	}
	if who := at.z.System.Holders(at.Mount); len(who) > 0 {
		b.Means = "Still at work in " + at.Mount + ": " + strings.Join(who, ", ") + ". " + b.Means
		b.Next = append([]string{"End these, or let them leave that folder."}, b.Next...)
	}
	return b
}
