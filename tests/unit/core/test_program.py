"""Programs: the environment that tells a server of its client, and what a Program refuses."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastinetd.core.board import Board
from fastinetd.core.exec_context import ExecContext
from fastinetd.core.keeper import Keeper
from fastinetd.core.program import (
    CONNECTION_VARIABLES,
    DATAGRAM_VARIABLES,
    INET_VARIABLES,
    UNIX_VARIABLES,
    Program,
    Ranges,
)
from support.clients import everything
from support.core import end, has_children, open_row, program
from support.proc import PATIENCE

ENV = "/usr/bin/env"


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(1, 8, 1)
    yield made
    assert not has_children()
    os.close(made.fd)


def environment(board: Board, client: socket.socket, server: socket.socket, address: bytes, port: int = 0,
                **values: object) -> dict[str, str]:
    """What `env` says to the client when it is started on the server's end of a connection."""
    keeper = Keeper(board, 0)
    _, slot, _ = keeper.start(program(open_row(board), ENV, **values), server.fileno(), address, port)
    assert slot >= 0
    server.close()
    (used,) = board.slots_in_use()
    client.settimeout(PATIENCE)
    said = everything(client)
    end(keeper, used)
    lines = said.decode().splitlines()
    variables = dict(line.split("=", 1) for line in lines)
    assert len(variables) == len(lines)
    return variables


def connected(family: int, host: str) -> tuple[socket.socket, socket.socket]:
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"{host} is not to be had here")
    with listener:
        client = socket.create_connection(listener.getsockname()[:2])
        return client, listener.accept()[0]


def test_ipv4(board: Board) -> None:
    client, server = connected(socket.AF_INET, "127.0.0.1")
    port, own = client.getsockname()[1], server.getsockname()[1]
    found = environment(board, client, server, bytes([127, 0, 0, 1]), port, environ=[b"A=b", b"EMPTY="])
    assert found == {
        "PROTO": "TCP", "TCPREMOTEIP": "127.0.0.1", "TCPREMOTEPORT": str(port), "TCPLOCALIP": "127.0.0.1",
        "TCPLOCALPORT": str(own), "REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": str(port), "REMOTE_HOST": "127.0.0.1",
        "A": "b", "EMPTY": "",
    }  # fmt: skip
    assert found.keys() - {"A", "EMPTY"} == {*INET_VARIABLES}


def test_ipv6(board: Board) -> None:
    client, server = connected(socket.AF_INET6, "::1")
    found = environment(board, client, server, bytes(15) + b"\1", 65535)
    assert (found["TCPREMOTEIP"], found["TCPLOCALIP"], found["TCPREMOTEPORT"]) == ("::1", "::1", "65535")
    assert found["PROTO"] == "TCP"


def test_longest_address(board: Board) -> None:
    client, server = connected(socket.AF_INET6, "::1")
    address = bytes.fromhex("1111222233334444555566667777bbbb")
    found = environment(board, client, server, address, 1)
    assert found["REMOTE_HOST"] == "1111:2222:3333:4444:5555:6666:7777:bbbb"


@pytest.mark.parametrize("own", ["127.0.0.1", ""])
def test_datagram(board: Board, tmp_path: Path, own: str) -> None:
    """Of a socket that has every address it is not known which one the client has used."""
    report = tmp_path / "variables"
    keeper = Keeper(board, 0)
    shell = program(open_row(board), "/bin/sh", "-c", f"exec env >{report}", datagrams=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((own, 0))
        port = server.getsockname()[1]
        for client in (b"", bytes([192, 0, 2, 1]), b"", bytes(15) + b"\1"):  # fewer and more than the start before
            _, slot, _ = keeper.start(shell, server.fileno(), client, 99)
            assert slot >= 0
            (used,) = board.slots_in_use()
            end(keeper, used)
            found = dict(line.split("=", 1) for line in report.read_text().splitlines() if not line.startswith("PWD="))
            where = {"UDPLOCALPORT": str(port)} | ({"UDPLOCALIP": own} if own else {})
            if not client:
                assert found == {"REMOTE_HOST": "<no address>"}
                continue
            host = "192.0.2.1" if len(client) == 4 else "::1"
            assert found == where | {
                "PROTO": "UDP", "UDPREMOTEIP": host, "UDPREMOTEPORT": "99", "REMOTE_ADDR": host, "REMOTE_PORT": "99",
                "REMOTE_HOST": host,
            }  # fmt: skip
            assert found.keys() <= {*DATAGRAM_VARIABLES}


def test_unknown_client(board: Board) -> None:
    client, server = socket.socketpair()
    assert environment(board, client, server, b"", environ=[b"A=b"]) == {"REMOTE_HOST": "<no address>", "A": "b"}


def test_unix_client(board: Board) -> None:
    client, server = socket.socketpair()
    found = environment(board, client, server, b"", unix_socket=True, environ=[b"A=b"])
    assert found == {"PROTO": "IPC", "IPCREMOTEEUID": str(os.geteuid()), "IPCREMOTEEGID": str(os.getegid()), "A": "b"}
    assert found.keys() - {"A"} == {*UNIX_VARIABLES}


def test_one_start_knows_nothing_of_the_one_before(board: Board) -> None:
    client, server = connected(socket.AF_INET, "127.0.0.1")
    environment(board, client, server, bytes([127, 0, 0, 1]), 1)
    board.row_release(0)
    client, server = socket.socketpair()
    assert environment(board, client, server, b"") == {"REMOTE_HOST": "<no address>"}


def test_connection_variables() -> None:
    assert {*INET_VARIABLES, *DATAGRAM_VARIABLES, *UNIX_VARIABLES} == CONNECTION_VARIABLES


def test_row() -> None:
    assert program(7).row == 7


def test_texts_live_as_long_as_the_program(board: Board) -> None:
    """What a Program points at is its own, whoever else lets go of it."""
    words = [b"/bin/echo", b"%d" % 12345, b"x" * 1000]
    kept = [sys.getrefcount(word) for word in words]
    what = Program(open_row(board), ExecContext(words[0], tuple(words)))
    assert all(sys.getrefcount(word) > count for word, count in zip(words, kept))
    del what
    assert [sys.getrefcount(word) for word in words] == kept


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"limits": [(0, 1, 1)] * 20}, ValueError),
        ({"argv": ["text"]}, TypeError),
        ({"environ": ["A=b"]}, TypeError),
        ({"path": "text"}, TypeError),
        ({"groups": ["x"]}, TypeError),
        ({"ids": (1,)}, ValueError),
        ({"ranges": ()}, TypeError),
    ],
)
def test_what_a_program_refuses(values: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        program(0, **values)


@pytest.mark.parametrize("four", [[(-1, 2, 0)], [(0, 2**32, 0)], [("a", 1, 0)], [(1, 2)]])
def test_what_ranges_refuse(four: list[tuple[object, ...]]) -> None:
    with pytest.raises((OverflowError, TypeError, ValueError)):
        Ranges(four, [])  # type: ignore[arg-type]
