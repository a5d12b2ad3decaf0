"""The reception: accepts connections, admits or refuses them, and hands the admitted ones to its subclass.

Theory. All receptions (acceptors, and the relay for the built-in services) watch the same listening sockets with
EPOLLEXCLUSIVE, so the kernel wakes one. A listener that must not be accepted from for a while (rate used up, no
descriptors, the doorman overwhelmed) is paused: taken out of the epoll set until its time comes; its clients wait in
the kernel's queue. Under over_rate = wait a start is paid for before the connection is accepted, and given back if
there was none. Who waits while the rate is used up is counted when accepted: from the first that finds it so until the
queue is seen empty, everybody does, for a queue has an order.

A client whose name decides waits here, with a question at the doorman; the answer, or its absence, decides.

The control pipe says how to leave. A byte: retired by a reload, so no new connections but the questions open
are still decided. End of file: the supervisor is gone, leave at once. RENEW is the byte of a reload that changes nothing:
processes of pools are replaced.

Rules of this file
 - Nothing blocks but epoll_wait, and await_room while the journal is full.
 - A client's connection and payment are owned by `greet` until `admitted` or `refuse` has taken it.
 - No listener outlives `retire`: their ports must be free as soon as the supervisor gives them up.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastinetd.core.admit cimport (
    Client, close_ledger, decide, held_back, held_no_longer, open_ledger, record_refusal, take_slot,
)
from fastinetd.core.board cimport Board
from fastinetd.core.journal cimport journal_commit, journal_next, journal_room, wake_supervisor
from fastinetd.core.layout cimport (
    ACCEPT_FAILED, ADMIT, ASK, DEACTIVATED, DOORMAN, NAME, RATE, Counters, Record, Row, Verdict,
)
from fastinetd.core.ledger cimport own_counters
from fastinetd.core.limits cimport give_start, start_wait, take_start
from fastinetd.core.program cimport Program, Target, peer_of
from fastinetd.system.linux cimport (
    AF_INET, AF_UNIX, EAGAIN, EBADMSG, ECONNABORTED, EINTR, EPOLLEXCLUSIVE, EPOLLIN, EPOLL_CLOEXEC, EPOLL_CTL_ADD,
    EPOLL_CTL_DEL, EPROTO, F_DUPFD_CLOEXEC, MSG_DONTWAIT, MSG_NOSIGNAL, POLLIN, SHUT_RDWR, SOCK_CLOEXEC, SOL_SOCKET,
    SO_REUSEADDR, accept4, cas32, close, epoll_create1, epoll_ctl, epoll_event, epoll_wait, errno, fcntl, i64,
    load64, now_monotonic, poll, pollfd, read, send, setsockopt, shutdown, sockaddr, sockaddr_storage, socklen_t,
    u16, u32, u64, u8,
)
from fastinetd.system.strangers cimport close_shared, receive_words

from fastinetd.doorman import protocol

cdef enum:
    WAIT = 0  # OverRate's order, as in Row.over_rate
    REFUSE = 1
    CLOSE = 2

cdef char RENEW = c"p"  # as supervisor/roles.py writes it
cdef u64 SECOND = 1000000000
cdef u64 STARVED = 50000000  # pause of a listener when there are no descriptors or no memory

# The doorman's numbers, in the types they are used in here.
cdef u64 ANSWER_WITHIN = protocol.ANSWER_WITHIN * SECOND
cdef u64 ASK_AGAIN = protocol.ASK_AGAIN * SECOND
cdef u16 IPV4 = protocol.Family.IPV4
cdef u16 IPV6 = protocol.Family.IPV6
cdef u32 ALLOW = protocol.Reply.ALLOW

cdef packed struct QuestionMessage:
    u64 cookie
    u32 row
    u16 family
    u16 reserved
    u8 address[16]

cdef packed struct AnswerMessage:
    u64 cookie
    u32 reply


cdef compare_layout():
    """Raise ImportError unless the two messages have the bytes that doorman/protocol.py gives them."""
    cdef QuestionMessage question
    cdef AnswerMessage answer
    address = bytes(range(24, 40))
    question.cookie, question.row, question.family, question.reserved = 0x0807060504030201, 0x14131211, 0x1615, 0x1817
    memcpy(question.address, <const char *> address, sizeof(question.address))
    answer.cookie, answer.reply = question.cookie, question.row
    for name, layout, here, fields in (
        ("QUESTION", protocol.QUESTION, (<const char *> &question)[:sizeof(question)],
         (question.cookie, question.row, question.family, question.reserved, address)),
        ("ANSWER", protocol.ANSWER, (<const char *> &answer)[:sizeof(answer)], (answer.cookie, answer.reply)),
    ):
        if layout.size != len(here) or layout.unpack(here) != fields:
            raise ImportError(f"core/reception.pyx does not lay {name} out as doorman/protocol.py does")


compare_layout()


cdef class Reception:
    """Base of Acceptor and Relay; made in the forked process, then `run`."""

    def __init__(self, Board board, int section, listeners, int control, int doorman):
        """`listeners`: (descriptor, Program), descriptors borrowed. `control` and `doorman` (or -1) are borrowed too."""
        cdef Program program
        cdef u32 i
        cdef int low
        self.board, self.control, self.doorman = board, control, doorman
        # Unlike those of the process that was here before: its answers may still be on the way.
        self.cookies = now_monotonic() & ~<u64> (QUESTIONS - 1)
        self.programs = [program for _, program in listeners]
        self.count = len(listeners)
        self.listeners = <Listener *> calloc(self.count + 1, sizeof(Listener))
        if self.listeners == NULL or open_ledger(&self.ledger, &board.view, section):
            raise MemoryError
        for i, (fd, program) in enumerate(listeners):
            self.listeners[i].fd, self.listeners[i].target = fd, &program.target
        for i in range(QUESTIONS):
            self.questions[i].client.fd = -1
        low = epoll_create1(EPOLL_CLOEXEC)
        self.epoll = fcntl(low, F_DUPFD_CLOEXEC, 64)
        if self.epoll < 0:
            raise OSError(errno, "epoll_create1")
        close(low)
        for i in range(self.count):
            if self.watch(self.listeners[i].fd, ON_LISTENER, i, EPOLLIN | EPOLLEXCLUSIVE) < 0:
                raise OSError(errno, "epoll_ctl")
        self.watch(control, ON_CONTROL, 0, EPOLLIN)
        if doorman >= 0:
            self.watch(doorman, ON_DOORMAN, 0, EPOLLIN)

    def __dealloc__(self):
        close_ledger(&self.ledger)
        free(self.listeners)

    def run(self) -> None:
        """Serve until retired or left alone by the supervisor."""
        with nogil:
            self.receive()

    cdef int watch(self, int fd, EventKind kind, u32 index, u32 events) noexcept nogil:
        cdef epoll_event event
        event.events = events
        event.data.u64 = (<u64> kind << 32) | index
        return epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &event)

    cdef void forget(self, int fd) noexcept nogil:
        """Close a descriptor that is in the epoll set; -1 is none."""
        if fd >= 0:
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, fd, NULL)
            close(fd)

    # ---- listeners ----

    cdef void pause(self, Listener *listener, u64 nanoseconds) noexcept nogil:
        """Let the listener's clients wait in the kernel's queue for a while."""
        if not listener.paused:
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, listener.fd, NULL)
            listener.paused = True
            self.paused += 1
        listener.until = now_monotonic() + nanoseconds

    cdef void resume(self) noexcept nogil:
        """Watch the listeners again whose pause is over."""
        cdef u64 now = now_monotonic()
        cdef u32 i
        for i in range(self.count):
            if self.listeners[i].paused and self.listeners[i].until <= now:
                if self.watch(self.listeners[i].fd, ON_LISTENER, i, EPOLLIN | EPOLLEXCLUSIVE) < 0:
                    self.listeners[i].until = now + STARVED
                    continue
                self.listeners[i].paused = False
                self.paused -= 1
                self.let_go(i)  # another process may have taken the last one in the queue just before this one held back

    cdef void hold_back(self, u32 index) noexcept nogil:
        """The rate is used up: let those wait that are in the queue. An empty one is watched on, and tells of the first."""
        cdef Listener *listener = &self.listeners[index]
        if readable(listener.fd):
            held_back(&self.ledger, listener.target.row)
            self.pause(listener, start_wait(self.ledger.view, listener.target.row))
        else:
            self.let_go(index)

    cdef void let_go(self, u32 index) noexcept nogil:
        """The queue may be empty: if clients had to wait for the rate, look at all queues of the service."""
        cdef Target *target = self.listeners[index].target
        cdef u32 i
        if load64(&self.ledger.view.rows[target.row].held_to) == 0 or self.retired:
            return
        for i in range(self.count):
            if self.listeners[i].target == target and readable(self.listeners[i].fd):
                return
        held_no_longer(&self.ledger, target.row)

    cdef void await_room(self) noexcept nogil:
        """Wait until the journal has room for what one connection or one ended server writes.

        Unless the supervisor is gone: then nobody reads the journal any more, and this process leaves too.
        """
        cdef pollfd control
        control.fd, control.events = self.control, 0
        while not self.alone and not journal_room(&self.ledger, 4):
            wake_supervisor(self.ledger.view)
            if poll(&control, 1, 1) > 0:
                self.leave_now()

    cdef void serve(self, u32 index) noexcept nogil:
        """Accept and greet up to BATCH clients."""
        cdef Listener *listener = &self.listeners[index]
        cdef Target *target = listener.target
        cdef Row *row = &self.ledger.view.rows[target.row]
        cdef Counters *counters = own_counters(&self.ledger, target.row)
        cdef sockaddr_storage address
        cdef socklen_t length
        cdef Client client
        cdef Record *record
        cdef int i
        client.waited, client.vouched = 0, False
        for i in range(BATCH):
            if self.retired or listener.paused:
                return
            self.await_room()
            if self.retired:
                return
            client.payment.at = 0
            if row.over_rate == WAIT and not take_start(self.ledger.view, target.row, &client.payment):
                self.hold_back(index)
                return
            if self.asking == QUESTIONS and target.asks:
                self.pause(listener, STARVED)
                client.fd = -1
                errno_is_again()
            else:
                length = sizeof(address)
                client.fd = accept4(listener.fd, <sockaddr *> &address, &length, SOCK_CLOEXEC)
            if client.fd < 0:
                give_start(self.ledger.view, target.row, &client.payment)
                if errno == ECONNABORTED or errno == EINTR or errno == EPROTO:
                    continue
                if errno == EAGAIN:
                    self.let_go(index)
                else:
                    if row.closed or listener_is_shut(errno):
                        self.pause(listener, SECOND // 4)
                    else:
                        record = journal_next(&self.ledger)
                        record.row, record.kind, record.value = target.row, ACCEPT_FAILED, errno
                        journal_commit(&self.ledger)
                        self.pause(listener, STARVED)
                return
            counters.accepted += 1
            if row.held_to:
                counters.rate_waits += 1
            peer_of(&address, length, &client.peer)
            if target.unix_socket:
                client.peer.family = AF_UNIX
            self.greet(index, &client)
        self.let_go(index)

    cdef void greet(self, u32 index, Client *client) noexcept nogil:
        """Decide about a client; takes its connection and its payment."""
        cdef Listener *listener = &self.listeners[index]
        cdef Row *row = &self.ledger.view.rows[listener.target.row]
        cdef Record *record
        cdef u32 slot = 0
        cdef Verdict verdict = decide(self.ledger.view, listener.target, &client.peer)
        if verdict == ASK:
            if not client.vouched:
                self.ask(index, client)
                return
            verdict = ADMIT
        if verdict == ADMIT:
            verdict = take_slot(&self.ledger, listener.target, client, &slot)
        if verdict == ADMIT:
            self.admitted(listener, client, slot)
            return
        # A unix socket cannot be shut and opened again; there clients are refused until the rate allows more. So they are
        # by who is retired and has no listener any more: its descriptor's number may be a client's by now.
        if (verdict == RATE and row.over_rate == CLOSE and not listener.target.unix_socket and not self.retired
                and cas32(&row.closed, 0, 1)):
            self.shut(listener.target)
            record = journal_next(&self.ledger)
            record.row, record.kind, record.value = listener.target.row, DEACTIVATED, row.rate_pause
            journal_commit(&self.ledger)
        self.refuse(listener, client, verdict)

    cdef void shut(self, Target *target) noexcept nogil:
        """Close the service's port for the pause that its rate asks for, on all its addresses. It stays bound, and
        without SO_REUSEADDR nobody else can bind it meanwhile."""
        cdef u64 pause = self.ledger.view.rows[target.row].rate_pause * SECOND
        cdef int off = 0
        cdef u32 i
        for i in range(self.count):
            if self.listeners[i].target == target:
                setsockopt(self.listeners[i].fd, SOL_SOCKET, SO_REUSEADDR, &off, sizeof(off))
                shutdown(self.listeners[i].fd, SHUT_RDWR)
                self.pause(&self.listeners[i], pause)

    cdef void refuse(self, Listener *listener, Client *client, Verdict verdict) noexcept nogil:
        """Close a client's connection, counted and recorded, and give back its payment; takes both."""
        give_start(self.ledger.view, listener.target.row, &client.payment)
        record_refusal(&self.ledger, listener.target, &client.peer, verdict)
        if listener.target.unix_socket:
            close_shared(client.fd)
        else:
            close(client.fd)

    # ---- the doorman ----

    cdef void ask(self, u32 index, Client *client) noexcept nogil:
        """Let a client wait for the doorman's answer; takes its connection and its payment."""
        cdef Question *question = NULL
        cdef int kept
        cdef u32 i
        for i in range(QUESTIONS):
            if self.questions[i].client.fd < 0:
                question = &self.questions[i]
                break
        kept = fcntl(client.fd, F_DUPFD_CLOEXEC, 64) if question != NULL and self.doorman >= 0 else -1
        if kept < 0:
            self.refuse(&self.listeners[index], client, DOORMAN)
            return
        close(client.fd)
        self.cookies += QUESTIONS
        question.client, question.listener, question.cookie = client[0], index, self.cookies + i
        question.client.fd = kept
        question.deadline = now_monotonic() + ANSWER_WITHIN
        self.asking += 1
        self.send_question(question)

    cdef void send_question(self, Question *question) noexcept nogil:
        cdef QuestionMessage message
        memset(&message, 0, sizeof(message))
        message.cookie, message.row = question.cookie, self.listeners[question.listener].target.row
        message.family = IPV4 if question.client.peer.family == AF_INET else IPV6
        memcpy(message.address, question.client.peer.address, 16)
        send(self.doorman, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT)

    cdef void answers(self) noexcept nogil:
        """Take the doorman's answers."""
        cdef AnswerMessage message
        cdef Question *question
        cdef ssize_t length
        cdef Client client
        while True:
            length = receive_words(self.doorman, &message, sizeof(message), NULL)
            if length == -EBADMSG:  # no doorman says this: who waits for him is refused when time is up
                epoll_ctl(self.epoll, EPOLL_CTL_DEL, self.doorman, NULL)
            if length != sizeof(message):
                return
            question = &self.questions[message.cookie % QUESTIONS]
            if question.client.fd < 0 or question.cookie != message.cookie:
                continue
            client = question.client
            question.client.fd = -1
            self.asking -= 1
            self.await_room()
            if message.reply == ALLOW:
                client.vouched = True
                client.waited = <i64> (now_monotonic() - (question.deadline - ANSWER_WITHIN))
                self.greet(question.listener, &client)
            else:
                self.refuse(&self.listeners[question.listener], &client, NAME)

    cdef void overdue(self, u64 now) noexcept nogil:
        """Ask again what a dead doorman may have taken with it; refuse those who have waited too long."""
        cdef Question *question
        cdef u32 i
        cdef Client client
        for i in range(QUESTIONS):
            question = &self.questions[i]
            if question.client.fd < 0:
                continue
            if now < question.deadline:
                self.send_question(question)
                continue
            client = question.client
            question.client.fd = -1
            self.asking -= 1
            self.await_room()
            self.refuse(&self.listeners[question.listener], &client, DOORMAN)

    # ---- life ----

    cdef void hear(self) noexcept nogil:
        """The control pipe: a byte retires or, RENEW, replaces pools; its end means nobody is in charge any more."""
        cdef char byte
        cdef ssize_t n = read(self.control, &byte, 1)
        if n < 0 and (errno == EAGAIN or errno == EINTR):
            return
        if n > 0 and byte == RENEW:
            self.renew_pools()
        elif n > 0:
            self.retire()
        else:
            self.leave_now()

    cdef void leave_now(self) noexcept nogil:
        """Nobody is in charge any more: drop what waits, and end `receive`. The Board may go on without this process
        (too many generations were retired), so what clients have paid is given back, and their refusal counts."""
        cdef Question *question
        cdef u32 i
        cdef Client client
        self.retire()
        for i in range(QUESTIONS):
            question = &self.questions[i]
            if question.client.fd < 0:
                continue
            client = question.client
            question.client.fd = -1
            if journal_room(&self.ledger, 1):  # otherwise it is not waited for: perhaps nobody reads any more
                self.refuse(&self.listeners[question.listener], &client, DOORMAN)
            else:
                give_start(self.ledger.view, self.listeners[question.listener].target.row, &client.payment)
                close(client.fd)
        self.asking = 0
        self.alone = True

    cdef void retire(self) noexcept nogil:
        """Give up the listeners."""
        cdef u32 i
        if self.retired:
            return
        self.retired = True
        for i in range(self.count):
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, self.listeners[i].fd, NULL)
            close(self.listeners[i].fd)
        self.paused = 0

    cdef int timeout(self) noexcept nogil:
        """Milliseconds until something is due; -1: nothing is."""
        cdef u64 now, first
        cdef u32 i
        cdef i64 own = self.due()
        if not self.paused and not self.asking:
            return <int> own
        now = now_monotonic()
        first = now + SECOND
        if self.paused:
            for i in range(self.count):
                if self.listeners[i].paused and self.listeners[i].until < first:
                    first = self.listeners[i].until
        i = <u32> ((first - now + 999999) // 1000000) if first > now else 0
        return <int> (own if 0 <= own < i else i)

    cdef void receive(self) noexcept nogil:
        cdef int n, i
        cdef u64 asked_at = 0, now
        cdef u32 kind, index
        while not (self.retired and not self.asking and not self.busy()):
            n = epoll_wait(self.epoll, self.events, EVENTS, self.timeout())
            # What ended first: a place given back is there for the client that comes in the same moment.
            for i in range(n):
                kind, index = <u32> (self.events[i].data.u64 >> 32), <u32> self.events[i].data.u64
                if kind >= ON_OTHER:
                    self.happened(kind, index, self.events[i].events)
                elif kind == ON_DOORMAN:
                    self.answers()
            for i in range(n):
                kind, index = <u32> (self.events[i].data.u64 >> 32), <u32> self.events[i].data.u64
                if kind == ON_LISTENER:
                    self.serve(index)
                elif kind == ON_CONTROL:
                    self.hear()
            if self.alone:
                return
            if self.paused:
                self.resume()
            if self.asking:
                now = now_monotonic()
                if now - asked_at > ASK_AGAIN:
                    if asked_at:
                        self.overdue(now)
                    asked_at = now
            if self.due() == 0:
                self.its_time()

    # ---- for the subclass ----

    cdef void admitted(self, Listener *listener, Client *client, u32 slot) noexcept nogil:
        """Serve a client; takes its connection and `slot`."""

    cdef void renew_pools(self) noexcept nogil:
        """Replace the processes that wait for clients; those that serve go on."""

    cdef void happened(self, u32 kind, u32 index, u32 events) noexcept nogil:
        """Something of the subclass's own happened: `kind` is ON_OTHER or above."""

    cdef void its_time(self) noexcept nogil:
        """What `due` asked for."""

    cdef i64 due(self) noexcept nogil:
        """Milliseconds until the subclass wants to be called; -1: never."""
        return -1

    cdef bint busy(self) noexcept nogil:
        """Whether there is something left to do after retiring."""
        return False


cdef inline bint readable(int fd) noexcept nogil:
    """Whether a client or a datagram is there at this moment."""
    cdef pollfd look
    look.fd, look.events, look.revents = fd, POLLIN, 0
    return poll(&look, 1, 0) > 0 and (look.revents & POLLIN) != 0


cdef inline void errno_is_again() noexcept nogil:
    errno_set(EAGAIN)


cdef inline bint listener_is_shut(int number) noexcept nogil:
    return number == EINVAL


cdef extern from *:
    """
    #include <errno.h>
    static inline void errno_set(int number) { errno = number; }
    """
    void errno_set(int number) noexcept nogil


cdef extern from "<errno.h>" nogil:
    enum:
        EINVAL
