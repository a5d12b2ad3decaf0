"""snapshot = first_io: where interpreters, as a distribution has them, are held before a small script's first use."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import everything
from support.stage import AT_IO, compiled, held

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="dispatch is for x86-64")

SCRIPTS = Path(__file__).parents[2] / "bench" / "scripts"
NAMES = sorted(path.name for path in SCRIPTS.iterdir())
assert len(NAMES) == 4


@pytest.mark.parametrize("script", NAMES)
def test_a_script_of_the_benchmark_is_not_held_early(script: str, need: Callable[[str], str]) -> None:
    interpreter = re.match(r"#!(\S+)", (SCRIPTS / script).read_text())
    assert interpreter is not None
    need(interpreter[1])
    with held([interpreter[1], str(SCRIPTS / script)], ["PATH=/usr/bin:/bin"], snapshot="first_io") as zygote:
        said = zygote.ready()
        print(script, said)
        assert said.seq == AT_IO
        assert [zygote.serve() for _ in range(2)] == [(b"hello\n", 0)] * 2


ECHO = {
    "bash": ("SCRIPT", 'read -r line\nprintf "%s\\n" "$line"'),
    "dash": ("SCRIPT", 'read -r line\nprintf "%s\\n" "$line"'),
    "busybox": ("sh", "SCRIPT", 'read -r line\nprintf "%s\\n" "$line"'),
    "perl": ("SCRIPT", "use strict; use POSIX; my $line = <STDIN>; print $line;"),
    "python3": ("SCRIPT", "import json, logging, random, socket, subprocess\nprint(input())"),
    "php": ("SCRIPT", "<?php echo fgets(STDIN);"),
}
"""Arguments, and what the script is that stands for SCRIPT."""


def echoing(interpreter: str, folder: Path) -> list[str]:
    path = shutil.which(interpreter, path="/usr/bin:/bin")  # the distribution's
    if path is None:
        pytest.skip(f"{interpreter} is not installed")
    *arguments, text = ECHO[interpreter]
    script = folder / "script"
    script.write_text(text + "\n")
    return [os.path.realpath(path) if interpreter != "busybox" else path,
            *(str(script) if word == "SCRIPT" else word for word in arguments)]  # fmt: skip


@pytest.mark.parametrize("interpreter", ECHO)
def test_a_script_is_held_where_it_reads(interpreter: str, folder: Path, numbers: dict[str, int]) -> None:
    with held(echoing(interpreter, folder), ["PATH=/usr/bin:/bin"], snapshot="first_io") as zygote:
        said = zygote.ready()
        assert (said.seq, said.value in {numbers[name] for name in ("read", "poll", "ppoll")}) == (AT_IO, True), said
        assert [zygote.serve(b"line\n") for _ in range(2)] == [(b"line\n", 0)] * 2


EARLY = {"ruby": ("puts gets", "eventfd2"), "node": ("process.stdin.pipe(process.stdout)", "capget")}
"""A script that echoes, and where its interpreter is held: before it makes what no fork would have, ruby its timer or
timer thread, node V8's threads."""


@pytest.mark.parametrize("interpreter", EARLY)
def test_interpreters_that_start_threads_are_held_before(
    interpreter: str, folder: Path, numbers: dict[str, int]
) -> None:
    path = shutil.which(interpreter, path="/usr/bin:/bin")
    if path is None:
        pytest.skip(f"{interpreter} is not installed")
    text, call = EARLY[interpreter]
    script = folder / "script"
    script.write_text(text + "\n")
    with held([os.path.realpath(path), str(script)], ["PATH=/usr/bin:/bin"], snapshot="first_io") as zygote:
        assert zygote.ready().value == numbers[call]
        assert [zygote.serve(b"line\n") for _ in range(2)] == [(b"line\n", 0)] * 2


RANDOM = """
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>
int main(void)
{
    unsigned long before, after;
    getrandom(&before, sizeof before, 0);      /* from glibc 2.41 on, on Linux 6.11: without a system call */
    read(0, &after, 0);
    getrandom(&after, sizeof after, 0);
    dprintf(1, "%lx %lx", before, after);
    return 0;
}
"""


def test_random_numbers_after_the_fork_are_each_servers_own(folder: Path) -> None:
    with held([compiled(folder, RANDOM)], snapshot="first_io") as zygote:
        assert zygote.ready().seq == AT_IO
        zygote.park()
        zygote.park()
        said = [zygote.serve()[0].split() for _ in range(4)]
        taken = [zygote.take() for _ in range(2)]
        for client, pid in taken:
            with client:
                said.append(everything(client).split())
            assert zygote.ended(pid) == 0
    assert len({before for before, _ in said}) == 1
    assert len({number for pair in said for number in pair}) == 1 + len(said)
