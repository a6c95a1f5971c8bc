package ask

import (
	"fmt"
	"time"

	"aslrescue/engine/event"
)

// Guess is what to expect of a plan where nothing is known but sizes: bytesPerSecond is what a disk of the kind gives. The store takes at most
// what is read, and of disks that are part empty much less.
func Guess(p Plan, bytesPerSecond int64) Forecast {
	f := Forecast{Bytes: 0, Fits: true}
	ailing := false
	for _, s := range p.Sources {
		if s.Size < 0 {
			f.Bytes = -1
			break
		}
		f.Bytes += s.Size
		ailing = ailing || s.Ailing != ""
	}
	if f.Bytes < 0 {
		f.Why = "how much a directory holds is not known before it is read"
		return f
	}
	f.RoomLow, f.RoomHigh = f.Bytes/10, f.Bytes+f.Bytes/200
	fast := time.Duration(float64(f.Bytes) / float64(max(bytesPerSecond, 1)) * float64(time.Second))
	f.TimeLow, f.TimeHigh = fast, 2*fast
	f.Why = fmt.Sprintf("reading at %s, a tenth to all of it new", event.Rate(float64(bytesPerSecond)))
	if ailing {
		f.TimeHigh = 20 * fast
		f.Why += "; a hurt disk may take far longer"
	}
	f.Fits = p.Place.Free < 0 || f.RoomHigh <= p.Place.Free
	return f
}
