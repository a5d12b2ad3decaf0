"""What happens above the rate of `cps`, for each `over_rate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.clients import Held, ask, connect, crowd, free_port, has_ipv6
from support.daemon import Launch, records
from support.proc import listeners, listens, wait_for
from support.texts import defaults, entry


def asked(port: int) -> bytes:
    try:
        return ask(port, b"x")
    except ConnectionError:
        return b"refused"


def test_wait(launch: Launch) -> None:
    """Nobody is turned away; the port stays open."""
    port = free_port()
    daemon = launch(defaults() + entry("cat", port, "/bin/cat", cps="20 1"), metrics=True)
    assert crowd(lambda _: asked(port), 60, 20) == [b"x"] * 60
    daemon.await_metric("fastinetd_child_exits_total", 60, status="success")
    assert daemon.metric("fastinetd_connections_rejected_total") == 0


def test_refuse(launch: Launch, folder: Path) -> None:
    """The surplus is closed without a byte, recorded and counted; the port stays open; it recovers by itself."""
    port, log = free_port(), folder / "records"
    daemon = launch(defaults(log) + entry("cat", port, "/bin/cat", cps="5 30", over_rate="refuse"), metrics=True)
    inodes = listeners()[port]
    answers = crowd(lambda _: asked(port), 100, 50)
    served, refused = answers.count(b"x"), answers.count(b"")
    assert served + refused == 100
    assert served >= 5
    assert refused >= 10
    daemon.await_metric("fastinetd_connections_rejected_total", refused, reason="rate")
    wait_for(lambda: len(records(log, "FAIL", "cat")) == refused, "every refusal is recorded")
    assert set(records(log, "FAIL")) == {"FAIL: cat connections per second from=127.0.0.1"}
    assert listeners()[port] == inodes
    wait_for(lambda: asked(port) == b"x", "clients are served again", 5)


def test_close(launch: Launch, folder: Path) -> None:
    """Nobody listens for the seconds of `cps`, other services do, and running servers are still counted afterwards."""
    port, other, log = free_port(), free_port(), folder / "records"
    limits: dict[str, Any] = {"cps": "5 3", "over_rate": "close", "instances": 2}
    daemon = launch(defaults(log) + entry("cat", port, "/bin/cat", **limits) + entry("other", other, "/bin/cat"))
    with Held(port) as first:
        assert first.admitted

        def too_many() -> bool:
            crowd(lambda _: asked(port), 30, 30)
            return not listens(port)

        wait_for(too_many, "the port is closed")
        said = "Deactivating service cat due to excessive incoming connections.  Restarting in 3 seconds."
        wait_for(lambda: said in daemon.said(), "it is said", 5)
        assert asked(other) == b"x"
        assert first.echoes()
        wait_for(lambda: listens(port), "the port is open again", 10)
        wait_for(lambda: "Activating service cat" in daemon.said(), "it is said", 5)
        wait_for(lambda: len(daemon.servers()) == 1, "only the first server runs")
        with Held(port) as second:
            assert second.admitted
            assert not Held(port).admitted, "the server that ran through the pause is forgotten"
    assert any("connections per second" in line for line in records(log, "FAIL"))


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_close_on_every_address(launch: Launch) -> None:
    """A service has one port: clients of the other family find it closed, and open again, as well."""
    port = free_port()
    text = entry("cat", port, "/bin/cat", cps="1 2", over_rate="close", bind="127.0.0.1 ::1")
    daemon = launch(defaults() + text)

    def too_many() -> bool:
        crowd(lambda _: asked(port), 5, 5)
        return "Deactivating service cat" in daemon.said()

    wait_for(too_many, "the port is closed")
    for host in ("127.0.0.1", "::1"):
        with pytest.raises(ConnectionRefusedError):
            connect(port, host)
    wait_for(lambda: "Activating service cat" in daemon.said(), "it is open again", 10)
    for host in ("127.0.0.1", "::1"):
        connect(port, host).close()


@pytest.mark.parametrize("over_rate", ["refuse", "close"])
def test_stopped_during_a_pause(launch: Launch, over_rate: str) -> None:
    """SIGTERM while the service is paused ends the daemon like any other."""
    port = free_port()
    daemon = launch(defaults() + entry("cat", port, "/bin/cat", cps="2 600", over_rate=over_rate))
    wait_for(lambda: set(crowd(lambda _: asked(port), 30, 30)) - {b"x"}, "the rate is used up")
    assert daemon.stop() == 0
