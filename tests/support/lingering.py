"""Sockets whose last close sleeps: SO_LINGER, and a client that does not read."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

from support.clients import tcp_pair

LINGER = 60
"""Seconds that a last close sleeps: far more than any test waits."""

LINGERING = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void linger(int fd)
{
    static char much[65536];
    struct linger on = {1, 60};
    while (send(fd, much, sizeof much, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        ;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &on, sizeof on);
}

/* A socket whose last close sleeps, for its client does not read. */
static int lingering(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), fd;
    bind(listener, (struct sockaddr *)&address, size);
    listen(listener, 1);
    getsockname(listener, (struct sockaddr *)&address, &size);
    if (connect(client, (struct sockaddr *)&address, size) < 0)
        _exit(9);
    fd = accept(listener, NULL, NULL);
    linger(fd);
    return fd;
}

/* Send words, with such a socket, of which nothing stays here. */
static long pass_with(int to, const void *words, size_t size)
{
    union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr header; } control = {0};
    struct iovec piece = {(void *)words, size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    int fd = lingering();
    long sent;
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    sent = sendmsg(to, &message, MSG_NOSIGNAL);
    if (sent == (long)size)
        close(fd);
    return sent;
}
"""
"""What a program in C must include and do to have the last close of its connection sleep."""


def linger(sock: socket.socket) -> None:
    """Have the last close of a connection sleep."""
    with suppress(BlockingIOError):
        while True:
            sock.send(bytes(1 << 16), socket.MSG_DONTWAIT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER))


def lingering() -> tuple[socket.socket, socket.socket]:
    """A socket whose last close sleeps, and its client."""
    client, server = tcp_pair()
    linger(server)
    return server, client


def abort(sock: socket.socket) -> None:
    """Close a socket whose last close would sleep, at once."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
