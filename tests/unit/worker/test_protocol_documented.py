"""The programs of docs/workers.md work as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from support.lacking import need_modules
from support.worker_peer import HANDLER, ROOT, WorkerPeer, serve_once

TEXT = (ROOT / "docs" / "workers.md").read_text()


def program(language: str, number: int = 0) -> str:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return found[number]


def works(argv: Sequence[str], folder: Path, request: bytes, answer: bytes) -> None:
    environ = {"PYTHONPATH": f"{folder}:{ROOT}"}
    with WorkerPeer(argv, folder, environ) as worker:
        for _ in range(3):
            assert worker.status() == 0
            assert worker.ask(request) == answer
        assert worker.status() == 0
        before = worker.descriptors()
        assert worker.ask(request) == answer
        assert worker.status() == 0
        assert worker.descriptors() == before
        assert worker.end() == 0
    assert serve_once(argv, folder, request, environ=environ) == (answer, 0)


def test_a_handler(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(program("python", 0))
    works([*HANDLER, "hello:serve"], tmp_path, b"", b"hello 192.0.2.7\n")


def test_a_coroutine(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(program("python", 1))
    works([*HANDLER, "hello:serve"], tmp_path, b"line\nmore\n", b"line\n")


def test_a_program(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(program("python", 2))
    works([sys.executable, str(tmp_path / "program.py")], tmp_path, b"", b"hello\n")


def test_c(tmp_path: Path) -> None:
    (tmp_path / "hello.c").write_text(program("c"))
    command = ["gcc", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'contrib'}"]
    subprocess.run([*command, "-o", tmp_path / "hello", tmp_path / "hello.c"], check=True)
    works([str(tmp_path / "hello")], tmp_path, b"", b"hello\n")


def test_perl(tmp_path: Path, need: Callable[[str], str]) -> None:
    perl = need("perl")
    need_modules(perl, "Socket::MsgHdr")
    (tmp_path / "hello.pl").write_text(program("perl"))
    works([perl, str(tmp_path / "hello.pl")], tmp_path, b"", b"hello 192.0.2.7\n")


@pytest.mark.parametrize("name", re.findall(r"\]\(([^)#]+)\)", TEXT))
def test_links(name: str) -> None:
    assert (ROOT / "docs" / name).exists()
