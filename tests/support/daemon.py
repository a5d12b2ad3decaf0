"""The installed daemon, started in the foreground on a configuration, and what must hold when it is stopped.

Rules of this file: only the outside of the daemon is looked at. Nothing here ends a process that it did not start, or
that is not a descendant of one that it did.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from support import clients
from support.proc import PATIENCE, asleep, below, descriptors, process, reap, title, wait_for

COMMAND = str(Path(sys.executable).with_name("fastinetd"))
"""The installed command."""

MODULE = (sys.executable, "-m", "fastinetd")
"""The command by way of the module, where the environment is to say what is imported (support.reach)."""

STARTING = 60.0
"""Seconds a start may take on a machine that has much else to do."""

OWN = "fastinetd: "
"""What the titles of the daemon's own processes begin with."""

KEPT = "/proc/loadavg"
"""What is opened by the first who asks, once, and kept. Below another root it has a longer name in a namespace of
mounts that is not the test's."""

UNHANDLED = re.compile(r"Traceback \(most recent call last\)|Fatal Python error|Segmentation fault|AssertionError")
SAMPLE = re.compile(r'^(\w+)(?:\{(.*)\})? (\S+)$', re.MULTILINE)
OPTIONS = {"xinetd": "-f", "toml": "-f", "inetd": "--inetd"}
ENDINGS = {"xinetd": ".conf", "toml": ".toml", "inetd": ".conf"}


class Daemon:
    """One started daemon; `launch` in conftest.py makes them."""

    def __init__(
        self, folder: Path, conf: str, options: Sequence[str], *, kind: str = "xinetd", metrics: bool = False,
        env: Mapping[str, str] | None = None, prefix: Sequence[str] = (), cwd: Path | None = None,
        exact_env: Mapping[str, str] | None = None, command: Sequence[str] = (COMMAND,),
    ) -> None:  # fmt: skip
        number = len(list(folder.glob("daemon*.out")))
        self.conf = folder / f"daemon{number}{ENDINGS[kind]}"
        self.conf.write_text(conf)
        self.pidfile = folder / f"daemon{number}.pid"
        self.output = folder / f"daemon{number}.out"
        self.metrics_port = clients.free_port() if metrics else 0
        argv = [
            *prefix, *command, OPTIONS[kind], str(self.conf), "-dontfork", "-pidfile", str(self.pidfile), *options,
        ]  # fmt: skip
        if metrics:
            argv += ["--metrics", f"127.0.0.1:{self.metrics_port}"]
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd or folder, start_new_session=True,
                env=environment(env) if exact_env is None else dict(exact_env),
            )  # fmt: skip
        self.baseline: dict[str, int] = {}
        self.first: dict[str, dict[int, str]] = {}
        self.may_say_anything = False

    # ---- starting and stopping ----

    def has_started(self) -> bool:
        """Whether the daemon serves what it can. That may be less than what is configured, and then is not "ready"."""
        status, text = clients.http(self.metrics_port, "/-/ready")
        return status == 200 or (status == 503 and not text.startswith("not ready: "))

    def await_ready(self) -> Daemon:
        """Wait until the daemon serves: its pid file is written once all listeners are open."""

        def there() -> bool:
            assert self.running, f"the daemon ended with status {self.process.returncode}: {self.said()}"
            return self.pidfile.exists() and self.pidfile.read_text().endswith("\n")

        wait_for(there, lambda: f"ready; so far: {self.said()}", STARTING)
        if self.metrics_port:
            wait_for(self.has_started, "/-/ready answers", STARTING)
        self.remember_descriptors()
        return self

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def pid(self) -> int:
        """The supervisor's pid, also where another program has started it."""
        return int(self.pidfile.read_text())

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def rewrite(self, conf: str) -> None:
        """Replace the configuration as a whole: no reload finds half of it."""
        fresh = self.conf.with_suffix(".fresh")
        fresh.write_text(conf)
        fresh.rename(self.conf)

    def reload(self, conf: str | None = None) -> None:
        """Send SIGHUP, with a new configuration if there is one; returns when the daemon logs that it has taken it."""
        if conf is not None:
            self.rewrite(conf)
        before = self.said().count("Reconfigured:")
        self.send(signal.SIGHUP)
        wait_for(lambda: self.said().count("Reconfigured:") > before, lambda: f"reloaded: {self.said()[-500:]}")

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20.0) -> int:
        """Stop the daemon by a signal; returns its exit status."""
        if self.running:
            with suppress(OSError, ValueError):
                self.send(number)
        return self.process.wait(timeout)

    # ---- what it says and shows ----

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def roles(self) -> dict[str, int]:
        """Title up to a comma -> pid, of the supervisor and its own processes: `acceptor 1`, `monitor`. A process that
        is only just forked has its parent's title: a server's before exec is an acceptor's child, and no role; and the
        first that is called supervisor is it."""
        found: dict[str, int] = {}
        children = (pid for pid, each in below(self.pid).items() if each.parent == self.pid)
        for pid in (self.pid, *children):
            name = title(pid)
            if name.startswith(OWN):
                found.setdefault(name.removeprefix(OWN).partition(",")[0], pid)
        return found

    def servers(self) -> list[int]:
        """Programs that it started and that run, with what those started. During a reload two roles have one name; a
        process that is just ending has none."""
        found = {pid: title(pid) for pid, each in below(self.pid).items() if each.alive}
        return sorted(pid for pid, name in found.items() if name and not name.startswith(OWN))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels; fails when there is none."""
        status, text = clients.http(self.metrics_port, "/metrics")
        assert status == 200, (status, text)
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        found = [
            float(value) for sample, given, value in SAMPLE.findall(text)
            if sample == name and wanted <= set(re.findall(r'\w+="[^"]*"', given))
        ]  # fmt: skip
        assert found, f"no sample {name}{labels or ''}"
        return sum(found)

    def await_metric(self, name: str, value: float, timeout: float = PATIENCE, **labels: str) -> None:
        seen: list[float] = [0.0]

        def right() -> bool:
            seen[0] = self.metric(name, **labels)
            return seen[0] == value

        wait_for(right, lambda: f"{name}{labels} = {value:g}, last seen {seen[0]:g}", timeout)

    # ---- what must hold ----

    def counts(self) -> dict[str, int]:
        """Open descriptors of each of its own processes, without those that belong to a running server."""
        table = below(self.pid)
        servers = [each.parent for pid, each in table.items() if not title(pid).startswith(OWN)]
        roles = self.roles()
        return {name: len(each) - servers.count(roles.get(name, 0)) for name, each in self.opened().items()}

    def opened(self) -> dict[str, dict[int, str]]:
        """What is open in each process of the daemon, but for what is opened at its first use and kept."""
        found = {name: descriptors(pid) for name, pid in self.roles().items()}
        return {name: {fd: to for fd, to in each.items() if not to.endswith(KEPT)} for name, each in found.items()}

    def remember_descriptors(self) -> None:
        """What is open now is what may be open at the end; after a reload that changes the services do this again."""
        settled: list[dict[str, int]] = [{}, {}]

        def quiet() -> bool:
            settled[:] = [settled[1], self.counts()]
            at_rest = all(asleep(pid) for pid in [*self.roles().values(), *below(self.pid)])
            return at_rest and "supervisor" in settled[1] and settled[0] == settled[1]

        wait_for(quiet, lambda: f"at rest with the same descriptors, {settled}", STARTING)
        self.baseline, self.first = settled[1], self.opened()

    def grown(self) -> list[tuple[str, set[tuple[int, str]]]]:
        """Processes with more descriptors than at the start, and which. A program that was just ending at the start
        was counted out there without a descriptor of its own: where none is new, there are not more."""
        now, opened = self.counts(), self.opened()
        more = [name for name, then in self.baseline.items() if now.get(name, 0) > then]
        new = [(name, opened.get(name, {}).items() - self.first[name].items()) for name in more]
        return [(name, which) for name, which in new if which]

    def zombies(self) -> list[str]:
        return [each.name for each in below(self.pid).values() if each.state == "Z"]

    def unhandled(self) -> list[str]:
        return [line for line in self.said().splitlines() if UNHANDLED.search(line)]

    def finish(self) -> list[str]:
        """Stop the daemon; returns whatever is not as it must be."""
        problems = []
        family = set()
        with suppress(AssertionError, OSError, ValueError):
            if self.running:
                for what in (self.zombies, self.grown):
                    # Asked once more after it was right, it may see the next server just ending: that is no fault.
                    try:
                        wait_for(lambda what=what: not what(), what, 10)  # type: ignore[misc]
                    except AssertionError as found:
                        problems.append(f"{what.__name__}: {found}")
                family = set(below(self.pid))
        try:
            if status := self.stop():
                problems.append(f"exit status {status}")
        except subprocess.TimeoutExpired:
            problems.append("it did not end on SIGTERM")
            family |= set(below(self.process.pid)) | {self.process.pid}
        problems += clear(family)
        if lines := self.unhandled():
            problems.append(f"it said {lines}")
        return problems if not self.may_say_anything else []


def clear(family: set[int]) -> list[str]:
    """Wait until these processes are gone; kills those that stay, and returns them."""

    def left() -> list[int]:
        for pid in family:
            reap(pid)
        return [pid for pid in family if (each := process(pid)) is not None and each.alive]

    with suppress(AssertionError):
        wait_for(lambda: not left(), "", 5)
    stayed = left()
    named = [f"left running: {pid} {title(pid)}" for pid in stayed]
    for pid in stayed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if stayed:
        wait_for(lambda: not left(), "killed processes are gone")
    return named


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of the test's process without what a service manager or pytest adds."""
    dropped = ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return kept | dict(more or {})


def records(path: Path, kind: str = "", service: str = "") -> list[str]:
    """Records of a log_type FILE, without their time."""
    text = path.read_text(errors="replace") if path.exists() else ""
    found = [line.partition(": ")[2] for line in text.splitlines()]
    return [line for line in found if line.startswith(f"{kind}: {service}" if kind else "")]


class Launch(Protocol):
    """The fixture `launch`: start the daemon on a configuration, and return when it is ready."""

    def __call__(
        self, conf: str, *options: str, kind: str = "xinetd", metrics: bool = False,
        env: Mapping[str, str] | None = None, prefix: Sequence[str] = (), cwd: Path | None = None,
        command: Sequence[str] = (COMMAND,),
    ) -> Daemon: ...  # fmt: skip
