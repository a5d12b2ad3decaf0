"""Children forked ahead of time, parked until a connection comes (spawn = prefork).

Theory. The zygote forks them as it does for a connection, but they wait for theirs on a socket that they share, and the
kernel wakes one for each. As many are parked as come while one is made ready, twice over, and not fewer than min_spare;
whenever there was none, more are wanted, twice as many each time (as Apache and PHP-FPM do it); what is too many for
some seconds is let go by halves. A connection for which there is none goes to the zygote.

When a parked child is lost while connections are on their way to it and its like, it cannot be told whether it had one.
Then all of them are given up, with their zygote: see zygotes.pyx for why nothing is lost by that and nothing served
twice.

Rules of this file are those of zygotes.pyx.
"""

from libc.stdlib cimport calloc, free

from fastinetd.core.admit cimport Client
from fastinetd.core.layout cimport PREFORK
from fastinetd.core.ledger cimport own_counters
from fastinetd.core.reception cimport ON_PARKED
from fastinetd.core.servers cimport Servers, wait_for_child, watched_pidfd
from fastinetd.pools.pool cimport DIED, IDLE, SECOND, SIGCONT, SIGKILL, SPARE, kill, own_child, send_message
from fastinetd.pools.zygotes cimport (
    FOR_PARKING, PLACES, STAGE_LEAVE, STAGE_PARK, TURNS, WHATEVER, ZYGOTE_LEAVING, ZYGOTE_NONE, ZYGOTE_READY,
    Zygote, ZygotePool, Zygotes, stage_request,
)
from fastinetd.system.linux cimport (
    CLD_EXITED, EPOLLIN, P_PID, WEXITED, WNOHANG, close, errno, i32, now_monotonic, siginfo_t, u32, u64,
)


cdef enum:
    BATCH_MOST = 32  # children asked for in a row
    CALM = 5  # seconds with more children than wanted until some are let go


cdef u64 REFILL_AFTER = SECOND // 1000  # a fork in the same moment would take the processor from who has the connection


cdef class Prefork(Zygotes):
    """The zygotes of one acceptor, and their parked children."""

    def __init__(self, Servers servers, u32 pool_count, u32 parked_count):
        """For so many services, with room for so many parked children."""
        super().__init__(servers, pool_count)
        self.parked_count = min(parked_count, PLACES)
        self.parked = <Parked *> calloc(self.parked_count + 1, sizeof(Parked))
        if self.parked == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.parked)

    cdef void happened(self, u32 kind, u32 index) noexcept nogil:
        cdef u32 place = index & PLACES
        if kind != ON_PARKED:
            Zygotes.happened(self, kind, index)
        elif self.parked[place].state == PARKED_WAITS and (self.parked[place].turn & TURNS) == index >> 16:
            self.parked_ended(place)

    cdef bint pass_on(self, u32 number, const Client *client, u32 slot) noexcept nogil:
        cdef Zygote *z = &self.zygotes[number]
        cdef ZygotePool *pool = &self.pools[z.pool]
        cdef u64 now = self.ledger.view.slots[slot].started
        cdef bint done
        if pool.life.target.pool.kind != PREFORK:
            return Zygotes.pass_on(self, number, client, slot)
        pool.arrivals += 1
        if now - pool.window > SECOND // 10:
            pool.rate = (3 * pool.rate + pool.arrivals * 1e9 / (now - pool.window)) / 4
            pool.arrivals, pool.window = 0, now
        done = z.free > 0 and self.send(pool, number, True, client, slot)
        if done:
            pool.refill = True
            self.wake_at(now + REFILL_AFTER)
        else:
            pool.boost = min(2 * pool.boost + 1, <u32> BATCH_MOST)
            done = self.send(pool, number, False, client, slot)
            self.fill_up(number)
        return done

    cdef bint not_parked(self, u32 number, u32 place) noexcept nogil:
        if place >= self.parked_count or self.parked[place].state != PARKED_ASKED or self.parked[place].zygote != number:
            return False
        self.parked[place].state = PARKED_NONE
        self.zygotes[number].parking -= 1
        self.wake_at(self.zygotes[number].heard + SECOND // 10)  # then it is tried again
        return True

    cdef bint unpark(self, u32 number, u32 seq, i32 pid, int *pidfd) noexcept nogil:
        cdef u32 place = seq & PLACES
        cdef Parked *p = &self.parked[place]
        if place >= self.parked_count or p.state != PARKED_WAITS or p.pid != pid or p.zygote != number:
            return False
        pidfd[0] = p.pidfd
        self.gone(place)
        return True

    cdef void gone(self, u32 place) noexcept nogil:
        """There is no parked child in this place any more; its pidfd is the caller's."""
        cdef Parked *p = &self.parked[place]
        cdef Zygote *z = &self.zygotes[p.zygote]
        p.state = PARKED_NONE
        z.parked -= 1
        z.unwatched -= p.pidfd < 0
        own_counters(self.ledger, self.pools[z.pool].life.target.row).pool[<int> IDLE] -= 1

    cdef void let_go(self, u32 number) noexcept nogil:
        cdef siginfo_t info
        cdef Parked *p
        cdef u32 i
        for i in range(self.parked_count):
            p = &self.parked[i]
            if p.zygote != number or p.state == PARKED_NONE:
                continue
            if p.state == PARKED_ASKED:
                p.state = PARKED_NONE
                continue
            kill(p.pid, SIGKILL)
            if p.pidfd < 0 and (wait_for_child(P_PID, p.pid, &info, NULL, WEXITED | WNOHANG) or info.si_pid):
                self.gone(i)

    cdef bint is_parked(self, u32 number, u32 seq, i32 pid) noexcept nogil:
        cdef Zygote *z = &self.zygotes[number]
        cdef ZygotePool *pool = &self.pools[z.pool]
        cdef u32 place = seq & PLACES
        cdef Parked *p = &self.parked[place]
        cdef int error
        if place >= self.parked_count or p.state != PARKED_ASKED or p.zygote != number:
            return False
        if seq >> 16 != (FOR_PARKING | (p.turn & TURNS)) or not own_child(pid):
            return False
        z.parking -= 1
        p.state, p.pid = PARKED_WAITS, pid
        p.pidfd = watched_pidfd(pid)
        error = errno
        if p.pidfd >= 0 and self.at.watch(p.pidfd, ON_PARKED, place | (p.turn & TURNS) << 16, EPOLLIN) < 0:
            error = errno
            close(p.pidfd)
            p.pidfd = -1
        pool.ready = (3 * pool.ready + (z.heard - p.asked_at) / 1e9) / 4
        z.parked += 1
        z.free += 1
        own_counters(self.ledger, pool.life.target.row).pool[<int> IDLE] += 1
        z.unwatched += p.pidfd < 0
        if z.state == ZYGOTE_LEAVING:
            kill(pid, SIGKILL)
        elif p.pidfd < 0:  # it may be the one that takes the next connection, so it cannot just be ended
            self.not_watched(number, error, z.heard)
        elif z.parking == 0:  # those that were asked for are there: the next ones, if more are wanted
            self.fill_up(number)
        return True

    cdef void parked_ended(self, u32 place) noexcept nogil:
        """A parked child's pidfd says that it has ended: told to leave, killed, or with a connection in its hands."""
        cdef Parked *p = &self.parked[place]
        cdef u32 number = p.zygote
        cdef Zygote *z = &self.zygotes[number]
        cdef siginfo_t info
        if z.state != ZYGOTE_LEAVING:
            self.replies(number, True, WHATEVER)  # it may have taken a connection, served it and ended
        if p.state != PARKED_WAITS:
            return
        if wait_for_child(P_PID, p.pid, &info, NULL, WEXITED | WNOHANG) == 0 and info.si_pid == 0:
            # Somebody traces it: sweep looks at it from time to time.
            self.at.forget(p.pidfd)
            p.pidfd = -1
            z.unwatched += 1
            if z.state != ZYGOTE_LEAVING:
                self.close_down(number, DIED)
            self.wake_at(now_monotonic() + SECOND // 10)
            return
        self.at.forget(p.pidfd)
        self.gone(place)
        if z.state == ZYGOTE_LEAVING:
            self.sweep(number)
        elif z.leaving and info.si_code == CLD_EXITED and info.si_status == 0:
            z.leaving -= 1
        elif z.handed or z.leaving:
            self.close_down(number, DIED)  # one of the connections on the way may have been lost with it
        else:
            z.free -= 1
            own_counters(self.ledger, self.pools[z.pool].life.target.row).recycled[<int> DIED] += 1
            self.fill_up(number)

    cdef void abandon(self) noexcept nogil:
        """This process ends: so do those that have no connection, when they see its sockets end. That they do also if
        somebody has stopped them; zygotes are killed."""
        cdef u32 i
        for i in range(self.zygote_count):
            if self.zygotes[i].state != ZYGOTE_NONE:
                kill(-self.zygotes[i].group, SIGCONT)
        for i in range(self.parked_count):
            if self.parked[i].state == PARKED_WAITS:
                kill(self.parked[i].pid, SIGCONT)

    cdef bint knows(self, i32 pid) noexcept nogil:
        """Whether this is a process whose end is waited for here."""
        cdef u32 i
        for i in range(self.zygote_count):
            if self.zygotes[i].state != ZYGOTE_NONE and self.zygotes[i].pid == pid:
                return True
        for i in range(self.parked_count):
            if self.parked[i].state == PARKED_WAITS and self.parked[i].pid == pid:
                return True
        return False

    cdef u32 wanted(self, ZygotePool *pool) noexcept nogil:
        """How many children shall be parked: enough for those who come while one is made ready, twice over."""
        cdef u32 count = <u32> (2 * pool.rate * pool.ready + 0.5)
        count = max(count, pool.life.least) + pool.boost
        return min(count, pool.life.most)

    cdef void fill_up(self, u32 number) noexcept nogil:
        """Ask for as many children as are missing."""
        cdef Zygote *z = &self.zygotes[number]
        cdef ZygotePool *pool = &self.pools[z.pool]
        cdef stage_request request
        cdef u32 target, place, tried = 0
        cdef Parked *p
        if pool.life.target.pool.kind != PREFORK or z.state != ZYGOTE_READY:
            return
        target = self.wanted(pool)
        while z.free + z.parking < target and z.parking < BATCH_MOST and tried < self.parked_count:
            tried += 1
            place = self.parked_cursor
            self.parked_cursor = 0 if place + 1 == self.parked_count else place + 1
            p = &self.parked[place]
            if p.state != PARKED_NONE:
                continue
            p.turn += 1
            request.kind, request.seq = STAGE_PARK, place | (FOR_PARKING | (p.turn & TURNS)) << 16
            if send_message(z.control, &request, sizeof(request), -1) != 0:
                break
            p.state, p.zygote, p.asked_at = PARKED_ASKED, number, now_monotonic()
            z.parking += 1
        if z.free > pool.life.least or pool.boost or z.free + z.parking < target:
            self.wake_at(now_monotonic() + pool.life.target.pool.count_every)

    cdef void shrink(self, u32 number, u64 now) noexcept nogil:
        """Each second while there is something to forget: let children go that are too many for a while."""
        cdef Zygote *z = &self.zygotes[number]
        cdef ZygotePool *pool = &self.pools[z.pool]
        cdef u64 every = pool.life.target.pool.count_every
        cdef stage_request request
        cdef u32 excess
        if pool.life.target.pool.kind != PREFORK:
            return
        if pool.refill:
            pool.refill = False
            self.fill_up(number)
        if now - pool.tended < every:
            self.wake_at(pool.tended + every)
            return
        pool.tended = now
        if now - pool.window > SECOND:
            pool.rate = (pool.rate + pool.arrivals * 1e9 / (now - pool.window)) / 2
            pool.arrivals, pool.window = 0, now
        pool.boost //= 2
        if z.free > self.wanted(pool):
            pool.surplus += 1
            if pool.surplus >= CALM:
                excess = (z.free - self.wanted(pool) + 1) // 2
                request.kind, request.seq = STAGE_LEAVE, 0
                while excess and send_message(z.hand, &request, sizeof(request), -1) == 0:
                    excess -= 1
                    z.free -= 1
                    z.leaving += 1
                    own_counters(self.ledger, pool.life.target.row).recycled[<int> SPARE] += 1
        else:
            pool.surplus = 0
        self.fill_up(number)
        if z.free > pool.life.least or pool.boost:
            self.wake_at(now + every)
