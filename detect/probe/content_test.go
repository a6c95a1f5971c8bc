package probe

import (
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"aslrescue/detect"
)

// unpack makes an image of its compressed beginning; the rest is a hole.
func unpack(t *testing.T, packed, to string) {
	name := strings.TrimSuffix(filepath.Base(packed), ".gz")
	_, digits, _ := strings.Cut(name, "-")
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(packed)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	writeImage(t, to, size, b)
}

func writeImage(t *testing.T, to string, size int64, head []byte) {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, head, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(to, size); err != nil {
		t.Fatal(err)
	}
}

// The images were made by the programs that make such file systems; another program, which is on every Debian, must say the same.
func TestContentIsWhatBlkidSays(t *testing.T) {
	files, err := filepath.Glob("testdata/content/*.gz")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d images, %v", len(files), err)
	}
	for _, file := range files {
		image := filepath.Join(t.TempDir(), "image")
		unpack(t, file, image)
		p := peek(image)
		if p.Err != "" || p.Content == nil {
			t.Errorf("%s: %+v", file, p)
			continue
		}
		name, _, _ := strings.Cut(filepath.Base(file), "-")
		if kind := strings.TrimRight(p.Content.Kind, "0123456789"); !strings.HasPrefix(name, kind) && p.Content.Kind != "iso9660" {
			t.Errorf("%s is called %s", name, p.Content.Kind)
		}
		blkid := (&Machine{}).tool("blkid") // also where the folders of root are not in the PATH
		out, err := exec.Command(blkid, "-p", "-o", "export", image).Output()
		if err != nil {
			t.Fatalf("blkid %s: %v", name, err)
		}
		var label, id string
		for line := range strings.Lines(string(out)) {
			switch k, v, _ := strings.Cut(strings.TrimSpace(line), "="); k {
			case "LABEL":
				label = strings.ReplaceAll(v, `\`, "")
			case "UUID":
				id = v
			}
		}
		if p.Content.Label != label || p.Content.UUID != id {
			t.Errorf("%s: %+v; blkid says label %q, UUID %q", name, *p.Content, label, id)
		}
	}
}

// What no tool of a test machine makes is put together by hand.
func TestContentByItsFirstBytes(t *testing.T) {
	at := func(pairs ...any) []byte {
		b := make([]byte, 160<<10)
		for i := 0; i < len(pairs); i += 2 {
			copy(b[pairs[i].(int):], pairs[i+1].(string))
		}
		return b
	}
	u32 := func(n uint32) string { return string(binary.LittleEndian.AppendUint32(nil, n)) }
	id := "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"
	const text = "01020304-0506-0708-090a-0b0c0d0e0f10"
	size := int64(160 << 10)
	for name, c := range map[string]struct {
		bytes []byte
		want  detect.Content
	}{
		"bitlocker":      {at(3, "-FVE-FS-"), detect.Content{Kind: "bitlocker"}},
		"hibernation":    {at(4086, "S1SUSPEND"), detect.Content{Kind: "hibernation"}},
		"uswsusp":        {at(4086, "ULSUSPEND"), detect.Content{Kind: "hibernation"}},
		"md 1.2":         {at(4096, "\xfc\x4e\x2b\xa9"+u32(1), 4096+16, id, 4096+32, "nas:0"), detect.Content{Kind: "md", Label: "nas:0", UUID: text}},
		"md 1.1":         {at(0, "\xfc\x4e\x2b\xa9"+u32(1), 16, id), detect.Content{Kind: "md", UUID: text}},
		"md 1.0":         {at(int(size)-8192, "\xfc\x4e\x2b\xa9"+u32(1), int(size)-8192+16, id), detect.Content{Kind: "md", UUID: text}},
		"md 0.90":        {at(64<<10, "\xfc\x4e\x2b\xa9"+u32(0), 64<<10+20, id[:4], 64<<10+52, id[4:]), detect.Content{Kind: "md", UUID: text}},
		"lvm":            {at(512, "LABELONE", 512+20, u32(32), 512+24, "LVM2 001", 512+32, "Qz3WabcdEFGHijklMNOPqrstUVWXyz01"), detect.Content{Kind: "lvm", UUID: "Qz3Wab-cdEF-GHij-klMN-OPqr-stUV-WXyz01"}},
		"lvm, half":      {at(512, "LABELONE", 512+20, u32(1<<30), 512+24, "LVM2 001"), detect.Content{Kind: "lvm"}},
		"fakeraid":       {at(int(size)-1024, "Intel Raid ISM Cfg Sig. 1.3.00"), detect.Content{Kind: "isw"}},
		"dirty ext4":     {at(1024+0x38, "\x53\xef\x01\x00", 1024+0x60, u32(0x44), 1024+0x68, id, 1024+0x78, "root"), detect.Content{Kind: "ext4", Label: "root", UUID: text, Dirty: true}},
		"ext3 journal":   {at(1024+0x38, "\x53\xef\x01\x00", 1024+0x60, u32(0x8)), detect.Content{Kind: "jbd"}},
		"dirty btrfs":    {at(0x10040, "_BHRfS_M", 0x10060, "\x01", 0x1012b, "home"), detect.Content{Kind: "btrfs", Label: "home", Dirty: true}},
		"LUKS over ext4": {at(0, "LUKS\xba\xbe\x00\x01", 168, "aa-bb", 1024+0x38, "\x53\xef"), detect.Content{Kind: "luks", UUID: "aa-bb"}},
		"no UTF-8":       {at(1024+0x38, "\x53\xef\x01", 1024+0x78, "r\xff\x1b[2Jx"), detect.Content{Kind: "ext2", Label: "r\uFFFD\x1b[2Jx"}},
	} {
		image := filepath.Join(t.TempDir(), "image")
		writeImage(t, image, size, c.bytes)
		p := peek(image)
		if p.Content == nil || *p.Content != c.want {
			t.Errorf("%s: got %+v, want %+v", name, p.Content, c.want)
		}
	}
	image := filepath.Join(t.TempDir(), "zeros")
	writeImage(t, image, size, nil)
	if p := peek(image); p.Content != nil || p.Err != "" || p.Size != size {
		t.Errorf("zeros are %+v", p)
	}
}

// Whatever stands there: no panic, and no reading outside.
func FuzzContent(f *testing.F) {
	files, _ := filepath.Glob("testdata/content/*.gz")
	for _, file := range files {
		r, err := os.Open(file)
		if err != nil {
			f.Fatal(err)
		}
		z, err := gzip.NewReader(r)
		if err != nil {
			f.Fatal(err)
		}
		b, err := io.ReadAll(io.LimitReader(z, 16<<10))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := strictReader{t, b}
		_ = content(r, int64(len(b)))
	})
}

type strictReader struct {
	t *testing.T
	b []byte
}

func (r strictReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		r.t.Fatalf("reads at %d", off)
	}
	if len(p) > 1<<20 {
		r.t.Fatalf("reads %d bytes at once", len(p))
	}
	if off >= int64(len(r.b)) {
		return 0, io.EOF
	}
	n := copy(p, r.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
