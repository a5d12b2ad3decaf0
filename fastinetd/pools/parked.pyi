"""Parked children: forked ahead of time from an acceptor's zygotes, each waiting for a connection."""

from typing_extensions import disjoint_base

from fastinetd.core.servers import Servers

@disjoint_base
class ParkedChildren:
    def __init__(self, servers: Servers, pool_count: int, zygote_count: int, child_count: int) -> None: ...
