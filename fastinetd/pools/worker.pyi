"""One worker: its process, the socket to it, and its limits. Nothing of it is for Python."""
