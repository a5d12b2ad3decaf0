"""Programs in C that are held at their first use of the connection, made of a few statements."""

from __future__ import annotations

from pathlib import Path

from support.stage import compiled

HEADERS = """
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
static void *thread(void *unused) { return NULL; }
static void nothing(int number) { }
"""


def program(folder: Path, statement: str, after: str = 'write(1, "served\\n", 7);') -> str:
    return compiled(folder, HEADERS + f"""
    int main(int argc, char **argv)
    {{
        static char text[4096], *lock;
        struct stat status;
        pthread_t id;
        timer_t timer;
        sigset_t mask;
        fd_set set;
        FD_ZERO(&set);
        lock = argv[1];
        {{ {statement}; }}
        {after}
        return 0;
    }}""")  # fmt: skip
