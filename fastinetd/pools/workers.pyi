"""Workers: processes that take one connection after another."""

from typing_extensions import disjoint_base

from fastinetd.core.servers import Servers

@disjoint_base
class Workers:
    def __init__(self, servers: Servers, pool_count: int, worker_count: int, processors: int) -> None: ...

def needs_another(
    least: int, most: int, at_once: int, count: int, idle: int, waiting: int, waited: int, short: int, freed: int
) -> bool: ...
