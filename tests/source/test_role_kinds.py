"""A role differs from another by its row in the table of roles: the rest of the daemon names no kind."""

import ast
from pathlib import Path

from support.sources import PACKAGE, sources_of

TABLE = PACKAGE / "supervisor" / "role_specs.py"
KINDS = {"acceptor", "relay", "doorman", "monitor"}


def kinds_in(path: Path) -> set[str]:
    """The kinds of roles that a file has as a string of their own."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)} & KINDS


def test_kinds_are_named_in_the_table_alone() -> None:
    paths = {*sources_of(".py")}
    assert kinds_in(TABLE) == KINDS
    assert {str(path) for path in paths - {TABLE} if kinds_in(path)} == set()
