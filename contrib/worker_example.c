/* A worker in C: tells each client where it comes from, and how many were served by this process before it.
 *
 *     cc -O2 -o /usr/local/libexec/worker_example worker_example.c
 */
#include <stdio.h>

#include "fastinetd_worker.h"

int main(void)
{
    static struct fastinetd_connection c;
    unsigned long served = 0;
    char line[200];

    while (fastinetd_next(&c) > 0) {
        const char *host = fastinetd_variable(&c, "REMOTE_HOST");
        int length = snprintf(line, sizeof line, "hello %s, %lu before you\n", host ? host : "whoever", served++);
        c.status = send(c.fd, line, (size_t)length, MSG_NOSIGNAL) != length;
    }
    return c.status;
}
