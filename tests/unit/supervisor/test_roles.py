"""Role processes: what they inherit, how they are retired, what they are afterwards."""

from __future__ import annotations

import ast
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from fastinetd.supervisor.role_specs import RoleSpec
from fastinetd.supervisor.roles import Prepare, Role, drop_privileges, fork_role
from fastinetd.supervisor.signals import NOT_FOR_ROLES
from fastinetd.system.descriptors import FIRST_KEPT_DESCRIPTOR, close_others
from fastinetd.system.loop import Loop
from support.core import await_end, close_loop, fork, has_children, reap, until

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")


def spec(*, keeps_privileges: bool) -> RoleSpec:
    """Of a role that has nothing but privileges."""
    return RoleSpec(kind="tester", work=lambda duties, number, channels: None, numbered=True, accepts=None,
                    has_section=False, has_pools=False, keeps_privileges=keeps_privileges, leaves_sessions=False,
                    leaves_last=False)


class Kit:
    """Forks roles that say something through a socket of their own."""

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair()
        self.here.settimeout(20)
        self.roles: list[Role] = []

    def role(self, main: Callable[[int], None], *, unprivileged: bool = False, keep: tuple[int, ...] = ()) -> Role:
        """One that runs `main(control)` once it is ready."""
        return self.prepared(lambda control: partial(main, control), unprivileged=unprivileged, keep=keep)

    def prepared(self, prepare: Prepare, *, unprivileged: bool = False, keep: tuple[int, ...] = ()) -> Role:
        made = fork_role(spec(keeps_privileges=not unprivileged), 3, prepare, keep=(self.there.fileno(), *keep),
                         section=None)
        self.roles.append(made)
        return made

    def say(self, text: object) -> None:
        self.there.sendall(str(text).encode())

    def heard(self) -> str:
        return self.here.recv(65536).decode()

    def bury(self, role: Role) -> int:
        status = reap(role.pid)
        role.forget()
        self.roles.remove(role)
        return status

    def close(self) -> None:
        for role in [*self.roles]:
            os.kill(role.pid, signal.SIGKILL)
            self.bury(role)
        self.here.close()
        self.there.close()
        assert not has_children()


@pytest.fixture
def kit() -> Iterator[Kit]:
    before = {*os.listdir("/proc/self/fd")}
    made = Kit()
    yield made
    made.close()
    assert {*os.listdir("/proc/self/fd")} == before


def test_runs_and_ends(kit: Kit) -> None:
    role = kit.role(lambda control: kit.say(os.getpid()))
    assert int(kit.heard()) == role.pid
    assert (role.number, role.title, role.section, role.retired) == (3, "tester 3", None, False)
    assert min(role.pidfd, role.control) >= 64
    assert kit.bury(role) == 0


def test_what_it_raises_is_told_and_is_status_1(kit: Kit, capfd: pytest.CaptureFixture[str]) -> None:
    def main(control: int) -> None:
        raise ValueError("of no use")

    assert kit.bury(kit.role(main)) == 1
    assert "fastinetd: tester: ValueError: of no use" in capfd.readouterr().err


def test_retired_by_a_byte(kit: Kit) -> None:
    role = kit.role(lambda control: kit.say(os.read(control, 10)))
    role.retire()
    assert role.retired
    assert kit.heard() == "b'r'"
    assert kit.bury(role) == 0


def test_retired_after_its_end(kit: Kit) -> None:
    role = kit.role(lambda control: None)
    await_end(role.pid)
    role.retire()
    assert kit.bury(role) == 0


def wait_for_a_byte(control: int) -> None:
    os.read(control, 1)


def test_control_among_what_a_child_copies(kit: Kit) -> None:
    """Low, and closed by exec: so whoever is just being started by a role has it, and no program."""
    role = kit.role(lambda control: kit.say((control, os.get_inheritable(control))))
    number, inherited = ast.literal_eval(kit.heard())
    assert (3 < number < FIRST_KEPT_DESCRIPTOR, inherited) == (True, False)
    assert kit.bury(role) == 0


def test_closed_with_the_last_who_has_what_it_had(kit: Kit) -> None:
    """A child of its own may outlive it."""
    loop = Loop(pytest.fail)
    closed: list[bool] = []
    role = kit.role(lambda control: kit.say(fork(signal.pause)))
    child = int(kit.heard())
    await_end(role.pid)
    role.when_closed(loop, lambda: closed.append(True))
    assert not closed
    os.kill(child, signal.SIGKILL)
    until(loop, lambda: closed, "all is closed")
    assert kit.bury(role) == 0
    close_loop(loop)


def test_closed_once_abandoned(kit: Kit) -> None:
    """There is no pipe any more that would say so."""
    closed: list[bool] = []
    loop = Loop(pytest.fail)
    role = kit.role(wait_for_a_byte)
    role.abandon()
    assert kit.bury(role) == 0
    role.when_closed(loop, lambda: closed.append(True))
    assert closed
    close_loop(loop)


def test_left_alone_at_the_end_of_its_pipe(kit: Kit) -> None:
    """The supervisor is gone: its end of the pipe is closed, by no one else's either."""
    role = kit.role(lambda control: kit.say(os.read(control, 10)))
    other = kit.role(wait_for_a_byte)  # forked later, so it had the first one's end too
    os.close(role.control)
    role.control = os.open(os.devnull, os.O_WRONLY)
    assert kit.heard() == "b''"
    assert kit.bury(role) == 0
    other.retire()
    assert kit.bury(other) == 0


def test_descriptors(kit: Kit) -> None:
    """Only the standard ones, its control pipe and what it keeps."""
    kept = os.open(os.devnull, os.O_RDONLY)
    extra = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]

    def main(control: int) -> None:
        found = {int(name) for name in os.listdir("/proc/self/fd")}
        still = set()
        for number in found:
            try:
                os.fstat(number)
                still.add(number)
            except OSError:
                pass
        kit.say(still == {0, 1, 2, control, kept, kit.there.fileno()} or still)

    role = kit.role(main, keep=(kept,))
    assert kit.heard() == "True"
    for number in (kept, *extra):
        os.close(number)
    kit.bury(role)


def test_no_mask_nothing_ignored_and_no_ordinary_signal_does_anything(kit: Kit) -> None:
    """Signals are the supervisor's, but for SIGTERM; programs that a role executes have them all as a fresh process."""
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        role = kit.role(lambda control: kit.say(Path("/proc/self/status").read_text()))
        found = dict(line.split(":", 1) for line in kit.heard().splitlines())
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGHUP, before)
    assert int(found["SigBlk"], 16) == int(found["SigIgn"], 16) == 0
    handled = {number for number in range(1, 65) if int(found["SigCgt"], 16) >> (number - 1) & 1}
    assert handled - {32, 33} == NOT_FOR_ROLES
    assert not handled & {signal.SIGTERM, signal.SIGSEGV, signal.SIGCHLD, signal.SIGCONT}
    kit.bury(role)


def test_a_group_of_its_own_and_a_name(kit: Kit) -> None:
    def main(control: int) -> None:
        kit.say(f"{os.getpgid(0)} {Path('/proc/self/cmdline').read_text()}")

    role = kit.role(main)
    group, _, name = kit.heard().partition(" ")
    assert int(group) == role.pid
    assert name.rstrip("\0 ") == "fastinetd: tester 3"
    kit.bury(role)


@ROOT
def test_made_and_ready_before_it_is_nobody(kit: Kit) -> None:
    """So whoever else is nobody can neither stop nor end it meanwhile."""

    def prepare(control: int) -> Callable[[], None]:
        kit.say(os.getresuid())
        return partial(wait_for_a_byte, control)

    role = kit.prepared(prepare, unprivileged=True)
    assert kit.heard() == "(0, 0, 0)"
    assert awaited(role).ready
    role.retire()
    assert kit.bury(role) == 0


@ROOT
@pytest.mark.usefixtures("groups_of_a_login")
def test_without_privileges(kit: Kit) -> None:
    role = kit.role(lambda control: kit.say(Path("/proc/self/status").read_text()), unprivileged=True)
    found = {name: value.split() for name, _, value in (line.partition(":") for line in kit.heard().splitlines())}
    assert len({*found["Uid"], *found["Gid"], "0"}) >= 2
    assert "0" not in found["Uid"] + found["Gid"]
    assert found["Groups"] == []
    assert found["NoNewPrivs"] == ["1"]
    assert [int(found[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0] * 4
    kit.bury(role)


@ROOT
def test_without_privileges_nothing_of_root_can_be_read(kit: Kit, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)

    def main(control: int) -> None:
        try:
            kit.say(secret.read_text())
        except PermissionError:
            kit.say("refused")

    role = kit.role(main, unprivileged=True)
    assert kit.heard() == "refused"
    kit.bury(role)


def test_no_new_privileges_without_root() -> None:
    def main() -> None:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        drop_privileges()
        assert "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()

    assert reap(fork(main)) == 0


def test_close_others() -> None:
    def main() -> None:
        keep = {os.open(os.devnull, os.O_RDONLY), os.dup2(0, 90), os.dup2(0, 200)}
        others = [os.dup(0), os.dup2(0, 91), os.dup2(0, 199), os.dup2(0, 500)]
        close_others({0, *keep})
        for number in {0, 1, 2} | keep:
            os.fstat(number)
        for number in others:
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(number)

    assert reap(fork(main)) == 0


def awaited(role: Role) -> Role:
    """A role, once its word is there."""
    assert select.select([role.report], [], [], 20)[0]
    role.read_report()
    return role


def test_a_word_when_it_is_ready(kit: Kit) -> None:
    role = kit.role(wait_for_a_byte)
    assert not role.ready
    assert (awaited(role).ready, role.trouble, role.report) == (True, "", -1)
    role.retire()
    assert kit.bury(role) == 0


def fails(control: int) -> Callable[[], None]:
    raise MemoryError


def fails_at_length(control: int) -> Callable[[], None]:
    raise ValueError("\udcff" + 100_000 * "x")


def dies(control: int) -> Callable[[], None]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.parametrize(("prepare", "trouble"), [
    (fails, "out of memory"), (fails_at_length, "ValueError: ?xxx"), (dies, ""),
])
def test_a_word_why_it_is_not(kit: Kit, capfd: pytest.CaptureFixture[str], prepare: Prepare, trouble: str) -> None:
    """It is not on standard error, which leads nowhere in the background."""
    role = awaited(kit.prepared(prepare))
    assert not role.ready
    assert role.trouble.startswith(trouble) and bool(role.trouble) is bool(trouble)
    kit.bury(role)
    assert capfd.readouterr().err == ""


def test_who_is_not_heard_waits_for_nobody(kit: Kit) -> None:
    """Its word is left where it is; the supervisor's end is closed with the rest."""
    role = kit.prepared(lambda control: partial(wait_for_a_byte, control))
    role.retire()
    assert kit.bury(role) == 0
    assert role.report == -1
