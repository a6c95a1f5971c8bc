package session

import (
	"context"
	"log/slog"
	"os"

	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/messages"
	"aslrescue/engine/event"
)

// keeper keeps a program's messages as logging.conf wants it. What changes nothing keeps no file.
func keeper(c *config.Config, program string, std IO, file bool) *messages.Keeper {
	screen, _ := std.Err.(*os.File)
	return messages.New(c.Messages, messages.Options{Program: program, Screen: std.Err, Systemd: config.ToJournal(screen), NoFile: !file})
}

// keepIn is the way for what stands on the screen already.
func keepIn(k *messages.Keeper) func(event.Level, string) {
	to := k.Keep()
	return func(l event.Level, text string) { to.Log(context.Background(), levelOf(l), text) }
}

// levelOf is slog's level for an event's.
func levelOf(l event.Level) slog.Level {
	switch l {
	case event.Warning:
		return slog.LevelWarn
	case event.Error:
		return slog.LevelError
	}
	return slog.LevelInfo
}
