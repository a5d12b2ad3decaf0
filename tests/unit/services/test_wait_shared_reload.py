"""Reloads of wait services whose servers share a socket, and whatever may happen to it, in any order."""

from __future__ import annotations

import os
import random
import signal

import pytest

from fastinetd.policy.back_off import BackOff
from fastinetd.services.installed import InstalledService
from fastinetd.services.wait import WaitSocket
from fastinetd.services.wait_states import WATCHING, State
from support.core import program
from support.sharing import (
    IGNORES,
    TAKES_ONE_AND_ENDS,
    Send,
    activations,
    for_a_while,
)
from support.waiting import Kit, planned


class TestReload:
    def change(self, kit: Kit, machine: WaitSocket, share: int) -> None:
        fresh = InstalledService(machine.installed.row, planned(share), program(machine.installed.row, *IGNORES))
        kit.services.serve([(fresh, machine.sock)])
        assert [*kit.services] == [machine]

    def test_more(self, kit: Kit, send: Send) -> None:
        machine = kit.machine(*IGNORES, share=1)
        send(machine, b"unread")
        kit.until(lambda: machine.state is State.FULL)
        self.change(kit, machine, 2)
        assert machine.state is State.SHARED
        kit.until(lambda: machine.state is State.FULL)
        assert len(machine.servers) == 2

    def test_fewer(self, kit: Kit, send: Send) -> None:
        """Those above the new number go on; nobody is started in the place of one that ends."""
        machine = kit.machine(*IGNORES, share=3)
        send(machine, b"unread")
        kit.until(lambda: machine.state is State.FULL)
        self.change(kit, machine, 1)
        assert machine.state is State.FULL
        for pid in [*machine.servers][1:]:
            os.kill(pid, signal.SIGKILL)
        kit.until(lambda: len(machine.servers) == 1)
        kit.until(lambda: machine.state is State.FULL)
        for_a_while(kit, 0.3)
        assert (machine.state, activations(kit, machine)) == (State.FULL, 3)

    @pytest.mark.parametrize("state", [State.GRACE, State.SHARED])
    def test_fewer_while_it_looks_on(self, kit: Kit, send: Send, state: State) -> None:
        machine = kit.machine(*IGNORES, share=9)
        send(machine, b"unread")
        kit.until(lambda: len(machine.servers) == 2)
        if state is State.SHARED:
            machine.sock.recv(9)
            kit.until(lambda: machine.state is state)
        assert machine.state is state
        self.change(kit, machine, 2)
        assert machine.state is State.FULL

    @pytest.mark.parametrize("state", [State.GRACE, State.SHARED, State.FULL])
    def test_withdrawn(self, kit: Kit, send: Send, state: State) -> None:
        machine = kit.machine(*IGNORES, share=2 if state is State.FULL else 9)
        send(machine, b"unread")
        kit.until(lambda: len(machine.servers) == 2)
        if state is State.SHARED:
            machine.sock.recv(9)
        kit.until(lambda: machine.state is state)
        kit.services.serve([])
        assert machine.state is State.GONE
        for pid in machine.servers:
            os.kill(pid, signal.SIGKILL)
        kit.until(lambda: not machine.servers)
        assert (machine.state, kit.board.live) == (State.GONE, 0)


@pytest.mark.parametrize("seed", range(6))
def test_anything_in_any_order(kit: Kit, send: Send, seed: int) -> None:
    """Datagrams, killed servers and changed numbers: never too many servers, and all that was sent is served."""
    chance = random.Random(seed)
    machine = kit.machine(*TAKES_ONE_AND_ENDS, share=3)
    machine._back_off = BackOff(ceiling=0.2)  # those killed before they read make the pauses grow
    for i in range(60):
        match chance.randrange(5):
            case 0 | 1:
                send(machine, *(b"%d.%d" % (i, j) for j in range(chance.randrange(1, 4))))
            case 2 if machine.servers:
                os.kill(chance.choice([*machine.servers]), signal.SIGKILL)
            case 3:
                share = max(chance.randrange(1, 5), len(machine.servers))
                old = machine.installed
                kit.services.serve([(InstalledService(old.row, planned(share), old.program), machine.sock)])
        for_a_while(kit, chance.random() / 50)
        assert len(machine.servers) <= machine.installed.planned.share
        assert len(machine.servers) == kit.board.live
        assert (machine.state in WATCHING) == machine._watched
    kit.until(lambda: machine.state in WATCHING and machine._head() is None)
