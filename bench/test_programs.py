"""What the servers start says its line, each in every way that a scenario has it started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import handler
from bench.build import SCRIPTS, build_programs, install_programs
from bench.peers import BARE, Peer, User, xinetd_service
from bench.servers import Service, find_free_ports, run_server


@pytest.fixture(scope="module")
def programs() -> Iterator[dict[str, str]]:
    build_programs()
    with tempfile.TemporaryDirectory() as name:
        yield install_programs(Path(name))


def said(connection: socket.socket) -> bytes:
    """All bytes of a connection, to its end."""
    connection.settimeout(10)
    with connection.makefile("rb") as stream:
        return stream.read()


@pytest.mark.parametrize("name", ["hello", "worker", *SCRIPTS])
def test_programs_serve_the_connection_they_are_started_for(programs: dict[str, str], name: str) -> None:
    if name not in programs:
        pytest.skip(f"no {SCRIPTS[name]} here")
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as client:
        server, _ = listener.accept()
        with server:
            fd = server.fileno()
            process = subprocess.Popen([programs[name]], stdin=fd, stdout=fd, stderr=fd, env={})
        assert said(client) == b"hello\n"
        assert process.wait(10) == 0


def test_the_worker_takes_one_connection_after_another(programs: dict[str, str]) -> None:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(10)
    with ours:
        with its:
            env = {"FASTINETD_WORKER": str(its.fileno())}
            process = subprocess.Popen([programs["worker"]], pass_fds=(its.fileno(),), env=env)
        for _ in range(3):
            assert ours.recv(100) == struct.pack("=i", 0)
            client, server = socket.socketpair()
            with client:
                with server:
                    socket.send_fds(ours, [b"REMOTE_HOST=127.0.0.1\0"], [server.fileno()])
                assert said(client) == b"hello\n"
        assert ours.recv(100) == struct.pack("=i", 0)
    assert process.wait(10) == 0


def test_the_handler() -> None:
    client, server = socket.socketpair()
    with client:
        with server:
            handler.hello(server, None)
        assert said(client) == b"hello\n"


@pytest.mark.parametrize("peer", BARE, ids=lambda peer: peer.name)
def test_a_bare_server_answers_and_ends_with_its_first_process(tmp_path: Path, peer: Peer) -> None:
    build_programs()
    (port,) = find_free_ports(1)
    service = Service("hello", port, "")
    user = User("", os.geteuid(), os.getegid(), False)
    command = peer.command(peer.binary, tmp_path, [service], user)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(run_server(peer.name, command, [port], tmp_path, {}))
        for _ in range(40):
            with socket.create_connection(("127.0.0.1", port)) as client:
                assert said(client) == b"hello\n"
        os.kill(server.pid, 0)
        stack.pop_all().close()
    assert server.process.returncode == -signal.SIGTERM


def test_attributes_stand_above_what_every_service_gets() -> None:
    service = Service("a", 2000, "/bin/true", attributes={"spawn": "worker", "user": "root"})
    text = xinetd_service(service, User("nobody", 65534, 65534, True))
    assert "    spawn = worker\n" in text and "    user = root\n" in text and "nobody" not in text


def test_a_service_of_a_handler_has_no_server() -> None:
    service = Service("a", 2000, "", attributes={"handler": "module:function"})
    text = xinetd_service(service, User("nobody", 65534, 65534, True))
    assert "server " not in text and "    handler = module:function\n" in text
