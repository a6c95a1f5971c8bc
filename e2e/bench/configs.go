package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// A scenario is one thing that is measured. Those of a chain run on one store, in this order: restore comes before the second
// disk, so that "latest" is the first.
type scenario struct {
	name, title string
	chain       int
	bytes       bool // changes what is stored
}

var scenarios = []scenario{
	{"first", "first intake of disk.img", 0, true},
	{"again", "intake again, unchanged, reading forced", 0, true},
	{"restore", "restore of disk.img to a file", 0, false},
	{"disk2", "then intake of disk2.img", 0, true},
	{"verify", "verify, all stored data read", 0, false},
	{"tree", "first intake of tree/", 1, true},
	{"tree-again", "tree again, unchanged, reading forced", 1, true},
}

// us is the name that our configurations begin with.
const us = "us"

// config is one tool in one mode. Command lines are cut at blanks; {repo} {out} {corpus} {home} {tools} are folders, {bin} the
// tool, {links} has one/disk.img and two/disk.img for tools that want folders. Intakes run in {corpus}, restores in {out}.
type config struct {
	Name, Group, Tool string
	Mode              string
	Init              string
	Steps             map[string]string
	Env               []string
	Restored          string // where restore put the image, below {out}
	Needs             string // what "TOOL backup --help" must mention
}

// Groups are compared within themselves only.
const (
	groupNone  = "uncompressed"
	groupFast  = "compressed"
	groupCopy  = "copies" // no dedupe: beside the uncompressed
	groupFloor = "floors"
)

func configs() []config {
	all := slices.Concat(ourConfigs(), kopiaConfigs(), borgConfigs(), resticConfigs(), chunkStores(), copies())
	return append(all, floors()...)
}

func ourConfigs() []config {
	mk := func(name, group, mode, flags string) config {
		intake := "{bin} --batch --source %s --store {repo} " + flags + " {us-args}"
		return config{
			Name: name, Group: group, Tool: "asl-intake", Mode: mode, Restored: "disk.img",
			Steps: map[string]string{
				"first":      fmt.Sprintf(intake, "{corpus}/disk.img"),
				"again":      fmt.Sprintf(intake, "{corpus}/disk.img"),
				"restore":    "{admin} --store {repo} restore latest --to {out}/disk.img",
				"disk2":      fmt.Sprintf(intake, "{corpus}/disk2.img"),
				"verify":     "{admin} --store {repo} verify --read-data",
				"tree":       fmt.Sprintf(intake, "{corpus}/tree"),
				"tree-again": fmt.Sprintf(intake, "{corpus}/tree"),
			},
		}
	}
	return []config{
		mk(us+"-none", groupNone, "no compression, no encryption, page-aligned CDC, no second reading", "--compression none --no-verify"),
		mk(us+"-fast", groupFast, "zstd fast, no encryption, page-aligned CDC, no second reading", "--compression fast --no-verify"),
		mk(us+"-none-verify", groupNone, "no compression, no encryption, page-aligned CDC, read a second time", "--compression none"),
	}
}

func kopiaConfigs() []config {
	mk := func(name, group, mode, splitter, codec string) config {
		intake := "{bin} snapshot create --force-hash=100 --no-auto-maintenance --no-progress "
		return config{
			Name: "kopia-" + name, Group: group, Tool: "kopia", Mode: mode + ", AES-GCM (kopia always encrypts)", Restored: "disk.img",
			Init: "{bin} repository create filesystem --path {repo} --block-hash BLAKE3-256 --encryption AES256-GCM-HMAC-SHA256 --object-splitter " + splitter +
				" && {bin} policy set --global --compression " + codec,
			Steps: map[string]string{
				"first":      intake + "{links}/one",
				"again":      intake + "{links}/one",
				"restore":    "{bin} restore {links}/one {out}",
				"disk2":      intake + "{links}/two",
				"verify":     "{bin} snapshot verify --verify-files-percent=100",
				"tree":       intake + "{corpus}/tree",
				"tree-again": intake + "{corpus}/tree",
			},
			Env: []string{"KOPIA_PASSWORD=bench", "KOPIA_CONFIG_PATH={home}/kopia.config", "KOPIA_CACHE_DIRECTORY={home}/kopia-cache",
				"KOPIA_LOG_DIR={home}/kopia-log", "KOPIA_CHECK_FOR_UPDATES=false"},
		}
	}
	return []config{
		mk("fixed", groupNone, "no compression, fixed 1M, BLAKE3", "FIXED-1M", "none"),
		mk("cdc1m", groupNone, "no compression, CDC 1M, BLAKE3", "DYNAMIC-1M-BUZHASH", "none"),
		mk("default", groupNone, "no compression, CDC 4M, BLAKE3", "DYNAMIC-4M-BUZHASH", "none"),
		mk("zstd", groupFast, "zstd-fastest, CDC 4M, BLAKE3", "DYNAMIC-4M-BUZHASH", "zstd-fastest"),
	}
}

func borgConfigs() []config {
	mk := func(name, group, mode, flags string) config {
		intake := "{bin} create --files-cache disabled " + flags + " {repo}::"
		return config{
			Name: "borg-" + name, Group: group, Tool: "borg", Mode: mode + ", no encryption", Restored: "disk.img",
			Init: "{bin} init -e none {repo}",
			Steps: map[string]string{
				"first": intake + "disk disk.img", "again": intake + "again disk.img",
				"restore": "{bin} extract {repo}::disk",
				"disk2":   intake + "disk2 disk2.img",
				"verify":  "{bin} check --verify-data {repo}",
				"tree":    intake + "tree tree", "tree-again": intake + "tree2 tree",
			},
			Env: []string{"BORG_BASE_DIR={home}", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "BORG_PASSPHRASE=bench"},
		}
	}
	return []config{
		mk("none-fixed", groupNone, "no compression, fixed 4M", "--compression none --chunker-params fixed,4194304"),
		mk("none-cdc", groupNone, "no compression, CDC 2M", "--compression none"),
		mk("lz4", groupFast, "lz4, CDC 2M", "--compression lz4"),
	}
}

func resticConfigs() []config {
	mk := func(name, group, mode, codec, needs string) config {
		intake := "{bin} -r {repo} backup --quiet --force --compression " + codec + " "
		return config{
			Name: "restic-" + name, Group: group, Tool: "restic", Mode: mode + ", CDC 1M, AES (restic always encrypts)", Restored: "disk.img", Needs: needs,
			Init: "{bin} -r {repo} init --repository-version 2",
			Steps: map[string]string{
				"first": intake + "disk.img", "again": intake + "disk.img",
				"restore": "{bin} -r {repo} restore latest --target {out}",
				"disk2":   intake + "disk2.img",
				"verify":  "{bin} -r {repo} check --read-data",
				"tree":    intake + "tree", "tree-again": intake + "tree",
			},
			Env: []string{"RESTIC_PASSWORD=bench", "RESTIC_CACHE_DIR={home}/restic"},
		}
	}
	return []config{
		mk("off", groupNone, "no compression", "off", "--compression"),
		mk("auto", groupFast, "zstd default", "auto", "--compression"),
		mk("fastest", groupFast, "zstd fastest", "fastest", "fastest"),
	}
}

func chunkStores() []config {
	casync := config{
		Name: "casync", Group: groupFast, Tool: "casync", Mode: "zstd, no encryption, CDC 64K", Restored: "disk.img",
		Steps: map[string]string{}, Env: []string{"CASYNC_CACHE={home}/casync"},
	}
	desync := config{
		Name: "desync", Group: groupFast, Tool: "desync", Mode: "zstd, no encryption, CDC 64K", Restored: "disk.img", Steps: map[string]string{},
	}
	store := "--store={repo}/default.castr "
	for step, args := range map[string]string{"first": "disk.caibx {corpus}/disk.img", "again": "again.caibx {corpus}/disk.img",
		"disk2": "disk2.caibx {corpus}/disk2.img", "tree": "tree.caidx {corpus}/tree", "tree-again": "tree2.caidx {corpus}/tree"} {
		casync.Steps[step] = "{bin} make " + store + "{repo}/" + args
		desync.Steps[step] = "{bin} make -s {repo} {repo}/" + args
		if strings.HasPrefix(step, "tree") {
			desync.Steps[step] = "{bin} tar -i -s {repo} {repo}/" + args
		}
	}
	casync.Steps["restore"] = "{bin} extract " + store + "{repo}/disk.caibx {out}/disk.img"
	desync.Steps["restore"] = "{bin} extract -s {repo} {repo}/disk.caibx {out}/disk.img"
	desync.Steps["verify"] = "{bin} verify -s {repo}"
	return []config{casync, desync}
}

func copies() []config {
	return []config{
		{Name: "ddrescue", Group: groupCopy, Tool: "ddrescue", Mode: "a copy, no dedupe", Restored: "disk.img", Steps: map[string]string{
			"first":   "{bin} -q {corpus}/disk.img {repo}/disk.img {repo}/disk.map",
			"disk2":   "{bin} -q {corpus}/disk2.img {repo}/disk2.img {repo}/disk2.map",
			"restore": "{bin} -q {repo}/disk.img {out}/disk.img",
		}},
		{Name: "cp", Group: groupCopy, Tool: "cp", Mode: "a sparse copy, no dedupe, no reflinks", Restored: "disk.img", Steps: map[string]string{
			"first":   "{bin} --reflink=never --sparse=always {corpus}/disk.img {repo}/disk.img",
			"disk2":   "{bin} --reflink=never --sparse=always {corpus}/disk2.img {repo}/disk2.img",
			"restore": "{bin} --reflink=never --sparse=always {repo}/disk.img {out}/disk.img",
			"tree":    "{bin} -a --reflink=never {corpus}/tree {repo}/tree",
		}},
	}
}

func floors() []config {
	return []config{
		{Name: "floor-read", Group: groupFloor, Tool: "bench", Mode: "read on all cores", Steps: map[string]string{
			"again": "{bin} floor read {corpus}/disk.img", "tree-again": "{bin} floor read {corpus}/tree",
		}},
		{Name: "floor", Group: groupFloor, Tool: "bench", Mode: "read, skip zeros, BLAKE3 of fixed 1M on all cores; intakes also write and fsync what is new in that run", Steps: map[string]string{
			"first": "{bin} floor store {corpus}/disk.img {repo}", "again": "{bin} floor hash {corpus}/disk.img",
			"disk2":  "{bin} floor store {corpus}/disk2.img {repo}/more",
			"verify": "{bin} floor hash {repo}",
			"tree":   "{bin} floor store {corpus}/tree {repo}", "tree-again": "{bin} floor hash {corpus}/tree",
		}},
		{Name: "floor-medium", Group: groupFloor, Tool: "bench", Mode: "the same, and what was written is read back past the page cache and hashed", Steps: map[string]string{
			"first":  "{bin} floor twice {corpus}/disk.img {repo}",
			"verify": "{bin} floor medium {repo}",
		}},
	}
}

// argv fills a command line in.
func argv(line string, vars map[string]string) []string {
	var out []string
	for _, word := range strings.Fields(line) {
		if word == "{us-args}" {
			out = append(out, strings.Fields(vars["{us-args}"])...)
			continue
		}
		out = append(out, expand(word, vars))
	}
	return out
}

func expand(s string, vars map[string]string) string {
	for k, v := range vars {
		s = strings.ReplaceAll(s, k, v)
	}
	return s
}

// dirOf says where a step runs: tools that keep relative names then keep the same.
func dirOf(step string, vars map[string]string) string {
	if step == "restore" {
		return vars["{out}"]
	}
	return vars["{corpus}"]
}

// chosen filters by a list of names, each of which may be a prefix: "kopia" means all of its modes. We are always in.
func chosen(all []config, list string) []config {
	if list == "" {
		return all
	}
	return slices.DeleteFunc(all, func(c config) bool {
		return c.Tool != "asl-intake" && !slices.ContainsFunc(strings.Split(list, ","), func(p string) bool {
			ok, _ := filepath.Match(strings.TrimSpace(p)+"*", c.Name)
			return ok
		})
	})
}
