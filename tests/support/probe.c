/* What a server was given, as text on its connection: `=== NAME` and then the value, for each thing.
 *
 * Its first system call of its own is a use of the connection, so that snapshot = first_io holds it there. Nothing is
 * forked and no signal is touched. What is told is what /proc and the kernel say of this very process.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

extern char **environ;

static const int prctls[] = {
    PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_GET_KEEPCAPS, PR_GET_TIMING, PR_GET_SECCOMP, PR_GET_SECUREBITS,
    PR_GET_TIMERSLACK, PR_MCE_KILL_GET, PR_GET_CHILD_SUBREAPER, PR_GET_NO_NEW_PRIVS, PR_GET_THP_DISABLE,
    PR_GET_IO_FLUSHER, PR_GET_TSC,
};

static const char *const files[] = {
    "status", "stat", "limits", "cmdline", "environ", "oom_score_adj", "timerslack_ns", "personality", "cgroup",
    "coredump_filter", "loginuid", "sessionid", "attr/current", "uid_map", "setgroups", "comm",
};

static const char *const links[] = {
    "cwd", "root", "exe", "ns/mnt", "ns/net", "ns/pid", "ns/ipc", "ns/uts", "ns/user", "ns/cgroup", "ns/time",
};

static void copy(const char *name)
{
    char path[64], bytes[4096];
    ssize_t size;
    int file;
    snprintf(path, sizeof path, "/proc/self/%s", name);
    printf("=== %s\n", name);
    file = open(path, O_RDONLY);
    while (file >= 0 && (size = read(file, bytes, sizeof bytes)) > 0)
        fwrite(bytes, 1, size, stdout);
    if (file >= 0)
        close(file);
    printf("\n");
}

static void tell_descriptors(void)
{
    int number;
    printf("=== descriptors\n");
    for (number = 0; number < 1024; number++) {
        char name[40], target[200] = "";
        struct stat status;
        int flags = fcntl(number, F_GETFD);
        if (flags < 0)
            continue;
        snprintf(name, sizeof name, "/proc/self/fd/%d", number);
        if (readlink(name, target, sizeof target - 1) < 0)
            strcpy(target, "?");
        fstat(number, &status);
        printf("%d %s mode %o flags %o cloexec %d position %lld owner %d signal %d\n", number, target, status.st_mode,
               fcntl(number, F_GETFL), flags, (long long)lseek(number, 0, SEEK_CUR), fcntl(number, F_GETOWN),
               fcntl(number, F_GETSIG));
    }
}

static void tell_socket(void)
{
    static const int options[] = {
        SO_TYPE, SO_ERROR, SO_KEEPALIVE, SO_LINGER, SO_OOBINLINE, SO_REUSEADDR, SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVBUF,
        SO_SNDBUF, SO_PASSCRED, SO_TIMESTAMP, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN,
    };
    size_t i;
    printf("=== socket\n");
    for (i = 0; i < sizeof options / sizeof *options; i++) {
        int value[4] = {0};
        socklen_t size = sizeof value;
        int result = getsockopt(0, SOL_SOCKET, options[i], value, &size);
        printf("option %d: %d %d %d\n", options[i], result, value[0], value[1]);
    }
}

static void tell_signals(void)
{
    int number;
    stack_t stack;
    printf("=== signals\n");
    for (number = 1; number <= 64; number++) {
        struct { unsigned long handler, flags, restorer, mask; } action = {0, 0, 0, 0};
        if (syscall(SYS_rt_sigaction, number, NULL, &action, 8) == 0)
            printf("%d: handler %lu flags %lx mask %lx\n", number, action.handler, action.flags, action.mask);
    }
    sigaltstack(NULL, &stack);
    printf("stack: flags %d\n", stack.ss_flags);
}

static void tell_process(void)
{
    struct robust_list_head *robust = NULL;
    struct sched_param parameter;
    struct itimerval timer;
    cpu_set_t set;
    size_t i, size = 0;
    int kind;
    printf("=== process\n");
    for (i = 0; i < sizeof prctls / sizeof *prctls; i++) {
        int value = -1, asks = prctls[i] == PR_GET_PDEATHSIG || prctls[i] == PR_GET_CHILD_SUBREAPER ||
                               prctls[i] == PR_GET_TSC;
        long result = prctl(prctls[i], asks ? (unsigned long)&value : 0, 0, 0, 0);
        printf("prctl %d: %ld %d\n", prctls[i], result, value);
    }
    printf("thread id is the pid: %d\n", gettid() == getpid());
    printf("the C library's thread id: %d\n", pthread_kill(pthread_self(), 0));
    printf("own session: %d\nown group: %d\n", getsid(0) == getpid(), getpgrp() == getpid());
    printf("robust list: %ld %d %zu\n", syscall(SYS_get_robust_list, 0, &robust, &size), robust != NULL, size);
    sched_getparam(0, &parameter);
    printf("scheduling: %d %d nice %d io %ld\n", sched_getscheduler(0), parameter.sched_priority,
           getpriority(PRIO_PROCESS, 0), syscall(SYS_ioprio_get, 1, 0));
    sched_getaffinity(0, sizeof set, &set);
    printf("processors: %d\n", CPU_COUNT(&set));
    for (kind = 0; kind < 3; kind++) {
        getitimer(kind, &timer);
        printf("timer %d: %ld %ld\n", kind, timer.it_value.tv_sec, timer.it_value.tv_usec);
    }
    printf("=== parent\n%d\n=== pid\n%d\n", getppid(), getpid());
}

static int tell_object(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)size, (void)unused;
    printf("%s\n", info->dlpi_name);
    return 0;
}

static void tell_start(int argc, char **argv)
{
    char **at;
    int i;
    printf("=== arguments in memory\n");
    for (i = 0; i <= argc; i++)
        printf("[%s]\n", argv[i] ? argv[i] : "end");
    printf("=== environment in memory\n");
    for (at = environ; *at; at++)
        printf("[%s]\n", *at);
    printf("array follows the arguments: %d\n", environ == argv + argc + 1);
    printf("=== start\n");
    printf("secure %lu uid %lu %lu gid %lu %lu file %s\n", getauxval(AT_SECURE), getauxval(AT_UID), getauxval(AT_EUID),
           getauxval(AT_GID), getauxval(AT_EGID), (const char *)getauxval(AT_EXECFN));
    printf("name %s %s\nerrno %d\n", program_invocation_name, program_invocation_short_name, errno);
    printf("=== objects\n");
    dl_iterate_phdr(tell_object, NULL);
}

int main(int argc, char **argv)
{
    static char buffer[1 << 20];
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    size_t i;
    int error = errno;

    if (getpeername(0, (struct sockaddr *)&address, &size) < 0)
        return 1;
    errno = error;
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    tell_start(argc, argv);
    tell_signals();
    tell_process();
    tell_descriptors();
    tell_socket();
    for (i = 0; i < sizeof files / sizeof *files; i++)
        copy(files[i]);
    printf("=== places\n");
    for (i = 0; i < sizeof links / sizeof *links; i++) {
        char path[64], target[300] = "";
        snprintf(path, sizeof path, "/proc/self/%s", links[i]);
        if (readlink(path, target, sizeof target - 1) < 0)
            snprintf(target, sizeof target, "errno %d", errno);
        printf("%s -> %s\n", links[i], target);
    }
    printf("=== end\n");
    return fflush(stdout) != 0;
}
