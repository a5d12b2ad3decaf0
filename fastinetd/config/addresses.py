"""Reads the entries of only_from and no_access: each means some prefixes, or a name, or nothing.

The forms (xinetd.conf(5)), where IPv4-mapped IPv6 is IPv4:
  a.b.c.d           as inet_aton(3) reads it (127.1 is 127.0.0.1); zero octets at the end are wildcards
  a.b.{c,d}  {a}    one network per number in the braces, as long as what is written
  a.b.c.d/n         a prefix; n may be a dotted mask; above 32 it is 32, as in xinetd; octets left out (10/8) are zeros;
                    what follows the digits of n is left out, as in xinetd
  x:y::z  x:y::/n   one IPv6 address, an IPv6 prefix; `%` and an interface behind the address are left out, as in xinetd
  name  .domain     a client's confirmed name, or the end of it
  network           a name of /etc/networks, which wins over a host of that name; as long as the class of its
                    number, or to its last octet that is not zero when that is longer

Everything here is a pure function of its arguments; the look-up of network names is one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import Enum
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple


class Reason(Enum):
    """The reason for which an entry does not count."""

    COMMA = "comma"  # a comma outside braces
    BRACES = "braces"  # a.b.{1,2}: braces not closed, not last, empty, or a number above 255
    DOTS = "dots"  # numbers with two dots in a row, or a dot before them
    ADDRESS = "address"  # numbers and dots, or a colon, and yet no address
    LENGTH = "length"  # no number after the slash, or more than 128
    NUMBER = "number"  # a number after the slash that is another one in xinetd: below 0, or 0x8
    RANGE = "range"  # 10.0.0.1-9, which would pass for a name
    MASK = "mask"  # a dotted mask whose ones do not stand together at the left
    UNKNOWN = "unknown"  # neither an address nor a possible name


_GRAVE = {
    Reason.COMMA: ", which has a comma; blanks go between addresses",
    Reason.BRACES: ", whose braces cannot be read: they hold numbers up to 255 and stand last, as in 192.0.2.{1,2}",
    Reason.DOTS: ", where a number is missing at a dot",
    Reason.NUMBER: ", whose length of network is no plain number",
}
"""Reasons for which a service is not started, as in xinetd but for the last -> the problem in the message. A refusal
must not get lost for a slip of the pen. Entries with another one are left out, in xinetd too."""


class Rejection(NamedTuple):
    """An entry that does not count, by its position from 0 and its list, and the reason."""

    position: int
    list: str  # "only_from" or "no_access"
    reason: Reason


Prefix = tuple[int, int]
"""A network: its first address and its fixed bits, in the space of 128 bits, where IPv4 is ::ffff:0:0/96."""

MAPPED = 0xFFFF << 32
"""::ffff:0:0, the first IPv4 address among the 128 bits."""

_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


_LOST_NUMBER = re.compile(r"\.[0-9.]*$|[0-9][0-9.]*\.\.")


def read_list(
    title: str, tokens: tuple[str, ...], networks: Callable[[str], str | None], rejected: list[Rejection]
) -> tuple[Prefix | str, ...]:
    """The prefixes and names (a domain with its dot) of a list; entries that cannot be read go to `rejected`.

    `title` is the name of the list for Rejection, `networks` returns the number of a network of /etc/networks.
    """
    for index, token in enumerate(tokens):
        entry = _read_entry(token)
        if isinstance(entry, Reason):
            rejected.append(Rejection(index, title, entry))
    return tuple(rule for _, rule in rules_of(tokens, networks))


def rules_of(
    tokens: tuple[str, ...], networks: Callable[[str], str | None]
) -> Iterator[tuple[int, Prefix | str]]:
    """(position from 0, prefix or name) of each entry of a list that can be read; one with braces has several."""
    for index, token in enumerate(tokens):
        entry = _read_entry(token)
        if isinstance(entry, str):
            number = None if entry.startswith(".") else networks(token)
            network = None if number is None else _network_prefix(number)
            yield index, entry if network is None else network
        elif not isinstance(entry, Reason):
            for prefix in entry:
                yield index, prefix


def grave_fault(token: str) -> str:
    """The problem of an entry for which its service must not be started, for BadValue; "" when there is none."""
    if not ("," in token or "{" in token or ".." in token or "/-" in token or "/0" in token or token.startswith(".")):
        return ""
    entry = _read_entry(token)
    return _GRAVE.get(entry, "") if isinstance(entry, Reason) else ""


def parts_of(token: str) -> dict[str, Prefix | str]:
    """The parts of an entry that `-=` takes away one by one: each as an entry -> what it means.

    One with braces has several parts, any other one is a part itself; one that cannot be read means its own text.
    """
    entry = _read_entry(token)
    if not isinstance(entry, tuple):
        return {token: entry if isinstance(entry, str) else token}
    if "{" not in token:
        return {token: entry[0]}
    return {f"{IPv4Address(first & 0xFFFFFFFF)}/{bits - 96}": (first, bits) for first, bits in entry}


@lru_cache(maxsize=4096)
def odd_reading(token: str) -> str | None:
    """The prefix that an address or prefix counts as, when it is not the one it seems to be; None when it is.

    10.1 counts as 10.0.0.1, 010.0.0.1 as 8.0.0.1, 10/8 as 10.0.0.0/8 (0.0.0.0/8 in xinetd), 10.0.0.0/33 as
    10.0.0.0/32, ::ffff:10.0.0.0/8 as ::/8, which holds every IPv4 address.
    """
    entry = _read_entry(token)
    if not isinstance(entry, tuple) or "{" in token:
        return None
    (first, bits), (text, slash, length) = entry[0], token.partition("/")
    if ":" in text:
        odd = ("." in text and bits < 96) or "%" in text or not (length.isdecimal() or not slash)
        return f"{IPv6Address(first)}/{bits}" if odd else None
    parts = text.split(".")
    plain = all(part == str(_read_number(part)) for part in parts) and len(parts) == 4
    if plain and (not slash or "." in length or (length.isdecimal() and int(length) <= 32)):
        return None
    return f"{IPv4Address(first & 0xFFFFFFFF)}/{bits - 96}"


@lru_cache(maxsize=4096)
def _read_entry(token: str) -> tuple[Prefix, ...] | str | Reason:
    """The prefixes of an entry, its name in lower case, or the reason for which it does not count."""
    if "," in re.sub(r"\{[^{}]*\}?", "", token):
        return Reason.COMMA
    if _LOST_NUMBER.match(token):
        return Reason.DOTS
    if "{" in token:
        return _read_braces(token)
    text, slash, length = token.partition("/")
    if slash:
        return _read_prefix(text, length)
    if ":" in text:
        return _read_ipv6(text, "128")
    address = _read_ipv4(text)
    if address is not None:
        return ((MAPPED | address, 128 - 8 * _zero_octets(address)),)
    if re.fullmatch(r"[0-9.]+-[0-9.-]*", text):
        return Reason.RANGE
    name = text.lower()
    if name.startswith("."):
        return name if plausible_name(name[1:]) else Reason.UNKNOWN
    name = name.removesuffix(".")
    if plausible_name(name):
        return name
    return Reason.ADDRESS if re.fullmatch(r"[0-9.]+", text) else Reason.UNKNOWN


def _read_braces(token: str) -> tuple[Prefix, ...] | Reason:
    """The prefixes of a.b.{c,d}: one for each number in the braces."""
    match = re.fullmatch(r"((?:\d{1,3}\.){0,3})\{(\d{1,3}(?:,\d{1,3})*)\}", token, re.ASCII)
    if match is None:
        return Reason.BRACES if re.match(r"[0-9.]*\{", token) else Reason.UNKNOWN
    head = [int(part) for part in match[1].split(".")[:-1]]
    last = [int(part) for part in match[2].split(",")]
    if max(head + last) > 255:
        return Reason.BRACES
    bits = 8 * (len(head) + 1)
    base = int.from_bytes(bytes(head), "big") << 8
    return tuple((MAPPED | (base | number) << (32 - bits), 96 + bits) for number in last)


def _read_prefix(text: str, length: str) -> tuple[Prefix, ...] | Reason:
    """The prefix of address/length; the length may be a dotted mask in IPv4."""
    if ":" in text:
        return _read_ipv6(text, length)
    parts = text.split(".")
    address = _read_ipv4(".".join(parts + ["0"] * (4 - len(parts))))
    if address is None:
        return Reason.ADDRESS if re.fullmatch(r"[0-9.]+", text) else Reason.UNKNOWN
    if "." in length:
        mask = _read_ipv4(length) if re.fullmatch(r"\d+\.\d+\.\d+\.\d+", length, re.ASCII) else None
        # The ones of a mask stand together when its complement and one more have no bit in common.
        if mask is None or (~mask & 0xFFFFFFFF) & ((~mask & 0xFFFFFFFF) + 1):
            return Reason.MASK
        return (_cut_prefix(MAPPED | address, 96 + mask.bit_count()),)
    bits = _read_length(length)
    return _fault_of(length) if bits is None else (_cut_prefix(MAPPED | address, 96 + min(bits, 32)),)


def _read_ipv6(text: str, length: str) -> tuple[Prefix, ...] | Reason:
    """The prefix of an IPv6 address, perhaps with an interface, and a length."""
    try:
        address = int(IPv6Address(text))
    except AddressValueError:
        return Reason.ADDRESS
    bits = _read_length(length)
    return _fault_of(length) if bits is None or bits > 128 else (_cut_prefix(address, bits),)


def _network_prefix(number: str) -> Prefix | None:
    """The prefix of a number of /etc/networks: as long as its class, or to its last octet that is not zero."""
    parts = number.rstrip(".").split(".")
    address = _read_ipv4(".".join(parts + ["0"] * (4 - len(parts))))
    if address is None:
        return None
    top = address >> 24
    bits = 8 if top < 128 else 16 if top < 192 else 24 if top < 224 else 32
    return MAPPED | address, 96 + max(bits if bits < 32 else 0, 32 - 8 * _zero_octets(address))


def _read_ipv4(text: str) -> int | None:
    """An IPv4 address as inet_aton(3) reads it: one to four numbers (decimal, 0 octal, 0x hex), the last of which fills
    the octets that are left; None when it is none."""
    parts = text.split(".")
    if len(parts) > 4:
        return None
    value = 0
    for index, part in enumerate(parts):
        number = _read_number(part)
        room = 8 * (5 - len(parts)) if index == len(parts) - 1 else 8
        if number is None or number >> room:
            return None
        value = value << room | number
    return value


def _read_number(text: str) -> int | None:
    """The value of a C integer constant of at most 12 characters, without sign and suffix; None of anything else."""
    if text.isdecimal() and text.isascii() and len(text) <= 12 and (text[0] != "0" or text == "0"):
        return int(text)
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}", text):
        return int(text, 16)
    return int(text, 8) if re.fullmatch(r"0[0-7]{1,11}", text) else None


def _read_length(text: str) -> int | None:
    """The number of at most nine decimal digits that a text begins with; None of anything else, and of 0x8."""
    match = re.match(r"\+?(?!0[xX])(\d{1,9})(?!\d)", text, re.ASCII)
    return int(match[1]) if match else None


def _fault_of(length: str) -> Reason:
    """The reason for which a length that is none does not count."""
    return Reason.NUMBER if re.match(r"-\d|0[xX]", length, re.ASCII) else Reason.LENGTH


def _zero_octets(address: int) -> int:
    """The number of octets at the end of an IPv4 address that are zero: 4 for 0.0.0.0."""
    return 4 if not address else ((address & -address).bit_length() - 1) // 8


def _cut_prefix(address: int, bits: int) -> Prefix:
    """The prefix of so many bits that holds an address of 128 bits."""
    return address >> (128 - bits) << (128 - bits), bits


def plausible_name(text: str) -> bool:
    """Whether a text in lower case may be a host name: labels as in RFC 1123, with `_` too, the last one no number."""
    return len(text) <= 253 and _NAME.fullmatch(text) is not None and not text.rpartition(".")[2].isdigit()
