/* hello.c as a worker: one connection after another, over the header that any worker in C may use. */
#define _GNU_SOURCE
#include "../contrib/fastinetd_worker.h"

static const char line[] = "hello\n";

int main(void)
{
    static struct fastinetd_connection c;
    while (fastinetd_next(&c) > 0)
        c.status = send(c.fd, line, sizeof line - 1, MSG_NOSIGNAL) != (ssize_t)sizeof line - 1;
    return c.status;
}
