"""The relay: the built-in services."""

from typing_extensions import disjoint_base

from fastinetd.core.reception import Reception

@disjoint_base
class Relay(Reception): ...
