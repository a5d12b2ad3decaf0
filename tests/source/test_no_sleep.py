"""Tests wait for what they wait for: nothing in tests/ sleeps."""

import ast
from pathlib import Path

import pytest

from support.sources import ROOT, python_in


def sleeps(source: str) -> list[int]:
    """Lines that call time.sleep, under whatever name it was imported, or import it by name."""
    tree = ast.parse(source)
    modules = {"time"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname for alias in node.names if alias.name == "time" and alias.asname}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time" and any(a.name == "sleep" for a in node.names):
            found.append(node.lineno)
        if isinstance(node, ast.Attribute) and node.attr == "sleep" and isinstance(node.value, ast.Name):
            found += [node.lineno] * (node.value.id in modules)
    return found


@pytest.mark.parametrize("path", python_in("tests"), ids=lambda path: str(path.relative_to(ROOT)))
def test_waits_for_events(path: Path) -> None:
    assert sleeps(path.read_text()) == []


def test_the_search_finds_them() -> None:
    assert sleeps("import time\ntime.sleep(1)\n") == [2]
    assert sleeps("import time as t\nt.sleep(1)\n") == [2]
    assert sleeps("from time import sleep\n") == [1]
    assert sleeps("import time\ntime.monotonic()\n") == []
