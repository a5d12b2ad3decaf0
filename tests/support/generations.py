"""A generation of roles that serve three listeners."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

from fastinetd.core.board import Board
from fastinetd.core.layout import Verdict
from fastinetd.core.program import Ranges
from fastinetd.plan.model import Mode, PlannedService
from fastinetd.policy.access import compile_access
from fastinetd.supervisor.duties import Duties
from fastinetd.supervisor.generation import Generation
from fastinetd.supervisor.roles import Role
from fastinetd.system.loop import Loop
from support.core import close_loop, has_children, open_row, program, until
from support.proc import PATIENCE
from support.waiting import planned

NEW_KIND = "tester"
"""A kind of role that the daemon does not have."""


def of_mode(mode: Mode) -> PlannedService:
    """A service of this mode; clients of Mode.WAIT are accepted by no role of the daemon."""
    return replace(planned(1), mode=mode)


class Said:
    """Error messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, text: str) -> None:
        self.lines.append(text)

    def debug(self, text: str) -> None:
        """Nobody asked to be told more."""


class Kit:
    """A generation with two acceptors and a relay, and a doorman if names decide."""

    def __init__(self, *, names: bool = False, started: bool = True) -> None:
        self.board = Board.create(3, 64, 16)
        self.board.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.said = Said()
        self.loop = Loop(self.said.error)
        self.listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        for listener in self.listeners:
            listener.setblocking(False)
        asking = Ranges([(0, 2**32 - 1, Verdict.ASK)], []) if names else None
        rows = [open_row(self.board) for _ in range(3)]
        programs = [program(rows[0], "/bin/echo", "hello", ranges=asking), program(rows[1], builtin=1),
                    program(rows[2])]
        self.ended: list[tuple[str, int]] = []
        self.role_pids: set[int] = set()
        self.children = SimpleNamespace(role_forked=self.role_pids.add, role_reaped=self.role_pids.remove)
        self.reader = self.board.reader()
        self.generation = Generation(
            self.board, self.loop, self.said,  # type: ignore[arg-type]
            Duties(
                acceptors=2,
                programs={
                    "acceptor": [(self.listeners[0].fileno(), programs[0])],
                    "relay": [(self.listeners[1].fileno(), programs[1])],
                    NEW_KIND: [(self.listeners[2].fileno(), programs[2])],
                },
                tables={rows[0]: compile_access(("localhost",), None, lambda name: None)} if names else {},
                asks_itself=False,
                services=[],
                unserved=[],
                metrics=None,
                library=-1,
                reader=self.reader,
                version="0",
            ),
            self.children,  # type: ignore[arg-type]
            self.role_ended,
        )  # fmt: skip
        if started:
            self.generation.start()

    def role_ended(self, role: Role, status: int) -> None:
        self.ended.append((role.title, os.waitstatus_to_exitcode(status)))
        if role.section is not None:
            self.board.adopt(role.section, 0)
            self.board.section_release(role.section)

    def titles(self) -> list[str]:
        return sorted(role.title for role, _ in self.generation.roles.values())

    def pid(self, title: str) -> int:
        (found,) = (pid for pid, (role, _) in self.generation.roles.items() if role.title == title)
        return found

    def until(self, condition: Callable[[], object]) -> None:
        until(self.loop, condition, self.said.lines)

    def answer(self, which: int, says: bytes = b"") -> bytes:
        with socket.create_connection(self.listeners[which].getsockname(), PATIENCE) as client:
            if says:
                client.sendall(says)
            return client.recv(100)

    def close(self) -> None:
        self.generation.abandon()
        self.until(lambda: not self.generation.roles)
        assert not self.role_pids
        while has_children():  # servers of acceptors that are gone are nobody's here
            os.waitpid(-1, 0)
        for listener in self.listeners:
            listener.close()
        for descriptor in (self.reader, self.board.wake, self.board.fd):
            os.close(descriptor)
        close_loop(self.loop)
