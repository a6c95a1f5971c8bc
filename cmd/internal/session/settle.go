package session

import (
	"errors"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/report"
)

// settle fills in from the config what the command line left open. A mistake in a config file is said and does not stop a
// rescue whose store and domain were given.
func (j *intakeJob) settle() error {
	o := j.o
	c, err := config.Load(o.where())
	j.messages = keeper(c, "asl-intake", j.std, !o.dryRun)
	if j.pr != nil { // where it is nil, a face hears
		j.pr.Keep(keepIn(j.messages))
	}
	if err != nil {
		if o.store == "" {
			return &report.Error{What: "read the config", Err: err, Code: report.Usage, Next: []string{"mend the file, or give --store and --domain"}}
		}
		for _, m := range config.Mistakes(err) {
			j.messages.Say().Warn("the config has a mistake, going on without it: " + m.Error())
		}
	}
	j.config = c
	if o.batch && o.plan == "" {
		o.fromConfig(c)
	}
	if o.store == "" && c.Mode == config.Remote {
		o.store = c.RemoteEndpoint
	}
	if o.domain == "" && c.Origin("domain.id") != "default" {
		o.domain = c.DomainID
	}
	if o.store == "" && c.LocalDataset != "" {
		o.store = zfsPrefix + c.LocalDataset
	}
	if o.store == "" && c.Origin("local.mount") != "default" {
		if inRAM(c.LocalMount) {
			return &report.Error{What: "make a store in " + c.LocalMount, Err: errInRAM, Code: report.Refused,
				Next: []string{"Mount a disk there, or say local.dataset in asl.conf for a pool's.", "--store DIR takes another place, also one in RAM."}}
		}
		o.store = c.LocalMount
	}
	if o.store == "" {
		return report.Usagef("no store given: --store is missing, and no asl.conf says local.mount")
	}
	if j.pools.look == nil {
		j.mount, j.snapshots = c.LocalMount, c.ZFSSnapshots == "yes"
		j.pools = realPools(o.approve, c.Approvals())
	}
	_, _, err = zfsPlace(o.store)
	return err
}

// fromConfig takes from batch.* what the command line does not say.
func (o *intakeOptions) fromConfig(c *config.Config) {
	said := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(o.given, n) })
	}
	if !said("compression") {
		o.compression = c.Batch.Compression
	}
	if !said("label") {
		o.label = c.Batch.Label
	}
	if !said("verify", "no-verify") {
		o.noVerify = c.Batch.Verify == "none"
		if !o.noVerify {
			o.verify = c.Batch.Verify
		}
	}
	if d, err := time.ParseDuration(c.Batch.StopAfter); err == nil && d > 0 && o.until.IsZero() {
		o.until = time.Now().Add(d)
	}
}

var errInRAM = errors.New("nothing is mounted there: the store would lie in RAM, and be lost")

// inRAM says whether a folder, or what would hold it, is lost when the machine goes off.
func inRAM(dir string) bool {
	var fs unix.Statfs_t
	if unix.Statfs(nearest(filepath.Clean(dir)), &fs) != nil {
		return false // what cannot be looked at fails soon enough
	}
	switch fs.Type {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC: // the root of a live system is an overlay over RAM
		return true
	}
	return false
}
