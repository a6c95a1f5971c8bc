package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Terminal is what the environment says of the screen.
type Terminal struct {
	Term    string
	NoColor bool // https://no-color.org: set to anything
	SSH     bool // somebody sits elsewhere
	UTF8    bool // the locale says that text is UTF-8
}

// Screen reads the environment.
func Screen() Terminal {
	locale := ""
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} { // the first that is set counts
		if locale = os.Getenv(name); locale != "" {
			break
		}
	}
	locale = strings.ToLower(strings.ReplaceAll(locale, "-", ""))
	return Terminal{
		Term: os.Getenv("TERM"), NoColor: os.Getenv("NO_COLOR") != "",
		SSH:  os.Getenv("SSH_CONNECTION") != "" || os.Getenv("SSH_TTY") != "",
		UTF8: strings.Contains(locale, "utf8"),
	}
}

// ToJournal says whether systemd's journal reads what is written to f.
func ToJournal(f *os.File) bool {
	var st syscall.Stat_t
	if f == nil || syscall.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	return os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// Credential is where systemd put the credential of that name; empty where it gave none.
func Credential(name string) string {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, name)
}

// S3 is what the environment says of a server for s3:// places, in the variables that all tools for S3 know: the first of each that is set.
func S3() (endpoint, region string) {
	first := func(names ...string) (v string) {
		for _, n := range names {
			if v = os.Getenv(n); v != "" {
				break
			}
		}
		return v
	}
	return first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), first("AWS_REGION", "AWS_DEFAULT_REGION")
}
