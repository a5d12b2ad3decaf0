"""Zygotes: programs held before main, or at their first use of the socket, and forked for each connection.

Theory. A zygote is the service's program, started with the stage library ahead of it (stage/stage.c), and a child of
this process. For a connection it forks, and the fork is a child of this process too. Under spawn = prefork it forks
ahead of time, and has parked children (parked.pyx): a connection goes to one of them, or to the zygote if none is free.

A connection that was sent is kept open here (handed.pyx) until a process has said that it took it; only then is that
its server, and only then does it touch it. When a zygote or a parked child is lost, its sockets are shut: from that
moment no process can say so any more, and whichever cannot, ends. What none had taken by then is served by exec. So
each connection is served once, whatever dies when.

    state      event                                       next
    NONE       it is time                                  STARTING
    STARTING   READY                                       READY
    STARTING   REFUSED, its end, not ready in time         LEAVING, and another after a pause
    READY      its end, silence, nonsense, a changed file,
               a parked child lost with a connection       LEAVING, and another
    LEAVING    all its processes are reaped                NONE

A zygote whose sockets end while it lives is killed, and its end is what counts: then its status is recorded.

Rules of this file
 - Zygotes and what they fork run the service's code and are not trusted. The kernel attests which process sent a
   message; a pid is this process's own child, or the zygote is given up.
 - Nothing here waits for them.
"""

from libc.stdlib cimport calloc, free

from fastinetd.core.admit cimport record_start
from fastinetd.core.client cimport Client
from fastinetd.core.layout cimport EXEC, PREFORK, ZYGOTE, Counters, Slot
from fastinetd.core.ledger cimport own_counters
from fastinetd.core.program cimport Target
from fastinetd.core.servers cimport Servers
from fastinetd.pools.handed cimport Handed, HandedConnections
from fastinetd.pools.parked cimport ParkedChildren
from fastinetd.pools.pool cimport (
    CHANGED, DIED, DIED_EARLY, HOLDING, HUNG, MISTRUSTED, NEVER, NOBODY, NO_START, ON_PARKED, ON_VOICE, ON_ZYGOTE,
    PLACES, REAP_AGAIN_AFTER, SIGCONT, SIGKILL, STABLE_AFTER, STARTING, TAKEN_WITHIN, TOO_SLOW, TURNS, UNHOLDABLE,
    UNINTELLIGIBLE, PoolLife, Recycling, files_changed, forget_failures, inode_of, kill, look_at_files, open_pool,
    own_child, pause_starts, record_failure, reset_pause, time_since,
)
from fastinetd.pools.wire cimport (
    FOR_PARKING, STAGE_FAILED, STAGE_PARKED, STAGE_READY, STAGE_REFUSED, STAGE_TOOK, stage_reply,
)
from fastinetd.pools.zygote cimport (
    BLOCKED, NO_REPLY, REPLY, SILENCE, ZYGOTE_LEAVING, ZYGOTE_NONE, ZYGOTE_READY, ZYGOTE_STARTING, Reading, Zygote,
    close_sockets, count_given_up, count_held, free_zygote_place, kill_if_waiting, place_of, read_reply, reap_ended,
    reap_group, reap_zygote, send_connection, shut_sockets, some_zygote_has, start_process_of_zygote, stop_watching,
    watch_zygote,
)
from fastinetd.system.linux cimport SECOND, i32, now_monotonic, store16, u16, u32, u64
from fastinetd.system.strangers cimport close_shared


cdef enum:
    REPLIES_IN_A_ROW = 64  # answers read in a row, while other events wait
    EVERY_REPLY = 0xFFFFFFFF  # answers that are there

cdef u64 REAPED_WITHIN = 10 * SECOND  # what is left of a zygote that was given up; then it is killed


cdef class Zygotes:
    """The zygotes of one acceptor, and the connections that are with them."""

    def __init__(self, Servers servers, u32 pool_count, u32 child_count):
        """For so many services, with room for so many parked children."""
        self.servers, self.reception, self.ledger = servers, servers.reception, servers.ledger
        self.zygote_count = 4 * pool_count  # those that leave beside those that come
        self.handed = HandedConnections(servers, pool_count > 0)
        self.parked = ParkedChildren(servers, pool_count, self.zygote_count, child_count)
        self.pools = <ZygotePool *> calloc(pool_count + 1, sizeof(ZygotePool))
        self.zygotes = <Zygote *> calloc(self.zygote_count + 1, sizeof(Zygote))
        if self.pools == NULL or self.zygotes == NULL:
            raise MemoryError
        self.due_at = NEVER

    cdef void add_pool(self, u32 index, Target *target, u32 acceptors) noexcept nogil:
        """Service number `index` is `target`; this acceptor is one of so many. Its zygote is started in a moment."""
        open_pool(&self.pools[index].life, target, acceptors)
        self.parked.add_pool(index, &self.pools[index].life)
        self.pools[index].zygote = NOBODY
        self.pool_count = index + 1
        self.wake_at(0)

    def __dealloc__(self):
        free(self.pools)
        free(self.zygotes)

    cdef void wake_at(self, u64 moment) noexcept nogil:
        """Ask for do_what_is_due by then."""
        if moment < self.due_at:
            self.due_at = moment

    cdef u64 due(self) noexcept nogil:
        """When do_what_is_due is to be called."""
        return min(self.due_at, self.parked.due_at)

    # ---- connections ----

    cdef bint hand(self, u32 index, const Client *client, u32 slot) noexcept nogil:
        """Give an admitted client to the pool, which then takes its connection and `slot`; False: that cannot be."""
        cdef ZygotePool *pool = &self.pools[index]
        cdef u32 number = pool.zygote
        if number == NOBODY or self.zygotes[number].state != ZYGOTE_READY:
            return False
        if files_changed(&pool.life, self.ledger.view.slots[slot].started):
            self.give_up(number, CHANGED)
            return False
        if pool.life.target.pool.kind == PREFORK:
            return self.hand_to_parked(number, client, slot)
        return self.send(number, False, client, slot)

    cdef bint hand_to_parked(self, u32 number, const Client *client, u32 slot) noexcept nogil:
        """Send a connection to a parked child or, if none is free, to the zygote; False: neither can have it."""
        cdef u64 now = self.ledger.view.slots[slot].started
        cdef bint done
        if self.parked.expect_one(number, now) and self.send(number, True, client, slot):
            self.parked.note_sent(number, now)
            return True
        done = self.send(number, False, client, slot)
        self.parked.note_missed(number)
        return done

    cdef bint send(self, u32 number, bint parked, const Client *client, u32 slot) noexcept nogil:
        """Send a connection to the zygote, or to whichever parked child the kernel wakes; takes it if that succeeds."""
        cdef Zygote *z = &self.zygotes[number]
        cdef Slot *s = &self.ledger.view.slots[slot]
        # Before it is sent: should this process die in between, whoever adopts the slot finds the connection's holder.
        s.inode = inode_of(client.fd)
        store16(&s.method, <u16> (PREFORK if parked else ZYGOTE))
        if not send_connection(z, self.pools[z.pool].life.target, parked, self.handed.next_seq(slot), client):
            s.method = EXEC
            return False
        if z.handed == 0:
            z.overdue = s.started + TAKEN_WITHIN
            self.wake_at(z.overdue)
        z.handed += 1
        self.handed.keep(slot, client, number, parked)
        return True

    cdef void serve_by_exec(self, u32 slot) noexcept nogil:
        """No process has taken the slot's connection, and none will: start a server for it."""
        cdef Handed *h = &self.handed.entries[slot]
        cdef Target *target = self.pools[self.zygotes[h.zygote].pool].life.target
        cdef Client client = h.client
        self.handed.remove(slot)
        own_counters(self.ledger, target.row).pool_misses += 1
        self.ledger.view.slots[slot].method = EXEC
        self.reception.await_room()
        self.servers.start(target, &client, slot)

    # ---- their messages ----

    cdef void handle_event(self, u32 kind, u32 index) noexcept nogil:
        """Something happened to a zygote or a parked child; `index` is its number, and its turn above."""
        cdef u32 number = index & PLACES
        if kind == ON_PARKED:
            self.parked_ended(index)
        elif self.zygotes[number].state == ZYGOTE_NONE or (self.zygotes[number].turn & TURNS) != index >> 16:
            return
        elif kind == ON_ZYGOTE:
            self.zygote_ended(number)
        elif self.zygotes[number].state != ZYGOTE_LEAVING:
            self.read_replies(number, kind == ON_VOICE, REPLIES_IN_A_ROW)

    cdef void read_replies(self, u32 number, bint parked, u32 most) noexcept nogil:
        """Read the messages of a zygote and its forks; all of them when its sockets are shut."""
        cdef Zygote *z = &self.zygotes[number]
        cdef stage_reply reply
        cdef Reading reading
        cdef i32 pid = 0
        cdef bint given_up = z.state == ZYGOTE_LEAVING
        cdef u32 count = 0
        while (given_up or count < most) and given_up == (z.state == ZYGOTE_LEAVING):
            count += 1
            reading = read_reply(z, parked, &reply, &pid)
            if reading == SILENCE and not given_up:
                self.note_silence(number)
            if reading == SILENCE or reading == NO_REPLY:
                return
            self.reception.await_room()
            z.heard = now_monotonic()
            if reading != REPLY or not self.act_on_reply(number, parked, &reply, pid):
                self.mistrust(number, pid)
            if reading == BLOCKED:
                return

    cdef void mistrust(self, u32 number, i32 pid) noexcept nogil:
        """`pid` has sent what makes no sense: give up the zygote, and kill that process if it serves no client."""
        cdef Zygote *z = &self.zygotes[number]
        kill_if_waiting(z, pid)
        if z.state != ZYGOTE_LEAVING:
            record_failure(self.reception, &self.pools[z.pool].life, UNINTELLIGIBLE, 0, z.heard)
            self.give_up(number, MISTRUSTED)

    cdef void read_all_replies(self) noexcept nogil:
        """Read all that zygotes and their forks have sent so far."""
        cdef u32 number
        for number in range(self.zygote_count):
            if self.zygotes[number].state == ZYGOTE_STARTING or self.zygotes[number].state == ZYGOTE_READY:
                self.read_replies(number, False, REPLIES_IN_A_ROW)
            if self.zygotes[number].state == ZYGOTE_READY:
                self.read_replies(number, True, REPLIES_IN_A_ROW)

    cdef void note_silence(self, u32 number) noexcept nogil:
        """No process has a zygote's end of its sockets any more: its own end is near, or it has closed them."""
        cdef Zygote *z = &self.zygotes[number]
        if z.state == ZYGOTE_READY:
            self.note_death(number)
            return
        # How it ended its pidfd will say: this makes no difference to one that is ending already.
        if z.pid:
            kill(z.pid, SIGKILL)
        stop_watching(z, self.reception)

    cdef void note_death(self, u32 number) noexcept nogil:
        """A zygote that was ready has ended."""
        cdef PoolLife *life = &self.pools[self.zygotes[number].pool].life
        cdef u64 now = now_monotonic()
        if time_since(self.zygotes[number].since, now) > STABLE_AFTER:
            reset_pause(life)
        pause_starts(life, now)
        self.give_up(number, DIED)

    cdef bint act_on_reply(self, u32 number, bint parked, const stage_reply *reply, i32 pid) noexcept nogil:
        """Do what a reply calls for; False if it makes no sense."""
        cdef Zygote *z = &self.zygotes[number]
        if reply.kind == STAGE_TOOK:
            return self.note_taken(number, parked, reply.seq, reply.value, pid)
        if reply.kind == STAGE_PARKED:
            return parked and self.note_parked(number, reply.seq, pid)
        if parked:
            return False
        if reply.kind == STAGE_READY:
            return pid == z.pid and self.note_held(number, reply.seq, reply.value)
        if reply.kind == STAGE_FAILED:
            return pid == z.pid and self.note_not_forked(number, reply.seq)
        if reply.kind == STAGE_REFUSED and pid == z.pid and z.state == ZYGOTE_STARTING:
            record_failure(self.reception, &self.pools[z.pool].life, UNHOLDABLE, reply.value, now_monotonic())
            self.give_up(number, MISTRUSTED)
            return True
        return z.state == ZYGOTE_LEAVING

    cdef bint note_held(self, u32 number, u32 where, i32 call) noexcept nogil:
        """The program is held, at `where` (the seq of READY) and system call `call`; False if it makes no sense."""
        cdef Zygote *z = &self.zygotes[number]
        cdef Target *target = self.pools[z.pool].life.target
        cdef int place = place_of(where)
        if z.state != ZYGOTE_STARTING:
            return z.state == ZYGOTE_LEAVING
        if place < 0:
            return False
        z.state, z.since = ZYGOTE_READY, now_monotonic()
        count_held(self.ledger, target.row, place, call)
        if target.pool.kind == PREFORK:
            self.parked.open_brood(number, z.pool, z.control, z.hand)
        return True

    cdef bint note_taken(self, u32 number, bint parked, u32 seq, i32 value, i32 pid) noexcept nogil:
        """A child has taken a connection: it is the slot's server now. `value` is what a parked one was parked as."""
        cdef Zygote *z = &self.zygotes[number]
        cdef Handed *h = self.handed.find_claimed(number, parked, seq)
        cdef u32 slot = seq & PLACES
        cdef Target *target = self.pools[z.pool].life.target
        cdef Counters *counters = own_counters(self.ledger, target.row)
        cdef int pidfd = -1
        if h == NULL:
            return False
        if parked:
            if not self.parked.release(number, <u32> value, pid, &pidfd):
                return False
        elif pid == z.pid or not own_child(pid):
            return False
        z.handed -= 1
        if parked or target.pool.kind != PREFORK:
            counters.pool_hits += 1
        else:
            counters.pool_misses += 1
        self.ledger.view.slots[slot].pid = pid
        record_start(self.ledger, target, slot, h.client.waited)
        if pidfd >= 0:
            self.servers.take_over(slot, pidfd)
        else:
            self.servers.watch(slot)
        close_shared(h.client.fd)
        self.handed.remove(slot)
        return True

    cdef bint note_parked(self, u32 number, u32 seq, i32 pid) noexcept nogil:
        """A child waits for its connection; False if it makes no sense."""
        cdef Zygote *z = &self.zygotes[number]
        cdef int error = self.parked.note_waiting(number, seq, pid, z.heard)
        if error > 0 and z.state != ZYGOTE_LEAVING:
            self.give_up_unwatched(number, error, z.heard)
        return error >= 0

    cdef bint note_not_forked(self, u32 number, u32 seq) noexcept nogil:
        """The zygote could not fork, for a connection or for a parked child; False if it makes no sense."""
        if seq >> 16 & FOR_PARKING:
            return self.parked.note_not_forked(number, seq, self.zygotes[number].heard)
        if self.handed.find_claimed(number, False, seq) == NULL:
            return False
        self.zygotes[number].handed -= 1
        self.serve_by_exec(seq & PLACES)
        return True

    cdef void parked_ended(self, u32 index) noexcept nogil:
        """A parked child's pidfd says that it has ended. It may have taken a connection, served it and ended."""
        cdef u32 number = self.parked.zygote_of(index)
        cdef bint lost
        if number == NOBODY:
            return
        if self.zygotes[number].state != ZYGOTE_LEAVING:
            self.read_replies(number, True, EVERY_REPLY)
        lost = self.parked.reap_child(index)
        if self.zygotes[number].state == ZYGOTE_LEAVING:
            self.reap_rest(number)
        elif lost:
            self.give_up(number, DIED)

    # ---- start and end ----

    cdef void start(self, u32 index, u64 now) noexcept nogil:
        """Start a zygote for a pool that has none."""
        cdef PoolLife *life = &self.pools[index].life
        cdef u32 number = free_zygote_place(self.zygotes, self.zygote_count)
        cdef Zygote *z
        cdef int error
        if number == NOBODY:  # those before are not reaped yet
            self.wake_at(now + REAP_AGAIN_AFTER)
            return
        z = &self.zygotes[number]
        z.turn += 1
        z.pool, z.handed = index, 0
        look_at_files(life, now)
        error = start_process_of_zygote(z, life.target)
        if error:
            record_failure(self.reception, life, NO_START, error, now)
            self.wake_at(life.start_at)
            return
        z.state, z.group, z.since, z.heard = ZYGOTE_STARTING, z.pid, now, now
        self.pools[index].zygote = number
        own_counters(self.ledger, life.target.row).pool[<int> STARTING] += 1
        self.wake_at(now + life.target.pool.ready_within)
        error = watch_zygote(z, number, self.reception)
        if error:
            self.give_up_unwatched(number, error, now)

    cdef void give_up_unwatched(self, u32 number, int error, u64 now) noexcept nogil:
        """A process of the zygote's cannot be watched, for want of descriptors or memory: give all of them up."""
        record_failure(self.reception, &self.pools[self.zygotes[number].pool].life, NO_START, error, now)
        self.give_up(number, MISTRUSTED)

    cdef void give_up(self, u32 number, Recycling why) noexcept nogil:
        """Give a zygote and its parked children up. What no process has taken is served by exec."""
        cdef Zygote *z = &self.zygotes[number]
        cdef ZygotePool *pool = &self.pools[z.pool]
        cdef u64 now = now_monotonic()
        cdef u32 slot
        count_given_up(self.ledger, pool.life.target.row, STARTING if z.state == ZYGOTE_STARTING else HOLDING, why)
        z.state, z.since = ZYGOTE_LEAVING, now
        pool.zygote = NOBODY
        shut_sockets(z)
        self.read_replies(number, False, EVERY_REPLY)
        self.read_replies(number, True, EVERY_REPLY)
        close_sockets(z, self.reception)
        if z.pid:
            kill(z.pid, SIGKILL)
        self.parked.close_brood(number)  # not before its last words are read: one may have become a server
        if z.handed:
            slot = self.handed.next_of(number, 0)
            while slot != NOBODY:
                self.serve_by_exec(slot)
                slot = self.handed.next_of(number, slot + 1)
        self.wake_at(now)

    cdef void replace_all(self) noexcept nogil:
        """Give up all zygotes, and start others at once: what was wrong with those before may have been mended."""
        cdef u32 index
        for index in range(self.pool_count):
            forget_failures(&self.pools[index].life)
            if self.pools[index].zygote != NOBODY:
                self.give_up(self.pools[index].zygote, CHANGED)
        self.wake_at(0)

    cdef void zygote_ended(self, u32 number) noexcept nogil:
        """A zygote's pidfd says that it has ended."""
        cdef Zygote *z = &self.zygotes[number]
        cdef PoolLife *life = &self.pools[z.pool].life
        cdef u64 now = now_monotonic()
        cdef i32 status
        if z.state == ZYGOTE_STARTING:
            self.read_replies(number, False, EVERY_REPLY)  # perhaps it has said why
        status = reap_ended(z, self.reception)
        if z.state == ZYGOTE_STARTING:
            record_failure(self.reception, life, DIED_EARLY, status, now)
            self.give_up(number, MISTRUSTED)
        elif z.state == ZYGOTE_READY:
            self.note_death(number)
        self.reap_rest(number)

    cdef void reap_rest(self, u32 number) noexcept nogil:
        """Reap what is left of a zygote that was given up; when nothing is, its place is free."""
        cdef Zygote *z = &self.zygotes[number]
        cdef u64 now = now_monotonic()
        if z.pid and z.pidfd < 0 and not reap_zygote(z):
            self.wake_at(now + REAP_AGAIN_AFTER)
            return
        if not self.parked.all_gone(number, now) or z.pid:
            return  # their pidfds will say
        if reap_group(z):
            z.state = ZYGOTE_NONE
        elif time_since(z.since, now) < REAPED_WITHIN:
            self.wake_at(now + REAP_AGAIN_AFTER)
        else:  # another process has stopped them
            kill(-z.group, SIGKILL)
            self.wake_at(now + SECOND)

    cdef void abandon(self) noexcept nogil:
        """Wake the processes that are stopped, so that they end with this one: they see its sockets end."""
        cdef u32 number
        for number in range(self.zygote_count):
            if self.zygotes[number].state != ZYGOTE_NONE:
                kill(-self.zygotes[number].group, SIGCONT)
        self.parked.abandon()

    cdef bint has_process(self, i32 pid) noexcept nogil:
        """Whether a process is a zygote or a parked child."""
        return some_zygote_has(self.zygotes, self.zygote_count, pid) or self.parked.has_child(pid)

    # ---- time ----

    cdef void do_what_is_due(self) noexcept nogil:
        """Look after whatever is due; `due` then says when to come again."""
        cdef u64 now = now_monotonic()
        cdef ZygotePool *pool
        cdef Zygote *z
        cdef u32 index
        cdef bint begun = False
        self.due_at = self.parked.due_at = NEVER
        for index in range(self.zygote_count):
            if self.zygotes[index].state == ZYGOTE_LEAVING:
                self.reap_rest(index)
        for index in range(self.pool_count):
            pool = &self.pools[index]
            if pool.zygote == NOBODY:
                if self.reception.retired:
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
                self.check_start(pool.zygote, now)
            elif z.handed:
                self.check_handed(pool.zygote, now)
            if pool.zygote != NOBODY and z.state == ZYGOTE_READY:
                self.parked.tend(pool.zygote, now)

    cdef void check_start(self, u32 number, u64 now) noexcept nogil:
        """Give up a zygote that is not ready in time."""
        cdef Zygote *z = &self.zygotes[number]
        cdef PoolLife *life = &self.pools[z.pool].life
        cdef u64 within = life.target.pool.ready_within
        if time_since(z.since, now) < within:
            self.wake_at(z.since + within)
            return
        record_failure(self.reception, life, TOO_SLOW, <i32> (within // SECOND), now)
        self.give_up(number, MISTRUSTED)

    cdef void check_handed(self, u32 number, u64 now) noexcept nogil:
        """Give up a zygote that leaves a connection unanswered: it is stopped, for instance, or its fork was killed."""
        cdef Zygote *z = &self.zygotes[number]
        if now >= z.overdue:
            z.overdue = self.handed.oldest_of(number, now) + TAKEN_WITHIN
        if now < z.overdue:
            self.wake_at(z.overdue)
            return
        record_failure(self.reception, &self.pools[z.pool].life, HUNG, <i32> (TAKEN_WITHIN // SECOND), now)
        self.give_up(number, MISTRUSTED)
