"""The endpoints on which a service listens, and its port: from the configuration or /etc/services."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import clip_value
from fastinetd.config.model import Family, Service
from fastinetd.plan.model import Endpoint, Unplannable

_SERVICES = "/etc/services"

UNIX_PATH_MOST = 107
"""Bytes of a unix socket's path: of the 108 of sun_path, unix(7), one is a NUL."""

_APART = (Family.AUTO, Family.BOTH)
"""Families with which IPv4 clients get an IPv4 socket and IPv6 clients an IPv6 socket, if the daemon accepts them.

xinetd turns the IPv6 socket of an accepted IPv4 client into an IPv4 one. A socket that a server gets as a whole, for
datagrams or to accept itself, takes both families.
"""


def endpoints_of(service: Service, report: Report) -> tuple[Endpoint, ...]:
    """All endpoints of a service. Raises Unplannable, reported, when it has no port, no path or a raw socket."""
    kinds = {"stream": socket.SOCK_STREAM, "dgram": socket.SOCK_DGRAM}
    kind = kinds.get(service.socket_type)
    if kind is None:
        report.add("raw-socket", service.place_of("socket_type"), service=service.id, value=service.socket_type)
        raise Unplannable
    if service.family is Family.UNIX or service.protocol == "unix":
        return tuple(_unix_endpoint(service, path, kind, report) for path in service.bind or ("",))
    port = _port_of(service, report)
    hosts = service.bind or ("",)
    apart = kind == socket.SOCK_STREAM and (service.internal or not service.wait) and service.family in _APART
    found: dict[Endpoint, int] = {}  # -> the index of its host
    for index, host in enumerate(hosts):
        for endpoint in _internet_endpoints(_family_of(service, index, host, report), host, kind, port):
            made = replace(endpoint, apart=endpoint.family != socket.AF_INET) if apart else endpoint
            found.setdefault(_normalise_endpoint(made), index)
    for endpoint, index in tuple(found.items()):
        wide = next((each for each in found if each != endpoint and each.covers(endpoint)), None)
        if wide is not None:
            del found[endpoint]
            report.add("bind-within", service.place_of_entry("bind", index), service=service.id,
                       value=clip_value(hosts[index]), socket=wide)
    return tuple(found)


class Places:
    """The sockets of services, and which of them leave no room for another one."""

    def __init__(self) -> None:
        self._taken: dict[Endpoint, tuple[Endpoint, Service]] = {}  # by `Endpoint.place`
        self._ports: dict[int, list[tuple[Endpoint, Service]]] = {}
        self._wide: dict[int, list[tuple[Endpoint, Service]]] = {}  # by port, those with every address

    def owner_of(self, endpoint: Endpoint) -> tuple[Endpoint, Service] | None:
        """The socket beside which an endpoint cannot be had, and its service; None when it can."""
        if (same := self._taken.get(endpoint.place)) is not None:
            return same
        # Those with an address of their own are asked only about one with every address: there may be thousands.
        beside = (self._wide if endpoint.host else self._ports).get(endpoint.port, ())
        return next((taken for taken in beside if taken[0].covers(endpoint) or endpoint.covers(taken[0])), None)

    def take(self, endpoint: Endpoint, service: Service) -> None:
        """Note that a service has an endpoint."""
        self._taken[endpoint.place] = endpoint, service
        for ports in (self._ports, *(() if endpoint.host else (self._wide,))):
            ports.setdefault(endpoint.port, []).append((endpoint, service))


def _unix_endpoint(service: Service, path: str, kind: int, report: Report) -> Endpoint:
    """The endpoint of a unix socket's path. Raises Unplannable, reported, for one that is not absolute or too long."""
    if not path.startswith("/") or len(os.fsencode(path)) > UNIX_PATH_MOST:
        report.add("unix-without-path", service.place_of("bind"), service=service.id, most=UNIX_PATH_MOST)
        raise Unplannable
    return Endpoint(socket.AF_UNIX, kind, path)


def _family_of(service: Service, index: int, host: str, report: Report) -> Family:
    """The address family in which to listen on one host of `bind`.

    An address has its own family; flags that contradict it are reported. xinetd would listen on every address of the
    flags' family, and so on more than the address that is written.
    """
    family = service.family
    version = _ip_version(host)
    if version == 4 and family in (Family.IPV6, Family.DUAL, Family.BOTH):
        actual, wanted = Family.IPV4, "IPv4"
    elif version == 6 and family is Family.IPV4:
        actual, wanted = Family.IPV6, "IPv6"
    else:
        return family
    if wanted not in service.flags:
        flags = " ".join(service.flags & {"IPv4", "IPv6"})
        what = f"flags = {flags}" if flags else f"an {family.value} socket"
        report.add("bind-family", service.place_of_entry("bind", index), service=service.id, what=what, value=host)
    return actual


def check_hosts(services: Iterable[Service], report: Report) -> None:
    """Report the hosts of `bind` that are no address, no interface and no host name now. May wait for the resolver."""
    interfaces = {name for _, name in socket.if_nameindex()}
    for service in services:
        if service.protocol == "unix":
            continue
        for index, host in enumerate(service.bind):
            if _ip_version(host) is None and host not in interfaces and not has_address(host):
                report.add("no-host", service.place_of_entry("bind", index), service=service.id, value=clip_value(host))


@lru_cache(maxsize=4096)
def has_address(host: str) -> bool:
    """Whether the resolver finds an address of a host."""
    try:
        return bool(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except (OSError, ValueError, UnicodeError):
        return False


def _ip_version(host: str) -> int | None:
    """4 or 6 for an address, which may have a scope (%eth0); None for a name."""
    try:
        return ip_address(host.partition("%")[0]).version
    except ValueError:
        return None


def _internet_endpoints(family: Family, host: str, kind: int, port: int) -> list[Endpoint]:
    """The endpoints of one host of `bind`, "" for all addresses, in an address family."""
    six = Endpoint(socket.AF_INET6, kind, host, port)
    match family:
        case Family.IPV4:
            return [Endpoint(socket.AF_INET, kind, host, port)]
        case Family.IPV6:
            return [Endpoint(socket.AF_INET6, kind, host, port, v6only=True)]
        case Family.DUAL | Family.BOTH:
            return [six if host else Endpoint(socket.AF_INET6, kind, host, port, fallback=True)]
        case Family.SPLIT if host:  # one socket per address, whatever families the host has
            return [Endpoint(socket.AF_UNSPEC, kind, host, port, v6only=True)]
        case Family.SPLIT:
            both = [Endpoint(socket.AF_INET, kind, host, port)]
            if has_ipv6():
                both.append(Endpoint(socket.AF_INET6, kind, host, port, v6only=True))
            return both
        case _:
            if host:
                return [Endpoint(socket.AF_UNSPEC, kind, host, port)]
            return [Endpoint(socket.AF_INET6, kind, host, port, fallback=True)]


def _normalise_endpoint(endpoint: Endpoint) -> Endpoint:
    """The endpoint in the one form that all ways to write it have: family and spelling of a numeric address."""
    host, percent, scope = endpoint.host.partition("%")
    try:
        address = ip_address(host)
    except ValueError:
        return endpoint
    if isinstance(address, IPv6Address) and endpoint.apart and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.version == 4:
        return Endpoint(socket.AF_INET, endpoint.kind, "" if address.is_unspecified else str(address), endpoint.port)
    if address.is_unspecified:
        return replace(endpoint, family=socket.AF_INET6, host="")
    return Endpoint(socket.AF_INET6, endpoint.kind, address.compressed + percent + scope, endpoint.port)


def _port_of(service: Service, report: Report) -> int:
    """The port of the configuration or of /etc/services; contradictions are reported.

    Raises Unplannable, reported, when there is none.
    """
    if service.port is not None and service.unlisted:
        return service.port
    listed = listed_port(service.name, service.protocol)
    if service.port is None:
        if listed is None:
            absent = "" if os.path.exists(_SERVICES) else ", which is not there (on Debian: apt install netbase)"
            report.add("no-port", service.place, service=service.id, name=service.name, protocol=service.protocol,
                       absent=absent)
            raise Unplannable
        return listed
    values = {"service": service.id, "name": service.name, "protocol": service.protocol}
    if listed is None:
        report.add("unlisted", service.place_of("port"), **values)
    elif listed != service.port:
        report.add("other-port", service.place_of("port"), listed=listed, **values)
    return service.port


@lru_cache(maxsize=4096)
def listed_port(name: str, protocol: str) -> int | None:
    """The port of a service in /etc/services (services(5)); None when it is not listed."""
    try:
        return socket.getservbyname(name, protocol)
    except (OSError, ValueError, UnicodeError):
        return None


def has_ipv6() -> bool:
    """Whether socket(2) opens IPv6 sockets."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True
