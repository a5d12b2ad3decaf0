"""contrib/fastinetd_worker.h: it compiles everywhere without a word, and keeps the protocol."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.clients import read_all, tcp_pair
from support.core import reap
from support.worker_peer import ROOT, WorkerPeer, serve_once

CONTRIB = ROOT / "contrib"
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", f"-I{CONTRIB}"]
ANSWERS = """
#include <stdio.h>
#include "fastinetd_worker.h"

/* Answers with variables, and ends each connection with the number it is sent. */
int main(void)
{
    static struct fastinetd_connection c;
    char text[300];
    int more;
    while ((more = fastinetd_next(&c)) > 0) {
        const char *host = fastinetd_variable(&c, "REMOTE_HOST"), *none = fastinetd_variable(&c, "REMOTE");
        int length = snprintf(text, sizeof text, "%s %s", host ? host : "-", none ? none : "-");
        ssize_t sent = send(c.fd, text, (size_t)length, MSG_NOSIGNAL);
        ssize_t got = recv(c.fd, text, sizeof text - 1, 0);
        text[got > 0 ? got : 0] = 0;
        c.status = sent == length ? atoi(text) : 1;
        if (c.status == 200) {
            close(c.fd);
            c.fd = -1;
        }
    }
    if (more < 0)
        perror("fastinetd_next");
    return c.status;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("header")
    (folder / "answers.c").write_text(ANSWERS)
    subprocess.run(["gcc", *STRICT, "-o", folder / "answers", folder / "answers.c"], check=True)
    return str(folder / "answers")


@pytest.fixture
def worker(program: str, tmp_path: Path) -> Iterator[WorkerPeer]:
    with WorkerPeer([program], tmp_path) as made:
        assert made.status() == 0
        yield made


@pytest.mark.parametrize(
    "compiler",
    [
        "gcc -std=c99 -D_GNU_SOURCE", "gcc -std=gnu11", "gcc -std=gnu17 -Wshadow -Wstrict-prototypes",
        "g++ -x c++ -std=c++11", "g++ -x c++ -std=c++20",
    ],
)  # fmt: skip
def test_it_compiles_without_a_word(compiler: str, tmp_path: Path, need: Callable[[str], str]) -> None:
    command, *options = compiler.split()
    need(command)  # run by its name: a compiler cache may stand for it
    done = subprocess.run(
        [command, *options, *STRICT, "-o", tmp_path / "example", CONTRIB / "worker_example.c"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    with WorkerPeer([str(tmp_path / "example")], tmp_path) as worker:
        for number in range(3):
            assert worker.status() == 0
            assert worker.ask() == b"hello 192.0.2.7, %d before you\n" % number
        assert worker.status() == 0
        assert worker.end() == 0
    assert serve_once([str(tmp_path / "example")], tmp_path) == (b"hello 192.0.2.7, 0 before you\n", 0)


def test_it_is_short() -> None:
    assert len((CONTRIB / "fastinetd_worker.h").read_text().splitlines()) <= 60


def test_many_connections(worker: WorkerPeer) -> None:
    worker.ask(b"0")
    worker.status()
    before = worker.descriptors()
    for number in range(2000):
        status = number % 256
        assert worker.ask(b"%d" % status) == b"192.0.2.7 -"
        assert worker.status() == status
    assert worker.descriptors() == before


def test_variables_are_the_connections_own(worker: WorkerPeer) -> None:
    assert worker.ask(b"0", {"XREMOTE": "x", "REMOTE_HOST": "", "REMOTE": "y"}) == b" y"
    worker.status()
    assert worker.ask(b"0", {}) == b"- -"


def test_clients_that_are_gone(worker: WorkerPeer) -> None:
    """Neither a reset nor a broken pipe ends it."""
    for _ in range(50):
        client, server = tcp_pair()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        worker.hand(server)
        assert worker.status() == 1
    assert worker.ask(b"0") == b"192.0.2.7 -"


def test_end_of_file_during_a_connection(worker: WorkerPeer) -> None:
    with worker.connect() as client:
        assert client.recv(100) == b"192.0.2.7 -"
        worker.socket.shutdown(socket.SHUT_WR)
        client.sendall(b"7")
        assert read_all(client) == b""
    assert worker.status() == 7
    assert reap(worker.pid) == 0


def test_a_daemon_that_is_gone(worker: WorkerPeer) -> None:
    with worker.connect() as client:
        assert client.recv(100) == b"192.0.2.7 -"
        worker.socket.close()
        client.sendall(b"7")
        assert read_all(client) == b""
    assert reap(worker.pid) == 0


def test_a_connection_without_its_descriptor(worker: WorkerPeer) -> None:
    worker.socket.send(b"REMOTE_HOST=192.0.2.7\0")
    assert reap(worker.pid) == 1
    assert "Too many open files" in worker.errors.read_text()


def test_not_the_daemons_socket(program: str, tmp_path: Path) -> None:
    with WorkerPeer([program], tmp_path, {"FASTINETD_WORKER": "77"}) as worker:
        assert reap(worker.pid) == 1
        assert "Bad file descriptor" in worker.errors.read_text()


def test_started_for_one_connection(program: str, tmp_path: Path) -> None:
    assert serve_once([program], tmp_path, b"9") == (b"192.0.2.7 -", 9)


def test_children_are_no_workers(tmp_path: Path) -> None:
    """Neither the variable nor the socket reaches what a worker starts."""
    (tmp_path / "starts.c").write_text(
        '#include "fastinetd_worker.h"\n'
        "int main(void) { static struct fastinetd_connection c;\n"
        "  while (fastinetd_next(&c) > 0) {\n"
        '    dup2(c.fd, 1); c.status = system("ls -l /proc/self/fd; env") != 0; close(1); }\n'
        "  return c.status; }\n"
    )
    subprocess.run(["gcc", *STRICT, "-o", tmp_path / "starts", tmp_path / "starts.c"], check=True)
    with WorkerPeer([str(tmp_path / "starts")], tmp_path) as worker:
        worker.status()
        told = os.fsdecode(worker.ask())
    assert told.count("socket:") == 1  # its own standard output
    assert "FASTINETD_WORKER" not in told
