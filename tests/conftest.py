"""Fixtures for tests that start the daemon: `folder`, `launch`, `form`; `need` for programs that may be missing."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

pytest.register_assert_rewrite("support")

from fastinetd.core.spawn import default_signals  # noqa: E402
from support.daemon import COMMAND, Daemon, Launch  # noqa: E402
from support.lacking import missing  # noqa: E402
from support.proc import adopt_orphans  # noqa: E402
from support.reach import closed_to_others  # noqa: E402
from support.texts import Service, defaults  # noqa: E402

PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/lib/git-core"])


DESCRIPTORS = 20_000


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than a few seconds")
    # Whoever started the tests may ignore signals (nohup does); the daemons they start, xinetd too, would inherit that.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    default_signals(32, 33)
    # Most logins have 1,024 at first, which a test with many clients of its own is more than.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS), hard))


ORDER = ("source", "unit", "hot", "compare", "integration", "adversity")
"""What is quick comes first; and what runs in this process comes before what leaves clients and children in it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        """A test's place in ORDER; the benchmark's own tests, which lie elsewhere, come first of all."""
        return ORDER.index(item.path.relative_to(here).parts[0]) if item.path.is_relative_to(here) else -1

    items.sort(key=place)


def pytest_report_header() -> str:
    why = closed_to_others()
    return f"checkout: {why}: tests copy what they need of it to a folder for everybody" if why else "checkout: open"


@pytest.fixture(scope="session")
def need() -> Callable[[str], str]:
    """The path of a program, looked for in sbin directories too."""

    def find(program: str) -> str:
        path = shutil.which(program, path=PLACES)
        if path is None:
            missing(f"{program} is not installed")
        return os.path.realpath(str(path))

    return find


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        missing("needs root")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may read (pytest's own may not)."""
    path = Path(tempfile.mkdtemp(prefix="fastinetd."))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def launch(folder: Path) -> Iterator[Launch]:
    """Start daemons; at the end of the test each is stopped and looked at (Daemon.finish)."""
    adopt_orphans()
    started: list[Daemon] = []

    def start(
        conf: str, *options: str, kind: str = "xinetd", metrics: bool = False, env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (), cwd: Path | None = None, command: Sequence[str] = (COMMAND,),
    ) -> Daemon:  # fmt: skip
        daemon = Daemon(folder, conf, options, kind=kind, metrics=metrics, env=env, prefix=prefix, cwd=cwd,
                        command=command)
        started.append(daemon)
        return daemon.await_ready()

    yield start
    problems = [(problem, daemon.said()[-2000:]) for daemon in started for problem in daemon.finish()]
    assert not problems, problems


@pytest.fixture(params=["xinetd", "inetd"])
def form(request: pytest.FixtureRequest, launch: Launch) -> Callable[..., Daemon]:
    """Start services written as xinetd entries, and as lines of an inetd.conf."""
    kind = str(request.param)

    def start(*services: Service, **options: object) -> Daemon:
        text = "".join(service.xinetd() if kind == "xinetd" else service.inetd() for service in services)
        return launch((defaults() if kind == "xinetd" else "") + text, kind=kind, **options)  # type: ignore[arg-type]

    return start
