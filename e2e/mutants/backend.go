package main

// backendMutants hurt what makes a file durable and keeps it as it is.
func backendMutants() []mutant {
	const create, initial, local, vfs = "backends/local/create.go", "backends/local/init.go", "backends/local/local.go", "engine/vfs/os.go"
	steps := []step{localTests, localFaults, localPower, crashOne}
	return []mutant{
		{"local: no fsync of a file", create, []string{"\treturn f.Sync()\n", "\treturn nil\n"}, steps},
		{"local: no fsync of the folder after publishing", create, []string{"\t\tb.fs.Remove(tmp)\n\t\treturn meaning(err)\n\t}\n\treturn meaning(b.fs.SyncDir(path.Dir(file)))", "\t\tb.fs.Remove(tmp)\n\t\treturn meaning(err)\n\t}\n\treturn nil"}, steps},
		{"local: no fsync of a file that another made", create, []string{"\tif err := f.Sync(); err != nil {\n\t\treturn meaning(err)\n\t}\n\tf.Uncached()", "\tf.Uncached()"}, steps},
		{"local: no fsync of the folder for a file that another made", create, []string{"\tif same {\n\t\treturn meaning(b.fs.SyncDir(path.Dir(file)))", "\tif same {\n\t\treturn nil"}, steps},
		{"local: equality is asked of the cache", create, []string{"\tf.Uncached()\n\tsame, err", "\tsame, err"}, steps},
		{"local: other bytes under a name are taken for the same", create, []string{"\tif same {", "\tif same || true {"}, steps},
		{"local: damage under a name is called a conflict", create, []string{"if artifact.HashBytes(stored) != want {", "if artifact.HashBytes(stored) != want && false {"}, steps},
		{"local: equality looks at the first bytes only", create, []string{"if off+n > len(data) || !bytes.Equal(buf[:n], data[off:off+n]) {", "if off+n > len(data) || !bytes.Equal(buf[:min(n, 16)], data[off:][:min(n, 16)]) {"}, steps},
		{"local: a domain's folder is not durable", create, []string{"\tif err := b.fs.SyncDir(path.Dir(dir)); err != nil {\n\t\treturn err\n\t}\n", ""}, steps},
		{"local: names found at opening are not made durable", create, []string{"if err := b.fs.SyncDir(dir); err != nil {", "if err := error(nil); err != nil && dir != \"\" {"}, steps},
		{"local: blocks/ is not made durable at opening", create, []string{"if err := b.fs.SyncDir(\"blocks\"); err != nil {", "if err := error(nil); err != nil {"}, steps},
		{"local: the root is not made durable at opening", create, []string{"if err := b.fs.SyncDir(\".\"); err != nil {", "if err := error(nil); err != nil {"}, steps},
		{"local: errors of writing are ignored", create, []string{"\terr = fill(f, data)\n", "\t_ = fill(f, data)\n"}, steps},
		{"local: errors of closing are ignored", create, []string{"if cerr := f.Close(); err == nil {", "if cerr := f.Close(); err == nil && false {"}, steps},
		{"local: short writes are taken for whole", create, []string{"if n != len(data) {", "if n < 0 {"}, steps},
		{"local: after a failed fsync the file is synced again", create, []string{"\treturn f.Sync()\n", "\tif err := f.Sync(); err != nil {\n\t\treturn f.Sync()\n\t}\n\treturn nil\n"}, steps},
		{"local: a file is written under its final name", create, []string{"\ttmp, err := b.write(path.Dir(file), data)\n", "\ttmp, err := b.write(path.Dir(file), data)\n\tif err == nil {\n\t\tif f, cerr := b.fs.CreateExcl(file, filePerm); cerr == nil {\n\t\t\terr = fill(f, data)\n\t\t\tf.Close()\n\t\t\tb.fs.Remove(tmp)\n\t\t\treturn meaning(err)\n\t\t}\n\t}\n"}, steps},
		{"local: a way that replaces what is there is taken for good", create, []string{"return errUnfit // it replaced what was there", "return nil"}, steps},
		{"local: files stay writable", local, []string{"filePerm = 0o444", "filePerm = 0o644"}, steps},
		{"local: the beginning of a store is opened as one", local, []string{"if !found.complete() {", "if len(found.tops) == 0 {"}, steps},
		{"local: new folders are not durable", initial, []string{"return b.fs.SyncDir(path.Dir(names[0]))", "return nil"}, steps},
		{"local: the store's own folder is not durable", initial, []string{"return parent.SyncDir(\".\")", "return nil"}, steps},
		{"local: a store is made among foreign files", initial, []string{"if len(strange) > 0 {", "if len(strange) > 1<<30 {"}, steps},
		{"vfs: creation is not exclusive", vfs, []string{"os.O_WRONLY|os.O_CREATE|os.O_EXCL", "os.O_WRONLY|os.O_CREATE"}, []step{vfsTests, localTests}},
		{"vfs: renaming replaces", vfs, []string{"newbase, unix.RENAME_NOREPLACE)", "newbase, 0)"}, []step{vfsTests, localTests}},
		{"vfs: folders are not synced", vfs, []string{"return errors.Join(f.Sync(), f.Close())", "return f.Close()"}, []step{vfsTests, localTests, calls}},
		{"vfs: files are not synced", vfs, []string{"func (f *osFile) Size() int64 { return f.size }", "func (f *osFile) Size() int64 { return f.size }\n\nfunc (f *osFile) Sync() error { return nil }"}, []step{vfsTests, localTests, calls}},
		{"vfs: reads past the cache come from the beginning", vfs, []string{"f.direct.ReadAt(p[:long], off)", "f.direct.ReadAt(p[:long], 0)"}, []step{vfsTests, localTests, kills}},
		{"vfs: writes past the cache are taken for all", vfs, []string{"\tm, err := f.File.Write(p[n:])\n\treturn n + m, err\n", "\tif n > 0 {\n\t\treturn len(p), nil\n\t}\n\tm, err := f.File.Write(p[n:])\n\treturn n + m, err\n"}, []step{vfsTests, localTests}},
		{"vfs: a symbolic link is opened", vfs, []string{"unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)", "unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)"}, []step{vfsTests, localTests}},
	}
}
