/* What a start is told and how it fails, in the layout that the child reads (see spawn.h). */
#ifndef FASTINETD_SPAWN_PLAN_H
#define FASTINETD_SPAWN_PLAN_H

#include <sys/resource.h>
#include <sys/types.h>

#define SPAWN_LIMITS 6       /* at most so many rlimits a service: as, cpu, data, rss, stack and files */

struct spawn_plan {          /* what a service's start always needs; built once, read only */
    const char *path;
    char *const *argv;
    const gid_t *groups;
    struct rlimit limits[SPAWN_LIMITS];
    int resources[SPAWN_LIMITS];
    int limit_count;
    int group_count;         /* -1: leave the supplementary groups alone */
    int change_ids;          /* 0: stay who we are */
    int drop_capabilities;   /* with the ids: those that programs inherit, too */
    uid_t uid;
    gid_t gid;
    int umask;               /* -1: leave */
    int set_nice;            /* 0: leave */
    int nice;                /* the absolute value */
    int use_posix_spawn;
};

/* What a start consists of, as far as it may fail: system calls by their names (logs/start_failures.py tells them). */
enum spawn_step {
    STEP_UNKNOWN, STEP_FCNTL, STEP_CLONE, STEP_TIMER_CREATE, STEP_TIMER_SETTIME, STEP_CLOSE_RANGE, STEP_SETSID,
    STEP_DUP3, STEP_PRLIMIT64, STEP_SETPRIORITY, STEP_SETGROUPS, STEP_RT_SIGPROCMASK, STEP_PRCTL, STEP_SETRESGID,
    STEP_SETRESUID, STEP_CAPSET, STEP_EXECVE
};

struct spawn_call {          /* one start */
    const struct spawn_plan *plan;
    char *const *envp;
    int fd;                  /* becomes 0, 1 and 2; borrowed */
    int errors;              /* becomes 2 in its place; borrowed; -1: there is no other */
    const int *further;      /* become further_at and those after it; borrowed, none of them is one of these or `fd` */
    int further_count;
    int further_at;
    int reset_signals;       /* the caller has handlers or a mask of its own (the supervisor has, acceptors have not) */
    int tied;                /* it is killed when the process that starts it ends */
    int guard;               /* a capability that keeps others of its user out (spawn_guard.h); -1: nothing does */
    volatile int error;      /* errno of the step that failed */
    volatile int step;       /* and which one that was; STEP_UNKNOWN: posix_spawn does not say */
};

/* The soft limit that the plan's programs have of a resource: the plan's, or this process's own. */
static inline rlim_t limit_of_programs(const struct spawn_plan *plan, int resource)
{
    struct rlimit own = {RLIM_INFINITY, RLIM_INFINITY};
    int i;

    for (i = 0; i < plan->limit_count; i++)
        if (plan->resources[i] == resource)
            return plan->limits[i].rlim_cur;
    getrlimit(resource, &own);
    return own.rlim_cur;
}

#endif
