"""Thousands of connections through pools of every kind while their processes are killed, stopped and replaced.

Each client has a name, and each server writes down whom it served: so it is seen whether somebody was served twice, and
who was not served at all. FASTINETD_SOAK says for how many seconds; a minute by default.
"""

from __future__ import annotations

import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from adversity.harm import Keep, acceptors, at_rest, consistent, replaced, switches, unbalanced

from support.clients import ask, connect, free_port, read_line
from support.daemon import Launch
from support.pools import descendants, gauges, served, tally
from support.proc import below, descriptors, process, title, wait_for
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")

SECONDS = float(os.environ.get("FASTINETD_SOAK", "60"))
KINDS: dict[str, dict[str, object]] = {
    "zygote": {"spawn": "zygote"},
    "first": {"spawn": "zygote", "snapshot": "first_io"},
    "prefork": {"spawn": "prefork", "min_spare": 6, "max_spare": 6},
    "worker": {"spawn": "worker", "min_spare": 4, "max_spare": 4, "max_workers": 16, "max_requests": 50},
}


class Soak:
    """The daemon, its clients, and what may be lost."""

    def __init__(self, launch: Launch, folder: Path) -> None:
        program, self.file = tally(folder)
        self.log = folder / "records"
        self.ports = {name: free_port() for name in KINDS}
        self.programs = {name: folder / f"tally-{name}" for name in KINDS}
        for path in self.programs.values():
            shutil.copy(program, path)
        self.daemon = launch(self.text(0), "--acceptors", "2", metrics=True)
        self.names = itertools.count()
        self.answered: Counter[str] = Counter()
        self.lost: list[str] = []
        self.may_lose = 0
        self.stopped: list[tuple[float, int]] = []
        self.over = threading.Event()
        self.did: Counter[str] = Counter()
        self.random = random.Random(4711)

    def text(self, number: int) -> str:
        umask = "027" if number % 2 else "022"
        services = (
            entry(name, self.ports[name], self.programs[name], f"@{self.file}", user="nobody", **more)
            for name, more in KINDS.items()
        )
        return defaults(self.log, instances="UNLIMITED", umask=umask) + "".join(services)

    # ---- clients ----

    def clients(self, seconds: float, harm: Callable[[], None], threads: int = 8) -> None:
        """Clients without a break, and harm beside them."""
        self.over.clear()
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for each in workers:
            each.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            harm()
            self.go_on()
        self.over.set()
        self.go_on(all_of_them=True)
        for each in workers:
            each.join(60)

    def _work(self) -> None:
        while not self.over.is_set():
            name = f"n{next(self.names)}"
            kind = random.choice([*KINDS])
            try:
                answer = ask(self.ports[kind], f"{name}\n".encode(), timeout=45)
            except (OSError, AssertionError) as error:
                answer = repr(error).encode()
            if answer == f"{name}\n".encode():
                self.answered[name] += 1
            else:
                self.lost.append(f"{kind} {name} {answer[:80]!r}")

    # ---- harm ----

    def go_on(self, all_of_them: bool = False) -> None:
        for moment, pid in [*self.stopped]:
            if all_of_them or moment < time.monotonic():
                self.stopped.remove((moment, pid))
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def some(self) -> int | None:
        pids = [pid for pid in descendants(self.daemon, "") if pid not in {pid for _, pid in self.stopped}]
        return self.random.choice(pids) if pids else None

    def kill_one(self) -> None:
        """Stop it, see whether it has a client, and kill it: nobody else may be lost."""
        pid = self.some()
        if pid is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGSTOP)
            wait_for(lambda: (each := process(pid)) is None or each.state in "TZ", "stopped")
            opened = descriptors(pid)
            idle = 0 not in opened if 63 in opened else set(opened) == {0, 1, 2, 3}
            self.did["killed idle" if idle else "killed busy"] += 1
            self.may_lose += not idle
            os.kill(pid, signal.SIGKILL)

    def stop_one(self) -> None:
        pid = self.some()
        if pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            self.stopped.append((time.monotonic() + self.random.choice([0.1, 1.0, 7.0]), pid))
            self.did["stopped"] += 1

    def replace_program(self) -> None:
        path = self.programs[self.random.choice([*KINDS])]
        fresh = path.with_suffix(".fresh")
        shutil.copy(path, fresh)
        fresh.rename(path)
        self.did["replaced"] += 1

    def acceptors(self) -> list[int]:
        """The acceptors; not what one is just starting, which has its title until exec."""
        found = below(self.daemon.pid).values()
        return [each.pid for each in found if each.parent == self.daemon.pid and "acceptor" in title(each.pid)]

    def starve_descriptors(self) -> None:
        for pid in self.acceptors():
            with suppress(ProcessLookupError):  # it has just been retired
                before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(descriptors(pid)) + 1, before[1]))
                threading.Event().wait(0.1)  # for as long as harm is done
                resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        self.did["starved"] += 1

    def starve_processes(self) -> None:
        """For a zygote: it cannot fork any more."""
        pid = self.some()
        if pid is not None:  # by its own user: not every root may do that to others
            command = ["prlimit", f"--pid={pid}", "--nproc=0:0"]
            subprocess.run(command, user="nobody", group="nogroup", extra_groups=[], check=False, capture_output=True)
        self.did["no processes"] += 1

    def reload(self) -> None:
        self.did["reloaded"] += 1
        self.daemon.reload(self.text(self.did["reloaded"]))

    def kill_acceptor(self) -> None:
        """Clients that it had accepted, and had not yet given to anybody, are lost with it."""
        victim = self.random.choice(self.acceptors())
        os.kill(victim, signal.SIGKILL)
        self.may_lose += 64
        self.did["acceptor"] += 1
        replaced(self.daemon, victim, 4)

    # ---- what must hold ----

    def check(self) -> None:
        served_names = served(self.file)
        twice = {name: count for name, count in served_names.items() if count > 1}
        assert not twice, (twice, self.did)
        missing = [name for name in self.answered if name not in served_names]
        assert not missing, missing
        assert len(self.lost) <= self.may_lose, (len(self.lost), self.may_lose, self.lost[:20], self.did)
        for name in KINDS:
            self.daemon.await_metric("fastinetd_children", 0, service=name)
        wait_for(lambda: not self.daemon.zombies(), self.daemon.zombies)
        wait_for(self.gauges_are_true, self.gauges_seen, 30)
        consistent(self.daemon)

    def unbalanced(self) -> dict[str, tuple[int, int]]:
        """Servers of which not as many ends are told as starts."""
        return {f"{name} {pid}": each for name in KINDS for pid, each in unbalanced(self.log, name).items()}

    def gauges_are_true(self) -> bool:
        return all(sum(seen) == running for seen, running in self.gauges_seen().values())

    def gauges_seen(self) -> dict[str, tuple[tuple[int, ...], int]]:
        """What the daemon says, and what there is."""
        return {
            name: (tuple(gauges(self.daemon, name).values()), len(descendants(self.daemon, f"tally-{name}")))
            for name in KINDS
        }  # fmt: skip


@pytest.mark.slow
def test_soak(launch: Launch, folder: Path) -> None:
    soak = Soak(launch, folder)
    daemon = soak.daemon
    gentle = [soak.kill_one] * 12 + [soak.stop_one] * 2 + [soak.replace_program, soak.starve_processes]

    def harm() -> None:
        soak.random.choice(gentle)()
        threading.Event().wait(0.05)  # between two harms

    soak.clients(SECONDS / 2, harm)
    soak.check()
    accepted = sum(int(daemon.metric("fastinetd_connections_accepted_total", service=name)) for name in KINDS)
    assert accepted == len(soak.answered) + len(soak.lost)
    wait_for(lambda: not soak.unbalanced(), soak.unbalanced)

    rough = [*gentle, soak.starve_descriptors, soak.reload, soak.kill_acceptor]

    def more_harm() -> None:
        soak.random.choice(rough)()
        threading.Event().wait(0.05)  # between two harms

    soak.clients(SECONDS / 2, more_harm)
    soak.check()
    wait_for(lambda: not soak.unbalanced(), soak.unbalanced)
    print(dict(soak.did), len(soak.answered), "served", len(soak.lost), "lost of at most", soak.may_lose)
    before = acceptors(daemon)
    soak.reload()  # zygotes that may not fork any more would try again each second
    wait_for(lambda: not set(before) & set(daemon.roles().values()), "other acceptors, and other pools")
    soak.check()
    idle(acceptors(daemon))


def idle(pids: list[int]) -> None:
    """With pools at rest, acceptors sleep."""

    at_rest(pids, 1, 3, switches)


@pytest.mark.parametrize("name", ["zygote", "prefork", "worker"])
def test_limits_are_exact_after_an_acceptors_death(
    launch: Launch, keep: Keep[Any], folder: Path, name: str
) -> None:
    """Also where connections were on their way to a pool whose processes are stopped, and take them afterwards."""
    program, file = tally(folder)
    port, log = free_port(), folder / "records"
    more = {**KINDS[name], "instances": 5, "per_source": 4}
    text = defaults(log) + entry("held", port, program, f"@{file}", user="nobody", **more)
    daemon = launch(text, "--acceptors", "1", metrics=True)
    for turn in range(3):
        (acceptor,) = acceptors(daemon)
        wait_for(lambda: gauges(daemon, "held")["idle" if name != "zygote" else "zygote"], "ready")
        pool = [*descendants(daemon, "tally")]
        first = [keep(Guest(port, f"hold{turn}{n}")) for n in range(2)]
        assert all(each.admitted() for each in first)
        for pid in pool:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        late = [keep(Guest(port, f"hold{turn}late{n}")) for n in range(2)]
        daemon.await_metric("fastinetd_children", 4, service="held")
        os.kill(acceptor, signal.SIGKILL)
        for pid in pool:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        replaced(daemon, acceptor, 3)
        admitted = [*first, *(each for each in late if each.admitted())]
        assert all(each.echoes() for each in admitted)
        daemon.await_metric("fastinetd_children", len(admitted), service="held")
        others = [keep(Guest(port, f"hold{turn}more{n}")) for n in range(5)]
        assert sum(each.admitted() for each in others) == 4 - len(admitted), "per_source = 4"
        for each in (*first, *late, *others):
            each.close()
        daemon.await_metric("fastinetd_children", 0, service="held")
    consistent(daemon)
    assert max(served(file).values()) == 1
    wait_for(lambda: not unbalanced(log, "held"), lambda: unbalanced(log, "held"))


class Guest:
    """A client that stays; nobody need have answered yet."""

    def __init__(self, port: int | str, name: str, host: str = "127.0.0.1") -> None:
        self.socket = connect(port, host)
        self.name = f"{name}\n".encode()
        with suppress(OSError):
            self.socket.sendall(self.name)

    def admitted(self) -> bool:
        return read_line(self.socket) == self.name

    def echoes(self) -> bool:
        self.socket.sendall(b"again\n")
        return read_line(self.socket) == b"again\n"

    def close(self) -> None:
        self.socket.close()
