package engine

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watch is a face that is a process.
func (p *place) watch() (cmd *exec.Cmd, out *bufio.Scanner) {
	cmd = exec.Command(bin, p.args("--watch")...)
	r, w, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	_ = w.Close()
	p.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = r.Close() })
	return cmd, bufio.NewScanner(r)
}

func TestAFaceIsKilledAndTheNextSeesTheSame(t *testing.T) {
	p := newPlace(t)
	engine := p.start()
	first := p.attach("tty1")
	first.begin(p.endless(), p.path("store"))
	j := first.further(0)
	watching, out := p.watch()
	for out.Scan() && !strings.Contains(out.Text(), "reading") {
	}
	if err := watching.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = watching.Wait()
	_ = first.conn.Close()
	next := p.attach("ssh")
	was := j.Progress.Safe
	j = next.further(was)
	if j.Progress.Intake == "" || j.Phase != "running" || len(j.Progress.Sources) != 1 || !alive(engine) {
		t.Errorf("the job is %+v", j)
	}
	next.until("what was said before it came", func() bool { return next.said("the intake begins (tty1)") })

	// Two more: one reads nothing, and holds up nobody.
	p.attach("stuck").conn.(interface{ CloseRead() error }).CloseRead()
	next.further(j.Progress.Safe)
	other := p.attach("tty2")
	other.must("do", map[string]any{"verb": "pause"}, nil)
	paused := next.phase("paused")
	if got := other.phase("paused"); got.Progress.Safe != paused.Progress.Safe || got.Progress.Intake != paused.Progress.Intake {
		t.Errorf("one sees %+v, the other %+v", paused.Progress, got.Progress)
	}
	if fail := next.ask("leave", map[string]any{}, nil); fail == nil || fail.Kind != "refused" {
		t.Errorf("leave in the middle: %+v", fail)
	}
	next.must("do", map[string]any{"verb": "go on"}, nil)
	other.phase("running")
	next.must("do", map[string]any{"verb": "stop"}, nil)
	if r := other.phase("ended").Report; r == nil || r.Result != "STOPPED" || len(r.Next) == 0 {
		t.Errorf("the report is %+v", r)
	}
	out2, code := p.run(p.args("--status")...)
	if code != 75 && code != 0 || !strings.Contains(out2, "STOPPED") {
		t.Errorf("--status: exit %d: %s", code, out2)
	}
	next.must("leave", map[string]any{}, nil)
	other.until("bye", func() bool { return other.bye != "" })
	p.eventually("the engine ends", func() bool { return !alive(engine) })
}

func TestTheEngineIsKilledAndTheNextGoesOn(t *testing.T) {
	p := newPlace(t)
	engine := p.start()
	f := p.attach("tty1")
	source, store := p.endless(), p.path("store")
	f.begin(source, store)
	safe := f.further(0).Progress.Safe
	watching, out := p.watch()
	for out.Scan() && !strings.Contains(out.Text(), "reading") {
	}
	if out, code := p.run(p.args("--engine")...); code != 11 || !strings.Contains(out, "attaches to it") {
		t.Errorf("a second engine: exit %d: %s", code, out)
	}
	if err := syscall.Kill(engine, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.until("the end of the engine", func() bool { return f.gone || f.bye != "" })
	if f.bye != "" {
		t.Errorf("a killed engine said %q", f.bye)
	}
	text := ""
	for out.Scan() {
		text += out.Text() + "\n"
	}
	if err := watching.Wait(); err == nil || !strings.Contains(text, "killed or crashed: start asl-intake again") {
		t.Errorf("the face ended with %v and said:\n%s", err, text)
	}
	if _, err := os.Stat(p.path("run/sockets/engine.sock")); err != nil {
		t.Fatalf("no stale socket was left: %v", err)
	}
	if out, code := p.run(p.args("--status")...); code != 1 || !strings.Contains(out, "no engine runs here") {
		t.Errorf("--status at a stale socket: exit %d: %s", code, out)
	}

	p.start()
	f = p.attach("tty1")
	var unfinished []struct {
		ID    string
		Done  int64
		Paths []string
	}
	f.must("unfinished", map[string]any{"place": store}, &unfinished)
	if len(unfinished) != 1 || unfinished[0].Done < safe || len(unfinished[0].Paths) != 1 || unfinished[0].Paths[0] != source {
		t.Fatalf("%d bytes were safe, and unfinished are %+v", safe, unfinished)
	}
	if plan := f.begin(source, store); plan.Resume != unfinished[0].ID {
		t.Errorf("the plan goes on with %q, want %s", plan.Resume, unfinished[0].ID)
	}
	j := f.further(unfinished[0].Done)
	if j.Progress.Intake != unfinished[0].ID {
		t.Errorf("it went on with %s, want %s", j.Progress.Intake, unfinished[0].ID)
	}
}

// The face is the one that people have on a terminal; the engine is started by it. Then the terminal goes away under both.
func TestTheTerminalHangsUp(t *testing.T) {
	p := newPlace(t)
	master, slave := pty(t)
	cmd := exec.Command(bin, p.args("--plain")...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	go func() { // nobody at it types, and what it prints goes nowhere
		buf := make([]byte, 4096)
		for {
			if _, err := master.Read(buf); err != nil {
				return
			}
		}
	}()
	p.eventually("the face has started an engine", func() bool { return p.lockHolder() > 0 })
	engine := p.lockHolder()
	p.eventually("the engine listens", func() bool { _, code := p.run(p.args("--status")...); return code == 0 })
	f := p.attach("ssh")
	f.begin(p.endless(), p.path("store"))
	was := f.further(0).Progress.Safe
	_ = master.Close() // SIGHUP to the session of the face
	over := time.AfterFunc(hung, func() { _ = cmd.Process.Kill() })
	if err := cmd.Wait(); !over.Stop() {
		t.Fatalf("the face did not end with its terminal: %v", err)
	}
	if err := syscall.Kill(engine, syscall.SIGHUP); err != nil { // and one for the engine itself
		t.Fatal(err)
	}
	f.further(was)
	if !alive(engine) || p.lockHolder() != engine {
		t.Error("the engine is another by now")
	}

	// Told to end, it stops as Ctrl-C does: what was read is safe, and faces are told.
	if err := syscall.Kill(engine, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	f.until("bye", func() bool { return f.bye != "" })
	if f.bye != "it was told to end by terminated" || f.job().Report == nil || f.job().Report.Result != "STOPPED" {
		t.Errorf("bye %q, the report is %+v", f.bye, f.job().Report)
	}
	p.eventually("it is gone, and its socket", func() bool {
		_, err := os.Stat(p.path("run/sockets/engine.sock"))
		return !alive(engine) && err != nil
	})
}

func pty(t *testing.T) (master, slave *os.File) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0) // its Read ends when it is closed
	if err != nil {
		t.Fatal(err)
	}
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	cerr := raw.Control(func(fd uintptr) {
		if n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err == nil {
			err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		}
	})
	if err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	slave, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// With nothing to do and nobody there an engine ends; a report is kept until somebody has seen it.
func TestAnEngineThatNobodyWantsEnds(t *testing.T) {
	p := newPlace(t)
	engine := p.start("--idle", "200ms")
	p.eventually("it ends by itself", func() bool { return !alive(engine) })

	engine = p.start("--idle", "200ms")
	f := p.attach("tty1")
	if err := os.WriteFile(p.path("small.img"), []byte("little"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.begin(p.path("small.img"), p.path("store"))
	_ = f.conn.Close() // before it has ended, or after: nobody knows
	late := p.attach("tty2")
	if r := late.phase("ended").Report; r == nil || r.Result != "COMPLETE" {
		t.Errorf("the report is %+v", r)
	}
	_ = late.conn.Close()
	p.eventually("it ends when its report was seen", func() bool { return !alive(engine) })
}

// One that does not keep to the protocol is told so, and the intake goes on.
func TestAHostileFaceHurtsNobody(t *testing.T) {
	p := newPlace(t)
	engine := p.start()
	f := p.attach("tty1")
	source, store := p.endless(), p.path("store")
	f.begin(source, store)
	f.further(0)
	f.must("do", map[string]any{"verb": "pause"}, nil)
	j := f.phase("paused")
	for _, junk := range []string{"\x00\x01\x02garbage\n", strings.Repeat("x", 1<<20), `{"type":"ask","id":1,"op":"` + strings.Repeat("[", 1000) + "\n", `{"type":"ask","id":-1,"op":"status"}` + "\n"} {
		bad := p.attach("bad")
		_, _ = bad.conn.Write([]byte(junk)) // it may be let go in the middle
		bad.until("it is told why, or let go", func() bool { return bad.bye != "" || bad.gone })
	}
	for op, c := range map[string]struct {
		body any
		kind string
	}{
		"start":     {map[string]any{"hash": strings.Repeat("ab", 32)}, "answered"},
		"answer":    {map[string]any{"hash": strings.Repeat("ab", 32), "yes": true, "word": "tank"}, "changed"},
		"plan":      {map[string]any{"sources": []string{"../etc"}, "place": store}, "refused"},
		"dir":       {map[string]any{"path": "etc"}, "refused"},
		"tool":      {map[string]any{"program": "sh", "args": []string{"-c", "id"}}, "refused"},
		"save plan": {map[string]any{"hash": "x", "file": "/etc/passwd"}, "changed"},
		"do":        {map[string]any{"verb": "explode"}, "refused"},
		"leave":     {map[string]any{"power_off": true}, "refused"},
		"no such":   {nil, ""},
		"browse":    {"not an object", ""},
	} {
		if fail := f.ask(op, c.body, nil); fail == nil || fail.Kind != c.kind || fail.Exit == 0 {
			t.Errorf("%s: %+v, want the kind %q", op, fail, c.kind)
		}
	}
	f.must("do", map[string]any{"verb": "go on"}, nil)
	f.further(j.Progress.Safe)
	if !alive(engine) {
		t.Error("the engine is gone")
	}
}
