/* Which system calls a program may make before it is held (first_io), as one table.
 *
 * Theory. A call may run in the zygote if its effect is all in what a fork copies (memory, descriptors, ids, limits) or
 * is to happen once (a log file is opened, a cache is written). It holds the program if it concerns the client, that is
 * descriptor 0, 1 or 2, unless it only looks at what is the same for every connected socket; or if its effect would be
 * shared by all children (a pipe, a lock, a connection, a temporary file), would be missing in them (a timer, a
 * thread), or waits.
 * Holding is always right, only earlier than need be; so what is not in the table holds.
 *
 * Rules of this file: no state. Arguments are int where the kernel takes int.
 */
#ifndef FASTINETD_STAGE_RULES_H
#define FASTINETD_STAGE_RULES_H

#include <asm/unistd.h>

enum stage_rule {
    HOLDS = 0,
    PASSES,
    /* by a descriptor that is an argument: 0, 1, 2 hold; the zygote's own do not exist for the program */
    FD, FD_AND_2ND, FD_AND_3RD,
    LOOKS,                  /* these pass for 0, 1, 2 too */
    FD_HOLDS,               /* these hold for any: a rule only to say where the program is held */
    /* by more than that */
    OPENS, OPENS_AT, OPENS_HOW, CREATES, MAKES_FOLDER, MAKES_FOLDER_AT, DUPLICATES, CLOSES_RANGE, FCNTL, IOCTL, MAPS,
    ADVISES, PRCTL, FUTEX, POLLS, SELECTS, EPOLL_CTL, CONNECTS, SIGACTION, SIGMASK, SIGSTACK, SIGRETURN
};

static const unsigned char stage_rules[] = {
    /* files */
    [__NR_open] = OPENS, [__NR_creat] = CREATES, [__NR_openat] = OPENS_AT, [__NR_openat2] = OPENS_HOW,
    [__NR_close] = FD, [__NR_close_range] = CLOSES_RANGE,
    [__NR_read] = FD, [__NR_pread64] = FD, [__NR_readv] = FD, [__NR_preadv] = FD, [__NR_preadv2] = FD,
    [__NR_write] = FD, [__NR_pwrite64] = FD, [__NR_writev] = FD, [__NR_pwritev] = FD, [__NR_pwritev2] = FD,
    [__NR_sendfile] = FD_AND_2ND, [__NR_copy_file_range] = FD_AND_3RD, [__NR_splice] = FD_AND_3RD,
    [__NR_tee] = FD_AND_2ND, [__NR_vmsplice] = FD_HOLDS,
    [__NR_lseek] = LOOKS, [__NR_fstat] = LOOKS, [__NR_newfstatat] = LOOKS, [__NR_statx] = LOOKS,
    [__NR_getdents] = FD, [__NR_getdents64] = FD, [__NR_fchdir] = FD, [__NR_fstatfs] = FD,
    [__NR_fsync] = FD, [__NR_fdatasync] = FD, [__NR_ftruncate] = FD, [__NR_fallocate] = FD, [__NR_fadvise64] = FD,
    [__NR_readahead] = FD, [__NR_fchmod] = FD, [__NR_fchown] = FD, [__NR_fgetxattr] = FD, [__NR_flistxattr] = FD,
    [__NR_fcntl] = FCNTL, [__NR_ioctl] = IOCTL, [__NR_flock] = FD_HOLDS,
    [__NR_dup] = FD, [__NR_dup2] = DUPLICATES, [__NR_dup3] = DUPLICATES,
    [__NR_stat] = PASSES, [__NR_lstat] = PASSES, [__NR_access] = PASSES, [__NR_faccessat] = PASSES,
    [__NR_faccessat2] = PASSES, [__NR_readlink] = PASSES, [__NR_readlinkat] = PASSES, [__NR_statfs] = PASSES,
    [__NR_getxattr] = PASSES, [__NR_lgetxattr] = PASSES, [__NR_listxattr] = PASSES, [__NR_getcwd] = PASSES,
    [__NR_chdir] = PASSES, [__NR_umask] = PASSES, [__NR_mkdir] = MAKES_FOLDER, [__NR_mkdirat] = MAKES_FOLDER_AT,
    [__NR_rmdir] = PASSES, [__NR_unlink] = PASSES, [__NR_unlinkat] = PASSES, [__NR_rename] = PASSES,
    [__NR_renameat] = PASSES, [__NR_renameat2] = PASSES, [__NR_chmod] = PASSES, [__NR_fchmodat] = PASSES,
    [__NR_utimensat] = FD,
    /* memory */
    [__NR_brk] = PASSES, [__NR_mmap] = MAPS, [__NR_munmap] = PASSES, [__NR_mremap] = PASSES, [__NR_mprotect] = PASSES,
    [__NR_pkey_mprotect] = PASSES, [__NR_mincore] = PASSES, [__NR_madvise] = ADVISES, [__NR_msync] = PASSES,
    /* signals */
    [__NR_rt_sigaction] = SIGACTION, [__NR_rt_sigprocmask] = SIGMASK, [__NR_sigaltstack] = SIGSTACK,
    [__NR_rt_sigreturn] = SIGRETURN, [__NR_rt_sigpending] = PASSES,
    /* the process */
    [__NR_getpid] = PASSES, [__NR_gettid] = PASSES, [__NR_getppid] = PASSES, [__NR_getpgrp] = PASSES,
    [__NR_getpgid] = PASSES, [__NR_getsid] = PASSES, [__NR_getuid] = PASSES, [__NR_geteuid] = PASSES,
    [__NR_getgid] = PASSES, [__NR_getegid] = PASSES, [__NR_getresuid] = PASSES, [__NR_getresgid] = PASSES,
    [__NR_getgroups] = PASSES, [__NR_getpriority] = PASSES, [__NR_setpriority] = PASSES,
    [__NR_getrlimit] = PASSES, [__NR_setrlimit] = PASSES, [__NR_prlimit64] = PASSES, [__NR_getrusage] = PASSES,
    [__NR_times] = PASSES, [__NR_sched_yield] = PASSES, [__NR_sched_getaffinity] = PASSES,
    [__NR_sched_setaffinity] = PASSES, [__NR_sched_getparam] = PASSES, [__NR_sched_getscheduler] = PASSES,
    [__NR_sched_get_priority_max] = PASSES, [__NR_sched_get_priority_min] = PASSES, [__NR_getcpu] = PASSES,
    [__NR_personality] = PASSES, [__NR_arch_prctl] = PASSES, [__NR_prctl] = PRCTL, [__NR_futex] = FUTEX,
    [__NR_set_tid_address] = PASSES, [__NR_set_robust_list] = PASSES, [__NR_get_robust_list] = PASSES,
    [__NR_rseq] = PASSES, [__NR_wait4] = PASSES, [__NR_waitid] = PASSES,
    [__NR_exit] = PASSES, [__NR_exit_group] = PASSES,
    /* capget is not here: the guard (guard.h) is not the program's, which would see it */
    /* the machine */
    [__NR_uname] = PASSES, [__NR_sysinfo] = PASSES, [__NR_getrandom] = PASSES, [__NR_time] = PASSES,
    [__NR_gettimeofday] = PASSES, [__NR_clock_gettime] = PASSES, [__NR_clock_getres] = PASSES,
    /* others' ends of something; a new one is harmless, as it is made anew in each child (files.h) */
    [__NR_socket] = PASSES, [__NR_epoll_create] = PASSES, [__NR_epoll_create1] = PASSES,
    [__NR_epoll_ctl] = EPOLL_CTL, [__NR_poll] = POLLS, [__NR_ppoll] = POLLS, [__NR_select] = SELECTS,
    [__NR_pselect6] = SELECTS, [__NR_connect] = CONNECTS, [__NR_bind] = FD_HOLDS, [__NR_listen] = FD_HOLDS,
    [__NR_accept] = FD_HOLDS, [__NR_accept4] = FD_HOLDS, [__NR_shutdown] = FD_HOLDS, [__NR_sendto] = FD_HOLDS,
    [__NR_sendmsg] = FD_HOLDS, [__NR_sendmmsg] = FD_HOLDS, [__NR_recvfrom] = FD_HOLDS, [__NR_recvmsg] = FD_HOLDS,
    [__NR_recvmmsg] = FD_HOLDS, [__NR_setsockopt] = FD_HOLDS, [__NR_getsockopt] = FD, [__NR_getsockname] = FD,
    [__NR_getpeername] = FD,
};

#endif
