//! Progress on a terminal, plain lines, JSON lines: readers of the engine's events.
