package e2e

import (
	"net"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// silent is a server that takes connections, as the kernel does for it, and never answers: a machine that hangs.
func silent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: silent VAR")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}
