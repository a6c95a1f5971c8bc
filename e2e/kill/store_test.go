package kill

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// seen is a file of a store as it was when it was first met.
type seen struct {
	ino          uint64
	size         int64
	mode         fs.FileMode
	mtime, ctime syscall.Timespec
	sum          [32]byte
}

// watch knows every file that a store ever held.
type watch map[string]seen

// look holds the store against what it held before, and takes in what is new. Every write, truncation, renaming or change
// of mode moves a file's ctime, so files are read again only if reread says so.
func (w watch) look(dir string, reread bool) error {
	var errs []error
	there := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		there[path] = true
		now, err := stat(path)
		if err != nil {
			return err
		}
		was, met := w[path]
		if !met || reread {
			if now.sum, err = sum(path); err != nil {
				return err
			}
		} else {
			now.sum = was.sum
		}
		if met && now != was {
			errs = append(errs, fmt.Errorf("%s was changed:\n  from %+v\n  to   %+v", path, was, now))
		}
		w[path] = now
		return nil
	})
	for path := range w {
		if !there[path] {
			errs = append(errs, fmt.Errorf("%s is gone", path))
		}
	}
	return errors.Join(append(errs, err)...)
}

// leftovers counts the files that dead writers left.
func (w watch) leftovers() (n int) {
	for path := range w {
		if strings.HasPrefix(filepath.Base(path), ".tmp-") {
			n++
		}
	}
	return n
}

func stat(path string) (seen, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return seen{}, err
	}
	st := fi.Sys().(*syscall.Stat_t)
	return seen{ino: st.Ino, size: fi.Size(), mode: fi.Mode(), mtime: st.Mtim, ctime: st.Ctim}, nil
}

func sum(path string) (s [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [32]byte(h.Sum(nil)), err
}

// describe gives what a restore must bring back of a tree, one line a name.
func describe(root string) (map[string]string, error) {
	all := map[string]string{}
	names := map[uint64][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || rel == "." {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		what := ""
		switch {
		case fi.Mode().IsRegular():
			s, err := sum(path)
			if err != nil {
				return err
			}
			what = fmt.Sprintf("%d bytes %x", fi.Size(), s[:8])
			if st.Nlink > 1 {
				names[st.Ino] = append(names[st.Ino], rel)
			}
		case fi.Mode()&fs.ModeSymlink != 0:
			if what, err = os.Readlink(path); err != nil {
				return err
			}
		}
		all[rel] = fmt.Sprintf("%v %d:%d %d.%09d %s", fi.Mode(), st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec, what)
		return nil
	})
	for _, same := range names {
		slices.Sort(same)
		for _, name := range same {
			all[name] += fmt.Sprintf(" also %q", same)
		}
	}
	return all, err
}

// compare says how two trees differ.
func compare(want, got string) error {
	a, err := describe(want)
	if err != nil {
		return err
	}
	b, err := describe(got)
	if err != nil {
		return err
	}
	var errs []error
	for name, x := range a {
		if y := b[name]; x != y {
			errs = append(errs, fmt.Errorf("%q: want %s\n   got %s", name, x, y))
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			errs = append(errs, fmt.Errorf("%q was not in the source", name))
		}
	}
	if len(errs) > 10 {
		errs = append(errs[:10], fmt.Errorf("and %d more", len(errs)-10))
	}
	return errors.Join(errs...)
}
