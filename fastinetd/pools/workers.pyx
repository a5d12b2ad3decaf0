"""Workers: processes that live on and take one connection after another (docs/workers.md is their side of it).

Theory. A worker has a socket of its own to this process. It says when it is ready, with the status of what it served
last; a connection is sent to one that is; the one that was busy last is taken first, so that those beyond the need get
old and leave. While all are busy, admitted clients wait here in a queue, first come, first served; when that is full,
the listener rests and the others wait in the kernel's.

A connection that was sent and not received when its worker died is still in the socket, of which this process keeps the
other end too: it is taken out and served anew. What the worker had received died with it.

    state      event                            next
    NONE       one is needed                    STARTING
    STARTING   ready                            IDLE
    IDLE       a connection                     BUSY
    BUSY       ready                            IDLE
    IDLE, BUSY (then once it is ready)
               used up, too old, too large,
               one too many, a changed file     LEAVING: end of file
    any        its end                          NONE

Rules of this file
 - Workers run the service's code and are not trusted: a message that is none ends its worker.
 - Nothing here waits for them.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastinetd.core.admit cimport (
    Client, client_of_slot, record_end, record_end_unserved, record_pool_event, record_start, slot_free,
)
from fastinetd.core.layout cimport EXEC, WORKER, Counters, Slot
from fastinetd.core.ledger cimport own_counters
from fastinetd.core.program cimport STAGE_VARIABLES_SIZE, PoolSpec, Target, variables
from fastinetd.core.reception cimport ON_WORKER, ON_WORKER_END, Listener
from fastinetd.core.servers cimport Servers, microseconds, set_aside, wait_for_child, watched_pidfd
from fastinetd.pools.pool cimport (
    AGE, BUSY, CHANGED, DIED, DIED_EARLY, HUNG, IDLE, MISTRUSTED, NEVER, NOBODY, NO_START, OVERTIME, REQUESTS,
    RSS, RUNTIME, SECOND, SIGCONT, SIGKILL, SPARE, STARTING, TAKEN_WITHIN, TOO_SLOW, UNINTELLIGIBLE,
    Recycling, acceptors_serving, close_both, elapsed, files_changed, forget_failures, jittered, kill, look_at_files,
    make_pair, milliseconds_until, open_pool, pause_starts, reset_pause, record_failure, send_message, start_process,
)
from fastinetd.system.linux cimport (
    CLD_EXITED, EAGAIN, EINTR, EPOLLIN, EPOLL_CTL_DEL, FIONREAD, F_DUPFD_CLOEXEC, O_CLOEXEC, O_RDWR, P_PID, SHUT_WR,
    WEXITED, WNOHANG, close, epoll_ctl, errno, fcntl, i32, ioctl, now_monotonic, open, rusage, shutdown,
    siginfo_t, u32, u64,
)
from fastinetd.system.strangers cimport close_channel, close_shared, receive_last_descriptor, receive_words

cdef extern from "system/processes.h" nogil:
    u64 resident_bytes(i32 pid) noexcept
    void await_end(int pidfd, int milliseconds) noexcept

cdef enum:
    WORKER_SOCKET = 3  # its descriptor in the worker
    NUMBERS = 0xFFFF
    TURNS = 0x7FFF
    CALM = 5  # seconds with more idle workers than wanted until some are let go
    KEEP = 255  # used_up: no reason

cdef u64 SOON = SECOND // 10
cdef u64 LASTING = 5 * SECOND
cdef u64 GRACE = 10 * SECOND  # between the end of file and SIGKILL


cdef class Workers:
    """The workers of one acceptor."""

    def __init__(self, Servers servers, u32 pool_count, u32 worker_count, u32 processors):
        """For so many services and, over all of them, so many workers; `processors`: what the machine has."""
        self.servers, self.at, self.ledger = servers, servers.at, servers.ledger
        self.worker_count, self.processors = min(worker_count, NUMBERS), processors
        self.pools = <WorkerPool *> calloc(pool_count + 1, sizeof(WorkerPool))
        self.workers = <Worker *> calloc(self.worker_count + 1, sizeof(Worker))
        self.waits = <Waiting *> calloc(self.ledger.view.slot_count if pool_count else 1, sizeof(Waiting))
        if self.pools == NULL or self.workers == NULL or self.waits == NULL:
            raise MemoryError
        self.nothing = open("/dev/null", O_RDWR | O_CLOEXEC) if pool_count else -1
        self.due_at = NEVER

    cdef void add_pool(self, u32 index, Target *target, u32 acceptors, u32 listener) noexcept nogil:
        """Service number `index` is `target`, at this listener too; this acceptor is one of so many."""
        cdef WorkerPool *pool = &self.pools[index]
        if index < self.pool_count:
            pool.listeners += 1
            return
        open_pool(&pool.life, target, acceptors)
        acceptors = acceptors_serving(WORKER, acceptors)
        pool.at_once = (2 * self.processors + acceptors - 1) // acceptors
        pool.first_listener, pool.listeners = listener, 1
        pool.idle = NOBODY
        self.pool_count = index + 1
        self.wake_at(0)

    def __dealloc__(self):
        free(self.pools)
        free(self.workers)
        free(self.waits)

    cdef void wake_at(self, u64 moment) noexcept nogil:
        """its_time is to be called by then."""
        if moment < self.due_at:
            self.due_at = moment

    # ---- connections ----

    cdef bint hand(self, u32 index, Listener *listener, const Client *client, u32 slot) noexcept nogil:
        """Give an admitted client to the pool, which then takes its connection and `slot`; False: it cannot serve it."""
        cdef WorkerPool *pool = &self.pools[index]
        cdef u64 now = self.ledger.view.slots[slot].started
        cdef u32 number
        if files_changed(&pool.life, now):
            self.dismiss_all(index, CHANGED)
        while pool.idle != NOBODY:
            number = pool.idle
            self.take_from_idle(number)
            if self.give(number, client, slot):
                own_counters(self.ledger, pool.life.target.row).pool_hits += 1
                self.tend(index, now)
                return True
        if now >= pool.life.start_at and not self.at.retired and (pool.count == 0 or self.wants_more(pool, now)):
            self.start(index, now)
        if hopeless(pool):
            return False
        self.queue(pool, listener, client, slot)
        return True

    cdef void queue(self, WorkerPool *pool, Listener *listener, const Client *client, u32 slot) noexcept nogil:
        """Let an admitted client wait for a worker; takes its connection and `slot`."""
        cdef Waiting *entry = &self.waits[slot]
        entry.kept, entry.next, entry.waited = set_aside(client.fd, self.outstanding) + 1, NOBODY, client.waited
        if pool.count == pool.starting:
            self.wake_at(pool.begun_at + TAKEN_WITHIN)
        if pool.waiting:
            self.waits[pool.tail].next = slot
        else:
            pool.head = slot
        pool.tail = slot
        pool.waiting += 1
        self.outstanding += 1
        if pool.waiting >= pool.count and not self.at.retired:
            listener.full = True
            self.at.pause(listener, SECOND)

    cdef void next_client(self, u32 index) noexcept nogil:
        """Clients wait and workers are idle, or there will be none: bring them together, or start servers by exec."""
        cdef WorkerPool *pool = &self.pools[index]
        cdef Client client
        cdef u32 slot, number, i
        cdef bint given
        while pool.waiting and (pool.idle != NOBODY or hopeless(pool)):
            slot = pool.head
            client_of_slot(self.ledger, slot, self.waits[slot].kept - 1, self.waits[slot].waited, &client)
            self.at.await_room()
            given = False
            while pool.idle != NOBODY and not given:
                number = pool.idle
                self.take_from_idle(number)
                given = self.give(number, &client, slot)
            if not given and not hopeless(pool):
                break
            pool.head = self.waits[slot].next
            self.waits[slot].kept = 0
            pool.waiting -= 1
            self.outstanding -= 1
            if given:
                own_counters(self.ledger, pool.life.target.row).pool_hits += 1
            else:
                own_counters(self.ledger, pool.life.target.row).pool_misses += 1
                self.servers.start(pool.life.target, &client, slot)
        if 2 * pool.waiting <= pool.count:
            for i in range(pool.first_listener, pool.first_listener + pool.listeners):
                if self.at.listeners[i].full:
                    self.at.listeners[i].full = False
                    self.at.listeners[i].until = 0

    cdef bint give(self, u32 number, const Client *client, u32 slot) noexcept nogil:
        """Send a client to an idle worker; takes its connection and `slot` if that succeeds."""
        cdef Worker *w = &self.workers[number]
        cdef Slot *s = &self.ledger.view.slots[slot]
        cdef Target *target = self.pools[w.pool].life.target
        cdef Counters *counters = own_counters(self.ledger, target.row)
        cdef char message[STAGE_VARIABLES_SIZE]
        cdef size_t length = variables(target, &client.peer, client.fd, message)
        # Before it is sent: should this process die in between, whoever adopts the slot knows its server. At worst a worker
        # that had not been sent it yet is taken for that, and its end is told as the connection's.
        s.pid, s.method, s.inode = w.pid, WORKER, 0
        if send_message(w.socket, message, length, client.fd) != 0:
            s.pid, s.method = 0, EXEC
            pause_starts(&self.pools[w.pool].life, s.started)
            self.dismiss(number, MISTRUSTED, True)
            return False
        close_shared(client.fd)
        record_start(self.ledger, target, slot, client.waited)
        counters.pool[<int> IDLE] -= 1
        counters.pool[<int> BUSY] += 1
        w.state, w.slot, w.received = WORKER_BUSY, slot, False
        w.busy_since = now_monotonic()
        self.wake_at(w.busy_since + TAKEN_WITHIN)
        if target.pool.runtime:
            self.wake_at(w.busy_since + target.pool.runtime)
        return True

    cdef void take_from_idle(self, u32 number) noexcept nogil:
        """Take a worker out of the stack of idle ones, where it is mostly on top."""
        cdef WorkerPool *pool = &self.pools[self.workers[number].pool]
        cdef u32 *link = &pool.idle
        while link[0] != number and link[0] != NOBODY:
            link = &self.workers[link[0]].below
        if link[0] == number:
            link[0] = self.workers[number].below
            pool.idle_count -= 1
            if pool.idle_count + 1 == max(pool.life.least, 1) and pool.count < pool.life.workers:
                look_anew(pool, now_monotonic())
                self.wake_at(pool.short_since + LONG)

    cdef bint wants_more(self, WorkerPool *pool, u64 now) noexcept nogil:
        """Whether another worker is to be started."""
        cdef u64 oldest = self.ledger.view.slots[pool.head].started if pool.waiting else now
        return not self.at.retired and too_few(pool, oldest, now)

    # ---- workers ----

    cdef void happened(self, u32 kind, u32 index) noexcept nogil:
        """An event of a worker; `index` is its number, and its turn above."""
        cdef u32 number = index & NUMBERS
        if self.workers[number].state == WORKER_NONE or (self.workers[number].turn & TURNS) != index >> 16:
            return
        if kind == ON_WORKER_END:
            self.process_ended(number)
        else:
            self.heard(number)

    cdef void heard(self, u32 number) noexcept nogil:
        """A worker is ready: for its first connection, or for the next."""
        cdef Worker *w = &self.workers[number]
        cdef WorkerPool *pool = &self.pools[w.pool]
        cdef Counters *counters = own_counters(self.ledger, pool.life.target.row)
        cdef i32 status = 0
        cdef ssize_t length = receive_words(w.socket, &status, sizeof(status), NULL)
        if length == -EAGAIN or length == -EINTR:
            return
        if length <= 0:  # it has shut its socket down, and will serve nobody any more, or said what nobody may
            epoll_ctl(self.at.epoll, EPOLL_CTL_DEL, w.socket, NULL)
        self.at.await_room()
        if length != sizeof(status) or not 0 <= status <= 255 or w.state == WORKER_IDLE:
            if w.told_at == 0:
                record_failure(self.at, &pool.life, UNINTELLIGIBLE, 0, now_monotonic())
            self.dismiss(number, MISTRUSTED, length != 0 or w.state != WORKER_BUSY)
            return
        if w.state == WORKER_STARTING:
            pool.starting -= 1
            counters.pool[<int> STARTING] -= 1
        elif w.state == WORKER_BUSY:
            record_end(self.ledger, w.slot, CLD_EXITED, status, 0, 0)
            slot_free(self.ledger, w.slot)
            counters.pool[<int> BUSY] -= 1
            w.served += 1
            pool.freed += 1
        if w.state != WORKER_LEAVING:
            self.is_free(number)

    cdef void is_free(self, u32 number) noexcept nogil:
        """A worker has nothing to do: give it the next connection, let it wait for one, or let it go."""
        cdef Worker *w = &self.workers[number]
        cdef WorkerPool *pool = &self.pools[w.pool]
        cdef u64 now = now_monotonic()
        cdef Recycling why = self.used_up(w, now)
        if w.told_at:
            w.state = WORKER_LEAVING
            self.wake_at(now + GRACE)
            return
        pool.proven = True
        own_counters(self.ledger, pool.life.target.row).pool[<int> IDLE] += 1
        w.state, w.idle_since = WORKER_IDLE, now
        if <int> why != KEEP:
            self.dismiss(number, why, False)
            return
        w.below, pool.idle = pool.idle, number
        pool.idle_count += 1
        if pool.waiting:
            self.next_client(w.pool)
        elif pool.idle_count > pool.life.most:
            self.tend(w.pool, now)

    cdef Recycling used_up(self, Worker *w, u64 now) noexcept nogil:
        """Why this worker shall serve no more, or KEEP: then it is looked at again when that may change. Its memory is
        looked at after a connection, once a second at most."""
        if w.requests and w.served >= w.requests:
            return REQUESTS
        if w.age and elapsed(w.since, now) >= w.age:
            return AGE
        if w.age:
            self.wake_at(w.since + w.age)
        if w.rss and w.weighed_at < w.busy_since:
            if elapsed(w.weighed_at, now) < SECOND:
                self.wake_at(w.weighed_at + SECOND)
                return <Recycling> KEEP
            w.weighed_at = now
            if resident_bytes(w.pid) >= w.rss:
                return RSS
        return <Recycling> KEEP

    cdef void dismiss(self, u32 number, Recycling why, bint at_once) noexcept nogil:
        """Let a worker go: by end of file or, `at_once`, by SIGKILL. One that is busy finishes, unless it is at once."""
        cdef Worker *w = &self.workers[number]
        cdef WorkerPool *pool = &self.pools[w.pool]
        cdef Counters *counters = own_counters(self.ledger, pool.life.target.row)
        if w.state == WORKER_STARTING:
            pool.starting -= 1
            counters.pool[<int> STARTING] -= 1
        elif w.state == WORKER_IDLE:
            self.take_from_idle(number)
            counters.pool[<int> IDLE] -= 1
        if w.told_at == 0:
            pool.count -= 1
            w.told_at = now_monotonic()
            counters.recycled[<int> why] += 1
            shutdown(w.socket, SHUT_WR)
        if w.state != WORKER_BUSY:
            w.state = WORKER_LEAVING
        if at_once:
            kill(w.pid, SIGKILL)
        elif w.state == WORKER_LEAVING:
            self.wake_at(w.told_at + GRACE)
        if pool.waiting:
            self.wake_at(0)  # others are needed

    cdef void dismiss_all(self, u32 index, Recycling why) noexcept nogil:
        """Replace all workers of a pool; those that are busy finish what they do. What was wrong may have been mended."""
        cdef u32 number
        for number in range(self.worker_count):
            if self.workers[number].state != WORKER_NONE and self.workers[number].pool == index \
                    and self.workers[number].told_at == 0:
                self.dismiss(number, why, False)
        self.pools[index].proven = False
        forget_failures(&self.pools[index].life)
        look_at_files(&self.pools[index].life, now_monotonic())
        self.wake_at(0)

    cdef void process_ended(self, u32 number) noexcept nogil:
        """A worker's pidfd says that it has ended."""
        cdef Worker *w = &self.workers[number]
        cdef WorkerPool *pool = &self.pools[w.pool]
        cdef Counters *counters = own_counters(self.ledger, pool.life.target.row)
        cdef siginfo_t info
        cdef rusage usage
        cdef u64 now = now_monotonic()
        cdef u32 before = w.state
        memset(&usage, 0, sizeof(usage))
        cdef int error = wait_for_child(P_PID, w.pid, &info, &usage, WEXITED | WNOHANG)
        if error == 0 and info.si_pid == 0:  # somebody traces it, or it could not be watched
            self.at.forget(w.pidfd)
            w.pidfd = -1
            if w.told_at == 0:
                self.dismiss(number, DIED, True)
            self.wake_at(now + SOON)
            return
        counters.user_us += microseconds(&usage.ru_utime)
        counters.system_us += microseconds(&usage.ru_stime)
        if w.told_at == 0:
            self.at.await_room()
            if before == WORKER_STARTING:
                record_pool_event(self.ledger, pool.life.target.row, DIED_EARLY,
                                  info.si_status if info.si_code == CLD_EXITED else -info.si_status)
            if now - w.since > LASTING:
                reset_pause(&pool.life)
            pause_starts(&pool.life, now)
            self.dismiss(number, MISTRUSTED if before == WORKER_STARTING else DIED, False)
        cdef int fd = receive_last_descriptor(w.other)  # those before it the worker has said it had finished with
        if before == WORKER_BUSY:
            counters.pool[<int> BUSY] -= 1
            self.at.await_room()
            self.give_back(w, fd, info.si_code, info.si_status)
        elif fd >= 0:
            close_shared(fd)
        self.at.forget(w.pidfd)
        epoll_ctl(self.at.epoll, EPOLL_CTL_DEL, w.socket, NULL)
        close_channel(w.socket)
        close(w.other)
        w.state = WORKER_NONE
        self.next_client(w.pool)
        self.wake_at(pool.life.start_at if pool.life.start_at > now else now)

    cdef void give_back(self, Worker *w, int fd, int code, int status) noexcept nogil:
        """A worker's end was the end of its connection, unless it had not even received it: then that is `fd`, else -1."""
        cdef Target *target = self.pools[w.pool].life.target
        cdef Client client
        if fd < 0:
            record_end(self.ledger, w.slot, code, status, 0, 0)
            slot_free(self.ledger, w.slot)
            return
        record_end_unserved(self.ledger, w.slot, code, status)
        self.at.await_room()
        own_counters(self.ledger, target.row).pool_misses += 1
        client_of_slot(self.ledger, w.slot, fd, 0, &client)
        self.servers.start(target, &client, w.slot)

    cdef void start(self, u32 index, u64 now) noexcept nogil:
        """Start a worker."""
        cdef WorkerPool *pool = &self.pools[index]
        cdef Counters *counters = own_counters(self.ledger, pool.life.target.row)
        cdef PoolSpec *spec = &pool.life.target.pool
        cdef Worker *w = NULL
        cdef u32 number
        cdef int pair[2]
        cdef int error
        for number in range(self.worker_count):
            if self.workers[number].state == WORKER_NONE:
                w = &self.workers[number]
                break
        if w == NULL:
            pool.life.start_at = now + SOON
            return
        if pool.count == 0:
            look_at_files(&pool.life, now)
        pair[0], pair[1], w.pid, w.received = -1, -1, 0, True
        error = make_pair(pair, False)
        if error == 0:
            error = start_process(pool.life.target, self.nothing, &pair[1], 1, WORKER_SOCKET, False, &w.pid)
        if error:
            close_both(pair)
            record_failure(self.at, &pool.life, NO_START, error, now)
            self.wake_at(pool.life.start_at)
            return
        w.socket = fcntl(pair[0], F_DUPFD_CLOEXEC, 64)
        w.other = fcntl(pair[1], F_DUPFD_CLOEXEC, 64)
        close_both(pair)
        w.pidfd = watched_pidfd(w.pid)
        w.turn += 1
        w.pool, w.state, w.since, w.weighed_at, w.told_at, w.served = index, WORKER_STARTING, now, now, 0, 0
        w.requests, w.age, w.rss = jittered(spec.requests), jittered(spec.age), jittered(spec.rss)
        pool.count += 1
        pool.starting += 1
        pool.begun_at = now
        counters.pool[<int> STARTING] += 1
        self.wake_at(now + spec.ready_within)
        if w.age:
            self.wake_at(now + w.age)
        cdef u32 tag = number | (w.turn & TURNS) << 16
        if w.pidfd >= 0 and self.at.watch(w.pidfd, ON_WORKER_END, tag, EPOLLIN) < 0:
            close(w.pidfd)
            w.pidfd = -1
        if w.socket < 0 or w.other < 0 or w.pidfd < 0 or self.at.watch(w.socket, ON_WORKER, tag, EPOLLIN) < 0:
            record_failure(self.at, &pool.life, NO_START, errno, now)
            self.dismiss(number, MISTRUSTED, True)
            self.wake_at(now)  # no pidfd may say when it has ended

    # ---- time ----

    cdef void tend(self, u32 index, u64 now) noexcept nogil:
        """Keep as many idle workers as are wanted: one more as soon as one is missing, fewer only after a while."""
        cdef WorkerPool *pool = &self.pools[index]
        cdef u32 excess
        if self.wants_more(pool, now):
            if now < pool.life.start_at:
                self.wake_at(pool.life.start_at)
            else:
                self.start(index, now)
        elif elapsed(pool.short_since, now) >= LONG:
            look_anew(pool, now)
        if pool.idle_count <= pool.life.most:
            pool.surplus = 0
        elif now - pool.tended >= SECOND:
            pool.tended = now
            pool.surplus += 1
            if pool.surplus > CALM:
                excess = (pool.idle_count - pool.life.most + 1) // 2
                while excess and pool.idle != NOBODY:
                    excess -= 1
                    self.dismiss(pool.idle, SPARE, False)
            self.wake_at(now + SECOND)
        else:
            self.wake_at(pool.tended + SECOND)

    cdef void its_time(self) noexcept nogil:
        """Look after whatever is due; says in due_at when to come again."""
        cdef u64 now = now_monotonic()
        cdef WorkerPool *pool
        cdef u32 number, index
        self.due_at = NEVER
        for number in range(self.worker_count):
            if self.workers[number].state != WORKER_NONE:
                self.look_at(number, now)
        for index in range(self.pool_count):
            pool = &self.pools[index]
            self.tend(index, now)
            self.next_client(index)
            if self.wants_more(pool, now):
                self.wake_at(pool.life.start_at if pool.life.start_at > now else now)
            elif pool.idle_count < max(pool.life.least, 1) and 0 < pool.count < pool.life.workers and not self.at.retired:
                self.wake_at(now + LONG)
            if pool.waiting and pool.count == pool.starting:
                self.wake_at(pool.begun_at + TAKEN_WITHIN)

    cdef void look_at(self, u32 number, u64 now) noexcept nogil:
        """What becomes due of a worker: its start, its connection, its age or size, its leave."""
        cdef Recycling why
        cdef Worker *w = &self.workers[number]
        cdef PoolSpec *spec = &self.pools[w.pool].life.target.pool
        if w.pidfd < 0:  # it could not be watched
            self.process_ended(number)
            return
        if w.state == WORKER_STARTING:
            if elapsed(w.since, now) >= spec.ready_within:
                record_failure(self.at, &self.pools[w.pool].life, TOO_SLOW, <i32> (spec.ready_within // SECOND), now)
                self.dismiss(number, MISTRUSTED, True)
            else:
                self.wake_at(w.since + spec.ready_within)
        elif w.state == WORKER_BUSY:
            self.look_at_busy(number, now)
        elif w.state == WORKER_IDLE:
            why = SPARE if superfluous(&self.pools[w.pool], w, now) else self.used_up(w, now)
            self.wake_at(w.idle_since + spec.spare_after if elapsed(w.idle_since, now) < spec.spare_after else NEVER)
            if not self.never_received(number, now) and <int> why != KEEP:
                self.dismiss(number, why, False)
        elif w.state == WORKER_LEAVING and elapsed(w.told_at, now) < GRACE:
            self.wake_at(w.told_at + GRACE)
        elif w.state == WORKER_LEAVING:
            kill(w.pid, SIGKILL)
            self.wake_at(now + SECOND)

    cdef void look_at_busy(self, u32 number, u64 now) noexcept nogil:
        """A worker that serves too long, or has not even received its connection (stopped by somebody, for instance)."""
        cdef Worker *w = &self.workers[number]
        cdef Target *target = self.pools[w.pool].life.target
        if self.never_received(number, now) or target.pool.runtime == 0:
            return
        if elapsed(w.busy_since, now) >= target.pool.runtime:
            self.at.await_room()
            record_pool_event(self.ledger, target.row, OVERTIME, w.pid)
            self.dismiss(number, RUNTIME, True)
            w.busy_since = now  # should that take long, it is not told at once again
        self.wake_at(w.busy_since + target.pool.runtime)

    cdef bint never_received(self, u32 number, u64 now) noexcept nogil:
        """Whether a worker has left the connection that it was sent last in its socket, though it may have said that it had
        served it: then it is ended."""
        cdef Worker *w = &self.workers[number]
        cdef int waiting = 0
        if not w.received and elapsed(w.busy_since, now) < TAKEN_WITHIN:
            self.wake_at(w.busy_since + TAKEN_WITHIN)
        elif not w.received:
            # Not by a peek, which has the connection open for a moment.
            w.received = ioctl(w.other, <unsigned long> FIONREAD, &waiting) < 0 or waiting == 0
            if not w.received:
                record_failure(self.at, &self.pools[w.pool].life, HUNG, <i32> (TAKEN_WITHIN // SECOND), now)
                self.dismiss(number, MISTRUSTED, True)
                return True
        return False

    cdef void abandon(self) noexcept nogil:
        """This process ends: so do the workers that have no connection. Those that are idle have a second for it, from when
        they see the end of file, which they do also if somebody has stopped them."""
        cdef u64 end = now_monotonic() + SECOND
        cdef u32 number
        cdef Worker *w
        for number in range(self.worker_count):
            w = &self.workers[number]
            if w.state == WORKER_IDLE:
                shutdown(w.socket, SHUT_WR)
                kill(w.pid, SIGCONT)
        for number in range(self.worker_count):
            w = &self.workers[number]
            if w.state == WORKER_IDLE:
                await_end(w.pidfd, <int> milliseconds_until(end, now_monotonic()))
            if w.state == WORKER_STARTING or w.state == WORKER_IDLE or w.state == WORKER_LEAVING:
                kill(w.pid, SIGKILL)

    cdef bint knows(self, i32 pid) noexcept nogil:
        """Whether this is a worker."""
        cdef u32 number
        for number in range(self.worker_count):
            if self.workers[number].state != WORKER_NONE and self.workers[number].pid == pid:
                return True
        return False

    cdef bint leaving(self) noexcept nogil:
        """This process is retired: let all go that have no connection; true while there are such."""
        cdef bint some = False
        cdef u32 number
        for number in range(self.worker_count):
            if self.workers[number].state == WORKER_STARTING or self.workers[number].state == WORKER_IDLE:
                self.dismiss(number, CHANGED, self.workers[number].state == WORKER_STARTING)
            some |= self.workers[number].state == WORKER_LEAVING
        return some
