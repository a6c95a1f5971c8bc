package tui

import "aslrescue/tui/ask"

// Engine is what the wizard needs of an engine; package ask says all of it.
type Engine = ask.Engine
