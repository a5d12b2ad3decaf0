"""Unit tests lie in folders named as the package's, in files that begin with the name of the module they hold."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fastinetd"
UNIT = ROOT / "tests" / "unit"
SOURCES = (".py", ".pyx", ".pxd", ".h", ".c")

OF_MORE_THAN_A_MODULE = {
    "config/test_bounds.py": "the whole folder: what any configuration may cost",
    "config/test_corpus.py": "the whole folder: files as they are found in the world",
    "config/test_fuzz.py": "the whole folder: what must hold of any text",
    "config/test_golden.py": "the whole folder: pairs of a text and what is read in it",
}
"""File of tests that is named for no module -> what it holds."""


def unit_files() -> list[str]:
    found = sorted(path.relative_to(UNIT).as_posix() for path in UNIT.rglob("test_*.py"))
    assert len(found) >= 119, "unit tests are not where they are looked for"
    return found


def modules_in(folder: Path) -> set[str]:
    """Names of the sources in a folder of the package."""
    names = {path.stem.lstrip("_") for path in folder.iterdir() if path.suffix in SOURCES and path.stem != "__init__"}
    assert names, f"{folder} has no source"
    return names


def is_named_for_a_module(test: str) -> bool:
    path = Path(test)
    name = path.stem.removeprefix("test_")
    return any(name == module or name.startswith(f"{module}_") for module in modules_in(PACKAGE / path.parent))


@pytest.mark.parametrize("test", unit_files())
def test_file_is_named_for_a_module(test: str) -> None:
    assert (PACKAGE / test).parent.is_dir(), "the package has no such folder"
    assert is_named_for_a_module(test) or test in OF_MORE_THAN_A_MODULE


@pytest.mark.parametrize("test", OF_MORE_THAN_A_MODULE)
def test_no_exception_is_left_over(test: str) -> None:
    assert test in unit_files()
    assert not is_named_for_a_module(test), "it is named for a module now: the line here can go"


def test_another_name_is_seen() -> None:
    assert is_named_for_a_module("core/test_admit_load.py")
    assert is_named_for_a_module("test_accept.py")
    assert not is_named_for_a_module("core/test_admission.py")
    assert not is_named_for_a_module("core/test_accept.py")
