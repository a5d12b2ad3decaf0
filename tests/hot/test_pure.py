"""The hot path touches no Python: two nets, the C that Cython makes and the calls that the compiler makes of it."""

from __future__ import annotations

import os
import re
import shutil

import pytest

from support.hot import Built, Hot, body_of, compiled_modules, disassembly, hot_functions, mangled
from support.sources import sources_of

MODULES = compiled_modules()

PYTHON = re.compile(r"\b_?(?:Py_?[A-Z]\w*|PY_\w+|__Pyx\w*|__PYX\w*|__pyx_(?:n|kp|mstate|tstate|gilstate)_\w+)")
"""What belongs to the interpreter, or to Cython's way of talking to it."""

KERNEL = {
    "accept4", "clock_gettime", "close", "epoll_ctl", "epoll_wait", "fcntl", "fcntl64", "getpgid", "getppid",
    "getsockname", "getsockopt", "ioctl", "kill", "nanosleep", "open", "open64", "poll", "pread", "pread64", "read",
    "recv", "recvfrom", "send", "sendto", "setsockopt", "shutdown", "socketpair", "write",
}  # fmt: skip
LIBRARY = {
    "__errno_location", "__stack_chk_fail", "atof", "htonl", "htons", "inet_ntop", "localtime_r", "malloc", "memcmp",
    "memcpy", "memset", "ntohl", "ntohs", "strftime", "strlen",
}  # fmt: skip
OWN = {
    "atomic_cas32", "atomic_cas64", "await_end", "close_elsewhere", "close_shared", "connect_pair",
    "forbid_descriptors", "inode_of", "keep_awake", "limit_of_programs", "mark_file", "pidfd_of", "processor_time",
    "receive_last_descriptor", "receive_once", "resident_bytes", "send_message", "spawn_clone", "spawn_posix",
    "stop_waking", "wait_for_child",
}  # fmt: skip
"""Inline C of system/linux.pxd, of core/spawn.h and spawn_plan.h, and of the headers of system/."""

WITHIN_OWN = {
    "__cmsg_nxthdr", "__isoc23_strtoull", "_exit", "clone", "fstat", "fstat64", "getrlimit", "getrlimit64",
    "posix_spawn", "posix_spawn_file_actions_adddup2", "posix_spawn_file_actions_destroy",
    "posix_spawn_file_actions_init", "posix_spawnattr_destroy", "posix_spawnattr_init", "posix_spawnattr_setflags",
    "posix_spawnattr_setsigdefault", "posix_spawnattr_setsigmask", "recvmsg", "sendmsg", "setitimer", "setrlimit",
    "setrlimit64", "setsockopt", "sigemptyset", "sigfillset", "sigprocmask", "snprintf", "stat", "stat64", "strchr",
    "strtoull", "syscall", "sysconf", "waitid", "waitpid",
}  # fmt: skip
"""What only these call."""

MALLOC_AT_START = "open_ledger"


def emitted(built: Built, hot: Hot) -> list[tuple[str, str]]:
    """(module, body in C) wherever a function was emitted: in its own module, an inline one wherever it is used."""
    bodies = [(module, body_of(built.c_of(module), hot)) for module in MODULES]
    return [(module, body) for module, body in bodies if body is not None]


@pytest.fixture(scope="session")
def called(built: Built) -> dict[str, dict[str, list[str]]]:
    """Module -> function -> what it calls."""
    if shutil.which("objdump") is None:
        if os.environ.get("CI"):
            pytest.fail("objdump is missing")
        pytest.skip("objdump is missing")
    return {module: disassembly(built.extension(module)) for module in MODULES}


def test_all_hot_functions_are_known() -> None:
    """The search misses none: each promise in the sources is one of the functions tested here."""
    promises = sum(
        len(re.findall(r"noexcept nogil:$", path.read_text(), re.MULTILINE)) for path in sources_of(".pyx", ".pxd")
    )
    assert promises == len(hot_functions()) > 80
    names = {str(hot) for hot in hot_functions()}
    assert {"core.admit.take_slot", "core.reception.Reception.serve_listener", "core.sources.source_take"} <= names
    assert {"core.servers.start_server", "pools.zygotes.Zygotes.note_taken", "pools.pool.pause_starts"} <= names
    assert {"pools.parked.ParkedChildren.release", "pools.workers.Workers.hand_to_worker"} <= names
    without = {"core.board", "core.keeper", "core.layout"}
    assert {hot.module for hot in hot_functions() if not hot.inline} == {*MODULES} - without


@pytest.mark.parametrize("hot", hot_functions(), ids=str)
def test_generated_c(built: Built, hot: Hot) -> None:
    bodies = emitted(built, hot)
    assert bodies, f"{hot.symbol} is in no generated file"
    assert {module: PYTHON.findall(body) for module, body in bodies if PYTHON.search(body)} == {}


@pytest.mark.parametrize("hot", hot_functions(), ids=str)
def test_called_names(called: dict[str, dict[str, list[str]]], hot: Hot) -> None:
    found = [functions[hot.symbol] for functions in called.values() if hot.symbol in functions]
    assert found or hot.inline, f"{hot.symbol} is in no compiled file"
    names = {name for calls in found for name in calls if not name.startswith("__pyx_f_")}
    assert names - KERNEL - LIBRARY - OWN - {"*"} == set()
    assert "malloc" not in names or hot.name == MALLOC_AT_START


@pytest.mark.parametrize("name", sorted(OWN))
def test_called_names_of_inline_c(called: dict[str, dict[str, list[str]]], name: str) -> None:
    """The C that hot functions call is no way around."""
    found = [functions[name] for functions in called.values() if name in functions]
    assert found or name.startswith("atomic_"), f"{name} is in no compiled file"
    assert {callee for calls in found for callee in calls} - KERNEL - LIBRARY - OWN - WITHIN_OWN == set()


def test_calls_of_each_other_are_hot(called: dict[str, dict[str, list[str]]]) -> None:
    """What a hot function calls by name in its own package is hot itself."""
    hot = {function.symbol for function in hot_functions()}
    for functions in called.values():
        for symbol in functions.keys() & hot:
            assert {name for name in functions[symbol] if name.startswith("__pyx_")} <= hot, symbol


def test_the_nets_hold(built: Built, called: dict[str, dict[str, list[str]]]) -> None:
    """A function that does touch Python is caught by both."""
    drain = f"__pyx_pf_{mangled('core.board', 'Board')}"
    text = built.c_of("core.board")
    start = text.index(f"static PyObject *{drain}")
    assert PYTHON.search(text[start : text.index("\n}\n", start)])
    python = [calls for symbol, calls in called["core.board"].items() if symbol.startswith(drain)]
    assert any(name.startswith("Py") for calls in python for name in calls)


def test_no_performance_hint(built: Built) -> None:
    assert "core/board.c" in built.log
    assert "performance hint" not in built.log.lower()


def test_no_compiler_warning(built: Built) -> None:
    assert re.findall(r"^.*\bwarning: .*$", built.log, re.MULTILINE) == []
