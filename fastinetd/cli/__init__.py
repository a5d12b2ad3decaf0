"""The command `fastinetd`."""
