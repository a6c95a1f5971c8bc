package screen

import "time"

// coarse leaves whole minutes of long times: a guess looks like one.
func coarse(d time.Duration) time.Duration {
	switch {
	case d < 10*time.Second:
		return max(d.Round(time.Second), time.Second)
	case d < 10*time.Minute:
		return d.Round(10 * time.Second)
	case d < 10*time.Hour:
		return d.Round(time.Minute)
	}
	return d.Round(time.Hour)
}
