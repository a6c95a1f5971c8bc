// Package corpus makes the inputs of the benchmark from the machine's own files: two disk images of machines of the same
// kind, and a tree. The same machine, scale and version give the same bytes.
package corpus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"lukechampine.com/blake3"
)

// version changes when the same inputs would give other bytes, so that an older corpus is made again.
const version = 1

// Sizes at scale 1.
const (
	imageBytes  = 4 << 30
	imageSlack  = 8 << 20 // journal and inode tables must fit into the smallest image, too
	diskContent = 3_200_000_000
	treeBytes   = 2_000_000_000
	treeFiles   = 50_000
)

// Config says what to make and from what.
type Config struct {
	Dir   string // everything in it belongs to the corpus
	Scale float64
	Root  string // whose files are used, /usr on a real machine
	Log   io.Writer
}

// Image is one file system image.
type Image struct {
	Name   string
	Size   int64
	Files  int
	Bytes  int64 // content of the files in it
	BLAKE3 string
}

// Corpus is what stands in a directory, as written beside it when all of it was there.
type Corpus struct {
	Dir       string `json:"-"`
	Version   int
	Scale     float64
	Disk      Image
	Disk2     Image
	TreeFiles int
	TreeBytes int64
	Generated int // files that the machine did not have
	Removed   int
	Edited    int
	Added     int
}

// DiskPath, Disk2Path and TreePath are the three inputs.
func (c *Corpus) DiskPath() string  { return filepath.Join(c.Dir, "disk.img") }
func (c *Corpus) Disk2Path() string { return filepath.Join(c.Dir, "disk2.img") }
func (c *Corpus) TreePath() string  { return filepath.Join(c.Dir, "tree") }

// Ensure returns the corpus in cfg.Dir, and makes it if it is not there, not complete, or another one.
func Ensure(ctx context.Context, cfg Config) (*Corpus, error) {
	if cfg.Scale <= 0 || cfg.Scale > 4 {
		return nil, fmt.Errorf("corpus: scale %g is not between 0 and 4", cfg.Scale)
	}
	if c, err := load(cfg); err == nil {
		fmt.Fprintln(cfg.Log, "corpus: reused:", c)
		return c, nil
	}
	c, err := build(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("corpus: %w", err)
	}
	fmt.Fprintln(cfg.Log, "corpus: made:", c)
	return c, nil
}

func (c *Corpus) String() string {
	return fmt.Sprintf("%s: disk.img %d MB with %d files of %d MB, disk2.img with %d files of %d MB (%d removed, %d edited, %d added), tree %d files of %d MB; %d generated",
		c.Dir, c.Disk.Size/1e6, c.Disk.Files, c.Disk.Bytes/1e6, c.Disk2.Files, c.Disk2.Bytes/1e6,
		c.Removed, c.Edited, c.Added, c.TreeFiles, c.TreeBytes/1e6, c.Generated)
}

func manifestPath(dir string) string { return filepath.Join(dir, "corpus.json") }

func load(cfg Config) (*Corpus, error) {
	text, err := os.ReadFile(manifestPath(cfg.Dir))
	if err != nil {
		return nil, err
	}
	c := &Corpus{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, err
	}
	c.Dir = cfg.Dir
	if c.Version != version || c.Scale != cfg.Scale {
		return nil, errors.New("another corpus")
	}
	for _, i := range []Image{c.Disk, c.Disk2} {
		if st, err := os.Stat(filepath.Join(cfg.Dir, i.Name)); err != nil || st.Size() != i.Size {
			return nil, fmt.Errorf("%s is not complete", i.Name)
		}
	}
	if n, bytes, err := countTree(c.TreePath()); err != nil || n != c.TreeFiles || bytes != c.TreeBytes {
		return nil, errors.New("tree is not complete")
	}
	return c, nil
}

func countTree(dir string) (n int, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err == nil {
			n++
			bytes += st.Size()
		}
		return err
	})
	return n, bytes, err
}

func build(ctx context.Context, cfg Config) (*Corpus, error) {
	if err := haveTools(); err != nil {
		return nil, err
	}
	if err := clear(cfg.Dir); err != nil {
		return nil, err
	}
	all, err := scan(cfg.Root)
	if err != nil {
		return nil, err
	}
	c := &Corpus{Dir: cfg.Dir, Version: version, Scale: cfg.Scale}
	if err := buildDisks(ctx, cfg, c, all); err != nil {
		return nil, err
	}
	if err := buildTree(ctx, cfg, c, all); err != nil {
		return nil, err
	}
	return c, writeManifest(c)
}

// clear removes an older or torn corpus, and nothing that it does not know.
func clear(dir string) error {
	for _, name := range []string{"corpus.json", "disk.img", "disk2.img", "tree", "stage"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return os.MkdirAll(dir, 0o755)
}

func buildDisks(ctx context.Context, cfg Config, c *Corpus, all []file) error {
	want := int64(diskContent * cfg.Scale)
	first, rest := pick(all, "disk", want, 0)
	first, made := fill(first, "disk", want, 0)
	c.Generated += made
	second, counts := another(first, rest)
	c.Removed, c.Edited, c.Added = counts.removed, counts.edited, counts.added
	size := (int64(imageBytes*cfg.Scale) + imageSlack) >> 20 << 20
	var err error
	if c.Disk, err = makeImage(ctx, cfg, "disk.img", size, first, false); err != nil {
		return err
	}
	c.Disk2, err = makeImage(ctx, cfg, "disk2.img", size, second, true)
	return err
}

func buildTree(ctx context.Context, cfg Config, c *Corpus, all []file) error {
	want, count := int64(treeBytes*cfg.Scale), int(treeFiles*cfg.Scale)
	files, _ := pick(all, "tree", want, count)
	files, made := fill(files, "tree", want, count)
	c.Generated += made
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.writeTo(filepath.Join(c.TreePath(), f.name)); err != nil {
			return err
		}
	}
	var err error
	c.TreeFiles, c.TreeBytes, err = countTree(c.TreePath())
	return err
}

// writeManifest comes last: its presence says that everything else is there.
func writeManifest(c *Corpus) error {
	text, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		return err
	}
	tmp := manifestPath(c.Dir) + ".new"
	if err := os.WriteFile(tmp, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, manifestPath(c.Dir))
}

// Digest is the BLAKE3 of a file as hex.
func Digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := blake3.New(32, nil)
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, 256<<10)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
