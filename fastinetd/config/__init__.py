"""Configuration: text in, records out. Nothing here opens a socket, starts a process or reads a clock."""
