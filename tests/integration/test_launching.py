"""The way into the background, as whoever starts the daemon sees it: what comes back, and what is left of the launcher
in the daemon's processes and its servers'."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from support.clients import Held, ask, free_port
from support.daemon import environment
from support.intruder import tries
from support.proc import adopt_orphans, below, descriptors, listeners, process, reap, title, wait_for
from support.texts import defaults, entry

PYTHON = (sys.executable, "-m", "fastinetd")
HANDLER = """def echo(connection, peer):
    while data := connection.recv(100):
        connection.sendall(data)
"""
PYTHONS_OWN = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
"""What an interpreter ignores by itself, as a mask of /proc/PID/status."""
SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGALRM,
           signal.SIGIO, signal.SIGRTMIN}  # fmt: skip


class Start(Protocol):
    def __call__(self, conf: str, *options: str, command: Sequence[str] = PYTHON, **more: Any) -> Started: ...


class Started:
    """What the command said, and the daemon it has left."""

    def __init__(self, done: subprocess.CompletedProcess[str], pidfile: Path) -> None:
        self.status, self.output, self.errors = done.returncode, done.stdout, done.stderr
        self.pid = int(pidfile.read_text()) if pidfile.exists() else 0

    @property
    def running(self) -> bool:
        reap(self.pid)
        return (each := process(self.pid)) is not None and each.alive

    def send(self, number: int) -> None:
        """A signal to the supervisor, and never to the test's own process group."""
        assert self.pid, self.errors
        os.kill(self.pid, number)

    def family(self) -> dict[int, str]:
        """Its processes and their servers, by title."""
        return {pid: title(pid) for pid in (self.pid, *below(self.pid))}


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start daemons in the background; they are ended with the test."""
    adopt_orphans()
    started = []

    def run(conf: str, *options: str, command: Sequence[str] = PYTHON, **more: Any) -> Started:
        text, pidfile = folder / "daemon.conf", folder / "daemon.pid"
        text.write_text(conf)
        argv = [*command, "-f", str(text), "-pidfile", str(pidfile), "-filelog", str(folder / "log"), *options]
        more = {"env": environment(), "cwd": folder, **more}
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, **more)
        started.append(Started(done, pidfile))
        return started[-1]

    yield run
    for daemon in started:
        if daemon.pid and daemon.running:
            family = list(daemon.family())
            os.kill(daemon.pid, signal.SIGTERM)
            wait_for(lambda daemon=daemon: not daemon.running, "it ends on SIGTERM")  # type: ignore[misc]
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                reap(pid)


def fields(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    with suppress(OSError):
        return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {}


def all_pass(pid: int) -> dict[str, str]:
    """/proc/PID/status of a process that blocks no signal, as each does that starts another one just now."""
    status = fields(pid)
    return {} if int(status.get("SigBlk", "0"), 16) else status


def working_directory(pid: int) -> str:
    """Taken for / where it cannot be seen: held programs and parked children are closed to an ordinary user, though
    they are his own."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")  # noqa: PTH115
    except PermissionError:
        if os.geteuid() == 0:
            raise
        return "/"


def terminal(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4])


def everything(folder: Path, ports: list[int]) -> str:
    """One service of each kind of process."""
    (folder / "handlers.py").write_text(HANDLER)
    kinds = {"spawn": "zygote"}, {"spawn": "prefork", "min_spare": "1"}
    text = entry("cat", ports[0], "/bin/cat", only_from="localhost 127.0.0.1")
    for number, more in enumerate(kinds, 1):
        text += entry(f"cat{number}", ports[number], "/bin/cat", allow_shared_layout="yes", **more)
    text += entry("worker", ports[3], "-", spawn="worker", handler="handlers:echo", min_spare="1",
                  env=f"PYTHONPATH={folder}").replace("    server = -\n", "")
    text += entry("wait", ports[4], "/bin/sleep", "60", wait="yes")
    text += (f"service echo\n{{\n type = INTERNAL UNLISTED\n port = {ports[5]}\n socket_type = stream\n wait = no\n"
             " bind = 127.0.0.1\n}\n")
    return defaults() + text


def test_nothing_of_the_launcher_is_left(start: Start, folder: Path) -> None:
    """Not its descriptors, folder, session, terminal, ignored and blocked signals, nor its out-of-memory score: in the
    supervisor, in roles, held programs, parked children, workers and servers."""
    ports = [free_port() for _ in range(6)]
    metrics = f"127.0.0.1:{free_port()}"
    reader, writer = os.pipe()
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    left = {str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in (writer, lock)}

    def as_a_launcher() -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS | {signal.SIGTERM})
        Path("/proc/self/oom_score_adj").write_text("321")

    daemon = start(everything(folder, ports), "--metrics", metrics, pass_fds=(writer, lock), preexec_fn=as_a_launcher,
                   stdin=writer)  # fmt: skip
    os.close(writer)
    assert (daemon.status, daemon.output) == (0, "")
    assert os.read(reader, 1) == b"", "somebody still has the launcher's pipe"
    with ExitStack() as stack:
        clients = [stack.enter_context(Held(port)) for port in ports[:4]]
        assert [client.admitted for client in clients] == [True] * 4, (folder / "log").read_text()
        stack.enter_context(socket.create_connection(("127.0.0.1", ports[4])))
        family = wait_for(lambda: found if len(found := daemon.family()) >= 14 else {}, daemon.family)
        for pid, name in family.items():
            assert not set(descriptors(pid).values()) & left, name
            assert not [to for fd, to in descriptors(pid).items() if fd > 2 and str(folder) in to
                        and pid != daemon.pid], name  # fmt: skip
            assert working_directory(pid) == "/", name
            assert (each := process(pid)) is not None and each.session != os.getsid(0), name
            assert terminal(pid) == 0, name
            assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "0\n", name
            status = wait_for(lambda pid=pid: all_pass(pid), name)  # type: ignore[misc]
            if pid != daemon.pid:
                assert int(status["SigIgn"], 16) & ~PYTHONS_OWN == 0, name
    os.close(reader)
    os.close(lock)
    assert "Traceback" not in daemon.errors


@pytest.mark.parametrize(
    "line", ['"$@" | cat', 'test -z "$("$@" 2>/dev/null)"', '"$@" 2>&1 | cat >&2; exec 2>&-; cat </dev/null']
)
def test_a_launcher_that_waits_for_the_end_of_its_output(start: Start, line: str) -> None:
    """A pipe and a command substitution end as soon as the daemon serves."""
    port = free_port()
    daemon = start(defaults() + entry("cat", port, "/bin/cat"), command=["sh", "-c", line, "sh", *PYTHON])
    assert daemon.status == 0
    assert ask(port, b"x") == b"x"
    assert daemon.running


@pytest.mark.parametrize("environ", [{"INVOCATION_ID": "0", "JOURNAL_STREAM": "8:1"}, {"container": "podman"}])
def test_the_command_returns_where_xinetd_does(start: Start, environ: dict[str, str]) -> None:
    """A unit of Type=forking, and an image that starts the daemon and then its main program."""
    port = free_port()
    daemon = start(defaults() + entry("cat", port, "/bin/cat"), env=environment(environ))
    assert daemon.status == 0 and daemon.running
    assert ask(port, b"x") == b"x"


def test_errors_of_the_start_reach_the_launcher(start: Start) -> None:
    """Those that are found after the daemon has left its terminal, too."""
    port = free_port()
    text = defaults() + entry("cat", port, "/bin/cat")
    daemon = start(text)
    second = start(text)
    assert second.status == 1
    assert f"critical: another daemon, process {daemon.pid}, has the pid file" in second.errors
    refused = start(defaults(instances="many"), "-pidfile", "/dev/null/none")
    assert refused.status == 1
    assert "critical: cannot write the pid file" in refused.errors
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = start(text, "-pidfile", "/dev/null", "--metrics", where)
        assert f"critical: --metrics {where}: cannot listen" in refused.errors
    assert daemon.running


def test_usr2_reads_the_configuration_again(start: Start, folder: Path) -> None:
    """As HUP does: xinetd's soft and hard reconfiguration are one."""
    ports = [free_port(), free_port()]
    daemon = start(defaults() + entry("cat", ports[0], "/bin/cat"))
    for number, port in ((signal.SIGUSR2, ports[1]), (signal.SIGHUP, ports[0])):
        (folder / "daemon.conf").write_text(defaults() + entry("other", port, "/bin/cat"))
        daemon.send(number)
        wait_for(answers(port), f"{number.name}: port {port} answers")


def answers(port: int) -> Callable[[], bool]:
    def look() -> bool:
        with suppress(OSError):
            return ask(port, b"x") == b"x"
        return False

    return look


def test_no_ordinary_signal_ends_it(start: Start, folder: Path) -> None:
    """Neither the supervisor nor a role; each that means nothing is reported once, and the pid file stays."""
    port = free_port()
    daemon = start(defaults() + entry("cat", port, "/bin/cat"))
    meaningful = {"HUP", "INT", "QUIT", "TERM", "KILL", "STOP", "USR1", "USR2", "ABRT", "CHLD", "CONT"}
    faults = {"ILL", "TRAP", "BUS", "FPE", "SEGV", "SYS"}
    rest = [each for each in signal.Signals if each.name.removeprefix("SIG") not in meaningful | faults]
    roles = {pid: name for pid, name in daemon.family().items() if pid != daemon.pid}
    for _ in range(2):
        for number in (*rest, signal.SIGRTMIN + 3):
            daemon.send(number)
        for number in (*rest, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            for pid in roles:
                os.kill(pid, number)
    log = folder / "log"
    for name in ("SIGIO", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGPWR", "signal 37"):
        wait_for(lambda name=name: f"{name} has no meaning here" in log.read_text(), name)  # type: ignore[misc]
    assert ask(port, b"x") == b"x"
    wait_for(lambda: {pid: name for pid, name in daemon.family().items() if pid != daemon.pid} == roles, daemon.family)
    assert log.read_text().count("SIGIO has no meaning here") == 1
    assert (folder / "daemon.pid").exists()


def test_a_relative_log_is_where_the_daemon_was_started(start: Start, folder: Path) -> None:
    """After a reload, too; a warning says so."""
    place = folder / "started"
    place.mkdir()
    port, other = free_port(), free_port()
    text = defaults(log_type="FILE relative.log", log_on_success="PID")
    daemon = start(text + entry("cat", port, "/bin/cat"), cwd=place)
    assert f"'relative.log' is in the folder where the daemon is started, now {place}/relative.log" in daemon.errors
    assert ask(port, b"x") == b"x"
    log = place / "relative.log"
    wait_for(lambda: "START: cat" in log.read_text(), "the record of cat")
    log.rename(place / "rotated.log")
    (folder / "daemon.conf").write_text(text + entry("other", other, "/bin/cat"))
    daemon.send(signal.SIGHUP)
    wait_for(answers(other), "reloaded")
    wait_for(lambda: log.exists() and "START: other" in log.read_text(), "the record of other")


def test_a_log_on_standard_output_says_that_there_is_none(start: Start, folder: Path) -> None:
    start(defaults(log_type="FILE /dev/stdout", log_on_success="PID") + entry("cat", free_port(), "/bin/cat"))
    log = folder / "log"
    wait_for(lambda: "log file /dev/stdout is /dev/null, as it always is" in log.read_text(), log.read_text)


@pytest.mark.parametrize("name", ["fastinetd", "xinetd"])
def test_the_kernels_name(start: Start, folder: Path, name: str) -> None:
    """The supervisor has the name the command was started under, for killall and pidof; no other process has it."""
    command = folder / name
    command.write_text(f"#!{sys.executable}\nimport sys\nfrom fastinetd.cli.main import main\nsys.exit(main())\n")
    command.chmod(0o755)
    daemon = start(defaults() + entry("cat", free_port(), "/bin/cat"), command=[str(command)])
    wait_for(lambda: title(daemon.pid).startswith("fastinetd: supervisor"), lambda: title(daemon.pid))
    names = {pid: each.name for pid in daemon.family() if (each := process(pid)) is not None}
    assert [pid for pid, each in names.items() if each == name] == [daemon.pid], names


def test_a_closed_port_is_nobody_elses(root: None, start: Start, folder: Path) -> None:
    """over_rate = close: a local user cannot have the port, and the clients, meanwhile; then it listens again, beside
    the connections there are."""
    port = free_port()
    start(defaults() + entry("cat", port, "/bin/cat", cps="1 3", over_rate="close"))
    with Held(port) as client:
        assert client.admitted
        ask(port, b"x")
        wait_for(lambda: port not in listeners(), "it is closed")
        assert tries(port) == ""
        wait_for(lambda: port in listeners(), "it listens again")
        assert client.echoes()


@pytest.mark.parametrize("foreground", [False, True])
def test_interrupted(folder: Path, foreground: bool) -> None:
    """Control-C at a start that waits for its configuration: it is said, and nothing is left."""
    conf, pidfile = folder / "conf", folder / "pid"
    os.mkfifo(conf)
    options = ["-dontfork"] if foreground else []
    command = subprocess.Popen([*PYTHON, "-f", str(conf), "-pidfile", str(pidfile), *options], stderr=subprocess.PIPE,
                               text=True, env=environment(), cwd=folder)
    with conf.open("wb"):  # it reads
        command.send_signal(signal.SIGINT)
        errors = command.communicate()[1]
    assert command.returncode == (128 + signal.SIGINT if foreground else -signal.SIGINT)
    assert "Traceback" not in errors
    assert errors.endswith("fastinetd: critical: interrupted, the start is given up\n")
    assert [each.name for each in folder.iterdir()] == ["conf"]
