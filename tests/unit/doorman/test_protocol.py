"""The doorman's messages: their bytes, and that Python and C have the same ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastinetd.doorman.protocol import ANSWER, ANSWER_WITHIN, ASK_AGAIN, DECIDE_WITHIN, QUESTION, Family, Reply, Subject


def test_the_bytes_on_the_wire() -> None:
    address = bytes([192, 0, 2, 7])
    question = "0807060504030201 0d0c0b0a 0400 0000 c0000207000000000000000000000000"
    assert QUESTION.pack(0x0102030405060708, 0x0A0B0C0D, Family.IPV4, 0, address) == bytes.fromhex(question)
    assert QUESTION.pack(0, 0, Family.IPV6, 0, bytes(16))[12:14] == b"\6\0"
    assert ANSWER.pack(0x0102030405060708, Reply.ALLOW) == bytes.fromhex("0807060504030201 01000000")
    assert ANSWER.pack(0, Reply.REFUSE) == bytes(12)


@pytest.mark.parametrize(
    ("address", "family"), [(bytes([192, 0, 2, 7]), Family.IPV4), (bytes(range(16)), Family.IPV6)], ids=["IPv4", "IPv6"]
)
def test_a_question_is_about_a_client_and_a_service(address: bytes, family: Family) -> None:
    expected = QUESTION.pack(0x0102030405060708, 0x0A0B0C0D, family, 0, address)
    assert Subject(0x0A0B0C0D, address).pack(0x0102030405060708) == expected


def test_who_asks_waits_longer_than_the_doorman_takes() -> None:
    """And asks once more before it gives up, also when the doorman had died at once."""
    assert DECIDE_WITHIN < ANSWER_WITHIN
    assert ANSWER_WITHIN - ASK_AGAIN > 0


@pytest.mark.parametrize(("name", "layout"), [
    ("QUESTION", "<QIHH20s"), ("QUESTION", "<IQHH16s"), ("QUESTION", "<QHIH16s"),
    ("QUESTION", ">QIHH16s"), ("QUESTION", "<QIHI16s"),
    ("ANSWER", "<QH"), ("ANSWER", "<IQ"), ("ANSWER", "<QQ"),
])  # fmt: skip
def test_the_core_is_not_imported_with_another_layout(name: str, layout: str) -> None:
    program = (
        "import struct; from fastinetd.doorman import protocol; "
        f"protocol.{name} = struct.Struct({layout!r}); import fastinetd.core.questions"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"ImportError: core/questions.pyx does not lay {name} out as doorman/protocol.py does" in done.stderr
