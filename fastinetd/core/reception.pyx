"""The reception: accepts connections, admits or refuses them, and hands the admitted ones to its subclass.

Theory. All receptions (acceptors, and the relay for the built-in services) watch the same listening sockets with
EPOLLEXCLUSIVE, so the kernel wakes one. A listener that must not be accepted from for a while (rate used up, no
descriptors, the doorman overwhelmed) is paused: taken out of the epoll set until its time comes; its clients wait in
the kernel's queue. Under over_rate = wait a start is paid for before the connection is accepted, and given back if
there was none. Who waits while the rate is used up is counted when accepted: from the first that finds it so until the
queue is seen empty, everybody does, for a queue has an order.

A client whose name decides waits in core/questions; the doorman's answer, or its absence, decides.

The control pipe says how to leave. RETIREMENT: retired by a reload, so no new connections but the questions open
are still decided. End of file: the supervisor is gone, leave at once. Any other byte is an order for the subclass.

Rules of this file
 - Nothing blocks but epoll_wait, and await_room while the journal is full.
 - A client's connection and payment are owned by `greet` until `serve_client` or `refuse` has taken it.
 - No listener outlives `retire`: their ports must be free as soon as the supervisor gives them up.
"""

from libc.stdlib cimport calloc, free

from fastinetd.core.admit cimport (
    begin_rate_wait, close_ledger, end_rate_wait, judge_peer, open_ledger, record_refusal, take_slot,
)
from fastinetd.core.board cimport Board
from fastinetd.core.client cimport Client, accept_client
from fastinetd.core.journal cimport journal_commit, journal_next, journal_room, wake_supervisor
from fastinetd.core.layout cimport (
    ACCEPT_FAILED, ADMIT, ASK, DEACTIVATED, DOORMAN, NAME, OVER_CLOSE, OVER_WAIT, RATE, Counters, Record, Row, Verdict,
)
from fastinetd.core.ledger cimport count_accepted, own_counters
from fastinetd.core.limits cimport give_start, start_wait, take_start
from fastinetd.core.program cimport Program, Target
from fastinetd.core.questions cimport (
    ALLOWED, BAD_ANSWER, NO_ANSWER, QUESTIONS, Answer, ask_again, ask_doorman, open_questions, take_answer,
    take_overdue, time_to_ask_again,
)
from fastinetd.system.linux cimport (
    EAGAIN, ECONNABORTED, EINTR, EINVAL, EPOLLEXCLUSIVE, EPOLLIN, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPROTO,
    FIRST_KEPT_DESCRIPTOR, F_DUPFD_CLOEXEC, POLLIN, SECOND, SHUT_RDWR, SOL_SOCKET, SO_REUSEADDR, cas32, close,
    epoll_create1, epoll_ctl, epoll_event, epoll_wait, errno, fcntl, i64, load64, now_monotonic, poll, pollfd, read,
    setsockopt, shutdown, u32, u64,
)
from fastinetd.system.strangers cimport close_shared

RETIREMENT = b"r"
"""The order on a control pipe that retires a role."""

cdef char RETIRE = RETIREMENT[0]
cdef u64 FOREVER = 0xFFFFFFFFFFFFFFFF  # later than any time
cdef u64 STARVED = 50000000  # pause of a listener when there are no descriptors, no memory or no place for a question


cdef class Reception:
    """Base of Acceptor and Relay; made in the forked process, then `run`."""

    def __init__(self, Board board, int section, listeners, int control, int doorman):
        """`listeners`: (descriptor, Program), descriptors borrowed. `control` and `doorman` (or -1) are borrowed
        too."""
        cdef Program program
        cdef u32 i
        cdef int low
        self.board, self.control = board, control
        self.programs = [program for _, program in listeners]
        self.count = len(listeners)
        self.listeners = <Listener *> calloc(self.count + 1, sizeof(Listener))
        if self.listeners == NULL or open_ledger(&self.ledger, &board.view, section):
            raise MemoryError
        for i, (fd, program) in enumerate(listeners):
            self.listeners[i].fd, self.listeners[i].target = fd, &program.target
        open_questions(&self.questions, doorman)
        low = epoll_create1(EPOLL_CLOEXEC)
        self.epoll = fcntl(low, F_DUPFD_CLOEXEC, FIRST_KEPT_DESCRIPTOR)
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

    cdef int watch(self, int fd, u32 kind, u32 index, u32 events) noexcept nogil:
        """Add a descriptor to the epoll set. `kind`: an EventKind, or the subclass's. Returns below 0, with errno, if
        that cannot be had."""
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

    cdef void pause_listener(self, u32 index, u64 nanoseconds) noexcept nogil:
        """Let the listener's clients wait in the kernel's queue for a while."""
        cdef Listener *listener = &self.listeners[index]
        if not listener.paused:
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, listener.fd, NULL)
            listener.paused = True
            self.paused += 1
        listener.until = now_monotonic() + nanoseconds

    cdef void resume_listener(self, u32 index) noexcept nogil:
        """End a listener's pause, if it has one, after this round of events."""
        self.listeners[index].until = 0

    cdef void resume_listeners(self) noexcept nogil:
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

    cdef void wait_for_rate(self, u32 index) noexcept nogil:
        """The rate is used up: a listener with clients in its queue is paused until the rate allows one. An empty one
        is watched on: the first client to come shall be seen."""
        cdef Target *target = self.listeners[index].target
        if queue_has_client(self.listeners[index].fd):
            begin_rate_wait(&self.ledger, target.row)
            self.pause_listener(index, start_wait(self.ledger.view, target.row))
        else:
            self.queue_was_empty(index)

    cdef void queue_was_empty(self, u32 index) noexcept nogil:
        """A listener's queue was just empty: if clients of the service had to wait for its rate, none does any more
        once the queues of all its listeners are."""
        cdef Target *target = self.listeners[index].target
        cdef u32 i
        if load64(&self.ledger.view.rows[target.row].rate_wait_counted_to) == 0 or self.retired:
            return
        for i in range(self.count):
            if self.listeners[i].target == target and queue_has_client(self.listeners[i].fd):
                return
        end_rate_wait(&self.ledger, target.row)

    cdef void shut_port(self, Target *target) noexcept nogil:
        """Close the service's port for the pause that its rate asks for, on all its addresses. It stays bound, and
        without SO_REUSEADDR nobody else can bind it meanwhile."""
        cdef u64 pause = self.ledger.view.rows[target.row].rate_pause * SECOND
        cdef int off = 0
        cdef u32 i
        for i in range(self.count):
            if self.listeners[i].target == target:
                setsockopt(self.listeners[i].fd, SOL_SOCKET, SO_REUSEADDR, &off, sizeof(off))
                shutdown(self.listeners[i].fd, SHUT_RDWR)
                self.pause_listener(i, pause)

    # ---- clients ----

    cdef void await_room(self) noexcept nogil:
        """Wait until the journal has room for what one connection or one ended server writes.

        Unless the supervisor is gone, which alone reads the journal: then this process leaves too.
        """
        cdef pollfd control
        control.fd, control.events = self.control, 0
        while not self.alone and not journal_room(&self.ledger, 4):
            wake_supervisor(self.ledger.view)
            if poll(&control, 1, 1) > 0:
                self.leave_now()

    cdef void serve_listener(self, u32 index) noexcept nogil:
        """Accept and greet up to ACCEPTS_IN_A_ROW clients."""
        cdef Listener *listener = &self.listeners[index]
        cdef Target *target = listener.target
        cdef Row *row = &self.ledger.view.rows[target.row]
        cdef Counters *counters = own_counters(&self.ledger, target.row)
        cdef Client client
        cdef int i, number
        for i in range(ACCEPTS_IN_A_ROW):
            if self.retired or listener.paused:
                return
            self.await_room()
            if self.retired:
                return
            client.payment.stamp = 0
            if row.over_rate == OVER_WAIT and not take_start(self.ledger.view, target.row, &client.payment):
                self.wait_for_rate(index)
                return
            if target.asks and self.questions.open == QUESTIONS:
                give_start(self.ledger.view, target.row, &client.payment)
                self.pause_listener(index, STARVED)
                self.queue_was_empty(index)
                return
            if not accept_client(&client, listener.fd):
                number = errno
                give_start(self.ledger.view, target.row, &client.payment)
                if number == ECONNABORTED or number == EINTR or number == EPROTO:
                    continue
                if number == EAGAIN:
                    self.queue_was_empty(index)
                else:
                    self.accept_failed(index, number)
                return
            count_accepted(row, counters)
            self.greet(index, &client)
        self.queue_was_empty(index)

    cdef void accept_failed(self, u32 index, int number) noexcept nogil:
        """accept(2) has failed, and not for a fault of the client: pause the listener."""
        cdef u32 row = self.listeners[index].target.row
        cdef Record *record
        # EINVAL: it is shut, though the row says so no more: the port is about to be opened again.
        if self.ledger.view.rows[row].closed or number == EINVAL:
            self.pause_listener(index, SECOND // 4)
            return
        record = journal_next(&self.ledger)
        record.row, record.kind, record.value = row, ACCEPT_FAILED, number
        journal_commit(&self.ledger)
        self.pause_listener(index, STARVED)

    cdef void greet(self, u32 index, Client *client) noexcept nogil:
        """Decide about a client; takes its connection and its payment."""
        cdef Listener *listener = &self.listeners[index]
        cdef Row *row = &self.ledger.view.rows[listener.target.row]
        cdef Record *record
        cdef u32 slot = 0
        cdef Verdict verdict = judge_peer(self.ledger.view, listener.target, &client.peer)
        if verdict == ASK:
            if not client.vouched:
                if not ask_doorman(&self.questions, client, index, listener.target.row):
                    self.refuse(listener, client, DOORMAN)
                return
            verdict = ADMIT
        if verdict == ADMIT:
            verdict = take_slot(&self.ledger, listener.target, client, &slot)
        if verdict == ADMIT:
            self.serve_client(index, client, slot)
            return
        # A unix socket cannot be shut and opened again; there clients are refused until the rate allows more. A process
        # that is retired refuses them too: it has no listener any more, and its descriptor's number may be a client's
        # by now.
        if (verdict == RATE and row.over_rate == OVER_CLOSE and not listener.target.unix_socket and not self.retired
                and cas32(&row.closed, 0, 1)):
            self.shut_port(listener.target)
            record = journal_next(&self.ledger)
            record.row, record.kind, record.value = listener.target.row, DEACTIVATED, row.rate_pause
            journal_commit(&self.ledger)
        self.refuse(listener, client, verdict)

    cdef void refuse(self, Listener *listener, Client *client, Verdict verdict) noexcept nogil:
        """Close a client's connection, counted and recorded, and give back its payment; takes both."""
        give_start(self.ledger.view, listener.target.row, &client.payment)
        record_refusal(&self.ledger, listener.target, &client.peer, verdict)
        if listener.target.unix_socket:
            close_shared(client.fd)
        else:
            close(client.fd)

    # ---- clients that wait for the doorman ----

    cdef void take_answers(self) noexcept nogil:
        """Do with clients as the doorman has answered."""
        cdef Client client
        cdef Answer answer
        cdef u32 index
        while True:
            answer = take_answer(&self.questions, &client, &index)
            if answer == BAD_ANSWER:  # it is listened to no more: who waits is refused when time is up
                epoll_ctl(self.epoll, EPOLL_CTL_DEL, self.questions.doorman, NULL)
            if answer == BAD_ANSWER or answer == NO_ANSWER:
                return
            self.await_room()
            if answer == ALLOWED:
                self.greet(index, &client)
            else:
                self.refuse(&self.listeners[index], &client, NAME)

    cdef void look_after_questions(self) noexcept nogil:
        """Now and then: refuse clients that have waited for an answer too long, and ask again for the others."""
        cdef Client client
        cdef u64 now = now_monotonic()
        cdef u32 index
        if not time_to_ask_again(&self.questions, now):
            return
        while take_overdue(&self.questions, now, &client, &index):
            self.await_room()
            self.refuse(&self.listeners[index], &client, DOORMAN)
        ask_again(&self.questions)

    # ---- life ----

    cdef void read_control(self) noexcept nogil:
        """The control pipe: a byte is an order, its end means that the supervisor is gone."""
        cdef char order
        cdef ssize_t n = read(self.control, &order, 1)
        if n < 0 and (errno == EAGAIN or errno == EINTR):
            return
        if n > 0 and order == RETIRE:
            self.retire()
        elif n > 0:
            self.obey_order(order)
        else:
            self.leave_now()

    cdef void leave_now(self) noexcept nogil:
        """The control pipe has ended: drop the clients that wait for the doorman, and end `receive`. The Board may go
        on without this process (too many generations were retired), so they get their payment back, and their refusal
        counts."""
        cdef Client client
        cdef u32 index
        self.retire()
        while take_overdue(&self.questions, FOREVER, &client, &index):
            if journal_room(&self.ledger, 1):  # otherwise it is not waited for: perhaps nobody reads any more
                self.refuse(&self.listeners[index], &client, DOORMAN)
            else:
                give_start(self.ledger.view, self.listeners[index].target.row, &client.payment)
                close(client.fd)
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
        if not self.paused and not self.questions.open:
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
        """The loop: wait for events and do what they ask for, until retired and done, or alone."""
        cdef int n, i
        cdef u32 kind, index
        while not (self.retired and not self.questions.open and not self.busy()):
            n = epoll_wait(self.epoll, self.events, EVENTS, self.timeout())
            # What ended first: a place given back is there for the client that comes in the same moment.
            for i in range(n):
                kind, index = <u32> (self.events[i].data.u64 >> 32), <u32> self.events[i].data.u64
                if kind >= ON_OTHER:
                    self.handle_event(kind, index, self.events[i].events)
                elif kind == ON_DOORMAN:
                    self.take_answers()
            for i in range(n):
                kind, index = <u32> (self.events[i].data.u64 >> 32), <u32> self.events[i].data.u64
                if kind == ON_LISTENER:
                    self.serve_listener(index)
                elif kind == ON_CONTROL:
                    self.read_control()
            if self.alone:
                return
            if self.paused:
                self.resume_listeners()
            if self.questions.open:
                self.look_after_questions()
            if self.due() == 0:
                self.do_what_is_due()

    # ---- for the subclass ----

    cdef void serve_client(self, u32 index, Client *client, u32 slot) noexcept nogil:
        """Serve a client that has come by listener `index`; takes its connection and `slot`."""

    cdef void obey_order(self, char order) noexcept nogil:
        """The supervisor has sent an order of the subclass's own."""

    cdef void handle_event(self, u32 kind, u32 index, u32 events) noexcept nogil:
        """An event of the subclass's own: `kind` is ON_OTHER or above."""

    cdef void do_what_is_due(self) noexcept nogil:
        """Do what is due: `due` has returned 0."""

    cdef i64 due(self) noexcept nogil:
        """Milliseconds until do_what_is_due is to be called; -1: never."""
        return -1

    cdef bint busy(self) noexcept nogil:
        """Whether there is something left to do after retiring."""
        return False


cdef inline bint queue_has_client(int fd) noexcept nogil:
    """Whether a client or a datagram is there at this moment."""
    cdef pollfd look
    look.fd, look.events, look.revents = fd, POLLIN, 0
    return poll(&look, 1, 0) > 0 and (look.revents & POLLIN) != 0
