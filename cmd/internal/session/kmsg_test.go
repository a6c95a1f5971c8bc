package session

import (
	"testing"

	"aslrescue/detect"
)

func TestTheKernelsWordsAreFoundForOurDisks(t *testing.T) {
	disks := []detect.Disk{
		{Name: "sda", Parts: []detect.Part{{Name: "sda1"}}},
		{Name: "sdb"},
		{Name: "nvme0n1"},
	}
	where := map[string]string{
		"sda":     "/sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda",
		"sdb":     "/sys/devices/pci0000:00/0000:00:1f.2/ata2/host1/target1:0:0/1:0:0:0/block/sdb",
		"nvme0n1": "/sys/devices/pci0000:00/0000:00:1d.0/0000:03:00.0/nvme/nvme0/nvme0n1",
	}
	ports := func(d string) []string { return portsIn(where[d]) }
	for rec, want := range map[string]string{
		"3,812,5100,-;blk_update_request: I/O error, dev sdb, sector 2048 op 0x0:(READ)":   "sdb",
		"3,813,5101,-;ata2.00: failed command: READ FPDMA QUEUED":                          "sdb",
		"3,813,5101,-;ata2: SATA link down (SStatus 0 SControl 300)":                       "sdb",
		"3,814,5102,-;ata21.00: failed command: READ DMA":                                  "",
		"5,815,5103,-;sd 1:0:0:0: [sdb] Unaligned partial completion\n SUBSYSTEM=scsi":     "sdb",
		"4,816,5104,-;sd 1:0:0:0: rejecting I/O to offline device":                         "sdb",
		"3,817,5105,-;EXT4-fs error (device sda1): ext4_find_entry:1455: inode #2":         "sda",
		"4,818,5106,-;nvme nvme0: I/O 12 QID 3 timeout, aborting":                          "nvme0n1",
		"4,818,5106,-;critical medium error, dev nvme0n1, sector 96 op 0x0:(READ) flags 0": "nvme0n1",
		"6,819,5107,-;usb 1-2: new high-speed USB device number 5 using xhci_hcd":          "",
		"3,820,5108,-;Buffer I/O error on dev sdba, logical block 0, async page read":      "",
		"30,821,5109,-;systemd[1]: sdb.device: something":                                  "",
		"garbage": "",
		";":       "",
	} {
		_, text, ok := kernelRecord(rec)
		got := ""
		if ok {
			got = aboutDisk(text, disks, ports)
		}
		if got != want {
			t.Errorf("%q is about %q, want %q", rec, got, want)
		}
	}
	if prio, text, ok := kernelRecord("3,1,2,-;a; b\n KEY=x"); !ok || prio != 3 || text != "a; b" {
		t.Errorf("got %d %q %v", prio, text, ok)
	}
}
