/* A look at the clock from which a time limit is counted belongs to each server (first_io).
 *
 * Theory. `read -t 2` in a shell looks at the clock, adds two seconds, and waits for its client until then. In a zygote
 * that is held at the wait the two seconds are over when the client comes. So the program is held at the look at the
 * clock instead, if what follows soon is a wait for the client with a limit, and nothing before it but other looks.
 * Only then: programs look at the clock all the time (Python for each lock), and what they do afterwards is worth
 * having been done once. What follows is found out by a scout, a fork that runs on under dispatch as well. It reads
 * files, which it opens anew; it does nothing that others would notice. It tells how far the program may go before
 * another look has to be asked for.
 *
 * Rules of this file: as of dispatch.h.
 *  - a scout ends after SCOUT_TIME of processor time, or when it would be noticed;
 *  - in doubt the program is held at the clock: that is always right, only earlier than need be.
 */
#ifndef FASTINETD_STAGE_SCOUT_H
#define FASTINETD_STAGE_SCOUT_H

#include <asm/mman.h>
#include <linux/prctl.h>
#include <linux/time.h>
#include <linux/wait.h>

#include "files.h"
#include "judge.h"
#include "traps.h"

#define SCOUT_TIME 50000            /* microseconds */
#define SCOUT_CALLS 2000
#define SCOUT_LOOKS 64              /* the last ones that are remembered */
#define SOON 1000000                /* nanoseconds of processor time from a look to the wait that it may be for */
#define SCOUTS 4096                 /* a program that needs more is held at its next look at the clock */

static struct scouted {             /* shared with the scout */
    int verdict;                    /* HOLD_IO or HOLD_OTHER: the program is to be held at once; PASS: it is not */
    int call;                       /* what it would be held at later */
    int clear;                      /* so many further calls may be made before it looks at a clock that may matter */
} *report;                          /* in a scout; NULL in the program itself */
static int scouts;
static int clear_calls;             /* of the program: as above */
static int scout_calls;
static struct {                     /* of a scout: its looks at a clock since it did anything else but look */
    int call;                       /* its number; -1: the program's own, that the scout was made for */
    long when;
} looks[SCOUT_LOOKS];
static int first_look, look_count;
static int may_read;                /* of a scout: no file is shared with the program */

static int looks_at_clock(const struct trapped_call *call)
{
    const int clock = call->arguments[0];
    switch (call->number) {
    case __NR_time: case __NR_gettimeofday: case __NR_times:
        return 1;
    case __NR_clock_gettime:
        return clock >= 0 && clock != CLOCK_PROCESS_CPUTIME_ID && clock != CLOCK_THREAD_CPUTIME_ID;
    default:
        return 0;
    }
}

/* Whether a call, which passes or is answered, changes nothing but the process itself. */
static int only_looks(const struct trapped_call *call)
{
    const long *a = call->arguments;
    switch (call->number) {
    case __NR_brk: case __NR_mmap: case __NR_munmap: case __NR_mremap: case __NR_mprotect: case __NR_madvise:
    case __NR_rt_sigaction: case __NR_rt_sigprocmask: case __NR_sigaltstack: case __NR_rt_sigpending:
    case __NR_fstat: case __NR_newfstatat: case __NR_statx: case __NR_stat: case __NR_lstat: case __NR_access:
    case __NR_faccessat: case __NR_faccessat2: case __NR_readlink: case __NR_readlinkat: case __NR_getcwd:
    case __NR_close: case __NR_dup: case __NR_dup2: case __NR_dup3: case __NR_ioctl: case __NR_socket:
    case __NR_epoll_create: case __NR_epoll_create1:
    case __NR_getpid: case __NR_gettid: case __NR_getppid: case __NR_getpgrp: case __NR_getpgid: case __NR_getsid:
    case __NR_getuid: case __NR_geteuid: case __NR_getgid: case __NR_getegid: case __NR_getresuid:
    case __NR_getresgid: case __NR_getgroups: case __NR_getrlimit: case __NR_getrusage: case __NR_uname:
    case __NR_sysinfo: case __NR_getrandom: case __NR_time: case __NR_gettimeofday: case __NR_clock_gettime:
    case __NR_clock_getres: case __NR_times: case __NR_futex: case __NR_sched_yield: case __NR_getcpu:
    case __NR_sched_getaffinity: case __NR_prctl: case __NR_arch_prctl:
        return 1;
    case __NR_lseek:
        return is_client(a[0]) || (a[1] == 0 && a[2] == 1);     /* a socket has no position; where am I? */
    case __NR_fcntl:
        return a[1] != F_SETFL;
    default:
        return 0;
    }
}

static int is_plain(const struct stat *status)
{
    return S_ISREG(status->st_mode) || S_ISDIR(status->st_mode);
}

/* Whether a call reads a file, which is the process's own. */
static int only_reads(const struct trapped_call *call)
{
    const long *a = call->arguments;
    const int at = call->number == __NR_openat;
    struct stat status;
    switch (call->number) {
    case __NR_open: case __NR_openat:
        if (a[1 + at] & (O_ACCMODE | O_CREAT | O_TRUNC))
            return 0;
        return CALL(__NR_newfstatat, at ? a[0] : AT_FDCWD, a[at], &status, 0) < 0 || is_plain(&status);
    case __NR_read: case __NR_readv: case __NR_pread64: case __NR_lseek: case __NR_getdents64: case __NR_getdents:
        return may_read && CALL(__NR_fstat, a[0], &status) == 0 && is_plain(&status);
    default:
        return 0;
    }
}

static void __attribute__((noreturn)) end_scout(void)
{
    for (;;)
        CALL(__NR_exit_group, 0);
}

/* Whether a call waits until a moment that the program has reckoned. */
static int waits_with_limit(const struct trapped_call *call)
{
    const long *a = call->arguments;
    switch (call->number) {
    case __NR_select: case __NR_pselect6:
        return a[4] != 0;
    case __NR_poll:
        return (int)a[2] > 0;
    case __NR_ppoll:
        return a[2] != 0;
    default:
        return 0;
    }
}

static long processor_time(void)
{
    long now[2] = {0, 0};
    CALL(__NR_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, now);
    return now[0] * 1000000000 + now[1];
}

static void remember_look(int call)
{
    if (look_count == SCOUT_LOOKS) {
        first_look = (first_look + 1) % SCOUT_LOOKS;
        look_count--;
    }
    looks[(first_look + look_count) % SCOUT_LOOKS].call = call;
    looks[(first_look + look_count++) % SCOUT_LOOKS].when = processor_time();
}

/* How many calls may be made before the first look that is remembered. */
static int calls_to_look(void)
{
    return !look_count ? scout_calls : looks[first_look].call < 0 ? 0 : looks[first_look].call;
}

/* In a scout, before each of its calls: does not return if it has seen enough. */
static void scout_on(enum verdict verdict, const struct trapped_call *call)
{
    long now;

    if (verdict == HOLD_IO || verdict == HOLD_OTHER) {
        if (!waits_with_limit(call))
            look_count = 0;
        for (now = processor_time(); look_count && now - looks[first_look].when > SOON; look_count--)
            first_look = (first_look + 1) % SCOUT_LOOKS;
        report->clear = calls_to_look();
        report->call = call->number;
        report->verdict = look_count && looks[first_look].call < 0 ? (int)verdict : PASS;
        end_scout();
    }
    if (looks_at_clock(call))
        remember_look(scout_calls);
    else if (!only_looks(call))
        look_count = 0;
    report->clear = calls_to_look();
    if (scout_calls++ == SCOUT_CALLS || (!only_looks(call) && !only_reads(call)))
        end_scout();
}

static void become_scout(struct scouted *seen, struct ucontext *context)
{
    static const struct signal_action deadly;
    const long limit[4] = {0, 0, 0, SCOUT_TIME};
    report = seen;
    remember_look(-1);
    CALL(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
    may_read = note_files(0) == 0 && reopen_files();
    CALL(__NR_rt_sigaction, SIGPROF, &deadly, 0, 8);
    context->uc_sigmask &= ~SIGNAL_BIT(SIGPROF);
    CALL(__NR_setitimer, ITIMER_PROF, limit, 0);
    trap_calls();
}

/* The program makes a call that passes or is answered, as judged. HOLD_IO or HOLD_OTHER: it looks at the clock, and is
 * to be held there, on account of call->number, which is set to the call that it would be held at. */
static enum verdict look_ahead(struct trapped_call *call, enum verdict judged)
{
    struct scouted *seen;
    enum verdict verdict = HOLD_OTHER;
    long scout;

    if (clear_calls > 0) {
        clear_calls--;
        return judged;
    }
    if (!looks_at_clock(call))
        return judged;
    if (scouts++ == SCOUTS)
        return HOLD_OTHER;
    seen = (void *)CALL(__NR_mmap, 0, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if ((unsigned long)seen > -4096UL)
        return HOLD_OTHER;
    scout = CALL(__NR_clone, 0, 0, 0, 0, 0);    /* no signal when it ends: the program does not hear of it */
    if (scout == 0) {
        become_scout(seen, call->context);
        return judged;
    }
    if (scout > 0) {
        while (CALL(__NR_wait4, scout, 0, __WALL, 0) == -EINTR)
            ;
        verdict = seen->verdict;
        if (verdict != PASS)
            call->number = seen->call;
        clear_calls = seen->clear;
    }
    CALL(__NR_munmap, seen, sizeof *seen);
    return verdict;
}

#endif
