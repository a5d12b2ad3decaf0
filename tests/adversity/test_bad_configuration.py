"""Configurations as nobody should write them, at a reload.

What must hold: the reload comes to an end, what can be served is served, why the rest is not is said in one line each.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from adversity.harm import CAT, ECHO, HELLO, consistent

from support.clients import ask, crowd, free_port
from support.daemon import Daemon, Launch
from support.proc import listens, wait_for
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")


def reload(daemon: Daemon, text: str | bytes | None = None) -> bool:
    """Whether the configuration was taken."""
    if text is not None:
        daemon.conf.write_bytes(text.encode() if isinstance(text, str) else text)
    taken, kept = (daemon.said().count(words) for words in ("Reconfigured:", "reconfiguration failed"))
    daemon.send(signal.SIGHUP)
    wait_for(
        lambda: daemon.said().count("Reconfigured:") + daemon.said().count("reconfiguration failed") > taken + kept,
        lambda: daemon.said()[-300:],
        30,
    )
    return daemon.said().count("Reconfigured:") > taken


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path)


def folder_loop(path: Path) -> None:
    path.symlink_to(path.parent, target_is_directory=True)


def dangling(path: Path) -> None:
    path.symlink_to("/nonexistent")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def includes_itself(path: Path) -> None:
    path.write_text(f"include {path}\nincludedir {path.parent}\n")


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(7).randbytes(200_000))


def one_line(path: Path) -> None:
    path.write_text("service " + "x" * 1_000_000)


def open_block(path: Path) -> None:
    path.write_text("service x\n{\n  port = 1\n")


@pytest.mark.parametrize(
    "make", [fifo, loop, folder_loop, dangling, device, includes_itself, garbage, one_line, open_block]
)
def test_in_includedir(launch: Launch, folder: Path, make: Callable[[Path], None]) -> None:
    """One bad thing in the folder: it is named, and the others are served."""
    port, new = free_port(), free_port()
    services = folder / "services"
    services.mkdir()
    (services / "good").write_text(entry("good", port, ECHO, "hello"))
    daemon = launch(defaults() + f"includedir {services}\n")
    make(services / "bad")
    (services / "new").write_text(entry("new", new, ECHO, "new"))
    before = len(daemon.said())
    assert reload(daemon)
    assert [ask(port), ask(new)] == [HELLO, b"new\n"]
    assert str(services / "bad") in daemon.said()[before:]
    daemon.remember_descriptors()


GARBAGE = {
    "empty": b"",
    "nul": b"\0" * 5000,
    "ends": b"}\n" * 1000,
    "begins": b"service\n{\n" * 3000,
    "random": random.Random(3).randbytes(100_000),
}


@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE)
def test_garbage_only(launch: Launch, text: bytes) -> None:
    """Nothing to serve in it: a reload ends, one way or the other, and a good one afterwards serves again."""
    port = free_port()
    good = defaults() + entry("good", port, ECHO, "hello")
    daemon = launch(good)
    taken = reload(daemon, text)
    wait_for(lambda: listens(port) != taken, "the listener closed if it was taken")
    assert reload(daemon, good)
    wait_for(lambda: listens(port), "it listens again")
    assert ask(port) == HELLO


def test_main_file_is_a_pipe(launch: Launch) -> None:
    """A pipe in the place of the configuration, which nobody writes: the old one is kept."""
    port = free_port()
    daemon = launch(defaults() + entry("good", port, ECHO, "hello"))
    daemon.conf.unlink()
    os.mkfifo(daemon.conf)
    assert not reload(daemon)
    assert ask(port) == HELLO


def test_five_thousand_files(launch: Launch, folder: Path) -> None:
    """Each with a service of its own; the reload takes bounded time, and so does the one that removes them."""
    port = free_port()
    services = folder / "services"
    services.mkdir()
    ports = [free_port() for _ in range(800)]
    for n in range(5000):
        (services / f"s{n}").write_text(entry(f"s{n}", ports[n % 800], ECHO, str(n), bind=f"127.0.{n // 800}.1"))
    base = defaults() + entry("good", port, ECHO, "hello")
    daemon = launch(base, "--acceptors", "1")
    assert reload(daemon, base + f"includedir {services}\n")
    answers = crowd(lambda n: ask(ports[n % 800], host=f"127.0.{n // 800}.1"), 5000, 8)
    assert answers == [f"{n}\n".encode() for n in range(5000)]
    assert reload(daemon, base)
    assert ask(port) == HELLO
    consistent(daemon)


def test_file_that_grows_without_end(launch: Launch) -> None:
    """A hundred megabytes of nothing: clients are served while it is read, and afterwards."""
    port = free_port()
    good = defaults() + entry("good", port, ECHO, "hello")
    daemon = launch(good)
    with daemon.conf.open("ab") as file:
        file.truncate(100 << 20)
    daemon.send(signal.SIGHUP)
    assert [ask(port) for _ in range(50)] == [HELLO] * 50
    assert isinstance(reload(daemon), bool)
    assert reload(daemon, good)
    assert ask(port) == HELLO


def test_file_replaced_while_read(launch: Launch, folder: Path) -> None:
    """Files come, change and go while reloads read them: every reload ends, with whole services only."""
    port = free_port()
    services = folder / "services"
    services.mkdir()
    daemon = launch(defaults() + entry("good", port, ECHO, "hello") + f"includedir {services}\n")
    change = random.Random(1)
    for n in range(25):
        daemon.send(signal.SIGHUP)
        for _ in range(20):
            path = services / f"s{change.randrange(10)}"
            if change.randrange(2) and path.exists():
                path.unlink()
            else:
                path.write_text(entry(path.name, free_port(), CAT)[: change.choice([10**6, 60, 150])])
        assert ask(port) == HELLO, n
    assert reload(daemon)
    assert ask(port) == HELLO
    daemon.remember_descriptors()
