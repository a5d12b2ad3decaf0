/* What a service's start always needs, in the layout that the child reads (see spawn.h). */
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

#endif
