package local

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
	"aslrescue/engine/vfs"
)

// Create makes an empty store and opens it. The folder must be empty, or hold no more than an earlier Create that was
// interrupted left there; then it goes on. It is fs.ErrExist if a store with objects is there, ErrForeign if anything
// else is, and nothing is touched.
func Create(fsys vfs.FS, where string, opts ...Option) (store.Backend, error) {
	b := newBackend(fsys, where, opts)
	if err := b.init(); err != nil {
		return nil, fmt.Errorf("new store in %s: %w", where, err)
	}
	return b, nil
}

func (b *backend) init() error {
	found, err := b.survey()
	if err != nil {
		return meaning(err)
	}
	if err := found.vacant(b.fs); err != nil {
		return err
	}
	if err := b.open("."); err != nil { // before anything stays, so that an unfit medium is left as it was
		return err
	}
	if b.info.ReadOnly {
		return artifact.ErrReadOnly
	}
	return meaning(b.skeleton())
}

// skeleton makes the folders. In whatever order a crash leaves them, it is a store only with the last of them.
func (b *backend) skeleton() error {
	if err := b.mkdirs("blocks", "segments", "snapshots", "logs"); err != nil {
		return err
	}
	var fans []string
	for i := range 256 {
		fans = append(fans, fan(i))
	}
	return b.mkdirs(fans...)
}

// mkdirs makes folders beside each other that may be there, durably.
func (b *backend) mkdirs(names ...string) error {
	for _, name := range names {
		if err := b.fs.Mkdir(name, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return b.fs.SyncDir(path.Dir(names[0]))
}

// fan is the i-th folder of blocks.
func fan(i int) string { return fmt.Sprintf("blocks/%02x", i) }

// survey is what stands in a folder, above the objects.
type survey struct {
	tops    []string // of blocks, segments, snapshots, logs
	fans    int      // folders of blocks
	domains []string // folders of snapshots and logs
	foreign []string
}

func (s survey) complete() bool { return len(s.tops) == 4 && s.fans == 256 }

func (s survey) describe() string {
	if len(s.tops) == 0 {
		return "the folder has no blocks, segments, snapshots, logs"
	}
	return fmt.Sprintf("only the beginning of one (%s; %d of 256 folders of blocks)", strings.Join(s.tops, ", "), s.fans)
}

// survey looks at the folder without changing it.
func (b *backend) survey() (survey, error) {
	var s survey
	list, err := b.fs.ReadDir(".")
	if err != nil {
		return s, err
	}
	for _, e := range list {
		switch name := e.Name(); {
		case e.IsDir() && (name == "blocks" || name == "segments" || name == "snapshots" || name == "logs"):
			s.tops = append(s.tops, name)
		case e.IsDir() && (name == "lost+found" || name == ".zfs"): // of the file system, not of anybody
		default:
			s.foreign = append(s.foreign, name)
		}
	}
	for _, top := range s.tops {
		if top == "segments" { // holds objects only
			continue
		}
		list, err := b.fs.ReadDir(top)
		if err != nil {
			return s, err
		}
		for _, e := range list {
			switch name := top + "/" + e.Name(); {
			case top == "blocks" && e.IsDir() && isFan(e.Name()):
				s.fans++
			case top != "blocks" && e.IsDir() && store.CheckName(name+"/0") == nil:
				s.domains = append(s.domains, name)
			default:
				s.foreign = append(s.foreign, name)
			}
		}
	}
	return s, nil
}

func isFan(name string) bool { return len(name) == 2 && strings.Trim(name, "0123456789abcdef") == "" }

// vacant is nil if a store may be made here.
func (s survey) vacant(fsys vfs.FS) error {
	objects, foreign, err := s.inside(fsys)
	if err != nil {
		return err
	}
	var strange []string
	for _, name := range append(s.foreign, foreign...) {
		if !isProof(fsys, name) {
			strange = append(strange, name)
		}
	}
	if s.complete() && (len(objects) > 0 || len(s.domains) > 0) {
		return fmt.Errorf("there is a store already: %w", fs.ErrExist)
	}
	strange = append(strange, objects...)
	strange = append(strange, s.domains...)
	if len(strange) > 0 {
		return fmt.Errorf("%w: %s; choose an empty folder, nothing was changed", ErrForeign, some(strange))
	}
	return nil
}

// inside lists what lies in blocks' folders and in segments, where an unused skeleton has nothing.
func (s survey) inside(fsys vfs.FS) (objects, foreign []string, err error) {
	for _, top := range s.tops {
		switch top {
		case "segments":
			objects, foreign, err = sift(fsys, top, objects, foreign)
		case "blocks":
			for i := 0; i < 256 && err == nil; i++ {
				objects, foreign, err = sift(fsys, fan(i), objects, foreign)
			}
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return objects, foreign, nil
}

// sift adds the names in dir to those of objects and of others.
func sift(fsys vfs.FS, dir string, objects, foreign []string) (o, f []string, err error) {
	list, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return objects, foreign, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, e := range list {
		name := path.Join(dir, e.Name())
		if isObject(name, e) {
			objects = append(objects, name)
		} else {
			foreign = append(foreign, name)
		}
	}
	return objects, foreign, nil
}

// isObject tells whether a directory entry is one of ours.
func isObject(file string, e fs.DirEntry) bool {
	if !e.Type().IsRegular() {
		return false
	}
	at, err := place(objectName(file))
	return err == nil && at == file
}

// objectName is the name of the object in a file.
func objectName(file string) string {
	if strings.HasPrefix(file, "blocks/") {
		return "blocks/" + path.Base(file)
	}
	return file
}

// isProof tells whether a name is what a proof that was interrupted leaves: one of our temporary names, and empty.
func isProof(fsys vfs.FS, name string) bool {
	random, ok := strings.CutPrefix(path.Base(name), TempPrefix)
	if !ok || len(random) != 32 || strings.Trim(random, "0123456789abcdef") != "" {
		return false
	}
	fi, err := fsys.Stat(name)
	return err == nil && fi.Mode().IsRegular() && fi.Size() == 0
}

// some is the first few of a list, for a sentence.
func some(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// OpenPath opens the store in a folder of this machine.
func OpenPath(dir string, opts ...Option) (store.Backend, error) {
	return atPath(dir, Open, opts)
}

// CreatePath makes a store in a folder of this machine, and the folder itself if only that is missing.
func CreatePath(dir string, opts ...Option) (store.Backend, error) {
	if err := makeRootAt(dir); err != nil {
		return nil, fmt.Errorf("new store in %s: %w", dir, meaning(err))
	}
	return atPath(dir, Create, opts)
}

func atPath(dir string, open func(vfs.FS, string, ...Option) (store.Backend, error), opts []Option) (store.Backend, error) {
	d, err := vfs.OS(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("store in %s: %w: %w", dir, ErrNoStore, err)
	}
	if err != nil {
		return nil, fmt.Errorf("store in %s: %w", dir, absence(err))
	}
	b, err := open(d, dir, append([]Option{Free(d.Free)}, opts...)...)
	if err != nil {
		d.Close()
		return nil, err
	}
	return b, nil
}

func makeRootAt(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil || abs == "/" {
		return err
	}
	parent, err := vfs.OS(filepath.Dir(abs))
	if err != nil {
		return err
	}
	defer parent.Close()
	return makeRoot(parent, filepath.Base(abs))
}

// makeRoot makes the folder of a store durably, if it is missing.
func makeRoot(parent vfs.FS, name string) error {
	err := parent.Mkdir(name, dirPerm)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return parent.SyncDir(".")
}
