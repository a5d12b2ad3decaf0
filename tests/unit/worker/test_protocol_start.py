"""Workers that cannot begin, serve one connection only, or are no handlers: what they say, and their status."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastinetd.core.program import INET_VARIABLES, UNIX_VARIABLES
from fastinetd.worker.protocol import ONE_CONNECTION
from support.core import reap
from support.worker_kit import CANNOT, KINDS, Kit
from support.worker_peer import HANDLER, ROOT, WorkerPeer


@pytest.mark.parametrize(
    ("module", "handler", "said"),
    [
        ("nowhere_to_be_found", "f", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("worker_handlers", "nobody", "has no attribute 'nobody'"),
        ("wrong_syntax", "f", "SyntaxError"),
        ("ends_itself", "f", "SystemExit: enough"),
        ("worker_handlers", "NOT_CALLABLE", "TypeError: NOT_CALLABLE cannot be called: it is of type int"),
    ],
)
def test_a_handler_that_cannot_be_imported(kit: Kit, module: str, handler: str, said: str) -> None:
    (kit.folder / "wrong_syntax.py").write_text("def\n")
    (kit.folder / "ends_itself.py").write_text("raise SystemExit('enough')\n")
    with kit.start(handler, module=module) as worker:
        assert worker.status() is None
        assert reap(worker.pid) == CANNOT
    for told in (kit.stderr(), kit.logged()[0]):
        assert f"handler {module}:{handler} cannot be imported" in told
        assert said in told
        missing = said.startswith("ModuleNotFoundError")
        assert ("write `env = PYTHONPATH=/the/folder/of/the/module`" if missing else "correct its module") in told
    assert "Traceback" in kit.stderr()


@pytest.mark.parametrize("arguments", [[], ["a:b", "c"], ["module"], [":f"], ["module:"]])
def test_wrong_arguments(kit: Kit, arguments: list[str]) -> None:
    with WorkerPeer([*HANDLER, *arguments], kit.folder, kit.environ) as worker:
        assert reap(worker.pid) == CANNOT
    assert "expected one argument, module:function" in kit.stderr()


@pytest.mark.parametrize(
    ("given", "said"), [("x", "WORKER=x: expected the number"), ("77", "WORKER=77 is not the daemon's socket")]
)
def test_not_the_daemons_socket(kit: Kit, given: str, said: str) -> None:
    with kit.start("plain", FASTINETD_WORKER=given) as worker:
        assert reap(worker.pid) == CANNOT
    assert said in kit.stderr()


def test_tried_by_hand(kit: Kit) -> None:
    """Without any socket it tells whether the handler can be imported."""
    environ = {**os.environ, **kit.environ}
    done = subprocess.run(
        [*HANDLER, "worker_handlers:plain"], env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == CANNOT
    assert "handler worker_handlers:plain can be imported, but descriptor 0 is no connection" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
class TestOnce:
    """Started by exec for one connection, which the client cannot tell from a worker's."""

    def test_it_serves(self, kit: Kit, kind: str) -> None:
        body = b"print('to nobody', flush=True); sock.sendall(repr(peer[:5]).encode())\n"
        body += b"sock.sendall(os.environ['REMOTE_HOST'].encode())"
        told, status = kit.once([*HANDLER, f"worker_handlers:{kind}"], body + b"; return 5")
        assert told.decode() == repr(("192.0.2.7", 4711, "192.0.2.1", 7000, "TCP")) + "192.0.2.7"
        assert status == 5

    def test_it_fails(self, kit: Kit, kind: str) -> None:
        assert kit.once([*HANDLER, f"worker_handlers:{kind}"], b"raise ValueError('bad')") == (b"", 1)
        assert "ValueError: bad" in kit.syslog()[0]

    def test_it_cannot_be_imported(self, kit: Kit, kind: str) -> None:
        assert kit.once([*HANDLER, f"nowhere_to_be_found:{kind}"]) == (b"", CANNOT)
        assert "cannot be imported" in kit.syslog()[0]


LOOP = """
import os
from fastinetd.worker import connections
turns = connections()
for sock, peer in turns:
    sock.sendall(f"{peer.host} {os.environ.get('REMOTE_HOST')}".encode())
    turns.status = int(sock.recv(9) or 0)
    if turns.status == 99:
        break
raise SystemExit(turns.status)
"""


class TestConnections:
    def test_a_loop(self, kit: Kit) -> None:
        with kit.script(LOOP) as worker:
            assert worker.status() == 0
            for status in (0, 3, 0, 255):
                assert worker.ask(b"%d" % status) == b"192.0.2.7 192.0.2.7"
                assert worker.status() == status
            assert worker.end() == 0

    def test_a_loop_that_is_left(self, kit: Kit) -> None:
        with kit.script(LOOP) as worker:
            worker.status()
            assert worker.ask(b"99") == b"192.0.2.7 192.0.2.7"
            assert worker.status() is None
            assert reap(worker.pid) == 99

    def test_once(self, kit: Kit) -> None:
        assert kit.once([sys.executable, "-c", LOOP], b"4") == (b"192.0.2.7 192.0.2.7", 4)


def test_few_imports() -> None:
    """Nothing of the daemon, and nothing that is big: it is part of every worker's start and memory."""
    code = "import sys; old = set(sys.modules); import fastinetd.worker.__main__; print(*(set(sys.modules) - old))"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split())
    own = {name for name in loaded if name.startswith("fastinetd")}
    package = "fastinetd.worker"
    assert own == {"fastinetd", package, f"{package}.__main__", f"{package}.handlers", f"{package}.log",
                   f"{package}.protocol"}
    assert loaded & {"asyncio", "logging", "inspect", "dataclasses", "subprocess", "traceback", "threading"} == set()


def test_every_variable_of_a_connection_is_known() -> None:
    """A handler has the same `Peer.variables` in a process that was started for one connection as in a worker."""
    assert sorted(ONE_CONNECTION) == sorted({*INET_VARIABLES, *UNIX_VARIABLES})
