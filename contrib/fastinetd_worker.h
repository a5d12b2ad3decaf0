/* SPDX-License-Identifier: BSD-2-Clause */
/* A server of fastinetd's that takes one connection after another: `spawn = worker` (docs/workers.md).
 *     static struct fastinetd_connection c;                       // begins as zeros
 *     while (fastinetd_next(&c) > 0)
 *         c.status = serve(c.fd, fastinetd_variable(&c, "REMOTE_HOST"));
 *     return c.status;
 * It serves with `spawn = exec` as well, or when no worker is free: then there is one connection, on descriptor 0. */
#ifndef FASTINETD_WORKER_H
#define FASTINETD_WORKER_H
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
struct fastinetd_connection {
    int fd;                /* a connected, blocking socket; closed by the next call. Closed it yourself? Set it to -1 */
    int status;            /* 0 to 255: what the connection ends with; 0 at its beginning */
    int state, socket;     /* 0: not begun, 1: worker, 2: started for one connection; the daemon's socket */
    char variables[8192];  /* of the connection: NAME=value, each with its NUL, and a NUL more at the end */
};
static inline const char *fastinetd_variable(const struct fastinetd_connection *c, const char *name)
{
    size_t length = strlen(name);
    const char *at = c->variables;
    for (; *at; at += strlen(at) + 1)
        if (strncmp(at, name, length) == 0 && at[length] == '=')
            return at + length + 1;
    return c->state == 2 ? getenv(name) : NULL;
}
/* 1: c->fd is the next connection. 0: there are no more, exit with c->status. -1: errno says why not; exit as well. */
static inline int fastinetd_next(struct fastinetd_connection *c)
{
    union { struct cmsghdr first; char room[CMSG_SPACE(sizeof(int))]; } extra;
    struct iovec data = {c->variables, sizeof c->variables - 2};
    struct msghdr message;
    const char *given = c->state ? NULL : getenv("FASTINETD_WORKER");
    int status = c->status & 255;
    ssize_t got;
    if (c->state && c->fd >= 0 && (shutdown(c->fd, SHUT_RDWR), c->state == 1))
        close(c->fd);
    if (c->state == 0 && !given)
        return c->fd = 0, c->state = 2, 1;
    if (c->state == 2)
        return c->fd = -1, 0;
    if (c->state == 0 && (fcntl(c->socket = atoi(given), F_SETFD, FD_CLOEXEC) < 0 || unsetenv("FASTINETD_WORKER") < 0))
        return c->status = 1, -1;
    c->state = 1, c->status = 0, c->fd = -1;
    while ((got = send(c->socket, &status, sizeof status, MSG_NOSIGNAL)) < 0 && errno == EINTR) ;
    memset(&message, 0, sizeof message), message.msg_iov = &data, message.msg_iovlen = 1;
    message.msg_control = &extra, message.msg_controllen = sizeof extra;
    while (got >= 0 && (got = recvmsg(c->socket, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) ;
    if (got < 0 ? errno == EPIPE || errno == ECONNRESET : got == 0 && message.msg_controllen == 0)
        return 0;
    if (got < 0 || message.msg_controllen < CMSG_LEN(sizeof(int)) || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        return errno = got < 0 ? errno : EMFILE, c->status = 1, -1;  /* EMFILE: the descriptor could not be had */
    memset(c->variables + got, 0, 2);
    return memcpy(&c->fd, CMSG_DATA(&extra.first), sizeof c->fd), 1;
}
#endif
