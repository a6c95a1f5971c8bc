// Command asl-backend is the receiving end of an intake over https: it keeps a store and serves it to those who show a token.
package main

import (
	"context"
	"os"

	"aslrescue/cmd/internal/serve"
)

func main() {
	os.Exit(serve.Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
