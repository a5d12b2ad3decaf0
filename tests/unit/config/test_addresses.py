"""Entries of only_from and no_access, each read by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinetd.config.addresses import (
    MAPPED,
    Prefix,
    Reason,
    Rejection,
    odd_reading,
    parts_of,
    plausible_name,
    read_list,
)

NETWORKS = {
    "loopback": "127.0.0.0",
    "link-local": "169.254.0.0",
    "short": "10",
    "lab": "192.168.7",
    "sub": "10.1.0.0",
    "class-c": "192.168.0.0",
    "odd": "not a number",
}


def read(*tokens: str) -> tuple[tuple[Prefix | str, ...], list[Rejection]]:
    rejected: list[Rejection] = []
    return read_list("only_from", tokens, NETWORKS.get, rejected), rejected


def four(a: int, b: int, c: int, d: int, bits: int) -> Prefix:
    return MAPPED | a << 24 | b << 16 | c << 8 | d, 96 + bits


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("127.0.0.5", four(127, 0, 0, 5, 32)),
        ("128.138.12.0", four(128, 138, 12, 0, 24)),
        ("10.0.0.1/255", four(10, 0, 0, 1, 32)),
        ("128.138.0.0", four(128, 138, 0, 0, 16)),
        ("10.0.0.0", four(10, 0, 0, 0, 8)),
        ("0.0.0.0", four(0, 0, 0, 0, 0)),
        ("0", four(0, 0, 0, 0, 0)),
        ("127.1", four(127, 0, 0, 1, 32)),
        ("128.138", four(128, 0, 0, 138, 32)),
        ("10", four(0, 0, 0, 10, 32)),
        ("10.1.258", four(10, 1, 1, 2, 32)),
        ("0x7f.1", four(127, 0, 0, 1, 32)),
        ("010.0.0.1", four(8, 0, 0, 1, 32)),
        ("255.255.255.255", four(255, 255, 255, 255, 32)),
        ("10.9.8.7/8", four(10, 0, 0, 0, 8)),
        ("10.0.0.0/8", four(10, 0, 0, 0, 8)),
        ("10.0.0.1/0", four(0, 0, 0, 0, 0)),
        ("10.0.0.1/31", four(10, 0, 0, 0, 31)),
        ("10.0.0.1/32", four(10, 0, 0, 1, 32)),
        ("10/8", four(10, 0, 0, 0, 8)),
        ("192.168/16", four(192, 168, 0, 0, 16)),
        ("192.168.7.9/255.255.255.0", four(192, 168, 7, 0, 24)),
        ("192.168.7.9/255.255.255.255", four(192, 168, 7, 9, 32)),
        ("192.168.7.9/0.0.0.0", four(0, 0, 0, 0, 0)),
        ("{10}", four(10, 0, 0, 0, 8)),
        ("127.0.0.{0}", four(127, 0, 0, 0, 32)),
        ("::1", (1, 128)),
        ("::", (0, 128)),
        ("::1/128", (1, 128)),
        ("::/0", (0, 0)),
        ("FD00::/8", (0xFD << 120, 8)),
        ("fd00::1/8", (0xFD << 120, 8)),
        ("::ffff:10.0.0.0", four(10, 0, 0, 0, 32)),
        ("::ffff:10.0.0.0/104", four(10, 0, 0, 0, 8)),
        ("loopback", four(127, 0, 0, 0, 8)),
        ("link-local", four(169, 254, 0, 0, 16)),
        ("short", four(10, 0, 0, 0, 8)),
        ("lab", four(192, 168, 7, 0, 24)),
        ("sub", four(10, 1, 0, 0, 16)),
        ("class-c", four(192, 168, 0, 0, 24)),
        ("odd", "odd"),
        ("Host.Example.COM", "host.example.com"),
        ("host.example.com.", "host.example.com"),
        ("localhost", "localhost"),
        ("3com.example", "3com.example"),
        ("my_host", "my_host"),
        (".Example.com", ".example.com"),
        (".local", ".local"),
    ],
)
def test_entry(token: str, expected: Prefix | str) -> None:
    assert read(token) == ((expected,), [])


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("127.0.0.{7,8}", [four(127, 0, 0, 7, 32), four(127, 0, 0, 8, 32)]),
        ("127.0.{3,4}", [four(127, 0, 3, 0, 24), four(127, 0, 4, 0, 24)]),
        ("128.{1,2}", [four(128, 1, 0, 0, 16), four(128, 2, 0, 0, 16)]),
        ("{10,127}", [four(10, 0, 0, 0, 8), four(127, 0, 0, 0, 8)]),
    ],
)
def test_factorised(token: str, expected: list[Prefix]) -> None:
    assert read(token) == (tuple(expected), [])


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("10.0.0.1,10.0.0.2", Reason.COMMA),
        ("127.0.0.{1,2},::1", Reason.COMMA),
        (",", Reason.COMMA),
        ("127.0.0.{1,", Reason.BRACES),
        ("1.{2}x", Reason.BRACES),
        ("127.0.0.{}", Reason.BRACES),
        ("127.0.0.{1,256}", Reason.BRACES),
        ("300.{1}", Reason.BRACES),
        ("1.2.3.4.{5}", Reason.BRACES),
        ("127.{1,2}.3", Reason.BRACES),
        ("127.0.0.{1,2,}", Reason.BRACES),
        ("127.0.{1}/24", Reason.BRACES),
        ("127.0.0.", Reason.ADDRESS),
        ("256.1.1.1", Reason.ADDRESS),
        ("1.2.3.4.5", Reason.ADDRESS),
        ("1.2.3.08", Reason.ADDRESS),
        ("4294967296", Reason.ADDRESS),
        ("1.2.3./24", Reason.ADDRESS),
        ("fe80:::1", Reason.ADDRESS),
        ("::ffff:1.2.3.256", Reason.ADDRESS),
        ("[::1]", Reason.ADDRESS),
        ("fe80::1%", Reason.ADDRESS),
        ("10.0.0.0/", Reason.LENGTH),
        ("10.0.0.0/-1", Reason.NUMBER),
        ("10.0.0.1-9", Reason.RANGE),
        ("10.0.0.1-10.0.0.9", Reason.RANGE),
        ("10.0.0.0/x", Reason.LENGTH),
        ("10.0.0.0/0x8", Reason.NUMBER),
        ("::/-1", Reason.NUMBER),
        ("::/129", Reason.LENGTH),
        ("::/x", Reason.LENGTH),
        ("10.0.0.0/255.0.255.0", Reason.MASK),
        ("10.0.0.0/255.255.0", Reason.MASK),
        ("host/24", Reason.UNKNOWN),
        ("/24", Reason.UNKNOWN),
        ("", Reason.UNKNOWN),
        (".", Reason.DOTS),
        (".10", Reason.DOTS),
        ("1..2", Reason.DOTS),
        ("1..a", Reason.DOTS),
        ("10..0.0/8", Reason.DOTS),
        ("..a", Reason.UNKNOWN),
        ("2}", Reason.UNKNOWN),
        ("a{1}", Reason.UNKNOWN),
        ("-a.b", Reason.UNKNOWN),
        ("*.example.com", Reason.UNKNOWN),
        ("héte", Reason.UNKNOWN),
        ("a" * 64, Reason.UNKNOWN),
        ("a." * 127 + "a", Reason.UNKNOWN),
    ],
)
def test_rejected(token: str, reason: Reason) -> None:
    assert read("10.0.0.1", token, "::1") == (
        (four(10, 0, 0, 1, 32), (1, 128)),
        [Rejection(1, "only_from", reason)],
    )


@given(st.text(max_size=30) | st.text("0123456789abcdef.:/{},%x-_", max_size=30))
def test_any_text_is_read_or_rejected_once(token: str) -> None:
    rules, rejected = read(token)
    assert (rules == ()) == (len(rejected) == 1)
    for rule in rules:
        if isinstance(rule, str):
            assert plausible_name(rule.removeprefix("."))
        else:
            first, bits = rule
            assert 0 <= bits <= 128
            assert first & ((1 << 128 - bits) - 1) == 0


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("10.0.0.1", None), ("10.0.0.0", None), ("0.0.0.0", None), ("10.0.0.0/8", None), ("10/8", "10.0.0.0/8"),
        ("0.0.0.0/0", None), ("10.0.0.0/255.0.0.0", None), ("10.0.0.{1,2}", None), ("::1", None), ("::/0", None),
        ("2001:db8::/32", None), ("::ffff:10.0.0.1", None), ("::ffff:10.0.0.0/104", None), ("x/8", None),
        ("a.example", None), (".example", None),
        ("10.0.0.0/33", "10.0.0.0/32"), ("10.0.0.0/255", "10.0.0.0/32"), ("128.138", "128.0.0.138/32"),
        ("127.1", "127.0.0.1/32"), ("10", "0.0.0.10/32"), ("010.0.0.1", "8.0.0.1/32"), ("0x0a.0.0.0", "10.0.0.0/8"),
        ("010.0.0.0/8", "8.0.0.0/8"), ("::ffff:10.0.0.0/8", "::/8"), ("10.0.0.0/8x", "10.0.0.0/8"),
        ("10.0.0.0/+8", "10.0.0.0/8"), ("10.0.0.0/8;", "10.0.0.0/8"), ("10.0.0.0/8/8", "10.0.0.0/8"),
        ("fe80::1%eth0", "fe80::1/128"), ("fe80::/10x", "fe80::/10"),
    ],
)  # fmt: skip
def test_what_counts_as_something_else(token: str, expected: str | None) -> None:
    assert odd_reading(token) == expected


@pytest.mark.parametrize(
    ("token", "parts"),
    [
        ("10.0.0.0", {"10.0.0.0": four(10, 0, 0, 0, 8)}),
        ("10.0.0.0/8", {"10.0.0.0/8": four(10, 0, 0, 0, 8)}),
        ("Host.Example.", {"Host.Example.": "host.example"}),
        ("10.0.0.{1,2}", {"10.0.0.1/32": four(10, 0, 0, 1, 32), "10.0.0.2/32": four(10, 0, 0, 2, 32)}),
        ("10.{0}", {"10.0.0.0/16": four(10, 0, 0, 0, 16)}),
        ("1.2.3", {"1.2.3": four(1, 2, 0, 3, 32)}),
        ("no name", {"no name": "no name"}),
    ],
)
def test_parts(token: str, parts: dict[str, Prefix | str]) -> None:
    assert parts_of(token) == parts
    assert all(_meaning(part) == meaning for part, meaning in parts.items())


def _meaning(part: str) -> Prefix | str:
    return next(iter(read(part)[0]), part)
