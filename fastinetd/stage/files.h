/* Open files that a fork would share with the program's other children: each child gets its own.
 *
 * Theory. A fork shares the position in an open file: two children of an interpreter that reads its script as it goes
 * would each skip what the other has read. So regular files and directories are opened again in the child, by
 * /proc/self/fd, under the same number, with the same flags, at the same position. Sockets and epoll descriptors that
 * nothing was done with yet (dispatch.h sees to that) are made anew.
 *
 * Rules of this file: what there is to do is found once, before the first fork. What cannot be opened again (a log that
 * may be written but not opened) stays shared, as inetd's servers share it.
 */
#ifndef FASTINETD_STAGE_FILES_H
#define FASTINETD_STAGE_FILES_H

#include <asm/socket.h>
#include <asm/stat.h>
#include <linux/stat.h>

#include "stage.h"
#include "system.h"

#define STAGE_FILES_MAX 256

enum file_kind { FILE_OPENED, FILE_SOCKET, FILE_EPOLL };

static struct stage_file {
    int number;
    int flags;              /* of open; domain of a socket */
    int close_on_exec;      /* O_CLOEXEC or 0 */
    int type, protocol;     /* of a socket */
    enum file_kind kind;
    int64_t position;
} stage_files[STAGE_FILES_MAX];
static int stage_file_count;

struct proc_name { char text[40]; };

static struct proc_name name_in_proc(int number)
{
    static const char folder[] = "/proc/self/fd/";
    struct proc_name name;
    char digits[12];
    size_t at, count = 0;
    for (at = 0; folder[at]; at++)
        name.text[at] = folder[at];
    do
        digits[count++] = '0' + number % 10;
    while (number /= 10);
    while (count)
        name.text[at++] = digits[--count];
    name.text[at] = 0;
    return name;
}

static int socket_option(int number, int option)
{
    int value = 0, size = sizeof value;
    CALL(__NR_getsockopt, number, SOL_SOCKET, option, &value, &size);
    return value;
}

/* Fill in `file` for its number. Returns whether a child must do something about it. */
static int is_shared(struct stage_file *file, int with_new_ones)
{
    struct stat status;
    struct proc_name name;
    char target[32] = {0};

    if (CALL(__NR_fstat, file->number, &status) < 0)
        return 0;
    file->flags = CALL(__NR_fcntl, file->number, F_GETFL);
    file->close_on_exec = CALL(__NR_fcntl, file->number, F_GETFD) & FD_CLOEXEC ? O_CLOEXEC : 0;
    if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) {
        file->kind = FILE_OPENED;
        file->position = CALL(__NR_lseek, file->number, 0, 1);
        return !(file->flags & O_PATH);
    }
    if (!with_new_ones)
        return 0;
    if (S_ISSOCK(status.st_mode)) {
        file->kind = FILE_SOCKET;
        file->type = socket_option(file->number, SO_TYPE) | (file->flags & O_NONBLOCK);
        file->flags = socket_option(file->number, SO_DOMAIN);
        file->protocol = socket_option(file->number, SO_PROTOCOL);
        return 1;
    }
    file->kind = FILE_EPOLL;
    name = name_in_proc(file->number);
    CALL(__NR_readlinkat, AT_FDCWD, name.text, target, sizeof target - 1);
    return starts_with(target, "anon_inode:[eventpoll]");
}

struct folder_entry {       /* as getdents64 writes it */
    uint64_t inode;
    int64_t next;
    uint16_t size;
    uint8_t kind;
    char name[];
};

/* Returns 0, or -1 if there are more than can be kept, or the program has run (`with_new_ones`: sockets and epoll
 * descriptors count as well) and /proc does not say what it has opened. */
static int note_files(int with_new_ones)
{
    char entries[1024] __attribute__((aligned(8)));
    long folder = CALL(__NR_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC), size, at;

    if (folder < 0)
        return with_new_ones ? -1 : 0;
    while ((size = CALL(__NR_getdents64, folder, entries, sizeof entries)) > 0)
        for (at = 0; at < size; at += ((struct folder_entry *)(entries + at))->size) {
            const char *name = ((struct folder_entry *)(entries + at))->name;
            struct stage_file *file = stage_files + stage_file_count;
            int number = 0;
            if (*name == '.')
                continue;
            while (*name)
                number = number * 10 + *name++ - '0';
            if (number <= 2 || (number >= STAGE_VOICE && number <= STAGE_HAND) || number == folder)
                continue;
            if (stage_file_count == STAGE_FILES_MAX) {
                CALL(__NR_close, folder);
                return -1;
            }
            file->number = number;
            stage_file_count += is_shared(file, with_new_ones);
        }
    CALL(__NR_close, folder);
    return 0;
}

/* In the child. Returns whether nothing is shared any more. */
static int reopen_files(void)
{
    const struct stage_file *file;
    int all = 1;
    for (file = stage_files; file < stage_files + stage_file_count; file++) {
        long opened;
        struct proc_name name;
        if (file->kind == FILE_SOCKET)
            opened = CALL(__NR_socket, file->flags, file->type, file->protocol);
        else if (file->kind == FILE_EPOLL)
            opened = CALL(__NR_epoll_create1, 0);
        else {
            name = name_in_proc(file->number);
            opened = CALL(__NR_openat, AT_FDCWD, name.text, file->flags & ~O_NOFOLLOW);
        }
        if (opened < 0) {
            all = 0;
            continue;
        }
        CALL(__NR_dup3, opened, file->number, file->close_on_exec);
        CALL(__NR_close, opened);
        if (file->kind == FILE_OPENED && file->position > 0)
            CALL(__NR_lseek, file->number, file->position, 0);
    }
    return all;
}

#endif
