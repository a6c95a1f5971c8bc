// Package e2e tests the programs from outside, as their users run them, and the rules that hold the project together. It
// imports nothing of the project: programs are built once and then only run.
package e2e
