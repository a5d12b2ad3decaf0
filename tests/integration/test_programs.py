"""Real programs with their real clients, each from an xinetd entry and from an inetd.conf line."""

from __future__ import annotations

import filecmp
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.clients import ask, connect, crowd, free_port, read_line
from support.daemon import Daemon, environment
from support.texts import ME, Service

Form = Callable[..., Daemon]
Need = Callable[[str], str]

PATIENCE = 60.0


def run(*command: object, cwd: Path | None = None, **env: str) -> str:
    """Standard output of a client that must succeed."""
    done = subprocess.run(
        [str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
        check=False, cwd=cwd, env=environment(env),
    )  # fmt: skip
    assert done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
    return done.stdout


def test_cat(form: Form) -> None:
    port = free_port()
    daemon = form(Service("cat", port, "/bin/cat"), metrics=True)
    assert crowd(lambda i: ask(port, b"line %d\n" % i), 20, 5) == [b"line %d\n" % i for i in range(20)]
    daemon.await_metric("fastinetd_child_exits_total", 20, status="success")


def test_rsync(form: Form, need: Need, folder: Path) -> None:
    program = need("rsync")
    tree = folder / "tree" / "deeper"
    tree.mkdir(parents=True)
    for i in range(12):
        (tree / f"file{i}").write_bytes(os.urandom(7_001 * i))
    conf = folder / "rsyncd.conf"
    conf.write_text(f"use chroot = no\nlog file = /dev/null\n[tree]\n    path = {folder}/tree\n    read only = yes\n")
    port = free_port()
    form(Service("rsync", port, program, f"--daemon --config={conf}"))
    assert "tree" in run(program, f"rsync://127.0.0.1:{port}/")

    def copy(i: int) -> list[str]:
        run(program, "-a", f"rsync://127.0.0.1:{port}/tree/", folder / f"copy{i}")
        same = filecmp.dircmp(tree, folder / f"copy{i}" / "deeper")
        assert len(same.same_files) == 12
        return [*same.left_only, *same.right_only, *same.diff_files]

    assert crowd(copy, 4, 4) == [[]] * 4


def test_git_clone(form: Form, need: Need, folder: Path) -> None:
    git = need("git")
    own = {"HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    author = ["-c", "user.name=tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false"]
    (folder / "tree").mkdir()
    (folder / "tree" / "file").write_text("content\n" * 5000)
    run(git, "init", "-q", "tree", cwd=folder, **own)
    run(git, "-C", "tree", "add", "file", cwd=folder, **own)
    run(git, "-C", "tree", *author, "commit", "-q", "-m", "first", cwd=folder, **own)
    port = free_port()
    args = f"daemon --inetd --export-all --base-path={folder} {folder}"
    form(Service("git", port, git, args), env={"HOME": str(folder)})
    run(git, "clone", "-q", f"git://127.0.0.1:{port}/tree/.git", "cloned", cwd=folder, **own)
    assert (folder / "cloned" / "file").read_text() == (folder / "tree" / "file").read_text()
    heads = [run(git, "-C", name, "rev-parse", "HEAD", cwd=folder, **own) for name in ("tree", "cloned")]
    assert heads[0] == heads[1]


@pytest.mark.usefixtures("root")
def test_vsftpd(form: Form, need: Need, folder: Path) -> None:
    server, curl = need("vsftpd"), need("curl")
    public, empty = folder / "ftp", folder / "empty"
    public.mkdir()
    empty.mkdir()
    content = os.urandom(300_000)
    (public / "file").write_bytes(content)
    conf = folder / "vsftpd.conf"
    conf.write_text(
        "listen=NO\nlisten_ipv6=NO\nanonymous_enable=YES\nno_anon_password=YES\nlocal_enable=NO\nwrite_enable=NO\n"
        f"anon_root={public}\nsecure_chroot_dir={empty}\npasv_address=127.0.0.1\nseccomp_sandbox=NO\n"
    )
    port = free_port()
    form(Service("ftp", port, server, str(conf), user="root"))
    run(curl, "-sS", "-m", "30", "-o", folder / "got", f"ftp://127.0.0.1:{port}/file")
    assert (folder / "got").read_bytes() == content
    assert "file" in run(curl, "-sS", "-m", "30", "-l", f"ftp://127.0.0.1:{port}/")


@pytest.fixture
def run_sshd() -> Iterator[None]:
    """The folder that Debian's sshd wants to find empty."""
    path = Path("/run/sshd")
    made = not path.is_dir()
    if made:
        path.mkdir(mode=0o755)
    yield
    if made:
        path.rmdir()


@pytest.mark.usefixtures("root", "run_sshd")
def test_sshd(form: Form, need: Need, folder: Path) -> None:
    server, ssh, keygen = need("sshd"), need("ssh"), need("ssh-keygen")
    for name in ("host", "own"):
        run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    conf = folder / "sshd_config"
    conf.write_text(
        f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/own.pub\nStrictModes no\nPidFile none\nUsePAM no\n"
        "PermitRootLogin prohibit-password\nUseDNS no\n"
    )
    port = free_port()
    form(Service("ssh", port, server, f"-i -f {conf}", user="root"))
    said = run(
        ssh, "-q", "-F", "none", "-i", folder / "own", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes",
        "-o", f"UserKnownHostsFile={folder}/known", "-p", port, f"{ME}@127.0.0.1", 'id -un; echo "$SSH_CONNECTION"',
    ).split()  # fmt: skip
    assert said[0] == ME
    assert said[1] == said[3] == "127.0.0.1"
    assert said[4] == str(port)


@pytest.mark.usefixtures("root")
def test_ident(form: Form, need: Need) -> None:
    """The daemon of RFC 1413 tells whose the other end of a connection is."""
    server, port = need("ident2"), free_port()
    form(Service("auth", port, server, "-a -s", user="root"))
    with socket.create_server(("127.0.0.1", 0)) as listener, connect(listener.getsockname()[1]) as client:
        ours, theirs = client.getsockname()[1], listener.getsockname()[1]
        answer = b""
        with connect(port) as s:
            s.sendall(f"{ours},{theirs}\r\n".encode())
            answer = read_line(s)
    words = [word.strip() for word in answer.decode().split(":")]
    assert words[0].replace(" ", "") == f"{ours},{theirs}"
    assert words[1] in ("USERID", "ERROR"), answer
    assert words[-1] in (ME, "NO-USER", "HIDDEN-USER"), answer


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_micro_httpd(form: Form, need: Need, folder: Path, unix: bool) -> None:
    server, curl = need("micro-httpd"), need("curl")
    pages = folder / "pages"
    pages.mkdir()
    (pages / "index.html").write_text("hello http\n")
    place: int | str = f"{folder}/http.sock" if unix else free_port()
    user = "nobody" if os.geteuid() == 0 else ME
    form(Service("http", place, server, str(pages), user=user))
    if unix:
        where = ["--unix-socket", place, "http://localhost/index.html"]
    else:
        where = [f"http://127.0.0.1:{place}/index.html"]
    for _ in range(5):
        assert run(curl, "-sS", "-f", "--noproxy", "*", "-m", "30", *where) == "hello http\n"


SCRIPT = """#!{python} -IS
import os, sys
print("who?", flush=True)
name = sys.stdin.readline().strip()
print("hello", name, *sys.argv[1:], os.environ["REMOTE_HOST"], flush=True)
"""


def test_python_script(form: Form, folder: Path) -> None:
    script = folder / "greeter"
    script.write_text(SCRIPT.format(python=sys.executable))
    script.chmod(0o755)
    port = free_port()
    form(Service("greeter", port, script, "one two"))
    with connect(port, source="127.0.0.7") as s:
        assert read_line(s) == b"who?\n"
        s.sendall(b"world\n")
        assert read_line(s) == b"hello world one two 127.0.0.7\n"
        assert s.recv(1) == b""


ACCEPTING = """#!{python} -IS
import os, socket
listener = socket.socket(fileno=0)
listener.settimeout({idle})
try:
    for n in range({clients}):
        client, _ = listener.accept()
        client.settimeout(20)
        client.sendall(b"%d %d\\n" % (os.getpid(), n))
        client.close()
except TimeoutError:
    pass
"""


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_accepting_server(form: Form, folder: Path, unix: bool) -> None:
    """stream wait: a server takes several clients; once it has left, the next client starts another."""
    script = folder / "accepting"
    script.write_text(ACCEPTING.format(python=sys.executable, idle=20, clients=3))
    script.chmod(0o755)
    place: int | str = f"{folder}/wait.sock" if unix else free_port()
    daemon = form(Service("wait", place, script, wait=True), metrics=True)
    answers = [ask(place).split() for _ in range(7)]
    assert [int(n) for _, n in answers] == [0, 1, 2, 0, 1, 2, 0]
    assert len({pid for pid, _ in answers}) == 3
    daemon.await_metric("fastinetd_datagram_activations_total", 3)
    assert daemon.metric("fastinetd_children") == 1


def test_a_service_of_each_kind_at_once(form: Form, folder: Path) -> None:
    """A nowait service, a wait service and a unix socket in one file do not disturb each other."""
    script = folder / "accepting"
    script.write_text(ACCEPTING.format(python=sys.executable, idle=0.2, clients=1000))
    script.chmod(0o755)
    cat, wait, unix = free_port(), free_port(), f"{folder}/cat.sock"
    form(Service("cat", cat, "/bin/cat"), Service("wait", wait, script, wait=True), Service("unix", unix, "/bin/cat"))
    for i in range(5):
        text = b"%d" % i
        assert ask(cat, text) == ask(unix, text) == text
        assert len(ask(wait).split()) == 2
