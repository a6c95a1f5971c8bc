// Command asl-intake takes disks, images and directory trees into a store.
package main

import (
	"context"
	"os"

	"aslrescue/cmd/internal/session"
	"aslrescue/cmd/internal/wizard"
)

func main() {
	std := session.StdIO()
	std.Wizard = wizard.Run
	os.Exit(session.Intake(context.Background(), os.Args[1:], std))
}
