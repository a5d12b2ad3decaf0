"""What a stranger sends is read by relay, doorman and monitor alone: processes without privileges, in folders of their
own. Every other place that receives anything is named here, with whose words they are."""

import re
from pathlib import Path

import pytest

from support.sources import PACKAGE, sources_of

WITHOUT_PRIVILEGES = {"relay", "doorman", "monitor"}

RECEIVES = re.compile(
    r"\.(?:recv|recv_into|recvfrom|recvfrom_into|recvmsg|recvmsg_into|makefile|sock_recv)\("
    r"|\bos\.readv?\("
    r"|(?<![.\w])(?:recv|recvfrom|recvmsg|recvmmsg|splice|receive_\w+)\("
    r"|(?<![.\w])readv?\([\w.]+, "
)

ELSEWHERE = {
    "cli/background.py": "the daemon's, to its command",
    "cli/demo.py": "nobody's: a command for its user to try",
    "cli/pidfile.py": "a file of root's",
    "config/load.py": "files of root's",
    "core/questions.pyx": "the doorman's answers, of one size",
    "core/reception.pyx": "the supervisor's",
    "logs/standard_error.py": "workers' standard error: cut to a size, made text, logged",
    "pools/worker.pyx": "workers', of one size",
    "pools/zygote.pyx": "held programs', of one size",
    "services/queue_head.py": "the kernel's, about who is first in a queue, and the beginning of his datagram, which "
                              "stays there: it is compared, and never parsed",
    "supervisor/roles.py": "roles', at their start: that they are ready, or why not",
    "system/clock.py": "the kernel's, when the clock is set",
    "system/linux.pxd": "nobody's: it declares the calls",
    "system/listen_queues.py": "the kernel's, about listeners",
    "system/loop.py": "the kernel's, about signals",
    "system/processes.h": "the kernel's, in /proc",
    "system/strangers.h": "workers', held programs' and the doorman's, of the size that the caller wants",
    "system/strangers.pxd": "as above",
    "system/strangers.pyx": "as above",
    "worker/protocol.py": "the acceptor's, in the worker",
}
"""File outside of those folders that receives something -> whose words it reads."""


def sources() -> dict[str, Path]:
    """Every source of the daemon; the library in held programs is another program's."""
    found = {path.relative_to(PACKAGE).as_posix(): path for path in sources_of(".py", ".pyx", ".pxd", ".h", ".c")}
    return {name: path for name, path in found.items() if not name.startswith("stage/")}


def receives(text: str) -> bool:
    """Whether code, apart from what it says of itself, calls something that receives bytes."""
    code = re.sub(r'""".*?"""|/\*.*?\*/', "", text, flags=re.DOTALL)
    code = re.sub(r"(?m)#(?!include).*$|^ *(?:def|cdef class) .*$", "", code)
    return RECEIVES.search(code) is not None


def test_bytes_of_strangers_are_read_without_privileges() -> None:
    found = {name for name, path in sources().items() if receives(path.read_text())}
    assert {name.partition("/")[0] for name in found} >= WITHOUT_PRIVILEGES
    assert {name for name in found if name.partition("/")[0] not in WITHOUT_PRIVILEGES} == ELSEWHERE.keys()


@pytest.mark.parametrize(
    "line",
    ["data = sock.recv(10)", "os.read(fd, 1)", "n = recvfrom(fd, p, 10, 0, a, l)", "length = read(fd, text, 9)",
     "client.makefile()"],
)  # fmt: skip
def test_what_receives_is_seen(line: str) -> None:
    assert receives(f"def main():\n    {line}\n")
    assert not receives(f'def read(x):\n    """{line}"""\n    # {line}\n    files.read(path)\n')
