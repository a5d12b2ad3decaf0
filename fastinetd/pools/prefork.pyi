"""Children forked ahead of time, parked until a connection comes."""

from typing_extensions import disjoint_base

from fastinetd.core.servers import Servers
from fastinetd.pools.zygotes import Zygotes

@disjoint_base
class Prefork(Zygotes):
    def __init__(self, servers: Servers, pool_count: int, parked_count: int) -> None: ...
