package event

import (
	"encoding/json"
	"fmt"
	"time"
)

// A Progress goes through JSON whole, with what its rates remember: who gets it so and folds what comes next has what those have who
// folded from the beginning.

type meterJSON struct {
	Started bool          `json:"started"`
	Begin   time.Duration `json:"begin"`
	Last    time.Duration `json:"last"`
	Moved   time.Duration `json:"moved"`
	First   int64         `json:"first"`
	Done    int64         `json:"done"`
	Smooth  float64       `json:"smooth"`
	Weight  float64       `json:"weight"`
}

// plainProgress is a Progress without its methods.
type plainProgress Progress

type progressJSON struct {
	plainProgress
	Planned  int         `json:"planned"`
	Foretold int64       `json:"foretold"`
	Reading  meterJSON   `json:"reading"`
	Checking meterJSON   `json:"checking"`
	Meters   []meterJSON `json:"meters"` // of the sources, in their order
}

// MarshalJSON writes all of it.
func (p Progress) MarshalJSON() ([]byte, error) {
	j := progressJSON{plainProgress(p), p.planned, p.total, p.reading.whole(), p.checking.whole(), nil}
	for _, s := range p.Sources {
		j.Meters = append(j.Meters, s.meter.whole())
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (p *Progress) UnmarshalJSON(b []byte) error {
	var j progressJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	if len(j.Meters) != len(j.Sources) {
		return fmt.Errorf("progress of %d sources with %d rates", len(j.Sources), len(j.Meters))
	}
	*p = Progress(j.plainProgress)
	p.planned, p.total, p.reading, p.checking = j.Planned, j.Foretold, j.Reading.meter(), j.Checking.meter()
	for i := range p.Sources {
		p.Sources[i].meter = j.Meters[i].meter()
	}
	return nil
}

func (m meter) whole() meterJSON {
	return meterJSON{m.started, m.begin, m.last, m.moved, m.first, m.done, m.smooth, m.weight}
}

func (j meterJSON) meter() meter {
	return meter{started: j.Started, begin: j.Begin, last: j.Last, moved: j.Moved, first: j.First, done: j.Done, smooth: j.Smooth, weight: j.Weight}
}
