"""The servers of one acceptor: started by exec, watched, and accounted for when they end."""

from typing_extensions import disjoint_base

from fastinetd.core.reception import Reception

@disjoint_base
class Servers:
    def __init__(self, reception: Reception) -> None: ...
