package config

import "os"

// Terminal is what the environment says of the screen.
type Terminal struct {
	Term    string
	NoColor bool // https://no-color.org: set to anything
}

// Screen reads the environment.
func Screen() Terminal {
	return Terminal{Term: os.Getenv("TERM"), NoColor: os.Getenv("NO_COLOR") != ""}
}
