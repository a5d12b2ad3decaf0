"""A held program's children are what execve would have made of them."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.stage import (
    AT_MAIN,
    CONTROL,
    HAND,
    LIBRARY,
    REFUSED,
    THREADS,
    VARIABLES,
    VOICE,
    Held,
    compiled,
    executed,
    held,
    started,
)

PROBE = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
extern char **environ;
static void file(const char *name)
{
    char text[65536];
    int fd = open(name, O_RDONLY);
    ssize_t size = read(fd, text, sizeof text), i;
    close(fd);
    while (size > 0 && !text[size - 1])
        size--;
    for (i = 0; i < size; i++)
        if (!text[i])
            text[i] = '|';
    printf("%s %.*s\n", name, (int)size, text);
}
int main(int argc, char **argv, char **envp)
{
    char path[PATH_MAX] = {0};
    struct stat status;
    gid_t groups[64];
    int i, count;
    for (i = 0; i <= argc; i++)
        printf("argv%d %s\n", i, argv[i] ? argv[i] : "-");
    for (i = 0; environ[i]; i++)
        printf("environ%d %s\n", i, environ[i]);
    for (i = 0; envp[i]; i++)
        printf("envp%d %s\n", i, envp[i]);
    printf("getenv %s %d\n", getenv("REMOTE_HOST"), !!getenv("LD_PRELOAD"));
    for (i = 0; i < 1024; i++)
        if (fcntl(i, F_GETFD) >= 0) {
            fstat(i, &status);
            printf("fd%d %o %d %x\n", i, status.st_mode & S_IFMT, fcntl(i, F_GETFD), fcntl(i, F_GETFL));
        }
    fstat(0, &status);
    ino_t inode = status.st_ino;
    for (i = 1; i < 3; i++)
        fstat(i, &status), printf("same %d\n", status.st_ino == inode);
    printf("session %d %d\n", getsid(0) == getpid(), getpgid(0) == getpid());
    printf("thread %d %d\n", gettid() == getpid(), (int)syscall(SYS_getpid) == getpid());
    printf("parent %d\n", getppid());
    printf("ids %d %d %d %d\n", getuid(), geteuid(), getgid(), getegid());
    count = getgroups(64, groups);
    for (i = 0; i < count; i++)
        printf("group %d\n", groups[i]);
    for (i = 0; i < RLIM_NLIMITS; i++) {
        struct rlimit limit;
        getrlimit(i, &limit);
        printf("limit%d %lu %lu\n", i, limit.rlim_cur, limit.rlim_max);
    }
    for (i = 1; i < 65; i++) {
        struct { void *handler; unsigned long flags; void *restorer; unsigned long mask; } action;
        if (syscall(SYS_rt_sigaction, i, NULL, &action, 8) == 0)
            printf("signal%d %p %lx %lx\n", i, action.handler, action.flags, action.mask);
    }
    umask(i = umask(0));
    printf("umask %o\nnice %d\n", i, getpriority(PRIO_PROCESS, 0));
    getcwd(path, sizeof path);
    printf("cwd %s\n", path);
    memset(path, 0, sizeof path);
    readlink("/proc/self/exe", path, sizeof path - 1);
    printf("exe %s\n", path);
    file("/proc/self/environ");
    file("/proc/self/cmdline");
    file("/proc/self/comm");
    file("/proc/self/oom_score_adj");
    FILE *of = fopen("/proc/self/status", "r");
    while (fgets(path, sizeof path, of))
        if ((!strncmp(path, "Sig", 3) && path[3] != 'Q') || !strncmp(path, "Shd", 3) || !strncmp(path, "Cap", 3) ||
            !strncmp(path, "NoNew", 5) || !strncmp(path, "Secc", 4) || !strncmp(path, "TracerPid", 9))
            printf("%s", path);
    return 0;
}
"""

MUTEX = r"""
#include <pthread.h>
#include <stdio.h>
#include <signal.h>
#include <errno.h>
#include <unistd.h>
static pthread_mutex_t recursive, checking;
static void *thread(void *unused)
{
    return (void *)(long)(pthread_mutex_trylock(&recursive) == EBUSY && pthread_mutex_unlock(&checking) == EPERM);
}
__attribute__((constructor)) static void early(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&recursive, &attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&checking, &attributes);
}
int main(void)
{
    pthread_t other;
    void *result;
    int good = write(1, "", 0) == 0;     /* the client: what is locked before is the zygote's, as with fork */
    good &= pthread_mutex_lock(&recursive) == 0 && pthread_mutex_lock(&recursive) == 0;
    good &= pthread_mutex_lock(&checking) == 0 && pthread_mutex_lock(&checking) == EDEADLK;
    good &= pthread_create(&other, NULL, thread, NULL) == 0 && pthread_join(other, &result) == 0 && result;
    good &= pthread_mutex_unlock(&recursive) == 0 && pthread_mutex_unlock(&recursive) == 0;
    good &= pthread_mutex_unlock(&recursive) == EPERM && pthread_mutex_unlock(&checking) == 0;
    good &= pthread_kill(pthread_self(), 0) == 0;
    puts(good ? "good" : "bad");
    return 0;
}
"""

ROBUST = r"""
#include <pthread.h>
#include <stdio.h>
#include <errno.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>
int main(void)     /* the mutex's owner dies: the kernel must know the robust list of whoever was forked raw */
{
    pthread_mutexattr_t attributes;
    pthread_mutex_t *mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ends[2];
    char byte;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(mutex, &attributes);
    pipe(ends);
    if (fork() == 0) {
        close(ends[1]);
        read(ends[0], &byte, 1);
        puts(pthread_mutex_lock(mutex) == EOWNERDEAD ? "told" : "not told");
        return 0;
    }
    pthread_mutex_lock(mutex);
    _exit(0);
}
"""

LAST = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
static pthread_t first;
static void *third(void *unused) { return NULL; }
static void *second(void *unused)
{
    pthread_t other;
    pthread_join(first, NULL);          /* the kernel clears what the first thread was known by */
    pthread_create(&other, NULL, third, NULL);
    pthread_join(other, NULL);
    puts("last");
    exit(0);
}
int main(void)
{
    pthread_t other;
    first = pthread_self();
    pthread_create(&other, NULL, second, NULL);
    pthread_exit(NULL);
}
"""

COMPILERS = ["gcc", "musl-gcc"]


@pytest.fixture(params=COMPILERS)
def compile_c(request: pytest.FixtureRequest, need: Callable[[str], str], folder: Path) -> Callable[..., str]:
    need(request.param)
    return lambda source, *options: compiled(folder, source, *options, compiler=request.param)


def unusual() -> None:
    os.umask(0o27)
    os.nice(3)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
    os.setgroups([1, 7])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


@pytest.mark.parametrize("parked", [False, True], ids=["forked", "parked"])
@pytest.mark.parametrize("before", [None, unusual], ids=["root", "nobody"])
def test_is_as_after_execve(
    root: None, compile_c: Callable[..., str], parked: bool, before: Callable[[], None] | None
) -> None:
    argv = [compile_c(PROBE), "one", "two words"]
    environment = ["PATH=/usr/bin:/bin", "EMPTY=", "X=1"]
    expected = executed(argv, environment, before=before).decode().splitlines()
    with held(argv, environment, before=before) as zygote:
        assert (zygote.ready().seq) == AT_MAIN
        for _ in range(2):
            if parked:
                zygote.park()
                client, pid = zygote.take()
            else:
                client, pid = zygote.open()
            with client, client.makefile("rb") as said:
                assert said.read().decode().splitlines() == expected
            assert zygote.ended(pid) == 0
    assert f"environ3 {VARIABLES[0]}" in expected
    assert f"parent {os.getpid()}" in expected


def test_is_as_after_execve_whatever_the_number_of_variables(compile_c: Callable[..., str]) -> None:
    argv = [compile_c(PROBE)]
    many = [f"V{number}=" + "x" * 70 for number in range(8)]
    for environment in ([], ["A=" + "b" * 5000]):
        with held(argv, environment) as zygote:
            zygote.ready()
            for variables in (many, [], many[:1], ["SHORT="], many[:7]):
                expected = executed(argv, environment, variables=variables)
                assert zygote.serve(variables=variables)[0] == expected


@pytest.mark.usefixtures("root")
def test_nothing_of_the_last_connection_is_left(compile_c: Callable[..., str]) -> None:
    """Neither in the zygote's block of variables nor in a later child's."""
    with held([compile_c(PROBE)], ["A=b"]) as zygote:
        zygote.ready()
        zygote.serve(variables=["REMOTE_HOST=203.0.113.99", "SECRET=" + "s" * 60])
        said, _ = zygote.serve(variables=["R=1"])
        assert b"203.0.113.99" not in said
        assert b"ssss" not in said
        assert Path(f"/proc/{zygote.pid}/environ").read_bytes().rstrip(b"\0") == b"A=b"
        assert zygote.descriptors() == {1, 2, VOICE, CONTROL, HAND}


@pytest.mark.usefixtures("root")
def test_the_users_own_preload_is_restored(compile_c: Callable[..., str], folder: Path) -> None:
    library = compile_c("int nothing;", "-shared", "-fPIC")
    argv = [compile_c(PROBE)]
    expected = executed(argv, ["A=b", f"LD_PRELOAD={library}"])
    with held(argv, ["A=b"], preload=library) as zygote:
        zygote.ready()
        assert zygote.serve()[0] == expected
        assert library in Path(f"/proc/{zygote.pid}/maps").read_text()
    assert f"LD_PRELOAD={library}".encode() in expected


def test_the_users_own_binding_is_kept(compile_c: Callable[..., str]) -> None:
    argv, environment = [compile_c(PROBE)], ["LD_BIND_NOW=1", "B=c"]
    with held(argv, environment) as zygote:
        zygote.ready()
        assert zygote.serve()[0] == executed(argv, environment)


def test_the_probe_sees_a_program_of_musl(compile_c: Callable[..., str]) -> None:
    """The tests above mean what they say."""
    interpreter = subprocess.run(
        ["readelf", "-lW", compile_c(PROBE)], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"interpreter: /lib.*(ld-linux|ld-musl)", interpreter)


@pytest.mark.parametrize("snapshot", ["main", "first_io"])
def test_abort_kills_by_its_signal(compile_c: Callable[..., str], snapshot: str) -> None:
    """abort and raise send their signal to the thread id that the C library has noted."""
    program = compile_c("#include <stdlib.h>\n#include <unistd.h>\nint main() { write(1, \"x\", 1); abort(); }")
    with held([program], snapshot=snapshot) as zygote:
        zygote.ready()
        for _ in range(2):
            said, status = zygote.serve()
            assert (said, os.WTERMSIG(status)) == (b"x", signal.SIGABRT)


@pytest.mark.parametrize("snapshot", ["main", "first_io"])
def test_threads_and_their_mutexes_work(compile_c: Callable[..., str], snapshot: str) -> None:
    with held([compile_c(MUTEX)], snapshot=snapshot) as zygote:
        zygote.ready()
        assert [zygote.serve() for _ in range(2)] == [(b"good\n", 0)] * 2


@pytest.mark.parametrize("snapshot", ["main", "first_io"])
def test_the_first_thread_may_end_first(compile_c: Callable[..., str], snapshot: str) -> None:
    with held([compile_c(LAST)], snapshot=snapshot) as zygote:
        zygote.ready()
        assert [zygote.serve() for _ in range(2)] == [(b"last\n", 0)] * 2


def test_robust_mutexes_work(folder: Path) -> None:
    with held([compiled(folder, ROBUST)]) as zygote:
        zygote.ready()
        assert zygote.serve()[0] == b"told\n"


def test_a_program_with_threads_is_refused(folder: Path) -> None:
    library = compiled(folder, """
        #include <pthread.h>
        #include <unistd.h>
        static void *thread(void *unused) { for (;;) pause(); }
        static pthread_t id;
        __attribute__((constructor)) static void early(void) { pthread_create(&id, 0, thread, 0); }
        """, "-shared", "-fPIC")  # fmt: skip
    zygote = Held(["/bin/cat"], preload=library)
    said = zygote.hear()
    assert said is not None
    assert (said.kind, said.value) == (REFUSED, THREADS)
    assert zygote.hear() is None
    assert os.waitstatus_to_exitcode(zygote.close()) == 1


def test_without_its_variable_it_does_nothing(folder: Path) -> None:
    ends = socket.socketpair()
    with ends[0], ends[1]:
        pid = started(["/bin/echo", "hello"], [f"LD_PRELOAD={LIBRARY}"],
                      dict.fromkeys((0, 1, 2), ends[1].fileno()), None)  # fmt: skip
        assert ends[0].recv(100) == b"hello\n"
    assert os.waitpid(pid, 0)[1] == 0


def test_rusage_is_the_childs_own(folder: Path) -> None:
    program = compiled(folder, """
        #include <sys/resource.h>
        #include <unistd.h>
        int main() { struct rusage used; do getrusage(RUSAGE_SELF, &used);
        while (used.ru_utime.tv_sec * 1000000 + used.ru_utime.tv_usec < 50000); return 3; }""")  # fmt: skip
    with held([program]) as zygote:
        zygote.ready()
        client, pid = zygote.open()
        with client:
            _, status, usage = os.wait4(pid, 0)
        zygote.children.discard(pid)
        assert os.waitstatus_to_exitcode(status) == 3
        assert 0.0499 <= usage.ru_utime < 1  # microseconds as a float


@pytest.mark.parametrize("program", ["/bin/cat", "bash", "dash", "perl", "python3", "busybox"])
def test_real_programs(program: str, need: Callable[[str], str]) -> None:
    scripts = {
        "bash": ["--norc", "-c", 'while read -r x; do echo "$x"; done'],
        "dash": ["-c", 'while read -r x; do echo "$x"; done'],
        "perl": ["-pe", ""],
        "python3": ["-c", "import sys\nfor line in sys.stdin: print(line, end='')"],
        "busybox": ["cat"],
    }
    path = need(program)
    argv = [path, *scripts.get(program, [])]
    if program == "python3":
        argv[0] = os.path.realpath(sys.executable)
    if "interpreter" not in subprocess.run(["readelf", "-lW", argv[0]], capture_output=True, text=True).stdout:
        pytest.skip(f"{argv[0]} is static")
    with held(argv, ["PATH=/usr/bin:/bin"]) as zygote:
        assert zygote.ready().seq == AT_MAIN
        for number in range(3):
            lines = b"".join(b"line %d of %d\n" % (line, number) for line in range(1000))
            assert zygote.serve(lines) == (lines, 0)
