"""Servers that share a wait service's socket, and how often they are looked for."""

from __future__ import annotations

import sys
from collections.abc import Callable

from fastinetd.services.wait import WaitSocket
from support.waiting import Kit

Send = Callable[..., None]

IGNORES = ("/bin/sleep", "1000")

TAKES_ONE_AND_ENDS = ("/bin/dd", "bs=9", "count=1", "of=/dev/null", "status=none")

TAKES_ONE = "import socket, signal; socket.socket(fileno=0).recv(9); signal.pause()"

TAKES_ONE_AND_SAYS_SO = """
import os, signal, socket
s = socket.socket(fileno=0)
_, a = s.recvfrom(9)
s.sendto(b'%d' % os.getpid(), a)
signal.pause()
"""

TAKES_ALL = """
import socket
s = socket.socket(fileno=0)
while True:
    d, a = s.recvfrom(9)
    s.sendto(d, a)
"""

ACCEPTS_ONE = "import socket, signal; c, _ = socket.socket(fileno=0).accept(); c.sendall(b'x'); signal.pause()"


def python(text: str) -> tuple[str, str, str, str]:
    return (sys.executable, "-IS", "-c", text)


def for_a_while(kit: Kit, seconds: float) -> None:
    """Look on, where the test is that nothing happens."""
    kit.loop.later(seconds, kit.loop.stop)
    kit.loop.run()


def activations(kit: Kit, machine: WaitSocket) -> int:
    return kit.board.counters(machine.installed.row).activations
