package wire

import (
	"sync"
	"time"
)

// outbox is what waits for one face. Putting never waits, and what waits is bounded: answers by what a face may ask at once, topics by
// their number, because of each only the newest word is kept.
type outbox struct {
	mu      sync.Mutex
	ready   sync.Cond
	answers [][]byte
	bytes   int // of answers
	topics  map[string][]byte
	order   []string // of topics, the longest waiting first
	bye     []byte
	closed  bool
	limit   func(time.Duration) // how long sending may take from now on
}

// farewell is how long a face may take for the last lines: nobody waits for somebody who does not listen.
const farewell = time.Second

func newOutbox(limit func(time.Duration)) *outbox {
	b := &outbox{topics: map[string][]byte{}, limit: limit}
	b.ready.L = &b.mu
	return b
}

// answer puts a line of which each one counts. It gives how many bytes of such wait now.
func (b *outbox) answer(line []byte) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers = append(b.answers, line)
	b.bytes += len(line)
	b.ready.Signal()
	return b.bytes
}

// tell puts the newest word on a topic in the place of an older one.
func (b *outbox) tell(topic string, line []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, waits := b.topics[topic]; !waits {
		b.order = append(b.order, topic)
	}
	b.topics[topic] = line
	b.ready.Signal()
}

// end says that after line nothing comes.
func (b *outbox) end(line []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.bye, b.closed = line, true
		b.limit(farewell) // also for what is being sent
	}
	b.ready.Signal()
}

// sending is called before each line: a face that takes none for so long is let go.
func (b *outbox) sending(stuck time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.limit(stuck)
	}
}

// take waits until there is something to send. Last is true with the last lines.
func (b *outbox) take() (batch [][]byte, last bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.answers) == 0 && len(b.order) == 0 && !b.closed {
		b.ready.Wait()
	}
	batch, b.answers, b.bytes = b.answers, nil, 0
	for _, t := range b.order {
		batch = append(batch, b.topics[t])
	}
	clear(b.topics)
	b.order = b.order[:0]
	if b.closed && b.bye != nil {
		batch = append(batch, b.bye)
	}
	return batch, b.closed
}
