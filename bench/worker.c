/* hello.c as a worker: one connection after another, over descriptor 3. The protocol is in docs/workers.md.
 *
 * Without FASTINETD_WORKER it was started for one connection, which is its descriptor 0.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char line[] = "hello\n";

/* The next connection, or -1 when there will be none. */
static int next_connection(int from)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    char variables[4096];
    struct iovec part = {variables, sizeof variables};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t got;
    do
        got = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    struct cmsghdr *passed = CMSG_FIRSTHDR(&message);
    if (got < 0 || !passed || passed->cmsg_type != SCM_RIGHTS)
        return -1;
    int connection;
    memcpy(&connection, CMSG_DATA(passed), sizeof connection);
    return connection;
}

int main(void)
{
    const char *number = getenv("FASTINETD_WORKER");
    if (!number)
        return write(0, line, sizeof line - 1) != (ssize_t)sizeof line - 1;
    int daemon = atoi(number), connection;
    int32_t status = 0;
    while (send(daemon, &status, sizeof status, MSG_NOSIGNAL) == (ssize_t)sizeof status &&
           (connection = next_connection(daemon)) >= 0) {
        status = send(connection, line, sizeof line - 1, MSG_NOSIGNAL) != (ssize_t)sizeof line - 1;
        close(connection);
    }
    return 0;
}
