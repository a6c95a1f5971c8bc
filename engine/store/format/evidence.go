package format

// Evidence is what the machine that read a source could tell of it. Its artifact is named by the source in the manifest.
type Evidence struct {
	Version     int               `cbor:"version"`
	Device      map[string]string `cbor:"device,omitempty"`
	SmartBegin  Smart             `cbor:"smart_begin,omitzero"`
	SmartEnd    Smart             `cbor:"smart_end,omitzero"`
	SmartSeen   []SmartSeen       `cbor:"smart_seen,omitempty"` // while it was read, where something changed
	WritesBegin Writes            `cbor:"writes_begin,omitzero"`
	WritesEnd   Writes            `cbor:"writes_end,omitzero"`
	Messages    []string          `cbor:"messages,omitempty"`     // the kernel's, about this device, while it was read
	MessagesAll int64             `cbor:"messages_all,omitempty"` // their number
	MessagesWhy string            `cbor:"messages_why,omitempty"` // why there are none, or some are missing
	Machine     map[string]string `cbor:"machine,omitempty"`
	Began       Moment            `cbor:"began,omitzero"`
	Ended       Moment            `cbor:"ended,omitzero"`
}

// Smart is a report of smartctl, or why there is none.
type Smart struct {
	JSON []byte `cbor:"json,omitempty"`
	Why  string `cbor:"why,omitempty"`
}

// SmartSeen is what a disk said of itself while it was read, or why it said nothing.
type SmartSeen struct {
	At          Moment `cbor:"at,omitzero"`
	Celsius     int    `cbor:"celsius,omitempty"`
	Failed      bool   `cbor:"failed,omitempty"`      // it says that it is failing
	Critical    int64  `cbor:"critical,omitempty"`    // warnings of NVMe, as bits
	Reallocated int64  `cbor:"reallocated,omitempty"` // sectors that were replaced
	Pending     int64  `cbor:"pending,omitempty"`     // sectors that wait for it
	Uncorrected int64  `cbor:"uncorrected,omitempty"` // sectors that could not be read
	Errors      int64  `cbor:"errors,omitempty"`      // of the medium, NVMe
	Why         string `cbor:"why,omitempty"`
}

// Writes are the kernel's counters of a device since it appeared, or why they are not known.
type Writes struct {
	Known     bool   `cbor:"known,omitempty"`
	Writes    uint64 `cbor:"writes,omitempty"`
	Sectors   uint64 `cbor:"sectors,omitempty"` // of 512 bytes
	Discards  uint64 `cbor:"discards,omitempty"`
	Discarded uint64 `cbor:"discarded,omitempty"` // sectors
	Why       string `cbor:"why,omitempty"`
}

// Moment is a time by the machine's clock, which nobody checked, and by its count since it was started.
type Moment struct {
	Clock  int64 `cbor:"clock,omitempty"`
	Uptime int64 `cbor:"uptime,omitempty"` // milliseconds
}

// MessagesKept is how many kernel messages an Evidence holds.
const MessagesKept = 1000

// DecodeEvidence reads the evidence of a source.
func DecodeEvidence(b []byte) (*Evidence, error) {
	e := &Evidence{}
	if err := Unmarshal(b, e); err != nil {
		return nil, err
	}
	if e.Version != Version {
		return nil, unsupported("evidence: version %d", e.Version)
	}
	if len(e.Messages) > MessagesKept || e.MessagesAll < int64(len(e.Messages)) {
		return nil, damaged("evidence: %d messages of %d", len(e.Messages), e.MessagesAll)
	}
	return e, nil
}
