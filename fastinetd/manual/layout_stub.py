"""Writes the stub of the Board's layout: `python -m fastinetd.manual.layout_stub > fastinetd/core/layout.pyi`.

The enums are written once, in core/layout.pxd; for type checkers they are read from the compiled module here.
"""

from __future__ import annotations

from enum import IntEnum

from fastinetd.core import layout

_HEAD = '''\
"""The words of the Board's layout: enums of verdicts, states, records, methods and ends.

Written from layout.pxd: python -m fastinetd.manual.layout_stub > fastinetd/core/layout.pyi
"""

from collections.abc import Mapping
from enum import IntEnum

REFUSALS: Mapping[Verdict, str]
"""The word of each refusal in a FAIL record; its name in small letters is the reason in metrics."""

MOST_STARTS: int
"""The most starts of a rate: the Board has room for the times of so many."""

def require_room(enum: type[IntEnum], room: int) -> None: ...
'''


def layout_stub() -> str:
    """The text of core/layout.pyi."""
    found = [each for each in vars(layout).values() if isinstance(each, type) and issubclass(each, IntEnum)]
    enums = sorted((each for each in found if each.__module__ == layout.__name__), key=lambda enum: enum.__name__)
    return "\n".join([_HEAD, *map(_enum_stub, enums)])


def _enum_stub(enum: type[IntEnum]) -> str:
    """An enum as it is in the stub."""
    members = "".join(f"    {member.name} = {member.value}\n" for member in enum)
    return f"class {enum.__name__}(IntEnum):\n{members}"


if __name__ == "__main__":
    print(layout_stub(), end="")
