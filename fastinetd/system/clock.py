"""Notices that the system's clock has been set, or that the machine has slept.

Theory. Times that follow from the time of day are calculated once, and would be wrong until the next calculation. A
timer of timerfd_create(2) that is set for a far day with TFD_TIMER_CANCEL_ON_SET is readable, and fails with ECANCELED,
as soon as the clock jumps; a clock that is slewed (adjtimex(2)) does not wake it.

Rules of this file: it owns the timer's descriptor. Without such a timer a jump goes unnoticed until the next regular
calculation.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from contextlib import suppress

from fastinetd.system.descriptors import lift_descriptor
from fastinetd.system.loop import Loop

TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET = 1, 2
FAR = 1 << 40
"""Unix seconds that no clock reaches, the year 36812."""


class Timespec(ctypes.Structure):
    """struct timespec."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class TimerSpec(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = (("interval", Timespec), ("value", Timespec))


class ClockWatch:
    """Calls `jumped` each time the clock has been set."""

    def __init__(self, loop: Loop, jumped: Callable[[], None]) -> None:
        self._jumped = jumped
        self._libc = ctypes.CDLL(None, use_errno=True)
        descriptor = self._libc.timerfd_create(time.CLOCK_REALTIME, os.O_CLOEXEC | os.O_NONBLOCK)
        if descriptor >= 0:
            self.descriptor = lift_descriptor(descriptor)
            self.arm_timer(FAR)
            loop.watch(self.descriptor, self._read_timer)

    def arm_timer(self, seconds: int) -> None:
        """Have the timer wake the loop at these Unix seconds, and when the clock is set."""
        times = TimerSpec(Timespec(0, 0), Timespec(seconds, 0))
        flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET
        self._libc.timerfd_settime(self.descriptor, flags, ctypes.byref(times), None)

    def _read_timer(self, _: int) -> None:
        """Empty the timer, set it again and call `jumped`."""
        with suppress(OSError):  # ECANCELED, for the clock has been set
            os.read(self.descriptor, 8)
        self.arm_timer(FAR)
        self._jumped()
