"""Processes that have a kernel without a certain socket option: a seccomp filter answers setsockopt(2) in its place."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable

import pytest

from support.core import fork, reap

SO_PASSRIGHTS = 83
"""asm-generic/socket.h, from Linux 6.16 on: a socket refuses messages with descriptors."""

SETSOCKOPT = {"x86_64": 54, "aarch64": 208}
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
LOAD, SKIP_UNLESS, RETURN = 0x20, 0x15, 0x06
"""BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K (linux/bpf_common.h)."""
NUMBER, LEVEL, OPTION = 0, 24, 32
"""Where struct seccomp_data has the system call's number and the low halves of its arguments 1 and 2."""
ALLOWED, FAILED = 0x7FFF0000, 0x00050000


def lose_option(option: int) -> None:
    """Let setsockopt(2) fail with ENOPROTOOPT for an option of SOL_SOCKET, in this process and its descendants."""
    number = SETSOCKOPT.get(os.uname().machine)
    if number is None:
        pytest.skip("the number of setsockopt is not known here")
    steps = [
        (LOAD, 0, 0, NUMBER), (SKIP_UNLESS, 0, 5, number),
        (LOAD, 0, 0, LEVEL), (SKIP_UNLESS, 0, 3, socket.SOL_SOCKET),
        (LOAD, 0, 0, OPTION), (SKIP_UNLESS, 0, 1, option),
        (RETURN, 0, 0, FAILED | errno.ENOPROTOOPT), (RETURN, 0, 0, ALLOWED),
    ]  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)):
        if prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def as_before_linux_6_16() -> None:
    """From now on no socket of this process and its descendants refuses descriptors."""
    lose_option(SO_PASSRIGHTS)


def run_before_linux_6_16(body: Callable[[], None]) -> None:
    """Run `body` in a process whose sockets refuse no descriptors."""

    def main() -> None:
        as_before_linux_6_16()
        body()

    assert reap(fork(main)) == 0, "it has said why on standard error"
