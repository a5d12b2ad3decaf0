"""Writes the stub of the Board's layout: `python -m fastinetd.manual.layout_stub > fastinetd/core/layout.pyi`.

The enums are written once, in core/layout.pxd; what Python sees of them is read off the compiled module here, for type
checkers.
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
'''


def layout_stub() -> str:
    """The whole stub."""
    found = [each for each in vars(layout).values() if isinstance(each, type) and issubclass(each, IntEnum)]
    enums = sorted((each for each in found if each.__module__ == layout.__name__), key=lambda enum: enum.__name__)
    return "\n".join([_HEAD, *map(_class, enums)])


def _class(enum: type[IntEnum]) -> str:
    members = "".join(f"    {member.name} = {member.value}\n" for member in enum)
    return f"class {enum.__name__}(IntEnum):\n{members}"


if __name__ == "__main__":
    print(layout_stub(), end="")
