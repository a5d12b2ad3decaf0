/* A process of another user that nobody of that user may look into while it starts.
 *
 * Theory. execve makes a process dumpable, and until the program can undo that whoever has its uid may open
 * /proc/PID/mem, attach to it or take its descriptors. But the kernel lets nobody do so whose own capabilities do not
 * include all that the process has (ptrace(2), "Ptrace access mode checking"). So it gets one that does no harm
 * (guard.py) and that its user has not: an ambient one, which an execve keeps and which does not make it "secure"
 * (AT_SECURE). The library that holds the program gives it up once the process is no longer dumpable (_stage_guard.h).
 *
 * Rules of this file: raw system calls and nothing but the stack, for it is the child that runs here (_spawn.h).
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

/* After it: of all capabilities this one. Returns below 0, with errno, if it cannot be had. */
static inline long take_guard(int capability)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2];
    int i;

    if (syscall(SYS_capget, &header, sets) < 0)
        return -1;
    for (i = 0; i < 2; i++) {
        sets[i].effective = 0;
        sets[i].permitted = i == CAP_TO_INDEX(capability) ? CAP_TO_MASK(capability) : 0;
        sets[i].inheritable = sets[i].permitted;
    }
    if (syscall(SYS_capset, &header, sets) < 0)
        return -1;
    return syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
}

/* Likewise of none: those that programs inherit, too, and so the ambient ones, which may outlast the change of ids. */
static inline long drop_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {{0, 0, 0}, {0, 0, 0}};

    return syscall(SYS_capset, &header, sets);
}

#endif
