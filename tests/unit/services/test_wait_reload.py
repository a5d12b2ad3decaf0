"""The machine of a wait service's socket across reloads, and of one whose sockets a service without wait had."""

from __future__ import annotations

import os
import signal
import socket
import sys
from dataclasses import replace
from typing import Any

import pytest

from fastinetd.plan.model import SocketOptions
from fastinetd.services.installed import InstalledService
from fastinetd.services.wait import WaitSocket
from fastinetd.services.wait_states import State
from support.core import program
from support.proc import PATIENCE
from support.waiting import ANSWER, Kit


class TestReload:
    def test_a_server_goes_on_and_its_machine_too(self, kit: Kit, client: socket.socket) -> None:
        machine = kit.machine("/bin/sleep", "1000")
        client.sendto(b"x", machine.sock.getsockname())
        kit.until(lambda: machine.state is State.FULL)
        fresh: Any = InstalledService(machine.installed.row, machine.installed.planned, program(machine.installed.row))
        kit.services.serve([(fresh, machine.sock)])
        assert [*kit.services] == [machine]
        assert machine.installed is fresh
        assert machine.state is State.FULL

    def test_other_options(self, kit: Kit, client: socket.socket) -> None:
        """What the configuration has set since then is not taken for what a server has left."""
        machine = kit.machine(sys.executable, "-c", ANSWER)
        machine.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 9000)  # as Listeners do
        size = machine.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        planned = replace(machine.installed.planned, options=SocketOptions(receive_buffer=9000))
        fresh = InstalledService(machine.installed.row, planned, machine.installed.program)
        kit.services.serve([(fresh, machine.sock)])
        client.sendto(b"x", machine.sock.getsockname())
        kit.until(lambda: machine.state is State.FULL)
        kit.until(lambda: machine.state is State.IDLE)
        assert machine.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == size

    @pytest.mark.parametrize("state", [State.IDLE, State.FULL, State.COOLDOWN])
    def test_withdrawn(self, kit: Kit, client: socket.socket, state: State) -> None:
        path = {State.IDLE: "/bin/true", State.FULL: "/bin/sleep", State.COOLDOWN: "/no/such/program"}[state]
        machine = kit.machine(path, "1000")
        if state is not State.IDLE:
            client.sendto(b"x", machine.sock.getsockname())
            kit.until(lambda: machine.state is state)
        kit.services.serve([])
        assert machine.state is State.GONE
        for slot in kit.board.slots_in_use():
            os.kill(slot.pid, signal.SIGKILL)
        kit.until(lambda: kit.board.live == 0)
        assert machine.state is State.GONE
        assert [*kit.services] == []


class TestWithoutWait:
    """A reload has made the service one without wait, and acceptors have the socket, while its last server runs."""

    @pytest.fixture
    def machine(self, kit: Kit) -> WaitSocket:
        made = kit.machine("/bin/sleep", "1000", kind=socket.SOCK_STREAM)
        with socket.create_connection(made.sock.getsockname(), PATIENCE):
            kit.until(lambda: made.state is State.FULL)
        made.sock.setblocking(False)
        kit.services.serve([])
        assert made.state is State.GONE
        return made

    @staticmethod
    def end(kit: Kit) -> None:
        for slot in kit.board.slots_in_use():
            os.kill(slot.pid, signal.SIGKILL)
        kit.until(lambda: kit.board.live == 0)

    def test_what_that_server_leaves_is_set_back(self, kit: Kit, machine: WaitSocket) -> None:
        """And acceptors do not come to wait in accept."""
        machine.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 60000)
        self.end(kit)
        assert machine.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
        assert not os.get_blocking(machine.sock.fileno())
        assert kit.spoilt == []

    def test_a_socket_that_it_has_shut_down_is_replaced(self, kit: Kit, machine: WaitSocket) -> None:
        machine.sock.shutdown(socket.SHUT_RD)
        self.end(kit)
        assert kit.spoilt == [machine.sock]

    def test_a_wait_service_again_before_that_server_ends(self, kit: Kit, machine: WaitSocket) -> None:
        """By yet another reload: the next server has the socket, and what that one has set on it is left alone."""
        kit.services.serve([(machine.installed, machine.sock)])
        (again,) = kit.services
        kit.until(lambda: again.state is State.FULL)
        machine.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 60000)
        (first,) = machine.servers
        os.kill(first, signal.SIGKILL)
        kit.until(lambda: not machine.servers)
        assert machine.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 60000

    def test_removed_before_that_server_ends(self, kit: Kit, machine: WaitSocket) -> None:
        """Another reload has closed the socket: its end is no news."""
        machine.sock.close()
        self.end(kit)
        assert kit.spoilt == []
        assert kit.troubles == []
