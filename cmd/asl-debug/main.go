// Command asl-debug prints and checks every structure of a store.
package main

import (
	"context"
	"os"

	"aslrescue/cmd/internal/session"
)

func main() {
	os.Exit(session.Debug(context.Background(), os.Args[1:], session.StdIO()))
}
