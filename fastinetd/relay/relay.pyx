"""The relay: the built-in services echo, discard, chargen, daytime and time, in process and without privileges.

Theory. Admission is the reception's. A stream session is a slot on the Board like a server, and a Session here with a
buffer: what was read and not yet written, and whether the client has sent its last byte. Datagram services answer each
datagram at once. Sources: RFC 862 (echo), 863 (discard), 864 (chargen), 867 (daytime), 868 (time).

Rules of this file
 - No client is waited for: sockets are non-blocking, and a session reads again only when all it read is written.
 - A datagram from a built-in service's port is not answered: the answer would be answered.
 - An answer to a datagram is never longer than what RFC 864 allows, 512 characters.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fastinetd.core.admit cimport (
    drop_slot, free_slot, judge_peer, record_datagram, record_end, record_refusal, record_start,
)
from fastinetd.core.board cimport Board
from fastinetd.core.client cimport Client, Peer, peer_of
from fastinetd.core.layout cimport ADMIT, ASK, LOOP, NAME, SLOTS_FULL, Counters, Row, Verdict, View
from fastinetd.core.ledger cimport count_accepted, own_counters
from fastinetd.core.limits cimport give_start, take_start
from fastinetd.core.program cimport Target
from fastinetd.core.rates cimport Payment
from fastinetd.core.reception cimport ON_OTHER, Listener, Reception
from fastinetd.system.linux cimport (
    CLD_EXITED, CLOCK_REALTIME, EAGAIN, EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLL_CTL_ADD, EPOLL_CTL_MOD, MSG_DONTWAIT,
    MSG_NOSIGNAL, SOL_SOCKET, clock_gettime, close, epoll_ctl, epoll_event, errno, fcntl, getsockname, getsockopt,
    htonl, i64, recvfrom, send, sendto, sockaddr, sockaddr_storage, socklen_t, timespec, u16, u32, u64, u8,
)
from fastinetd.system.strangers cimport close_shared, keep_awake, stop_waking

cpdef enum Builtin:
    """The services: their names in capitals, and a Program's `builtin`."""
    ECHO = 1
    DISCARD = 2
    CHARGEN = 3
    DAYTIME = 4
    TIME = 5

cdef enum:
    SESSIONS_MOST = 4096
    RESERVED_SESSIONS = 64  # of them, for services that answer and close; elsewhere clients decide how long they stay
    BUFFER_SIZE = 16384  # of a session
    CHARGEN_LINE = 74  # 72 characters and CRLF
    PRINTABLE = 95
    DATAGRAMS_IN_A_ROW = 64  # answered in a row
    EPOCH_1900 = 2208988800

cdef extern from "<time.h>" nogil:
    struct tm:
        pass
    ctypedef i64 time_t
    tm *localtime_r(const time_t *when, tm *into)
    size_t strftime(char *into, size_t room, const char *form, const tm *when)

cdef extern from "<fcntl.h>" nogil:
    enum:
        F_GETFL, F_SETFL, O_NONBLOCK

cdef extern from "<sys/socket.h>" nogil:
    enum:
        SO_TYPE, SOCK_DGRAM

cdef struct Session:
    int fd  # -1: ended
    u32 slot
    u32 kind
    u32 position  # chargen: first character of the next line
    u32 begin
    u32 end
    bint finished  # the client sends no more
    u32 watching
    Target *target
    char buffer[BUFFER_SIZE]


cdef class Relay(Reception):
    """Serves the built-in services."""

    cdef Session *sessions
    cdef u32 *vacant  # a stack of unused sessions
    cdef u32 vacancies
    cdef u8 *dgram  # by listener
    cdef u16 *ports  # of the datagram services, by listener; 0 for others

    def __init__(self, Board board, int section, listeners, int control, int doorman):
        cdef u32 i
        cdef int kind
        cdef socklen_t length
        cdef sockaddr_storage address
        cdef Peer own
        super().__init__(board, section, listeners, control, doorman)
        self.sessions = <Session *> calloc(SESSIONS_MOST, sizeof(Session))
        self.dgram = <u8 *> calloc(self.count + 1, 1)
        self.ports = <u16 *> calloc(self.count + 1, sizeof(u16))
        self.vacant = <u32 *> calloc(SESSIONS_MOST, sizeof(u32))
        if self.sessions == NULL or self.dgram == NULL or self.ports == NULL or self.vacant == NULL:
            raise MemoryError
        self.vacancies = SESSIONS_MOST
        for i in range(SESSIONS_MOST):  # the sessions themselves are not touched before they are used
            self.vacant[i] = SESSIONS_MOST - 1 - i
        for i in range(self.count):
            length = sizeof(kind)
            getsockopt(self.listeners[i].fd, SOL_SOCKET, SO_TYPE, &kind, &length)
            self.dgram[i] = kind == SOCK_DGRAM
            if self.dgram[i]:
                length = sizeof(address)
                getsockname(self.listeners[i].fd, <sockaddr *> &address, &length)
                peer_of(&address, length, &own)
                self.ports[i] = own.port

    def __dealloc__(self):
        free(self.sessions)
        free(self.dgram)
        free(self.ports)
        free(self.vacant)

    cdef bint busy(self) noexcept nogil:
        return self.vacancies < SESSIONS_MOST

    cdef void serve_listener(self, u32 index) noexcept nogil:
        if self.dgram[index]:
            self.answer_datagrams(index)
        else:
            Reception.serve_listener(self, index)

    cdef ssize_t receive_now(self, Target *target, int fd, char *buffer, size_t room, sockaddr *address,
                             socklen_t *length) noexcept nogil:
        """recvfrom without waiting, not even for the close of a descriptor that came by a unix socket."""
        cdef ssize_t n
        if not target.unix_socket:
            return recvfrom(fd, buffer, room, MSG_DONTWAIT, address, length)
        keep_awake()
        n = recvfrom(fd, buffer, room, MSG_DONTWAIT, address, length)
        stop_waking()
        return n

    # ---- streams ----

    cdef void serve_client(self, u32 index, Client *client, u32 slot) noexcept nogil:
        cdef Listener *listener = &self.listeners[index]
        cdef Session *session
        cdef u32 i
        fcntl(client.fd, F_SETFL, fcntl(client.fd, F_GETFL) | O_NONBLOCK)
        cdef bint brief = listener.target.builtin == DAYTIME or listener.target.builtin == TIME
        if self.vacancies <= (0 if brief else RESERVED_SESSIONS):
            drop_slot(&self.ledger, slot)
            self.refuse(listener, client, SLOTS_FULL)
            return
        self.vacancies -= 1
        i = self.vacant[self.vacancies]
        session = &self.sessions[i]
        session.fd, session.slot, session.target = client.fd, slot, listener.target
        session.kind = listener.target.builtin
        session.position = session.begin = session.end = 0
        session.finished = False
        session.watching = 0
        record_start(&self.ledger, listener.target, slot, -1)
        if brief:
            session.end = write_time(session.kind, session.buffer)
            session.finished = True
        self.continue_session(i)

    cdef void handle_event(self, u32 kind, u32 index, u32 events) noexcept nogil:
        self.continue_session(index)

    cdef void continue_session(self, u32 index) noexcept nogil:
        """Move as many bytes as go without waiting; then watch for what is missing, or end the session."""
        cdef Session *session = &self.sessions[index]
        cdef ssize_t n
        cdef int turn
        cdef u32 wanted
        if session.fd < 0:
            return
        for turn in range(8):
            if session.kind == CHARGEN and session.begin == session.end:
                session.begin, session.end = 0, write_characters(session.buffer, BUFFER_SIZE, &session.position)
            if session.begin < session.end:
                n = send(session.fd, session.buffer + session.begin, session.end - session.begin, MSG_NOSIGNAL)
                if n < 0:
                    if errno == EAGAIN:
                        break
                    self.end_session(index)
                    return
                session.begin += <u32> n
                continue
            if session.finished:
                self.end_session(index)
                return
            n = self.receive_now(session.target, session.fd, session.buffer, BUFFER_SIZE, NULL, NULL)
            if n < 0:
                if errno == EAGAIN:
                    break
                self.end_session(index)
                return
            session.finished = n == 0
            session.begin, session.end = 0, <u32> n if session.kind == ECHO else 0
        if session.kind == CHARGEN and self.client_is_gone(session):
            self.end_session(index)
            return
        wanted = EPOLLOUT if session.begin < session.end or session.kind == CHARGEN else EPOLLIN
        if session.kind == CHARGEN:
            wanted |= EPOLLRDHUP
        self.watch_session(session, index, wanted)

    cdef bint client_is_gone(self, Session *session) noexcept nogil:
        """Whether the client of chargen has closed; what it has sent is thrown away."""
        cdef char nothing[512]
        cdef ssize_t n = self.receive_now(session.target, session.fd, nothing, sizeof(nothing), NULL, NULL)
        return n == 0 or (n < 0 and errno != EAGAIN)

    cdef void watch_session(self, Session *session, u32 index, u32 wanted) noexcept nogil:
        """Have epoll report the `wanted` events of a session's socket; where that cannot be had the session ends."""
        cdef epoll_event event
        if session.watching == wanted:
            return
        event.events = wanted
        event.data.u64 = (<u64> ON_OTHER << 32) | index
        if epoll_ctl(self.epoll, EPOLL_CTL_MOD if session.watching else EPOLL_CTL_ADD, session.fd, &event) < 0:
            self.end_session(index)
            return
        session.watching = wanted

    cdef void end_session(self, u32 index) noexcept nogil:
        """Close a session's connection, record its end, and free its slot and its place."""
        cdef Session *session = &self.sessions[index]
        self.await_room()
        if session.target.unix_socket:
            close_shared(session.fd)
        else:
            close(session.fd)
        session.fd = -1
        self.vacant[self.vacancies] = index
        self.vacancies += 1
        record_end(&self.ledger, session.slot, CLD_EXITED, 0, 0, 0)
        free_slot(&self.ledger, session.slot)

    # ---- datagrams ----

    cdef bint from_builtin(self, Peer *peer) noexcept nogil:
        """Whether a built-in service may have sent the datagram: one of here, or one at the ports of the RFCs
        anywhere."""
        cdef u32 i
        if peer.port == 0 or peer.port == 7 or peer.port == 9 or peer.port == 13 or peer.port == 17 \
                or peer.port == 19 or peer.port == 37:
            return True
        for i in range(self.count):
            if self.ports[i] and self.ports[i] == peer.port:
                return True
        return False

    cdef void answer_datagrams(self, u32 index) noexcept nogil:
        """Receive up to DATAGRAMS_IN_A_ROW datagrams from a listener, and answer those that are admitted."""
        cdef Listener *listener = &self.listeners[index]
        cdef Target *target = listener.target
        cdef View *view = self.ledger.view
        cdef Row *row = &view.rows[target.row]
        cdef Counters *counters = own_counters(&self.ledger, target.row)
        cdef char buffer[65536]
        cdef sockaddr_storage address
        cdef socklen_t length
        cdef Peer peer
        cdef Payment payment
        cdef Verdict verdict
        cdef ssize_t n
        cdef u32 position = 0
        cdef int i
        for i in range(DATAGRAMS_IN_A_ROW):
            if self.retired:
                return
            self.await_room()
            if not take_start(view, target.row, &payment):
                self.wait_for_rate(index)
                return
            length = sizeof(address)
            n = self.receive_now(target, listener.fd, buffer, sizeof(buffer), <sockaddr *> &address, &length)
            if n < 0:
                give_start(view, target.row, &payment)
                self.queue_was_empty(index)
                return
            count_accepted(row, counters)
            peer_of(&address, length, &peer)
            verdict = judge_peer(view, target, &peer)
            if verdict == ADMIT and target.builtin != DISCARD and not target.unix_socket and self.from_builtin(&peer):
                verdict = LOOP
            if verdict != ADMIT:
                give_start(view, target.row, &payment)
                record_refusal(&self.ledger, target, &peer, NAME if verdict == ASK else verdict)
                continue
            record_datagram(&self.ledger, target, &peer)
            if target.builtin == DISCARD:
                continue
            if target.builtin == CHARGEN:
                n = write_characters(buffer, 512 - 512 % CHARGEN_LINE, &position)
            elif target.builtin != ECHO:
                n = write_time(target.builtin, buffer)
            sendto(listener.fd, buffer, n, MSG_NOSIGNAL | MSG_DONTWAIT, <sockaddr *> &address, length)
        self.queue_was_empty(index)


cdef u32 write_characters(char *into, u32 room, u32 *position) noexcept nogil:
    """Whole lines of chargen's pattern; returns their length."""
    cdef u32 i, used = 0
    while used + CHARGEN_LINE <= room:
        for i in range(CHARGEN_LINE - 2):
            into[used + i] = <char> (32 + (position[0] + i) % PRINTABLE)
        into[used + CHARGEN_LINE - 2] = 13
        into[used + CHARGEN_LINE - 1] = 10
        used += CHARGEN_LINE
        position[0] = (position[0] + 1) % PRINTABLE
    return used


cdef u32 write_time(u32 kind, char *into) noexcept nogil:
    """The answer of daytime or time; returns its length."""
    cdef timespec now
    cdef tm local
    cdef u32 seconds
    clock_gettime(CLOCK_REALTIME, &now)
    if kind == TIME:
        seconds = htonl(<u32> (<u64> now.tv_sec + EPOCH_1900))
        memcpy(into, &seconds, 4)
        return 4
    localtime_r(<time_t *> &now.tv_sec, &local)
    return <u32> strftime(into, 64, "%d %b %Y %H:%M:%S %Z\r\n", &local)
