"""Interpreters held at the first use of the client: loaded once, answering each client rightly."""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import everything
from support.lacking import need_modules
from support.stage import AT_IO, Held, held

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="dispatch is for x86-64")

BASH = """#!/bin/bash
exec 7>>{log}.$EPOCHREALTIME  # a redirection of echo would save descriptor 1 elsewhere: a use of the client
table=(zero one two three)
double() {{ echo $(( $1 * 2 )); }}
while read -r number; do
    echo "${{table[number]}} $(double "$number") $(/bin/echo external)"
done
"""

PERL = """use strict; use POSIX; use IO::Socket;
use Time::HiRes 'time';
BEGIN {{ open(my $log, '>>', '{log}.' . time()); print $log "loaded"; close $log; }}
my @table = qw(zero one two three);
$| = 1;
while (my $number = <STDIN>) {{
    chomp $number;
    print "$table[$number] ", POSIX::floor($number * 2.5 - $number / 2), " ", `/bin/echo external`;
}}
"""

PYTHON = """import json, re, socket, subprocess, sys, time
with open(f'{log}.{{time.time()}}', 'a') as log:
    log.write('loaded')
table = json.loads('["zero", "one", "two", "three"]')
pattern = re.compile(r'(\\d+)')
for line in sys.stdin:
    number = int(pattern.match(line)[1])
    peer = socket.socket(fileno=0).detach() and 0
    external = subprocess.run(['/bin/echo', 'external'], capture_output=True, text=True).stdout
    print(table[number], number * 2, external, end='', flush=True)
"""

DASH = """exec 7>>{log}.$$  # in all children, $$ is what it was when the shell started
while read -r number; do
    case $number in 1) word=one;; 2) word=two;; *) word=many;; esac
    echo "$word $((number * 2)) $(/bin/echo external)"
done
"""


@pytest.fixture(params=["bash", "perl", "python3", "dash"])
def script(request: pytest.FixtureRequest, need: Callable[[str], str], folder: Path) -> tuple[list[str], Path]:
    """The command line, and the folder in which the script makes another file whenever it is loaded."""
    text = {"bash": BASH, "perl": PERL, "python3": PYTHON, "dash": DASH}[request.param]
    program = os.path.realpath(sys.executable) if request.param == "python3" else need(request.param)
    if request.param == "perl":
        need_modules(program, "POSIX", "IO::Socket", "Time::HiRes")
    logs, path = folder / "logs", folder / "script"
    logs.mkdir()
    path.write_text(text.format(log=logs / "loaded"))
    return [program, str(path)], logs


def test_is_loaded_once_and_answers_each(script: tuple[list[str], Path]) -> None:
    argv, logs = script
    with held(argv, ["PATH=/usr/bin:/bin"], snapshot="first_io") as zygote:
        assert zygote.ready().seq == AT_IO
        for _ in range(3):
            assert zygote.serve(b"1\n2\n") == (b"one 2 external\ntwo 4 external\n", 0)
    assert len(list(logs.iterdir())) == 1


def test_many_at_a_time(script: tuple[list[str], Path]) -> None:
    argv, logs = script
    with held(argv, ["PATH=/usr/bin:/bin"], snapshot="first_io") as zygote:
        zygote.ready()
        for _ in range(4):
            zygote.park()
        both = [zygote.open() for _ in range(4)] + [zygote.take() for _ in range(4)]
        for client, _ in both:
            client.sendall(b"1\n")
        for client, _ in both:
            assert client.recv(100) == b"one 2 external\n"
            client.sendall(b"2\n")
            client.shutdown(socket.SHUT_WR)
        for client, pid in both:
            with client:
                assert everything(client) == b"two 4 external\n"
            assert zygote.ended(pid) == 0
    assert len(list(logs.iterdir())) == 1


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_script_that_is_read_as_it_goes(shell: str, need: Callable[[str], str], folder: Path) -> None:
    """Longer than the shell's buffer, with programs in between: the children's positions are their own."""
    path = folder / "script"
    lines = ["read -r word"]
    for number in range(400):
        lines += [f"# {'x' * 100}", f'echo "$word {number}"']
        if number % 40 == 0:
            lines += ["/bin/true", "x=$(/bin/echo from outside)", "read -r word"]
    path.write_text("\n".join(lines) + "\n")
    with held([need(shell), str(path)], ["PATH=/usr/bin:/bin"], snapshot="first_io") as zygote:
        assert zygote.ready().seq == AT_IO
        clients = [zygote.open() for _ in range(5)]
        for client, _ in clients:
            client.sendall(b"word\n")
        expected = b""
        for number in range(400):
            expected += b"word %d\n" % number
            if number % 40 == 0:
                for client, _ in clients:
                    client.sendall(b"word\n")
        for client, pid in clients:
            with client:
                assert everything(client) == expected
            assert zygote.ended(pid) == 0


SCRATCH = {
    "perl": """open my $scratch, '+>', undef or die; my $file = select($scratch); $| = 1; select($file);
        my $line = <STDIN>; print $scratch $line; seek $scratch, 0, 0; print <$scratch>;""",
    "python3": """import sys, tempfile
scratch = tempfile.TemporaryFile('w+')
scratch.write(sys.stdin.readline())
scratch.seek(0)
print(scratch.read(), end='')""",
    "folder": """import os, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    line = sys.stdin.readline()
    with open(folder + '/lines', 'a+') as scratch:
        scratch.write(line)
        scratch.seek(0)
        print(scratch.read(), end='')""",
}


@pytest.mark.parametrize("kind", SCRATCH)
def test_a_temporary_file_is_each_servers_own(kind: str, need: Callable[[str], str], folder: Path) -> None:
    """It is made before the program reads; nobody finds there what another client has said."""
    path = folder / "script"
    path.write_text(SCRATCH[kind])
    argv = [need("perl") if kind == "perl" else os.path.realpath(sys.executable), str(path)]
    with held(argv, ["PATH=/usr/bin:/bin", f"TMPDIR={folder}"], snapshot="first_io") as zygote:
        zygote.ready()
        for line in (b"a long line of the first client\n", b"another\n", b"last\n"):
            assert zygote.serve(line) == (line, 0)


def test_perl_reads_its_data(need: Callable[[str], str], folder: Path) -> None:
    """__DATA__ is read from the script itself, by each child from where the parser stopped."""
    path = folder / "script"
    text = "".join(f"line {number} of the data\n" for number in range(3000))
    path.write_text("$| = 1; my $x = <STDIN>; print $_ while <DATA>;\n__DATA__\n" + text)
    with held([need("perl"), str(path)], snapshot="first_io") as zygote:
        zygote.ready()
        clients = [zygote.open() for _ in range(4)]
        for client, _ in clients:
            client.sendall(b"go\n")
        for client, pid in clients:
            with client:
                assert everything(client) == text.encode()
            assert zygote.ended(pid) == 0


def test_python_threads_and_processes_work_in_the_child(folder: Path) -> None:
    path = folder / "script"
    path.write_text(
        "import os, signal, sys, threading, selectors\n"
        "selector = selectors.DefaultSelector()\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('term', flush=True))\n"
        "sys.stdin.readline()\n"
        "found = []\n"
        "thread = threading.Thread(target=lambda: found.append(threading.get_native_id() != os.getpid()))\n"
        "thread.start(), thread.join()\n"
        "selector.register(0, selectors.EVENT_READ)\n"
        "print(found, os.getpid() == os.getsid(0), len(selector.select(20)), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)\n"
        "os.abort()\n"
    )
    with held([os.path.realpath(sys.executable), str(path)], snapshot="first_io") as zygote:
        assert zygote.ready().seq == AT_IO
        for _ in range(2):
            said, status = zygote.serve(b"go\n")
            assert said == b"[True] True 1\nterm\n7\n"
            assert os.WTERMSIG(status) == 6


def test_a_program_that_never_uses_its_client_ends_by_itself(need: Callable[[str], str]) -> None:
    zygote = Held([need("perl"), "-e", "exit 3"], snapshot="first_io")
    assert zygote.hear() is None
    assert os.waitstatus_to_exitcode(zygote.close()) == 3
