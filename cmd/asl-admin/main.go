// Command asl-admin lists, compares, verifies and restores what a store holds.
package main

import (
	"context"
	"os"

	"aslrescue/cmd/internal/session"
)

func main() {
	os.Exit(session.Admin(context.Background(), os.Args[1:], session.StdIO()))
}
