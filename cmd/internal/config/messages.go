package config

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"
)

// Messages says where what programs say to people goes, beside the screen.
type Messages struct {
	Level    string // debug, info, warn, error: the least that is kept
	Format   string // text, json: of the file
	Journal  string // auto: with systemd's priorities where systemd reads them; yes, no
	File     string // below /var/lib/asl; empty: none
	FileSize string // KiB after which a new file is begun
	FileKeep string // how many old ones are kept
	Ring     string // how many messages the wizard can look back on
}

// Most is Ring as a number.
func (m Messages) Most() int {
	n, _ := strconv.Atoi(m.Ring) // checked when it was read
	return n
}

// stateDir is where programs may write by themselves.
const stateDir = "/var/lib/asl"

func checkMessagesFile(s string) error {
	if err := checkPath(s); err != nil {
		return err
	}
	if !strings.HasPrefix(s, stateDir+"/") || filepath.Base(s) == "." {
		return errors.New("want a file below " + stateDir + ": nothing is written elsewhere")
	}
	return nil
}
