"""Starting and reaping one small program, by each way there is, from a small and from a large parent.

The program is the one the benchmark's servers start; its own life (exec, dynamic linker, exit) is most
of the time. The ways of the standard library are here to be compared with.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.build import BUILD, build_programs
from fastinetd.core.exec_context import ExecContext
from fastinetd.core.program import Program
from fastinetd.core.spawn import spawn_program

HELLO = BUILD / "hello"
PAGE = 4096


@pytest.fixture(scope="module", autouse=True)
def hello() -> None:
    build_programs()


@pytest.fixture
def null() -> Iterator[int]:
    """A descriptor in place of the connection."""
    fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture(params=[0, 200], ids=["small", "200MB"])
def parent(request: pytest.FixtureRequest) -> Iterator[None]:
    """A parent with so many more megabytes, touched: the process of the test itself."""
    ballast = bytearray(request.param * 1_000_000)
    ballast[::PAGE] = b"\1" * len(range(0, len(ballast), PAGE))
    yield
    del ballast


@pytest.mark.usefixtures("parent")
@pytest.mark.parametrize("posix_spawn", [False, True], ids=["clone", "posix_spawn"])
def test_spawn(benchmark: BenchmarkFixture, null: int, posix_spawn: bool) -> None:
    path = os.fsencode(HELLO)
    program = Program(0, ExecContext(path, (path,), posix_spawn=posix_spawn))

    def once() -> None:
        _, status = os.waitpid(spawn_program(program, null), 0)
        assert status == 0

    benchmark(once)


@pytest.mark.usefixtures("parent")
def test_os_posix_spawn(benchmark: BenchmarkFixture, null: int) -> None:
    actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in range(3)]

    def once() -> None:
        pid = os.posix_spawn(HELLO, [str(HELLO)], {}, file_actions=actions)
        assert os.waitpid(pid, 0)[1] == 0

    benchmark(once)


@pytest.mark.usefixtures("parent")
@pytest.mark.parametrize("session", [False, True], ids=["vfork", "setsid"])
def test_subprocess(benchmark: BenchmarkFixture, null: int, session: bool) -> None:
    def once() -> None:
        done = subprocess.run([HELLO], stdin=null, stdout=null, stderr=null, env={}, start_new_session=session)
        assert done.returncode == 0

    benchmark(once)
