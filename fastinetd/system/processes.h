/* Waits for processes and sets signals: the raw system calls that libc has no name for, or hides a part of. */
#ifndef FASTINETD_PROCESSES_H
#define FASTINETD_PROCESSES_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Reset the signals from first to last to their defaults; raw, because libc keeps two of them to itself. */
static inline void default_signals_between(int first, int last)
{
    struct { void (*handler)(int); unsigned long flags; void (*restorer)(void); uint64_t mask; } standard;
    memset(&standard, 0, sizeof standard);
    for (; first <= last; first++)
        syscall(SYS_rt_sigaction, first, &standard, NULL, sizeof standard.mask);
}

static void do_nothing(int number)
{
    (void)number;
}

/* Have a signal do nothing to this process, but reset in programs that it executes: exec forgets handlers, not
 * SIG_IGN. Returns 0 or an errno (EINVAL for the two that libc keeps to itself, for KILL and for STOP). */
static inline int disregard_signal(int number)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = do_nothing;
    action.sa_flags = SA_RESTART;
    return sigaction(number, &action, NULL) < 0 ? errno : 0;
}

static inline int pidfd_of(int32_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* Wait until a process has ended, `milliseconds` at most. */
static inline void await_end(int pidfd, int milliseconds)
{
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    poll(&ended, 1, milliseconds);
}

/* waitid(2) with resource usage; raw, because libc's has no such argument. Returns 0 or an errno. */
static inline int wait_for_child(int which, int32_t id, siginfo_t *info, struct rusage *usage, int options)
{
    memset(info, 0, sizeof *info);
    return syscall(SYS_waitid, which, id, info, options, usage) < 0 ? errno : 0;
}

/* The processor time that a process has used, in nanoseconds; 0 if it is gone. */
static inline uint64_t processor_time(int32_t pid)
{
    const clockid_t clock = (clockid_t)(~(uint32_t)pid << 3 | 2);      /* clock_getcpuclockid(3), of no thread */
    struct timespec used;

    return clock_gettime(clock, &used) < 0 ? 0 : (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

/* The resident memory of a process in bytes (proc_pid_statm(5)); 0 if it cannot be read. */
static inline uint64_t resident_bytes(int32_t pid)
{
    char text[128], *second;
    ssize_t length;
    int fd;

    snprintf(text, sizeof text, "/proc/%d/statm", (int)pid);
    fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    second = strchr(text, ' ');
    return second ? strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

#endif
