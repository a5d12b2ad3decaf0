"""Sockets beside each other: what the kernel has no room for is seen before anything is opened."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import Place, Service
from fastinetd.plan.endpoints import Places, endpoints_of
from fastinetd.plan.model import Endpoint
from support.clients import free_port

STREAM, DGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
V4, V6 = socket.AF_INET, socket.AF_INET6

WILD = [
    Endpoint(V4, STREAM), Endpoint(V6, STREAM), Endpoint(V6, STREAM, v6only=True),
    Endpoint(V6, STREAM, fallback=True, apart=True),
]  # fmt: skip
NARROW = [Endpoint(V4, STREAM, "127.0.0.2"), Endpoint(V6, STREAM, "::1"), Endpoint(V4, DGRAM)]


def service(**values: Any) -> Service:
    return Service("web", "web", Place("x.conf", 1), types=frozenset({"UNLISTED"}), port=7000, **values)


def can_be_beside(one: Endpoint, other: Endpoint) -> bool:
    """Whether the kernel lets both be bound, the first one listening, as the listeners have them."""
    with ExitStack() as stack:
        for each in (one, other):
            sock = stack.enter_context(socket.socket(each.family, each.kind))
            reuse = socket.SO_REUSEADDR if each.kind == STREAM else socket.SO_REUSEPORT
            sock.setsockopt(socket.SOL_SOCKET, reuse, 1)
            if each.family == V6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, each.v6only)
            try:
                sock.bind((each.host, each.port))
                if each.kind == STREAM:
                    sock.listen()
            except OSError as error:
                assert error.errno == errno.EADDRINUSE
                return False
    return True


@pytest.mark.parametrize("first", WILD, ids=str)
@pytest.mark.parametrize("second", [*WILD, *NARROW], ids=str)
def test_room_beside_every_address(first: Endpoint, second: Endpoint) -> None:
    """Two services have both sockets, in either order, when the kernel lets them be bound beside each other."""
    port = free_port()
    pair = [replace(each, port=port) for each in (first, second)]
    for one, other in (pair, pair[::-1]):
        places = Places()
        places.take(one, service())
        assert (places.owner_of(other) is None) == can_be_beside(one, other)


def test_each_gets_a_port_of_its_own() -> None:
    places = Places()
    places.take(Endpoint(V4, STREAM), service())
    assert places.owner_of(Endpoint(V4, STREAM, "127.0.0.1")) is None


@pytest.mark.parametrize("bind", [("0.0.0.0", "::"), ("::", "127.0.0.1"), ("::1", "::", "host")])
def test_addresses_within_one_another(bind: tuple[str, ...]) -> None:
    """The wider one alone is opened: the other could not be."""
    report = Report()
    assert endpoints_of(service(bind=bind), report) == (Endpoint(V6, STREAM, "", 7000, apart=True),)
    assert {each.code for each in report} == {"bind-within"}


def test_datagrams_have_a_socket_for_each_address() -> None:
    """SO_REUSEPORT lets both be bound, and what comes for the narrower one is taken there."""
    report = Report()
    made = endpoints_of(service(bind=("0.0.0.0", "127.0.0.1"), socket_type="dgram", protocol="udp", wait=True), report)
    assert [each.host for each in made] == ["", "127.0.0.1"]
    assert list(report) == []
