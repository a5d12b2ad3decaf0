"""Zygotes and their forks that speak nonsense, die, or say nothing: no client sees a difference.

A rude zygote is made with a library of the program's own: its constructor runs before the one that holds programs, and
speaks in its place.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
from adversity.harm import acceptors, at_rest, consistent, gone, replaced, switches

from support.clients import free_port
from support.daemon import Launch
from support.pools import TALLY, ask_name, built, descendants, gauges, recycled, served, settles, told
from support.proc import wait_for
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")

ZYGOTE = r"""
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FORK = 1, PARK, TAKE, LEAVE, READY, TOOK, PARKED, FAILED, REFUSED };
struct reply { uint32_t kind, seq; int32_t value; };
static struct { uint32_t kind, seq; char more[2000]; } request;

static long say(int to, uint32_t kind, uint32_t seq, int32_t value)
{
    struct reply reply = {kind, seq, value};
    return send(to, &reply, sizeof reply, MSG_NOSIGNAL);
}

/* As root anybody may say that he is another process. */
static long forge(int to, uint32_t kind, uint32_t seq, int pid)
{
    union { char space[CMSG_SPACE(sizeof(struct ucred))]; struct cmsghdr header; } control = {0};
    struct reply reply = {kind, seq, 0};
    struct iovec piece = {&reply, sizeof reply};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    struct ucred sender = {pid, getuid(), getgid()};
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_CREDENTIALS;
    control.header.cmsg_len = CMSG_LEN(sizeof sender);
    memcpy(CMSG_DATA(&control.header), &sender, sizeof sender);
    return sendmsg(to, &message, MSG_NOSIGNAL);
}

static void hear(void)
{
    if (recv(62, &request, sizeof request, 0) <= 0)
        _exit(0);
}

static long fork_like_a_zygote(void)
{
    return syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
}

/* A connection that came with a request, as a zygote serves it; the first one's fork ends before it has taken it. */
static void serve_all_but_the_first(char **argv)
{
    union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr aligned; } control;
    struct iovec piece = {&request, sizeof request};
    int first = 1, fd, i;
    for (;; first = 0) {
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control,
                                 .msg_controllen = sizeof control};
        if (recvmsg(62, &message, 0) <= 0)
            _exit(0);
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
        if (!fork_like_a_zygote()) {
            if (first)
                _exit(0);
            say(62, TOOK, request.seq, 0);
            setsid();
            for (i = 0; i < 3; i++)
                dup2(fd, i);
            execve("/proc/self/exe", argv, argv + 3);
            _exit(1);
        }
        close(fd);
    }
}

/* One fork takes two connections, and is the server of both. */
static void serve_two(void)
{
    union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr aligned; } control;
    struct iovec piece = {&request, sizeof request};
    char name[2][64];
    ssize_t size[2];
    int fd[2], i;
    if (recv(62, &request, 1, MSG_PEEK) <= 0 || fork_like_a_zygote())
        return;
    for (i = 0; i < 2; i++) {
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control,
                                 .msg_controllen = sizeof control};
        if (recvmsg(62, &message, 0) <= 0)
            _exit(0);
        memcpy(&fd[i], CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd[i]);
        say(62, TOOK, request.seq, 0);
    }
    for (i = 0; i < 2; i++)
        size[i] = read(fd[i], name[i], sizeof name[i]);
    for (i = 0; i < 2; i++)
        if (write(fd[i], name[i], size[i]) < 0)
            _exit(1);
    _exit(0);
}

static void stay(void)
{
    for (;;)
        pause();
}

__attribute__((constructor)) static void rude(int argc, char **argv, char **envp)
{
    const char *how = argv[2];
    for (; *envp && strncmp(*envp, "FASTINETD_STAGE=", 16); envp++)
        ;
    if (!*envp)
        return;
    if (!strcmp(how, "dies"))
        _exit(3);
    if (!strcmp(how, "hangs"))
        stay();
    if (!strcmp(how, "refuses")) {
        say(62, REFUSED, 0, 1);
        _exit(1);
    }
    if (!strcmp(how, "closes") || !strcmp(how, "closes-later")) {
        if (how[6])
            say(62, READY, 0, -1);
        close(62);
        close(63);
        close(61);
        stay();
    }
    if (!strcmp(how, "short"))
        send(62, "x", 1, 0);
    if (!strcmp(how, "empty"))
        send(62, "", 0, 0);
    if (!strcmp(how, "long"))
        send(62, &request, sizeof request, 0);
    if (!strcmp(how, "other-socket"))
        say(61, READY, 0, -1);
    if (!strcmp(how, "stranger-than-ready"))
        say(62, 77, 0, -1);
    say(62, READY, 0, -1);
    if (!strcmp(how, "twice"))
        say(62, READY, 0, -1);
    if (!strcmp(how, "unasked"))
        for (uint32_t slot = 0; slot < 3; slot++)
            say(62, TOOK, slot | 1 << 16, 0);
    if (!strcmp(how, "floods"))
        while (say(62, PARKED, 0xffffffff, 0) > 0)
            say(61, TOOK, 0xffffffff, -1);
    if (!strcmp(how, "silent"))
        stay();
    if (!strcmp(how, "loses-first"))
        serve_all_but_the_first(argv);
    if (!strcmp(how, "takes-two")) {
        serve_two();
        stay();
    }
    hear();
    if (!strcmp(how, "dies-asked"))
        _exit(4);
    if (!strcmp(how, "another-slot"))
        say(62, TOOK, request.seq + 1, 0);
    if (!strcmp(how, "another-turn"))
        say(62, TOOK, request.seq ^ 1 << 16, 0);
    if (!strcmp(how, "itself"))
        say(62, TOOK, request.seq, 0);
    if (!strcmp(how, "as-parked"))
        say(61, TOOK, request.seq, request.seq);
    if (!strcmp(how, "forged-parent"))
        forge(62, TOOK, request.seq, getppid());
    if (!strcmp(how, "forged-init"))
        forge(62, TOOK, request.seq, 1);
    if (!strcmp(how, "forged-failure"))
        forge(62, FAILED, request.seq, getppid());
    if (!strcmp(how, "lost-fork") && !fork_like_a_zygote())
        _exit(0);
    if (!strcmp(how, "parks-unasked") && !fork_like_a_zygote()) {
        say(61, PARKED, 0x8001 << 16, 0);
        stay();
    }
    if (!strcmp(how, "stopped-fork") && !fork_like_a_zygote())
        for (;;)
            raise(SIGSTOP);
    stay();
}
"""

LATE = ("silent", "lost-fork", "stopped-fork")
"""Nobody can tell before five seconds are over."""

SAID = {
    "dies": "with status 3 before it was ready", "closes": "by signal 9 before it was ready",
    "refuses": "has threads before it can be held", "silent": "left connections unanswered",
    "lost-fork": "left connections unanswered", "stopped-fork": "left connections unanswered",
    "dies-asked": None, "closes-later": None, "hangs": None, "empty": "by signal 9 before it was ready",
}  # fmt: skip


def rude(folder: Path, port: int, how: str, **more: object) -> tuple[str, Path]:
    """An entry whose zygotes are rude, and the file in which its servers write down whom they served."""
    library = built(folder, "librude.so", ZYGOTE, "-shared", "-fPIC")
    program = built(folder, "rude", TALLY, "-Wl,--no-as-needed", str(library), f"-Wl,-rpath,{folder}")
    file = folder / "rude.served"
    file.touch()
    file.chmod(0o666)
    return entry("rude", port, program, f"@{file} {how}", **{"spawn": "zygote", **more}), file


@pytest.mark.parametrize("spawn", ["zygote", "prefork"])
@pytest.mark.parametrize("how", [
    "dies", "hangs", "refuses", "closes", "closes-later", "short", "empty", "long", "other-socket",
    "stranger-than-ready", "twice", "unasked", "floods", "silent", "dies-asked", "another-slot", "another-turn",
    "itself", "as-parked", "forged-parent", "forged-init", "forged-failure", "lost-fork", "parks-unasked",
    "stopped-fork",
])  # fmt: skip
def test_rude_zygote(launch: Launch, folder: Path, how: str, spawn: str) -> None:
    if spawn == "prefork" and how in LATE:
        pytest.skip("its first request is for a parked child, and nobody waits for that")
    port = free_port()
    text, file = rude(folder, port, how, spawn=spawn)
    daemon = launch(defaults() + text, "--acceptors", "1", metrics=True)
    names = [f"n{number}" for number in range(8)]
    for name in names:
        assert ask_name(port, name), (how, name, daemon.said())
    assert served(file) == dict.fromkeys(names, 1)
    daemon.await_metric("fastinetd_children", 0, service="rude")
    expected = SAID.get(how, "said what is not understood")
    if expected:
        wait_for(lambda: told(daemon, expected), daemon.said)
        assert told(daemon, expected) == 1
    hits, misses = (int(daemon.metric(f"fastinetd_pool_{what}_total", service="rude")) for what in ("hits", "misses"))
    assert hits + misses == len(names)
    settles(daemon, "rude")
    consistent(daemon)


@pytest.mark.parametrize("how", ["dies", "closes", "short", "twice"])
def test_crash_loop_backs_off(launch: Launch, folder: Path, how: str) -> None:
    """0.1, 0.2, 0.4 and so on: the sixth start comes after three seconds, and in between it is quiet."""
    port = free_port()
    text, _ = rude(folder, port, how)
    begun = time.monotonic()
    daemon = launch(defaults() + text, "--acceptors", "1", metrics=True)
    wait_for(lambda: sum(recycled(daemon, "rude").values()) >= 6, daemon.said, 60)
    assert time.monotonic() - begun > 2.5
    at_rest(acceptors(daemon), 19, 1, switches)


def test_zygotes_end_with_their_acceptor(launch: Launch, folder: Path) -> None:
    """Also one that hangs before it reads its first request, at a reload, a crash and the daemon's end."""
    port = free_port()
    text, _ = rude(folder, port, "hangs")
    daemon = launch(defaults() + text, "--acceptors", "1", metrics=True)
    seen: set[int] = set()
    for step in ("reload", "crash", "end"):
        (zygote,) = wait_for(lambda: set(descendants(daemon, "rude")) - seen, "a zygote")
        seen.add(zygote)
        if step == "reload":
            daemon.reload(defaults(umask="027") + text)
        elif step == "crash":
            (acceptor,) = acceptors(daemon)
            os.kill(acceptor, signal.SIGKILL)
            replaced(daemon, acceptor, 3)
        else:
            assert daemon.stop() == 0
        wait_for(lambda pid=zygote: gone(pid), f"{step}: {zygote} is gone")  # type: ignore[misc]


def test_one_fork_for_two(launch: Launch, folder: Path) -> None:
    """Two connections may say that the same child has them: it ends once, and both places are free."""
    port = free_port()
    text, _ = rude(folder, port, "takes-two")
    daemon = launch(defaults() + text, "--acceptors", "1", metrics=True)
    wait_for(lambda: gauges(daemon, "rude")["zygote"] == 1, daemon.said)
    clients = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(2)]
    for number, client in enumerate(clients):
        client.sendall(f"n{number}\n".encode())
    for number, client in enumerate(clients):
        with client:
            assert client.recv(100) == f"n{number}\n".encode(), daemon.said()
            assert client.recv(100) == b""
    daemon.await_metric("fastinetd_children", 0, service="rude")
    assert daemon.metric("fastinetd_pool_hits_total", service="rude") == 2
    assert sum(daemon.metric("fastinetd_child_exits_total", service="rude", status=status)
               for status in ("success", "unknown")) == 2
