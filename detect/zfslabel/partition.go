package zfslabel

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"strconv"
	"unicode/utf16"
)

// Table is the kind of partition table that a device begins with.
type Table string

// The kinds.
const (
	NoTable   Table = ""
	GPT       Table = "gpt"
	GPTBackup Table = "gpt-backup" // the first copy is damaged, the one at the end is good
	MBR       Table = "mbr"
)

// Partition is one entry of a partition table.
type Partition struct {
	Number int    `json:"number"` // as the kernel counts
	Start  int64  `json:"start"`  // bytes
	Size   int64  `json:"size"`
	Name   string `json:"name,omitempty"`
}

// maxPartitions is what GPT holds by default; a table that claims more is read no further.
const maxPartitions = 128

// Partitions reads the partition table of a whole disk or an image of one. A device that has one is to be looked into
// partition by partition: ZFS on whole disks makes partitions too, and its labels lie in the first.
func Partitions(r io.ReaderAt, size int64) (Table, []Partition) {
	for _, sector := range []int64{512, 4096} {
		if p, ok := gpt(r, size, sector, sector); ok {
			return GPT, p
		}
	}
	for _, sector := range []int64{512, 4096} {
		if p, ok := gpt(r, size, sector, size/sector*sector-sector); ok {
			return GPTBackup, p
		}
	}
	if p, ok := mbr(r, size); ok {
		return MBR, p
	}
	return NoTable, nil
}

// gpt reads the header at offset at and the entries it points to, if both checksums are right.
func gpt(r io.ReaderAt, size, sector, at int64) ([]Partition, bool) {
	if at < sector || at+sector > size {
		return nil, false
	}
	h, err := readAll(r, at, int(sector))
	if err != nil || !bytes.Equal(h[:8], []byte("EFI PART")) {
		return nil, false
	}
	le := binary.LittleEndian
	length := le.Uint32(h[12:])
	if length < 92 || int64(length) > sector {
		return nil, false
	}
	sum := le.Uint32(h[16:])
	clear(h[16:20])
	if crc32.ChecksumIEEE(h[:length]) != sum || le.Uint64(h[24:]) != uint64(at/sector) {
		return nil, false
	}
	first, count, width := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	if width < 128 || width > 4096 || count > maxPartitions || first > uint64(size/sector) {
		return nil, false
	}
	entries, err := readAll(r, int64(first)*sector, int(count*width))
	if err != nil || crc32.ChecksumIEEE(entries) != le.Uint32(h[88:]) {
		return nil, false
	}
	var all []Partition
	for i := range int(count) {
		e := entries[i*int(width):][:width]
		from, to := le.Uint64(e[32:]), le.Uint64(e[40:])
		if bytes.Equal(e[:16], make([]byte, 16)) || to < from || to >= uint64(size/sector) {
			continue
		}
		all = append(all, Partition{i + 1, int64(from) * sector, int64(to-from+1) * sector, UTF16Text(e[56:128])})
	}
	return all, true
}

// UTF16Text is a little-endian text up to its first zero, as partition tables and file systems keep names.
func UTF16Text(b []byte) string {
	var u []uint16
	for i := 0; i+1 < len(b); i += 2 {
		c := binary.LittleEndian.Uint16(b[i:])
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u))
}

// mbr reads the four primary partitions. Boot sectors of file systems end with the same two bytes, so the entries have to
// make sense too.
func mbr(r io.ReaderAt, size int64) ([]Partition, bool) {
	b, err := readAll(r, 0, 512)
	if err != nil || b[510] != 0x55 || b[511] != 0xaa {
		return nil, false
	}
	var all []Partition
	for i := range 4 {
		e := b[446+16*i:][:16]
		start, n := int64(binary.LittleEndian.Uint32(e[8:]))*512, int64(binary.LittleEndian.Uint32(e[12:]))*512
		switch {
		case e[0]&0x7f != 0:
			return nil, false
		case e[4] == 0 || e[4] == 0x05 || e[4] == 0x0f || n == 0 || start+n > size:
		default:
			all = append(all, Partition{Number: i + 1, Start: start, Size: n})
		}
	}
	return all, len(all) > 0
}

// Place is a device, or a part of it, that was looked at.
type Place struct {
	Name   string  `json:"name"` // "whole device", "partition 1", "1 MiB in"
	Number int     `json:"partition,omitempty"`
	Start  int64   `json:"start"`
	Found  *Device `json:"found"`
}

// Look reads the labels of a device and of every partition in it. Where the partition table is gone, it looks where ZFS
// would have put its own partition. For a disk whose partitions the kernel shows, Read on each of them does the same.
func Look(r io.ReaderAt, size int64) (Table, []Place) {
	places := []Place{{Name: "whole device", Found: Read(r, size)}}
	table, parts := Partitions(r, size)
	for _, p := range parts {
		places = append(places, Place{"partition " + strconv.Itoa(p.Number), p.Number, p.Start, Read(io.NewSectionReader(r, p.Start, p.Size), p.Size)})
	}
	const first = 1 << 20
	if table == NoTable && !places[0].Found.Found() {
		if n := wholeDisk(size); n >= MinSize {
			if d := Read(io.NewSectionReader(r, first, n), n); d.Found() {
				places = append(places, Place{"1 MiB in, where the partition of a whole disk begins", 1, first, d})
			}
		}
	}
	return table, places
}

// wholeDisk is the size of the partition that ZFS makes on a whole disk: from 1 MiB on, cut to whole MiB, and 8 MiB less
// for a second partition at the end.
func wholeDisk(size int64) int64 {
	return (size/512 - 2048 - 16384) &^ 2047 * 512
}
