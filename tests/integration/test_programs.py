"""Real programs with their real clients, each from an xinetd entry and from an inetd.conf line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support import programs
from support.clients import ask, free_port
from support.programs import Form, Need
from support.texts import Service

PROGRAMS = programs.OF_ANYBODY | {"python": programs.python_script}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(form: Form, need: Need, folder: Path, name: str) -> None:
    programs.serve(PROGRAMS[name], form, need, folder)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("name", programs.AS_ROOT)
def test_program_of_root(form: Form, need: Need, folder: Path, name: str) -> None:
    programs.serve(programs.AS_ROOT[name], form, need, folder)


ACCEPTING = """#!{python} -IS
import os, socket
listener = socket.socket(fileno=0)
listener.settimeout({idle})
try:
    for n in range({clients}):
        client, _ = listener.accept()
        client.settimeout(20)
        client.sendall(b"%d %d\\n" % (os.getpid(), n))
        client.close()
except TimeoutError:
    pass
"""


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_accepting_server(form: Form, folder: Path, unix: bool) -> None:
    """stream wait: a server takes several clients; once it has left, the next client starts another."""
    script = folder / "accepting"
    script.write_text(ACCEPTING.format(python=sys.executable, idle=20, clients=3))
    script.chmod(0o755)
    place: int | str = f"{folder}/wait.sock" if unix else free_port()
    daemon = form(Service("wait", place, script, wait=True), metrics=True)
    answers = [ask(place).split() for _ in range(7)]
    assert [int(n) for _, n in answers] == [0, 1, 2, 0, 1, 2, 0]
    assert len({pid for pid, _ in answers}) == 3
    daemon.await_metric("fastinetd_datagram_activations_total", 3)
    assert daemon.metric("fastinetd_children") == 1


def test_a_service_of_each_kind_at_once(form: Form, folder: Path) -> None:
    """A nowait service, a wait service and a unix socket in one file do not disturb each other."""
    script = folder / "accepting"
    script.write_text(ACCEPTING.format(python=sys.executable, idle=0.2, clients=1000))
    script.chmod(0o755)
    cat, wait, unix = free_port(), free_port(), f"{folder}/cat.sock"
    form(Service("cat", cat, "/bin/cat"), Service("wait", wait, script, wait=True), Service("unix", unix, "/bin/cat"))
    for i in range(5):
        text = b"%d" % i
        assert ask(cat, text) == ask(unix, text) == text
        assert len(ask(wait).split()) == 2
