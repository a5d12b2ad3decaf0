"""Tells when somebody has set the system's clock, or the machine has slept.

Theory. What follows from the time of day is worked out once, and would be wrong until the next look. A timer of
timerfd_create(2) that is set for a far day with TFD_TIMER_CANCEL_ON_SET is readable, with ECANCELED, as soon as the
clock jumps; that clocks run a little faster or slower does not wake it.

Rules of this file: it owns the timer's descriptor. Where there is no such timer nobody is told, and the looks that are
made anyway have to do.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from contextlib import suppress

from fastinetd.system.descriptors import lift
from fastinetd.system.loop import Loop

TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET = 1, 2
FAR = 1 << 40  # Unix seconds


class Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Times(ctypes.Structure):
    """struct itimerspec"""

    _fields_ = (("interval", Timespec), ("value", Timespec))


class ClockWatch:
    """Calls `jumped` whenever the clock was set."""

    def __init__(self, loop: Loop, jumped: Callable[[], None]) -> None:
        self._jumped = jumped
        self._libc = ctypes.CDLL(None, use_errno=True)
        descriptor = self._libc.timerfd_create(time.CLOCK_REALTIME, os.O_CLOEXEC | os.O_NONBLOCK)
        if descriptor >= 0:
            self.descriptor = lift(descriptor)
            self.arm()
            loop.watch(self.descriptor, self._woken)

    def arm(self, seconds: int = FAR) -> None:
        """Wake up at this time, and when the clock is set."""
        times = Times(Timespec(0, 0), Timespec(seconds, 0))
        flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET
        self._libc.timerfd_settime(self.descriptor, flags, ctypes.byref(times), None)

    def _woken(self, _: int) -> None:
        with suppress(OSError):  # ECANCELED: that is the news
            os.read(self.descriptor, 8)
        self.arm()
        self._jumped()
