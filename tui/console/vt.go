package console

import (
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

const gioUnimap = 0x4B66

type unipair struct{ unicode, _ uint16 } // the other is its place in the font

type unimapdesc struct {
	count   uint16
	entries *unipair
}

func ioctlByte(fd, request uintptr, b *byte) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(b))); e != 0 {
		return e
	}
	return nil
}

// Font is the characters that the console's font has, as the kernel maps them. It is the only one who knows: a loaded font is any subset.
func Font(f *os.File) ([]rune, error) {
	pairs := make([]unipair, 1<<14)
	d := unimapdesc{count: uint16(len(pairs)), entries: &pairs[0]}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), gioUnimap, uintptr(unsafe.Pointer(&d))); e != 0 {
		return nil, e
	}
	var out []rune
	for _, p := range pairs[:d.count] {
		out = append(out, rune(p.unicode))
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
