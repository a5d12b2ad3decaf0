/* From a connected descriptor to a running server: everything between clone() and execve().
 *
 * Why C: the child runs in the parent's memory (CLONE_VM) on a stack of its own. Cython may put tracing, reference
 * counts or exception checks into any function; here that would run the parent's interpreter twice.
 *
 * Rules of this file, for everything named child_*:
 *  - raw system calls only: libc's setuid, setgid and setgroups signal "all threads", which are the parent's;
 *  - it writes nothing but its own stack, call->error and call->step;
 *  - it never returns: execve or _exit.
 * The parent is suspended (CLONE_VFORK) until the child has left this memory, so these two need no lock.
 */
#ifndef FASTINETD_SPAWN_H
#define FASTINETD_SPAWN_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "system/descriptors.h"
#include "spawn_guard.h"
#include "spawn_plan.h"

#define SPAWN_SECONDS 10     /* a child that has not come to exec by then is killed */

static char spawn_stack[65536] __attribute__((aligned(64)));

#define CHILD_TRY(which, expression) do { if ((expression) < 0) { step = STEP_##which; goto failed; } } while (0)

#if defined(__SANITIZE_ADDRESS__)
__attribute__((no_sanitize("address")))
#endif
static int child_main(void *argument)
{
    struct spawn_call *call = argument;
    const struct spawn_plan *plan = call->plan;
    int fd = call->fd, signal_number, i;
    uint64_t none = 0;
    int timer, step = STEP_EXECVE;
    struct sigevent kill_me = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    const struct itimerspec patience = {.it_value = {.tv_sec = SPAWN_SECONDS}};

    /* Stopped by somebody, or in an exec that hangs (a dead file server): then this ends it, and frees the parent.
     * exec itself deletes the timer. */
    CHILD_TRY(TIMER_CREATE, syscall(SYS_timer_create, CLOCK_MONOTONIC, &kill_me, &timer));
    CHILD_TRY(TIMER_SETTIME, syscall(SYS_timer_settime, timer, 0, &patience, NULL));
    /* Our own copy of the low descriptors only: this is what keeps the price flat with 10,000 open ones. */
    CHILD_TRY(CLOSE_RANGE, syscall(SYS_close_range, FIRST_KEPT_DESCRIPTOR, ~0U, CLOSE_RANGE_UNSHARE));
    CHILD_TRY(SETSID, syscall(SYS_setsid));
    if (call->reset_signals) {
        struct { void (*handler)(int); unsigned long flags; void (*restorer)(void); uint64_t mask; } standard;
        memset(&standard, 0, sizeof standard);
        for (signal_number = 1; signal_number <= 64; signal_number++)   /* KILL and STOP fail, as they should */
            syscall(SYS_rt_sigaction, signal_number, &standard, NULL, sizeof none);
    }
    for (i = 0; i < call->further_count; i++)       /* before the limits: these may be above rlimit_files */
        CHILD_TRY(DUP3, syscall(SYS_dup3, call->further[i], call->further_at + i, 0));
    for (i = 0; i < plan->limit_count; i++)
        CHILD_TRY(PRLIMIT64, syscall(SYS_prlimit64, 0, plan->resources[i], &plan->limits[i], NULL));
    if (plan->set_nice)
        CHILD_TRY(SETPRIORITY, syscall(SYS_setpriority, PRIO_PROCESS, 0, plan->nice));
    if (plan->group_count >= 0)
        CHILD_TRY(SETGROUPS, syscall(SYS_setgroups, plan->group_count, plan->groups));
    if (plan->umask >= 0)
        syscall(SYS_umask, plan->umask);
    for (i = 0; i < 3; i++)
        /* fd is never 0, 1 or 2: those are always open */
        CHILD_TRY(DUP3, syscall(SYS_dup3, i == 2 && call->errors >= 0 ? call->errors : fd, i, 0));
    if (call->reset_signals)
        CHILD_TRY(RT_SIGPROCMASK, syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none));
    /* Last: from here on whoever has the same uid may stop this process, and the parent waits with it. */
    if (plan->change_ids) {
        if (call->guard >= 0)
            CHILD_TRY(PRCTL, keep_capabilities());
        CHILD_TRY(SETRESGID, syscall(SYS_setresgid, plan->gid, plan->gid, plan->gid));
        CHILD_TRY(SETRESUID, syscall(SYS_setresuid, plan->uid, plan->uid, plan->uid));
        if (call->guard >= 0 || plan->drop_capabilities)
            CHILD_TRY(CAPSET, take_guard(call->guard));
    }
    if (call->tied)                                 /* a change of ids would undo this */
        CHILD_TRY(PRCTL, syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
    syscall(SYS_execve, plan->path, plan->argv, call->envp);
failed:
    call->error = errno;
    call->step = step;
    syscall(SYS_exit, 127);
    __builtin_unreachable();
}

/* The kernel writes the pid to *pid before the child runs. Returns 0, or the errno of clone, a step, or execve, or
 * ETIMEDOUT; after a failure past clone the child is reaped and *pid set back to 0. */
static int spawn_clone(struct spawn_call *call, int32_t *pid)
{
    sigset_t all, before;
    struct timespec begun, now;
    siginfo_t ended;
    int result;

    call->error = call->step = 0;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    if (call->reset_signals) {
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, &before);
    }
    result = clone(child_main, spawn_stack + sizeof spawn_stack,
                   CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PARENT_SETTID | SIGCHLD, call, pid);
    if (result < 0) {
        call->error = errno;
        call->step = STEP_CLONE;
    }
    if (call->reset_signals)
        sigprocmask(SIG_SETMASK, &before, NULL);
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!call->error && now.tv_sec - begun.tv_sec >= SPAWN_SECONDS - 1) {
        ended.si_pid = 0;      /* so long: was it the timer that ended it? */
        if (waitid(P_PID, result, &ended, WEXITED | WNOHANG | WNOWAIT) == 0
            && ended.si_pid && ended.si_code == CLD_KILLED) {
            call->error = ETIMEDOUT;
            call->step = STEP_EXECVE;
        }
    }
    if (call->error && result > 0) {
        while (waitpid(result, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    if (call->error)
        *pid = 0;
    return call->error;
}

/* The same through posix_spawn, for plans without ids, limits, umask and nice. The pid is known only afterwards. */
static int spawn_posix(struct spawn_call *call, int32_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t set;
    struct rlimit raised;
    const struct rlimit *files = NULL;
    pid_t child = 0;
    int i, error;

    for (i = 0; i < call->plan->limit_count; i++)
        if (call->plan->resources[i] == RLIMIT_NOFILE)
            files = &call->plan->limits[i];
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    for (i = 0; i < 3; i++)
        posix_spawn_file_actions_adddup2(&actions, call->fd, i);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    /* sigfillset leaves out two that libc keeps, and the server would ignore those. */
    memset(&set, 0xff, sizeof set);
    posix_spawnattr_setsigdefault(&attributes, &set);
    sigemptyset(&set);
    posix_spawnattr_setsigmask(&attributes, &set);
    if (files && getrlimit(RLIMIT_NOFILE, &raised) == 0)
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){files->rlim_cur, raised.rlim_max});
    else
        files = NULL;
    error = posix_spawn(&child, call->plan->path, &actions, &attributes, call->plan->argv, call->envp);
    if (files)
        setrlimit(RLIMIT_NOFILE, &raised);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    call->error = error;
    call->step = STEP_UNKNOWN;
    *pid = error ? 0 : child;
    return error;
}

#endif
