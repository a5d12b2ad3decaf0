"""Workers: processes that take one connection after another."""

from typing_extensions import disjoint_base

from fastinetd.core.servers import Servers

@disjoint_base
class Workers:
    def __init__(self, servers: Servers, pool_count: int, worker_count: int, processors: int) -> None: ...
