// Package engine runs engines and faces as processes, kills them, and speaks the protocol of docs/engine.md from outside, as its page says it.
package engine
