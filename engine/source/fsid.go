package source

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fsUUID is what FS_IOC_GETFSUUID fills.
type fsUUID struct {
	n    uint8
	uuid [16]byte
}

// getFSUUID is FS_IOC_GETFSUUID, which kernels since 6.9 have.
const getFSUUID = 0x80111500

// fileSystem names the file system of an open file by what is written on it, so that it is the same after the next boot, when its device may
// have another number. It is "unknown" where nothing of that kind can be had: network file systems, and XFS or FAT on older kernels.
func fileSystem(fd int) string {
	var u fsUUID
	if _, _, no := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), getFSUUID, uintptr(unsafe.Pointer(&u))); no == 0 && u.n > 0 && int(u.n) <= len(u.uuid) && u.uuid != [16]byte{} {
		return fmt.Sprintf("uuid-%x", u.uuid[:u.n])
	}
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return "unknown"
	}
	switch uint32(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, zfsMagic: // these make it of their UUID, others of the device's number
		if id := st.Fsid.Val; id != [2]int32{} {
			return fmt.Sprintf("fsid-%08x%08x", uint32(id[0]), uint32(id[1]))
		}
	}
	return "unknown"
}

const zfsMagic = 0x2fc12fc1

// fileID finds a file or tree again, also after the next boot: by its path, its inode number, and the file system that both are in.
func fileID(kind, path string, fd int, ino uint64) string {
	return fmt.Sprintf("%s fs=%s ino=%d path=%s", kind, fileSystem(fd), ino, path)
}
