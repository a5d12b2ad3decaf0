/* A process of another user that nobody of that user may look into while it starts.
 *
 * Theory. execve makes a process dumpable, and until the program can undo that whoever has its uid may open
 * /proc/PID/mem, attach to it or take its descriptors. But the kernel lets nobody do so whose own capabilities do not
 * include all that the process has (ptrace(2), "Ptrace access mode checking"). So it gets one that does no harm
 * (system/guard.py) and that its user has not: an ambient one, which an execve keeps and which does not make it
 * "secure" (AT_SECURE). The library that holds the program gives it up once the process is no longer dumpable
 * (stage/guard.h).
 *
 * Rules of this file: raw system calls and nothing but the stack, for it is the child that runs here (spawn.h).
 */
#ifndef FASTINETD_SPAWN_GUARD_H
#define FASTINETD_SPAWN_GUARD_H

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Before the change of ids: what is permitted stays so. exec ends that. */
static inline long keep_capabilities(void)
{
    return syscall(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0);
}

/* After it: of all capabilities this one, or with -1 none; of those that programs inherit, too, and so of the ambient
 * ones, which may outlast the change of ids. Returns below 0, with errno, if it cannot be had. */
static inline long take_guard(int capability)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {{0, 0, 0}, {0, 0, 0}}, *set = &sets[capability > 31];
    long result;

    if (capability >= 0)
        set->permitted = set->inheritable = CAP_TO_MASK(capability);
    result = syscall(SYS_capset, &header, sets);
    if (result < 0 || capability < 0)
        return result;
    return syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
}

#endif
