/* The ceiling of workers: a server that answers every connection itself and starts nothing.
 *
 * One listening socket, a few processes in blocking accept4, one line out, and the connection closed. Nothing
 * that hands a connection to another process can be faster than this.
 *
 *   inprocess -l PORT [-p PROCESSES] [-u UID -g GID]
 *     -l  port on 127.0.0.1            -p  processes that accept (twice as many as cores)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void serve(int listener)
{
    static const char line[] = "hello\n";
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EINTR && errno != ECONNABORTED)
                perror("accept4");
            continue;
        }
        if (send(fd, line, sizeof line - 1, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
            perror("send");
        close(fd);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    long processes = 2 * sysconf(_SC_NPROCESSORS_ONLN), uid = -1, gid = -1;
    int option, one = 1;

    while ((option = getopt(argc, argv, "l:p:u:g:")) != -1)
        switch (option) {
        case 'l': address.sin_port = htons((in_port_t)atoi(optarg)); break;
        case 'p': processes = atol(optarg); break;
        case 'u': uid = atol(optarg); break;
        case 'g': gid = atol(optarg); break;
        default: return 2;
        }
    if (!address.sin_port || processes < 1 || optind < argc) {
        fputs("usage: inprocess -l PORT [-p N] [-u UID -g GID]\n", stderr);
        return 2;
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ||
        bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("listen");
        return 1;
    }
    if ((gid >= 0 && (setgroups(0, NULL) || setgid((gid_t)gid))) || (uid >= 0 && setuid((uid_t)uid))) {
        perror("setuid");
        return 1;
    }
    pid_t first = getpid();
    for (long i = 1; i < processes; i++) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL); /* ending the first process ends all */
            if (getppid() != first)
                _exit(0);
            break;
        }
    }
    serve(listener);
}
