"""Who is served: a peer's address, and a client, which is a connection from accept until a server has it."""

from libc.string cimport memcmp, memcpy, memset

from fastinetd.core.rates cimport Payment
from fastinetd.system.linux cimport (
    AF_INET, AF_INET6, SOCK_CLOEXEC, accept4, i64, ntohs, sockaddr, sockaddr_in, sockaddr_in6,
    sockaddr_storage, socklen_t, u16, u8,
)

cdef struct Peer:
    u8 address[16]
    u16 family  # AF_INET (also for IPv4-mapped), AF_INET6, AF_UNIX; 0: unknown
    u16 port

cdef struct Client:
    int fd
    bint vouched  # the doorman has admitted its name
    i64 waited  # nanoseconds that it has waited for the doorman
    Payment payment  # what it has taken of the service's rate
    Peer peer


cdef inline void peer_of(const sockaddr_storage *address, socklen_t length, Peer *peer) noexcept nogil:
    """The peer's address in the Board's form; an IPv4 address inside IPv6 is plain IPv4."""
    cdef const sockaddr_in *four = <const sockaddr_in *> address
    cdef const sockaddr_in6 *six = <const sockaddr_in6 *> address
    memset(peer, 0, sizeof(Peer))
    if length < sizeof(u16):
        return
    peer.family = address.ss_family
    if peer.family == AF_INET:
        memcpy(peer.address, &four.sin_addr, 4)
        peer.port = ntohs(four.sin_port)
    elif peer.family == AF_INET6:
        peer.port = ntohs(six.sin6_port)
        if memcmp(&six.sin6_addr, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) != 0:
            memcpy(peer.address, &six.sin6_addr, 16)
        else:
            peer.family = AF_INET
            memcpy(peer.address, <const u8 *> &six.sin6_addr + 12, 4)


cdef inline bint accept_client(Client *client, int listener) noexcept nogil:
    """Accept a connection and fill in its client, but for the payment. Returns False, with errno, if there is none."""
    cdef sockaddr_storage address
    cdef socklen_t length = sizeof(address)
    client.vouched, client.waited = False, 0
    client.fd = accept4(listener, <sockaddr *> &address, &length, SOCK_CLOEXEC)
    if client.fd < 0:
        return False
    peer_of(&address, length, &client.peer)
    return True


cdef inline void make_peer(Peer *peer, bytes address, int port) noexcept:
    """A peer from 4 or 16 bytes in network order; any other length is an unknown one."""
    memset(peer, 0, sizeof(Peer))
    if len(address) == 4 or len(address) == 16:
        peer.family = AF_INET if len(address) == 4 else AF_INET6
        memcpy(peer.address, <const char *> address, len(address))
    peer.port = port


cdef inline void make_client(Client *client, int fd, bytes address, int port) noexcept:
    """A client that has neither paid nor waited; for its address see make_peer."""
    memset(client, 0, sizeof(Client))
    client.fd = fd
    make_peer(&client.peer, address, port)
