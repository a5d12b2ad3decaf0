"""What processes of pools pass to an acceptor, or leave to it, does not put it to sleep."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fastinetd.core.layout import Method
from fastinetd.pools.pool import PoolEvent, Recycling
from fastinetd.system.strangers import close_message_channel, close_shared_sockets, guard_channel, receive_message
from support.clients import everything
from support.lingering import LINGER, LINGERING, abort, lingering
from support.old_kernel import as_before_linux_6_16, run_before_linux_6_16
from support.pooled import Pooled
from support.pools import TALLY, built
from support.proc import wait_for

AT_ONCE = 5.0
"""Seconds; a sleep would be LINGER."""


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[False, True], ids=["refused by the kernel", "seen by a peek"])
def old(request: pytest.FixtureRequest) -> bool:
    """Whether the kernel is to be as before Linux 6.16, and refuses no descriptors."""
    with channel() as (_, there), suppress(PermissionError):
        socket.send_fds(there, [b"x"], [0])
        if not request.param:
            pytest.skip("this kernel refuses no descriptors")
    return bool(request.param)


@contextmanager
def channel() -> Iterator[Pair]:
    """A guarded channel, and its other end."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    guard_channel(here)
    with here, there:
        yield here, there


def run_on(old: bool, body: Callable[[Pair], None]) -> None:
    """Run `body` with a channel made by a kernel of this kind, and see that it does not sleep."""

    def main() -> None:
        with channel() as pair:
            body(pair)

    begun = time.monotonic()
    run_before_linux_6_16(main) if old else main()
    assert time.monotonic() - begun < AT_ONCE


def pass_lingering(there: socket.socket, words: bytes) -> None:
    """Send a socket that lingers; the message has the last reference to it."""
    sock, client = lingering()
    with client:
        try:
            socket.send_fds(there, [words], [sock.fileno()])
        except PermissionError:
            abort(sock)
        else:
            sock.close()


def test_a_message_with_a_descriptor(old: bool) -> None:
    def body(pair: Pair) -> None:
        here, there = pair
        there.send(b"first")
        assert receive_message(here, 100) == b"first"
        pass_lingering(there, b"second")
        there.send(b"third")
        if old:
            for _ in range(2):
                with pytest.raises(OSError) as found:
                    receive_message(here, 100)
                assert found.value.errno == errno.EBADMSG
        else:
            assert receive_message(here, 100) == b"third"
        close_message_channel(here)

    run_on(old, body)


def test_what_nobody_has_received(old: bool) -> None:
    def body(pair: Pair) -> None:
        here, there = pair
        for number in range(4):
            there.send(b"x")
            pass_lingering(there, b"%d" % number)
        close_message_channel(here)
        assert here.fileno() == -1
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            there.send(b"x")

    run_on(old, body)


def test_words_alone(old: bool) -> None:
    def body(pair: Pair) -> None:
        here, there = pair
        with pytest.raises(BlockingIOError):
            receive_message(here, 10)
        there.send(b"0123456789abcdef")
        there.send(b"")
        assert receive_message(here, 10) == b"0123456789"
        assert receive_message(here, 10) == b""

    run_on(old, body)


def test_a_socket_that_others_had() -> None:
    sock, client = lingering()
    begun = time.monotonic()
    with client:
        close_shared_sockets([sock])
    assert time.monotonic() - begun < AT_ONCE


RUDE = (
    LINGERING
    + r"""
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>

enum { READY = 5, TOOK = 6 };
struct words { uint32_t kind, seq; int32_t value; };

static void stay(void)
{
    for (;;)
        pause();
}

/* Takes a connection and lets go of it, and says so only then: the acceptor's is the last close. */
static void take(void)
{
    union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr header; } control = {0};
    char variables[4096];
    struct words took = {TOOK, 0, 0};
    struct iovec piece = {variables, sizeof variables};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    int fd;
    if (recvmsg(62, &message, 0) < 8)
        _exit(1);
    memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    memcpy(&took.seq, variables + 4, 4);
    linger(fd);
    close(fd);
    if (syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0) {
        send(62, &took, sizeof took, 0);
        _exit(0);
    }
    stay();
}

__attribute__((constructor)) static void rude(int argc, char **argv)
{
    const char *how = argv[2];
    struct words ready = {READY, 0, -1};
    int status = 0;
    (void)argc;
    if (getenv("FASTINETD_WORKER") && !strcmp(how, "worker says")) {
        if (pass_with(3, &status, sizeof status) < 0)
            send(3, "nonsense", 8, 0);
        stay();
    }
    if (getenv("FASTINETD_WORKER") && !strcmp(how, "worker leaves")) {
        send(3, "nonsense", 8, 0);
        pass_with(3, &status, sizeof status);
        _exit(0);
    }
    if (!getenv("FASTINETD_STAGE"))
        return;
    if (!strcmp(how, "control"))
        pass_with(62, &ready, sizeof ready);
    if (!strcmp(how, "hand"))
        pass_with(63, &ready, sizeof ready);
    send(62, &ready, sizeof ready, 0);
    if (!strcmp(how, "lets go"))
        take();
    if (!strcmp(how, "voice"))
        pass_with(61, &ready, sizeof ready);
    send(61, "nonsense", 8, 0);
    stay();
}
"""
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rude")
    library = built(folder, "librude.so", RUDE, "-shared", "-fPIC")
    (folder / "served").touch()
    return built(folder, "rude", TALLY, "-Wl,--no-as-needed", str(library), f"-Wl,-rpath,{folder}")


def ask(pooled: Pooled, name: str) -> bytes:
    with pooled.connect() as client:
        client.sendall(name.encode() + b"\n")
        return everything(client)


@pytest.mark.parametrize("how", ["worker says", "worker leaves", "control", "voice", "hand"])
def test_a_process_of_a_pool_passes_one(pooled: Pooled, program: Path, old: bool, how: str) -> None:
    """It is given up, and its clients are served by exec, without a pause."""
    method = Method.WORKER if how.startswith("worker") else Method.ZYGOTE
    pooled.plan(method, str(program), f"@{program.parent / 'served'}", how, least=1, workers=1)
    pooled.start(first=as_before_linux_6_16 if old else lambda: None)
    begun = time.monotonic()
    pooled.await_recycled(Recycling.MISTRUSTED)
    for number in range(4):
        assert ask(pooled, f"n{number}") == b"n%d\n" % number
    pooled.await_recycled(Recycling.MISTRUSTED, 2)
    assert time.monotonic() - begun < LINGER / 3
    if how != "worker leaves":  # which may be seen to have ended first
        assert PoolEvent.UNINTELLIGIBLE in {what for what, _ in pooled.pool_events()}


def test_a_connection_that_lingers(pooled: Pooled, program: Path) -> None:
    """A zygote's fork sets SO_LINGER, leaves, and the acceptor is the last to close it."""
    pooled.serve(Method.ZYGOTE, str(program), f"@{program.parent / 'served'}", "lets go")
    wait_for(lambda: pooled.counters.pool[0], "a zygote")
    silent = pooled.connect()
    wait_for(lambda: pooled.by(Method.ZYGOTE) == 1, "the fork has taken it")
    begun = time.monotonic()
    pooled.await_calm()
    assert time.monotonic() - begun < LINGER / 3
    assert silent.recv(10)
