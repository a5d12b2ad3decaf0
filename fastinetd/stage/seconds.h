/* bash's SECONDS in a server counts from where the server begins to live, not from the start of its zygote.
 *
 * Theory. bash remembers when it was started, and SECONDS is the difference. It shows that variable to its loadable
 * builtins, and so to this library, by name. In a server it is moved on by as long as the program was held.
 *
 * Rules of this file: a program without such a variable is not concerned; nor one that has not set it yet.
 */
#ifndef FASTINETD_STAGE_SECONDS_H
#define FASTINETD_STAGE_SECONDS_H

#include "system.h"

extern long shell_start_time __attribute__((weak));     /* bash's; a time_t */

static long held_since;     /* seconds of the clock that bash looks at */

static long seconds_now(void)
{
    long now[2] = {0, 0};
    CALL(__NR_clock_gettime, 0, now);
    return now[0];
}

/* In the zygote, as it is held. */
static void note_seconds(void)
{
    if (&shell_start_time)
        held_since = seconds_now();
}

/* In the child that serves. */
static void move_seconds_on(void)
{
    if (&shell_start_time && shell_start_time)
        shell_start_time += seconds_now() - held_since;
}

#endif
