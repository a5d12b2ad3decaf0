"""Programs for pools that write down whom they served, and what is asked of a daemon about its pools."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from support.c import STRICT
from support.clients import ask
from support.daemon import Daemon
from support.proc import below, program, wait_for

TALLY = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A client says "NAME\n"; it gets that back, and "NAME PID\n" is appended to the file argv[1], which is written
 * "@FILE": a file among the arguments would be one whose change replaces the pool. One called hold... is echoed to
 * until it leaves. */
static void serve(int fd, const char *file)
{
    char name[200] = "", line[256];
    size_t length = 0;
    ssize_t n;
    int to;
    while (length < sizeof name - 1 && read(fd, name + length, 1) == 1 && name[length++] != '\n')
        ;
    if (!length || name[length - 1] != '\n')
        return;
    to = open(file, O_WRONLY | O_APPEND | O_CREAT, 0666);
    n = snprintf(line, sizeof line, "%.*s %d\n", (int)length - 1, name, (int)getpid());
    if (write(to, line, n) != n)
        _exit(9);
    close(to);
    if (write(fd, name, length) < 0)
        return;
    while (!strncmp(name, "hold", 4) && (n = read(fd, name + 4, sizeof name - 4)) > 0 && write(fd, name + 4, n) == n)
        ;
}

static int receive(void)
{
    union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr aligned; } control;
    char variables[4096];
    struct iovec piece = {variables, sizeof variables};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    int fd;
    if (recvmsg(3, &message, MSG_CMSG_CLOEXEC) <= 0 || !CMSG_FIRSTHDR(&message))
        exit(0);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

int main(int argc, char **argv)
{
    int status = 0, fd;
    if (!getenv("FASTINETD_WORKER")) {
        serve(0, argv[1] + 1);
        return 0;
    }
    while (send(3, &status, sizeof status, MSG_NOSIGNAL) == sizeof status) {
        fd = receive();
        serve(fd, argv[1] + 1);
        close(fd);
    }
    return 0;
}
"""


def built(folder: Path, name: str, source: str, *options: str) -> Path:
    """Compile a program in C, or a library, that every user may run; returns its path."""
    text = folder / f"{name}.c"
    text.write_text(source)
    subprocess.run(["gcc", "-O1", *STRICT, "-o", folder / name, text, *options], check=True)
    return folder / name


def tally(folder: Path) -> tuple[Path, Path]:
    """A program that writes down whom it served, and the file that it writes to."""
    file = folder / "tally.served"
    file.touch()
    file.chmod(0o666)
    return built(folder, "tally", TALLY), file


def served(file: Path) -> Counter[str]:
    """How often each name was served."""
    return Counter(line.split()[0] for line in file.read_text().splitlines())


def ask_name(port: int, name: str, timeout: float = 20.0) -> bool:
    """Whether a client of this name was served."""
    return ask(port, f"{name}\n".encode(), timeout=timeout) == f"{name}\n".encode()


def descendants(daemon: Daemon, kind: str) -> dict[int, int]:
    """Children of acceptors that run this program: pid -> parent."""
    acceptors = {pid for name, pid in daemon.roles().items() if name.startswith("acceptor")}
    table = below(daemon.pid)
    return {
        pid: each.parent for pid, each in table.items()
        if each.parent in acceptors and each.alive and program(pid).removesuffix(" (deleted)").endswith(kind)
    }  # fmt: skip


def gauges(daemon: Daemon, service: str) -> dict[str, int]:
    """The samples of fastinetd_pool_processes for a service, by state."""
    states = ("zygote", "starting", "idle", "busy")
    return {state: int(daemon.metric("fastinetd_pool_processes", service=service, state=state)) for state in states}


def held(pid: int) -> bool:
    """Whether a process is a zygote: it has both sockets to its acceptor."""
    return all(os.path.lexists(f"/proc/{pid}/fd/{number}") for number in (61, 62, 63))


def recycled(daemon: Daemon, service: str) -> Mapping[str, int]:
    reasons = ("requests", "age", "rss", "runtime", "spare", "changed", "died", "mistrusted", "cpu")
    found = {why: int(daemon.metric("fastinetd_pool_recycled_total", service=service, reason=why)) for why in reasons}
    return {why: count for why, count in found.items() if count}


def told(daemon: Daemon, text: str) -> int:
    """How many lines of the daemon's messages contain a text."""
    return len(re.findall(re.escape(text), daemon.said()))


def settles(daemon: Daemon, service: str) -> None:
    """The gauges come to what /proc shows."""
    states = ("zygote", "starting", "idle")

    def right() -> bool:
        return sum(gauges(daemon, service)[state] for state in states) == len(descendants(daemon, service))

    wait_for(right, lambda: f"{gauges(daemon, service)}, running {descendants(daemon, service)}")
