package source

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// FindDevice finds a block device by its ID, wherever the kernel put it now. sysfs is where that is mounted.
func FindDevice(sysfs, id string) (path string, err error) {
	all, err := filepath.Glob(sysfs + "/class/block/*")
	if err != nil {
		return "", err
	}
	for _, dir := range all {
		sectors, err := strconv.ParseInt(sysText(dir+"/size"), 10, 64)
		if err != nil || sectors == 0 {
			continue
		}
		if readDeviceFacts(dir).id(sectors*512) != id {
			continue
		}
		for _, line := range strings.Split(sysText(dir+"/uevent"), "\n") {
			if name, ok := strings.CutPrefix(line, "DEVNAME="); ok {
				if _, err := os.Stat("/dev/" + name); err == nil {
					return "/dev/" + name, nil
				}
			}
		}
		return "/dev/" + filepath.Base(dir), nil
	}
	return "", fmt.Errorf("no device is %s: %w", id, fs.ErrNotExist)
}
