"""The places for the variables that tell of a connection: as many as stage.h says, everywhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fastinetd.core.program import DATAGRAM_VARIABLES, INET_VARIABLES, UNIX_VARIABLES
from support.c import STRICT
from support.sources import sources_of
from support.stage import HEADER, PACKAGE, PLACES, ROOM

SOURCE = """
#include "stage/stage.h"
static char places[STAGE_PLACES][STAGE_ROOM];
int main(void)
{
    struct stage_message *message = 0;
    _Static_assert(sizeof message->variables == STAGE_PLACES * STAGE_ROOM, "all of them go into a message");
    _Static_assert(sizeof *message == sizeof message->request + sizeof message->variables, "and nothing else");
    return STAGE_PLACE(places, NUMBER)[0];
}
"""


def compiled(folder: Path, number: int, places: int = PLACES) -> str:
    """What the compiler says to the use of place `number` where there are so many; nothing: it compiles."""
    (folder / "stage").mkdir()
    was, now = (f"#define STAGE_PLACES {count} " for count in (PLACES, places))
    assert was in HEADER.read_text()
    (folder / "stage" / "stage.h").write_text(HEADER.read_text().replace(was, now))
    (folder / "places.c").write_text(SOURCE)
    command = ["gcc", "-fsyntax-only", "-Wall", "-Wextra", *STRICT, f"-DNUMBER={number}", "-I.", "places.c"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize(("number", "places"), [(0, PLACES), (PLACES - 1, PLACES), (PLACES, PLACES + 1)])
def test_a_place_that_is_there_compiles(tmp_path: Path, number: int, places: int) -> None:
    assert compiled(tmp_path, number, places) == ""


@pytest.mark.parametrize(("number", "places"), [(PLACES, PLACES), (PLACES - 1, PLACES - 1)])
def test_one_place_too_many_does_not_compile(tmp_path: Path, number: int, places: int) -> None:
    assert "STAGE_PLACES are too few" in compiled(tmp_path, number, places)


OWN_SIZE = re.compile(
    rf"\b\d+\s*\*\s*{ROOM}\b|\b{ROOM}\s*\*\s*\d+\b|\]\s*\[\s*{ROOM}\s*\]|\[\s*{PLACES}\s*\]\s*\[|\b{PLACES * ROOM}\b"
)
"""Numbers in the place of STAGE_PLACES, STAGE_ROOM or STAGE_VARIABLES_SIZE."""


@pytest.mark.parametrize(
    "size", [f"{PLACES} * {ROOM}", f"8*{ROOM}", f"{ROOM} * 9", f"[9][{ROOM}]", f"[STAGE_PLACES] [ {ROOM} ]",
             f"[{PLACES}][STAGE_ROOM]", f"[{PLACES * ROOM}]"],
)  # fmt: skip
def test_every_way_to_write_a_size_is_seen(size: str) -> None:
    assert OWN_SIZE.search(f"char places{size};" if "[" in size else f"char places[{size}];")


def test_room_for_more_variables() -> None:
    """As many as CONTRIBUTING.md promises to whoever adds one."""
    most = max(map(len, (INET_VARIABLES, DATAGRAM_VARIABLES, UNIX_VARIABLES)))
    assert "(`stage/stage.h` has room for four more:" in (PACKAGE.parent / "CONTRIBUTING.md").read_text()
    assert PLACES - most == 4


def test_nobody_else_says_how_many_or_how_large() -> None:
    """A buffer whose size is a number of its own would be overrun when there are more places."""
    others = {*sources_of(".pyx", ".pxd", ".h", ".c")} - {HEADER}
    assert {path.name for path in others if OWN_SIZE.search(path.read_text())} == set()
