package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"aslrescue/detect"
)

// smart asks a disk after its health, if there is a smartctl. A disk that sleeps is not woken for it.
func smart(ctx context.Context, m *Machine, d detect.Disk) (*detect.Smart, error) {
	tool := m.tool("smartctl")
	if tool == "" || d.Transport == "virtio" || d.Transport == "mmc" || d.Size == 0 {
		return nil, nil
	}
	out, err := m.Run(ctx, tool, "--json", "--nocheck=standby,0", "--health", "--attributes", m.path(d.Path))
	if err != nil {
		return nil, err
	}
	return ParseSmart([]byte(out.Out))
}

// smartReport is what smartctl prints, as far as it is wanted.
type smartReport struct {
	Smartctl struct {
		Messages []struct {
			String   string `json:"string"`
			Severity string `json:"severity"`
		} `json:"messages"`
		ExitStatus int `json:"exit_status"`
	} `json:"smartctl"`
	Status *struct {
		Passed bool `json:"passed"`
	} `json:"smart_status"`
	Hours struct {
		Hours int64 `json:"hours"`
	} `json:"power_on_time"`
	Temperature struct {
		Current int `json:"current"`
	} `json:"temperature"`
	ATA struct {
		Table []struct {
			ID  int `json:"id"`
			Raw struct {
				Value int64 `json:"value"`
			} `json:"raw"`
		} `json:"table"`
	} `json:"ata_smart_attributes"`
	NVMe *struct {
		Critical    int   `json:"critical_warning"`
		UsedPercent int   `json:"percentage_used"`
		MediaErrors int64 `json:"media_errors"`
		Hours       int64 `json:"power_on_hours"`
		Temperature int   `json:"temperature"`
	} `json:"nvme_smart_health_information_log"`
	Grown int64 `json:"scsi_grown_defect_list"`
	SCSI  struct {
		Read struct {
			Uncorrected int64 `json:"total_uncorrected_errors"`
		} `json:"read"`
	} `json:"scsi_error_counter_log"`
}

// ParseSmart reads the JSON of smartctl. A disk that has no such thing, or sleeps, gives nil.
func ParseSmart(text []byte) (*detect.Smart, error) {
	var r smartReport
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("what smartctl says is no JSON: %w", err)
	}
	s := detect.Smart{Hours: r.Hours.Hours, Celsius: r.Temperature.Current, Reallocated: r.Grown, Uncorrected: r.SCSI.Read.Uncorrected}
	if r.Status != nil {
		s.Passed = &r.Status.Passed
	}
	for _, a := range r.ATA.Table {
		switch a.ID {
		case 5:
			s.Reallocated = a.Raw.Value
		case 197:
			s.Pending = a.Raw.Value
		case 187, 198:
			s.Uncorrected = max(s.Uncorrected, a.Raw.Value)
		case 199:
			s.CRC = a.Raw.Value
		}
	}
	if n := r.NVMe; n != nil {
		s.Critical, s.UsedPercent, s.MediaErrors = n.Critical, n.UsedPercent, n.MediaErrors
		s.Hours, s.Celsius = max(s.Hours, n.Hours), max(s.Celsius, n.Temperature)
	}
	if s == (detect.Smart{}) {
		for _, msg := range r.Smartctl.Messages {
			if msg.Severity == "error" && r.Smartctl.ExitStatus&1 == 0 && r.Smartctl.ExitStatus&2 != 0 {
				return nil, errors.New(msg.String)
			}
		}
		return nil, nil
	}
	return &s, nil
}
