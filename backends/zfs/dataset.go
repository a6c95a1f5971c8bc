package zfs

import (
	"errors"
	"fmt"

	gozfs "github.com/mistifyio/go-zfs/v3"
)

// Dataset is what is known of a dataset.
type Dataset struct {
	Name        string
	Type        string // filesystem, volume
	Used        int64  // bytes
	Avail       int64
	Compression string // off, lz4, zstd …
	Locked      bool   // encrypted, and the key is not loaded
}

// Compresses tells whether ZFS compresses what is written. Then it is not compressed twice.
func (d Dataset) Compresses() bool { return d.Compression != "" && d.Compression != "off" }

// Datasets are what is done to datasets of an imported pool.
type Datasets interface {
	Get(name string) (Dataset, error)
	Create(name string, properties map[string]string) error
	Snapshot(name, snapshot string) error
}

// GoZFS does it by the module go-zfs, which calls zfs.
type GoZFS struct{}

// Get reads a dataset.
func (GoZFS) Get(name string) (Dataset, error) {
	d, err := gozfs.GetDataset(name)
	if err != nil {
		return Dataset{}, spoken("look at the dataset "+name, err)
	}
	status, err := d.GetProperty("keystatus")
	if err != nil {
		return Dataset{}, spoken("look at the key of "+name, err)
	}
	return Dataset{Name: d.Name, Type: d.Type, Used: int64(d.Used), Avail: int64(d.Avail), Compression: d.Compression, Locked: status == "unavailable"}, nil
}

// Create makes a dataset.
func (GoZFS) Create(name string, properties map[string]string) error {
	_, err := gozfs.CreateFilesystem(name, properties)
	return spoken("make the dataset "+name, err)
}

// Snapshot makes a snapshot in the sense of ZFS.
func (GoZFS) Snapshot(name, snapshot string) error {
	d, err := gozfs.GetDataset(name)
	if err == nil {
		_, err = d.Snapshot(snapshot, false)
	}
	return spoken(fmt.Sprintf("make the ZFS snapshot %s@%s", name, snapshot), err)
}

// spoken turns an error of go-zfs into one of ours.
func spoken(what string, err error) error {
	if err == nil {
		return nil
	}
	var said *gozfs.Error
	if errors.As(err, &said) && said.Stderr != "" {
		return told(what, said.Stderr)
	}
	return told(what, err.Error())
}
