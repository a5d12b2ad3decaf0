"""A pool that serves nothing is found out, although its clients see no difference."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from bench.pooled import Daemon
from bench.scenario import Bench
from bench.servers import Server, ServerError, Service

SERVICE = Service("a", 2000, "/bin/true")


@contextlib.contextmanager
def daemon(directory: Path, *pages: str) -> Iterator[Daemon]:
    """A daemon whose /metrics shows one page after the other, and the last again and again."""
    left = list(pages)

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (left.pop(0) if len(left) > 1 else left[0]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    log = directory / "log"
    log.write_text("warning: the program is static\n")
    with (
        HTTPServer(("127.0.0.1", 0), Metrics) as http,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process,
    ):
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Daemon(Server("fastinetd", process, log), http.server_port)
        finally:
            http.shutdown()
            thread.join()


def page(hits: int = 0, misses: int = 0, idle: int = 0, held: str = "first_use") -> str:
    return (
        f'fastinetd_pool_held{{service="a",point="{held}",call="mmap"}} 2.0\n'
        f'fastinetd_pool_hits_total{{service="a"}} {hits}.0\n'
        f'fastinetd_pool_misses_total{{service="a"}} {misses}.0\n'
        f'fastinetd_pool_processes{{service="a",state="idle"}} {idle}.0\n'
    )


def drive(running: Daemon) -> dict[str, float]:
    bench: Any = type("", (), {"drive": staticmethod(lambda *_: {"rate": 1.0})})
    return running.drive(cast(Bench, bench), SERVICE)


def test_the_share_of_the_pool_is_in_the_sample(tmp_path: Path) -> None:
    with daemon(tmp_path, page(hits=10, misses=5), page(hits=100, misses=15)) as running:
        assert drive(running) == {"rate": 1.0, "pooled": 0.9}


def test_a_pool_that_served_nothing_is_an_error(tmp_path: Path) -> None:
    with (
        daemon(tmp_path, page(hits=10), page(hits=10, misses=7)) as running,
        pytest.raises(ServerError, match="none of 7 connections: warning: the program is static"),
    ):
        drive(running)


def test_a_program_that_is_held_early_is_an_error(tmp_path: Path) -> None:
    with (
        daemon(tmp_path, page(), page(hits=10, held="early")) as running,
        pytest.raises(ServerError, match="held early, at mmap"),
    ):
        drive(running)


def test_a_pool_is_waited_for(tmp_path: Path) -> None:
    with daemon(tmp_path, page(), page(idle=1), page(idle=2)) as running:
        assert running.await_ready(SERVICE, 2).ready == 2


def test_a_service_without_a_pool_is_not_waited_for(tmp_path: Path) -> None:
    with daemon(tmp_path, "fastinetd_journal_depth 0.0\n") as running, pytest.raises(ServerError, match="no pool"):
        running.await_ready(SERVICE)
