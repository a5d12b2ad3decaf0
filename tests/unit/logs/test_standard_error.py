"""What workers write to standard error: each cause once, bounded, as text."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastinetd.logs.standard_error import (
    CAUSES_PER_MINUTE,
    MESSAGE_BYTES,
    MESSAGE_LINES,
    MINUTE,
    READ_AT_ONCE,
    READ_PAUSE,
    StandardErrors,
)
from support.lingering import LINGER, abort, lingering
from support.old_kernel import run_before_linux_6_16
from support.pools import built
from support.proc import wait_for

TRACEBACK = "handler a:b: ValueError: {0} (client {1})\nTraceback:\n  File x, line 1, in b\nValueError: {0}\n"
SAYS = "service web: a worker says: "


class Clockwork:
    """A loop whose time is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.watched: dict[int, Callable[[int], None]] = {}
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def watch(self, fd: int, callback: Callable[[int], None]) -> None:
        assert fd not in self.watched
        self.watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        self.watched.pop(fd, None)

    def later(self, seconds: float, callback: Callable[[], None]) -> Clockwork:
        self.timers.append((self.now + seconds, callback))
        return self

    def cancel(self) -> None:
        pass

    def turn(self) -> None:
        for callback in list(self.watched.values()):
            callback(1)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        due = [each for each in self.timers if each[0] <= self.now]
        self.timers = [each for each in self.timers if each[0] > self.now]
        for _, callback in due:
            callback()


class Kit:
    def __init__(self) -> None:
        self.loop = Clockwork()
        self.said: list[str] = []
        self.errors = StandardErrors(self.loop, self.said.append, lambda: self.loop.now)  # type: ignore[arg-type]
        self.fd = self.errors.descriptor_for(3, "web")

    def hear(self, *messages: str | bytes) -> list[str]:
        """What is said of messages; all are there before they are read."""
        self.loop.wait(1)
        for message in messages:
            os.write(self.fd, message if isinstance(message, bytes) else message.encode())
        self.loop.turn()
        return self.take()

    def take(self) -> list[str]:
        said, self.said[:] = [line.removeprefix(SAYS) for line in self.said], []
        return said


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    for row in (3, 4):
        made.errors.close(row)


def test_a_traceback_is_told_once_then_counted(kit: Kit) -> None:
    first = kit.hear(TRACEBACK.format("one", "192.0.2.1 7"))
    assert first == TRACEBACK.format("one", "192.0.2.1 7").splitlines()
    for number in range(40):
        assert kit.hear(TRACEBACK.format(f"no. {number}", f"192.0.2.{number} 7")) == []
    kit.loop.wait(MINUTE)
    assert kit.take() == ["40 more like this: handler a:b: ValueError: one (client 192.0.2.1 7)"]
    assert kit.hear(TRACEBACK.format("two", "x")) == [], "in the next minute it is known still"
    kit.loop.wait(MINUTE)
    assert kit.take() == ["1 more like this: handler a:b: ValueError: one (client 192.0.2.1 7)"]
    kit.loop.wait(MINUTE)
    assert kit.take() == [] and kit.loop.timers == []
    assert len(kit.hear(TRACEBACK.format("three", "x"))) == 4, "after a minute without it, it is told anew"


def test_other_causes_are_others(kit: Kit) -> None:
    assert len(kit.hear(TRACEBACK.format("x", "y"), TRACEBACK.replace("line 1", "line 2").format("x", "y"))) == 8
    assert kit.hear("one\n", "two\n", "one\n") == ["one", "two"]


def test_no_more_than_so_much_a_minute(kit: Kit) -> None:
    said = [line for number in range(3 * CAUSES_PER_MINUTE) for line in kit.hear(f"number {number}\n")]
    assert said == [f"number {number}" for number in range(CAUSES_PER_MINUTE)]
    kit.loop.wait(MINUTE)
    assert kit.take() == [f"{2 * CAUSES_PER_MINUTE} messages more than are told in a minute"]
    assert kit.hear("again\n") == ["again"]


def test_a_message_is_cut(kit: Kit) -> None:
    assert len("".join(kit.hear(b"x" * 100_000))) == MESSAGE_BYTES
    assert len(kit.hear("".join(f"{number}\n" for number in range(1000)))) == MESSAGE_LINES
    assert kit.hear(b"", b"\n\n", b" \n") == []
    assert kit.hear(b"\xff\0one\rtwo\n") == ["\\xff\0one\rtwo"], "what cannot be shown Messages.say escapes"


def test_a_flood_has_a_share_of_the_time_only(kit: Kit) -> None:
    """Whoever finds no room loses his message; he does not wait, and nobody waits for him."""
    lost = 0
    for number in range(10_000):
        try:
            os.write(kit.fd, b"%d\n" % number)
        except BlockingIOError:
            lost += 1
        if number % 5 == 0:
            kit.loop.turn()
    assert lost >= 9_000 and kit.loop.watched == {}
    assert len(kit.take()) == CAUSES_PER_MINUTE < READ_AT_ONCE
    kit.loop.wait(READ_PAUSE)
    assert len(kit.loop.watched) == 1


def test_services_apart(kit: Kit) -> None:
    other = kit.errors.descriptor_for(4, "other")
    assert kit.errors.descriptor_for(3, "renamed") == kit.fd != other
    os.write(other, b"x\n")
    assert kit.hear("x\n") == ["service renamed: a worker says: x", "service other: a worker says: x"]


def test_what_was_said_is_told_before_it_is_closed(kit: Kit) -> None:
    assert kit.hear("x\n", "x\n") == ["x"]
    os.write(kit.fd, b"last\n")
    kit.errors.close(3)
    assert kit.take() == ["last", "1 more like this: x"]
    assert kit.loop.watched == {}
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(kit.fd)
    kit.errors.close(3)


def test_no_descriptors(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("socket.socketpair", none)
    assert kit.errors.descriptor_for(9, "poor") == -1


@pytest.mark.parametrize("old", [False, True], ids=["refused by the kernel", "seen by a peek"])
def test_nobody_passes_descriptors_to_the_daemon(old: bool) -> None:
    """Root would close them, and a socket that lingers is not closed at once."""
    begun = time.monotonic()
    run_before_linux_6_16(lambda: pass_a_descriptor(True)) if old else pass_a_descriptor(False)
    assert time.monotonic() - begun < LINGER / 3


def pass_a_descriptor(old: bool) -> None:
    """Pass a descriptor as a worker; `old`: the kernel does not refuse it."""
    kit = Kit()
    with socket.socket(fileno=os.dup(kit.fd)) as writer:
        sock, client = lingering()
        with client:
            try:
                socket.send_fds(writer, [b"with one\n"], [sock.fileno()])
            except PermissionError:
                abort(sock)
            else:
                sock.close()
                assert old, "this kernel refuses no descriptors"
            said = kit.hear("later\n")
            if old:
                assert len(said) == 1 and "has sent a descriptor" in said[0]
                assert kit.loop.watched == {}
            else:
                assert said == ["later"]
            kit.errors.close(3)


def test_who_writes_from_memory_that_never_comes_keeps_nobody_waiting(kit: Kit, tmp_path: Path) -> None:
    """The writer of a pipe has its lock meanwhile, and its reader would wait."""
    program = built(tmp_path, "faulting", FAULTING, "-pthread")
    reader, ready = os.pipe()
    faulting = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=ready, stderr=kit.fd)
    os.close(ready)
    try:
        heard = os.read(reader, 100)
        if heard == b"no\n":
            pytest.skip("no userfaultfd(2) here")
        wait_for(lambda: in_fault(faulting.pid), "it is in the midst of its write")
        begun = time.monotonic()
        assert kit.hear() == ["first"]
        assert time.monotonic() - begun < LINGER / 3
    finally:
        os.close(reader)
        faulting.kill()
        faulting.communicate()


def in_fault(pid: int) -> bool:
    """Whether a thread of it waits for a page."""
    return any("userfault" in (each / "wchan").read_text() for each in Path(f"/proc/{pid}/task").iterdir())


FAULTING = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *say(void *page)
{
    return write(2, page, 4096) < 0 ? page : NULL;
}

int main(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {.range = {(unsigned long)page, 4096}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    int faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    pthread_t thread;
    int ready = faults >= 0 && ioctl(faults, UFFDIO_API, &api) == 0 && ioctl(faults, UFFDIO_REGISTER, &range) == 0;
    if (write(2, "first\n", 6) != 6 || pthread_create(&thread, NULL, say, page))
        return 1;
    if (write(1, ready ? "ok\n" : "no\n", 3) != 3)
        return 1;
    for (;;)
        pause();
}
"""
