"""The stubs say what the compiled modules are: names, parameters, defaults, attributes."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.hot import PACKAGE, compiled_modules, module_of

ROOT = Path(__file__).parents[2]
MODULES = [f"fastinetd.{module}" for module in compiled_modules()]
NOT_FOR_PYTHON = r"fastinetd\.[\w.]+\.__pyx_capi__"
"""What a compiled module offers other compiled modules."""


def test_every_compiled_module_has_a_stub() -> None:
    stubs = sorted(f"fastinetd.{module_of(path)}" for path in PACKAGE.rglob("*.pyi"))
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
    python = "\n".join(path.read_text() for path in sorted(PACKAGE.rglob("*.py")))
    unused = []
    for stub in sorted(PACKAGE.rglob("*.pyi")):
        own = re.sub(r'""".*?"""', "", stub.with_suffix(".pyx").read_text(), flags=re.DOTALL)
        uses = [(name, re.search(use, python) or re.search(rf"{use}\(", own)) for name, use in offered(stub)]
        unused += [name for name, use in uses if not use]
    assert unused == []
