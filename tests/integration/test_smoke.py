"""The fixtures themselves."""

from collections.abc import Callable

from support.clients import Held, ask, free_port
from support.daemon import Daemon
from support.texts import Service


def test_cat(form: Callable[..., Daemon]) -> None:
    port = free_port()
    daemon = form(Service("cat", port, "/bin/cat"), metrics=True)
    assert ask(port, b"hello") == b"hello"
    with Held(port) as held:
        assert held.admitted
        assert len(daemon.servers()) == 1
    daemon.await_metric("fastinetd_children", 0)
    daemon.reload()
    assert ask(port, b"hello") == b"hello"
