"""Connections that were sent to a zygote, or to its parked children, and that no process has taken yet."""

from typing_extensions import disjoint_base

from fastinetd.core.servers import Servers

@disjoint_base
class HandedConnections:
    def __init__(self, servers: Servers, needed: bool) -> None: ...
