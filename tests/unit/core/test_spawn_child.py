"""What a server is given, by both ways of starting: descriptors, signals, session, ids, limits, mask, priority."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from fastinetd.core.board import Board
from fastinetd.core.keeper import Keeper
from fastinetd.system.privileges import own_privileges
from support.clients import everything
from support.core import end, has_children, open_row, program
from support.proc import PATIENCE

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change ids")
Run = Callable[..., str]


@pytest.fixture(params=[False, True], ids=["clone", "posix_spawn"])
def posix_spawn(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def run() -> Iterator[Run]:
    """Start a program on one end of a pair of sockets; what it writes until it ends."""
    board = Board.create(1, 8, 1)
    keeper = Keeper(board, board.section_claim(os.getpid()))
    row = open_row(board)

    def run(*argv: str, high: bool = False, **values: object) -> str:
        here, there = socket.socketpair()
        number = there.fileno()
        if high:
            number = fcntl.fcntl(there, fcntl.F_DUPFD_CLOEXEC, 200)
        try:
            _, slot, pid = keeper.start(program(row, *argv, **values), number)
            assert slot >= 0, os.strerror(-pid)
        finally:
            there.close()
            if high:
                os.close(number)
        (used,) = board.slots_in_use()
        here.settimeout(PATIENCE)
        said = everything(here)
        end(keeper, used)
        return said.decode()

    yield run
    assert board.live == 0
    assert not has_children()
    os.close(board.fd)


def status(text: str) -> dict[str, str]:
    """Lines of /proc/PID/status."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


# ---- descriptors ----


def is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:  # what listed the folder
        return False


@pytest.mark.parametrize("high", [False, True])
def test_descriptors(run: Run, posix_spawn: bool, high: bool) -> None:
    """0, 1 and 2 are the connection, and nothing else is open, whatever was here."""
    kept = [os.dup(0), os.open(os.devnull, os.O_RDONLY), *os.pipe()]
    foreign = [number for number in map(int, os.listdir("/proc/self/fd")) if number > 2 and is_inheritable(number)]
    for descriptor in foreign:  # the daemon closes what it inherits
        os.set_inheritable(descriptor, False)
    try:
        said = run("/bin/ls", "-l", "/proc/self/fd", posix_spawn=posix_spawn, high=high)
    finally:
        for descriptor in foreign:
            os.set_inheritable(descriptor, True)
        for descriptor in kept:
            os.close(descriptor)
    found = dict(line.split()[-3:][::2] for line in said.splitlines()[1:])
    folder = {name for name, target in found.items() if target.startswith("/proc/")}  # what ls itself opened
    assert len(folder) == 1
    assert found.keys() - folder == {"0", "1", "2"}
    targets = {found[name] for name in "012"}
    assert len(targets) == 1
    assert targets.pop().startswith("socket:")


def test_descriptors_without_close_on_exec_above_the_low_ones(run: Run) -> None:
    """The start by clone takes along nothing from 64 on, whatever its flags."""
    careless = fcntl.fcntl(0, fcntl.F_DUPFD, 100)
    os.set_inheritable(careless, True)
    try:
        said = run("/bin/ls", "/proc/self/fd")
    finally:
        os.close(careless)
    assert str(careless) not in said.split()


def test_the_parents_descriptors_stay(run: Run, posix_spawn: bool) -> None:
    before = {*os.listdir("/proc/self/fd")}
    run("/bin/true", posix_spawn=posix_spawn)
    assert {*os.listdir("/proc/self/fd")} == before


# ---- signals, session ----


def test_signals(run: Run, posix_spawn: bool) -> None:
    """Every signal as a fresh process has it, although this one ignores, handles and blocks some."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGPIPE)}
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, lambda *_: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGRTMIN})
    try:
        found = status(run("/bin/cat", "/proc/self/status", posix_spawn=posix_spawn))
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())  # ours is as it was
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGRTMIN})
        for number, handler in before.items():
            signal.signal(number, handler)
    for name in ("SigBlk", "SigIgn", "SigCgt"):
        assert int(found[name], 16) == 0, name


def test_session(run: Run, posix_spawn: bool) -> None:
    said = run("/bin/cat", "/proc/self/stat", posix_spawn=posix_spawn)
    pid, fields = int(said.split()[0]), said.rpartition(")")[2].split()
    parent, group, session, terminal = (int(each) for each in fields[1:5])
    assert parent == os.getpid()
    assert group == session == pid
    assert terminal == 0


# ---- ids ----


@ROOT
def test_ids_and_groups(run: Run) -> None:
    """The highest there are, too: of one that is cut short another user is made, root for one."""
    uid, gid = (ids[-1][-1] for ids in (own_privileges().uids, own_privileges().gids))
    found = status(run("/bin/cat", "/proc/self/status", ids=(uid, gid - 1), groups=[7, 8, gid]))
    assert found["Uid"].split() == [str(uid)] * 4
    assert found["Gid"].split() == [str(gid - 1)] * 4
    assert found["Groups"].split() == ["7", "8", str(gid)]
    assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == 0


@ROOT
@pytest.mark.usefixtures("groups_of_a_login")
def test_no_groups(run: Run) -> None:
    found = status(run("/bin/cat", "/proc/self/status", ids=(1234, 2345), groups=[]))
    assert found["Groups"] == ""


def test_ids_left_alone(run: Run, posix_spawn: bool) -> None:
    found = status(run("/bin/cat", "/proc/self/status", posix_spawn=posix_spawn))
    assert found["Uid"].split() == [str(os.geteuid())] * 4
    assert {*map(int, found["Groups"].split())} == {*os.getgroups()}


@ROOT
def test_the_parents_ids_stay(run: Run) -> None:
    """The child's system calls are for the child alone, although it shares this memory."""
    run("/bin/true", ids=(1234, 2345), groups=[])
    assert (os.getresuid(), os.getresgid()) == ((0, 0, 0), (0, 0, 0))


# ---- limits, mask, priority ----


def limits(text: str) -> dict[str, tuple[str, str]]:
    return {line[:25].strip(): (line[26:46].strip(), line[47:67].strip()) for line in text.splitlines()[1:]}


def test_limits(run: Run) -> None:
    """As many as there are attributes for."""
    wanted = [
        (resource.RLIMIT_CPU, 60, 70), (resource.RLIMIT_NOFILE, 100, 200), (resource.RLIMIT_DATA, 2**26, 2**26),
        (resource.RLIMIT_STACK, 2**23, 2**23), (resource.RLIMIT_RSS, 2**27, 2**27),
        (resource.RLIMIT_AS, 2**33, 2**34),
    ]  # fmt: skip
    found = limits(run("/bin/cat", "/proc/self/limits", limits=wanted))
    assert found["Max cpu time"] == ("60", "70")
    assert found["Max open files"] == ("100", "200")
    assert found["Max data size"] == (str(2**26),) * 2
    assert found["Max address space"] == (str(2**33), str(2**34))


def test_without_a_limit(run: Run) -> None:
    if resource.getrlimit(resource.RLIMIT_CPU)[1] != resource.RLIM_INFINITY:
        pytest.skip("processor time is limited here")
    wanted = [(resource.RLIMIT_CPU, resource.RLIM_INFINITY, resource.RLIM_INFINITY)]
    assert limits(run("/bin/cat", "/proc/self/limits", limits=wanted))["Max cpu time"] == ("unlimited", "unlimited")


def test_the_original_limit_of_open_files(run: Run, posix_spawn: bool) -> None:
    """Both ways set the soft limit of open files in the child, and leave this process its own."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = run("/bin/cat", "/proc/self/limits", limits=[(resource.RLIMIT_NOFILE, 300, before[1])],
               posix_spawn=posix_spawn)
    assert limits(said)["Max open files"][0] == "300"
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


@pytest.mark.parametrize("mask", [0o000, 0o027, 0o777])
def test_umask(run: Run, mask: int) -> None:
    before = os.umask(0o022)
    try:
        assert int(status(run("/bin/cat", "/proc/self/status", umask=mask))["Umask"], 8) == mask
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


@pytest.mark.parametrize("step", [5, pytest.param(-5, marks=ROOT)])
def test_nice(run: Run, step: int) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    nice = max(-20, min(19, own + step))
    said = run("/bin/cat", "/proc/self/stat", nice=nice)
    assert int(said.rpartition(")")[2].split()[16]) == nice
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


# ---- words ----


def test_arguments(run: Run, posix_spawn: bool) -> None:
    """argv as it is, its first word too; no shell has a look at it."""
    said = run("/bin/cat", "/proc/self/cmdline", posix_spawn=posix_spawn,
               argv=[b"another name", b"/proc/self/cmdline", b"/dev/null"])
    assert said.split("\0") == ["another name", "/proc/self/cmdline", "/dev/null", ""]


def test_output_and_errors_go_to_the_client(run: Run, posix_spawn: bool) -> None:
    said = run("/bin/sh", "-c", "echo out; echo error >&2", posix_spawn=posix_spawn)
    assert said == "out\nerror\n"
