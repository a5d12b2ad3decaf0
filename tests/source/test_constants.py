"""A constant is stated once; what two languages state, or what hangs on another constant, is compared."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastinetd.core.layout import Status, require_room
from fastinetd.logs import standard_error
from fastinetd.services.children import ENDS_BETWEEN_READS
from fastinetd.supervisor.removals import JOURNAL_READS
from fastinetd.system.last_reader import CLOSED_WITHIN
from fastinetd.worker import log, protocol
from support.sources import PACKAGE, ROOT, sources_of
from support.stage import PLACES, ROOM

IN_C = re.compile(r"^#define +(\w+) +(.*?)(?: */\*.*)?$", re.MULTILINE)
IN_CYTHON = re.compile(r"^(?:cdef \w+ +|    )?([A-Z]\w*) = (.*?)(?: +#.*)?$", re.MULTILINE)
IN_PYTHON = re.compile(r"^_?([A-Z]\w*)(?:: [^=\n]+)? = (.*?)(?: +#.*)?$", re.MULTILINE)
SUFFIX = re.compile(r"\b(\d+)U?L{0,2}\b")

TWICE = {
    "FIRST_KEPT_DESCRIPTOR": "tests/unit/system/test_descriptors.py compares C with Python",
    "PAGE": "the Board's, in the daemon; that of other programs, in the library that holds them",
}
"""Constant that two modules state -> why they may."""


def constants_of(text: str, suffix: str) -> dict[str, str]:
    """Numbers and texts by name; what is computed of another constant counts as it is written."""
    pattern = IN_C if suffix in (".h", ".c") else IN_PYTHON if suffix == ".py" else IN_CYTHON
    found = {}
    for name, written in pattern.findall(text):
        value = SUFFIX.sub(r"\1", written)
        if name.isupper() and re.search(r"\d|\"", value) and not value.endswith("\\"):
            found[name] = plain(value)
    return found


def plain(value: str) -> str:
    """A number as Python shows it, whatever way it is written in; anything else as it is."""
    if not re.fullmatch(r"[\dxa-fA-F_ *<.()+-]+", value):
        return value
    try:
        return str(eval(value, {"__builtins__": {}}))
    except (SyntaxError, TypeError, NameError):
        return value


def stated_twice(texts: dict[str, str]) -> dict[str, list[str]]:
    """Constants that several modules state with the same value, and which; a .pxd and its .pyx are one module."""
    places: dict[tuple[str, str], set[str]] = {}
    for name, text in texts.items():
        for constant, value in constants_of(text, Path(name).suffix).items():
            module = name[:-4] if name.endswith((".pyx", ".pxd")) else name
            places.setdefault((constant, value), set()).add(module)
    return {constant: sorted(modules) for (constant, _), modules in places.items() if len(modules) > 1}


def sources() -> dict[str, str]:
    """File of the package -> its text."""
    paths = sources_of(".py", ".pyx", ".pxd", ".h", ".c")
    return {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in paths}


def number_of(file: str, constant: str) -> int:
    """A number that a source states."""
    return int(constants_of((PACKAGE / file).read_text(), Path(file).suffix)[constant])


@pytest.mark.parametrize(("one", "other"), [
    ("cdef u64 SECOND = 1000000000\n", "SECOND = 10**9  # in nanoseconds\n"),
    ("cdef enum:\n    MOST = 4096\n", "cdef enum:\n    MOST = 1 << 12  # of them\n"),
    ("cdef u64 STABLE_AFTER = 5 * SECOND  # a worker\n", "cdef u64 STABLE_AFTER = 5 * SECOND\n"),
])  # fmt: skip
def test_a_constant_stated_twice_is_found(one: str, other: str) -> None:
    (name,) = stated_twice({"a.pyx": one, "b.pxd": other})
    assert name.isupper()
    assert stated_twice({"a.pyx": one, "a.pxd": other}) == {}, "one module"
    assert stated_twice({"a.pyx": one, "b.pxd": other.replace("1", "2").replace("5", "6")}) == {}


def test_a_constant_of_two_languages_is_found() -> None:
    texts = {"a.h": "#define MOST 64 /* of them */\n", "b.py": "_MOST: Final = 6_4\n", "c.py": 'WORD = "x"\n'}
    assert stated_twice(texts) == {"MOST": ["a.h", "b.py"]}


def test_no_constant_is_stated_twice() -> None:
    assert stated_twice(sources()).keys() == TWICE.keys()


def test_an_enum_for_which_there_is_no_room_is_refused() -> None:
    """What a process counts for the value after the last would be written into what follows on the Board."""
    require_room(Status, len(Status))
    with pytest.raises(ImportError, match=r"Status has 4 values: .*layout\.pxd has room for 3"):
        require_room(Status, 3)


def test_room_is_required_for_all_that_is_counted_by_an_enum() -> None:
    layout = (PACKAGE / "core/layout.pxd").read_text()
    (counters,) = re.findall(r"^cdef struct Counters:\n((?:    .*\n)+)", layout, re.MULTILINE)
    sizes = set(re.findall(r"\[(\w+)\]", counters))
    by_enums = sizes - {"ERRNOS", "LATENCIES", "SESSIONS"}  # by tables in core/counters, which compares their lengths
    modules = "\n".join(text for name, text in sources().items() if name.endswith(".pyx"))
    required = re.findall(r"^(?:layout\.)?require_room\(\w+, (\w+)\)$", modules, re.MULTILINE)
    assert sorted(required) == sorted(by_enums) != []


def test_a_worker_is_told_its_socket_by_the_name_that_it_looks_for() -> None:
    program = (
        "from fastinetd.worker import protocol; protocol.VARIABLE = 'ANOTHER'; "
        "from fastinetd.core import program; print(program.WORKER_VARIABLE)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "b'ANOTHER=3'\n"


def test_who_waits_for_a_process_to_come_to_exec_waits_until_it_would_have_been_killed() -> None:
    assert number_of("core/spawn.h", "SPAWN_SECONDS") < CLOSED_WITHIN


def test_the_journal_is_read_as_often_as_its_room_asks_for() -> None:
    at_once = number_of("core/board.pyx", "RECORDS_IN_A_ROW")
    assert at_once >= 2 * ENDS_BETWEEN_READS, "two records of each end, all taken by the next read"
    assert JOURNAL_READS * at_once > number_of("core/layout.pxd", "RECORDS")


@pytest.mark.parametrize(("source", "says", "numbers"), [
    ("services/children.py", "a read takes {:,} of a section, and a section has room for {:,}",
     (number_of("core/board.pyx", "RECORDS_IN_A_ROW"), number_of("core/layout.pxd", "RECORDS"))),
    ("worker/log.py", "fewer than the daemon reads of one ({:,})", (standard_error.MESSAGE_BYTES,)),
])  # fmt: skip
def test_a_docstring_has_the_numbers_of_other_modules(source: str, says: str, numbers: tuple[int, ...]) -> None:
    assert says.format(*numbers) in " ".join((PACKAGE / source).read_text().split())


def test_messages_fit_what_they_are_read_with() -> None:
    assert log.MESSAGE_BYTES < standard_error.MESSAGE_BYTES
    assert log.TRACEBACK_LINES < standard_error.MESSAGE_LINES
    assert 8 * PLACES * ROOM < protocol.RECEIVED_BYTES, "less than an eighth"
