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

This file is longer than others: a worker's way through these states is one table, and what could be cut out of it
(supply, checks by time) would need all of the rest.

Rules of this file
 - Workers run the service's code and are not trusted: a message that is none ends its worker.
 - Nothing here waits for them.
"""

from libc.stdlib cimport calloc, free

from fastinetd.core.admit cimport free_slot, record_end, record_end_unserved, record_pool_event, record_start
from fastinetd.core.client cimport Client
from fastinetd.core.layout cimport EXEC, WORKER, Counters, Slot
from fastinetd.core.ledger cimport own_counters
from fastinetd.core.program cimport PoolSpec, Target
from fastinetd.core.servers cimport Servers, microseconds_of
from fastinetd.pools.pool cimport (
    BUSY, CHANGED, DIED, DIED_EARLY, HUNG, IDLE, MISTRUSTED, NEVER, NOBODY, NO_START, ON_WORKER_END, OVERTIME, PLACES,
    REAP_AGAIN_AFTER, RUNTIME, SIGCONT, SIGKILL, SPARE, STABLE_AFTER, STARTING, TAKEN_WITHIN, TOO_SLOW, TURNS,
    UNINTELLIGIBLE, Recycling, acceptors_serving, files_changed, forget_failures, kill, look_at_files,
    milliseconds_until, open_pool, pause_starts, record_failure, reset_pause, share_of, time_since,
)
from fastinetd.pools.waiting cimport WaitingClients
from fastinetd.pools.worker cimport (
    KEEP, WORD_END, WORD_NONE, WORD_READY, WORKER_BUSY, WORKER_IDLE, WORKER_LEAVING, WORKER_NONE, WORKER_STARTING, Word,
    Worker, close_worker, free_worker_place, has_received, read_word, reap_worker, recycling_of, send_client,
    some_worker_has, start_process_of_worker, watch_worker,
)
from fastinetd.system.linux cimport (
    CLD_EXITED, O_CLOEXEC, O_RDWR, SECOND, SHUT_WR, i32, now_monotonic, open, rusage, shutdown, siginfo_t, u32, u64,
)
from fastinetd.system.strangers cimport close_shared

cdef extern from "system/processes.h" nogil:
    void await_end(int pidfd, int milliseconds) noexcept

cdef enum:
    SURPLUS_SECONDS = 5  # seconds with more idle workers than wanted until some are let go

cdef u64 LEAVES_WITHIN = 10 * SECOND  # of the end of file; then it is killed


cdef class Workers:
    """The workers of one acceptor."""

    def __init__(self, Servers servers, u32 pool_count, u32 worker_count, u32 processors):
        """For so many services and, over all of them, so many workers; `processors`: what the machine has."""
        self.servers, self.reception, self.ledger = servers, servers.reception, servers.ledger
        self.worker_count, self.processors = min(worker_count, PLACES), processors
        self.pools = <WorkerPool *> calloc(pool_count + 1, sizeof(WorkerPool))
        self.workers = <Worker *> calloc(self.worker_count + 1, sizeof(Worker))
        self.waiting = WaitingClients(servers, pool_count > 0)
        if self.pools == NULL or self.workers == NULL:
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
        pool.at_once = share_of(2 * self.processors, acceptors)
        pool.first_listener, pool.listeners = listener, 1
        pool.idle = NOBODY
        self.pool_count = index + 1
        self.wake_at(0)

    def __dealloc__(self):
        free(self.pools)
        free(self.workers)

    cdef void wake_at(self, u64 moment) noexcept nogil:
        """Ask for do_what_is_due by then."""
        if moment < self.due_at:
            self.due_at = moment

    # ---- connections ----

    cdef bint hand(self, u32 index, const Client *client, u32 slot) noexcept nogil:
        """Give an admitted client to the pool, which then takes its connection and `slot`; False: that cannot be."""
        cdef WorkerPool *pool = &self.pools[index]
        cdef u64 now = self.ledger.view.slots[slot].started
        if files_changed(&pool.life, now):
            self.dismiss_all(index, CHANGED)
        if self.hand_to_idle(pool, client, slot):
            self.tend(index, now)
            return True
        if now >= pool.life.start_at and not self.reception.retired and (pool.count == 0 or self.wants_more(pool, now)):
            self.start(index, now)
        if no_worker_expected(pool):
            return False
        self.let_wait(pool, client, slot)
        return True

    cdef void let_wait(self, WorkerPool *pool, const Client *client, u32 slot) noexcept nogil:
        """Let an admitted client wait for a worker; takes its connection and `slot`. When as many wait as there are
        workers, the service's listeners are paused, and further clients wait in the kernel's queue."""
        cdef u32 i
        self.waiting.add_client(&pool.queue, client, slot)
        if pool.count == pool.starting:
            self.wake_at(pool.begun_at + TAKEN_WITHIN)
        if pool.queue.length >= pool.count and not self.reception.retired:
            pool.paused = True
            for i in range(pool.first_listener, pool.first_listener + pool.listeners):
                self.reception.pause_listener(i, SECOND)

    cdef void serve_waiting(self, u32 index) noexcept nogil:
        """Hand clients that wait to workers that are idle, or to servers by exec where no worker is to be expected."""
        cdef WorkerPool *pool = &self.pools[index]
        cdef Client client
        cdef u32 slot, i
        cdef bint given
        while pool.queue.length and (pool.idle != NOBODY or no_worker_expected(pool)):
            slot = self.waiting.first_client(&pool.queue, &client)
            self.reception.await_room()
            given = self.hand_to_idle(pool, &client, slot)
            if not given and not no_worker_expected(pool):
                break
            self.waiting.remove_first(&pool.queue)
            if not given:
                own_counters(self.ledger, pool.life.target.row).pool_misses += 1
                self.servers.start(pool.life.target, &client, slot)
        if pool.paused and 2 * pool.queue.length <= pool.count:
            pool.paused = False
            for i in range(pool.first_listener, pool.first_listener + pool.listeners):
                self.reception.resume_listener(i)

    cdef bint hand_to_idle(self, WorkerPool *pool, const Client *client, u32 slot) noexcept nogil:
        """Send a client to the worker that was idle last; takes its connection and `slot` if there is one that can have
        it."""
        cdef u32 number
        while pool.idle != NOBODY:
            number = pool.idle
            self.take_from_idle(number)
            if self.hand_to_worker(number, client, slot):
                own_counters(self.ledger, pool.life.target.row).pool_hits += 1
                return True
        return False

    cdef bint hand_to_worker(self, u32 number, const Client *client, u32 slot) noexcept nogil:
        """Send a client to an idle worker; takes its connection and `slot` if that succeeds."""
        cdef Worker *w = &self.workers[number]
        cdef Slot *s = &self.ledger.view.slots[slot]
        cdef Target *target = self.pools[w.pool].life.target
        cdef Counters *counters = own_counters(self.ledger, target.row)
        # Before it is sent: should this process die in between, whoever adopts the slot knows its server. At worst a
        # worker that had not been sent it yet is taken for that, and its end is recorded as the connection's.
        s.pid, s.method, s.inode = w.pid, WORKER, 0
        if not send_client(w, target, client):
            s.pid, s.method = 0, EXEC
            pause_starts(&self.pools[w.pool].life, s.started)
            self.dismiss(number, MISTRUSTED, True)
            return False
        close_shared(client.fd)
        record_start(self.ledger, target, slot, client.waited)
        counters.pool[<int> IDLE] -= 1
        counters.pool[<int> BUSY] += 1
        w.state, w.slot, w.client, w.received = WORKER_BUSY, slot, client[0], False
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
                count_freed_anew(pool, now_monotonic())
                self.wake_at(pool.short_since + SHORT_FOR)

    cdef bint wants_more(self, WorkerPool *pool, u64 now) noexcept nogil:
        """Whether another worker is to be started."""
        cdef u64 oldest = self.ledger.view.slots[pool.queue.head].started if pool.queue.length else now
        return not self.reception.retired and pool_needs_worker(pool, oldest, now)

    # ---- workers ----

    cdef void handle_event(self, u32 kind, u32 index) noexcept nogil:
        """Something happened to a worker; `index` is its number, and its turn above."""
        cdef u32 number = index & PLACES
        if self.workers[number].state == WORKER_NONE or (self.workers[number].turn & TURNS) != index >> 16:
            return
        if kind == ON_WORKER_END:
            self.worker_ended(number)
        else:
            self.read_word_of(number)

    cdef void read_word_of(self, u32 number) noexcept nogil:
        """Read a worker's message: it is ready for its first connection, or for the next."""
        cdef Worker *w = &self.workers[number]
        cdef WorkerPool *pool = &self.pools[w.pool]
        cdef Counters *counters = own_counters(self.ledger, pool.life.target.row)
        cdef i32 status = 0
        cdef Word word = read_word(w, self.reception, &status)
        if word == WORD_NONE:
            return
        self.reception.await_room()
        if word != WORD_READY or w.state == WORKER_IDLE:
            if w.dismissed_at == 0:
                record_failure(self.reception, &pool.life, UNINTELLIGIBLE, 0, now_monotonic())
            self.dismiss(number, MISTRUSTED, word != WORD_END or w.state != WORKER_BUSY)
            return
        if w.state == WORKER_STARTING:
            pool.starting -= 1
            counters.pool[<int> STARTING] -= 1
        elif w.state == WORKER_BUSY:
            record_end(self.ledger, w.slot, CLD_EXITED, status, 0, 0)
            free_slot(self.ledger, w.slot)
            counters.pool[<int> BUSY] -= 1
            w.served += 1
            pool.freed += 1
        if w.state != WORKER_LEAVING:
            self.employ(number)

    cdef void employ(self, u32 number) noexcept nogil:
        """Give a worker that has nothing to do the next connection, let it wait for one, or let it go."""
        cdef Worker *w = &self.workers[number]
        cdef WorkerPool *pool = &self.pools[w.pool]
        cdef u64 now = now_monotonic()
        cdef u64 again = NEVER
        cdef Recycling why = recycling_of(w, now, &again)
        self.wake_at(again)
        if w.dismissed_at:
            w.state = WORKER_LEAVING
            self.wake_at(now + LEAVES_WITHIN)
            return
        pool.proven = True
        own_counters(self.ledger, pool.life.target.row).pool[<int> IDLE] += 1
        w.state, w.idle_since = WORKER_IDLE, now
        if <int> why != KEEP:
            self.dismiss(number, why, False)
            return
        w.below, pool.idle = pool.idle, number
        pool.idle_count += 1
        if pool.queue.length:
            self.serve_waiting(w.pool)
        elif pool.idle_count > pool.life.most:
            self.tend(w.pool, now)

    cdef void dismiss(self, u32 number, Recycling why, bint at_once) noexcept nogil:
        """Let a worker go: by end of file or, `at_once`, by SIGKILL. One that is busy finishes unless it is killed."""
        cdef Worker *w = &self.workers[number]
        cdef WorkerPool *pool = &self.pools[w.pool]
        cdef Counters *counters = own_counters(self.ledger, pool.life.target.row)
        if w.state == WORKER_STARTING:
            pool.starting -= 1
            counters.pool[<int> STARTING] -= 1
        elif w.state == WORKER_IDLE:
            self.take_from_idle(number)
            counters.pool[<int> IDLE] -= 1
        if w.dismissed_at == 0:
            pool.count -= 1
            w.dismissed_at = now_monotonic()
            counters.recycled[<int> why] += 1
            shutdown(w.socket, SHUT_WR)
        if w.state != WORKER_BUSY:
            w.state = WORKER_LEAVING
        if at_once:
            kill(w.pid, SIGKILL)
        elif w.state == WORKER_LEAVING:
            self.wake_at(w.dismissed_at + LEAVES_WITHIN)
        if pool.queue.length:
            self.wake_at(0)  # for other workers

    cdef void dismiss_all(self, u32 index, Recycling why) noexcept nogil:
        """Replace all workers of a pool, and forget what went wrong. Those that are busy finish what they do."""
        cdef u32 number
        for number in range(self.worker_count):
            if self.workers[number].state != WORKER_NONE and self.workers[number].pool == index \
                    and self.workers[number].dismissed_at == 0:
                self.dismiss(number, why, False)
        self.pools[index].proven = False
        forget_failures(&self.pools[index].life)
        look_at_files(&self.pools[index].life, now_monotonic())
        self.wake_at(0)

    cdef void worker_ended(self, u32 number) noexcept nogil:
        """A worker's pidfd says that it has ended."""
        cdef Worker *w = &self.workers[number]
        cdef WorkerPool *pool = &self.pools[w.pool]
        cdef Counters *counters = own_counters(self.ledger, pool.life.target.row)
        cdef siginfo_t info
        cdef rusage usage
        cdef u64 now = now_monotonic()
        cdef u32 before = w.state
        cdef int fd
        if not reap_worker(w, &info, &usage):
            self.reception.forget(w.pidfd)
            w.pidfd = -1
            if w.dismissed_at == 0:
                self.dismiss(number, DIED, True)
            self.wake_at(now + REAP_AGAIN_AFTER)
            return
        counters.user_us += microseconds_of(&usage.ru_utime)
        counters.system_us += microseconds_of(&usage.ru_stime)
        if w.dismissed_at == 0:
            self.reception.await_room()
            if before == WORKER_STARTING:
                record_pool_event(self.ledger, pool.life.target.row, DIED_EARLY,
                                  info.si_status if info.si_code == CLD_EXITED else -info.si_status)
            if now - w.since > STABLE_AFTER:
                reset_pause(&pool.life)
            pause_starts(&pool.life, now)
            self.dismiss(number, MISTRUSTED if before == WORKER_STARTING else DIED, False)
        fd = close_worker(w, self.reception)
        if before == WORKER_BUSY:
            counters.pool[<int> BUSY] -= 1
            self.reception.await_room()
            self.give_back(w, fd, info.si_code, info.si_status)
        elif fd >= 0:
            close_shared(fd)
        self.serve_waiting(w.pool)
        self.wake_at(pool.life.start_at if pool.life.start_at > now else now)

    cdef void give_back(self, Worker *w, int fd, int code, int status) noexcept nogil:
        """Record the end of a worker's connection or, where the worker had not received it and it is `fd`, start a
        server for it."""
        cdef Target *target = self.pools[w.pool].life.target
        cdef Client client
        if fd < 0:
            record_end(self.ledger, w.slot, code, status, 0, 0)
            free_slot(self.ledger, w.slot)
            return
        record_end_unserved(self.ledger, w.slot, code, status)
        self.reception.await_room()
        own_counters(self.ledger, target.row).pool_misses += 1
        client = w.client
        client.fd = fd
        self.servers.start(target, &client, w.slot)

    cdef void start(self, u32 index, u64 now) noexcept nogil:
        """Start a worker."""
        cdef WorkerPool *pool = &self.pools[index]
        cdef Counters *counters = own_counters(self.ledger, pool.life.target.row)
        cdef u32 number = free_worker_place(self.workers, self.worker_count)
        cdef Worker *w
        cdef int error
        if number == NOBODY:
            pool.life.start_at = now + REAP_AGAIN_AFTER
            return
        w = &self.workers[number]
        if pool.count == 0:
            look_at_files(&pool.life, now)
        error = start_process_of_worker(w, pool.life.target, self.nothing)
        if error:
            record_failure(self.reception, &pool.life, NO_START, error, now)
            self.wake_at(pool.life.start_at)
            return
        w.turn += 1
        w.pool, w.state, w.since, w.weighed_at = index, WORKER_STARTING, now, now
        w.received, w.dismissed_at, w.served = True, 0, 0
        pool.count += 1
        pool.starting += 1
        pool.begun_at = now
        counters.pool[<int> STARTING] += 1
        self.wake_at(now + pool.life.target.pool.ready_within)
        if w.age:
            self.wake_at(now + w.age)
        error = watch_worker(w, number, self.reception)
        if error:
            record_failure(self.reception, &pool.life, NO_START, error, now)
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
        elif time_since(pool.short_since, now) >= SHORT_FOR:
            count_freed_anew(pool, now)
        if pool.idle_count <= pool.life.most:
            pool.surplus = 0
        elif now - pool.counted_at >= SECOND:
            pool.counted_at = now
            pool.surplus += 1
            if pool.surplus > SURPLUS_SECONDS:
                excess = (pool.idle_count - pool.life.most + 1) // 2
                while excess and pool.idle != NOBODY:
                    excess -= 1
                    self.dismiss(pool.idle, SPARE, False)
            self.wake_at(now + SECOND)
        else:
            self.wake_at(pool.counted_at + SECOND)

    cdef void do_what_is_due(self) noexcept nogil:
        """Look after whatever is due; says in due_at when to come again."""
        cdef u64 now = now_monotonic()
        cdef WorkerPool *pool
        cdef u32 number, index
        self.due_at = NEVER
        for number in range(self.worker_count):
            if self.workers[number].state != WORKER_NONE:
                self.check_worker(number, now)
        for index in range(self.pool_count):
            pool = &self.pools[index]
            self.tend(index, now)
            self.serve_waiting(index)
            if self.wants_more(pool, now):
                self.wake_at(pool.life.start_at if pool.life.start_at > now else now)
            elif (pool.idle_count < max(pool.life.least, 1) and 0 < pool.count < pool.life.workers
                    and not self.reception.retired):
                self.wake_at(now + SHORT_FOR)
            if pool.queue.length and pool.count == pool.starting:
                self.wake_at(pool.begun_at + TAKEN_WITHIN)

    cdef void check_worker(self, u32 number, u64 now) noexcept nogil:
        """Look after what is due of a worker: its start, its connection, its age or size, its end."""
        cdef Recycling why
        cdef u64 again = NEVER
        cdef Worker *w = &self.workers[number]
        cdef PoolLife *life = &self.pools[w.pool].life
        cdef PoolSpec *spec = &life.target.pool
        if w.pidfd < 0:  # it could not be watched
            self.worker_ended(number)
            return
        if w.state == WORKER_STARTING:
            if time_since(w.since, now) >= spec.ready_within:
                record_failure(self.reception, life, TOO_SLOW, <i32> (spec.ready_within // SECOND), now)
                self.dismiss(number, MISTRUSTED, True)
            else:
                self.wake_at(w.since + spec.ready_within)
        elif w.state == WORKER_BUSY:
            self.check_busy(number, now)
        elif w.state == WORKER_IDLE:
            why = SPARE if worker_is_superfluous(&self.pools[w.pool], w, now) else recycling_of(w, now, &again)
            self.wake_at(again)
            self.wake_at(w.idle_since + spec.spare_after if time_since(w.idle_since, now) < spec.spare_after else NEVER)
            if not self.check_received(number, now) and <int> why != KEEP:
                self.dismiss(number, why, False)
        elif w.state == WORKER_LEAVING and time_since(w.dismissed_at, now) < LEAVES_WITHIN:
            self.wake_at(w.dismissed_at + LEAVES_WITHIN)
        elif w.state == WORKER_LEAVING:
            kill(w.pid, SIGKILL)
            self.wake_at(now + SECOND)

    cdef void check_busy(self, u32 number, u64 now) noexcept nogil:
        """End a worker that serves for too long, or has not even received its connection: it may be stopped."""
        cdef Worker *w = &self.workers[number]
        cdef Target *target = self.pools[w.pool].life.target
        if self.check_received(number, now) or target.pool.runtime == 0:
            return
        if time_since(w.busy_since, now) >= target.pool.runtime:
            self.reception.await_room()
            record_pool_event(self.ledger, target.row, OVERTIME, w.pid)
            self.dismiss(number, RUNTIME, True)
            w.busy_since = now  # should its end take long, that is not recorded at once again
        self.wake_at(w.busy_since + target.pool.runtime)

    cdef bint check_received(self, u32 number, u64 now) noexcept nogil:
        """Whether a worker has left the connection that it was sent last in its socket, though it may have reported it
        as served: then it is ended."""
        cdef Worker *w = &self.workers[number]
        if not w.received and time_since(w.busy_since, now) < TAKEN_WITHIN:
            self.wake_at(w.busy_since + TAKEN_WITHIN)
        elif not w.received and not has_received(w):
            record_failure(self.reception, &self.pools[w.pool].life, HUNG, <i32> (TAKEN_WITHIN // SECOND), now)
            self.dismiss(number, MISTRUSTED, True)
            return True
        return False

    cdef void abandon(self) noexcept nogil:
        """End the workers that have no connection: this process ends. Those that are idle have a second for it, from
        the end of file on, for which they are woken if they are stopped."""
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

    cdef bint has_worker(self, i32 pid) noexcept nogil:
        """Whether a process is a worker."""
        return some_worker_has(self.workers, self.worker_count, pid)

    cdef bint dismiss_free(self) noexcept nogil:
        """Let all workers go that have no connection, for this process is retired. Returns whether some still run."""
        cdef bint some = False
        cdef u32 number
        for number in range(self.worker_count):
            if self.workers[number].state == WORKER_STARTING or self.workers[number].state == WORKER_IDLE:
                self.dismiss(number, CHANGED, self.workers[number].state == WORKER_STARTING)
            some |= self.workers[number].state == WORKER_LEAVING
        return some
