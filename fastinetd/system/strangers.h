/* Receives from untrusted processes, and closes sockets that they have had, without waiting for them.
 *
 * Theory. The last close of a socket sleeps for the time of its SO_LINGER while its client does not read, in the
 * process that happens to close it last. A process that can pass a descriptor (SCM_RIGHTS) can make that process this
 * one: when a message is received without room for its descriptors, or a socket is closed with such a message in its
 * queue, the kernel closes the descriptors here. So on a channel of the daemon's own a peek shows whether a message has
 * descriptors: it takes a reference and gives it back while the queue has another. Such a channel is closed by a
 * process that ends, which does not sleep (inet_release looks at PF_EXITING). Connections that servers have had, and
 * descriptors that clients of a unix socket may have sent, are closed in any case, and often: there a signal ends the
 * sleep (sk_stream_wait_close).
 *
 * Pipes would not help: pipe_write holds the pipe's lock while it reads the writer's memory, which may be a page of a
 * file system that never answers, and the reader sleeps for the lock. A unix socket's sender copies before it locks.
 */
#ifndef FASTINETD_STRANGERS_H
#define FASTINETD_STRANGERS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHANNEL_PASSRIGHTS 83  /* SO_PASSRIGHTS of asm-generic/socket.h, from Linux 6.16 on */

/* Have the kernel refuse messages with descriptors (EPERM for the sender). Returns whether it does. */
static inline int forbid_descriptors(int channel)
{
    int no = 0;
    return setsockopt(channel, SOL_SOCKET, CHANNEL_PASSRIGHTS, &no, sizeof no) == 0;
}

/* One recvmsg without waiting. Returns the whole length of the message (which may be more than `room`), 0 at the end,
 * or minus an errno; -EBADMSG: the message has descriptors, for which there is no room. *pid is set to the sender's
 * pid, as the kernel attests it, on a socket with SO_PASSCRED: then the credentials take all the room. NULL for other
 * sockets. */
static inline ssize_t receive_once(int channel, void *data, size_t room, int32_t *pid, int flags)
{
    union { char space[CMSG_SPACE(sizeof(struct ucred))]; struct cmsghdr aligned; } control;
    struct iovec part = {data, room};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = pid ? control.space : NULL,
                             .msg_controllen = pid ? sizeof control.space : 0};
    struct cmsghdr *header;
    struct ucred sender;
    ssize_t length = recvmsg(channel, &message, flags | MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);

    if (pid)
        *pid = 0;
    if (length < 0)
        return -errno;
    header = CMSG_FIRSTHDR(&message);
    if (pid && header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
        memcpy(&sender, CMSG_DATA(header), sizeof sender);
        *pid = sender.pid;
    }
    return message.msg_flags & MSG_CTRUNC ? -EBADMSG : length;
}

/* Until stop_waking no sleep that a signal ends is longer than a millisecond. SIGALRM must have a handler. */
static inline void keep_awake(void)
{
    static const struct itimerval soon = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &soon, NULL);
}

static inline void stop_waking(void)
{
    static const struct itimerval never;
    setitimer(ITIMER_REAL, &never, NULL);
}

/* Close a socket (taken) that another process has or had, or a unix socket that others have sent to. */
static inline void close_shared(int fd)
{
    keep_awake();
    close(fd);
    stop_waking();
}

/* Close a channel (taken) whose queue holds descriptors: a child has it too and, killed, closes it last. The child is
 * waited for 10 ms at most; later it is reaped as a child that belongs to no slot. */
static inline void close_elsewhere(int fd)
{
    long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    int moments = 10;

    if (child == 0) {
        poll(NULL, 0, 1000);  /* until it is killed, or its parent is dead */
        _exit(0);
    }
    close_shared(fd);
    if (child < 0)
        return;
    kill((pid_t)child, SIGKILL);
    while (waitpid((pid_t)child, NULL, WNOHANG) == 0 && moments--)
        poll(NULL, 0, 1);
}

/* Receive all messages of a socket, each with a descriptor that this process has sent, without waiting. Returns the
 * last descriptor, which is the caller's, and closes those before it; -1: there is none. */
static inline int receive_last_descriptor(int from)
{
    union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr aligned; } control;
    char byte;
    struct iovec part = {&byte, 1};
    struct cmsghdr *header;
    int last = -1;

    for (;;) {
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space,
                                 .msg_controllen = sizeof control.space};
        if (recvmsg(from, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
            return last;
        header = CMSG_FIRSTHDR(&message);
        if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
            if (last >= 0)
                close_shared(last);
            memcpy(&last, CMSG_DATA(header), sizeof last);
        }
    }
}

#endif
