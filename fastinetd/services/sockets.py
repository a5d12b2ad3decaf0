"""Listening sockets: what a service listens on, opened, owned and named.

Rules of this file: every descriptor it returns is 64 or above (the low ones belong to connections and are what a
child copies), close-on-exec, and owned by the caller.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from fastinetd.plan.endpoints import has_ipv6
from fastinetd.plan.model import Endpoint, SocketOptions
from fastinetd.system.descriptors import lift_socket

BACKLOG = 2**31 - 1
"""More than net.core.somaxconn, which is then the queue's length."""

INTERFACE_NAME = 16  # bytes of one, with its NUL (IFNAMSIZ)
IPV6_FREEBIND = 78  # linux/in6.h; Python has no name for it


def open_endpoint(
    endpoint: Endpoint, options: SocketOptions, *, blocking: bool, beside: Sequence[socket.socket] = (),
    alone: bool = True,
) -> tuple[list[socket.socket], list[str]]:
    """Bind and listen: one socket per address that the endpoint's host has, and remarks for the log.

    `blocking`: the sockets are handed over to servers (O_NONBLOCK is shared with them). `beside`: listeners that have
    the port, as every address perhaps, until they are closed; the port is shared with them, so that it is never
    without a listener. `alone`: no other socket of this process has the port. Raises OSError, with nothing left open,
    when one of them cannot be had; what is missing may come later (an address, a resolver, a port).
    """
    opened: list[socket.socket] = []
    remarks: list[str] = []
    beside = [one for one in beside if one.family != socket.AF_UNIX]
    try:
        _share_port(beside)
        for family, address, device in _addresses_of(endpoint):
            made = _open_socket(endpoint, family, address, device, options, blocking, remarks, shared=bool(beside),
                                alone=alone and not beside)
            opened.append(made)
    except BaseException:
        for one in opened:
            one.close()
        raise
    return opened, remarks


def _share_port(sockets: Sequence[socket.socket]) -> None:
    """Let other sockets of this process's user have the same port as these; no other user's may."""
    for one in sockets:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def open_guard(sock: socket.socket) -> socket.socket:
    """A socket that keeps a stream socket's port whatever becomes of that one; the caller's. Raises OSError.

    It never listens. Once two sockets of a port have SO_REUSEADDR and none of them listens every user may have the port
    as well; the guard has it only while it is bound itself, beside the connections of earlier servers. SO_REUSEPORT
    lets in sockets of this process's user, and so the next listener.
    """
    _share_port([sock])
    made = lift_socket(socket.socket(sock.family, sock.type))
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _share_port([made])
        if sock.family == socket.AF_INET6:
            alone = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, alone)
        if device := sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, INTERFACE_NAME).rstrip(b"\0"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        _bind_socket(made, sock.family, sock.getsockname(), [])
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError:
        made.close()
        raise
    return made


def _addresses_of(endpoint: Endpoint) -> list[tuple[int, tuple[str, int] | str, str]]:
    """(family, address for bind, device) of each socket of an endpoint. Raises OSError."""
    addresses = _addresses_of_host(endpoint)
    return [each for one in addresses for each in _by_family(endpoint, *one)] if endpoint.apart else addresses


def _by_family(
    endpoint: Endpoint, family: int, address: tuple[str, int] | str, device: str
) -> list[tuple[int, tuple[str, int] | str, str]]:
    """A socket for each family of clients that this one would take: a client of another family than its socket's looks
    foreign to servers that know only the family (::ffff:192.0.2.1)."""
    if family != socket.AF_INET6:
        return [(family, address, device)]
    host, port = str(address[0]), int(address[1])
    if host in ("", "::"):
        four = (socket.AF_INET, ("", port), device)
        return [four] if endpoint.fallback and not has_ipv6() else [four, (family, address, device)]
    inside = IPv6Address(host.partition("%")[0]).ipv4_mapped
    return [(family, address, device) if inside is None else (socket.AF_INET, (str(inside), port), device)]


def _addresses_of_host(endpoint: Endpoint) -> list[tuple[int, tuple[str, int] | str, str]]:
    """(family, address for bind, device) of each socket of an endpoint, as if it need not be set apart by family: one
    IPv6 socket takes the clients of both families where the host is both's."""
    host, port = endpoint.host, endpoint.port
    if endpoint.family == socket.AF_UNIX:
        return [(socket.AF_UNIX, host, "")]
    if not host:
        return [(endpoint.family, ("", port), "")]
    try:
        version = ip_address(host.partition("%")[0]).version
        return [(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port), "")]
    except ValueError:
        pass
    if host in (name for _, name in socket.if_nameindex()):
        families = [endpoint.family]
        if endpoint.family == socket.AF_UNSPEC:
            six = [socket.AF_INET6] if has_ipv6() else []
            four = [] if six and not endpoint.v6only else [socket.AF_INET]
            families = [*four, *six]
        return [(family, ("", port), host) for family in families]
    try:
        answers = socket.getaddrinfo(host, port, endpoint.family, endpoint.kind)
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, f"{host}: {error.strerror}") from None
    except UnicodeError:  # a part of it is longer than 63 characters, or empty
        raise OSError(errno.EADDRNOTAVAIL, f"{host}: no host can have this name") from None
    unique = dict.fromkeys((family, (str(address[0]), port)) for family, _, _, _, address in answers)
    return [(family, address, "") for family, address in unique]


def _open_socket(
    endpoint: Endpoint,
    family: int,
    address: tuple[str, int] | str,
    device: str,
    options: SocketOptions,
    blocking: bool,
    remarks: list[str],
    *,
    shared: bool,
    alone: bool,
) -> socket.socket:
    """A socket bound to one address of an endpoint; a stream socket listens. `shared`: sockets that this one replaces
    have the port; `alone`: no socket of this process has it. What is worth a message is added to `remarks`. Raises
    OSError."""
    kind = endpoint.kind
    try:
        made = lift_socket(socket.socket(family, kind))
    except OSError as error:
        if not endpoint.fallback or error.errno != errno.EAFNOSUPPORT:
            raise
        family = socket.AF_INET
        made = lift_socket(socket.socket(family, kind))
    try:
        made.setblocking(blocking)
        if family == socket.AF_UNIX:
            _bind_unix(made, str(address), options)
        else:
            # So that a restarted daemon need not wait for the last server of the one before. On a datagram port
            # SO_REUSEADDR would let every user bind the port as well; SO_REUSEPORT lets only the same user.
            reuse = socket.SO_REUSEADDR if kind == socket.SOCK_STREAM else socket.SO_REUSEPORT
            exclusive = alone and kind == socket.SOCK_DGRAM
            if not exclusive:
                made.setsockopt(socket.SOL_SOCKET, reuse, 1)
            if shared:
                _share_port([made])
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, endpoint.v6only or endpoint.apart)
            if device:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            (_bind_datagrams if exclusive else _bind_socket)(made, family, address, remarks)
        apply_options(made, options)
        if kind == socket.SOCK_STREAM:
            made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def _bind_socket(made: socket.socket, family: int, address: tuple[Any, ...] | str, remarks: list[str]) -> None:
    """Bind a socket. An address that this machine does not have yet is bound all the same, and served once it appears.
    Raises OSError."""
    try:
        made.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_FREEBIND if hasattr(socket, "IP_FREEBIND") else 15, 1)
        made.bind(address)
        remarks.append(f"{address[0]} is not an address of this machine yet; clients are served once it is")


def _bind_datagrams(made: socket.socket, family: int, address: tuple[Any, ...] | str, remarks: list[str]) -> None:
    """Bind a datagram socket, beside another process's if need be, but not in silence. Raises OSError."""
    try:
        _bind_socket(made, family, address, remarks)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        _share_port([made])
        _bind_socket(made, family, address, remarks)
        remarks.append(
            f"another process of this user has port {address[1]} too, and gets a part of what comes: a server that an "
            "earlier daemon has left, or another daemon; end it (ss -ulpn names it)"
        )
    _share_port([made])


def _bind_unix(made: socket.socket, path: str, options: SocketOptions) -> None:
    """Bind a socket to a path. A socket's file on which no process listens any more is replaced, and nothing else ever
    is. Raises OSError."""
    try:
        if stat.S_ISSOCK(Path(path).lstat().st_mode):
            with socket.socket(socket.AF_UNIX, made.type) as probe:
                probe.setblocking(False)  # a full queue must not hold the supervisor up: a process listens
                try:
                    probe.connect(path)
                except (ConnectionRefusedError, FileNotFoundError):
                    Path(path).unlink(missing_ok=True)
                except BlockingIOError:
                    pass
    except FileNotFoundError:
        pass
    # The mode is the socket's before it has a name, and the owner is changed through a descriptor of what was bound:
    # a user that may write the folder could put a link in its place meanwhile.
    os.fchmod(made.fileno(), 0o666 if options.mode is None else options.mode)
    before = os.umask(0)
    try:
        made.bind(path)
    finally:
        os.umask(before)
    if options.owner is not None or options.group is not None:
        bound = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if stat.S_ISSOCK(os.fstat(bound).st_mode):
                owner = -1 if options.owner is None else options.owner
                os.chown(f"/proc/self/fd/{bound}", owner, -1 if options.group is None else options.group)
        finally:
            os.close(bound)


def set_permissions(path: str, inode: tuple[int, int], options: SocketOptions) -> None:
    """Give the file of a bound unix socket the owner and mode of `options`, or those of the daemon where `options` have
    none. A file that is not `inode` any more has another owner and is left alone. Raises OSError."""
    bound = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(bound)
        if (status.st_dev, status.st_ino) == inode:
            owner = os.geteuid() if options.owner is None else options.owner
            group = os.getegid() if options.group is None else options.group
            os.chown(f"/proc/self/fd/{bound}", owner, group)
            Path(f"/proc/self/fd/{bound}").chmod(0o666 if options.mode is None else options.mode)
    finally:
        os.close(bound)


def apply_options(made: socket.socket, options: SocketOptions) -> None:
    """Set the options that may change while a socket is open. Those of TCP are inherited by its connections."""
    internet = made.family in (socket.AF_INET, socket.AF_INET6)
    if internet and made.type == socket.SOCK_STREAM:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, options.nodelay)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, options.keepalive)
    if options.receive_buffer is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options.receive_buffer)
    if options.send_buffer is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.send_buffer)
