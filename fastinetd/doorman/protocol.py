"""The messages to and from the doorman, and how long each side waits.

Wire format, little-endian, one message in a datagram. A datagram of another size is ignored; an unknown row or family
is refused. A cookie may be sent again while its question waits.

Acceptors and the relay write and read them in C: core/questions takes the numbers from here, and cannot be imported if
its structures have another layout.
"""

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

QUESTION = Struct("<QIHH16s")
"""A question: cookie, row of the service, a Family, 0, the client's address (IPv4 in the first four bytes)."""

ANSWER = Struct("<QI")
"""An answer: the question's cookie, a Reply."""


class Family(IntEnum):
    """The address family of the client in a question."""

    IPV4 = 4
    IPV6 = 6


class Reply(IntEnum):
    """Whether the client may use the service."""

    REFUSE = 0
    ALLOW = 1


class Subject(NamedTuple):
    """What a question is about: may a client with this address, 4 or 16 bytes, use the service of this row?"""

    row: int
    address: bytes

    def pack(self, cookie: int) -> bytes:
        """The question about it, with this cookie."""
        family = Family.IPV4 if len(self.address) == 4 else Family.IPV6
        return QUESTION.pack(cookie, self.row, family, 0, self.address.ljust(16, b"\0"))


DECIDE_WITHIN = 10
"""Seconds after which the doorman answers a question as if the client had no name."""

ANSWER_WITHIN = 12
"""Seconds after which the side that asked waits no longer: more than a doorman that lives takes."""

ASK_AGAIN = 4
"""Seconds after which an unanswered question is sent again: a doorman that died may have read it."""
