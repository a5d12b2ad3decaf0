"""The relay: the built-in services."""

from enum import IntEnum

from typing_extensions import disjoint_base

from fastinetd.core.reception import Reception

class Builtin(IntEnum):
    ECHO = 1
    DISCARD = 2
    CHARGEN = 3
    DAYTIME = 4
    TIME = 5

@disjoint_base
class Relay(Reception): ...
