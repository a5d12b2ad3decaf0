"""The stubs say what the compiled modules are: names, parameters, defaults, attributes."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from support.hot import compiled_modules, module_of
from support.sources import ROOT, sources_of

MODULES = [f"fastinetd.{module}" for module in compiled_modules()]
NOT_FOR_PYTHON = r"fastinetd\.[\w.]+\.__pyx_capi__"
"""What a compiled module offers other compiled modules."""


def test_every_compiled_module_has_a_stub() -> None:
    stubs = sorted(f"fastinetd.{module_of(path)}" for path in sources_of(".pyi"))
    assert stubs == MODULES


def test_stubs_and_modules_agree(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text(f"{NOT_FOR_PYTHON}\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "--ignore-unused-allowlist", "--allowlist", str(allowed), *MODULES],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def offered(stub: Path) -> Iterator[tuple[str, str]]:
    """The functions of a stub, and the methods and properties of its classes: name, and pattern of a use."""
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, rf"(?<!def )\b{node.name}\b"
        elif isinstance(node, ast.ClassDef):
            methods = [part.name for part in node.body if isinstance(part, ast.FunctionDef)]
            yield from ((f"{node.name}.{name}", rf"\.{name}\b") for name in methods if not name.startswith("__"))


def test_nothing_is_there_for_tests_alone() -> None:
    """What compiled modules offer to Python, the package uses."""
    python = "\n".join(path.read_text() for path in sources_of(".py"))
    unused = []
    for stub in sources_of(".pyi"):
        own = re.sub(r'""".*?"""', "", stub.with_suffix(".pyx").read_text(), flags=re.DOTALL)
        uses = [(name, re.search(use, python) or re.search(rf"{use}\(", own)) for name, use in offered(stub)]
        unused += [name for name, use in uses if not use]
    assert unused == []


MANY = 1000
"""More values than any call has."""


class Call(NamedTuple):
    """How something is called: with so many values by position, and with these names."""

    values: int
    names: frozenset[str]


def calls_of(sources: Iterable[Path]) -> dict[str, list[Call]]:
    """Name of a function, method or class -> its calls in these files."""
    found: dict[str, list[Call]] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                assert all(each.arg for each in node.keywords) or name not in OPTIONAL, "which names are in it?"
                values = MANY if any(isinstance(each, ast.Starred) for each in node.args) else len(node.args)
                call = Call(values, frozenset(each.arg or "" for each in node.keywords))
                found.setdefault(name, []).append(call)
    return found


def optional(function: ast.FunctionDef, own: int) -> Iterator[tuple[int, str]]:
    """The parameters of a function that have a default: place in a call, after `own` that it has none for, and name."""
    arguments = function.args
    first = len(arguments.args) - len(arguments.defaults)
    yield from ((place - own, argument.arg) for place, argument in enumerate(arguments.args) if place >= first)
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    yield from ((MANY, argument.arg) for argument, default in named if default is not None)


def optional_of_stub(stub: Path) -> Iterator[tuple[str, int, str]]:
    """What calls of a stub's functions, methods and classes may leave out: name, place in a call, parameter."""
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            yield from ((node.name, *each) for each in optional(node, 0))
        elif isinstance(node, ast.ClassDef):
            fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
            for place, field in enumerate(fields):
                if field.value is not None and isinstance(field.target, ast.Name):
                    yield node.name, place, field.target.id
            for part in node.body:
                if isinstance(part, ast.FunctionDef):
                    made = part.name in ("__init__", "__new__")
                    yield from ((node.name if made else part.name, *each) for each in optional(part, 1))


OPTIONAL = {name for stub in sources_of(".pyi") for name, _, _ in optional_of_stub(stub)}
"""What has parameters that a call may leave out."""


NOT_ASKED = {"default_signals"}
"""What tests call with other values: tests/conftest.py has to reset the two signals of which Python knows nothing."""


def test_no_parameter_is_there_for_tests_alone() -> None:
    """What a call of compiled code may leave out, some call of the package does not."""
    calls = calls_of(sources_of(".py"))
    asked = [each for stub in sources_of(".pyi") for each in optional_of_stub(stub)]
    assert len(asked) > 20
    asked = [each for each in asked if each[0] not in NOT_ASKED]
    unused = [
        f"{name}({parameter}=)" for name, place, parameter in asked
        if not any(place < call.values or parameter in call.names for call in calls.get(name, []))
    ]
    assert unused == []
