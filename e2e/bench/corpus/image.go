package corpus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	fsUUID   = "6d9a6d3c-1111-4222-8333-444455556666"
	hashSeed = "6d9a6d3c-1111-4222-8333-444455556667"
)

var fsTools = []string{"mke2fs", "debugfs", "e2fsck"}

func haveTools() error {
	for _, t := range fsTools {
		if _, err := tool(t); err != nil {
			return err
		}
	}
	return nil
}

// tool looks into the sbin folders, too: they are not on every user's PATH.
func tool(name string) (string, error) {
	for _, p := range []string{name, "/usr/sbin/" + name, "/sbin/" + name} {
		if path, err := exec.LookPath(p); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not on this machine: install e2fsprogs", name)
}

// makeImage writes an ext4 image with mke2fs and fills it with debugfs. mke2fs -d would take the order of directories and
// the change times from the machine's file system, so that no image could be made twice and no order be chosen.
func makeImage(ctx context.Context, cfg Config, name string, size int64, files []file, shuffle bool) (Image, error) {
	path, stage := filepath.Join(cfg.Dir, name), filepath.Join(cfg.Dir, "stage")
	defer os.RemoveAll(stage)
	script, bytes, err := fillScript(files, stage, shuffle)
	if err != nil {
		return Image{}, err
	}
	if err := os.WriteFile(filepath.Join(stage, "script"), script, 0o644); err != nil {
		return Image{}, err
	}
	if err := format(ctx, path, size, filepath.Join(stage, "script")); err != nil {
		return Image{}, fmt.Errorf("%s: %w", name, err)
	}
	sum, err := Digest(path)
	return Image{Name: name, Size: size, Files: len(files), Bytes: bytes, BLAKE3: sum}, err
}

func format(ctx context.Context, path string, size int64, script string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	steps := [][]string{
		{"mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", "bench", "-U", fsUUID,
			"-E", "hash_seed=" + hashSeed + ",root_owner=0:0,nodiscard,lazy_itable_init=1,lazy_journal_init=1", path},
		{"debugfs", "-w", "-f", script, path},
		{"e2fsck", "-fn", path},
	}
	for _, s := range steps {
		if err := runTool(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// runTool runs one of e2fsprogs at a fixed time. debugfs exits 0 whatever happened: what it says beside its banner counts.
func runTool(ctx context.Context, argv []string) error {
	bin, err := tool(argv[0])
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, bin, argv[1:]...)
	now := fmt.Sprint(stamp.Unix())
	cmd.Env = []string{"E2FSPROGS_FAKE_TIME=" + now, "SOURCE_DATE_EPOCH=" + now, "MKE2FS_CONFIG=/dev/null", "LC_ALL=C", "PAGER=cat"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Run()
	_, said, _ := strings.Cut(stderr.String(), "\n")
	if err != nil || (argv[0] == "debugfs" && strings.TrimSpace(said) != "") {
		return fmt.Errorf("%s: %w: %s", argv[0], errors.Join(err, errors.New("failed")), stderr.String())
	}
	return nil
}

// fillScript is what debugfs shall do, directory by directory; edited and generated files are put into stage before.
func fillScript(files []file, stage string, shuffle bool) (script []byte, sum int64, err error) {
	var b bytes.Buffer
	made, staged := map[string]bool{".": true}, 0
	if err := os.MkdirAll(stage, 0o755); err != nil {
		return nil, 0, err
	}
	for _, group := range byDir(files, shuffle) {
		dir := filepath.Dir(group[0].name)
		mkdirs(&b, made, dir)
		fmt.Fprintln(&b, cd(dir))
		for _, f := range group {
			from := f.from
			if f.from == "" || f.edit {
				from = filepath.Join(stage, fmt.Sprintf("%06d", staged))
				staged++
				if err := f.writeTo(from); err != nil {
					return nil, 0, err
				}
			}
			sum += f.size
			fmt.Fprintf(&b, "write %s %s\n", from, filepath.Base(f.name))
		}
	}
	return b.Bytes(), sum, nil
}

func mkdirs(b *bytes.Buffer, made map[string]bool, dir string) {
	if made[dir] {
		return
	}
	mkdirs(b, made, filepath.Dir(dir))
	made[dir] = true
	fmt.Fprintf(b, "%s\nmkdir %s\n", cd(filepath.Dir(dir)), filepath.Base(dir))
}

func cd(dir string) string { return "cd /" + strings.TrimPrefix(dir, ".") }

// byDir groups files by directory. The second machine made its directories in another order, which lays out
// everything elsewhere on its disk.
func byDir(files []file, shuffle bool) [][]file {
	var groups [][]file
	at := map[string]int{}
	for _, f := range files {
		dir := filepath.Dir(f.name)
		i, ok := at[dir]
		if !ok {
			i = len(groups)
			at[dir] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], f)
	}
	if shuffle {
		rand.New(rand.NewPCG(2, 2)).Shuffle(len(groups), func(i, j int) { groups[i], groups[j] = groups[j], groups[i] })
	}
	return groups
}
