/* A forked child's thread id, where its C library looks for it.
 *
 * Theory. The kernel writes the child's id while forking (CLONE_CHILD_SETTID) where it is given the address. glibc gave
 * that address to the kernel as the one to clear when the thread ends, and the kernel returns it (PR_GET_TID_ADDRESS,
 * if it can checkpoint processes). musl gave the kernel a lock instead; there, and where the kernel returns none, the
 * id is looked for in the thread's own block. abort, raise and pthread mutexes go wrong with the parent's id.
 *
 * Rules of this file: all of it is found before the first fork, once; a child makes no more calls than it must.
 */
#ifndef FASTINETD_STAGE_THREAD_H
#define FASTINETD_STAGE_THREAD_H

#include <asm/stat.h>
#include <linux/prctl.h>
#include <linux/sched.h>

#include "system.h"

#define BLOCK_SIZE 2304                   /* of a thread, at least: glibc's struct pthread, with its vectors */

static int32_t *id_address;     /* NULL: not found, and no C library that could care */
static void *exit_address;      /* if it is another */
static void *robust_list;
static size_t robust_size;

static int holds_id(unsigned long address, int32_t id)
{
    int32_t found;
    return address && read_memory(address, &found, sizeof found) == sizeof found && found == id;
}

/* In the thread's block: upwards from the thread pointer on x86-64, downwards on aarch64. */
static int32_t *search_block(int32_t id)
{
    unsigned long pointer, at;
#if defined(__x86_64__)
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
#else
    __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
    pointer -= BLOCK_SIZE;
#endif
    for (at = pointer & ~3UL; at < pointer + BLOCK_SIZE; at += sizeof id)
        if (holds_id(at, id))
            return (int32_t *)at;
    return NULL;
}

static void find_thread(void)
{
    const int32_t id = CALL(__NR_gettid);
    unsigned long told = 0;

    CALL(__NR_get_robust_list, 0, &robust_list, &robust_size);
    if (CALL(__NR_prctl, PR_GET_TID_ADDRESS, &told) < 0)
        told = 0;
    if (holds_id(told, id)) {
        id_address = (int32_t *)told;
        return;
    }
    exit_address = (void *)told;
    /* glibc keeps it two words before the robust list's head. */
    if (robust_list && holds_id((unsigned long)robust_list - 16, id))
        id_address = (int32_t *)((char *)robust_list - 16);
    else
        id_address = search_block(id);
}

/* A process with one thread may ask to leave its thread group, and nothing happens. Where asking is forbidden, /proc
 * knows: two links to the directory, and one for each thread. */
static int has_other_threads(void)
{
    struct stat task;
    long result = CALL(__NR_unshare, CLONE_THREAD);
    if (result == 0 || result == -EINVAL)
        return result != 0;
    return CALL(__NR_newfstatat, AT_FDCWD, "/proc/self/task", &task, 0) == 0 && task.st_nlink > 3;
}

/* As fork does it in the C library, with the acceptor for a parent. */
static long fork_child(void)
{
    unsigned long flags = CLONE_PARENT;
    if (id_address)
        flags |= CLONE_CHILD_SETTID | (exit_address ? 0 : CLONE_CHILD_CLEARTID);
#if defined(__x86_64__)
    return CALL(__NR_clone, flags, 0, 0, id_address, 0);
#else
    return CALL(__NR_clone, flags, 0, 0, 0, id_address);
#endif
}

/* In the child: what clone does not carry over. */
static void settle_thread(void)
{
    if (exit_address)
        CALL(__NR_set_tid_address, exit_address);
    if (robust_list)
        CALL(__NR_set_robust_list, robust_list, robust_size);
}

#endif
