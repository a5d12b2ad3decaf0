"""The daemon's life as its operator sees it: options, signals, titles, a refused reload."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.clients import Held, ask, free_port, http
from support.daemon import Daemon, Launch, records
from support.proc import listeners, process, title, wait_for
from support.texts import defaults, entry


def test_quit_leaves_servers_alone(launch: Launch) -> None:
    """Nobody listens any more, the daemon ends with 0, and who is served goes on."""
    port = free_port()
    daemon = launch(defaults() + entry("cat", port, "/bin/cat"))
    with Held(port) as client:
        assert client.admitted
        (server,) = daemon.servers()
        assert daemon.stop(signal.SIGQUIT) == 0
        assert port not in listeners()
        assert client.echoes()
    wait_for(lambda: (each := process(server)) is None or not each.alive, "the server ends with its client")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_servers_are_told_of_the_end(launch: Launch, folder: Path, number: int) -> None:
    port, log = free_port(), folder / "records"
    daemon = launch(defaults(log) + entry("cat", port, "/bin/cat"))
    with Held(port) as client:
        assert client.admitted
        assert daemon.stop(number, timeout=8) == 0
        assert not client.echoes()
    assert [line.split(" pid=")[0] for line in records(log, "EXIT")] == ["EXIT: cat signal=15"]
    assert not daemon.pidfile.exists()


def test_a_second_daemon_with_the_same_pid_file(launch: Launch, folder: Path) -> None:
    """It would share the first one's datagrams; it is told who is there, and touches nothing."""
    port = free_port()
    daemon = launch(defaults() + entry("cat", port, "/bin/cat"))
    argv = [sys.executable, "-m", "fastinetd", "-f", str(daemon.conf), "-dontfork", "-pidfile", str(daemon.pidfile)]
    second = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=20)
    assert (second.returncode, second.stdout) == (1, "")
    assert f"another daemon, process {daemon.pid}, has the pid file {daemon.pidfile}; end it first" in second.stderr
    with Held(port) as client:
        assert client.echoes()


def test_titles(launch: Launch) -> None:
    """Each process is called what it is; the supervisor counts."""
    ports = [free_port() for _ in range(2)]
    text = entry("cat", ports[0], "/bin/cat", only_from="localhost 127.0.0.1") + entry("other", ports[1], "/bin/cat")
    daemon = launch(defaults() + text, "--acceptors", "2", metrics=True)
    clients = [Held(ports[0]) for _ in range(3)]
    assert all(client.admitted for client in clients)
    wait_for(lambda: title(daemon.pid) == "fastinetd: supervisor, 2 services, 3 children", lambda: title(daemon.pid))
    names = sorted(title(pid) for pid in daemon.roles().values())
    assert names == [
        "fastinetd: acceptor 1", "fastinetd: acceptor 2", "fastinetd: doorman", "fastinetd: monitor",
        "fastinetd: supervisor, 2 services, 3 children",
    ]  # fmt: skip
    for client in clients:
        client.close()
    wait_for(lambda: title(daemon.pid) == "fastinetd: supervisor, 2 services, 0 children", lambda: title(daemon.pid))


def test_counts_are_compared_from_time_to_time(launch: Launch) -> None:
    daemon = launch(defaults() + entry("cat", free_port(), "/bin/cat"), "-cc", "1")
    wait_for(lambda: daemon.said().count("Consistency check passed") >= 2, daemon.said)


@pytest.mark.parametrize(("limit", "served"), [("2", 2), ("0", 4)])
def test_limit_over_all_services(launch: Launch, folder: Path, limit: str, served: int) -> None:
    ports, log = [free_port(), free_port()], folder / "records"
    text = "".join(entry(f"cat{n}", port, "/bin/cat") for n, port in enumerate(ports))
    daemon = launch(defaults(log) + text, "-limit", limit)
    clients = [Held(port) for port in ports * 2]
    assert [client.admitted for client in clients].count(True) == served
    wait_for(lambda: len(records(log, "FAIL")) == 4 - served, lambda: records(log))
    assert all("process_limit from=127.0.0.1" in line for line in records(log, "FAIL"))
    for client in clients:
        client.close()
    wait_for(lambda: not daemon.servers(), "all have ended")


def test_stays_without_any_service(launch: Launch) -> None:
    """-stayalive starts with none, and a reload brings one."""
    port = free_port()
    daemon = launch(defaults(), "-stayalive")
    daemon.reload(defaults() + entry("cat", port, "/bin/cat"))
    assert ask(port, b"x") == b"x"
    daemon.remember_descriptors()


def metrics_of(daemon: Daemon) -> tuple[Any, ...]:
    names = ("successful", "success_timestamp_seconds")
    return tuple(daemon.metric(f"fastinetd_config_last_reload_{name}") for name in names)


def test_ready_when_all_services_listen(launch: Launch) -> None:
    """A port that somebody else has, and a service that cannot be started, are named with their reasons."""
    port, taken = free_port(), free_port()

    def page(query: str = "") -> tuple[int, str]:
        status, body = http(daemon.metrics_port, "/-/ready" + query)
        return status, body

    with socket.socket() as other:
        other.bind(("127.0.0.1", taken))
        other.listen()
        services = entry("cat", port, "/bin/cat") + entry("date", taken, "/bin/date")
        daemon = launch(defaults() + services + entry("none", 9, "/no/such"), metrics=True)
        status, text = page()
        assert status == 503
        first, *lines = text.splitlines()
        reasons = dict(line.split(": ", 1) for line in lines)
        assert (first, sorted(reasons)) == ("not ready", ["date", "none"])
        assert f"127.0.0.1:{taken}" in reasons["date"] and "EADDRINUSE" in reasons["date"]
        assert "/no/such" in reasons["none"]
        assert (page("?service=cat"), page("?service=date")[0]) == ((200, "ready\n"), 503)
    daemon.reload(defaults() + services)
    wait_for(lambda: page() == (200, "ready\n"), "the port is free, and all listen")
    daemon.remember_descriptors()
    assert page("?service=none")[0] == 404


def test_the_clock_is_watched(launch: Launch) -> None:
    """The supervisor has the kernel tell it when the clock is set: access_times would be wrong until the next look."""
    daemon = launch(defaults() + entry("cat", free_port(), "/bin/cat", access_times="00:00-23:58"))
    folder = Path(f"/proc/{daemon.pid}")
    timers = [fd for fd in (folder / "fd").iterdir() if fd.readlink().name == "anon_inode:[timerfd]"]
    (told,) = ((folder / "fdinfo" / timer.name).read_text() for timer in timers)
    assert "clockid: 0\n" in told and "settime flags: 03\n" in told


MISTAKES = {
    "no-name": (("service cat", "service"), "2:1: `service` has no name"),
    "no-name-brace": (("service cat\n{", "service {"), "2:1: `service` has no name"),
    "no-brace": (("service cat\n{", "service cat x {"), "2:1: no `{` after `service cat`"),
    "no-keyword": (("service cat", "servce cat"), "2:1: 'servce' begins no entry"),
    "a-value": (("= no", "= maybe"), "wait cannot be 'maybe'"),
    "no-program": (("/bin/cat", "/no/such"), "'/no/such' cannot be started"),
}
"""What is written in place of what is right, and what is told with its place."""


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_in_the_only_service_is_no_wish_to_have_none(launch: Launch, kind: str) -> None:
    """The reload is refused: what was served is served on, by the same socket, and by the same roles."""
    (right, wrong), told = MISTAKES[kind]
    port = free_port()
    good = "#\n" + entry("cat", port, "/bin/cat")
    assert right in good
    daemon = launch(good)
    inode, roles = listeners()[port], daemon.roles()
    with Held(port) as client:
        daemon.rewrite(good.replace(right, wrong, 1))
        daemon.send(signal.SIGHUP)
        wait_for(lambda: "reconfiguration failed" in daemon.said() or "Reconfigured" in daemon.said(), daemon.said)
        assert "nothing would be served: the configuration in use is kept; mend" in daemon.said()
        assert told in daemon.said().replace("error: ", "") and f"{daemon.conf}:" in daemon.said()
        assert client.echoes() and ask(port, b"x") == b"x"
        assert (listeners()[port], daemon.roles()) == (inode, roles)


def test_a_service_that_is_disabled_is_a_wish_to_have_none(launch: Launch) -> None:
    """Nothing listens, as the file says, and the daemon says so."""
    port = free_port()
    good = entry("cat", port, "/bin/cat")
    daemon = launch(good)
    daemon.reload(good.replace("}", "disable = yes\n}"))
    wait_for(lambda: f"{daemon.conf} has no service, so nothing is served" in daemon.said(), daemon.said)
    wait_for(lambda: port not in listeners(), "nothing listens")
    daemon.reload(good)
    assert ask(port, b"x") == b"x"
    daemon.remember_descriptors()


def test_refused_reload(launch: Launch) -> None:
    """Bad `defaults`: nothing changes, the reason is told with its place, and metrics say so until one is taken."""
    port, other = free_port(), free_port()
    good = defaults() + entry("cat", port, "/bin/cat")
    daemon = launch(good, metrics=True)
    inodes, roles = listeners()[port], daemon.roles()
    took, when = metrics_of(daemon)
    assert took == 1
    with Held(port) as client:
        daemon.rewrite(defaults(instances="many") + entry("other", other, "/bin/cat"))
        daemon.send(signal.SIGHUP)
        wait_for(lambda: "reconfiguration failed" in daemon.said(), daemon.said)
        assert f"{daemon.conf}:4:" in daemon.said() and "instances cannot be 'many'" in daemon.said()
        daemon.await_metric("fastinetd_config_last_reload_successful", 0)
        assert metrics_of(daemon) == (0, when)
        assert listeners()[port] == inodes and other not in listeners() and daemon.roles() == roles
        assert client.echoes() and ask(port, b"x") == b"x"
        assert [http(daemon.metrics_port, path)[0] for path in ("/-/healthy", "/-/ready")] == [200, 200]
    daemon.reload(good)
    assert metrics_of(daemon)[0] == 1
