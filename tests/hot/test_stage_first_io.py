"""snapshot = first_io: where a program is held, and that its children do not notice."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import everything
from support.first_io import HEADERS, program
from support.stage import AT_IO, AT_OTHER, compiled, held

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="dispatch is for x86-64")


AT = {
    # the first use of the client
    "read": ("read(0, text, 0)", AT_IO, "read"),
    "write": ('write(1, "", 0)', AT_IO, "write"),
    "stderr": ('write(2, "", 0)', AT_IO, "write"),
    "recv": ("recv(0, text, 0, MSG_DONTWAIT)", AT_IO, "recvfrom"),
    "send": ('send(1, "", 0, 0)', AT_IO, "sendto"),
    "getpeername": ("getpeername(0, (void *)text, &(socklen_t){64})", AT_IO, "getpeername"),
    "getsockopt": ("getsockopt(0, SOL_SOCKET, SO_TYPE, text, &(socklen_t){64})", AT_IO, "getsockopt"),
    "dup": ("close(dup(0))", AT_IO, "dup"),
    "dup2 from": ("dup2(1, 9)", AT_IO, "dup2"),
    "dup2 to": ('dup2(open("/dev/null", 0), 2)', AT_IO, "dup2"),
    "dup3": ("dup3(1, 9, O_CLOEXEC)", AT_IO, "dup3"),
    "F_DUPFD": ("fcntl(1, F_DUPFD, 10)", AT_IO, "fcntl"),
    "F_SETFL": ("fcntl(1, F_SETFL, O_RDWR)", AT_IO, "fcntl"),
    "FD_CLOEXEC": ("fcntl(2, F_SETFD, FD_CLOEXEC)", AT_IO, "fcntl"),
    "close": ("close(0)", AT_IO, "close"),
    "close_range": ("close_range(2, ~0U, 0)", AT_IO, "close_range"),
    "poll": ("poll(&(struct pollfd){0, POLLOUT}, 1, 0)", AT_IO, "poll"),
    "select": ("FD_SET(1, &set), select(2, NULL, &set, NULL, &(struct timeval){0})", AT_IO, ("select", "pselect6")),
    "sendfile": ('sendfile(1, open("/dev/null", 0), NULL, 1)', AT_IO, "sendfile"),
    "splice": ("splice(0, NULL, 9, NULL, 1, 0)", AT_IO, "splice"),
    "mmap": ("mmap(NULL, 1, PROT_READ, MAP_PRIVATE, 0, 0)", AT_IO, "mmap"),
    "FIONREAD": ("ioctl(0, FIONREAD, text)", AT_IO, "ioctl"),
    "/dev/stdin": ('open("/dev/stdin", O_RDONLY)', AT_IO, "openat"),
    "/dev/fd": ('open("/dev/fd/1", O_WRONLY)', AT_IO, "openat"),
    "/proc/self/fd": ('closedir(opendir("/proc/self/fd"))', AT_IO, "openat"),
    "/proc/pid/fd": ('sprintf(text, "/proc/%d/fd", getpid()), closedir(opendir(text))', AT_IO, "openat"),
    "epoll_ctl": ("epoll_ctl(epoll_create1(0), EPOLL_CTL_ADD, 0, &(struct epoll_event){0})", AT_IO, "epoll_ctl"),
    # what a fork would not copy, or must not share
    "fork": ("if (fork() == 0) _exit(0); wait(NULL)", AT_OTHER, "clone"),
    "vfork": ("if (vfork() == 0) _exit(0); wait(NULL)", AT_OTHER, "vfork"),
    "thread": ("pthread_create(&id, NULL, thread, NULL); pthread_join(id, NULL)", AT_OTHER, ("clone", "clone3")),
    "execve": ('execl("/nonexistent", "x", NULL)', AT_OTHER, "execve"),
    "epoll of others": ("epoll_ctl(epoll_create1(0), EPOLL_CTL_DEL, 9, NULL)", AT_OTHER, "epoll_ctl"),
    "epoll_wait": ("epoll_wait(epoll_create1(0), (void *)text, 1, 0)", AT_OTHER, ("epoll_wait", "epoll_pwait")),
    "eventfd": ("eventfd(0, 0)", AT_OTHER, "eventfd2"),
    "timerfd": ("timerfd_create(CLOCK_MONOTONIC, 0)", AT_OTHER, "timerfd_create"),
    "signalfd": ("sigemptyset(&mask), signalfd(-1, &mask, 0)", AT_OTHER, "signalfd4"),
    "inotify": ("inotify_init1(0)", AT_OTHER, "inotify_init1"),
    "io_uring": ("syscall(SYS_io_uring_setup, 0, NULL)", AT_OTHER, "io_uring_setup"),
    "alarm": ("alarm(100)", AT_OTHER, "alarm"),
    "setitimer": ("setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL)", AT_OTHER, "setitimer"),
    "timer_create": ("timer_create(CLOCK_MONOTONIC, NULL, &timer)", AT_OTHER, "timer_create"),
    "F_SETLK": ("fcntl(open(lock, O_RDWR), F_SETLK, &(struct flock){F_WRLCK})", AT_OTHER, "fcntl"),
    "flock": ("flock(open(lock, O_RDWR), LOCK_EX)", AT_OTHER, "flock"),
    "mlock": ("mlock(text, 1)", AT_OTHER, "mlock"),
    "mlockall": ("mlockall(MCL_CURRENT)", AT_OTHER, "mlockall"),
    "PR_SET_PDEATHSIG": ("prctl(PR_SET_PDEATHSIG, 0)", AT_OTHER, "prctl"),
    "seccomp": ("syscall(SYS_seccomp, 9, 0, NULL)", AT_OTHER, "seccomp"),
    "shared memory": ("mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)", AT_OTHER, "mmap"),
    "shared memory that is to be written later": (
        "mmap(NULL, 1, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)", AT_OTHER, "mmap"),
    "temporary file": ('close(mkstemp(strcpy(text, "/tmp/x.XXXXXX"))), unlink(text)', AT_OTHER, "openat"),
    "temporary file without a name": ('open("/tmp", O_TMPFILE | O_WRONLY, 0600)', AT_OTHER, "openat"),
    "temporary file by openat2": (
        'syscall(SYS_openat2, AT_FDCWD, "/nowhere/x", &(uint64_t[3]){O_RDWR | O_CREAT | O_EXCL, 0600}, 24)',
        AT_OTHER, "openat2"),
    "temporary folder": ('mkdir("/nowhere/x", 0700)', AT_OTHER, "mkdir"),
    "shmat": ("shmat(-1, NULL, 0)", AT_OTHER, "shmat"),
    "MADV_DONTFORK": ("madvise((void *)4096, 4096, MADV_DONTFORK)", AT_OTHER, "madvise"),
    "pipe": ("pipe((int *)text)", AT_OTHER, ("pipe", "pipe2")),
    "socketpair": ("socketpair(AF_UNIX, SOCK_STREAM, 0, (int *)text)", AT_OTHER, "socketpair"),
    "memfd": ('memfd_create("x", 0)', AT_OTHER, "memfd_create"),
    "connect": ("connect(socket(AF_INET, SOCK_DGRAM, 0), (void *)text, 0)", AT_OTHER, "connect"),
    "bind": ("bind(socket(AF_INET, SOCK_DGRAM, 0), (void *)text, 0)", AT_OTHER, "bind"),
    "setsid": ("setsid()", AT_OTHER, "setsid"),
    "setuid": ("syscall(SYS_setuid, getuid())", AT_OTHER, "setuid"),
    "kill": ("kill(getpid(), 0)", AT_OTHER, "kill"),
    "ptrace": ("syscall(SYS_ptrace, 9999, 0, 0, 0)", AT_OTHER, "ptrace"),
    "sleep": ("nanosleep(&(struct timespec){0, 1}, NULL)", AT_OTHER, ("nanosleep", "clock_nanosleep")),
    "sigtimedwait": ("sigemptyset(&mask), sigtimedwait(&mask, NULL, &(struct timespec){0})", AT_OTHER,
                     "rt_sigtimedwait"),
    "poll nothing": ("poll(NULL, 0, 1)", AT_OTHER, "poll"),
    "select nothing": ("select(0, NULL, NULL, NULL, &(struct timeval){0})", AT_OTHER, ("select", "pselect6")),
    "onto the zygote's": ('dup2(open("/dev/null", 0), 63)', AT_OTHER, "dup2"),
    "unknown": ("syscall(9999)", AT_OTHER, 9999),
    "32 bits": ('__asm__ volatile("int $0x80" : : "a"(20) : "memory", "r8", "r9", "r10", "r11")', AT_OTHER, 20),
}  # fmt: skip

RUNS_ON = {
    "fstat": "fstat(0, &status); fstat(1, &status); fstatat(2, \"\", &status, AT_EMPTY_PATH)",
    "statx": "statx(0, \"\", AT_EMPTY_PATH, STATX_ALL, (void *)text)",
    "lseek": "lseek(0, 0, SEEK_CUR)",
    "isatty": "isatty(0); isatty(1)",
    "isatty of glibc 2.42": "ioctl(0, 0x802C542A, text); ioctl(1, 0x802C542A, text)",
    "the state of getrandom": "mmap(NULL, 4096, PROT_READ | PROT_WRITE, 8 | MAP_ANONYMOUS, -1, 0)",
    "terminal": "ioctl(1, TIOCGWINSZ, text); ioctl(0, TIOCGPGRP, text)",
    "flags": "fcntl(0, F_GETFL); fcntl(0, F_GETFD); fcntl(0, F_SETFD, 0)",
    "files": 'int fd = open(lock, O_RDWR | O_CREAT, 0600); dup2(fd, 9); write(fd, "x", 1); close(fd); close(9)',
    "a cache": 'strcat(strcpy(text, lock), ".new"); close(open(text, O_WRONLY | O_CREAT | O_EXCL, 0600)); unlink(text)',
    "folders": 'mkdir("/tmp", 0700); mkdir("/nowhere/x", 0755); creat("/nowhere/x", 0600)',
    "dup of others": 'close(dup(open("/dev/null", 0))); close_range(3, 50, 0)',
    "allocation": "free(malloc(1 << 24)); malloc(100000)",
    "private mapping": "mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)",
    "reading shared": "mmap(NULL, 1, PROT_READ, MAP_SHARED, open(\"/etc/passwd\", O_RDONLY), 0)",
    "signals": "signal(SIGUSR1, nothing); sigfillset(&mask); sigprocmask(SIG_BLOCK, &mask, NULL)",
    "limits": "setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); getrlimit(RLIMIT_NOFILE, (void *)text)",
    "names": "getpwuid(0); gethostname(text, 64); getcwd(text, 99)",
    "epoll": "close(epoll_create1(0))",
    "socket": "close(socket(AF_INET, SOCK_STREAM, 0))",
    "no such descriptor": "close(40); read(41, text, 1); fcntl(42, F_GETFL)",
}
"""What may be done before the first write."""


@pytest.mark.parametrize("case", AT)
def test_is_held_at(case: str, folder: Path, numbers: dict[str, int]) -> None:
    statement, point, names = AT[case]
    lock = folder / "lock"
    lock.touch()
    expected = {numbers.get(str(name), name) for name in (names if isinstance(names, tuple) else (names,))}
    argv = [program(folder, statement), str(lock)]
    with held(argv, snapshot="first_io") as zygote:
        said = zygote.ready()
        assert (said.seq, said.value in expected) == (point, True), said
        for _ in range(2):
            assert zygote.serve() == (b"served\n", 0)


@pytest.mark.parametrize("case", RUNS_ON)
def test_runs_on_after(case: str, folder: Path, numbers: dict[str, int]) -> None:
    argv = [program(folder, RUNS_ON[case]), str(folder / "lock")]
    with held(argv, snapshot="first_io") as zygote:
        said = zygote.ready()
        assert (said.seq, said.value) == (AT_IO, numbers["write"])
        assert [zygote.serve() for _ in range(2)] == [(b"served\n", 0)] * 2


CLOSING = ["closefrom(3)", "close_range(3, ~0U, 0)", "close_range(63, 63, 0)", "close_range(59, 62, 4)",
           "for (int i = 3; i < 1024; i++) close(i)"]  # fmt: skip


@pytest.mark.parametrize("statement", CLOSING)
def test_closing_everything_leaves_the_zygotes_sockets(statement: str, folder: Path) -> None:
    before = "int fd = open(\"/dev/null\", 0); dup2(fd, 60); dup2(fd, 64); "
    with held([program(folder, before + statement)], snapshot="first_io") as zygote:
        assert zygote.ready().seq == AT_IO
        assert zygote.serve() == (b"served\n", 0)


def test_the_zygotes_sockets_do_not_exist_for_the_program(folder: Path) -> None:
    names = ["read(62, text, 1)", "write(63, text, 1)", "fcntl(62, F_GETFD)", "close(63)", "fstat(62, &status)",
             "dup2(63, 9)", "close(61)", "lseek(62, 0, 0)", "ioctl(63, FIOCLEX)", "send(62, text, 1, 0)"]  # fmt: skip
    tests = "".join(f"bad |= {name} != -1 || errno != EBADF;" for name in names)
    argv = [program(folder, "static int bad; " + tests + 'dprintf(1, "%d", bad)')]
    with held(argv, snapshot="first_io") as zygote:
        assert zygote.ready().seq == AT_IO
        assert zygote.serve() == (b"0served\n", 0)


def test_the_environment_is_told_in_the_programs_own_block(folder: Path) -> None:
    source = HEADERS + """
    int main(void)
    {
        char bytes[8192];
        %s
        write(1, "", 0);
        const char *host = getenv("REMOTE_HOST");
        int fd = open("/proc/self/environ", O_RDONLY), size = read(fd, bytes, sizeof bytes);
        dprintf(1, "%%s %%d", host ? host : "none", !!memmem(bytes, size, "REMOTE_HOST=192.0.2.7", 22));
        return 0;
    }"""
    cases = {"": b"192.0.2.7 1", 'unsetenv("B");': b"192.0.2.7 1", "clearenv();": b"none 1",
             'setenv("C", "d", 1);': b"none 1"}  # fmt: skip
    for code, expected in cases.items():
        with held([compiled(folder, source % code)], ["A=b", "B=c"], snapshot="first_io") as zygote:
            zygote.ready()
            assert zygote.serve()[0] == expected


FILES = HEADERS + r"""
int main(int argc, char **argv)
{
    char line[64];
    FILE *file = fopen(argv[1], "r");
    int append = open(argv[2], O_WRONLY | O_APPEND | O_CLOEXEC), high = fcntl(open(argv[1], O_RDONLY), F_DUPFD, 100), i;
    int gone = open(argv[3], O_RDWR | O_CREAT, 0600);
    int queue = epoll_create1(EPOLL_CLOEXEC), new = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    unlink(argv[3]);
    write(gone, "gone", 4);
    fgets(line, sizeof line, file);
    lseek(high, 6, SEEK_SET);
    setvbuf(file, NULL, _IONBF, 0);
    read(0, line, 1);
    for (i = 0; i < 200; i++) {        /* two at a time: positions must not be shared */
        int byte;
        lseek(high, 6, SEEK_SET);
        sched_yield();
        read(high, &byte, 1);
        if ((char)byte != '2')
            return 1;
    }
    if (lseek(gone, 0, SEEK_CUR) != 4 || pread(gone, line, 4, 0) != 4 || memcmp(line, "gone", 4))
        return 2;
    if (!(fcntl(append, F_GETFL) & O_APPEND) || fcntl(append, F_GETFD) != FD_CLOEXEC || fcntl(high, F_GETFD) != 0)
        return 3;
    if (fcntl(queue, F_GETFD) != FD_CLOEXEC || epoll_ctl(queue, EPOLL_CTL_ADD, 0, &(struct epoll_event){EPOLLIN}))
        return 4;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (!(fcntl(new, F_GETFL) & O_NONBLOCK) || bind(new, (void *)&address, sizeof address))
        return 5;
    write(append, "x", 1);
    write(1, "good", 4);
    return 0;
}
"""


def test_open_files_are_each_childs_own(folder: Path, need: Callable[[str], str]) -> None:
    text, log = folder / "text", folder / "log"
    text.write_text("line1\n2ine\n" * 1000)
    log.touch()
    argv = [compiled(folder, "#include <netinet/in.h>\n" + FILES), str(text), str(log), str(folder / "gone")]
    with held(argv, snapshot="first_io") as zygote:
        zygote.ready()
        open_ones = [zygote.open() for _ in range(4)]
        for client, _ in open_ones:
            client.sendall(b"x")
        for client, pid in open_ones:
            with client:
                assert everything(client) == b"good"
            assert os.waitstatus_to_exitcode(zygote.ended(pid)) == 0
    assert log.read_text() == "xxxx"
