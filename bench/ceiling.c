/* The reference: what the kernel itself charges for "accept, become a user, run a program".
 *
 * Every ratio the benchmark prints is a share of this program's rate, so it does the least that is
 * still the same service: one listening socket, a few processes that accept from it, and per
 * connection one clone(CLONE_VM|CLONE_VFORK) whose child switches user, puts the connection on
 * 0, 1 and 2 and runs the program. No limits, no accounting, no configuration, no log.
 *
 *   ceiling -l PORT [-p PROCESSES] [-u UID -g GID] [-e] [-k] [-s] [-r] PROGRAM [ARGUMENT...]
 *     -l  port on 127.0.0.1            -e  wait in epoll (EPOLLEXCLUSIVE) instead of in accept4
 *     -p  processes that accept        -k  leave reaping to the kernel (SA_NOCLDWAIT)
 *     -s  give each child a session of its own, as super-servers do. The benchmark does so, because
 *         it is faster: where the kernel schedules by session (autogroup), a server alone in its
 *         session does not queue behind the processes that accept
 *     -r  accept and close, start nothing: the price of a refusal
 *
 * -e and -k are variants that were tried and are no faster beyond the noise (README.md); with -k the
 * kernel also drops the children's CPU time instead of adding it to the parent's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static struct {
    long uid, gid; /* -1: stay who we are */
    int epoll, nocldwait, setsid, refuse;
    char **argv;
} options = {.uid = -1, .gid = -1};

/* The child borrows the parent's memory until execve, so it uses raw system calls: libc's set*id
 * functions also look after other threads. */
static int child(void *connection)
{
    int fd = *(int *)connection;
    if (options.setsid)
        syscall(SYS_setsid);
    if (options.gid >= 0 && (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setgid, options.gid)))
        _exit(126);
    if (options.uid >= 0 && syscall(SYS_setuid, options.uid))
        _exit(126);
    dup2(fd, 0); /* dup2 drops close-on-exec, which takes care of fd itself */
    dup2(fd, 1);
    dup2(fd, 2);
    execve(options.argv[0], options.argv, environ);
    _exit(127);
}

static void start(int fd)
{
    static char stack[16384] __attribute__((aligned(16)));
    if (clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &fd) < 0)
        perror("clone");
}

static void serve(int listener)
{
    int poller = -1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    if (options.epoll) {
        poller = epoll_create1(EPOLL_CLOEXEC);
        if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event)) {
            perror("epoll");
            exit(1);
        }
    }
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN && options.epoll)
                epoll_wait(poller, &event, 1, -1);
            else if (errno != EINTR && errno != ECONNABORTED)
                perror("accept4");
            continue;
        }
        if (!options.refuse)
            start(fd);
        close(fd);
        if (!options.nocldwait && !options.refuse)
            while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    long processes = 2 * sysconf(_SC_NPROCESSORS_ONLN);
    int option, one = 1;

    while ((option = getopt(argc, argv, "+l:p:u:g:eksr")) != -1)
        switch (option) {
        case 'l': address.sin_port = htons((in_port_t)atoi(optarg)); break;
        case 'p': processes = atol(optarg); break;
        case 'u': options.uid = atol(optarg); break;
        case 'g': options.gid = atol(optarg); break;
        case 'e': options.epoll = 1; break;
        case 'k': options.nocldwait = 1; break;
        case 's': options.setsid = 1; break;
        case 'r': options.refuse = 1; break;
        default: return 2;
        }
    options.argv = argv + optind;
    if (!address.sin_port || processes < 1 || (optind >= argc && !options.refuse)) {
        fputs("usage: ceiling -l PORT [-p N] [-u UID -g GID] [-e] [-k] [-s] [-r] PROGRAM [ARG...]\n", stderr);
        return 2;
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (options.epoll ? SOCK_NONBLOCK : 0), 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ||
        bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("listen");
        return 1;
    }
    if (options.nocldwait) {
        /* SIG_DFL with this flag: nothing to interrupt accept, nothing for the program to inherit. */
        struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
        sigaction(SIGCHLD, &action, NULL);
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
