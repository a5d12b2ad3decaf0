"""What the sources of the package import: modules, by every way that Python, Cython and C have for it."""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path

CYTHON = (".pyx", ".pxd")
C = (".c", ".h")
SUFFIXES = (".py", ".pyi", *CYTHON, *C)
PACKAGE_ITSELF = "__init__"
"""The name of the module that is the package itself: each import of another one runs it."""

STATEMENT = re.compile(r"(?:^|[:;])[ \t]*(?:from[ \t]+(\S+)[ \t]+)?c?import\b[ \t]*(\([^)]*\)|[^;\n]*)", re.MULTILINE)
INCLUDE = re.compile(r'(?:extern from|^[ \t]*#[ \t]*include)[ \t]*["<]+([^">]+)', re.MULTILINE)
MODULE = re.compile(r"fastinetd(?:\.\w+)+")
IN_QUOTES = re.compile(rf"""(["'])({MODULE.pattern})\1""")


def name_of(path: Path) -> str:
    """The module that a file, named from the package's folder, is part of. A folder's `__init__` is the folder, a .pxd
    and a .pyi belong to their .pyx, and C is a module with its ending."""
    if path.suffix in C:
        return ".".join(path.parts)
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == PACKAGE_ITSELF and len(parts) > 1 else parts)


def modules_of(package: Path) -> dict[str, list[Path]]:
    """Module, without the package's name, -> its files. C that Cython has made is no source."""
    found: dict[str, list[Path]] = {}
    for path in sorted(package.rglob("*")):
        if path.suffix in SUFFIXES and not (path.suffix == ".c" and path.with_suffix(".pyx").exists()):
            found.setdefault(name_of(path.relative_to(package)), []).append(path)
    return found


def imports_of(text: str, path: Path) -> set[str]:
    """All that the text of a file imports, named from the package's folder: each module, and what is taken from it,
    which may be a module too. Imports for the type checker alone count, and a module's name in quotes, which is how
    import_module() and its like are given one."""
    if path.suffix in C:
        return headers_of(text, path)
    return of_cython(text) | headers_of(text, path) if path.suffix in CYTHON else of_python(text)


def headers_of(text: str, path: Path) -> set[str]:
    """What `#include` and `extern from` name, as modules: beside the file, or in the package's folder."""
    found = INCLUDE.findall(text)
    paths = {posixpath.normpath(posixpath.join(folder, name)) for name in found for folder in (path.parent, "")}
    return {f"fastinetd.{name.replace('/', '.')}" for name in paths}


def of_cython(text: str) -> set[str]:
    """What Cython imports and cimports. Cython's `include` would bring code in that nobody sees here."""
    code = re.sub(r'""".*?"""|#[^\n]*', "", text, flags=re.DOTALL).replace("\\\n", " ")
    assert not re.search(r"^[ \t]*include\b[ \t]*[\"']", code, re.MULTILINE), "an include of Cython's"
    names = {name for _, name in IN_QUOTES.findall(code)}
    for module, taken in STATEMENT.findall(code):
        assert not module.startswith("."), f"a relative import: from {module}"
        if module:
            names |= {module, *(f"{module}.{name}" for name in re.findall(r"\w+", taken))}
        else:
            names |= {*re.findall(r"[\w.]+", taken)}
    return names


def of_python(text: str) -> set[str]:
    """What Python imports."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE.fullmatch(node.value):
            names.add(node.value)
    return names
