"""The command's executable file: a process of its own name that does what `python -m fastinetd` does."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.clients import Held, ask, free_port
from support.daemon import COMMAND, Launch, environment
from support.proc import below, descriptors, listens, process, title, wait_for
from support.texts import defaults, entry

MODULE = (sys.executable, "-E", "-P", "-m", "fastinetd")
PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
LEAST = {"s": 256, "d": 32 * 1024, "v": 128 * 1024, "n": 16}
"""What the command asks for, by the letter of `ulimit`."""


def run(*argv: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    given: dict[str, Any] = {"env": environment(), "cwd": "/", **more}
    return subprocess.run(argv, capture_output=True, check=False, timeout=60, **given)


def executable_file(pid: int) -> str:
    return str(Path(f"/proc/{pid}/exe").readlink())


def signals(pid: int) -> list[str]:
    """The masks of /proc/PID/status: which are blocked, ignored and caught."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [line for line in lines if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]


def test_the_daemons_executable_file(launch: Launch) -> None:
    """Of all its processes, and of nobody else's: a server's is its program. Into roles without privileges only root
    may look."""
    daemon = launch(defaults() + entry("cat", port := free_port(), "/bin/cat"), metrics=True)
    with Held(port) as client:
        assert client.admitted
        pids = [daemon.pid, *below(daemon.pid)]
        if os.geteuid():
            pids = [pid for pid in pids if title(pid) != "fastinetd: monitor"]
        files = sorted(executable_file(pid) for pid in pids)
    assert files == sorted([os.path.realpath("/bin/cat")] + [os.path.realpath(COMMAND)] * (len(files) - 1))


@pytest.mark.parametrize("arguments", [
    ["-version"], ["--help"], ["--nothing"], ["-f"], ["stray"], ["-f", "/nowhere", "--check"],
    ["-f", "/tmp/\udcff\u00fc", "--check"], ["-f", "/nowhere", "-dontfork"], ["--metrics", "x", "--check"],
])  # fmt: skip
@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"LANG": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}],
                         ids=["own", "LC_ALL=C", "LANG=C", "no UTF-8"])  # fmt: skip
def test_the_same_as_the_module(arguments: list[str], locale: dict[str, str]) -> None:
    """Status and every byte of output."""
    env = {name: value for name, value in environment().items() if not name.startswith(("LC_", "LANG"))} | locale
    ours, modules = (run(*command, *arguments, env=env) for command in ([COMMAND], MODULE))
    assert (ours.returncode, ours.stdout, ours.stderr) == (modules.returncode, modules.stdout, modules.stderr)


def test_the_same_process(launch: Launch) -> None:
    """Signals that are blocked, ignored and caught, and descriptors."""
    found = []
    for command in ((COMMAND,), MODULE):
        daemon = launch(defaults() + entry("cat", free_port(), "/bin/cat"), command=command)
        kinds = sorted(to.split(":")[0].replace(daemon.conf.stem, "") for to in descriptors(daemon.pid).values())
        found.append((signals(daemon.pid), kinds))
    assert found[0] == found[1]


def test_variables_of_python_are_for_servers(launch: Launch, folder: Path) -> None:
    """What starts the daemon does not say which modules root runs; the folder it is started in does not, either."""
    for name in ("sitecustomize", "usercustomize", "argparse", "fastinetd", "encodings"):
        (folder / f"{name}.py").write_text(f"open({str(folder / 'ran')!r}, 'a').write({name!r})\n")
    env = {"PYTHONPATH": str(folder), "PYTHONHOME": str(folder), "PYTHONINSPECT": "1", "PYTHONSTARTUP": "/nowhere",
           "PYTHONVERBOSE": "2", "PYTHONSAFEPATH": ""}  # fmt: skip
    port = free_port()
    daemon = launch(defaults() + entry("env", port, "/usr/bin/env"), env=env, cwd=folder)
    told = ask(port).decode().splitlines()
    assert [f"{name}={value}" for name, value in env.items()] == [each for each in told if each.startswith("PYTHON")
                                                                  and each.partition("=")[0] in env]  # fmt: skip
    assert not (folder / "ran").exists()
    assert "import " not in daemon.said()


@pytest.mark.parametrize("letter", LEAST)
def test_limits_that_end_an_interpreter(letter: str, need: Callable[[str], str]) -> None:
    """Told in one line, with what to allow; at what is asked for, Python does start."""
    where = f"ulimit -{letter}, Limit"
    for value in (LEAST[letter] // 2, LEAST[letter] - 1):
        done = run(need("bash"), "-c", f'ulimit -{letter} {value} && exec "$0" -version', COMMAND)
        (said,) = done.stderr.decode().splitlines()
        assert (done.returncode, done.stdout) == (1, b"")
        assert said.startswith("fastinetd: ") and where in said and f"allow at least {LEAST[letter]}" in said
    done = run(need("bash"), "-c", f'ulimit -{letter} {LEAST[letter]} && exec "$0" -version', COMMAND)
    assert (done.returncode, done.stderr) == (0, b"")


def test_set_uid_is_refused(root: None, folder: Path, need: Callable[[str], str]) -> None:
    if os.statvfs(folder).f_flag & os.ST_NOSUID:
        pytest.skip(f"{folder} is mounted nosuid")
    copied = Path(shutil.copy(COMMAND, folder / "fastinetd"))
    for mode in (stat.S_ISUID, stat.S_ISGID):
        copied.chmod(0o755 | mode)
        done = run(need("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", str(copied), "-version")
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"set-uid" in done.stderr


def environment_without_library(folder: Path) -> Path:
    """A virtual environment whose interpreter has no shared library beside it; returns its command."""
    (folder / "env/bin").mkdir(parents=True)
    (folder / "env/pyvenv.cfg").touch()
    interpreter = folder / "env/bin" / PYTHON
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    return Path(shutil.copy(COMMAND, folder / "env/bin/fastinetd"))


@pytest.mark.parametrize("name", ["fastinetd", "xinetd"])
def test_without_a_library_of_python(launch: Launch, folder: Path, name: str) -> None:
    """The interpreter is executed: the kernel's name is what it was; that the file is not is told."""
    (folder / "sbin").mkdir()
    link = folder / "sbin" / name
    link.symlink_to(environment_without_library(folder))
    port = free_port()
    text = defaults() + entry("env", port, "/usr/bin/env")
    daemon = launch(text, env={"PYTHONINSPECT": "1"}, command=[str(link)])
    wait_for(lambda: (each := process(daemon.pid)) is not None and each.name == name, lambda: process(daemon.pid))
    assert "the executable file of the process is" in daemon.said()
    assert "PYTHONINSPECT=1" in ask(port).decode().splitlines()
    checked = run(str(link), "-f", str(daemon.conf), "--check")
    assert checked.returncode == 0 and b"start-stop-daemon --exec" in checked.stdout
    assert run(str(link), "-version").stdout == run(COMMAND, "-version").stdout


def test_without_an_interpreter(folder: Path) -> None:
    """One line that says which was looked for."""
    command = environment_without_library(folder)
    (folder / "env/bin" / PYTHON).write_text("#!/nowhere/sh\n")
    done = run(str(command), "-version")
    assert (done.returncode, done.stdout) == (1, b"")
    (said,) = done.stderr.decode().splitlines()
    assert said.startswith(f"fastinetd: cannot execute {folder}/env/bin/{PYTHON}: No such file or directory")
    assert "install fastinetd again" in said


@pytest.mark.parametrize("how", ["absolute", "relative", "link", "path"])
def test_without_proc(root: None, folder: Path, need: Callable[[str], str], how: str) -> None:
    """The interpreter of the virtual environment is found, so it says what lacks, and not that it has no fastinetd."""
    (folder / "sbin").mkdir()
    (folder / "sbin/xinetd").symlink_to(COMMAND)
    start = {
        "absolute": COMMAND, "relative": f"../..{COMMAND}", "link": f"{folder}/sbin/xinetd", "path": "xinetd",
    }[how]  # fmt: skip
    script = 'mount -t tmpfs none /proc && cd /usr/bin && PATH=$2:$PATH && exec "$1" $3'
    hidden = [need("unshare"), "--mount", "--propagation", "private", "sh", "-c", script, "sh", start, f"{folder}/sbin"]
    done = run(*hidden, "-version")
    assert (done.returncode, done.stdout) == (0, run(COMMAND, "-version").stdout), done.stderr
    done = run(*hidden, "--demo")
    assert done.returncode == 1
    assert b"there is no /proc" in done.stderr and b"mount -t proc proc /proc" in done.stderr


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_standard_descriptors_that_are_closed(closed: Sequence[int], folder: Path, need: Callable[[str], str]) -> None:
    """Nothing of the interpreter's files takes their place."""
    conf = folder / "x.conf"
    conf.write_text(defaults() + entry("ls", port := free_port(), need("ls"), "-l /proc/self/fd"))
    closing = " ".join(f"{each}>&-" for each in closed)
    argv = [need("sh"), "-c", f'exec "$@" {closing}', "sh", COMMAND, "-dontfork", "-f", str(conf),
            "-pidfile", str(folder / "pid")]  # fmt: skip
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          env=environment()) as daemon:  # fmt: skip
        try:
            wait_for(lambda: listens(port), "it serves", 60)
            assert {fd: to for fd, to in descriptors(daemon.pid).items() if fd in closed} == dict.fromkeys(
                closed, "/dev/null"
            )
            assert ask(port).count(b" -> socket:") == 3
        finally:
            daemon.terminate()
