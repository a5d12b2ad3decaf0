"""Answers about the running daemon: its state, and the dump of it."""
