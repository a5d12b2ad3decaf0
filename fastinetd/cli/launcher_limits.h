/* rlimits of this process (getrlimit(2)) under which an interpreter crashes, or ends in a traceback of its imports. The
 * needs of the daemon itself are in system/allowances.py. */
#ifndef FASTINETD_LAUNCHER_LIMITS_H
#define FASTINETD_LAUNCHER_LIMITS_H

#include <stdio.h>
#include <sys/resource.h>

#define KIB 1024UL

/* About twice of what Python 3.11 to 3.14 need to import the daemon and start it without a service (of descriptors:
 * of what the dynamic linker and an import have open). */
static const struct {
    int limit;
    unsigned long least, unit;
    const char *what, *unit_name, *where;
} least_limits[] = {
    {RLIMIT_STACK, 256 * KIB, KIB, "the stack is", " KiB", "ulimit -s, LimitSTACK"},
    {RLIMIT_DATA, 32 * KIB * KIB, KIB, "data is", " KiB", "ulimit -d, LimitDATA"},
    {RLIMIT_AS, 128 * KIB * KIB, KIB, "the address space is", " KiB", "ulimit -v, LimitAS"},
    {RLIMIT_NOFILE, 16, 1, "open files are", "", "ulimit -n, LimitNOFILE"},
};

/* Print a line for each rlimit that is too low, with what to allow. Returns whether there is one. */
static int limited_to_too_little(const char *program)
{
    int found = 0;

    for (size_t i = 0; i < sizeof least_limits / sizeof *least_limits; i++) {
        const char *unit = least_limits[i].unit_name;
        struct rlimit has;

        if (getrlimit(least_limits[i].limit, &has) < 0 || has.rlim_cur >= least_limits[i].least)
            continue;
        fprintf(stderr, "%s: %s limited to %lu%s, too little for Python; allow at least %lu%s (%s)\n", program,
                least_limits[i].what, (unsigned long)has.rlim_cur / least_limits[i].unit, unit,
                least_limits[i].least / least_limits[i].unit, unit, least_limits[i].where);
        found = 1;
    }
    return found;
}

#endif
