"""Real programs with their real clients: each is started by `form`, asked by several clients, and must serve them."""

from __future__ import annotations

import filecmp
import inspect
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from support.clients import ask, connect, crowd, free_port, read_line
from support.daemon import Daemon, environment
from support.texts import ME, Service

Form = Callable[..., Daemon]
Need = Callable[[str], str]

PATIENCE = 60.0


def run(*command: object, cwd: Path | None = None, **env: str) -> str:
    """Run a client, which must succeed; returns its standard output."""
    done = subprocess.run(
        [str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
        check=False, cwd=cwd, env=environment(env),
    )  # fmt: skip
    assert done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
    return done.stdout


def serve(program: Callable[..., None], form: Form, need: Need, folder: Path) -> None:
    """Try one of the programs of this file, with those of the fixtures that its function asks for."""
    given = {"form": form, "need": need, "folder": folder}
    names = inspect.signature(program).parameters
    program(**{name: value for name, value in given.items() if name in names})


def cat(form: Form) -> None:
    port = free_port()
    daemon = form(Service("cat", port, "/bin/cat"), metrics=True)
    assert crowd(lambda i: ask(port, b"line %d\n" % i), 20, 5) == [b"line %d\n" % i for i in range(20)]
    daemon.await_metric("fastinetd_child_exits_total", 20, status="success")


def rsync(form: Form, need: Need, folder: Path) -> None:
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


def git_clone(form: Form, need: Need, folder: Path, args: str = "daemon ") -> None:
    """`git daemon`, or the program that this starts."""
    git = need("git")
    own = {"HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    author = ["-c", "user.name=tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false"]
    (folder / "tree").mkdir()
    (folder / "tree" / "file").write_text("content\n" * 5000)
    run(git, "init", "-q", "tree", cwd=folder, **own)
    run(git, "-C", "tree", "add", "file", cwd=folder, **own)
    run(git, "-C", "tree", *author, "commit", "-q", "-m", "first", cwd=folder, **own)
    port, server = free_port(), git if args else need("git-daemon")
    args += f"--inetd --export-all --base-path={folder} {folder}"
    form(Service("git", port, server, args), env={"HOME": str(folder)})
    head = run(git, "-C", "tree", "rev-parse", "HEAD", cwd=folder, **own)

    def clone(i: int) -> bool:
        run(git, "clone", "-q", f"git://127.0.0.1:{port}/tree/.git", f"cloned{i}", cwd=folder, **own)
        same = (folder / f"cloned{i}" / "file").read_text() == (folder / "tree" / "file").read_text()
        return same and run(git, "-C", f"cloned{i}", "rev-parse", "HEAD", cwd=folder, **own) == head

    assert crowd(clone, 4, 2) == [True] * 4


def vsftpd(form: Form, need: Need, folder: Path) -> None:
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

    def fetch(i: int) -> bool:
        run(curl, "-sS", "-m", "30", "-o", folder / f"got{i}", f"ftp://127.0.0.1:{port}/file")
        same = (folder / f"got{i}").read_bytes() == content
        return same and "file" in run(curl, "-sS", "-m", "30", "-l", f"ftp://127.0.0.1:{port}/")

    assert crowd(fetch, 4, 2) == [True] * 4


@contextmanager
def folder_of_sshd() -> Iterator[None]:
    """The folder that Debian's sshd wants to find empty."""
    path = Path("/run/sshd")
    made = not path.is_dir()
    if made:
        path.mkdir(mode=0o755)
    yield
    if made:
        path.rmdir()


def sshd(form: Form, need: Need, folder: Path) -> None:
    server, ssh, keygen = need("sshd"), need("ssh"), need("ssh-keygen")
    for name in ("host", "own"):
        run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    conf = folder / "sshd_config"
    conf.write_text(
        f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/own.pub\nStrictModes no\nPidFile none\nUsePAM no\n"
        "PermitRootLogin prohibit-password\nUseDNS no\n"
    )
    port = free_port()

    def log_in(_: int) -> None:
        said = run(
            ssh, "-q", "-F", "none", "-i", folder / "own", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes",
            "-o", f"UserKnownHostsFile={folder}/known", "-p", port, f"{ME}@127.0.0.1", 'id -un; echo "$SSH_CONNECTION"',
        ).split()  # fmt: skip
        assert said[0] == ME
        assert said[1] == said[3] == "127.0.0.1"
        assert said[4] == str(port)

    with folder_of_sshd():
        form(Service("ssh", port, server, f"-i -f {conf}", user="root"))
        crowd(log_in, 4, 2)


def ident(form: Form, need: Need) -> None:
    """The daemon of RFC 1413 tells whose the other end of a connection is."""
    server, port = need("ident2"), free_port()
    form(Service("auth", port, server, "-a -s", user="root"))

    def who(_: int) -> None:
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

    crowd(who, 6, 3)


def fingerd(form: Form, need: Need) -> None:
    """The client knows no other port than 79, so the daemon has an address that nobody else is likely to use."""
    server, finger = need("in.fingerd"), need("finger")
    high, low = divmod(os.getpid() % 65000, 250)
    host = f"127.79.{high % 250}.{low + 1}"
    form(Service("finger", 79, server, user="nobody", address=host))
    for said in crowd(lambda _: run(finger, f"root@{host}"), 6, 3):
        assert "Login: root" in said


def micro_httpd(form: Form, need: Need, folder: Path, unix: bool = False) -> None:
    fetches_pages(form, need, folder, need("micro-httpd"), "{pages}", unix)


def busybox_httpd(form: Form, need: Need, folder: Path, unix: bool = False) -> None:
    """A program of many names."""
    fetches_pages(form, need, folder, need("busybox"), "httpd -i -h {pages}", unix)


def fetches_pages(form: Form, need: Need, folder: Path, server: str, args: str, unix: bool) -> None:
    curl, pages = need("curl"), folder / "pages"
    pages.mkdir()
    (pages / "index.html").write_text("hello http\n")
    place: int | str = f"{folder}/http.sock" if unix else free_port()
    user = "nobody" if os.geteuid() == 0 else ME
    form(Service("http", place, server, args.format(pages=pages), user=user))
    if unix:
        where = ["--unix-socket", place, "http://localhost/index.html"]
    else:
        where = [f"http://127.0.0.1:{place}/index.html"]
    said = crowd(lambda _: run(curl, "-sS", "-f", "--noproxy", "*", "-m", "30", *where), 6, 3)
    assert said == ["hello http\n"] * 6


SCRIPT = """#!{python} -IS
import os, sys
print("who?", flush=True)
name = sys.stdin.readline().strip()
print("hello", name, *sys.argv[1:], os.environ["REMOTE_HOST"], flush=True)
"""


def python_script(form: Form, folder: Path) -> None:
    greeter(form, folder, SCRIPT.format(python=os.path.realpath(sys.executable)))


def greeter(form: Form, folder: Path, text: str) -> None:
    """A script that asks for a name, and greets it with its own arguments and the client's address."""
    script = folder / "greeter"
    script.write_text(text)
    script.chmod(0o755)
    port = free_port()
    form(Service("greeter", port, script, "one two"))

    def meet(i: int) -> None:
        with connect(port, source=f"127.0.0.{i + 7}") as s:
            assert read_line(s) == b"who?\n"
            s.sendall(b"world %d\n" % i)
            assert read_line(s) == b"hello world %d one two 127.0.0.%d\n" % (i, i + 7)
            assert s.recv(1) == b""

    crowd(meet, 9, 3)


OF_ANYBODY: dict[str, Callable[..., None]] = {
    "cat": cat, "rsync": rsync, "git": git_clone, "micro-httpd": micro_httpd,
    "micro-httpd-unix": partial(micro_httpd, unix=True), "busybox": busybox_httpd,
}  # fmt: skip
AS_ROOT: dict[str, Callable[..., None]] = {"vsftpd": vsftpd, "sshd": sshd, "ident": ident, "fingerd": fingerd}
