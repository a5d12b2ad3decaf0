"""Kernels that are older, and containers that forbid: what the library then does without."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.reach import reachable
from support.stage import AT_IO, AT_MAIN, FILES, LIBRARY, NOT_FURTHER, REFUSED, Held, compiled, held, libc

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")

WRITES = """
#include <unistd.h>
int main(void) { return write(1, "x", 1) != 1; }
"""

CLOSE_RANGE, PRCTL, UNSHARE, GET_ROBUST_LIST, VM_READ = 436, 157, 272, 274, 310
URING_SETUP, URING_REGISTER = 425, 427
GET_TID_ADDRESS, SET_DISPATCH = 40, 59
ENOSYS, EPERM, ENOMEM, EINVAL = 38, 1, 12, 22


def without(*calls: tuple[int, int | None, int]) -> Callable[[], None]:
    """Before execve: a filter in which (system call, first argument or any) fails with an errno."""
    program = [(0x20, 0, 0, 0)]  # the number
    for number, argument, errno in calls:
        fail = (0x06, 0, 0, 0x00050000 | errno)
        if argument is None:
            program += [(0x15, 0, 1, number), fail]
        else:
            program += [(0x15, 0, 4, number), (0x20, 0, 0, 16), (0x15, 0, 1, argument), fail, (0x20, 0, 0, 0)]
    program.append((0x06, 0, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))

    def install() -> None:
        assert libc.prctl(38, 1, 0, 0, 0) == 0
        assert libc.prctl(22, 2, filter_, 0, 0) == 0

    install.keep = (code, filter_)  # type: ignore[attr-defined]
    return install


ABORTS = """
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
static void *thread(void *unused)
{
    int fd = 3;
    while (fd < 100 && fcntl(fd, F_GETFD) < 0) fd++;
    write(1, fd == 100 ? "x" : "still open", 1);
    return NULL;
}
int main()
{
    pthread_t id;
    pthread_create(&id, NULL, thread, NULL);
    pthread_join(id, NULL);
    abort();
}
"""

POOR: dict[str, list[tuple[int, int | None, int]]] = {
    "no address of the thread id": [(PRCTL, GET_TID_ADDRESS, EINVAL)],
    "nor a robust list": [(PRCTL, GET_TID_ADDRESS, EINVAL), (GET_ROBUST_LIST, None, ENOSYS)],
    "no close_range": [(CLOSE_RANGE, None, ENOSYS)],
    "no unshare": [(UNSHARE, None, EPERM)],
    "no reading of processes": [(VM_READ, None, EPERM)],
    "no io_uring": [(URING_SETUP, None, EPERM)],
    "no memory to hold": [(URING_REGISTER, None, ENOMEM)],
    "no io_uring and no close_range": [(URING_SETUP, None, ENOSYS), (CLOSE_RANGE, None, ENOSYS)],
}


@pytest.mark.parametrize("compiler", ["gcc", "musl-gcc"])
@pytest.mark.parametrize("case", POOR)
def test_does_without(case: str, compiler: str, folder: Path, need: Callable[[str], str]) -> None:
    need(compiler)
    argv = [compiled(folder, ABORTS, compiler=compiler)]
    with held(argv, before=without(*POOR[case])) as zygote:
        assert zygote.ready().seq == AT_MAIN
        client, pid = zygote.open()
        with client:
            assert client.recv(10) == b"x"
            assert os.WTERMSIG(zygote.ended(pid)) == signal.SIGABRT
        zygote.park()
        client, pid = zygote.take()
        with client:
            assert client.recv(10) == b"x"
            assert os.WTERMSIG(zygote.ended(pid)) == signal.SIGABRT


def test_what_every_program_writes_to_is_copied_while_forking(folder: Path) -> None:
    """Else each page is a fault, in the child and in the zygote."""
    argv = [compiled(folder, WRITES)]
    counted = []
    for forbidden in ((), ((URING_SETUP, None, EPERM),)):
        with held(argv, before=without(*forbidden)) as zygote:
            zygote.ready()
            pinned = re.search(r"VmPin:\s+(\d+) kB", Path(f"/proc/{zygote.pid}/status").read_text())
            assert pinned is not None
            before = faults(zygote.pid)
            client, pid = zygote.open()
            with client:
                _, status, usage = os.wait4(pid, 0)
            zygote.children.discard(pid)
            assert status == 0
            counted.append((int(pinned[1]) > 0, usage.ru_minflt, faults(zygote.pid) - before))
    (held_ahead, few, none), (not_held, more, some) = counted
    assert (held_ahead, not_held) == (True, False)
    assert few < more, counted
    assert none < some, counted


def faults(pid: int) -> int:
    """Of a process until now (proc_pid_stat(5))."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_without_dispatch_it_is_held_before_main(folder: Path) -> None:
    argv = [compiled(folder, WRITES)]
    with held(argv, snapshot="first_io", before=without((PRCTL, SET_DISPATCH, EINVAL))) as zygote:
        assert (said := zygote.ready()).seq == NOT_FURTHER
        assert said.value == -1
        assert zygote.serve() == (b"x", 0)


def refuse_exec_gain() -> None:
    """What a unit's MemoryDenyWriteExecute= does (PR_SET_MDWE, from Linux 6.3 on)."""
    libc.prctl(65, 1, 0, 0, 0)


READS_THE_CLOCK = """
#include <time.h>
#include <unistd.h>
int main(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    write(1, "x", 1);
    return 0;
}"""


def test_where_written_memory_may_not_be_executed_it_is_held_before_main(folder: Path) -> None:
    """The clocks could not be seen there, and time limits would run out; above all nothing crashes."""
    argv = [compiled(folder, READS_THE_CLOCK)]
    if libc.prctl(66, 0, 0, 0, 0) < 0:
        pytest.skip("no PR_GET_MDWE here")
    with held(argv, snapshot="first_io", before=refuse_exec_gain) as zygote:
        assert (said := zygote.ready()).seq == NOT_FURTHER, said
        assert zygote.serve() == (b"x", 0)


def test_threads_are_found_without_unshare(folder: Path) -> None:
    library = compiled(folder, """
        #include <pthread.h>
        #include <unistd.h>
        static void *thread(void *unused) { for (;;) pause(); }
        static pthread_t id;
        __attribute__((constructor)) static void early(void) { pthread_create(&id, 0, thread, 0); }
        """, "-shared", "-fPIC")  # fmt: skip
    zygote = Held(["/bin/cat"], preload=library, before=without((UNSHARE, None, EPERM)))
    said = zygote.hear()
    assert said is not None
    assert said.kind == REFUSED
    assert os.waitstatus_to_exitcode(zygote.close()) == 1


def test_first_io_without_proc(folder: Path, root: None) -> None:
    """In a root directory without /proc nobody knows what the program has opened; before main it has opened nothing."""
    for line in subprocess.run(["ldd", "/bin/cat"], capture_output=True, text=True, check=True).stdout.splitlines():
        if found := re.search(r"(/\S+) \(", line):
            (folder / found[1][1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found[1], folder / found[1][1:])
    for path in ("/bin/cat", str(reachable(LIBRARY))):
        (folder / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path[1:])
    zygote = Held(["/bin/cat"], snapshot="first_io", before=lambda: os.chroot(folder))
    said = zygote.hear()
    assert said is not None
    assert (said.kind, said.value) == (REFUSED, FILES)
    assert os.waitstatus_to_exitcode(zygote.close()) == 1
    with held(["/bin/cat"], before=lambda: os.chroot(folder)) as zygote:
        assert zygote.ready().seq == AT_MAIN
        assert zygote.serve(b"x") == (b"x", 0)


def test_first_io_without_reading_of_processes(folder: Path) -> None:
    argv = [compiled(folder, """
        #include <fcntl.h>
        #include <signal.h>
        #include <unistd.h>
        static void handler(int number) { }
        int main() { signal(SIGUSR1, handler); close(open("/etc/passwd", 0)); return write(1, "x", 1) != 1; }
        """)]  # fmt: skip
    with held(argv, snapshot="first_io", before=without((VM_READ, None, EPERM))) as zygote:
        assert zygote.ready().seq == AT_IO
        assert zygote.serve() == (b"x", 0)
