package e2e

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// commands are what scripts can say beside testscript's own words.
//
//	exits CODE PROGRAM ARGS…  runs a program, which must end with exactly this code; stdout and stderr as with exec
//	mktree DIR                makes a tree of everything that is hard to keep
//	mkdata FILE SIZE SEED     makes a file of data, a third of it zeros, a third repeating
//	mkext4 IMAGE SIZE TREE    makes an ext4 image with a tree in it, the same bytes every time
//	zfsimage FILE NAME        makes an image of a device of a real ZFS pool: a fixture of detect/zfslabel
//	sametree A B              compares all that stat, xattrs and content say of two trees, hard links included
//	flip FILE OFFSET          turns one bit over; an offset below 0 counts from the end
//	pick VAR PATTERN [N]      puts the n-th file that matches into a variable, the largest first
//	result FIELD VALUE        holds a field of the result line that the last program printed against a value
//	harmless TRACE [FOLDER…]  says that a trace of strace changes nothing outside of the folders; a file "disk" counts as a block device
//	silent VAR                listens and never says a word; its port is in the variable
//	freeport VAR              a port of this machine on which nobody listens
//	s3server                  a server with a bucket named rescue, which the variables of AWS lead to
//	strace OUT PROGRAM ARGS…  runs a program under strace, with the calls that "harmless" looks at
//	jsonlines                 says that stdout is JSON lines and ends with a result
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits":    exits,
		"mktree":   plain(1, func(ts *testscript.TestScript, a []string) error { return mktree(ts.MkAbs(a[0])) }),
		"mkdata":   plain(3, func(ts *testscript.TestScript, a []string) error { return mkdata(ts.MkAbs(a[0]), a[1], a[2]) }),
		"mkext4":   plain(3, func(ts *testscript.TestScript, a []string) error { return mkext4(ts.MkAbs(a[0]), a[1], ts.MkAbs(a[2])) }),
		"zfsimage": plain(2, func(ts *testscript.TestScript, a []string) error { return zfsimage(ts.MkAbs(a[0]), a[1]) }),
		"sametree": sametree,
		"flip":     plain(2, func(ts *testscript.TestScript, a []string) error { return flip(ts.MkAbs(a[0]), a[1]) }),
		"pick":     pick,
		"result":   result,
		"harmless": harmless,
		"strace":   strace,
		"silent":   silent,
		"s3server": plain(0, s3server),
		"freeport": plain(1, func(ts *testscript.TestScript, a []string) error {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			ts.Setenv(a[0], fmt.Sprint(ln.Addr().(*net.TCPAddr).Port))
			return ln.Close()
		}),
		"jsonlines": plain(0, func(ts *testscript.TestScript, _ []string) error {
			_, err := resultLine(ts.ReadFile("stdout"))
			return err
		}),
	}
}

// plain wraps a command with n arguments that cannot be negated.
func plain(n int, f func(*testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != n {
			ts.Fatalf("wants %d arguments and no !", n)
		}
		ts.Check(f(ts, args))
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got, err = exit.ExitCode(), nil
	}
	ts.Check(err)
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func mktree(dir string) error {
	long := strings.Repeat("n", 255)
	files := map[string]string{
		"empty":                   "",
		"a file with blanks":      "one\n",
		"-rf":                     "dash\n",
		"new\nline":               "two\n",
		"tab\there":               "three\n",
		"not utf-8 \xff\xfe":      "four\n",
		"Ünïcødé 文字":              "five\n",
		"Unico\u0308de":           "six, decomposed\n",
		long:                      "seven\n",
		"deep/er/and/deeper/file": "eight\n",
		"small":                   strings.Repeat("x", 1024),
		"just over small":         strings.Repeat("y", 1025),
		"executable":              "#!/bin/sh\nexit 0\n",
		"setuid":                  "s",
		"secret":                  "nobody but me\n",
	}
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			return err
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	steps := []error{
		os.MkdirAll(in("empty folder"), 0o700),
		mkdata(in("large"), "3000000", "1"),
		sparse(in("sparse"), 10<<20),
		os.Link(in("small"), in("deep/hard link")),
		os.Link(in("small"), in("zz hard link")),
		os.Symlink("small", in("link")),
		os.Symlink("/nowhere/at all", in("dangling")),
		os.Link(in("dangling"), in("dangling too")), // symbolic links can have several names as well
		os.Symlink(strings.Repeat("../", 20)+"etc/passwd", in("outside")),
		unix.Mkfifo(in("fifo"), 0o640),
		os.Chmod(in("executable"), 0o755),
		os.Chmod(in("setuid"), 0o755|fs.ModeSetuid|fs.ModeSetgid),
		os.Chmod(in("secret"), 0o400),
		os.Chmod(in("empty folder"), 0o711|fs.ModeSticky),
		xattr(in("small"), "user.note", "kept"),
		xattr(in("deep"), "user.empty", ""),
	}
	if err := errors.Join(steps...); err != nil {
		return err
	}
	return setTimes(dir)
}

// xattr sets one where the file system has them.
func xattr(p, name, value string) error {
	err := unix.Lsetxattr(p, name, []byte(value), 0)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}

func sparse(p string, size int64) error {
	f, err := os.Create(p)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("in the middle"), size/2)
	return errors.Join(err, f.Truncate(size), f.Close())
}

// setTimes gives every entry a time of its own, with nanoseconds and from before 1970 too; folders after what is in them.
func setTimes(dir string) error {
	var all []string
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		all = append(all, p)
		return err
	})
	if err != nil {
		return err
	}
	for i, p := range slices.Backward(all) {
		ts := unix.NsecToTimespec(int64(i-3)*86_400_123_456_789 + 7)
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return nil
}

func mkdata(p, size, seed string) error {
	n, err1 := strconv.ParseInt(size, 10, 64)
	s, err2 := strconv.ParseUint(seed, 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	f, err := os.Create(p)
	if err != nil {
		return err
	}
	rnd := rand.NewChaCha8([32]byte{byte(s), byte(s >> 8)})
	buf := make([]byte, 100_000)
	for i := 0; n > 0 && err == nil; i++ {
		switch i % 3 {
		case 0:
			rnd.Read(buf)
		case 1: // the same again
		case 2:
			clear(buf)
		}
		part := buf[:min(int64(len(buf)), n)]
		_, err = f.Write(part)
		n -= int64(len(part))
	}
	return errors.Join(err, f.Close())
}

func mkext4(image, size, tree string) error {
	cmd := exec.Command("mkfs.ext4", "-q", "-F", "-d", tree, "-U", "11111111-2222-3333-4444-555555555555",
		"-E", "hash_seed=11111111-2222-3333-4444-555555555555", image, size)
	cmd.Env = []string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin", "E2FSPROGS_FAKE_TIME=1700000000", "SOURCE_DATE_EPOCH=1700000000"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return nil
}

func sametree(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: sametree A B")
	}
	a, err := describe(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := describe(ts.MkAbs(args[1]))
	ts.Check(err)
	diff := difference(a, b)
	switch {
	case neg && diff == "":
		ts.Fatalf("%s and %s are the same", args[0], args[1])
	case !neg && diff != "":
		ts.Fatalf("%s and %s differ:\n%s", args[0], args[1], diff)
	}
}

func difference(a, b []string) string {
	var out strings.Builder
	for _, l := range a {
		if !slices.Contains(b, l) {
			fmt.Fprintln(&out, "-", l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			fmt.Fprintln(&out, "+", l)
		}
	}
	return out.String()
}

// describe gives a line for each entry of a tree, with all that an intake promises to keep. It shares no code with the
// programs, on purpose.
func describe(root string) ([]string, error) {
	var lines []string
	first := map[[2]uint64]string{} // name under which an inode was met first
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%q mode %o owner %d:%d mtime %d.%09d", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		kind := st.Mode & unix.S_IFMT
		if kind != unix.S_IFDIR && st.Nlink > 1 {
			id := [2]uint64{uint64(st.Dev), st.Ino}
			if first[id] == "" {
				first[id] = rel
			}
			line += fmt.Sprintf(" links %d same as %q", st.Nlink, first[id])
		}
		x, err := xattrs(p)
		if err != nil {
			return err
		}
		line += x
		switch kind {
		case unix.S_IFREG:
			h, err := digest(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" size %d sha256 %s", st.Size, h)
		case unix.S_IFLNK:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" to %q", to)
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" device %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		lines = append(lines, line)
		return nil
	})
	return lines, err
}

func xattrs(p string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, buf)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	var out strings.Builder
	for _, name := range names {
		if name == "" {
			continue
		}
		v := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(p, name, v)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, " %s=%q", name, v[:n])
	}
	return out.String(), nil
}

func digest(p string) (string, error) {
	f, err := os.Open(p)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func flip(p, offset string) error {
	off, err := strconv.ParseInt(offset, 10, 64)
	if err != nil {
		return err
	}
	fi, err := os.Stat(p)
	if err != nil {
		return err
	}
	if err := os.Chmod(p, 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if off < 0 {
		off += fi.Size()
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, off)
	if err == nil {
		_, err = f.WriteAt([]byte{b[0] ^ 0x10}, off)
	}
	return errors.Join(err, f.Close(), os.Chmod(p, fi.Mode()), os.Chtimes(p, time.Time{}, fi.ModTime()))
}

func pick(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: pick VAR PATTERN [N]")
	}
	files, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	size := func(p string) int64 {
		fi, err := os.Stat(p)
		ts.Check(err)
		return fi.Size()
	}
	slices.SortStableFunc(files, func(a, b string) int { return int(size(b) - size(a)) })
	n := 0
	if len(args) == 3 {
		n, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	if n >= len(files) {
		ts.Fatalf("%d files match %s", len(files), args[1])
	}
	ts.Setenv(args[0], files[n])
}

// resultLine reads stdout as JSON lines, of which the last must be a result.
func resultLine(stdout string) (map[string]any, error) {
	var last map[string]any
	n := 0
	for line := range strings.Lines(stdout) {
		n++
		last = nil
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			return nil, fmt.Errorf("line %d is no JSON: %w: %s", n, err, line)
		}
		if !strings.HasSuffix(line, "\n") {
			return nil, fmt.Errorf("line %d is cut off: %s", n, line)
		}
	}
	if last["type"] != "result" {
		return nil, fmt.Errorf("the last of %d lines is no result: %v", n, last)
	}
	return last, nil
}

func result(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: result FIELD VALUE")
	}
	last, err := resultLine(ts.ReadFile("stdout"))
	ts.Check(err)
	var v any = last
	for _, step := range strings.Split(args[0], ".") {
		m, _ := v.(map[string]any)
		v = m[step]
	}
	got := fmt.Sprint(v)
	if f, ok := v.(float64); ok {
		got = strconv.FormatFloat(f, 'f', -1, 64)
	}
	if (got == args[1]) == neg {
		ts.Fatalf("%s is %s in the result: %v", args[0], got, last)
	}
}

// A comparison that cannot see a difference would let every restore pass.
func TestSametreeSeesEveryDifference(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"content": func(d string) error {
			return os.WriteFile(filepath.Join(d, "executable"), []byte("#!/bin/sh\nexit 1\n"), 0)
		},
		"mode":      func(d string) error { return os.Chmod(filepath.Join(d, "secret"), 0o600) },
		"setuid":    func(d string) error { return os.Chmod(filepath.Join(d, "setuid"), 0o755) },
		"time":      func(d string) error { return syscall.Utimes(filepath.Join(d, "small"), make([]syscall.Timeval, 2)) },
		"xattr":     func(d string) error { return xattr(filepath.Join(d, "small"), "user.note", "other") },
		"hard link": func(d string) error { return breakLink(filepath.Join(d, "deep/hard link")) },
		"symlink": func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "link")), os.Symlink("large", filepath.Join(d, "link")))
		},
		"missing": func(d string) error { return os.Remove(filepath.Join(d, "empty")) },
		"more":    func(d string) error { return os.Mkdir(filepath.Join(d, "new"), 0o755) },
		"type": func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "fifo")), os.WriteFile(filepath.Join(d, "fifo"), nil, 0o640))
		},
	} {
		a, b := t.TempDir(), t.TempDir()
		if err := errors.Join(mktree(a), mktree(b)); err != nil {
			t.Fatal(err)
		}
		if d := diffTrees(t, a, b); d != "" {
			t.Fatalf("two trees made alike differ:\n%s", d)
		}
		if err := change(b); err != nil {
			t.Fatal(err)
		}
		if name != "time" { // the folder's own time would give the others away
			if err := copyTimes(a, b); err != nil {
				t.Fatal(err)
			}
		}
		if diffTrees(t, a, b) == "" {
			t.Errorf("%s: not seen", name)
		}
	}
}

func diffTrees(t *testing.T, a, b string) string {
	la, err := describe(a)
	if err != nil {
		t.Fatal(err)
	}
	lb, err := describe(b)
	if err != nil {
		t.Fatal(err)
	}
	return difference(la, lb)
}

// breakLink makes a file of its own of a name, with the same content.
func breakLink(p string) error {
	text, err := os.ReadFile(p)
	if err != nil {
		return err
	}
	return errors.Join(os.Remove(p), os.WriteFile(p, text, 0o644), xattr(p, "user.note", "kept"))
}

// copyTimes gives what is in both trees the times it has in a.
func copyTimes(a, b string) error {
	return filepath.WalkDir(a, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(a, p)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		err = unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(b, rel), []unix.Timespec{st.Mtim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

// zfsimage makes a sparse file of the four labels that are kept of a device.
func zfsimage(file, name string) error {
	packed, err := os.Open("../detect/zfslabel/testdata/labels.tar.zst")
	if err != nil {
		return err
	}
	defer packed.Close()
	z, err := zstd.NewReader(packed, zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return err
	}
	defer z.Close()
	const label = 256 << 10
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err != nil {
			return fmt.Errorf("fixture %s: %w", name, err)
		}
		length, found := strings.CutPrefix(h.Name, name+".")
		size, err := strconv.ParseInt(length, 10, 64)
		if !found || err != nil {
			continue
		}
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		end := size / label * label
		for _, at := range []int64{0, label, end - 2*label, end - label} {
			if _, err := io.CopyN(io.NewOffsetWriter(f, at), r, label); err != nil {
				return err
			}
		}
		return errors.Join(f.Truncate(size), f.Close())
	}
}

func s3server(ts *testscript.TestScript, _ []string) error {
	mem := s3mem.New()
	if err := mem.CreateBucket("rescue"); err != nil {
		return err
	}
	web := httptest.NewServer(gofakes3.New(mem).Server())
	ts.Defer(web.Close)
	ts.Setenv("AWS_ENDPOINT_URL", web.URL)
	ts.Setenv("AWS_REGION", "us-east-1")
	ts.Setenv("AWS_ACCESS_KEY_ID", "key")
	ts.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	return nil
}
