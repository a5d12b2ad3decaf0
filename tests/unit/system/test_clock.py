"""The watch over the system's clock."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastinetd.system.clock import ClockWatch
from fastinetd.system.loop import Loop
from support.core import close_loop, until


@pytest.fixture
def troubles() -> list[str]:
    return []


@pytest.fixture
def loop(troubles: list[str]) -> Iterator[Loop]:
    made = Loop(troubles.append)
    yield made
    close_loop(made)
    assert troubles == []


def test_woken_and_armed_again(loop: Loop, troubles: list[str]) -> None:
    """A time that has passed wakes as a clock that was set does; one awakening each."""
    jumps: list[int] = []
    watch = ClockWatch(loop, lambda: jumps.append(len(jumps)))
    for _ in range(2):
        watch.arm_timer(1)
        until(loop, lambda: jumps, troubles)
        loop.later(0.01, loop.stop)
        loop.run()
        assert jumps.pop() == 0 and not jumps
    os.close(watch.descriptor)


def test_what_the_kernel_is_asked_for(loop: Loop) -> None:
    """CLOCK_REALTIME, an absolute time, and to be told when the clock is set (proc_pid_fdinfo(5))."""
    watch = ClockWatch(loop, lambda: None)
    told = dict(re.findall(r"(.+):\s+(.+)", Path(f"/proc/self/fdinfo/{watch.descriptor}").read_text()))
    assert (told["clockid"], told["settime flags"]) == ("0", "03")
    os.close(watch.descriptor)
