"""Clients that wait for a worker, first come, first served."""

from typing_extensions import disjoint_base

from fastinetd.core.servers import Servers

@disjoint_base
class WaitingClients:
    def __init__(self, servers: Servers, needed: bool) -> None: ...
