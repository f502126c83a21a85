//! The command line: arguments in, exit code out, one file a command, no logic.
