"""Zygotes: programs held and forked for each connection."""

from typing_extensions import disjoint_base

from fastinetd.core.servers import Servers

@disjoint_base
class Zygotes:
    def __init__(self, servers: Servers, pool_count: int, child_count: int) -> None: ...
