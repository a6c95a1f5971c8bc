package event

import (
	"math"
	"slices"
	"time"
)

// Progress is what the events so far add up to. The zero value is ready; Apply is a pure step, so the same events give
// the same Progress in every process that reads them.
type Progress struct {
	Intake, Label, Store string
	Stage                Stage
	Now                  time.Duration // of the last event
	Total                int64         // bytes of all sources; -1 where not known
	Begun                bool          // there was a first event
	Counts               Counts        // of all sources
	Sources              []Source
	Gaps                 int   // places
	Warnings, Errors     int   // messages
	Blocks, Segments     int64 // sealed in this run
	Stored               int64 // bytes written to the store in this run
	Safe                 int64 // bytes acknowledged: a power cut loses nothing of them
	Verified, VerifyOf   int64
	VerifyBad            int64
	Snapshot             uint64 // 0 until sealed
	Result               Result // empty until done
	Why                  string

	planned  int // sources in the plan
	total    int64
	reading  meter
	checking meter
}

// Source is the state of one source.
type Source struct {
	Name, Kind, Path, Model, Serial string
	Size                            int64 // bytes; -1 where not known
	Off                             int64
	At                              string // where in a tree reading is
	Phase                           string // of a device or image: copying to settling; empty before it is known
	Pass                            int
	Counts                          Counts
	Gaps                            int
	Done                            bool
	Root, Changed                   string

	meter meter
}

// Settled is the bytes about which reading is finished.
func (s Source) Settled() int64 { return s.Counts.Settled() }

// Rate is bytes per second over about the last 10 s.
func (s Source) Rate() float64 { return s.meter.rate() }

// ETA is a range of what remains. Known is false where it would be a guess.
type ETA struct {
	Low, High time.Duration
	Known     bool
}

// Apply folds one event in.
func (p *Progress) Apply(e Event) {
	p.Now = max(p.Now, e.When())
	switch e := e.(type) {
	case IntakeBegun:
		p.Intake, p.Label, p.Store, p.Begun = e.Intake, e.Label, e.Store, true
		p.planned, p.total = e.Sources, e.Total
	case PhaseEntered:
		p.Stage = e.Phase
	case SourceOpened:
		s := p.source(e.Source)
		s.Kind, s.Path, s.Model, s.Serial, s.Size = e.Kind, e.Path, e.Model, e.Serial, e.Size
		s.Counts = e.Resumed
		s.meter.start(p.Now, e.Resumed.Settled())
		p.reading.skip(p.Now, e.Resumed.Settled())
		p.sum()
	case PassEntered:
		s := p.source(e.Source)
		s.Phase, s.Pass = e.Phase, e.Pass
	case SourceProgress:
		s := p.source(e.Source)
		if s.Done {
			break // a snapshot that was overtaken by the end says less than the end
		}
		s.Off, s.At, s.Counts = e.Off, e.Path, e.Counts
		if e.Size > 0 {
			s.Size = e.Size
		}
		s.meter.add(p.Now, s.Settled())
		p.sum()
	case SourceDone:
		s := p.source(e.Source)
		s.Counts, s.Root, s.Changed, s.Done = e.Counts, e.Root, e.Changed, true
		s.Size = max(s.Settled()+e.Untried, 0)
		s.meter.add(p.Now, s.Settled())
		p.sum()
	case Gap:
		p.Gaps += max(e.Places, 1)
		p.source(e.Source).Gaps += max(e.Places, 1)
	case Message:
		switch e.Level {
		case Warning:
			p.Warnings++
		case Error:
			p.Errors++
		}
	case BlockSealed:
		p.Blocks, p.Stored = max(p.Blocks, e.Blocks), max(p.Stored, e.Stored)
	case SegmentSealed:
		p.Segments, p.Stored = max(p.Segments, e.Segments), max(p.Stored, e.Stored)
	case ResumePoint:
		p.Safe = max(p.Safe, e.Settled)
	case VerifyProgress:
		p.Verified, p.VerifyOf, p.VerifyBad = e.Done, e.Total, e.Bad
		p.checking.add(p.Now, e.Done)
	case SnapshotSealed:
		p.Snapshot = e.Number
	case IntakeDone:
		p.Result, p.Why, p.Stage = e.Result, e.Why, Done
		if e.Snapshot > 0 {
			p.Snapshot = e.Snapshot
		}
	}
	p.Total = p.size()
	p.age()
}

// Clone is a copy that shares nothing with p, for a receiver in another goroutine.
func (p *Progress) Clone() Progress {
	c := *p
	c.Sources = slices.Clone(p.Sources)
	return c
}

// Done and Of are how far the present stage has come; of is -1 where that is not known.
func (p *Progress) Done() (done, of int64) {
	if p.Stage == Verifying || p.Stage == Done && p.VerifyOf > 0 {
		return p.Verified, p.VerifyOf
	}
	return p.Counts.Settled(), p.Total
}

// Percent is Done as text. It says 100% only when nothing is left to do.
func (p *Progress) Percent() string {
	done, of := p.Done()
	if p.Stage != Done && of >= 0 && done >= of && of > 0 {
		return "99%" // what was read still has to be sealed
	}
	return Percent(done, of)
}

// Rate is bytes per second over about the last 10 s, of reading or of verifying.
func (p *Progress) Rate() float64 {
	if p.Stage == Verifying {
		return p.checking.rate()
	}
	return p.reading.rate()
}

// Stalled is how long nothing has moved, 0 if less than 10 s.
func (p *Progress) Stalled() time.Duration {
	m := p.reading
	if p.Stage == Verifying {
		m = p.checking
	} else if p.Stage != Reading {
		return 0
	}
	if d := p.Now - m.moved; m.started && d >= 10*time.Second {
		return d
	}
	return 0
}

// warmUp is how long a rate must have been seen before an ETA is more than a guess.
const warmUp = 10 * time.Second

// ETA is what remains of the present stage. Its ends are the rate now and the rate on average, a tenth wider each.
func (p *Progress) ETA() ETA {
	done, of := p.Done()
	m := p.reading
	if p.Stage == Verifying {
		m = p.checking
	}
	now, avg := m.rate(), m.average()
	slow, fast := min(now, avg), max(now, avg)
	if p.Stage == Done || of < 0 || m.last-m.begin < warmUp || slow < 1024 {
		return ETA{}
	}
	left := float64(max(of-done, 0))
	return ETA{Low: seconds(left / fast * 0.9), High: seconds(left / slow * 1.1), Known: true}
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s, float64(100*365*24*3600)) * float64(time.Second))
}

func (p *Progress) source(name string) *Source {
	i := slices.IndexFunc(p.Sources, func(s Source) bool { return s.Name == name })
	if i < 0 {
		p.Sources = append(p.Sources, Source{Name: name, Size: -1})
		i = len(p.Sources) - 1
	}
	return &p.Sources[i]
}

// sum adds the sources up.
func (p *Progress) sum() {
	p.Counts = Counts{}
	for _, s := range p.Sources {
		p.Counts = p.Counts.plus(s.Counts)
	}
	p.reading.add(p.Now, p.Counts.Settled())
}

// size is what the plan said until every source was opened, then what they say themselves.
func (p *Progress) size() int64 {
	if len(p.Sources) < p.planned {
		return p.total
	}
	if len(p.Sources) == 0 {
		return -1
	}
	n := int64(0)
	for _, s := range p.Sources {
		if s.Size < 0 {
			return -1
		}
		n += s.Size
	}
	return n
}

// age lets the rates fall while nothing comes.
func (p *Progress) age() {
	if p.Stage == Reading {
		p.reading.add(p.Now, p.reading.done)
	}
	if p.Stage == Verifying {
		p.checking.add(p.Now, p.checking.done)
	}
	for i := range p.Sources {
		if s := &p.Sources[i]; !s.Done {
			s.meter.add(p.Now, s.meter.done)
		}
	}
}

// meter is a rate that forgets: what happened tau ago counts for a third.
type meter struct {
	started            bool
	begin, last, moved time.Duration
	first, done        int64 // bytes
	smooth, weight     float64
}

const tau = 10 // seconds

func (m *meter) start(now time.Duration, done int64) {
	*m = meter{started: true, begin: now, last: now, moved: now, first: done, done: done}
}

// skip takes n bytes as done before m began.
func (m *meter) skip(now time.Duration, n int64) {
	if !m.started {
		m.start(now, 0)
	}
	m.first += n
	m.done += n
}

func (m *meter) add(now time.Duration, done int64) {
	if !m.started {
		m.start(now, done)
		return
	}
	moved := done - m.done
	dt := (now - m.last).Seconds()
	m.done = done
	if moved != 0 {
		m.moved = now
	}
	switch {
	case dt > 0:
		keep := math.Exp(-dt / tau)
		m.smooth = m.smooth*keep + float64(moved)/dt*(1-keep)
		m.weight = m.weight*keep + (1 - keep)
		m.last = now
	default:
		m.smooth += float64(moved) / tau
	}
}

// rate divides by the weight seen so far: without it the first seconds would read as slow.
func (m *meter) rate() float64 {
	if m.weight <= 0 {
		return 0
	}
	return max(m.smooth/m.weight, 0)
}

func (m *meter) average() float64 {
	s := (m.last - m.begin).Seconds()
	if s <= 0 {
		return 0
	}
	return max(float64(m.done-m.first)/s, 0)
}
