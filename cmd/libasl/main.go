// Command libasl is the store as a C library: built with -buildmode=c-shared it is libasl.so. asl.h is what a C program includes,
// docs/c-abi.md says what it may count on. The functions that C calls stand in abi.go and do nothing but turn C's values into
// Go's; what they do stands in library.go.
package main

func main() {} // a library has to have one
