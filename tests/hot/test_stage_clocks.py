"""snapshot = first_io: time limits are counted from the connection, not from the start of the zygote."""

from __future__ import annotations

import ctypes
import os
import platform
import select
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.lacking import need_modules
from support.stage import AT_IO, AT_OTHER, Held, compiled, held

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="dispatch is for x86-64")

LIMIT = 1.0

NOW = "${EPOCHREALTIME/./}"

SHELL_LIMITS = {
    "read -t": "read -r -t 1 line",
    "TMOUT": "TMOUT=1\nread -r line",
    "EPOCHREALTIME": f"end=$(({NOW} + 1000000))\nread -r -t 100 line\n(({NOW} <= end)) || line=late",
    "SECONDS": "read -r line\n(( SECONDS < 1 )) || line=$SECONDS",
    "by SECONDS": "end=$((SECONDS + 1))\nread -r line </dev/null\nread -r line\n((SECONDS <= end)) || line=late",
}
"""In bash: `line` is what the client said, if nothing was too late."""

OTHER_LIMITS = {
    "perl, a limit": ("perl", """
use IO::Select;
my $end = time + 1;
print IO::Select->new(*STDIN)->can_read($end - time) ? scalar <STDIN> : "late\n";
"""),
    "perl, Time::HiRes": ("perl", """
use Time::HiRes 'time';
my $begin = time;
my $input = '';
vec($input, 0, 1) = 1;
select $input, undef, undef, $begin + 1 - time;
print time - $begin < 1 ? scalar <STDIN> : "late\n";
"""),
    "perl, alarm": ("perl", 'alarm 1; print scalar <STDIN>;'),
    "python, select": ("python3", """
import select, sys, time
end = time.monotonic() + 1
print(input() if select.select([0], [], [], max(0, end - time.monotonic()))[0] else "late")
"""),
    "python, a timeout": ("python3", """
import socket
with socket.socket(fileno=0) as client:
    client.settimeout(1)
    client.sendall(client.recv(100))
"""),
}  # fmt: skip


def test_limits_count_from_the_connection(folder: Path, need: Callable[[str], str]) -> None:
    scripts = OTHER_LIMITS | {name: ("bash", f'{text}\necho "$line"\n') for name, text in SHELL_LIMITS.items()}
    zygotes = {}
    try:
        for name, (interpreter, text) in scripts.items():
            path = folder / name.replace(" ", "-")
            path.write_text(text)
            program = os.path.realpath(sys.executable) if interpreter == "python3" else need(interpreter)
            if interpreter == "perl":
                need_modules(program, "Time::HiRes")
            zygotes[name] = Held([program, str(path)], ["PATH=/usr/bin:/bin"], snapshot="first_io")
        points = {name: zygote.ready().seq for name, zygote in zygotes.items()}
        assert points == {name: AT_OTHER if name == "perl, alarm" else AT_IO for name in zygotes}
        select.select([], [], [], LIMIT * 1.2)  # long enough for a limit that began in the zygote to be over
        said = {name: zygote.serve(b"hello\n") for name, zygote in zygotes.items()}
        assert said == dict.fromkeys(zygotes, (b"hello\n", 0))
    finally:
        for zygote in zygotes.values():
            zygote.close()


C = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    char text[64] = {0};
    struct pollfd client = {0, POLLIN};
    struct timespec at;
    struct timeval when;
    %s
    return 0;
}
"""

LOOKS = {
    "clock_gettime": "clock_gettime(CLOCK_MONOTONIC, &at)",
    "gettimeofday": "gettimeofday(&when, NULL)",
    "time": "time(NULL)",
    "a system call": "syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &at)",
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("compiler", ["gcc", "musl-gcc"])
def test_a_look_right_before_a_wait_with_a_limit_is_made_by_each_server(
    look: str, compiler: str, folder: Path, need: Callable[[str], str], numbers: dict[str, int]
) -> None:
    """What the program does before it is in all servers' memory, what it does after it is not."""
    need(compiler)
    code = f"int made = getpid(); {LOOKS[look]}; made -= getpid(); poll(&client, 1, 9); read(0, text, 1);"
    code += 'dprintf(1, made ? "own" : "shared");'
    with held([compiled(folder, C % code, compiler=compiler)], snapshot="first_io") as zygote:
        said = zygote.ready()
        assert (said.seq, said.value) == (AT_IO, numbers["poll"])
        assert [zygote.serve(b"x") for _ in range(2)] == [(b"own", 0)] * 2


def test_a_look_before_another_use_does_not_hold(folder: Path) -> None:
    """Python looks at the clock for each lock: what it does after the last one is worth more than that look."""
    code = "int made = getpid(); time(NULL); made -= getpid(); read(0, text, 1);"
    code += 'dprintf(1, made ? "own" : "shared");'
    with held([compiled(folder, C % code)], snapshot="first_io") as zygote:
        assert zygote.ready().seq == AT_IO
        assert zygote.serve(b"x") == (b"shared", 0)


def test_looks_that_come_before_work_do_not_hold(folder: Path) -> None:
    """What is done between a look and the use is done once, by the program and not by a scout."""
    log = folder / "log"
    log.write_text("0123456789\n" * 3)
    work = "time(NULL); write(log, \"x\", 1); time(NULL); lseek(log, 2, SEEK_SET); read(log, text, 3);"
    code = f"int made = getpid(), log = open(argv[1], O_RDWR | O_APPEND); {work * 3} read(log, text + 3, 1);"
    code += 'made -= getpid();'
    code += 'write(1, "", 0); dprintf(1, "%s %s", made ? "own" : "shared", text);'
    with held([compiled(folder, C.replace("%s", code)), str(log)], snapshot="first_io") as zygote:
        assert zygote.ready().seq == AT_IO
        assert [zygote.serve() for _ in range(2)] == [(b"shared 2345", 0)] * 2
    assert log.read_text() == "0123456789\n" * 3 + "xxx"


def test_servers_read_the_clock_without_a_system_call(folder: Path) -> None:
    """The kernel's code in their memory is as the kernel made it."""
    code = """
        time(NULL);
        read(0, text, 1);
        write(1, (void *)getauxval(AT_SYSINFO_EHDR), atoi(argv[1]));
    """
    (line,) = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("[vdso]")]
    first, last = (int(part, 16) for part in line.split()[0].split("-"))
    with held([compiled(folder, "#include <stdlib.h>\n" + C % code), str(last - first)], snapshot="first_io") as zygote:
        assert zygote.ready().seq == AT_IO
        assert zygote.serve(b"x") == (ctypes.string_at(first, last - first), 0)
