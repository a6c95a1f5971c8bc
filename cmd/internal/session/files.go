package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/approval"
	"aslrescue/engine/source"
)

// fileMount is mounting one partition, or an image of one, so that nothing is written to it, and taking its files.
type fileMount struct {
	info  source.Info
	kind  string // of the file system
	dir   string
	sheet approval.Sheet
	holds bool // it is mounted
}

// Sheet is what is consented to.
func (m *fileMount) Sheet() approval.Sheet { return m.sheet }

// quietOptions mount a file system so that not even its journal is replayed. They were measured, byte for byte, on file systems that were not unmounted;
// a plain ro writes to such.
func quietOptions(kind string) (options string, ok bool) {
	o, ok := map[string]string{
		"ext4": "ro,noload", "xfs": "ro,norecovery,nouuid", "btrfs": "ro,rescue=all", "f2fs": "ro,norecovery",
		"vfat": "ro", "exfat": "ro", "iso9660": "ro", "squashfs": "ro", "erofs": "ro", "udf": "ro",
	}[kind]
	return o, ok
}

// fileSystemAt tells the kind of file system by what stands where each has its mark.
func fileSystemAt(r io.ReaderAt) string {
	for _, m := range []struct {
		kind string
		off  int64
		mark string
	}{
		{"ext4", 1024 + 0x38, "\x53\xef"}, {"xfs", 0, "XFSB"}, {"btrfs", 0x10040, "_BHRfS_M"}, {"f2fs", 1024, "\x10\x20\xf5\xf2"}, {"ntfs", 3, "NTFS    "}, {"exfat", 3, "EXFAT   "},
		{"squashfs", 0, "hsqs"}, {"erofs", 1024, "\xe2\xe1\xf5\xe0"}, {"iso9660", 0x8001, "CD001"}, {"vfat", 54, "FAT"}, {"vfat", 82, "FAT32"},
	} {
		b := make([]byte, len(m.mark))
		if n, _ := r.ReadAt(b, m.off); n == len(b) && string(b) == m.mark {
			return m.kind
		}
	}
	return ""
}

// chooseFiles puts in the place of every disk and image the files on it. Nothing is mounted yet.
func (j *intakeJob) chooseFiles(ctx context.Context) error {
	for i, lin := range j.disks() {
		m, err := j.planFiles(ctx, lin)
		if err != nil {
			return err
		}
		j.mounts = append(j.mounts, m)
		j.sources[i] = &mountedFiles{m: m, was: lin}
	}
	if len(j.mounts) == 0 {
		return report.Usagef("--files is for partitions and images of them; a directory is taken as it is")
	}
	return nil
}

func (j *intakeJob) planFiles(ctx context.Context, lin source.Linear) (*fileMount, error) {
	info := lin.Info()
	kind := fileSystemAt(readerAt{ctx, lin})
	options, ok := quietOptions(kind)
	if !ok {
		why := "no file system that is known here begins there; of a disk with partitions, name the partition"
		if kind == "ntfs" {
			why = "NTFS cannot be mounted by this kernel without its log being replayed, which writes; take the disk in whole"
		}
		return nil, report.Usagef("--files: %s: %s", info.Path, why)
	}
	options += ",nodev,nosuid,noexec"
	if info.Kind == source.Image {
		options += ",loop"
	}
	m := &fileMount{info: info, kind: kind, dir: filepath.Join(or(j.o.runDir, RunDir), "files", choiceID(info))}
	m.sheet = approval.Sheet{Verb: "files", ID: choiceID(info), Gate: approval.Reversible, What: fmt.Sprintf("mount %s (%s) so that nothing is written to it, not even its journal, and take its files", info.Path, kind),
		Things:   []approval.Thing{{Kind: "disk", ID: info.ID, Name: info.Path}},
		Commands: [][]string{{"mount", "-t", kind, "-o", options, info.Path, m.dir}, {"umount", m.dir}},
		Changes:  []string{"nothing on the medium", "what was written last before a crash may be missing: the journal is not replayed"},
		Undo:     "it is unmounted at the end",
	}
	return m, nil
}

// consentFiles asks for the mounts, and does them.
func (j *intakeJob) consentFiles(ctx context.Context) error {
	for _, m := range j.mounts {
		a, err := approval.ByToken(m, j.o.approve...)
		if err != nil {
			return &report.Error{What: m.sheet.What, Err: err, Next: []string{"read what would be done: the same command with --dry-run prints it", "to approve exactly that: --approve " + approval.TokenOf(m)}}
		}
		j.consents = append(j.consents, a.Record(time.Now()))
		if err := m.mount(ctx, a); err != nil {
			return &report.Error{What: m.sheet.What, Err: err, Code: report.Failed, Next: []string{"take it in whole, without --files: that needs no mount", "dmesg says what the kernel thinks of it"}}
		}
	}
	return nil
}

// mount does what was approved and nothing else.
func (m *fileMount) mount(ctx context.Context, a approval.Approved[*fileMount]) error {
	if err := a.Holds(m); err != nil {
		return err
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	if err := runTool(ctx, m.sheet.Commands[0]); err != nil {
		_ = os.Remove(m.dir) // it is empty, and made above
		return err
	}
	m.holds = true
	return nil
}

func (m *fileMount) unmount() error {
	if !m.holds {
		return nil
	}
	m.holds = false
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // also after the operator's stop
	defer cancel()
	return errors.Join(runTool(ctx, m.sheet.Commands[1]), os.Remove(m.dir))
}

func runTool(ctx context.Context, argv []string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", approval.Line(argv), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// mountedFiles is the tree of files on a partition. It is opened when it is mounted; until then it can only say what it is.
type mountedFiles struct {
	source.TreeSource
	m   *fileMount
	was source.Linear
}

// Info is the partition's: where it is mounted means nothing at the next boot.
func (f *mountedFiles) Info() source.Info {
	i := f.m.info
	i.Kind, i.Size = source.Tree, -1
	i.ID = "files " + i.ID + " " + f.m.kind
	return i
}

func (f *mountedFiles) open() error {
	t, err := source.OpenTree(f.m.dir)
	if err != nil {
		return err
	}
	f.TreeSource = t
	return nil
}

// Close unmounts.
func (f *mountedFiles) Close() error {
	var errs []error
	if f.TreeSource != nil {
		errs = append(errs, f.TreeSource.Close())
	}
	return errors.Join(append(errs, f.m.unmount(), f.was.Close())...)
}

// openFiles opens what was mounted.
func (j *intakeJob) openFiles() error {
	for _, s := range j.sources {
		if f, ok := s.(*mountedFiles); ok {
			if err := f.open(); err != nil {
				return &report.Error{What: "open the files of " + f.m.info.Path, Err: err}
			}
		}
	}
	return nil
}
