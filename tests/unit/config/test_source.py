"""Readers are pure: of the modules of fastinetd.config only load.py touches the system."""

import ast
from pathlib import Path

import pytest

import fastinetd.config

FOLDER = Path(fastinetd.config.__file__).parent
IMPURE = {"os", "socket", "time", "pathlib", "subprocess", "stat", "io", "shutil", "glob", "select", "signal", "random"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_imports(path: Path) -> None:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "open"
    assert path.name == "load.py" or not names & IMPURE
    outside = {name for name in names if name.startswith("fastinetd") and not name.startswith("fastinetd.config")}
    assert not outside


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
