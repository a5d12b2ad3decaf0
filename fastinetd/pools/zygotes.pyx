"""Zygotes: programs held before main, or at their first use of the socket, and forked for each connection.

Theory. A zygote is the service's program, started with the stage library ahead of it (stage/stage.c), and a child of this
process. For a connection it forks, and the fork is a child of this process too.

A connection that was sent is kept open here until somebody has said that he took it; only then is it his, and only
then does he touch it. When a zygote or a parked child is lost, its sockets are shut: from that moment nobody can say so
any more, and whoever cannot, ends. What nobody had taken by then is served by exec. So each connection is served once,
whatever dies when.

    state      event                              next
    NONE       it is time                         STARTING
    STARTING   READY                              READY
    STARTING   REFUSED, its end, no patience left LEAVING, and another after a pause
    READY      its end, silence, nonsense,
               a parked child lost with something
               on its way, a changed file         LEAVING, and another
    LEAVING    all its processes are reaped       NONE

A zygote whose sockets end while it lives is killed, and its end is what counts: then the status it ends with is told.

Rules of this file
 - Zygotes and what they fork run the service's code and are not trusted. Whose word it is the kernel says; a pid is
   this process's own child, or the zygote is given up.
 - Nothing here waits for them.
"""

from libc.stdlib cimport calloc, free

from fastinetd.core.admit cimport Client, client_of_slot, record_pool_event, record_start
from fastinetd.core.layout cimport EXEC, PREFORK, ZYGOTE, Counters, Slot, slots_high
from fastinetd.core.ledger cimport own_counters
from fastinetd.core.program cimport Target, variables
from fastinetd.core.reception cimport ON_CONTROL_REPLY, ON_VOICE, ON_ZYGOTE
from fastinetd.core.servers cimport Servers, set_aside, wait_for_child, watched_pidfd
from fastinetd.pools.pool cimport (
    AT_START, CHANGED, DIED, DIED_EARLY, EARLY, FIRST_USE, HELD_AT_MAIN, HELD_AT_ONCE, HELD_EARLY, HOLDING, HUNG,
    MAIN, MISTRUSTED, NEVER, NOBODY, NO_START, SECOND, SIGKILL, STARTING, TAKEN_WITHIN, TOO_SLOW, UNHOLDABLE,
    UNINTELLIGIBLE, UNSUPPORTED, HeldAt, PoolLife, Recycling, close_both, elapsed, files_changed, forget_failures,
    inode_of, kill, look_at_files, make_pair, open_pool, own_child, pause_starts, reset_pause, record_failure,
    send_message, start_process,
)
from fastinetd.system.linux cimport (
    AF_UNIX, CLD_EXITED, EAGAIN, EBADMSG, ECHILD, ECONNRESET, EINTR, EPOLLIN, EPOLL_CTL_DEL, F_DUPFD_CLOEXEC,
    P_PGID, P_PID, SHUT_RDWR, SOCK_CLOEXEC, WEXITED, WNOHANG, close, epoll_ctl, errno, fcntl, i32, now_monotonic,
    shutdown, siginfo_t, store16, store64, u16, u32, u64,
)
from fastinetd.system.strangers cimport close_channel, close_shared, receive_words


cdef extern from "<sys/socket.h>" nogil:
    enum:
        SOCK_STREAM
    int socketpair(int family, int kind, int protocol, int *pair)

cdef extern from "<unistd.h>" nogil:
    i32 getpgid(i32 pid)

cdef enum:
    AT_ONCE = 64  # answers read in a row, while others wait to be looked after

cdef u64 LASTING = 5 * SECOND  # a zygote that lived so long was no failure
cdef u64 GRACE = 10 * SECOND  # for what is left of a zygote that was given up


cdef class Zygotes:
    """The zygotes of one acceptor."""

    def __init__(self, Servers servers, u32 pool_count):
        """For so many services."""
        self.servers, self.at, self.ledger = servers, servers.at, servers.ledger
        self.zygote_count = 4 * pool_count
        self.pools = <ZygotePool *> calloc(pool_count + 1, sizeof(ZygotePool))
        self.zygotes = <Zygote *> calloc(self.zygote_count + 1, sizeof(Zygote))
        self.handed = <Handed *> calloc(self.ledger.view.slot_count if pool_count else 1, sizeof(Handed))
        if self.pools == NULL or self.zygotes == NULL or self.handed == NULL:
            raise MemoryError
        self.due_at = NEVER

    cdef void add_pool(self, u32 index, Target *target, u32 acceptors) noexcept nogil:
        """Service number `index` is `target`; this acceptor is one of so many. Its zygote is started in a moment."""
        open_pool(&self.pools[index].life, target, acceptors)
        self.pools[index].zygote = NOBODY
        self.pool_count = index + 1
        self.wake_at(0)

    def __dealloc__(self):
        free(self.pools)
        free(self.zygotes)
        free(self.handed)

    cdef void wake_at(self, u64 moment) noexcept nogil:
        """its_time is to be called by then."""
        if moment < self.due_at:
            self.due_at = moment

    # ---- connections ----

    cdef bint hand(self, u32 index, const Client *client, u32 slot) noexcept nogil:
        """Give an admitted client to the pool, which then takes its connection and `slot`; False: it cannot serve it."""
        cdef ZygotePool *pool = &self.pools[index]
        cdef u32 number = pool.zygote
        cdef u64 now = self.ledger.view.slots[slot].started
        if number == NOBODY or self.zygotes[number].state != ZYGOTE_READY:
            return False
        if files_changed(&pool.life, now):
            self.close_down(number, CHANGED)
            return False
        return self.pass_on(number, client, slot)

    cdef bint pass_on(self, u32 number, const Client *client, u32 slot) noexcept nogil:
        """Send a connection where it is served soonest."""
        return self.send(&self.pools[self.zygotes[number].pool], number, False, client, slot)

    cdef bint send(self, ZygotePool *pool, u32 number, bint parked, const Client *client, u32 slot) noexcept nogil:
        """Send a connection to the zygote, or to whichever parked child the kernel wakes."""
        cdef Zygote *z = &self.zygotes[number]
        cdef Handed *h = &self.handed[slot]
        cdef Slot *s = &self.ledger.view.slots[slot]
        cdef stage_message message
        cdef size_t length = sizeof(message.request)
        h.turn = (h.turn + 1) & TURNS
        message.request.kind, message.request.seq = STAGE_TAKE if parked else STAGE_FORK, slot | h.turn << 16
        length += variables(pool.life.target, &client.peer, client.fd, message.variables)
        s.inode = inode_of(client.fd)
        store16(&s.method, <u16> (PREFORK if parked else ZYGOTE))
        if send_message(z.hand if parked else z.control, &message, length, client.fd) != 0:
            s.method = EXEC
            return False
        if z.asked == 0 and z.handed == 0:
            z.overdue = s.started + TAKEN_WITHIN
            self.wake_at(z.overdue)
        if parked:
            z.handed += 1
            z.free -= 1
        else:
            z.asked += 1
        h.kept = set_aside(client.fd, self.outstanding) + 1
        h.zygote, h.parked, h.waited = number, parked, client.waited
        self.outstanding += 1
        return True

    cdef void by_exec(self, u32 slot) noexcept nogil:
        """Nobody has taken the slot's connection, and nobody will: start a server for it."""
        cdef Handed *h = &self.handed[slot]
        cdef Slot *s = &self.ledger.view.slots[slot]
        cdef Target *target = self.pools[self.zygotes[h.zygote].pool].life.target
        cdef Client client
        client_of_slot(self.ledger, slot, h.kept - 1, h.waited, &client)
        h.kept = 0
        self.outstanding -= 1
        own_counters(self.ledger, target.row).pool_misses += 1
        s.method = EXEC
        self.at.await_room()
        self.servers.start(target, &client, slot)

    # ---- what they say ----

    cdef void happened(self, u32 kind, u32 index) noexcept nogil:
        """An event of a zygote; `index` is its number, and its turn above."""
        cdef u32 number = index & PLACES
        if self.zygotes[number].state == ZYGOTE_NONE or (self.zygotes[number].turn & TURNS) != index >> 16:
            return
        if kind == ON_ZYGOTE:
            self.ended(number)
        elif self.zygotes[number].state != ZYGOTE_LEAVING:
            self.replies(number, kind == ON_VOICE, AT_ONCE)

    cdef void replies(self, u32 number, bint parked, u32 most) noexcept nogil:
        """Read what the zygote and its forks have to say; all of it when its sockets are shut."""
        cdef Zygote *z = &self.zygotes[number]
        cdef stage_reply reply
        cdef ssize_t length
        cdef i32 pid = 0
        cdef bint draining = z.state == ZYGOTE_LEAVING
        cdef u32 count = 0
        while (draining or count < most) and draining == (z.state == ZYGOTE_LEAVING):
            count += 1
            length = receive_words(z.voice if parked else z.control, &reply, sizeof(reply), &pid)
            if length == -ECONNRESET:  # it has ended and left requests unread; what was said before is there still
                continue
            if length == -EAGAIN or length == -EINTR:
                return
            if length == -EBADMSG:  # what is behind it is lost
                z.heard = now_monotonic()
                self.mistrust(number, pid)
                return
            if length <= 0:
                if not draining:
                    self.fell_silent(number)
                return
            self.at.await_room()
            z.heard = now_monotonic()
            if length != sizeof(reply) or not self.understood(number, parked, reply.kind, reply.seq, reply.value, pid):
                self.mistrust(number, pid)

    cdef void mistrust(self, u32 number, i32 pid) noexcept nogil:
        """`pid` has said what makes no sense: the zygote is given up, and so is who said it if he serves nobody."""
        cdef Zygote *z = &self.zygotes[number]
        if pid != z.pid and own_child(pid) and getpgid(pid) == z.group:
            kill(pid, SIGKILL)
        if z.state != ZYGOTE_LEAVING:
            record_failure(self.at, &self.pools[z.pool].life, UNINTELLIGIBLE, 0, z.heard)
            self.close_down(number, MISTRUSTED)

    cdef void hear_all(self) noexcept nogil:
        """Read whatever was said so far, and is not yet read."""
        cdef u32 number
        for number in range(self.zygote_count):
            if self.zygotes[number].state == ZYGOTE_STARTING or self.zygotes[number].state == ZYGOTE_READY:
                self.replies(number, False, AT_ONCE)
            if self.zygotes[number].state == ZYGOTE_READY:
                self.replies(number, True, AT_ONCE)

    cdef void fell_silent(self, u32 number) noexcept nogil:
        """Nobody is there any more to say anything: a zygote's end is near, or it has closed its sockets."""
        cdef Zygote *z = &self.zygotes[number]
        if z.state == ZYGOTE_READY:
            self.died(number)
            return
        # How it ended its pidfd will say: this makes no difference to one that is ending already.
        if z.pid:
            kill(z.pid, SIGKILL)
        epoll_ctl(self.at.epoll, EPOLL_CTL_DEL, z.control, NULL)
        epoll_ctl(self.at.epoll, EPOLL_CTL_DEL, z.voice, NULL)

    cdef void died(self, u32 number) noexcept nogil:
        """A zygote that was ready has ended."""
        cdef PoolLife *life = &self.pools[self.zygotes[number].pool].life
        cdef u64 now = now_monotonic()
        if elapsed(self.zygotes[number].since, now) > LASTING:
            reset_pause(life)
        pause_starts(life, now)
        self.close_down(number, DIED)

    cdef bint understood(self, u32 number, bint parked, u32 kind, u32 seq, i32 value, i32 pid) noexcept nogil:
        """Do what a reply says; False if it makes no sense."""
        cdef Zygote *z = &self.zygotes[number]
        if kind == STAGE_TOOK:
            return self.took(number, parked, seq, value, pid)
        if kind == STAGE_PARKED:
            return parked and self.is_parked(number, seq, pid)
        if parked:
            return False
        if kind == STAGE_READY:
            return pid == z.pid and self.is_ready(number, seq, value)
        if kind == STAGE_FAILED:
            return pid == z.pid and self.could_not(number, seq, value)
        if kind == STAGE_REFUSED and pid == z.pid and z.state == ZYGOTE_STARTING:
            record_failure(self.at, &self.pools[z.pool].life, UNHOLDABLE, value, now_monotonic())
            self.close_down(number, MISTRUSTED)
            return True
        return z.state == ZYGOTE_LEAVING

    cdef bint is_ready(self, u32 number, u32 where, i32 call) noexcept nogil:
        """It is held; False if it makes no sense."""
        cdef Zygote *z = &self.zygotes[number]
        cdef Counters *counters = own_counters(self.ledger, self.pools[z.pool].life.target.row)
        cdef u32 point = where & ((1 << STAGE_POINT_BITS) - 1)
        cdef HeldAt place = MAIN
        if z.state != ZYGOTE_STARTING:
            return z.state == ZYGOTE_LEAVING
        if point == STAGE_AT_IO:
            place = FIRST_USE
        elif point == STAGE_AT_OTHER:
            place = AT_START if where >> STAGE_POINT_BITS <= FEW_CALLS else EARLY
        elif point == STAGE_NOT_FURTHER:
            place = UNSUPPORTED
        elif point != STAGE_AT_MAIN:
            return False
        z.state, z.since = ZYGOTE_READY, now_monotonic()
        counters.pool[<int> STARTING] -= 1
        counters.pool[<int> HOLDING] += 1
        store64(&counters.held, <u64> (<u32> call) << 8 | <u64> (<int> place + 1))
        if place == EARLY or place == AT_START:
            record_pool_event(self.ledger, self.pools[z.pool].life.target.row,
                              HELD_EARLY if place == EARLY else HELD_AT_ONCE, call)
        elif place == UNSUPPORTED:
            record_pool_event(self.ledger, self.pools[z.pool].life.target.row, HELD_AT_MAIN, 0)
        self.fill_up(number)
        return True

    cdef bint took(self, u32 number, bint parked, u32 seq, i32 value, i32 pid) noexcept nogil:
        """A child has taken a connection: it is the slot's server now. `value` is what a parked one was parked as."""
        cdef Zygote *z = &self.zygotes[number]
        cdef u32 slot = seq & PLACES
        cdef Handed *h = &self.handed[slot]
        cdef Target *target = self.pools[z.pool].life.target
        cdef Counters *counters = own_counters(self.ledger, target.row)
        cdef int pidfd = -1
        if slot >= self.ledger.view.slot_count or not h.kept or h.zygote != number or h.turn != seq >> 16 or h.parked != parked:
            return False
        if parked:
            if not self.unpark(number, <u32> value, pid, &pidfd):
                return False
            z.handed -= 1
        elif pid == z.pid or not own_child(pid):
            return False
        else:
            z.asked -= 1
        if parked or target.pool.kind != PREFORK:
            counters.pool_hits += 1
        else:
            counters.pool_misses += 1
        self.ledger.view.slots[slot].pid = pid
        record_start(self.ledger, target, slot, h.waited)
        if pidfd >= 0:
            self.servers.take_over(slot, pidfd)
        else:
            self.servers.watch(slot)
        close_shared(h.kept - 1)
        h.kept = 0
        self.outstanding -= 1
        return True

    cdef bint could_not(self, u32 number, u32 seq, i32 value) noexcept nogil:
        """The zygote could not fork."""
        cdef Zygote *z = &self.zygotes[number]
        cdef u32 place = seq & PLACES
        if seq >> 16 & FOR_PARKING:
            return self.not_parked(number, place)
        if place >= self.ledger.view.slot_count or not self.handed[place].kept or self.handed[place].zygote != number:
            return False
        if self.handed[place].turn != seq >> 16 or self.handed[place].parked:
            return False
        z.asked -= 1
        self.by_exec(place)
        return True

    # ---- zygotes ----

    cdef void start(self, u32 index, u64 now) noexcept nogil:
        """Start a zygote for a pool that has none."""
        cdef ZygotePool *pool = &self.pools[index]
        cdef Zygote *z = NULL
        cdef u32 number
        for number in range(self.zygote_count):
            if self.zygotes[number].state == ZYGOTE_NONE:
                z = &self.zygotes[number]
                break
        if z == NULL:  # those before are not reaped yet
            pool.life.start_at = now + SECOND // 10
            return
        z.turn += 1
        z.pool = index
        z.asked = z.handed = z.parking = z.parked = z.free = z.leaving = z.unwatched = 0
        look_at_files(&pool.life, now)
        self.open_channels(number, now)

    cdef void open_channels(self, u32 number, u64 now) noexcept nogil:
        """Make the sockets to a zygote, and the zygote."""
        cdef Zygote *z = &self.zygotes[number]
        cdef PoolLife *life = &self.pools[z.pool].life
        cdef Counters *counters = own_counters(self.ledger, life.target.row)
        cdef int control[2]
        cdef int hand[2]
        cdef int voice[2]
        cdef int standing[2]
        cdef int further[4]
        cdef int error
        control[0] = control[1] = hand[0] = hand[1] = voice[0] = voice[1] = standing[0] = standing[1] = -1
        error = make_pair(control, True)
        if error == 0:
            error = make_pair(hand, False)
        if error == 0:
            error = make_pair(voice, True)
        if error == 0 and socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, standing) < 0:
            error = errno
        if error == 0:
            # What the program has as its connection until it has one: a socket, and nobody at its other end.
            close(standing[1])
            standing[1] = -1
            further[0], further[1], further[2], further[3] = life.target.pool.library, voice[1], control[1], hand[1]
            error = start_process(life.target, standing[0], further, 4, STAGE_LIBRARY, True, &z.pid)
        z.control = fcntl(control[0], F_DUPFD_CLOEXEC, 64) if error == 0 else -1
        z.hand = fcntl(hand[0], F_DUPFD_CLOEXEC, 64) if error == 0 else -1
        z.voice = fcntl(voice[0], F_DUPFD_CLOEXEC, 64) if error == 0 else -1
        z.pidfd = watched_pidfd(z.pid) if error == 0 else -1
        close_both(control)
        close_both(hand)
        close_both(voice)
        close_both(standing)
        if error:
            record_failure(self.at, life, NO_START, error, now)
            self.wake_at(life.start_at)
            return
        z.group, z.since, z.heard = z.pid, now, now
        z.state = ZYGOTE_STARTING
        self.pools[z.pool].zygote = number
        counters.pool[<int> STARTING] += 1
        self.wake_at(now + life.target.pool.ready_within)
        cdef u32 index = number | (z.turn & TURNS) << 16
        if z.pidfd >= 0 and self.at.watch(z.pidfd, ON_ZYGOTE, index, EPOLLIN) < 0:
            close(z.pidfd)
            z.pidfd = -1  # sweep looks at it from time to time
        if z.control < 0 or z.hand < 0 or z.voice < 0 or z.pidfd < 0 \
                or self.at.watch(z.control, ON_CONTROL_REPLY, index, EPOLLIN) < 0 \
                or self.at.watch(z.voice, ON_VOICE, index, EPOLLIN) < 0:
            self.not_watched(number, errno, now)

    cdef void not_watched(self, u32 number, int error, u64 now) noexcept nogil:
        """A process of the zygote's cannot be watched, for want of descriptors or memory: give all of them up."""
        record_failure(self.at, &self.pools[self.zygotes[number].pool].life, NO_START, error, now)
        self.close_down(number, MISTRUSTED)

    cdef void close_down(self, u32 number, Recycling why) noexcept nogil:
        """Give a zygote and its parked children up. What nobody has taken is served by exec."""
        cdef Zygote *z = &self.zygotes[number]
        cdef ZygotePool *pool = &self.pools[z.pool]
        cdef Counters *counters = own_counters(self.ledger, pool.life.target.row)
        cdef u64 now = now_monotonic()
        cdef u32 i
        counters.pool[<int> STARTING if z.state == ZYGOTE_STARTING else <int> HOLDING] -= 1
        counters.recycled[<int> why] += 1
        store64(&counters.held, 0)
        z.state, z.since = ZYGOTE_LEAVING, now
        pool.zygote = NOBODY
        # From here on nobody can say that he took something. What was said before is still there to be read.
        shutdown(z.control, SHUT_RDWR)
        shutdown(z.voice, SHUT_RDWR)
        shutdown(z.hand, SHUT_RDWR)
        self.replies(number, False, WHATEVER)
        self.replies(number, True, WHATEVER)
        epoll_ctl(self.at.epoll, EPOLL_CTL_DEL, z.control, NULL)
        epoll_ctl(self.at.epoll, EPOLL_CTL_DEL, z.voice, NULL)
        close_channel(z.control)
        close_channel(z.voice)
        close_channel(z.hand)
        if z.pid:
            kill(z.pid, SIGKILL)
        self.let_go(number)
        if z.asked or z.handed:
            for i in range(slots_high(self.ledger.view)):
                if self.handed[i].kept and self.handed[i].zygote == number:
                    self.by_exec(i)
        self.wake_at(now)

    cdef void renew(self) noexcept nogil:
        """Give up all zygotes, and start others at once: what was wrong with those before may have been mended."""
        cdef u32 index
        for index in range(self.pool_count):
            forget_failures(&self.pools[index].life)
            if self.pools[index].zygote != NOBODY:
                self.close_down(self.pools[index].zygote, CHANGED)
        self.wake_at(0)

    cdef void ended(self, u32 number) noexcept nogil:
        """A zygote's pidfd says that it has ended."""
        cdef Zygote *z = &self.zygotes[number]
        cdef PoolLife *life = &self.pools[z.pool].life
        cdef siginfo_t info
        cdef u64 now = now_monotonic()
        cdef int error
        if z.state == ZYGOTE_STARTING:
            self.replies(number, False, WHATEVER)  # perhaps it has said why
        error = wait_for_child(P_PID, z.pid, &info, NULL, WEXITED | WNOHANG)
        self.at.forget(z.pidfd)
        z.pidfd = -1
        if error or info.si_pid:  # else somebody traces it: sweep looks at it from time to time
            z.pid = 0
        if z.state == ZYGOTE_STARTING:
            record_failure(self.at, life, DIED_EARLY, info.si_status if info.si_code == CLD_EXITED else -info.si_status, now)
            self.close_down(number, MISTRUSTED)
        elif z.state == ZYGOTE_READY:
            self.died(number)
        self.sweep(number)

    cdef void sweep(self, u32 number) noexcept nogil:
        """Reap what a zygote left behind; when nothing is left its place is free.

        Children that never took a connection are still in its process group. Those that did have left it (setsid).
        """
        cdef Zygote *z = &self.zygotes[number]
        cdef siginfo_t info
        cdef u64 now = now_monotonic()
        cdef int error
        if z.pid and z.pidfd < 0:  # it could not be watched
            error = wait_for_child(P_PID, z.pid, &info, NULL, WEXITED | WNOHANG)
            if error == 0 and info.si_pid == 0:
                self.wake_at(now + SECOND // 10)
                return
            z.pid = 0
        if z.unwatched:
            self.let_go(number)
            self.wake_at(now + SECOND // 10)
        if z.pid or z.parked:
            return  # their pidfds will say
        while True:
            error = wait_for_child(P_PGID, z.group, &info, NULL, WEXITED | WNOHANG)
            if error == ECHILD:
                z.state = ZYGOTE_NONE
                return
            if error == 0 and info.si_pid == 0:
                break
        if elapsed(z.since, now) < GRACE:
            self.wake_at(now + SECOND // 10)
        else:  # stopped by somebody
            kill(-z.group, SIGKILL)
            self.wake_at(now + SECOND)

    # ---- for the subclass: parked children ----

    cdef bint is_parked(self, u32 number, u32 seq, i32 pid) noexcept nogil:
        """A child says that it waits for its connection; False if it makes no sense."""
        return False

    cdef bint not_parked(self, u32 number, u32 place) noexcept nogil:
        """The zygote could not fork such a child."""
        return False

    cdef bint unpark(self, u32 number, u32 seq, i32 pid, int *pidfd) noexcept nogil:
        """A parked child has taken a connection: give up its pidfd, which is in the epoll set. False: there is none such."""
        return False

    cdef void let_go(self, u32 number) noexcept nogil:
        """End the parked children of a zygote that is given up, and reap those that could not be watched."""

    cdef void fill_up(self, u32 number) noexcept nogil:
        """Have as many of them as are wanted."""

    cdef void shrink(self, u32 number, u64 now) noexcept nogil:
        """Once a second while there is something to forget: let some of them go that have been too many for a while."""

    # ---- time ----

    cdef void its_time(self) noexcept nogil:
        """Look after whatever is due; says in due_at when to come again."""
        cdef u64 now = now_monotonic()
        cdef ZygotePool *pool
        cdef Zygote *z
        cdef u32 index
        cdef bint begun = False
        self.due_at = NEVER
        for index in range(self.zygote_count):
            if self.zygotes[index].state == ZYGOTE_LEAVING:
                self.sweep(index)
        for index in range(self.pool_count):
            pool = &self.pools[index]
            if pool.zygote == NOBODY:
                if self.at.retired:
                    continue
                if now < pool.life.start_at:
                    self.wake_at(pool.life.start_at)
                elif begun:  # clients come between two starts
                    self.wake_at(now)
                else:
                    begun = True
                    self.start(index, now)
                continue
            z = &self.zygotes[pool.zygote]
            if z.state == ZYGOTE_STARTING:
                self.too_slow(pool.zygote, now)
            elif z.asked or z.handed:
                self.hung(pool.zygote, now)
            if pool.zygote != NOBODY and z.state == ZYGOTE_READY:
                self.shrink(pool.zygote, now)

    cdef void too_slow(self, u32 number, u64 now) noexcept nogil:
        """A zygote that is not ready in time is given up."""
        cdef Zygote *z = &self.zygotes[number]
        cdef PoolLife *life = &self.pools[z.pool].life
        cdef u64 within = life.target.pool.ready_within
        if elapsed(z.since, now) < within:
            self.wake_at(z.since + within)
            return
        record_failure(self.at, life, TOO_SLOW, <i32> (within // SECOND), now)
        self.close_down(number, MISTRUSTED)

    cdef void hung(self, u32 number, u64 now) noexcept nogil:
        """So is one that leaves a connection unanswered: stopped by somebody, for instance, or its fork was killed."""
        cdef Zygote *z = &self.zygotes[number]
        cdef u64 first = now
        cdef u32 i
        if now >= z.overdue:
            for i in range(slots_high(self.ledger.view)):
                if self.handed[i].kept and self.handed[i].zygote == number and self.ledger.view.slots[i].started < first:
                    first = self.ledger.view.slots[i].started
            z.overdue = first + TAKEN_WITHIN
        if now < z.overdue:
            self.wake_at(z.overdue)
            return
        record_failure(self.at, &self.pools[z.pool].life, HUNG, <i32> (TAKEN_WITHIN // SECOND), now)
        self.close_down(number, MISTRUSTED)
