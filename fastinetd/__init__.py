"""fastinetd: a super-server that starts the right program for each connection."""

__version__ = "0.1.0"
