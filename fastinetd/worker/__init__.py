"""Workers: processes that take one connection after another (docs/workers.md).

This package imports nothing of the daemon. A handler gets a connected socket and a `Peer`; a program that is no handler
takes its connections from `connections()`.
"""

from fastinetd.worker.protocol import Connections, Peer, connections

__all__ = ["Connections", "Peer", "connections"]
