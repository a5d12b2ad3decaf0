"""The system's clock is set, and access_times hold by the new time at once.

The kernel is really told to set the clock, to the time that it is, which harms nobody and wakes who asked to be told.
That the time is another one then is a library's doing, for the clock is the whole machine's.
"""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import ask, free_port
from support.daemon import Daemon
from support.pools import built
from support.proc import wait_for
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")

SHIFTED = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *seconds;

__attribute__((constructor)) static void begin(void)
{
    int fd = open(OFFSET, O_RDONLY | O_CLOEXEC);
    seconds = mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *seconds;
    return result;
}
"""
HOUR = 3600


class Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def set_clock() -> None:
    """Set the system's clock to what it is."""
    libc = ctypes.CDLL(None, use_errno=True)
    now = Timespec()
    if libc.clock_gettime(time.CLOCK_REALTIME, ctypes.byref(now)) or libc.clock_settime(
        time.CLOCK_REALTIME, ctypes.byref(now)
    ):
        pytest.skip(f"clock_settime: errno {ctypes.get_errno()}")


def shift_to(offset: Path, hour: int) -> None:
    """Let it be half past this hour."""
    now = time.localtime()
    seconds = (hour - now.tm_hour) * HOUR + (30 - now.tm_min) * 60
    with offset.open("r+b") as file:
        file.write(struct.pack("=q", seconds))


def test_access_times_when_the_clock_is_set(launch: Callable[..., Daemon], folder: Path) -> None:
    """Both ways, before the next look at the times, which is a minute after the start."""
    offset, port = folder / "offset", free_port()
    offset.write_bytes(bytes(8))
    set_clock()
    library = built(folder, "libshifted.so", SHIFTED, "-shared", "-fPIC", f'-DOFFSET="{offset}"')
    shift_to(offset, 12)
    begun = time.monotonic()
    launch(defaults() + entry("hello", port, "/bin/echo", "hello", access_times="10:00-11:00"),
           env={"LD_PRELOAD": str(library)})
    assert ask(port) == b""
    for hour, answer in ((10, b"hello\n"), (12, b"")):
        shift_to(offset, hour)
        set_clock()
        wait_for(lambda wanted=answer: ask(port) == wanted, f"at {hour}:30: {answer!r}")  # type: ignore[misc]
    assert time.monotonic() - begun < 50, "it may have been the look after a minute"
