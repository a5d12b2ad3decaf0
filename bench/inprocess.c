/* The ceiling of pools: servers that start no program, and the least that can be had of what pools do.
 *
 * One listening socket, a few processes that accept from it, one line out, and the connection closed. Nothing that
 * hands a connection to another process can be faster than this. With -f each connection is answered by a fork, which
 * is what a zygote does at the least; with -w it is passed to one of WORKERS processes that live on, which is what
 * workers do. No limits, no accounting, no users but one.
 *
 *   inprocess -l PORT [-p PROCESSES] [-u UID -g GID] [-f | -w WORKERS]
 *     -l  port on 127.0.0.1            -p  processes that accept (twice as many as cores; with -w as many)
 *     -f  a fork for each connection   -w  so many workers for each process that accepts
 */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char line[] = "hello\n";

static void answer(int fd)
{
    if (send(fd, line, sizeof line - 1, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
        perror("send");
    close(fd);
}

static int next(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 && errno != EINTR && errno != ECONNABORTED && errno != EAGAIN)
        perror("accept4");
    return fd;
}

static pid_t fork_tied(void)
{
    pid_t first = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* ending the first process ends all */
        if (getppid() != first)
            _exit(0);
    }
    return pid;
}

/* The fork ends as a program does, by exit. */
static void serve_forked(int fd)
{
    if (fork() == 0) {
        setsid();
        for (int i = 0; i < 3; i++)
            dup2(fd, i);
        exit(write(1, line, sizeof line - 1) != sizeof line - 1);
    }
    close(fd);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

/* A message with room for a descriptor. */
struct passing {
    struct msghdr header;
    struct iovec data;
    char text[512];
    union {
        struct cmsghdr first;
        char room[CMSG_SPACE(sizeof(int))];
    } extra;
};

static void prepare(struct passing *p, size_t size)
{
    p->data = (struct iovec){p->text, size};
    p->header = (struct msghdr){.msg_iov = &p->data, .msg_iovlen = 1, .msg_control = &p->extra,
                                .msg_controllen = sizeof p->extra};
}

static void pass(int worker, int fd)
{
    static struct passing p = {.text = "REMOTE_HOST=127.0.0.1"};
    prepare(&p, 160); /* what eight variables take */
    p.extra.first = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
    };
    memcpy(CMSG_DATA(&p.extra.first), &fd, sizeof fd);
    if (sendmsg(worker, &p.header, MSG_NOSIGNAL) < 0)
        perror("sendmsg");
    close(fd);
}

static void work(int socket)
{
    static struct passing p;
    for (int fd, status = 0;; answer(fd)) {
        prepare(&p, sizeof p.text);
        if (send(socket, &status, sizeof status, MSG_NOSIGNAL) < 0 || recvmsg(socket, &p.header, MSG_CMSG_CLOEXEC) <= 0)
            _exit(0);
        memcpy(&fd, CMSG_DATA(&p.extra.first), sizeof fd);
    }
}

static void watch(int poller, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) {
        perror("epoll_ctl");
        exit(1);
    }
}

/* Workers say that they are free; whoever comes meanwhile waits. */
static void pass_on(int listener, int workers)
{
    enum { MOST = 4096 };
    static int idle[MOST], waiting[MOST];
    int poller = epoll_create1(0), idle_count = 0, waiting_count = 0, pair[2], status, fd;
    struct epoll_event events[64];

    watch(poller, listener, EPOLLIN | EPOLLEXCLUSIVE);
    for (int i = 0; i < workers && i < MOST; i++) {
        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair)) {
            perror("socketpair");
            exit(1);
        }
        if (fork_tied() == 0)
            work(pair[1]);
        close(pair[1]);
        watch(poller, pair[0], EPOLLIN);
    }
    for (;;) {
        int count = epoll_wait(poller, events, 64, -1), clients = 0;
        for (int i = 0; i < count; i++)
            if (events[i].data.fd == listener)
                clients = 1;
            else if (recv(events[i].data.fd, &status, sizeof status, MSG_DONTWAIT) != sizeof status)
                exit(1);
            else if (waiting_count)
                pass(events[i].data.fd, waiting[--waiting_count]);
            else
                idle[idle_count++] = events[i].data.fd;
        for (int i = 0; clients && i < 8 && waiting_count < MOST && (fd = next(listener)) >= 0; i++)
            if (idle_count)
                pass(idle[--idle_count], fd);
            else
                waiting[waiting_count++] = fd;
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    long processes = 0, uid = -1, gid = -1;
    int option, one = 1, forked = 0, workers = 0;

    while ((option = getopt(argc, argv, "l:p:u:g:fw:")) != -1)
        switch (option) {
        case 'l': address.sin_port = htons((in_port_t)atoi(optarg)); break;
        case 'p': processes = atol(optarg); break;
        case 'u': uid = atol(optarg); break;
        case 'g': gid = atol(optarg); break;
        case 'f': forked = 1; break;
        case 'w': workers = atoi(optarg); break;
        default: return 2;
        }
    if (!processes)
        processes = (workers ? 1 : 2) * sysconf(_SC_NPROCESSORS_ONLN);
    if (!address.sin_port || processes < 1 || workers < 0 || optind < argc) {
        fputs("usage: inprocess -l PORT [-p N] [-u UID -g GID] [-f | -w N]\n", stderr);
        return 2;
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (workers ? SOCK_NONBLOCK : 0), 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ||
        bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("listen");
        return 1;
    }
    if ((gid >= 0 && (setgroups(0, NULL) || setgid((gid_t)gid))) || (uid >= 0 && setuid((uid_t)uid))) {
        perror("setuid");
        return 1;
    }
    for (long i = 1; i < processes; i++)
        if (fork_tied() == 0)
            break;
    if (workers)
        pass_on(listener, workers);
    for (int fd;;)
        if ((fd = next(listener)) >= 0) {
            if (forked)
                serve_forked(fd);
            else
                answer(fd);
        }
}
