// Command asl-intake takes disks, images and directory trees into a store.
package main

import (
	"context"
	"os"

	"aslrescue/cmd/internal/session"
)

func main() {
	os.Exit(session.Intake(context.Background(), os.Args[1:], session.StdIO()))
}
