"""snapshot = first_io: signals of a program that is held, and what becomes of its handlers."""

from __future__ import annotations

import os
import platform
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import everything
from support.first_io import HEADERS, program
from support.stage import AT_IO, AT_OTHER, compiled, executed, held

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="dispatch is for x86-64")

SIGNALS = {
    "a handler runs during the warm-up": """
        sigaddset(&mask, SIGUSR2);
        struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | RESTART, .sa_mask = mask};
        sigaction(SIGSEGV, &action, NULL);
        good &= sigsetjmp(place, 1) || (*(volatile int *)8, 0);
        good &= runs == 1;
        """,
    "and returns": """
        signal(SIGTRAP, count);
        __asm__ volatile("int3");
        __asm__ volatile("int3");
        good &= runs == 2;
        """,
    "on another stack": """
        static char stack[65536];
        stack_t given = {.ss_sp = stack, .ss_size = sizeof stack}, got;
        good &= sigaltstack(&given, NULL) == 0 && sigaltstack(NULL, &got) == 0;
        good &= got.ss_sp == stack && got.ss_size == sizeof stack && got.ss_flags == 0;
        struct sigaction action = {.sa_handler = where, .sa_flags = SA_ONSTACK};
        sigaction(SIGTRAP, &action, NULL);
        getppid();
        __asm__ volatile("int3");
        good &= place_of > stack && place_of < stack + sizeof stack;
        good &= sigaltstack(NULL, &got) == 0 && got.ss_sp == stack;
        """,
    "that drops itself": """
        static char stack[65536];
        stack_t given = {.ss_sp = stack, .ss_size = sizeof stack, .ss_flags = 1U << 31}, got;
        good &= sigaltstack(&given, NULL) == 0;
        getppid();
        good &= sigaltstack(NULL, &got) == 0 && got.ss_sp == stack && got.ss_flags == 1U << 31;
        """,
    "no more other stack": """
        static char stack[65536];
        stack_t given = {.ss_sp = stack, .ss_size = sizeof stack}, got = {.ss_flags = SS_DISABLE};
        sigaltstack(&given, NULL);
        good &= sigaltstack(&got, &given) == 0 && given.ss_sp == stack;
        good &= sigaltstack(NULL, &given) == 0 && given.ss_flags == SS_DISABLE;
        """,
    "SIGSYS is the program's own": """
        struct sigaction action = {.sa_handler = count, .sa_flags = RESTART}, got;
        sigaddset(&action.sa_mask, SIGUSR1);
        good &= sigaction(SIGSYS, NULL, &got) == 0 && got.sa_handler == SIG_DFL;
        good &= sigaction(SIGSYS, &action, &got) == 0 && got.sa_handler == SIG_DFL;
        good &= sigaction(SIGSYS, NULL, &got) == 0 && got.sa_handler == count && got.sa_flags & RESTART;
        good &= sigismember(&got.sa_mask, SIGUSR1) == 1 && sigismember(&got.sa_mask, SIGUSR2) == 0;
        write(1, "", 0);
        good &= sigaction(SIGSYS, NULL, &got) == 0 && got.sa_handler == count && sigismember(&got.sa_mask, SIGUSR1);
        raise(SIGSYS);
        good &= runs == 1;
        """,
    "blocked it may be": """
        sigset_t got, pending;
        sigfillset(&mask);
        good &= sigprocmask(SIG_SETMASK, &mask, NULL) == 0 && sigprocmask(SIG_BLOCK, NULL, &got) == 0;
        good &= sigismember(&got, SIGSYS) && sigismember(&got, SIGTERM) && !sigismember(&got, SIGKILL);
        getppid();
        signal(SIGSYS, count);
        write(1, "", 0);
        good &= sigprocmask(SIG_BLOCK, NULL, &got) == 0 && sigismember(&got, SIGSYS) && sigismember(&got, SIGTERM);
        raise(SIGSYS);
        good &= runs == 0 && sigpending(&pending) == 0 && sigismember(&pending, SIGSYS);
        sigprocmask(SIG_UNBLOCK, &mask, NULL);
        good &= runs == 1;
        """,
    "masks of handlers": """
        struct sigaction action = {.sa_handler = getmask}, got;
        sigfillset(&action.sa_mask);
        good &= sigaction(SIGTRAP, &action, NULL) == 0 && sigaction(SIGTRAP, NULL, &got) == 0;
        good &= sigismember(&got.sa_mask, SIGSYS) == 1;
        __asm__ volatile("int3");
        write(1, "", 0);
        good &= sigaction(SIGTRAP, NULL, &got) == 0 && sigismember(&got.sa_mask, SIGSYS) == 1;
        raise(SIGTRAP);
        good &= runs == 2 && sigismember(&seen, SIGSYS);
        """,
    "ignored": """
        signal(SIGSYS, SIG_IGN);
        getppid();
        write(1, "", 0);
        raise(SIGSYS);
        struct sigaction got;
        good &= sigaction(SIGSYS, NULL, &got) == 0 && got.sa_handler == SIG_IGN;
        """,
    "bad arguments": """
        good &= syscall(SYS_rt_sigaction, SIGUSR1, 8L, 0L, 8L) == -1 && errno == EFAULT;
        good &= syscall(SYS_rt_sigaction, SIGSYS, 0L, 8L, 8L) == -1 && errno == EFAULT;
        good &= syscall(SYS_rt_sigaction, 65L, 0L, 0L, 8L) == -1 && errno == EINVAL;
        good &= syscall(SYS_rt_sigaction, 1L, 0L, 0L, 4L) == -1 && errno == EINVAL;
        good &= syscall(SYS_rt_sigprocmask, 7L, &mask, 0L, 8L) == -1 && errno == EINVAL;
        good &= syscall(SYS_rt_sigprocmask, 0L, 8L, 0L, 8L) == -1 && errno == EFAULT;
        good &= open((char *)8, 0) == -1 && errno == EFAULT;
        """,
    "held in a handler": """
        signal(SIGTRAP, writes);
        __asm__ volatile("int3");
        good &= runs == 1;
        """,
    "registers": """
        long a = 11, b = 12, c = 13, d = 14, result = 39;
        double x = argc * 1.5;
        __asm__ volatile("mov %1, %%r12; mov %2, %%r13; mov %3, %%r14; mov %4, %%r15; syscall;"
            "mov %%r12, %1; mov %%r13, %2; mov %%r14, %3; mov %%r15, %4"
            : "+a"(result), "+r"(a), "+r"(b), "+r"(c), "+r"(d) : : "rcx", "r11", "r12", "r13", "r14", "r15", "memory");
        good &= result == getpid() && a == 11 && b == 12 && c == 13 && d == 14 && x == argc * 1.5;
        """,
}


@pytest.mark.parametrize("case", SIGNALS)
@pytest.mark.parametrize("compiler", ["gcc", "musl-gcc"])
def test_signals(case: str, compiler: str, folder: Path, need: Callable[[str], str]) -> None:
    need(compiler)
    source = f"""
    #define _GNU_SOURCE
    #include <errno.h>
    #include <fcntl.h>
    #include <setjmp.h>
    #include <signal.h>
    #include <stdio.h>
    #include <string.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #define RESTART SA_RESTART
    static volatile int runs;
    static char *volatile place_of;
    static sigjmp_buf place;
    static sigset_t seen;
    static void count(int number) {{ runs++; getppid(); }}
    static void writes(int number) {{ runs++; write(1, "w", 1); }}
    static void getmask(int number) {{ runs++; sigprocmask(SIG_BLOCK, NULL, &seen); }}
    static void where(int number) {{ char here; place_of = &here; getppid(); }}
    static void handler(int number, siginfo_t *info, void *context)
    {{ runs += info->si_addr == (void *)8; siglongjmp(place, 1); }}
    int main(int argc, char **argv)
    {{
        sigset_t mask;
        int good = 1;
        sigemptyset(&mask);
        sigemptyset(&seen);
        {{ {SIGNALS[case]} }}
        dprintf(1, "%s", good ? "good" : "bad");
        return 0;
    }}"""
    argv = [compiled(folder, source, compiler=compiler)]
    expected = executed(argv)
    assert expected in (b"good", b"wgood")
    with held(argv, snapshot="first_io") as zygote:
        assert zygote.ready().seq in (AT_IO, AT_OTHER)
        for _ in range(2):
            assert zygote.serve() == (expected, 0)


def test_a_sigsys_that_somebody_sends(folder: Path) -> None:
    """Default: the program dies of it, held or not."""
    with held([program(folder, "", "pause();")], snapshot="first_io") as zygote:
        zygote.ready()
        client, pid = zygote.open()
        with client:
            os.kill(pid, signal.SIGSYS)
            assert os.WTERMSIG(zygote.ended(pid)) == signal.SIGSYS


@pytest.mark.parametrize("restart", [0, 1])
def test_a_handler_interrupts_a_call_that_waits(restart: int, folder: Path) -> None:
    """The call is made by the trap's handler; the program's own handler runs above it and is trapped in turn."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    argv = [compiled(folder, HEADERS + """
        static volatile int runs;
        static void handler(int number) { getppid(); runs++; close(open("/etc/passwd", O_RDONLY)); }
        int main(int argc, char **argv)
        {
            struct sigaction action = {.sa_handler = handler, .sa_flags = atoi(argv[2]) * SA_RESTART};
            char byte;
            int fd = open(argv[1], O_RDWR), got;
            sigaction(SIGUSR1, &action, NULL);
            got = read(fd, &byte, 1);
            dprintf(1, "%d %d %d", runs, got, got < 0 && errno == EINTR);
            return 0;
        }"""), str(pipe), str(restart)]  # fmt: skip
    with held(argv, snapshot="first_io") as zygote:
        proc = Path(f"/proc/{zygote.pid}")
        while not re.search(r"^SigCgt:.*2..$", (proc / "status").read_text(), re.M):
            os.sched_yield()
        while not (proc / "syscall").read_text().startswith("0 "):
            os.sched_yield()
        os.kill(zygote.pid, signal.SIGUSR1)
        if restart:
            while "ShdPnd:\t0000000000000000" not in (proc / "status").read_text():
                os.sched_yield()
            pipe.write_bytes(b"x")
        zygote.ready()
        said, status = zygote.serve()
        assert status == 0
        assert said == (b"1 1 0" if restart else b"1 -1 1")


def test_handlers_do_not_run_in_the_zygote(folder: Path) -> None:
    argv = [compiled(folder, """
        #include <signal.h>
        #include <unistd.h>
        static void handler(int number) { write(1, "handled\\n", 8); _exit(0); }
        int main() { signal(SIGTERM, handler); write(1, "x", 1); pause(); }""")]  # fmt: skip
    with held(argv, snapshot="first_io") as zygote:
        zygote.ready()
        os.kill(zygote.pid, signal.SIGTERM)
        client, pid = zygote.open()
        with client:
            assert client.recv(1) == b"x"
            os.kill(pid, signal.SIGTERM)
            assert everything(client) == b"handled\n"
        assert zygote.ended(pid) == 0
