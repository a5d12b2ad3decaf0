/* Nobody of the program's user looks into the process, or changes it, until it serves: whoever did would have the next
 * client as well (ptrace(2), /proc/PID/mem).
 *
 * Theory. While the program starts, a capability that its user has not keeps them out (core/spawn_guard.h). Once it is
 * held it is not dumpable, so the capability is given up: what serves has the privileges that it would have with an
 * execve.
 *
 * Rules of this file: at every moment one of the two holds, for the other user's sake; the capability is given up after
 * the process has become undumpable, and once, before the first fork.
 */
#ifndef FASTINETD_STAGE_GUARD_H
#define FASTINETD_STAGE_GUARD_H

#include <linux/capability.h>
#include <linux/prctl.h>

#include "system.h"

static int guard = -1;      /* the capability */
static long dumpable;

/* From FASTINETD_STAGE's value: "main:11"; without a number there is none. */
static void note_guard(const char *value)
{
    while (*value && *value != ':')
        value++;
    if (!*value)
        return;
    for (guard = 0; *++value >= '0' && *value <= '9';)
        guard = 10 * guard + *value - '0';
}

/* Returns whether it is gone. */
static int give_up_guard(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2], *set = &sets[CAP_TO_INDEX(guard) & 1];

    if (CALL(__NR_capget, &header, sets) < 0)
        return 0;
    set->effective &= ~CAP_TO_MASK(guard);
    set->permitted &= ~CAP_TO_MASK(guard);
    set->inheritable &= ~CAP_TO_MASK(guard);        /* takes it out of the ambient ones too */
    return CALL(__NR_capset, &header, sets) == 0;
}

/* Returns whether the process is as it is to be when it serves, but for being dumpable. */
static int hide_process(void)
{
    dumpable = CALL(__NR_prctl, PR_GET_DUMPABLE);
    if (dumpable == 1)
        CALL(__NR_prctl, PR_SET_DUMPABLE, 0);
    return guard < 0 || give_up_guard();
}

static void show_process(void)
{
    if (dumpable == 1)
        CALL(__NR_prctl, PR_SET_DUMPABLE, 1);
}

#endif
