"""How a handler is started: Python, its arguments, where it looks for modules, and whether its user may read it all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import Place, Service
from fastinetd.plan import handler as handlers
from fastinetd.plan.exec_context import exec_context_of
from fastinetd.plan.handler import PACKAGE, handler_command, module_file
from fastinetd.plan.holdable import find_bar
from fastinetd.plan.model import Unplannable
from fastinetd.plan.surroundings import Surroundings

SERVICE = Service("web", "web", Place("x.conf", 1), types=frozenset({"UNLISTED"}), port=7000, user="nobody",
                  spawn="worker", handler="pages:serve")
PYTHON = os.fsencode(sys.executable)
OWN = os.fsencode(PACKAGE.parent)


def environment(*environ: bytes) -> tuple[bytes, ...]:
    return handler_command(SERVICE, None, (), environ, Report())[2]


def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package were found in the current folder and nowhere else."""
    monkeypatch.setattr(sys, "path", [str(PACKAGE.parent), *(each for each in sys.path if each != str(PACKAGE.parent))])


def test_command() -> None:
    path, argv, _ = handler_command(SERVICE, None, (), (), Report())
    assert path == PYTHON
    assert argv == (PYTHON, b"-P", b"-m", b"fastinetd.worker", b"pages:serve")


def test_start(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Surroundings(environ=(b"A=b", b"PYTHONPATH=/theirs"), clone=True)
    checkout(monkeypatch)
    context = exec_context_of(replace(SERVICE, user=None, umask=0o22), machine, Report())
    assert (context.path, context.argv[-1], context.umask) == (PYTHON, b"pages:serve", 0o22)
    assert context.environ == (b"A=b", b"PYTHONPATH=/theirs:" + OWN)


class TestPythonpath:
    def test_where_the_installation_finds_the_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        library = sysconfig.get_path("purelib")
        for path in ([library, str(PACKAGE.parent)], [str(PACKAGE.parent), library, str(PACKAGE.parent)], [library]):
            monkeypatch.setattr(sys, "path", path)
            assert environment(b"A=b") == (b"A=b",)
        monkeypatch.setattr(handlers, "PACKAGE", Path(library) / "fastinetd")
        assert environment(b"A=b") == (b"A=b",)

    def test_where_it_does_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        checkout(monkeypatch)
        assert environment(b"A=b") == (b"A=b", b"PYTHONPATH=" + OWN)
        assert environment(b"PYTHONPATH=", b"A=b") == (b"A=b", b"PYTHONPATH=" + OWN)
        assert environment(b"PYTHONPATH=/theirs:/more") == (b"PYTHONPATH=/theirs:/more:" + OWN,)
        mine = b"PYTHONPATH=/theirs:" + OWN
        assert environment(mine) == (mine,)

    def test_the_current_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(PACKAGE.parent)
        monkeypatch.setattr(sys, "path", ["", sysconfig.get_path("purelib")])
        assert environment() == (b"PYTHONPATH=" + OWN,)

    @pytest.mark.parametrize("found", [True, False])
    def test_it_is_enough(self, found: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Python started so, in /, finds this package and none of its name elsewhere in front of it."""
        if not found:
            checkout(monkeypatch)
        (tmp_path / "pages.py").write_text("")
        environ = environment(b"PYTHONPATH=" + os.fsencode(tmp_path))
        code = "import fastinetd, pages; print(fastinetd.__file__)"
        said = subprocess.run([PYTHON, "-P", "-c", code], env=dict(each.split(b"=", 1) for each in environ), cwd="/",
                              capture_output=True, check=True).stdout  # fmt: skip
        assert said.decode().strip() == str(PACKAGE / "__init__.py")


class TestUnreadable:
    IDS = (65534, 65534)

    def said(self, monkeypatch: pytest.MonkeyPatch, ids: tuple[int, int] | None = IDS) -> str:
        report = Report()
        with pytest.raises(Unplannable):
            handler_command(SERVICE, ids, (), (), report)
        (only,) = report
        assert only.code == "no-interpreter"
        return only.text

    @pytest.mark.usefixtures("root")
    def test_package(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        closed = folder / "closed" / "fastinetd"
        closed.mkdir(parents=True)
        (closed / "__init__.py").write_text("")
        monkeypatch.setattr(handlers, "PACKAGE", closed)
        monkeypatch.setattr(sys, "executable", os.path.realpath("/bin/sh"))
        monkeypatch.setattr(sysconfig, "get_path", lambda name: os.path.realpath("/usr/lib"))
        (closed.parent).chmod(0o700)
        monkeypatch.setattr(handlers, "find_bar", self.without_library(find_bar))
        assert f"user nobody may not read {closed.parent}; install fastinetd" in self.said(monkeypatch)
        assert handler_command(SERVICE, None, (), (), Report())
        assert handler_command(SERVICE, (0, 0), (), (), Report())
        closed.parent.chmod(0o755)
        assert handler_command(SERVICE, self.IDS, (), (), Report())

    @staticmethod
    def without_library(real: Any) -> Any:
        def asked(path: str, *more: Any, **named: Any) -> str | None:
            return None if path.endswith("/os.py") else real(path, *more, **named)

        return asked

    @pytest.mark.usefixtures("root")
    def test_interpreter_behind_a_link(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A virtual environment's Python is a link, often into somebody's own folder."""
        (folder / "private").mkdir(mode=0o700)
        shutil.copy("/bin/true", folder / "private" / "python")
        (folder / "python").symlink_to("private/python")
        monkeypatch.setattr(sys, "executable", str(folder / "python"))
        assert f"may not read {folder}/private;" in self.said(monkeypatch)

    def test_without_an_interpreter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "")
        assert "does not know its own Python; start it by an absolute path" in self.said(monkeypatch, None)


class TestModuleFile:
    @pytest.fixture
    def environ(self, tmp_path: Path) -> tuple[bytes]:
        for package in ("one", "one/two", "loose"):
            (tmp_path / package).mkdir()
        for file in ("one/__init__.py", "one/two/__init__.py", "one/two/web.py", "flat.py", "loose/inner.py"):
            (tmp_path / file).write_text("raise RuntimeError('nothing of a module is run')\n")
        return (b"PYTHONPATH=/nowhere:" + os.fsencode(tmp_path),)

    @pytest.mark.parametrize(
        ("handler", "file"),
        [
            ("flat:f", "flat.py"),
            ("one:f", "one/__init__.py"),
            ("one.two.web:f", "one/two/web.py"),
            ("loose.inner:f", "loose/inner.py"),
        ],
    )
    def test_found(self, handler: str, file: str, environ: tuple[bytes], tmp_path: Path) -> None:
        assert module_file(handler, environ) == str(tmp_path / file)

    def test_found_elsewhere(self) -> None:
        assert module_file("json.tool:main", ()) == f"{sysconfig.get_path('stdlib')}/json/tool.py"
        assert module_file("fastinetd.plan.handler:f", ()) == str(PACKAGE / "plan" / "handler.py")

    @pytest.mark.parametrize("handler", ["sys:f", "loose:f"])
    def test_without_a_file(self, handler: str, environ: tuple[bytes]) -> None:
        assert module_file(handler, environ) == ""

    @pytest.mark.parametrize("handler", ["none:f", "flat.none:f", "one.none:f", "one.none.two:f", "sys.none:f"])
    def test_not_found(self, handler: str, environ: tuple[bytes]) -> None:
        assert module_file(handler, environ) is None
