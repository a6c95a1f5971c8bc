// Package vfs is the few file verbs on which durability hangs. Where power loss matters, the store goes through an FS
// and nothing else, so that a test can lose, tear and reorder what was not synced, or fail the n-th call.
//
// Names are slash-separated and relative to the root of the FS; "." is the root.
package vfs

import (
	"io"
	"io/fs"
)

// FS is a folder on some medium. All methods may be called from several goroutines at once. Errors wrap the
// fs.ErrExist, fs.ErrNotExist, fs.ErrPermission and syscall.Errno values that they mean.
type FS interface {
	// CreateExcl makes a new file and opens it for writing; fs.ErrExist if the name is taken.
	CreateExcl(name string, perm fs.FileMode) (File, error)
	// Open opens a regular file for reading; anything else is fs.ErrInvalid.
	Open(name string) (ReadFile, error)
	// RenameNoReplace gives a file another name; fs.ErrExist if that is taken, errors.ErrUnsupported where the
	// medium cannot promise that.
	RenameNoReplace(oldname, newname string) error
	// Link gives a file a second name; fs.ErrExist if that is taken, errors.ErrUnsupported where there are no hard links.
	Link(oldname, newname string) error
	// Remove takes a name away. The store does this to its own temporary names only.
	Remove(name string) error
	// Mkdir makes one folder; fs.ErrExist if the name is taken.
	Mkdir(name string, perm fs.FileMode) error
	// SyncDir makes the names in a folder durable.
	SyncDir(name string) error
	// Stat tells size and mode; a symbolic link is not followed.
	Stat(name string) (fs.FileInfo, error)
	// ReadDir lists a folder, sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Close lets go of the folder, so that its medium can be unmounted.
	Close() error
}

// File is a file being written. After an error of Write, Sync or Close nothing is known of its content any more:
// the file must not be synced again, renamed into place or trusted.
type File interface {
	io.Writer
	// Chmod sets the permission bits.
	Chmod(mode fs.FileMode) error
	// Sync makes the content durable.
	Sync() error
	// Uncached says that nobody will read this file soon. Before Write, what is written goes past the system's cache where the medium
	// can; after Sync, what is cached of it is dropped. Best effort.
	Uncached()
	Close() error
}

// ReadFile is a file being read.
type ReadFile interface {
	io.ReaderAt
	io.Closer
	// Size is the length in bytes when the file was opened.
	Size() int64
	// Sync makes content durable that somebody else wrote.
	Sync() error
	// Uncached drops what the system caches of this file, so that the next read asks the medium. Best effort.
	Uncached()
}
