"""Parked children: forked ahead of time from an acceptor's zygotes, each waiting for a connection (spawn = prefork).

Theory. A zygote forks them as it does for a connection, but they wait for theirs on a socket that they share, and the
kernel wakes one for each. How many are wanted is counted in parked_demand.pxd. A connection for which there is none
goes to the zygote.

The zygotes own this object (zygotes.pyx). They send the connections, on sockets that are theirs and are borrowed here;
read what parked children send, and ask here whether it makes sense; and give up a zygote with all its children when
this says so. The children's places, numbers and pidfds are here.

When a parked child is lost while connections are on their way to its zygote's children, it is unknown if it had one.
Then all of them are given up, with their zygote: see zygotes.pyx for why nothing is lost by that and nothing served
twice.

    state      event                                          next
    NONE       one is missing, and the zygote is asked        ASKED
    ASKED      PARKED                                         WAITS
    ASKED      FAILED, or the zygote is given up              NONE
    WAITS      TOOK: it is a server now                       NONE
    WAITS      its end                                        NONE

Rules of this file are those of zygotes.pyx.
"""

from libc.stdlib cimport calloc, free

from fastinetd.core.ledger cimport own_counters
from fastinetd.core.servers cimport Servers, wait_for_child, watched_pidfd
from fastinetd.pools.parked_demand cimport (
    FORKS_IN_A_ROW, children_wanted, count_again, note_arrival, note_miss, note_parked,
)
from fastinetd.pools.pool cimport (
    DIED, IDLE, NEVER, NOBODY, ON_PARKED, PLACES, REAP_AGAIN_AFTER, SIGCONT, SIGKILL, SPARE, TURNS, kill,
    own_child,
)
from fastinetd.pools.wire cimport FOR_PARKING, STAGE_LEAVE, STAGE_PARK, send_request
from fastinetd.system.linux cimport (
    CLD_EXITED, EPOLLIN, P_PID, SECOND, WEXITED, WNOHANG, close, errno, i32, now_monotonic, siginfo_t, u32, u64,
)

cdef u64 REFILL_AFTER = SECOND // 1000  # a fork in the same moment would take the processor from who has the connection
cdef u64 ASK_AGAIN_AFTER = SECOND // 10  # after a fork that failed


cdef class ParkedChildren:
    """The parked children of one acceptor's zygotes."""

    def __init__(self, Servers servers, u32 pool_count, u32 zygote_count, u32 child_count):
        """For so many services, with room for so many zygotes and parked children."""
        cdef u32 number
        self.reception, self.ledger = servers.reception, servers.ledger
        self.child_count = min(child_count, PLACES)
        self.pools = <ParkedPool *> calloc(pool_count + 1, sizeof(ParkedPool))
        self.broods = <Brood *> calloc(zygote_count + 1, sizeof(Brood))
        self.children = <Parked *> calloc(self.child_count + 1, sizeof(Parked))
        if self.pools == NULL or self.broods == NULL or self.children == NULL:
            raise MemoryError
        for number in range(zygote_count):
            self.broods[number].control = self.broods[number].hand = -1
        self.due_at = NEVER

    def __dealloc__(self):
        free(self.pools)
        free(self.broods)
        free(self.children)

    cdef void add_pool(self, u32 index, PoolLife *life) noexcept nogil:
        """Service number `index` has this pool, whose life is borrowed."""
        self.pools[index].life = life

    cdef void wake_at(self, u64 moment) noexcept nogil:
        """Ask to be looked after by then."""
        if moment < self.due_at:
            self.due_at = moment

    # ---- zygotes ----

    cdef void open_brood(self, u32 number, u32 pool, int control, int hand) noexcept nogil:
        """Zygote `number` is ready: have it fork. Its sockets are borrowed until close_brood."""
        cdef Brood *brood = &self.broods[number]
        brood.pool, brood.control, brood.hand = pool, control, hand
        brood.asked = brood.waiting = brood.free = brood.sent = brood.leaving = brood.unwatched = 0
        self.fork_missing(number)

    cdef void close_brood(self, u32 number) noexcept nogil:
        """End the parked children of a zygote that is given up, when all is read that was sent before its sockets were
        shut."""
        cdef Brood *brood = &self.broods[number]
        cdef siginfo_t info
        cdef Parked *child
        cdef u32 i
        brood.control = brood.hand = -1
        for i in range(self.child_count):
            child = &self.children[i]
            if child.zygote != number or child.state == PARKED_NONE:
                continue
            if child.state == PARKED_ASKED:
                child.state = PARKED_NONE
                continue
            kill(child.pid, SIGKILL)
            if child.pidfd < 0 and (wait_for_child(P_PID, child.pid, &info, NULL, WEXITED | WNOHANG) or info.si_pid):
                self.vacate(i)

    cdef bint all_gone(self, u32 number, u64 now) noexcept nogil:
        """Whether a zygote that was given up has no parked children left; reaps those that could not be watched."""
        cdef Brood *brood = &self.broods[number]
        if brood.unwatched:
            self.close_brood(number)
            self.wake_at(now + REAP_AGAIN_AFTER)
        return brood.waiting == 0

    # ---- connections ----

    cdef bint expect_one(self, u32 number, u64 now) noexcept nogil:
        """A connection has come: count it. Returns whether a parked child is free for it."""
        cdef Brood *brood = &self.broods[number]
        note_arrival(&self.pools[brood.pool].demand, now)
        return brood.free > 0

    cdef void note_sent(self, u32 number, u64 now) noexcept nogil:
        """A connection was sent to whichever parked child the kernel wakes."""
        cdef Brood *brood = &self.broods[number]
        brood.sent += 1
        brood.free -= 1
        self.pools[brood.pool].refill = True
        self.wake_at(now + REFILL_AFTER)

    cdef void note_missed(self, u32 number) noexcept nogil:
        """There was no parked child for a connection: ask for more of them."""
        note_miss(&self.pools[self.broods[number].pool].demand)
        self.fork_missing(number)

    # ---- what zygotes and children say; False or -1: it makes no sense ----

    cdef int note_waiting(self, u32 number, u32 seq, i32 pid, u64 now) noexcept nogil:
        """A child waits for its connection. Returns 0, or the errno for which it cannot be watched: it may be the one
        that takes the next connection, so it cannot just be ended, and the zygote is to be given up."""
        cdef Brood *brood = &self.broods[number]
        cdef u32 place = seq & PLACES
        cdef Parked *child = &self.children[place]
        cdef ParkedPool *pool = &self.pools[brood.pool]
        cdef int error = 0
        if place >= self.child_count or child.state != PARKED_ASKED or child.zygote != number:
            return -1
        if seq >> 16 != (FOR_PARKING | (child.turn & TURNS)) or not own_child(pid):
            return -1
        child.state, child.pid = PARKED_WAITS, pid
        child.pidfd = watched_pidfd(pid)
        if child.pidfd < 0:
            error = errno
        elif self.reception.watch(child.pidfd, ON_PARKED, place | (child.turn & TURNS) << 16, EPOLLIN) < 0:
            error = errno
            close(child.pidfd)
            child.pidfd = -1
        note_parked(&pool.demand, now - child.asked_at)
        brood.asked -= 1
        brood.waiting += 1
        brood.free += 1
        brood.unwatched += child.pidfd < 0
        own_counters(self.ledger, pool.life.target.row).pool[<int> IDLE] += 1
        if error == 0 and brood.asked == 0:  # those that were asked for are there: the next ones, if more are wanted
            self.fork_missing(number)
        return error

    cdef bint note_not_forked(self, u32 number, u32 seq, u64 now) noexcept nogil:
        """The zygote could not fork a child that it was asked for; it is asked again in a moment."""
        cdef u32 place = seq & PLACES
        cdef Parked *child = &self.children[place]
        if place >= self.child_count or child.state != PARKED_ASKED or child.zygote != number:
            return False
        child.state = PARKED_NONE
        self.broods[number].asked -= 1
        self.wake_at(now + ASK_AGAIN_AFTER)
        return True

    cdef bint release(self, u32 number, u32 seq, i32 pid, int *pidfd) noexcept nogil:
        """A parked child has taken a connection and is a server now: give up its pidfd, which is in the epoll set."""
        cdef u32 place = seq & PLACES
        cdef Parked *child = &self.children[place]
        if place >= self.child_count or child.state != PARKED_WAITS or child.pid != pid or child.zygote != number:
            return False
        pidfd[0] = child.pidfd
        self.broods[number].sent -= 1
        self.vacate(place)
        return True

    # ---- their ends ----

    cdef u32 zygote_of(self, u32 index) noexcept nogil:
        """The zygote of the parked child whose end an event reports; NOBODY: its end was accounted for before."""
        cdef u32 place = index & PLACES
        cdef Parked *child = &self.children[place]
        if child.state != PARKED_WAITS or (child.turn & TURNS) != index >> 16:
            return NOBODY
        return child.zygote

    cdef bint reap_child(self, u32 index) noexcept nogil:
        """Reap a parked child that has ended: asked to end, killed, or with a connection in its hands. All that it had
        sent is read. Returns whether its zygote is to be given up."""
        cdef u32 place = index & PLACES
        cdef Parked *child = &self.children[place]
        cdef u32 number = self.zygote_of(index)
        cdef Brood *brood
        cdef siginfo_t info
        if number == NOBODY:  # it has taken a connection, served it and ended
            return False
        brood = &self.broods[number]
        self.reception.forget(child.pidfd)
        if wait_for_child(P_PID, child.pid, &info, NULL, WEXITED | WNOHANG) == 0 and info.si_pid == 0:
            # Another process traces it, and learns of it first. all_gone tries again.
            child.pidfd = -1
            brood.unwatched += 1
            self.wake_at(now_monotonic() + REAP_AGAIN_AFTER)
            return True
        self.vacate(place)
        if brood.control < 0:
            return False
        if brood.leaving and info.si_code == CLD_EXITED and info.si_status == 0:
            brood.leaving -= 1
            return False
        if brood.sent or brood.leaving:
            return True  # one of the connections on the way may have been lost with it
        brood.free -= 1
        own_counters(self.ledger, self.pools[brood.pool].life.target.row).recycled[<int> DIED] += 1
        self.fork_missing(number)
        return False

    cdef void vacate(self, u32 place) noexcept nogil:
        """Free the place of a parked child, whose pidfd is the caller's."""
        cdef Parked *child = &self.children[place]
        cdef Brood *brood = &self.broods[child.zygote]
        child.state = PARKED_NONE
        brood.waiting -= 1
        brood.unwatched -= child.pidfd < 0
        own_counters(self.ledger, self.pools[brood.pool].life.target.row).pool[<int> IDLE] -= 1

    cdef void abandon(self) noexcept nogil:
        """This process ends: wake the children that are stopped, so that they see the end of their socket, and end."""
        cdef u32 i
        for i in range(self.child_count):
            if self.children[i].state == PARKED_WAITS:
                kill(self.children[i].pid, SIGCONT)

    cdef bint has_child(self, i32 pid) noexcept nogil:
        """Whether a process is a parked child."""
        cdef u32 i
        for i in range(self.child_count):
            if self.children[i].state == PARKED_WAITS and self.children[i].pid == pid:
                return True
        return False

    # ---- how many ----

    cdef void fork_missing(self, u32 number) noexcept nogil:
        """Ask a zygote for as many children as are missing."""
        cdef Brood *brood = &self.broods[number]
        cdef ParkedPool *pool = &self.pools[brood.pool]
        cdef u32 wanted, place, tried = 0
        cdef Parked *child
        if brood.control < 0:
            return
        wanted = children_wanted(&pool.demand, pool.life.least, pool.life.most)
        while brood.free + brood.asked < wanted and brood.asked < FORKS_IN_A_ROW and tried < self.child_count:
            tried += 1
            place = self.cursor
            self.cursor = 0 if place + 1 == self.child_count else place + 1
            child = &self.children[place]
            if child.state != PARKED_NONE:
                continue
            child.turn += 1
            if send_request(brood.control, STAGE_PARK, place | (FOR_PARKING | (child.turn & TURNS)) << 16) != 0:
                break
            child.state, child.zygote, child.asked_at = PARKED_ASKED, number, now_monotonic()
            brood.asked += 1
        if brood.free > pool.life.least or pool.demand.boost or brood.free + brood.asked < wanted:
            self.wake_at(now_monotonic() + pool.life.target.pool.count_every)

    cdef void tend(self, u32 number, u64 now) noexcept nogil:
        """Ask for what is missing; and, each `count_every` while there is something to forget, let children go that
        have been too many for a while."""
        cdef Brood *brood = &self.broods[number]
        cdef ParkedPool *pool = &self.pools[brood.pool]
        cdef u64 every
        cdef u32 excess
        if brood.control < 0:
            return
        every = pool.life.target.pool.count_every
        if pool.refill:
            pool.refill = False
            self.fork_missing(number)
        if now - pool.demand.counted_at < every:
            self.wake_at(pool.demand.counted_at + every)
            return
        excess = count_again(&pool.demand, brood.free, pool.life.least, pool.life.most, now)
        while excess and send_request(brood.hand, STAGE_LEAVE, 0) == 0:
            excess -= 1
            brood.free -= 1
            brood.leaving += 1
            own_counters(self.ledger, pool.life.target.row).recycled[<int> SPARE] += 1
        self.fork_missing(number)
        if brood.free > pool.life.least or pool.demand.boost:
            self.wake_at(now + every)
