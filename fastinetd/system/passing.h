/* Sends connections over SEQPACKET sockets: control messages (cmsg(3), unix(7)), which are written in C. */
#ifndef FASTINETD_PASSING_H
#define FASTINETD_PASSING_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Send a message, with a descriptor (borrowed; -1: without one), without waiting. Returns 0 or an errno. */
static inline int send_message(int to, const void *data, size_t size, int fd)
{
    union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr aligned; } control;
    struct iovec part = {(void *)data, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct cmsghdr *header;

    if (fd >= 0) {
        message.msg_control = control.space;
        message.msg_controllen = sizeof control.space;
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    return sendmsg(to, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
}

/* Make a pair of connected sockets, both close-on-exec; `attested`: the first gets the senders' pids (SO_PASSCRED).
 * Returns 0 or an errno. */
static inline int connect_pair(int pair[2], int attested)
{
    int yes = 1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return errno;
    if (attested)
        setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes);
    return 0;
}

/* The inode of an open file or socket; 0 for a descriptor that is not open. */
static inline uint64_t inode_of(int fd)
{
    struct stat about;
    return fstat(fd, &about) < 0 ? 0 : about.st_ino;
}

/* Fields that change when a file is written anew or replaced; all 0 for a file that does not exist. */
struct file_mark {
    uint64_t device, inode;
    int64_t size, changed_s, changed_ns;
};

static inline void mark_file(const char *path, struct file_mark *mark)
{
    struct stat about;
    memset(mark, 0, sizeof *mark);
    if (stat(path, &about) == 0)
        *mark = (struct file_mark){about.st_dev, about.st_ino, about.st_size,
                                   about.st_ctim.tv_sec, about.st_ctim.tv_nsec};
}

#endif
