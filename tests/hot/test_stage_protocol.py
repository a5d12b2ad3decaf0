"""What held programs and their children say and do when ends are closed, killed or speak nonsense."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import struct
import subprocess
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pytest

from support.clients import everything, tcp_pair
from support.stage import (
    CONTROL,
    FAILED,
    FILES,
    FORK,
    HAND,
    LEAVE,
    LIBRARY,
    PARK,
    REFUSED,
    TAKE,
    TOOK,
    VOICE,
    Held,
    compiled,
    held,
    started,
)

CAT = ["/bin/cat"]


def test_the_zygote_is_ready_and_leaves_at_the_end_of_file() -> None:
    zygote = Held(CAT)
    said = zygote.ready()
    assert (said.value, said.pid) == (-1, zygote.pid)
    assert zygote.close() == 0


def test_servers_outlive_the_zygote() -> None:
    zygote = Held(CAT)
    zygote.ready()
    client, pid = zygote.open()
    other, other_pid = zygote.open()
    os.kill(zygote.pid, signal.SIGKILL)
    assert zygote.hear() is None
    assert os.waitpid(zygote.pid, 0)[1] == signal.SIGKILL
    for end, number in ((client, pid), (other, other_pid)):
        with end:
            end.sendall(b"still here")
            end.shutdown(socket.SHUT_WR)
            assert everything(end) == b"still here"
        assert zygote.ended(number) == 0
    zygote.hang_up()


def test_parked_children_outlive_the_zygote_and_serve() -> None:
    zygote = Held(CAT)
    zygote.ready()
    parked = {zygote.park() for _ in range(3)}
    os.kill(zygote.pid, signal.SIGKILL)
    assert os.waitpid(zygote.pid, 0)[1] == signal.SIGKILL
    assert zygote.hear() is None, "parked children hold their end of the control socket"
    for _ in range(3):
        client, pid = zygote.take()
        with client:
            parked.remove(pid)
            client.sendall(b"x")
            client.shutdown(socket.SHUT_WR)
            assert everything(client) == b"x"
        assert zygote.ended(pid) == 0
    assert zygote.voice.recv(10) == b"", "nobody is left"
    zygote.hang_up()


def test_each_connection_is_taken_by_exactly_one() -> None:
    with held(CAT) as zygote:
        zygote.ready()
        parked = {zygote.park() for _ in range(8)}
        pairs = [tcp_pair() for _ in range(8)]
        for _, server in pairs:
            zygote.ask(TAKE, server, ["A=b"], zygote.hand)
            server.close()
        took = [zygote.hear(zygote.voice) for _ in pairs]
        assert {said.kind for said in took if said} == {TOOK}
        assert {said.pid for said in took if said} == parked
        assert len({said.seq for said in took if said}) == 8
        for number, (client, _) in enumerate(pairs):
            with client:
                client.sendall(b"%d" % number)
                client.shutdown(socket.SHUT_WR)
                assert everything(client) == b"%d" % number
        for pid in parked:
            assert zygote.ended(pid) == 0


def test_one_child_too_many_leaves() -> None:
    with held(CAT) as zygote:
        zygote.ready()
        pids = {zygote.park() for _ in range(2)}
        zygote.ask(LEAVE, end=zygote.hand)
        pid, status = zygote.next_end()
        assert pid in pids
        assert status == 0
        zygote.children.remove(pid)


def test_parked_children_leave_at_the_end_of_file() -> None:
    zygote = Held(CAT)
    zygote.ready()
    pids = [zygote.park() for _ in range(3)]
    zygote.hand.close()
    assert [zygote.ended(pid) for pid in pids] == [0, 0, 0]
    zygote.hang_up()
    assert os.waitpid(zygote.pid, 0)[1] == 0


def test_who_cannot_say_that_it_took_a_connection_does_not_serve_it() -> None:
    """The acceptor is gone when the zygote comes to read its request: nobody answers the client."""
    zygote = Held(CAT)
    zygote.ready()
    os.kill(zygote.pid, signal.SIGSTOP)
    os.waitpid(zygote.pid, os.WUNTRACED)
    client, server = tcp_pair()
    with client:
        with server:
            zygote.ask(FORK, server)
        zygote.control.close()
        os.kill(zygote.pid, signal.SIGCONT)
        assert client.recv(100) == b""
    ended = dict(zygote.next_end() for _ in range(2))
    assert ended.pop(zygote.pid) == 0
    (status,) = ended.values()
    assert os.waitstatus_to_exitcode(status) == 1
    zygote.hang_up()


def test_a_parked_child_that_cannot_say_so_does_not_serve() -> None:
    zygote = Held(CAT)
    zygote.ready()
    pid = zygote.park()
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    client, server = tcp_pair()
    with client:
        with server:
            zygote.ask(TAKE, server, end=zygote.hand)
        zygote.hand.close()
        zygote.voice.close()
        os.kill(pid, signal.SIGCONT)
        assert client.recv(100) == b""
    assert os.waitstatus_to_exitcode(zygote.ended(pid)) == 1
    zygote.hang_up()
    assert os.waitpid(zygote.pid, 0)[1] == 0


def test_no_processes_left_is_told_and_survived(root: None) -> None:
    """RLIMIT_NPROC of the service's user, who has no other process: with one more, exec would fail already."""
    user = 0x100000 + os.getpid()

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        os.setresuid(user, user, user)

    with held(CAT, before=limited) as zygote:
        zygote.ready()
        for kind in (FORK, PARK, FORK):
            client, server = tcp_pair()
            with client, server:
                seq = zygote.ask(kind, server if kind == FORK else None)
                said = zygote.hear()
                assert said is not None
                assert (said.kind, said.seq, os.strerror(said.value)) == (FAILED, seq, os.strerror(11))
        assert zygote.descriptors() == {1, 2, VOICE, CONTROL, HAND}


def test_a_request_without_its_connection_is_told_and_survived() -> None:
    with held(CAT) as zygote:
        zygote.ready()
        seq = zygote.ask(FORK)
        said = zygote.hear()
        assert said is not None
        assert (said.kind, said.seq, said.value) == (FAILED, seq, 9)
        client, server = tcp_pair()
        with client, server:
            zygote.ask(PARK, server)
            said = zygote.hear()
            assert said is not None and said.kind == FAILED
        assert zygote.serve(b"x") == (b"x", 0)


def test_more_descriptors_than_one_are_closed() -> None:
    with held(CAT) as zygote:
        zygote.ready()
        client, server = tcp_pair()
        with client:
            with server:
                number = server.fileno()
                socket.send_fds(zygote.control, [struct.pack("II", FORK, 1)], [number, number, number])
            said = zygote.hear()
            assert said is not None and said.kind == TOOK
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            assert sorted(os.listdir(f"/proc/{said.pid}/fd"), key=int) == ["0", "1", "2"]
            client.shutdown(socket.SHUT_WR)
            assert everything(client) == b""
        assert zygote.ended(said.pid) == 0


@pytest.mark.parametrize("message", [b"x", struct.pack("II", 99, 1), struct.pack("II", FORK, 1) + b"x" * 4096])
def test_nonsense_ends_the_zygote(message: bytes) -> None:
    zygote = Held(CAT)
    zygote.ready()
    zygote.control.send(message)
    assert zygote.hear() is None
    assert os.waitstatus_to_exitcode(zygote.close()) == 1


def test_without_its_sockets_the_program_does_not_run() -> None:
    """FASTINETD_STAGE in the environment, but nobody there: the program must not serve a placeholder."""
    mine, theirs = socket.socketpair()
    with mine:
        with theirs:
            pid = started(["/bin/echo", "hello"], [f"LD_PRELOAD={LIBRARY}", "FASTINETD_STAGE=main"],
                          dict.fromkeys((0, 1, 2), theirs.fileno()), None)  # fmt: skip
        assert mine.recv(100) == b""
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_more_open_files_than_can_be_opened_again(folder: Path) -> None:
    program = compiled(folder, """
        #include <fcntl.h>
        #include <unistd.h>
        int main() { for (int i = 0; i < 300; i++) open("/bin/cat", O_RDONLY); return write(1, "x", 1) != 1; }""")
    zygote = Held([program], snapshot="first_io")
    said = zygote.hear()
    assert said is not None
    assert (said.kind, said.value) == (REFUSED, FILES)
    assert os.waitstatus_to_exitcode(zygote.close()) == 1


def calls_of(log: Path, pid: int) -> list[str]:
    return re.findall(r"^(\w+)\(", log.with_name(f"{log.name}.{pid}").read_text(), re.M)


def test_few_system_calls(root: None, need: Callable[[str], str], folder: Path) -> None:
    """The zygote makes three for each request, a child seven before main, a parked one five after it has its client."""
    log = folder / "trace"
    program = compiled(folder, '#include <unistd.h>\nint main() { return write(1, "hello", 5) != 5; }')
    with held([program]) as zygote:
        zygote.ready()
        tracer = subprocess.Popen([need("strace"), "-ff", "-qq", "-o", str(log), "-p", str(zygote.pid)])
        await_traced(zygote.pid)
        forked, parked = zygote.open(), (zygote.park(), zygote.take())[1]
        for client, pid in (forked, parked):
            with client:
                assert everything(client) == b"hello"
            zygote.ended(pid)
    assert tracer.wait() == 0
    zygotes = calls_of(log, zygote.pid)
    assert zygotes[zygotes.index("clone") :] == ["clone", "close", "recvmsg", "clone", "recvmsg", "exit_group"]
    first, second = calls_of(log, forked[1]), calls_of(log, parked[1])
    assert first[: first.index("write")] == [
        "sendto", "setsid", "set_robust_list", "dup3", "dup3", "close_range", "prctl",
    ]  # fmt: skip
    waits = [call for call, _ in groupby(call for call in second if call != "madvise")]  # it may have had to wait
    assert waits[: waits.index("write")] == [
        "sendto", "setsid", "set_robust_list", "close", "recvmsg", "sendto", "dup3", "close_range", "prctl",
    ]  # fmt: skip
    taken = len(second) - second[::-1].index("recvmsg")
    assert "madvise" not in second[taken:], "it has got ready before it had a client"


def await_traced(pid: int) -> None:
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
        os.sched_yield()


def test_who_has_the_same_user_sees_into_servers_but_not_into_what_waits(root: None) -> None:
    """As with execve a server is its user's; a zygote and a parked child, which have other clients to come, are not."""

    def nobody() -> None:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    def owner(pid: int) -> int:
        return Path(f"/proc/{pid}/mem").stat().st_uid

    with held(CAT, before=nobody) as zygote:
        zygote.ready()
        parked = zygote.park()
        assert (owner(zygote.pid), owner(parked)) == (0, 0)
        for client, pid in (zygote.open(), zygote.take()):
            with client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
                assert owner(pid) == 65534
            zygote.ended(pid)
