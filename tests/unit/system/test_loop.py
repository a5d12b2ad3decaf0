"""The supervisor's loop: descriptors, timers, signals, and what happens when a callback fails."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial

import pytest

from fastinetd.system.loop import Loop
from support.core import close_loop
from support.proc import PATIENCE


@pytest.fixture
def troubles() -> list[str]:
    return []


@pytest.fixture
def loop(troubles: list[str]) -> Iterator[Loop]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    made = Loop(troubles.append)
    guard = made.later(PATIENCE, made.stop)
    yield made
    assert guard.callback is not None
    assert time.monotonic() < guard.when, "nothing stopped the loop"
    for number, handler in kept.items():
        signal.signal(number, handler)
    close_loop(made)


@pytest.fixture
def pipes() -> Iterator[list[tuple[int, int]]]:
    made = [os.pipe() for _ in range(3)]
    yield made
    for pair in made:
        for end in pair:
            os.close(end)


class TestTimers:
    def test_in_order_of_time_and_then_of_making(self, loop: Loop) -> None:
        seen: list[str] = []
        loop.later(0.02, loop.stop)
        for seconds, name in ((0.01, "c"), (0.0, "a"), (0.0, "b"), (0.01, "d")):
            loop.later(seconds, partial(seen.append, name))
        loop.run()
        assert seen == ["a", "b", "c", "d"]

    def test_never_early(self, loop: Loop) -> None:
        begin = time.monotonic()
        loop.later(0.03, loop.stop)
        loop.run()
        assert time.monotonic() - begin >= 0.03

    def test_cancelled(self, loop: Loop) -> None:
        seen: list[int] = []
        timers = [loop.later(0.0, partial(seen.append, number)) for number in range(3)]
        timers[1].cancel()
        loop.later(0.0, loop.stop)
        loop.run()
        assert seen == [0, 2]

    def test_cancelled_by_the_one_before(self, loop: Loop) -> None:
        seen: list[str] = []
        loop.later(0.0, lambda: second.cancel())
        second = loop.later(0.0, lambda: seen.append("cancelled"))
        loop.later(0.0, loop.stop)
        loop.run()
        assert seen == []

    def test_one_from_another(self, loop: Loop) -> None:
        seen: list[int] = []

        def again() -> None:
            seen.append(len(seen))
            if len(seen) < 100:
                loop.later(0.0, again)
            else:
                loop.stop()

        loop.later(0.0, again)
        loop.run()
        assert seen == [*range(100)]

    def test_one_that_starts_itself_anew_does_not_keep_descriptors_waiting(
        self, loop: Loop, pipes: list[tuple[int, int]]
    ) -> None:
        def again() -> None:
            loop.later(0.0, again)

        reader, writer = pipes[0]
        os.write(writer, b"x")
        loop.watch(reader, lambda _: loop.stop())
        again()
        loop.run()


class TestDescriptors:
    def test_as_long_as_they_are_ready(self, loop: Loop, pipes: list[tuple[int, int]]) -> None:
        reader, writer = pipes[0]
        seen: list[bytes] = []

        def ready(_: int) -> None:
            seen.append(os.read(reader, 1))
            if len(seen) == 3:
                loop.stop()

        loop.watch(reader, ready)
        os.write(writer, b"abc")
        loop.run()
        assert seen == [b"a", b"b", b"c"]

    def test_unwatched_by_another_in_the_same_moment(self, loop: Loop, pipes: list[tuple[int, int]]) -> None:
        """Whichever comes first takes the others out; they are not called although they were ready too."""
        seen: list[int] = []

        def ready(number: int) -> None:
            seen.append(number)
            for other, (reader, _) in enumerate(pipes):
                if other != number:
                    loop.unwatch(reader)
            loop.stop()

        for number, (reader, writer) in enumerate(pipes):
            loop.watch(reader, lambda _, number=number: ready(number))  # type: ignore[misc]
            os.write(writer, b"x")
        loop.run()
        assert len(seen) == 1

    def test_unwatched_by_itself(self, loop: Loop, pipes: list[tuple[int, int]]) -> None:
        reader, writer = pipes[0]
        seen: list[int] = []

        def ready(events: int) -> None:
            seen.append(events)
            loop.unwatch(reader)
            loop.later(0.01, loop.stop)

        loop.watch(reader, ready)
        os.write(writer, b"x")
        loop.run()
        assert len(seen) == 1

    def test_unwatched_twice(self, loop: Loop, pipes: list[tuple[int, int]]) -> None:
        loop.watch(pipes[0][0], lambda _: None)
        loop.unwatch(pipes[0][0])
        loop.unwatch(pipes[0][0])

    def test_watched_again_with_another_callback(self, loop: Loop, pipes: list[tuple[int, int]]) -> None:
        reader, writer = pipes[0]
        loop.watch(reader, lambda _: pytest.fail("this one is gone"))
        loop.unwatch(reader)
        loop.watch(reader, lambda _: loop.stop())
        os.write(writer, b"x")
        loop.run()


class TestSignals:
    def test_called_between_callbacks_and_once_for_several(self, loop: Loop) -> None:
        seen: list[str] = []

        def raise_them() -> None:
            for _ in range(5):
                os.kill(os.getpid(), signal.SIGUSR1)
            seen.append("raised")

        def came() -> None:
            seen.append("came")
            loop.stop()

        loop.on_signal(signal.SIGUSR1, came)
        loop.later(0.0, raise_them)
        loop.run()
        assert seen == ["raised", "came"]

    def test_several_kinds(self, loop: Loop) -> None:
        seen: set[str] = set()

        def came(name: str) -> None:
            seen.add(name)
            if len(seen) == 2:
                loop.stop()

        loop.on_signal(signal.SIGUSR1, lambda: came("one"))
        loop.on_signal(signal.SIGUSR2, lambda: came("two"))
        loop.later(0.0, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        loop.later(0.0, lambda: os.kill(os.getpid(), signal.SIGUSR2))
        loop.run()

    def test_wakes_a_loop_that_waits(self, loop: Loop) -> None:
        loop.on_signal(signal.SIGUSR1, loop.stop)
        if (pid := os.fork()) == 0:
            os.kill(os.getppid(), signal.SIGUSR1)
            os._exit(0)
        loop.run()
        os.waitpid(pid, 0)


class TestTroubles:
    def test_are_told_and_the_loop_goes_on(self, loop: Loop, troubles: list[str]) -> None:
        def fail() -> None:
            raise OSError(5, "no luck")

        loop.later(0.0, fail)
        loop.later(0.0, loop.stop)
        loop.run()
        (told,) = troubles
        assert "no luck" in told
        assert "test_loop.py:" in told

    def test_of_a_descriptor(self, loop: Loop, troubles: list[str], pipes: list[tuple[int, int]]) -> None:
        reader, writer = pipes[0]

        def fail(_: int) -> None:
            loop.unwatch(reader)
            loop.later(0.0, loop.stop)
            raise ValueError("wrong")

        loop.watch(reader, fail)
        os.write(writer, b"x")
        loop.run()
        assert len(troubles) == 1

    def test_ends_of_the_process_are_not_kept(self, loop: Loop) -> None:
        def leave() -> None:
            raise SystemExit(3)

        loop.later(0.0, leave)
        with pytest.raises(SystemExit):
            loop.run()


def test_stop_is_at_once(loop: Loop) -> None:
    loop.later(0.0, loop.stop)
    loop.later(0.0, lambda: pytest.fail("after the stop"))
    loop.run()


def test_its_own_descriptors_are_high(loop: Loop) -> None:
    """Low ones are copied into every child."""
    assert min(loop._reader, loop._writer) >= 64
