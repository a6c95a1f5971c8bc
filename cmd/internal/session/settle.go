package session

import (
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
	if o.domain == "" && c.Origin("domain.id") != "default" {
		o.domain = c.DomainID
	}
	if o.store == "" && c.LocalDataset != "" {
		o.store = zfsPrefix + c.LocalDataset
	}
	if o.store == "" && c.Origin("local.mount") != "default" {
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
