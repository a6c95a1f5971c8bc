package volume

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

var le = binary.LittleEndian

// Partition is a row of a partition table.
type Partition struct {
	Number   int    `json:"number"`
	Off      int64  `json:"off"`
	Len      int64  `json:"len"`
	Type     string `json:"type"` // GUID of GPT, two hex digits of MBR
	Means    string `json:"means,omitempty"`
	Name     string `json:"name,omitempty"`
	ID       string `json:"id,omitempty"`
	Extended bool   `json:"extended,omitempty"` // holds others
}

// Table is a partition table.
type Table struct {
	Kind       string      `json:"kind"` // gpt, mbr, none
	ID         string      `json:"id,omitempty"`
	Partitions []Partition `json:"partitions,omitempty"`
	Problems   []string    `json:"problems,omitempty"`
	Where      []Span      `json:"-"` // bytes that it stands in
}

func (t *Table) problem(format string, args ...any) {
	t.Problems = append(t.Problems, fmt.Sprintf(format, args...))
}

// ReadTable reads GPT, or MBR with its logical partitions. sector is the disk's; where GPT was written for the other size, that is found.
func ReadTable(r io.ReaderAt, size int64, sector int) *Table {
	t := &Table{Kind: "none"}
	b, err := readFull(r, 0, 512)
	if err != nil {
		t.problem("the first sector cannot be read: %v", err)
	}
	sizes := []int{512, 4096}
	if sector == 4096 {
		sizes = []int{4096, 512}
	}
	mbr := err == nil && b[510] == 0x55 && b[511] == 0xaa
	protective := mbr && b[450] == 0xee
	if protective || err != nil || !mbr {
		for _, s := range sizes {
			if t.gpt(r, size, int64(s), protective) {
				return t
			}
		}
		if protective {
			t.problem("the first sector announces a GPT, and neither of its copies can be read")
		}
	}
	if mbr && !protective && !looksLikeBoot(b) {
		t.mbr(r, b, size, int64(max(sector, 512)))
	}
	return t
}

// looksLikeBoot tells boot sectors of file systems, which end like an MBR, from one.
func looksLikeBoot(b []byte) bool {
	if string(b[3:7]) == "NTFS" || string(b[3:8]) == "EXFAT" || string(b[54:57]) == "FAT" || string(b[82:85]) == "FAT" {
		return true
	}
	for i := range 4 { // an entry whose first byte is neither 0 nor 0x80 is none
		if e := b[446+16*i:]; e[0]&0x7f != 0 {
			return true
		}
	}
	return false
}

func (t *Table) gpt(r io.ReaderAt, size, sector int64, announced bool) bool {
	for i, lba := range []int64{1, size/sector - 1} {
		h, err := readFull(r, lba*sector, 512)
		if err != nil || string(h[:8]) != "EFI PART" {
			continue
		}
		n, hsize := le.Uint32(h[80:]), le.Uint32(h[12:])
		each := le.Uint32(h[84:])
		if hsize < 92 || hsize > 512 || each < 128 || each > 4096 || n > 4096 {
			continue
		}
		crc := le.Uint32(h[16:])
		clear(h[16:20])
		if crc32.ChecksumIEEE(h[:hsize]) != crc {
			t.problem("the checksum of the GPT header at sector %d is wrong", lba)
			continue
		}
		at := int64(le.Uint64(h[72:])) * sector
		rows, err := readFull(r, at, int(n*each))
		if err != nil {
			t.problem("the rows of the GPT at sector %d cannot be read: %v", at/sector, err)
			continue
		}
		if crc32.ChecksumIEEE(rows) != le.Uint32(h[88:]) {
			t.problem("the checksum of the GPT rows at sector %d is wrong", at/sector)
			continue
		}
		if i == 1 && announced {
			t.problem("the first copy of the GPT cannot be used; the second is")
		}
		t.Kind, t.ID = "gpt", guid(h[56:72])
		t.Where = append(t.Where, Span{0, sector}, Span{lba * sector, sector}, Span{at, int64(n * each)})
		t.Partitions = nil
		for k := range int(n) {
			row := rows[k*int(each):]
			if allZero(row[:16]) {
				continue
			}
			first, last := int64(le.Uint64(row[32:])), int64(le.Uint64(row[40:]))
			p := Partition{Number: k + 1, Off: first * sector, Len: (last - first + 1) * sector, Type: guid(row[:16]), ID: guid(row[16:32]), Name: utf16Text(row[56:128])}
			p.Means = gptTypes()[p.Type]
			if first < 1 || last < first || last >= size/sector {
				t.problem("partition %d from sector %d to %d does not lie on the disk", p.Number, first, last)
				continue
			}
			t.Partitions = append(t.Partitions, p)
		}
		return true
	}
	return false
}

func (t *Table) mbr(r io.ReaderAt, b []byte, size, sector int64) {
	row := func(b []byte, i int) (kind byte, start, n int64) {
		e := b[446+16*i:]
		return e[4], int64(le.Uint32(e[8:])) * sector, int64(le.Uint32(e[12:])) * sector
	}
	add := func(number int, kind byte, start, n int64) {
		p := Partition{Number: number, Off: start, Len: n, Type: fmt.Sprintf("%02x", kind), Means: mbrTypes()[kind], Extended: extended(kind)}
		if start <= 0 || start >= size {
			t.problem("partition %d at byte %d does not lie on the disk", number, start)
			return
		}
		if start+n > size {
			t.problem("partition %d ends %d bytes behind the disk's end", number, start+n-size)
			p.Len = size - start
		}
		t.Kind = "mbr"
		t.Partitions = append(t.Partitions, p)
	}
	ext := int64(0)
	for i := range 4 {
		kind, start, n := row(b, i)
		if kind == 0 || n == 0 {
			continue
		}
		add(i+1, kind, start, n)
		if extended(kind) && ext == 0 {
			ext = start
		}
	}
	if t.Kind == "mbr" {
		t.ID = fmt.Sprintf("%08x", le.Uint32(b[440:]))
		t.Where = append(t.Where, Span{0, 512})
	}
	for at, k := ext, 5; at > 0 && k < 260; k++ {
		b, err := readFull(r, at, 512)
		if err != nil || b[510] != 0x55 || b[511] != 0xaa {
			t.problem("the chain of logical partitions breaks at byte %d", at)
			return
		}
		t.Where = append(t.Where, Span{at, 512})
		if kind, start, n := row(b, 0); kind != 0 && n > 0 {
			add(k, kind, at+start, n)
		}
		kind, next, _ := row(b, 1)
		if !extended(kind) || ext+next <= at {
			return
		}
		at = ext + next
	}
}

func extended(kind byte) bool { return kind == 0x05 || kind == 0x0f || kind == 0x85 }

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

func guid(b []byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

func utf16Text(b []byte) string {
	var u []uint16
	for i := 0; i+1 < len(b); i += 2 {
		c := le.Uint16(b[i:])
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u))
}

func gptTypes() map[string]string {
	return map[string]string{
		"c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
		"21686148-6449-6e6f-744e-656564454649": "BIOS boot",
		"ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Windows data",
		"e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
		"de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
		"0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux",
		"4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
		"933ac7e1-2eb4-4f13-b844-0e14e2aef915": "Linux home",
		"0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
		"e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
		"a19d880f-05fc-4d3b-a006-743f0f84911e": "Linux RAID",
		"6a898cc3-1dd2-11b2-99a6-080020736631": "ZFS",
		"6a945a3b-1dd2-11b2-99a6-080020736631": "Solaris reserved",
	}
}

func mbrTypes() map[byte]string {
	return map[byte]string{0x01: "FAT12", 0x04: "FAT16", 0x05: "extended", 0x06: "FAT16", 0x07: "NTFS or exFAT", 0x0b: "FAT32", 0x0c: "FAT32", 0x0e: "FAT16", 0x0f: "extended",
		0x82: "Linux swap", 0x83: "Linux", 0x85: "extended", 0x8e: "Linux LVM", 0xbf: "ZFS or Solaris", 0xee: "GPT", 0xef: "EFI system", 0xfd: "Linux RAID"}
}
