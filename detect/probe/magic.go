package probe

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"aslrescue/detect"
	"aslrescue/detect/zfslabel"
)

// A magic knows one kind of content by its bytes. What it reads may be anything: it checks before it believes, and reads only
// where its own header says within bounds.
type magic struct {
	at    int64 // where its first bytes lie; below 0 from the end
	bytes string
	look  func(r io.ReaderAt, size int64) *detect.Content // nil where the bytes do not suffice
}

// magics are tried in this order: what other things are built on comes before file systems, whose old bytes may still be there.
func magics() []magic {
	return []magic{
		{0, "LUKS\xba\xbe", luks},
		{3, "-FVE-FS-", kind("bitlocker")},
		{4096, "\xfc\x4e\x2b\xa9", md1(4096)},
		{0, "\xfc\x4e\x2b\xa9", md1(0)},
		{512, "LABELONE", lvm(512)},
		{0, "LABELONE", lvm(0)},
		{1024, "LABELONE", lvm(1024)},
		{1536, "LABELONE", lvm(1536)},
		{4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", kind("bcache")},
		{-1024, "Intel Raid ISM Cfg Sig. ", kind("isw")},
		{-512, "\xde\x11\xde\x11", kind("ddf")},
		{4086, "SWAPSPACE2", swap},
		{4086, "SWAP-SPACE", kind("swap")},
		{4086, "S1SUSPEND", kind("hibernation")},
		{4086, "S2SUSPEND", kind("hibernation")},
		{4086, "ULSUSPEND", kind("hibernation")},
		{4086, "LINHIB0001", kind("hibernation")},
		{0, "XFSB", xfs},
		{0x10040, "_BHRfS_M", btrfs},
		{0x438, "\x53\xef", ext},
		{3, "NTFS    ", ntfs},
		{3, "EXFAT   ", exfat},
		{0x52, "FAT32   ", fat(0x52)},
		{0x36, "FAT16   ", fat(0x36)},
		{0x36, "FAT12   ", fat(0x36)},
		{1024, "\x10\x20\xf5\xf2", f2fs},
		{0, "hsqs", kind("squashfs")},
		{1024, "\xe2\xe1\xf5\xe0", kind("erofs")},
		{32, "NXSB", kind("apfs")},
		{1024, "H+\x00\x04", kind("hfsplus")},
		{1024, "HX\x00\x05", kind("hfsplus")},
		{0x10034, "ReIsEr", kind("reiserfs")},
		{0x8000, "JFS1", kind("jfs")},
		{0x8001, "CD001", iso},
		{0x8001, "BEA01", kind("udf")},
	}
}

// content says what lies on a device; nil where that is not known.
func content(r io.ReaderAt, size int64) *detect.Content {
	for _, m := range magics() {
		at := m.at
		if at < 0 {
			at += size &^ 511
		}
		if at < 0 || string(bytesAt(r, at, len(m.bytes))) != m.bytes {
			continue
		}
		if c := m.look(r, size); c != nil {
			return c
		}
	}
	return mdAtEnd(r, size)
}

// bytesAt gives n bytes, or none.
func bytesAt(r io.ReaderAt, at int64, n int) []byte {
	b := make([]byte, n)
	if k, _ := r.ReadAt(b, at); k < n {
		return nil
	}
	return b
}

func kind(k string) func(io.ReaderAt, int64) *detect.Content {
	return func(io.ReaderAt, int64) *detect.Content { return &detect.Content{Kind: k} }
}

func le16(b []byte, at int) int    { return int(binary.LittleEndian.Uint16(b[at:])) }
func le32(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
func le64(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

// cstring is text that ends at the first zero byte.
func cstring(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return strings.TrimRight(strings.ToValidUTF8(string(s), "\uFFFD"), " ")
}

func uuid(b []byte) string {
	if bytes.Equal(b, make([]byte, len(b))) {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func ext(r io.ReaderAt, _ int64) *detect.Content {
	b := bytesAt(r, 1024, 1024)
	if b == nil {
		return nil
	}
	const hasJournal, recover, journalDevice, extents, bits64, flexBG, clean = 0x4, 0x4, 0x8, 0x40, 0x80, 0x200, 1
	compat, incompat, state := le32(b, 0x5c), le32(b, 0x60), le16(b, 0x3a)
	c := &detect.Content{Kind: "ext2", Label: cstring(b[0x78:0x88]), UUID: uuid(b[0x68:0x78])}
	switch {
	case incompat&journalDevice != 0:
		c.Kind = "jbd"
		return c
	case incompat&(extents|bits64|flexBG) != 0:
		c.Kind = "ext4"
	case compat&hasJournal != 0:
		c.Kind = "ext3"
	}
	c.Dirty = incompat&recover != 0 || state&clean == 0
	return c
}

func xfs(r io.ReaderAt, _ int64) *detect.Content {
	b := bytesAt(r, 0, 512)
	if b == nil {
		return nil
	}
	return &detect.Content{Kind: "xfs", Label: cstring(b[108:120]), UUID: uuid(b[32:48])}
}

func btrfs(r io.ReaderAt, _ int64) *detect.Content {
	b := bytesAt(r, 0x10000, 0x22b)
	if b == nil {
		return nil
	}
	return &detect.Content{Kind: "btrfs", Label: cstring(b[0x12b:]), UUID: uuid(b[0x20:0x30]), Dirty: le64(b, 0x60) != 0} // a log tree is waiting
}

func f2fs(r io.ReaderAt, _ int64) *detect.Content {
	b := bytesAt(r, 1024, 1148)
	if b == nil {
		return nil
	}
	return &detect.Content{Kind: "f2fs", Label: zfslabel.UTF16Text(b[124:]), UUID: uuid(b[108:124])}
}

func luks(r io.ReaderAt, _ int64) *detect.Content {
	b := bytesAt(r, 0, 512)
	if b == nil {
		return nil
	}
	c := &detect.Content{Kind: "luks", UUID: cstring(b[168:208])}
	if b[7] == 2 {
		c.Label = cstring(b[24:72])
	}
	return c
}

func lvm(at int64) func(io.ReaderAt, int64) *detect.Content {
	return func(r io.ReaderAt, _ int64) *detect.Content {
		b := bytesAt(r, at, 512)
		if b == nil || string(b[24:32]) != "LVM2 001" {
			return nil
		}
		c := &detect.Content{Kind: "lvm"}
		if off := int(le32(b, 20)); off >= 32 && off+32 <= len(b) {
			u := string(b[off : off+32])
			c.UUID = strings.Join([]string{u[:6], u[6:10], u[10:14], u[14:18], u[18:22], u[22:26], u[26:]}, "-")
		}
		return c
	}
}

func md1(at int64) func(io.ReaderAt, int64) *detect.Content {
	return func(r io.ReaderAt, _ int64) *detect.Content {
		b := bytesAt(r, at, 256)
		if b == nil || le32(b, 0) != 0xa92b4efc || le32(b, 4) != 1 {
			return nil
		}
		return &detect.Content{Kind: "md", Label: cstring(b[32:64]), UUID: uuid(b[16:32])}
	}
}

// mdAtEnd finds the two older places of an array's superblock, behind the data.
func mdAtEnd(r io.ReaderAt, size int64) *detect.Content {
	if at := (size/512 - 16) &^ 7 * 512; at > 0 {
		if c := md1(at)(r, size); c != nil {
			return c
		}
	}
	at := size&^65535 - 65536
	if at <= 0 {
		return nil
	}
	b := bytesAt(r, at, 64)
	if b == nil || le32(b, 0) != 0xa92b4efc || le32(b, 4) != 0 {
		return nil
	}
	return &detect.Content{Kind: "md", UUID: uuid(append(append([]byte(nil), b[20:24]...), b[52:64]...))}
}

func swap(r io.ReaderAt, _ int64) *detect.Content {
	b := bytesAt(r, 1024, 64)
	if b == nil {
		return nil
	}
	return &detect.Content{Kind: "swap", UUID: uuid(b[12:28]), Label: cstring(b[28:44])}
}

func iso(r io.ReaderAt, _ int64) *detect.Content {
	b := bytesAt(r, 0x8000, 2048)
	if b == nil {
		return nil
	}
	c := &detect.Content{Kind: "iso9660", Label: strings.TrimRight(cstring(b[40:72]), " ")}
	if d := string(b[830:846]); strings.Trim(d, "0123456789") == "" {
		c.UUID = d[:4] + "-" + d[4:6] + "-" + d[6:8] + "-" + d[8:10] + "-" + d[10:12] + "-" + d[12:14] + "-" + d[14:16]
	}
	return c
}

func fat(at int) func(io.ReaderAt, int64) *detect.Content {
	return func(r io.ReaderAt, _ int64) *detect.Content {
		b := bytesAt(r, 0, 512)
		if b == nil || b[510] != 0x55 || b[511] != 0xaa || b[0] != 0xeb && b[0] != 0xe9 {
			return nil
		}
		serial, label, state := at-0x36+0x27, at-0x36+0x2b, at-0x36+0x25
		c := &detect.Content{Kind: "vfat", Label: cstring(b[label : label+11]), UUID: fmt.Sprintf("%04X-%04X", le16(b, serial+2), le16(b, serial)), Dirty: b[state]&1 != 0}
		if c.Label == "NO NAME" {
			c.Label = ""
		}
		return c
	}
}

func exfat(r io.ReaderAt, size int64) *detect.Content {
	b := bytesAt(r, 0, 512)
	if b == nil {
		return nil
	}
	c := &detect.Content{Kind: "exfat", UUID: fmt.Sprintf("%04X-%04X", le16(b, 0x66), le16(b, 0x64)), Dirty: b[0x6a]&2 != 0}
	sector, cluster := b[0x6c], b[0x6d]
	if sector < 9 || sector > 12 || cluster > 25-sector {
		return c
	}
	root := int64(le32(b, 0x58))<<sector + (int64(le32(b, 0x60))-2)<<(sector+cluster)
	if root <= 0 || root >= size {
		return c
	}
	for i := range int64(64) { // its label is among the first entries
		e := bytesAt(r, root+i*32, 32)
		if e == nil || e[0] == 0 {
			break
		}
		if e[0] == 0x83 && e[1] <= 11 {
			c.Label = zfslabel.UTF16Text(e[2 : 2+2*int(e[1])])
			break
		}
	}
	return c
}

// ntfs reads the record of $Volume, which has the name and whether it was unmounted.
func ntfs(r io.ReaderAt, size int64) *detect.Content {
	b := bytesAt(r, 0, 512)
	if b == nil {
		return nil
	}
	serial := make([]byte, 8)
	binary.BigEndian.PutUint64(serial, le64(b, 0x48))
	c := &detect.Content{Kind: "ntfs", UUID: strings.ToUpper(hex.EncodeToString(serial))}
	sector := int64(le16(b, 0x0b))
	per := int64(b[0x0d])
	if per > 0x80 { // a power of two, written as minus its exponent
		per = 1 << (256 - per)
	}
	cluster := sector * per
	record := int64(int8(b[0x40])) * cluster
	if e := int8(b[0x40]); e < 0 && e > -20 {
		record = 1 << -e
	}
	table := le64(b, 0x30)
	if sector < 256 || sector > 4096 || cluster <= 0 || cluster > 2<<20 || record < 512 || record > 64<<10 || table > uint64(size/cluster) {
		return c
	}
	rec := bytesAt(r, int64(table)*cluster+3*record, int(record))
	if rec == nil || string(rec[:4]) != "FILE" {
		return c
	}
	for at := le16(rec, 0x14); at+0x18 <= len(rec); {
		kind, length := le32(rec, at), int(le32(rec, at+4))
		if kind == 0xffffffff || length < 0x18 || at+length > len(rec) {
			break
		}
		n, off := int(le32(rec, at+0x10)), le16(rec, at+0x14)
		if rec[at+8] == 0 && n >= 0 && off+n <= length {
			switch value := rec[at+off : at+off+n]; {
			case kind == 0x60:
				c.Label = zfslabel.UTF16Text(value)
			case kind == 0x70 && len(value) >= 12:
				c.Dirty = le16(value, 10)&1 != 0
			}
		}
		at += length
	}
	return c
}
