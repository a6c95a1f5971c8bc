package event

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ErrUnknown is a line whose type this version does not know. Receivers leave it out: a newer engine may say more.
var ErrUnknown = errors.New("event of an unknown type")

// MarshalLine gives e as one line of JSON with its newline; "type" comes first. Names of types and fields stay as they
// are, new ones may be added.
func MarshalLine(e Event) ([]byte, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", e.kind(), err)
	}
	line := make([]byte, 0, len(body)+32)
	line = append(line, `{"type":"`...)
	line = append(line, e.kind()...)
	line = append(line, `",`...)
	line = append(line, body[1:]...) // every event has at least at_s
	return append(line, '\n'), nil
}

// UnmarshalLine reads what MarshalLine wrote. A type it does not know is ErrUnknown.
func UnmarshalLine(line []byte) (Event, error) {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	switch head.Type {
	case "intake_begun":
		return read[IntakeBegun](line)
	case "phase":
		return read[PhaseEntered](line)
	case "source_opened":
		return read[SourceOpened](line)
	case "pass":
		return read[PassEntered](line)
	case "source_progress":
		return read[SourceProgress](line)
	case "source_done":
		return read[SourceDone](line)
	case "gap":
		return read[Gap](line)
	case "message":
		return read[Message](line)
	case "block_sealed":
		return read[BlockSealed](line)
	case "segment_sealed":
		return read[SegmentSealed](line)
	case "resume_point":
		return read[ResumePoint](line)
	case "verify_progress":
		return read[VerifyProgress](line)
	case "snapshot_sealed":
		return read[SnapshotSealed](line)
	case "intake_done":
		return read[IntakeDone](line)
	case "tick":
		return read[Tick](line)
	}
	return nil, fmt.Errorf("type %q: %w", head.Type, ErrUnknown)
}

func read[E Event](line []byte) (Event, error) {
	var e E
	if err := json.Unmarshal(line, &e); err != nil {
		return nil, fmt.Errorf("event %s: %w", e.kind(), err)
	}
	return e, nil
}
