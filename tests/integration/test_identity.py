"""Services whose attributes change under them: sessions, limits and listeners stay as far as they can."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.clients import Held, connect, free_port
from support.daemon import Launch
from support.proc import below, listeners, process, wait_for
from support.texts import ME, defaults, entry
from support.visitors import Visitors

CAT = "/bin/cat"


@contextmanager
def held(*places: tuple[int | str, str]) -> Iterator[list[Held]]:
    clients = [Held(port, host=host) for port, host in places]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def test_each_attribute_under_sessions(launch: Launch, folder: Path) -> None:
    """One session through all changes; it goes on, and counts: of two places of `instances` it has one."""
    a, b, path = free_port(), free_port(), str(folder / "cat.socket")
    another = folder / "another"
    another.symlink_to(CAT)
    ours, theirs = "127.0.0.1", "127.0.0.2"
    one: dict[str, object] = {"bind": ours}
    two: dict[str, object] = {"bind": f"{ours} {theirs}"}
    changes: list[tuple[int, dict[str, object], tuple[int | str, str]]] = [
        (a, two, (a, theirs)),
        (a, {"bind": theirs}, (a, theirs)),
        (a, {"bind": "0.0.0.0"}, (a, ours)),
        (a, one | {"flags": "IPv4"}, (a, ours)),
        (b, one, (b, ours)),
        (b, one | {"user": "nobody"} if os.geteuid() == 0 else one | {"nice": 1}, (b, ours)),
        (b, one | {"server": another, "umask": "027"}, (b, ours)),
        (0, {"protocol": "unix", "bind": path}, (path, "")),
        (b, one | {"type": "INTERNAL UNLISTED"}, (b, ours)),
        (b, one | {"per_source": 2, "instances": "UNLIMITED"}, (b, ours)),
    ]

    def text(port: int, more: dict[str, object]) -> str:
        values = {"instances": 2} | more
        made = entry("echo", port, values.pop("server", CAT), **values)  # type: ignore[arg-type]
        return defaults() + (made if port else made.replace("    port = 0\n", ""))

    daemon = launch(text(a, one), metrics=True)
    with held((a, ours)) as (session,):
        assert session.admitted
        for port, more, where in changes:
            daemon.reload(text(port, more))
            with held(where, where) as others:
                assert [each.admitted for each in others] == [True, False], (more, daemon.said()[-500:])
            assert session.echoes(), more
            daemon.await_metric("fastinetd_children", 1, service="echo")
    wait_for(lambda: not daemon.servers(), "the session has ended")
    assert "dropped=1" not in daemon.said()
    daemon.remember_descriptors()


def test_an_address_more_under_load(launch: Launch) -> None:
    """The address that both configurations have stays open; no client of it is lost."""
    port, ours = free_port(), "127.0.0.1"
    addresses = [ours, f"{ours} 127.0.0.2", f"127.0.0.3 {ours}", ours]
    daemon = launch(defaults() + entry("cat", port, CAT))
    inode = listeners()[port]
    with Visitors(port, 3) as visitors:
        for bind in addresses * 3:
            daemon.reload(defaults() + entry("cat", port, CAT, bind=bind))
        visitors.await_more(10)
    assert visitors.problems == []
    assert listeners()[port] == inode
    daemon.remember_descriptors()


def test_a_mistake_ends_no_session(launch: Launch) -> None:
    """With an error the service listens no more; its sessions go on, count when it is mended, end when it is gone."""
    port, other = free_port(), free_port()
    rest = defaults() + entry("other", other, CAT)
    daemon = launch(rest + entry("cat", port, CAT, instances=1), metrics=True)
    with held((port, "127.0.0.1")) as (session,):
        for mistake in ({"server": "/nowhere/at/all"}, {"nice": "much"}, {"user": "nobody-of-this-name"}):
            values = {"server": CAT, "instances": 1} | mistake
            daemon.reload(rest + entry("cat", port, values.pop("server"), **values))  # type: ignore[arg-type]
            wait_for(lambda: port not in listeners(), "the port is free")
            assert session.echoes()
        daemon.reload(rest + entry("cat", port, CAT, instances=1))
        wait_for(lambda: port in listeners(), "it listens again")
        with held((port, "127.0.0.1")) as (second,):
            assert not second.admitted
        daemon.await_metric("fastinetd_children", 1, service="cat")
        daemon.reload(rest + entry("cat", port, "/nowhere/at/all"))
        assert session.echoes()
        daemon.reload(rest)
        wait_for(lambda: not session.echoes(), "its server was told to end")
    daemon.remember_descriptors()


def test_a_removed_service_that_comes_back(launch: Launch, folder: Path) -> None:
    """Its server does not end when it is told; it is the service's again with the next reload."""
    port, other = free_port(), free_port()
    stubborn = folder / "stubborn"
    stubborn.write_text("#!/bin/sh\ntrap '' TERM\nexec /bin/cat\n")
    stubborn.chmod(0o755)
    rest = defaults() + entry("other", other, CAT)
    full = rest + entry("cat", port, stubborn, instances=1)
    daemon = launch(full, metrics=True)
    with held((port, "127.0.0.1")) as (session,):
        daemon.reload(rest)
        wait_for(lambda: port not in listeners(), "the port is free")
        daemon.reload(full)
        wait_for(lambda: port in listeners(), "it listens again")
        with held((port, "127.0.0.1")) as (second,):
            assert not second.admitted
        assert session.echoes()
    daemon.await_metric("fastinetd_children", 0, service="cat")


def test_wait_servers_leave_with_their_address(launch: Launch) -> None:
    """A wait server has the listening socket: it stays while its address does, and is told to end when that goes."""
    port, later = free_port(), free_port()

    def text(port: int, bind: str) -> str:
        return defaults() + entry("sleep", port, "/bin/sleep", "600", bind=bind, wait="yes")

    def sleeping() -> list[int]:
        return [pid for pid, each in below(daemon.pid).items() if each.name == "sleep"]

    daemon = launch(text(port, "127.0.0.1"))
    connect(port).close()
    (server,) = wait_for(sleeping, "a server")
    daemon.reload(text(port, "127.0.0.1 127.0.0.2"))
    connect(port, "127.0.0.2").close()
    wait_for(lambda: len(sleeping()) == 2, "a server for the other address")
    assert process(server)
    daemon.reload(text(port, "127.0.0.2"))
    wait_for(lambda: process(server) is None, "the first one has ended")
    (second,) = sleeping()
    daemon.reload(text(later, "127.0.0.2"))
    wait_for(lambda: process(second) is None, "the second one too")
    wait_for(lambda: not {port} & set(listeners()), "nobody listens there")
    daemon.remember_descriptors()


def test_lines_of_inetd_conf(launch: Launch) -> None:
    """A line less above: the sessions of its own end, those of the lines below stay with their lines."""
    port = free_port()
    lines = [f"127.0.0.{number}:{port} stream tcp nowait {ME} {CAT} cat\n" for number in (1, 2, 3)]
    daemon = launch("".join(lines), kind="inetd", metrics=True)
    with held(*((port, f"127.0.0.{number}") for number in (1, 2, 3))) as sessions:
        daemon.reload("".join(lines[1:]))
        wait_for(lambda: not sessions[0].echoes(), "the session of the removed line has ended")
        assert sessions[1].echoes()
        assert sessions[2].echoes()
        assert "new=0 old=2 dropped=1" in daemon.said()
    daemon.remember_descriptors()
