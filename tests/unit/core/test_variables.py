"""Variables of a connection in their places: whole, or cut off where a place ends."""

from __future__ import annotations

from types import ModuleType

import pytest

from support.extension import extension
from support.stage import ROOM

UNTOUCHED = b"." * ROOM


@pytest.fixture(scope="module")
def written() -> ModuleType:
    return extension("variables")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (b"PROTO=", b"TCP", b"PROTO=TCP"),
        (b"PROTO=", b"", b"PROTO="),
        (b"A=", b"x" * (ROOM - 3), b"A=" + b"x" * (ROOM - 3)),
        (b"A=", b"x" * (ROOM - 2), b"A=" + b"x" * (ROOM - 3)),
        (b"A=", b"x" * (2 * ROOM - 3), b"A=" + b"x" * (ROOM - 3)),
        (b"N" * ROOM + b"=", b"x", b"N" * (ROOM - 1)),
    ],
    ids=["short", "empty", "as long as there is room", "one byte too long", "much too long", "long name"],
)
def test_a_variable_stays_in_its_place(written: ModuleType, name: bytes, value: bytes, text: bytes) -> None:
    place, following = written.variable(name, value)
    assert place == (text + b"\0").ljust(ROOM, b".")
    assert following == UNTOUCHED


@pytest.mark.parametrize("value", [0, 7, 10, 65_535, 2**32 - 1])
def test_a_number_is_written_in_decimal(written: ModuleType, value: int) -> None:
    assert written.number(b"REMOTE_PORT=", value) == ((b"REMOTE_PORT=%d\0" % value).ljust(ROOM, b"."), UNTOUCHED)


def test_a_number_stays_in_its_place(written: ModuleType) -> None:
    name = b"N" * (ROOM - 3) + b"="
    assert written.number(name, 2**32 - 1) == (name + b"4\0", UNTOUCHED)
