"""What is said to the doorman and what it answers, and how long each side waits.

Wire format, little-endian, one message in a datagram. A datagram of another size is ignored; an unknown row or family
is refused. A cookie may be sent again while its question waits.

Acceptors and the relay speak it in C: core/reception takes the numbers from here, and cannot be imported if its
structures are not laid out as these are.
"""

from enum import IntEnum
from struct import Struct

QUESTION = Struct("<QIHH16s")
"""Cookie, row of the service, a Family, 0, the client's address: IPv4 in the first four bytes."""

ANSWER = Struct("<QI")
"""The question's cookie, a Reply."""


class Family(IntEnum):
    """What kind of address a question has."""

    IPV4 = 4
    IPV6 = 6


class Reply(IntEnum):
    """Whether the client may use the service."""

    REFUSE = 0
    ALLOW = 1


DECIDE_WITHIN = 10
"""Seconds from a question to the doorman's answer, at most: then the client counts as one without a name."""

ANSWER_WITHIN = 12
"""Seconds after which who has asked no longer waits: longer than the doorman takes if it lives."""

ASK_AGAIN = 4
"""Seconds from a question without an answer to its repetition: a doorman that died may have taken it along."""
