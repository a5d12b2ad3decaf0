"""The hash of a source, held against SipHash as its paper defines it."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from fastinetd.core.board import Board
from support.accounts import Accounts
from support.core import open_row, program

KEY = bytes(range(16))
WORD = 2**64 - 1


def rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & WORD


def siphash(key: bytes, message: bytes, compressions: int, finalisations: int) -> int:
    """SipHash-c-d by sections 2.1 to 2.3 of Aumasson and Bernstein, SipHash: a fast short-input PRF."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    letters = b"somepseudorandomlygeneratedbytes"
    v0, v1, v2, v3 = (
        word ^ int.from_bytes(letters[8 * i : 8 * i + 8], "big") for i, word in enumerate((k0, k1, k0, k1))
    )

    def rounds(count: int) -> None:
        nonlocal v0, v1, v2, v3
        for _ in range(count):
            v0, v2 = (v0 + v1) & WORD, (v2 + v3) & WORD
            v1, v3 = rotated(v1, 13) ^ v0, rotated(v3, 16) ^ v2
            v0 = rotated(v0, 32)
            v2, v0 = (v2 + v1) & WORD, (v0 + v3) & WORD
            v1, v3 = rotated(v1, 17) ^ v2, rotated(v3, 21) ^ v0
            v2 = rotated(v2, 32)

    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v3 ^= word
        rounds(compressions)
        v0 ^= word
    v2 ^= 0xFF
    rounds(finalisations)
    return v0 ^ v1 ^ v2 ^ v3


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (15, "e545be4961ca29a1"),  # appendix A
        (0, "310e0edd47db6f72"), (1, "fd67dc93c539f874"), (7, "37d1018bf50002ab"), (8, "6224939a79f5f593"),
        (63, "724506eb4c328a95"),  # its authors' list
    ],
)  # fmt: skip
def test_the_paper_s_vectors(length: int, expected: str) -> None:
    assert siphash(KEY, bytes(range(length)), 2, 4).to_bytes(8, "little").hex() == expected


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, "0.0.0.0"), (socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "::"),
        (socket.AF_INET6, "2001:db8:1122:3344:5566:7788:99aa:bbcc"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("row", [0, 2])
def test_a_source_is_its_siphash_1_3(monkeypatch: pytest.MonkeyPatch, row: int, family: int, address: str) -> None:
    """The slot of a client that was let in holds the hash of its address, row and family under the Board's key."""
    monkeypatch.setattr(os, "urandom", lambda count: KEY[:count])
    board = Board.create(3, 4, 1)
    rows = [open_row(board) for _ in range(3)]
    packed = socket.inet_pton(family, address)
    expected = siphash(KEY, struct.pack("<16sIH", packed, row, family), 1, 3).to_bytes(8, "little")
    assert expected not in os.pread(board.fd, os.fstat(board.fd).st_size, 0)
    accounts = Accounts(board, 0)
    _, slot = accounts.admit(program(rows[row]), packed)
    assert expected in os.pread(board.fd, os.fstat(board.fd).st_size, 0)
    accounts.drop(slot)
    os.close(board.fd)
