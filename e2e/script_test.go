package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// programs builds every program as it will be shipped into dir.
func programs(dir string) error {
	mains, err := filepath.Glob("../cmd/asl-*")
	if err != nil {
		return err
	}
	for _, m := range mains {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", dir+"/", "./"+filepath.ToSlash(m))
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", m, err, out)
		}
	}
	return nil
}

// The scripts are the *.txtar files of this folder, each with what it proves in its first line. Beside the commands of
// testscript they have those of commands().
func TestScripts(t *testing.T) {
	bin := t.TempDir()
	if err := programs(bin); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	testscript.Run(t, testscript.Params{
		Files:              files,
		Cmds:               commands(),
		Condition:          condition,
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("TMPDIR", filepath.Join(env.WorkDir, ".tmp"))
			env.Setenv("LC_ALL", "C.UTF-8")
			env.Setenv("TZ", "UTC")
			for _, d := range []string{"home", ".tmp"} {
				if err := os.MkdirAll(filepath.Join(env.WorkDir, d), 0o755); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

// condition knows [root], and [program:NAME] for programs of ours that may not be there yet.
func condition(cond string) (bool, error) {
	if cond == "root" {
		return os.Geteuid() == 0, nil
	}
	if name, ok := strings.CutPrefix(cond, "program:"); ok {
		_, err := os.Stat(filepath.Join("../cmd", name))
		return err == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}
