package config

import "aslrescue/detect"

// Policy is the config as preflight wants it: mistakes that Load gave become STOP rows, with what held before in their place.
func (c *Config) Policy(mistakes error) detect.Policy {
	p := detect.Policy{Mode: string(c.Mode), LocalMount: c.LocalMount, Endpoint: c.RemoteEndpoint, Pin: c.RemotePin, Approved: Several(c.ApproveImport), Sources: Several(c.Batch.Sources), Exclude: Several(c.Batch.Exclude)}
	for _, m := range Mistakes(mistakes) {
		p.Mistakes = append(p.Mistakes, m.Error())
	}
	return p
}
