package zfslabel

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

const (
	uberMagic = 0x00bab10c
	mmpMagic  = 0xa11cea11
	eckMagic  = 0x0210da7ab10c7a11
	eckSize   = 40 // magic and a checksum of four words, at the end of what it covers
)

// Uberblock is one entry of a label's ring: each says where a whole state of the pool begins.
type Uberblock struct {
	Slot            int    `json:"slot"`
	Size            int    `json:"size"` // of the slot: 1 KiB to 8 KiB, by the ashift of the vdev
	BigEndian       bool   `json:"big_endian,omitempty"`
	Version         uint64 `json:"version"`
	TXG             uint64 `json:"txg"`
	GUIDSum         GUID   `json:"guid_sum"`
	Timestamp       int64  `json:"timestamp"` // Unix seconds, by the clock of the machine that wrote it
	SoftwareVersion uint64 `json:"software_version,omitempty"`
	MMP             MMP    `json:"mmp,omitzero"`
	CheckpointTXG   uint64 `json:"checkpoint_txg,omitempty"`
	Reflow          uint64 `json:"raidz_reflow,omitempty"` // state and offset of a raidz expansion
	Heartbeat       bool   `json:"heartbeat,omitempty"`    // in the slot that multihost keeps writing
	Good            bool   `json:"good"`                   // its checksum is right
}

// MMP is what multihost left in an uberblock. Valid is false where the pool never heard of multihost.
type MMP struct {
	Valid    bool   `json:"valid"`
	Delay    uint64 `json:"delay"`              // nanoseconds; 0: multihost was off
	Interval uint64 `json:"interval,omitempty"` // milliseconds between two writes
	Fail     uint64 `json:"fail,omitempty"`     // how many intervals may be missed
	Seq      uint64 `json:"seq,omitempty"`
}

// On says whether another machine might keep the pool alive by multihost's means.
func (m MMP) On() bool { return m.Valid && m.Delay != 0 }

// ring reads every uberblock in a ring that lies at offset at of the device. The size of a slot follows from the ashift;
// where that is not known, or an older pool left others between, the checksum tells which size it was.
func ring(data []byte, at int64, ashift uint64) []Uberblock {
	var all []Uberblock
	known := 1 << min(max(ashift, 10), 13)
	for off := 0; off+1024 <= len(data); off += 1024 {
		head := data[off:]
		var order binary.ByteOrder = binary.LittleEndian
		if order.Uint64(head) != uberMagic {
			if order = binary.BigEndian; order.Uint64(head) != uberMagic {
				continue
			}
		}
		sizes := []int{known, 1024, 2048, 4096, 8192}
		if ashift == 0 {
			sizes = sizes[1:]
		}
		u := uberblock(head, order)
		for _, size := range sizes {
			if off%size == 0 && off+size <= len(data) && sealed(data[off:off+size], at+int64(off), order) {
				u.Good, u.Size = true, size
				break
			}
		}
		if !u.Good {
			u.Size = known
		}
		u.Slot = off / u.Size
		u.Heartbeat = u.Slot == len(data)/u.Size-1 && u.MMP.On()
		all = append(all, u)
	}
	return all
}

func uberblock(b []byte, order binary.ByteOrder) Uberblock {
	word := func(i int) uint64 { return order.Uint64(b[8*i:]) }
	u := Uberblock{BigEndian: order == binary.BigEndian, Version: word(1), TXG: word(2), GUIDSum: GUID(word(3)), Timestamp: int64(word(4))}
	const after = 5 + 16 // the root block pointer has 128 bytes
	u.SoftwareVersion = word(after)
	if word(after+1) == mmpMagic {
		c := word(after + 3)
		u.MMP = MMP{Valid: true, Delay: word(after + 2)}
		if c&1 != 0 {
			u.MMP.Interval = c >> 8 & 0xffffff
		}
		if c&2 != 0 {
			u.MMP.Seq = c >> 32 & 0xffff
		}
		if c&4 != 0 {
			u.MMP.Fail = c >> 48 & 0xffff
		}
	}
	u.CheckpointTXG, u.Reflow = word(after+4), word(after+5)
	return u
}

// sealed checks the checksum at the end of data, which lies at offset at of the device: the place is part of what is
// hashed, so that a label copied elsewhere does not pass.
func sealed(data []byte, at int64, order binary.ByteOrder) bool {
	if len(data) < eckSize {
		return false
	}
	tail := data[len(data)-eckSize:]
	if order.Uint64(tail) != eckMagic {
		return false
	}
	var verifier [32]byte
	order.PutUint64(verifier[:], uint64(at))
	h := sha256.New()
	h.Write(data[:len(data)-32])
	h.Write(verifier[:])
	sum := h.Sum(nil)
	for i := range 4 {
		if order.Uint64(tail[8+8*i:]) != binary.BigEndian.Uint64(sum[8*i:]) {
			return false
		}
	}
	return true
}

// newer orders uberblocks as ZFS does: by txg, by time, by multihost's count.
func newer(a, b Uberblock) int {
	return cmp.Or(cmp.Compare(a.TXG, b.TXG), cmp.Compare(a.Timestamp, b.Timestamp), cmp.Compare(a.MMP.Seq, b.MMP.Seq))
}

// best is the newest good uberblock; ok is false where there is none.
func best(all []Uberblock) (Uberblock, bool) {
	good := slices.DeleteFunc(slices.Clone(all), func(u Uberblock) bool { return !u.Good })
	if len(good) == 0 {
		return Uberblock{}, false
	}
	return slices.MaxFunc(good, newer), true
}
