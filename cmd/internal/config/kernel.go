package config

import (
	"errors"
	"os"
	"strings"
)

// kernelLine is how errors and origins call it.
const kernelLine = "kernel command line"

// readKernel takes words like asl.local.mount=/mnt/x. The kernel lets quotes keep blanks together.
func (c *Config) readKernel(file string) []error {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return []error{&Mistake{File: kernelLine, Err: err}}
	}
	return c.kernel(string(text))
}

func (c *Config) kernel(text string) []error {
	var errs []error
	quoted := false
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t' || r == '\n')
	}) {
		k, v, ok := strings.Cut(strings.ReplaceAll(word, `"`, ""), "=")
		k, ours := strings.CutPrefix(k, "asl.")
		if !ok || !ours {
			continue
		}
		if long, ok := short()[k]; ok {
			k = long
		}
		if m := c.set(k, v, kernelLine, ""); m != nil {
			m.File = kernelLine
			errs = append(errs, m)
		}
	}
	return errs
}
