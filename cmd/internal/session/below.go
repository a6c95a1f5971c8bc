package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ground is what something lies on, from the device that is mounted down to whole disks: through partitions, md, the device mapper, and loop
// devices with the file systems that their images lie on.
type ground struct {
	devices map[uint64]bool // block devices
	files   map[inode]bool  // images of loop devices
}

type inode struct{ dev, ino uint64 }

func groundOf() *ground { return &ground{map[uint64]bool{}, map[inode]bool{}} }

// device adds a block device and what is below it. It gives false for a number that is no block device's.
func (g *ground) device(dev uint64) bool {
	dir, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev)))
	if err != nil {
		return false
	}
	if g.devices[dev] {
		return true
	}
	g.devices[dev] = true
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		g.named(filepath.Dir(dir))
	}
	g.all(filepath.Join(dir, "slaves/*"))
	if image, err := os.ReadFile(filepath.Join(dir, "loop/backing_file")); err == nil {
		g.image(strings.TrimSuffix(string(image), "\n"))
	}
	return true
}

// named adds the device whose folder in sysfs this is.
func (g *ground) named(dir string) {
	text, err := os.ReadFile(filepath.Join(dir, "dev"))
	if err != nil {
		return
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(text), "%d:%d", &major, &minor); err == nil {
		g.device(unix.Mkdev(major, minor))
	}
}

func (g *ground) all(pattern string) {
	dirs, _ := filepath.Glob(pattern) // the pattern is ours, and a good one
	for _, dir := range dirs {
		g.named(dir)
	}
}

// image adds the file that a loop device is made of.
func (g *ground) image(path string) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || g.files[inode{st.Dev, st.Ino}] {
		return
	}
	g.files[inode{st.Dev, st.Ino}] = true
	g.folder(path)
}

// folder adds what a file or a folder lies on.
func (g *ground) folder(path string) {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st) != nil {
		return
	}
	if g.device(unix.Mkdev(st.Dev_major, st.Dev_minor)) {
		return
	}
	// A file system over several devices, such as btrfs, has a number of its own, and what is mounted says one of the devices.
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return uint64(m.ID) != st.Mnt_id, false })
	if err != nil || len(mounts) == 0 {
		return
	}
	for name := range strings.SplitSeq(mounts[0].Source, ":") { // so bcachefs writes several
		var dev unix.Stat_t
		if !strings.HasPrefix(name, "/dev/") || unix.Stat(name, &dev) != nil || dev.Mode&unix.S_IFMT != unix.S_IFBLK {
			continue
		}
		g.device(dev.Rdev)
		if real, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev.Rdev), unix.Minor(dev.Rdev))); err == nil {
			g.beside(filepath.Base(real))
		}
	}
}

// beside adds the other devices of a btrfs.
func (g *ground) beside(name string) {
	sets, _ := filepath.Glob("/sys/fs/btrfs/*/devices") // the pattern is ours, and a good one
	for _, set := range sets {
		if _, err := os.Stat(filepath.Join(set, name)); !errors.Is(err, os.ErrNotExist) {
			g.all(filepath.Join(set, "*"))
		}
	}
}

// mountOf is the number of the mount that a path lies in; 0 where the kernel does not say.
func mountOf(path string) uint64 {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st) != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0
	}
	return st.Mnt_id
}

// onDisk tells whether a block device lies on another, or is it.
func onDisk(dev, disk uint64) bool {
	g := groundOf()
	g.device(dev)
	return g.devices[disk]
}
