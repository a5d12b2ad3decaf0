"""Names of a client's address: which are looked up, and which are confirmed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address

import pytest

from fastinetd.doorman import doorman
from fastinetd.doorman.doorman import confirmed_names
from fastinetd.policy.access import Address

ONE = IPv4Address("192.0.2.1")


def zone(reverse: list[str], forward: dict[str, list[str]]) -> tuple[Callable[[Address], Iterable[str]], list[str]]:
    asked: list[str] = []

    def look(name: str, family: int) -> Iterable[str]:
        asked.append(name)
        if name not in forward:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        want = ":" if family == socket.AF_INET6 else "."
        return [text for text in forward[name] if want in text]

    return (lambda address: confirmed_names(address, lambda _: reverse, look)), asked


def test_a_name_must_lead_back() -> None:
    names, _ = zone(
        ["Good.Example.", "spoofed.example", "gone.example"],
        {
            "good.example": ["198.51.100.1", "192.0.2.1", "2001:db8::1"],
            "spoofed.example": ["198.51.100.7"],
        },
    )
    assert names(ONE) == {"good.example"}
    assert names(IPv6Address("2001:db8::1")) == {"good.example"}
    assert names(IPv4Address("192.0.2.2")) == frozenset()


def test_impossible_names_are_not_looked_up() -> None:
    names, asked = zone(["192.0.2.1", "a b.example", "-x.example", "", "x\0.example", "é.example", "a" * 300], {})
    assert names(ONE) == frozenset()
    assert asked == []


def test_few_names_are_confirmed() -> None:
    many = [f"n{number}.example" for number in range(100)]
    names, asked = zone(many, {name: ["192.0.2.1"] for name in many})
    assert names(ONE) == set(many[: doorman.MOST_NAMES])
    assert asked == many[: doorman.MOST_NAMES]


def test_scopes_and_oddities_in_answers() -> None:
    names, _ = zone(["link.example", "odd.example"], {"link.example": ["fe80::1%2"], "odd.example": ["x:y"]})
    assert names(IPv6Address("fe80::1")) == {"link.example"}


def test_the_system_resolver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostbyaddr", lambda text: ("one.example", ["alias.example"], [text]))

    def getaddrinfo(name: str, port: None, family: int, kind: int) -> list[tuple[object, ...]]:
        assert (port, family, kind) == (None, socket.AF_INET, socket.SOCK_STREAM)
        address = "192.0.2.1" if name == "one.example" else "192.0.2.7"
        return [(family, kind, 6, "", (address, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert confirmed_names(ONE) == {"one.example"}
