"""Reloads without end, while clients come without end."""

from __future__ import annotations

import signal
from pathlib import Path

from support.clients import Held, ask, crowd, free_port
from support.daemon import Launch
from support.proc import listeners, wait_for
from support.texts import defaults, entry
from support.visitors import Visitors


def test_storm(launch: Launch) -> None:
    """Forty reloads; every second one adds services, the others remove them and change a limit."""
    kept, held_port = free_port(), free_port()
    others = [free_port() for _ in range(10)]

    def text(number: int) -> str:
        more = "".join(entry(f"other{i}", port, "/bin/cat") for i, port in enumerate(others)) if number % 2 else ""
        held = entry("held", held_port, "/bin/cat", instances=3 + number % 2)
        return defaults() + entry("kept", kept, "/bin/cat") + held + more

    daemon = launch(text(0), metrics=True)
    inodes = listeners()[kept]
    with Held(held_port) as held, Visitors(kept, 3) as visitors:
        assert held.admitted
        for number in range(1, 41):
            daemon.reload(text(number))
            served = crowd(lambda i: ask(others[i], b"x"), 3, 3) if number % 2 else [b"x"]
            assert set(served) == {b"x"}
        visitors.await_more(10)
        assert held.echoes()
        assert daemon.metric("fastinetd_children", service="held") == 1
    assert visitors.problems == []
    assert listeners()[kept] == inodes
    assert not set(listeners()) & set(others)
    wait_for(lambda: len(daemon.roles()) == len(daemon.baseline), lambda: (daemon.roles(), daemon.baseline))


def test_signals_in_a_burst(launch: Launch) -> None:
    """Two hundred signals one upon the other, of both kinds: the last text is what is served."""
    first, second = free_port(), free_port()
    daemon = launch(defaults() + entry("first", first, "/bin/cat"))
    with Visitors(first, 2) as visitors:
        for number in range(200):
            if number == 100:
                daemon.rewrite(defaults() + entry("first", first, "/bin/cat") + entry("second", second, "/bin/cat"))
            daemon.send(signal.SIGHUP if number % 3 else signal.SIGUSR2)
        wait_for(lambda: second in listeners(), "the second service listens")
        visitors.await_more(10)
    assert visitors.problems == []
    assert ask(second, b"x") == b"x"
    daemon.remember_descriptors()


def test_limits_change_under_running_servers(launch: Launch) -> None:
    """A lower limit ends nobody, and holds for whom comes next."""
    port = free_port()
    daemon = launch(defaults() + entry("cat", port, "/bin/cat", instances=4))
    clients = [Held(port) for _ in range(4)]
    daemon.reload(defaults() + entry("cat", port, "/bin/cat", instances=2))
    assert all(client.echoes() for client in clients)
    for client in clients[:2]:
        client.close()
    wait_for(lambda: len(daemon.servers()) == 2, "two servers ended")
    assert not Held(port).admitted
    clients[2].close()

    def room() -> bool:
        client = Held(port)
        clients.append(client)
        return client.admitted

    wait_for(room, "one place is free")
    for client in clients:
        client.close()


def test_a_program_that_appears(launch: Launch, folder: Path) -> None:
    """A service whose program is missing is left out, and comes with the reload after the program is there."""
    port, missing = free_port(), free_port()
    script = folder / "late"
    text = defaults() + entry("cat", port, "/bin/cat") + entry("late", missing, script)
    daemon = launch(text)
    assert missing not in listeners()
    assert "late" in daemon.said()
    script.write_text("#!/bin/sh\necho here\n")
    script.chmod(0o755)
    daemon.reload(text)
    wait_for(lambda: missing in listeners(), "the service listens")
    assert ask(missing) == b"here\n"
    daemon.remember_descriptors()
