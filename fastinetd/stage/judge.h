/* What becomes of one system call that a program makes before it is held (first_io).
 *
 * Theory. The table (rules.h) decides about most calls; those about more than one descriptor are judged here, and
 * so are the calls that are made in another way for the program, because they concern SIGSYS or what the handler's
 * return restores.
 *
 * Rules of this file: as of dispatch.h, whose handler calls judge_call().
 */
#ifndef FASTINETD_STAGE_JUDGE_H
#define FASTINETD_STAGE_JUDGE_H

#include <asm/ioctls.h>
#include <asm/stat.h>
#include <asm/termbits.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/prctl.h>

#include "stage.h"
#include "rules.h"
#include "signals.h"
#include "system.h"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 8             /* Linux 6.11 */
#endif

enum verdict { PASS, ANSWERED, HOLD_IO, HOLD_OTHER };

static int is_client(long number)
{
    return (unsigned)number <= 2;
}

static int is_ours(long number)
{
    return (int)number >= STAGE_VOICE && (int)number <= STAGE_HAND;
}

static enum verdict answer_call(struct trapped_call *call, long result)
{
    call->result = result;
    return ANSWERED;
}

static enum verdict judge_descriptor(struct trapped_call *call, long number)
{
    return is_client(number) ? HOLD_IO : is_ours(number) ? answer_call(call, -EBADF) : PASS;
}

static enum verdict judge_descriptors(struct trapped_call *call, long one, long other)
{
    if (is_client(one) || is_client(other))
        return HOLD_IO;
    return is_ours(one) || is_ours(other) ? answer_call(call, -EBADF) : PASS;
}

/* A name for a descriptor, or a list of them? */
static enum verdict judge_path(unsigned long address)
{
    char path[64] = {0};
    size_t at;

    read_memory(address, path, sizeof path - 1);
    if (starts_with(path, "/dev/std") || starts_with(path, "/dev/fd"))
        return HOLD_IO;
    if (starts_with(path, "/proc/"))
        for (at = sizeof "/proc"; path[at]; at++)
            if (starts_with(path + at, "/fd"))
                return HOLD_IO;
    return PASS;
}

/* A file that the program makes for itself: what one child wrote there the others would read. A cache or a log, which
 * is to be made once, is opened by a name that may exist, or only written. */
static enum verdict judge_open(unsigned long path, unsigned long flags)
{
    const int made = (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL) && (flags & O_ACCMODE) == O_RDWR;
    const enum verdict verdict = judge_path(path);
    return verdict == PASS && (made || (flags & O_TMPFILE) == O_TMPFILE) ? HOLD_OTHER : verdict;
}

static enum verdict judge_openat2(const long *arguments)
{
    uint64_t flags = 0;         /* what struct open_how begins with */
    read_memory(arguments[2], &flags, sizeof flags);
    return judge_open(arguments[1], flags);
}

/* A folder that the program makes for itself alone: what one child put there the others would find. One that others of
 * the machine may enter, or that is there already, is made to be shared. */
static enum verdict judge_folder(long at, long path, unsigned long mode)
{
    struct stat status;
    return mode & 077 || CALL(__NR_newfstatat, at, path, &status, 0) == 0 ? PASS : HOLD_OTHER;
}

/* close_range(2) around this library's descriptors: they stay open, and the program sees no error. */
static enum verdict judge_close_range(struct trapped_call *call)
{
    const unsigned first = call->arguments[0], last = call->arguments[1], flags = call->arguments[2];
    long result = 0;

    if (first <= last && first <= 2)
        return HOLD_IO;
    if (first > last || first > STAGE_HAND || last < STAGE_VOICE)
        return PASS;
    if (first < STAGE_VOICE)
        result = CALL(__NR_close_range, first, STAGE_VOICE - 1, flags);
    if (result == 0 && last > STAGE_HAND)
        result = CALL(__NR_close_range, STAGE_HAND + 1, last, flags);
    return answer_call(call, result);
}

static enum verdict judge_fcntl(struct trapped_call *call)
{
    const int command = call->arguments[1];

    if (is_ours(call->arguments[0]))
        return answer_call(call, -EBADF);
    if (command == F_GETFD || command == F_GETFL)
        return PASS;
    if (command == F_SETFD && is_client(call->arguments[0]) && !(call->arguments[2] & FD_CLOEXEC))
        return PASS;                /* perl makes sure that they survive an execve; they do */
    if (is_client(call->arguments[0]))
        return HOLD_IO;
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC || command == F_SETFD || command == F_SETFL ? PASS
                                                                                                        : HOLD_OTHER;
}

static enum verdict judge_ioctl(struct trapped_call *call)
{
    const unsigned command = call->arguments[1];

    if (is_ours(call->arguments[0]))
        return answer_call(call, -EBADF);
    if (command == TCGETS || command == TCGETS2 || command == TIOCGWINSZ || command == TIOCGPGRP)
        return PASS;                /* no socket is a terminal */
    if (is_client(call->arguments[0]))
        return HOLD_IO;
    return command == FIOCLEX || command == FIONCLEX ? PASS : HOLD_OTHER;
}

/* A fork finds droppable memory empty, and that is what it is for: the C library keeps the state of getrandom there. */
static enum verdict judge_map(struct trapped_call *call)
{
    const unsigned long protection = call->arguments[2], flags = call->arguments[3], kind = flags & MAP_TYPE;

    if (kind != MAP_PRIVATE && kind != MAP_DROPPABLE && (protection & PROT_WRITE || flags & MAP_ANONYMOUS))
        return HOLD_OTHER;          /* memory of nobody else is not made to be read alone: mprotect comes later */
    if (flags & MAP_LOCKED)
        return HOLD_OTHER;
    return flags & MAP_ANONYMOUS ? PASS : judge_descriptor(call, call->arguments[4]);
}

static enum verdict judge_prctl(int option)
{
    switch (option) {
    case PR_GET_NAME: case PR_SET_NAME: case PR_GET_DUMPABLE: case PR_GET_PDEATHSIG: case PR_GET_SECCOMP:
    case PR_GET_NO_NEW_PRIVS: case PR_CAPBSET_READ: case PR_GET_KEEPCAPS: case PR_GET_SECUREBITS:
    case PR_GET_THP_DISABLE: case PR_SET_THP_DISABLE: case 0x53564d41:
        return PASS;                /* the last one names a mapping: PR_SET_VMA, which older headers have not */
    default:
        return HOLD_OTHER;
    }
}

static enum verdict judge_poll(struct trapped_call *call)
{
    struct { int descriptor; short asked, told; } entry;
    unsigned long at;

    for (at = 0; at < (unsigned)call->arguments[1]; at++) {
        if (read_memory(call->arguments[0] + at * sizeof entry, &entry, sizeof entry) != sizeof entry)
            break;
        if (is_client(entry.descriptor))
            return HOLD_IO;
    }
    return HOLD_OTHER;
}

static enum verdict judge_select(struct trapped_call *call)
{
    unsigned char lowest;
    int set;

    for (set = 1; set <= 3; set++)
        if (call->arguments[set] && read_memory(call->arguments[set], &lowest, 1) == 1 && lowest & 7)
            return HOLD_IO;
    return HOLD_OTHER;
}

/* The C library asks the cache of names first. For a held program there is none: the library then looks for itself. */
static enum verdict judge_connect(struct trapped_call *call)
{
    static const char cache[] = "/var/run/nscd/socket";
    struct { unsigned short family; char path[sizeof cache]; } address = {0, {0}};

    read_memory(call->arguments[1], &address, sizeof address);
    address.path[sizeof cache - 1] = 0;
    if (address.family == 1 && starts_with(address.path, cache))
        return answer_call(call, -ENOENT);
    return is_client(call->arguments[0]) ? HOLD_IO : HOLD_OTHER;
}

static enum verdict judge_call(struct trapped_call *call)
{
    const long *a = call->arguments;
    const unsigned operation = a[1] & FUTEX_CMD_MASK;
    const unsigned long number = call->number;

    switch (number < sizeof stage_rules ? stage_rules[number] : HOLDS) {
    case PASSES: return PASS;
    case FD: return judge_descriptor(call, a[0]);
    case FD_AND_2ND: return judge_descriptors(call, a[0], a[1]);
    case FD_AND_3RD: return judge_descriptors(call, a[0], a[2]);
    case LOOKS: return is_ours(a[0]) ? answer_call(call, -EBADF) : PASS;
    case FD_HOLDS: return is_client(a[0]) ? HOLD_IO : is_ours(a[0]) ? answer_call(call, -EBADF) : HOLD_OTHER;
    case OPENS: return judge_open(a[0], a[1]);
    case OPENS_AT: return judge_open(a[1], a[2]);
    case OPENS_HOW: return judge_openat2(a);
    case CREATES: return judge_path(a[0]);
    case MAKES_FOLDER: return judge_folder(AT_FDCWD, a[0], a[1]);
    case MAKES_FOLDER_AT: return judge_folder(a[0], a[1], a[2]);
    case DUPLICATES:
        if (is_client(a[0]) || is_client(a[1]))
            return HOLD_IO;
        return is_ours(a[0]) ? answer_call(call, -EBADF) : is_ours(a[1]) ? HOLD_OTHER : PASS;
    case CLOSES_RANGE: return judge_close_range(call);
    case FCNTL: return judge_fcntl(call);
    case IOCTL: return judge_ioctl(call);
    case MAPS: return judge_map(call);
    case ADVISES: return (int)a[2] == MADV_DONTFORK || (int)a[2] == MADV_WIPEONFORK ? HOLD_OTHER : PASS;
    case PRCTL: return judge_prctl(a[0]);
    case FUTEX: return operation == FUTEX_WAKE || operation == FUTEX_WAKE_BITSET ? PASS : HOLD_OTHER;
    case POLLS: return judge_poll(call);
    case SELECTS: return judge_select(call);
    case EPOLL_CTL: return is_client(a[2]) ? HOLD_IO : HOLD_OTHER;
    case CONNECTS: return judge_connect(call);
    case SIGACTION: return answer_call(call, set_action(a));
    case SIGMASK: return answer_call(call, set_mask(a, call->context));
    case SIGSTACK: return answer_call(call, set_stack(a, call->context));
    case SIGRETURN: return_from_handler(call->context);
    default: return HOLD_OTHER;
    }
}

#endif
