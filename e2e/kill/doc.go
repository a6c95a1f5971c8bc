// Package kill ends real intakes with SIGKILL, SIGINT, SIGTERM and failing system calls at seeded random moments, goes on,
// and checks what must hold after each of them: nothing acknowledged is lost, nothing that lay in the store changes, and
// in the end the snapshot is what an undisturbed run makes of the same sources.
//
//	go test ./e2e/kill -v                        100 kills
//	go test ./e2e/kill -v -args -kills 1000      the deep form
//	go test ./e2e/kill -v -run HurtDisk -timeout 0 -args -hurt-kills 100
//	                                             over disks that are slow and have bad sectors (4)
//
// When a kill comes is decided by the seed, what it hits by the machine: a seed repeats the tries, not the outcome.
package kill
