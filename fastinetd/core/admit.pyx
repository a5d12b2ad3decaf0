"""Admission and accounting.

Theory. A connection passes `judge_peer` (what needs no counting: enabled, time, load, address) and `take_slot` (what is
counted: rate, servers of the service and of all, servers of the source, a slot). From then on the slot says where
its server is: TAKEN, RUNNING once the START record is written, ENDED once the EXIT record is, FREE after reaping.
Each step changes the state next to the record it belongs to, so whoever adopts the slot of a dead process knows what
is still to be written.

Rules of this file
 - Nothing here blocks but `enter_gate` while the supervisor counts again.
 - Callers have made sure of room in the journal: one record for each refusal, start, failed start, end, wait for a
   rate.
"""

from libc.stdlib cimport atof, free, malloc
from libc.string cimport memcpy

from fastinetd.core.client cimport Client, Peer
from fastinetd.core.counters cimport count_latency, count_session, count_spawn_failure
from fastinetd.core.gate cimport enter_gate, leave_gate
from fastinetd.core.journal cimport journal_commit, journal_commit_with, journal_next, wake_supervisor
from fastinetd.core.layout cimport (
    ADDRESS, ADMIT, DISABLED, ENDED, EXEC, EXIT, FAIL, FAILURE, FREE, INSTANCES, LOAD, NO_LIMIT, POOL, PROCESS_LIMIT,
    RATE, RATE_WAIT, RUNNING, SHOW_DURATION, SHOW_EXIT, SIGNAL, SLOTS_FULL, SOURCES_FULL, SPAWN_FAILED, START, SUCCESS,
    TAKEN, TIME, UNKNOWN, Counters, Method, Record, Row, Slot, Status, Verdict, View, mark_of_last_record, set_state,
    slot_is_valid,
)
from fastinetd.core.ledger cimport FreeSlots, Ledger, own_counters
from fastinetd.core.limits cimport give_one, give_start, take_one, take_start
from fastinetd.core.program cimport Range4, Range6, Target
from fastinetd.core.sources cimport source_give, source_hash, source_take
from fastinetd.system.linux cimport (
    AF_INET, AF_INET6, CLD_DUMPED, CLD_EXITED, CLD_KILLED, CLOCK_REALTIME_COARSE, ENOMEM, FIRST_KEPT_DESCRIPTOR,
    F_DUPFD_CLOEXEC, O_CLOEXEC, O_RDONLY, SECOND, cas32, cas64, clock_gettime, close, fcntl, i32, i64, load32, load64,
    load_time, now_monotonic, ntohl, open, pread, store32, timespec, u16, u32, u64, u8,
)


cdef struct LoadAverage:
    int fd
    u64 read_at
    double value

cdef LoadAverage load_average
load_average.fd = -1
load_average.read_at = 0
load_average.value = 0


cdef double current_load(u64 now) noexcept nogil:
    """The one-minute load average, read at most once a second. Unreadable: 0, which admits."""
    cdef char text[64]
    cdef ssize_t n
    cdef int low
    if load_average.read_at == 0 or now - load_average.read_at > SECOND:
        load_average.read_at = now
        if load_average.fd < 0:
            low = open("/proc/loadavg", O_RDONLY | O_CLOEXEC)
            if low >= 0:  # it stays open, so it is not to be among those that are copied into each child
                load_average.fd = fcntl(low, F_DUPFD_CLOEXEC, FIRST_KEPT_DESCRIPTOR)
                close(low)
        n = pread(load_average.fd, text, sizeof(text) - 1, 0)
        text[n if n > 0 else 0] = 0
        load_average.value = atof(text)
    return load_average.value


cdef inline bint is_below(u64 high, u64 low, u64 other_high, u64 other_low) noexcept nogil:
    """Whether one number of 128 bits is below another, each in two halves."""
    return high < other_high or (high == other_high and low < other_low)


cdef inline u64 big_endian(const u8 *bytes) noexcept nogil:
    """The number in 8 bytes of an address."""
    cdef u64 value = 0
    cdef int i
    for i in range(8):
        value = (value << 8) | bytes[i]
    return value


cdef Verdict address_verdict(Target *target, const Peer *peer) noexcept nogil:
    """ADMIT, ADDRESS or ASK by the service's address ranges. Without ranges, or for a unix socket: ADMIT."""
    cdef u32 key, low, high, middle
    cdef u64 key_high, key_low
    cdef Range4 *four
    cdef Range6 *six
    low = 0
    if peer.family == AF_INET:
        if target.count4 == 0:
            return ADMIT
        key = ntohl((<u32 *> peer.address)[0])
        high = target.count4
        while high - low > 1:
            middle = (low + high) // 2
            four = &target.ranges4[middle]
            if key < four.first:
                high = middle
            else:
                low = middle
        four = &target.ranges4[low]
        return <Verdict> four.verdict if four.first <= key <= four.last else ADDRESS
    if peer.family == AF_INET6:
        if target.count6 == 0:
            return ADMIT
        key_high, key_low = big_endian(peer.address), big_endian(peer.address + 8)
        high = target.count6
        while high - low > 1:
            middle = (low + high) // 2
            six = &target.ranges6[middle]
            if is_below(key_high, key_low, six.first_high, six.first_low):
                high = middle
            else:
                low = middle
        six = &target.ranges6[low]
        if (is_below(key_high, key_low, six.first_high, six.first_low)
                or is_below(six.last_high, six.last_low, key_high, key_low)):
            return ADDRESS
        return <Verdict> six.verdict
    return ADMIT


cdef Verdict judge_peer(View *view, Target *target, const Peer *peer) noexcept nogil:
    """The verdict on a client by all that needs no counting: ADMIT, ASK or a refusal."""
    cdef Row *row = &view.rows[target.row]
    cdef timespec now
    if not load32(&row.enabled):
        return DISABLED
    clock_gettime(CLOCK_REALTIME_COARSE, &now)
    if now.tv_sec < load_time(&row.open_from) or now.tv_sec >= load_time(&row.open_until):
        return TIME
    if row.max_load > 0 and current_load(now_monotonic()) >= row.max_load:
        return LOAD
    return address_verdict(target, peer)


# ---- slots ----

cdef int open_ledger(Ledger *ledger, View *view, u32 section) noexcept nogil:
    """Begin the ledger of the process whose section this is; close_ledger ends it. Returns 0, or ENOMEM."""
    ledger.view, ledger.section = view, section
    ledger.free_slots.stack = <u32 *> malloc(view.slot_count * sizeof(u32))
    ledger.free_slots.depth = ledger.free_slots.cursor = 0
    return 0 if ledger.free_slots.stack != NULL else ENOMEM


cdef void close_ledger(Ledger *ledger) noexcept:
    """Free the memory of a ledger, open or zeroed."""
    free(ledger.free_slots.stack)
    ledger.free_slots.stack = NULL


cdef i64 find_slot(Ledger *ledger) noexcept nogil:
    """Take a free slot; -1 when there is none."""
    cdef View *view = ledger.view
    cdef FreeSlots *free_slots = &ledger.free_slots
    cdef u32 taken = TAKEN | ledger.section << 8
    cdef u32 slot, i, high
    if load32(&view.header.live) >= view.slot_count:
        return -1
    while free_slots.depth:
        free_slots.depth -= 1
        slot = free_slots.stack[free_slots.depth]
        if cas32(&view.slots[slot].word, FREE, taken):
            return slot
    for i in range(view.slot_count):
        slot = free_slots.cursor
        free_slots.cursor = 0 if slot + 1 == view.slot_count else slot + 1
        if load32(&view.slots[slot].word) == FREE and cas32(&view.slots[slot].word, FREE, taken):
            while True:
                high = load32(&view.header.slots_high)
                if slot < high or cas32(&view.header.slots_high, high, slot + 1):
                    return slot
    return -1


cdef void free_slot(Ledger *ledger, u32 slot) noexcept nogil:
    """The slot's server is reaped, or never came to be."""
    cdef FreeSlots *free_slots = &ledger.free_slots
    ledger.view.slots[slot].pid = 0
    set_state(&ledger.view.slots[slot], FREE, 0)
    if free_slots.depth < ledger.view.slot_count:
        free_slots.stack[free_slots.depth] = slot
        free_slots.depth += 1


cdef Verdict take_slot(Ledger *ledger, Target *target, Client *client, u32 *slot) noexcept nogil:
    """Count the client in: ADMIT and its slot, or the limit that refuses it.

    It has paid for its start under the service's rate, or else pays now; a refusal gives that back.

    The slot is written before anything is counted, and in the state TAKEN counts as counted: whoever counts again
    finds every slot that this process may have counted.
    """
    cdef View *view = ledger.view
    cdef Row *row = &view.rows[target.row]
    cdef const Peer *peer = &client.peer
    cdef Slot *s
    cdef Verdict verdict = ADMIT
    cdef i64 found
    if client.payment.stamp == 0 and not take_start(view, target.row, &client.payment):
        return RATE
    enter_gate(ledger)
    found = find_slot(ledger)
    if found < 0:
        verdict = SLOTS_FULL
    else:
        s = &view.slots[found]
        s.row, s.pid, s.record_mark, s.source, s.method = target.row, 0, 0, 0, EXEC
        s.started = now_monotonic()
        s.family, s.port = peer.family, peer.port
        s.log_success = <u16> target.log_success
        memcpy(s.address, peer.address, 16)
        if not take_one(&row.live, load32(&row.instances)):
            verdict = INSTANCES
        elif not take_one(&view.header.live, load32(&view.header.process_limit)):
            verdict = PROCESS_LIMIT
            give_one(&row.live)
        elif peer.family == AF_INET or peer.family == AF_INET6:
            s.source = source_hash(view, target.row, peer.address, peer.family)
            verdict = source_take(view, s.source, load32(&row.per_source))
            if verdict != ADMIT:
                s.source = 0
                if verdict == SOURCES_FULL and load32(&row.per_source) == NO_LIMIT:
                    verdict = ADMIT
                else:
                    give_one(&view.header.live)
                    give_one(&row.live)
        if verdict != ADMIT:
            free_slot(ledger, <u32> found)
    leave_gate(ledger)
    if verdict != ADMIT:
        give_start(view, target.row, &client.payment)
    else:
        slot[0] = <u32> found
    return verdict


cdef void count_out(Ledger *ledger, u32 slot) noexcept nogil:
    """Take back what take_slot counted. Between enter_gate and leave_gate."""
    cdef Slot *s = &ledger.view.slots[slot]
    if not slot_is_valid(ledger.view, s):
        return
    give_one(&ledger.view.rows[s.row].live)
    give_one(&ledger.view.header.live)
    if s.source:
        source_give(ledger.view, s.source)
        s.source = 0


cdef void drop_slot(Ledger *ledger, u32 slot) noexcept nogil:
    """Give back a slot without a server."""
    enter_gate(ledger)
    count_out(ledger, slot)
    free_slot(ledger, slot)
    leave_gate(ledger)


# ---- clients that wait for the rate ----

cdef void begin_rate_wait(Ledger *ledger, u32 row) noexcept nogil:
    """A client waits because the rate is used up: count the time since the last look, or write that it begins."""
    cdef u64 *counted_to = &ledger.view.rows[row].rate_wait_counted_to
    cdef u64 now = now_monotonic(), seen = load64(counted_to)
    cdef Record *record
    if seen < now and cas64(counted_to, seen, now):
        if seen:
            own_counters(ledger, row).rate_wait_ns += now - seen
        else:
            record = journal_next(ledger)
            record.row, record.kind = row, RATE_WAIT
            journal_commit(ledger)


cdef void end_rate_wait(Ledger *ledger, u32 row) noexcept nogil:
    """The last client that waited for the rate is accepted, or gone: count the time since the last look."""
    cdef u64 *counted_to = &ledger.view.rows[row].rate_wait_counted_to
    cdef u64 now = now_monotonic(), seen = load64(counted_to)
    if seen and cas64(counted_to, seen, 0) and now > seen:
        own_counters(ledger, row).rate_wait_ns += now - seen


# ---- records ----

cdef void set_peer(Record *record, const u8 *address, u16 family, u16 port) noexcept nogil:
    """Write the peer's address, 4 or 16 bytes of 16, into a record."""
    memcpy(record.address, address, 16)
    record.family, record.port = family, port


cdef void record_refusal(Ledger *ledger, Target *target, const Peer *peer, Verdict verdict) noexcept nogil:
    """Count a refusal and write its FAIL record."""
    cdef Record *record
    own_counters(ledger, target.row).rejected[<int> verdict] += 1
    if target.log_failure:
        record = journal_next(ledger)
        record.row, record.kind, record.reason, record.fields = target.row, FAIL, verdict, target.log_failure
        set_peer(record, peer.address, peer.family, peer.port)
        journal_commit(ledger)


cdef void record_start(Ledger *ledger, Target *target, u32 slot, i64 waited) noexcept nogil:
    """The server runs: count its start latency, write its START record, and say so in the slot.

    `waited`: nanoseconds from accept until the slot was taken; -1: there is no latency to count.
    """
    cdef Slot *s = &ledger.view.slots[slot]
    cdef Record *record
    if waited >= 0:
        count_latency(own_counters(ledger, target.row), <Method> s.method, now_monotonic() - s.started + <u64> waited)
    if target.log_success:
        record = journal_next(ledger)
        record.row, record.kind, record.pid, record.fields = target.row, START, s.pid, target.log_success
        set_peer(record, s.address, s.family, s.port)
        journal_commit_with(ledger, s, RUNNING)
    else:
        s.record_mark = 0
        set_state(s, RUNNING, ledger.section)
        wake_supervisor(ledger.view)


cdef void record_datagram(Ledger *ledger, Target *target, const Peer *peer) noexcept nogil:
    """A datagram is served at once, without a slot: count it and write its START record."""
    cdef Record *record
    own_counters(ledger, target.row).activations += 1
    if target.log_success:
        record = journal_next(ledger)
        record.row, record.kind, record.fields = target.row, START, target.log_success
        set_peer(record, peer.address, peer.family, peer.port)
        journal_commit(ledger)


cdef void record_failed_start(Ledger *ledger, Target *target, u32 slot, int number, int step) noexcept nogil:
    """The server could not be started: count and record the errno `number` and the SpawnStep it comes from, free the
    slot."""
    cdef Slot *s = &ledger.view.slots[slot]
    cdef Record *record = journal_next(ledger)
    count_spawn_failure(own_counters(ledger, target.row), number)
    record.row, record.kind, record.value, record.fields = target.row, SPAWN_FAILED, number, target.log_failure
    record.reason = step
    set_peer(record, s.address, s.family, s.port)
    journal_commit(ledger)
    drop_slot(ledger, slot)


cdef void record_pool_event(Ledger *ledger, u32 row, u32 event, i32 value) noexcept nogil:
    """Write a POOL record; `event` is a PoolEvent."""
    cdef Record *record = journal_next(ledger)
    record.row, record.kind, record.reason, record.value = row, POOL, event, value
    journal_commit(ledger)


cdef void record_end(Ledger *ledger, u32 slot, int code, int status, u64 user_us, u64 system_us) noexcept nogil:
    """The server ended: count it out and write its EXIT record. `code` is siginfo's si_code, 0 when it was not seen."""
    cdef Slot *s = &ledger.view.slots[slot]
    cdef u64 lasted = now_monotonic() - s.started
    cdef Counters *counters
    if s.row >= ledger.view.row_count:
        return
    counters = own_counters(ledger, s.row)
    enter_gate(ledger)
    count_out(ledger, slot)
    write_exit_record(ledger, slot, code, status, lasted, ENDED)
    leave_gate(ledger)
    counters.user_us += user_us
    counters.system_us += system_us
    count_session(counters, lasted)


cdef void record_end_unserved(Ledger *ledger, u32 slot, int code, int status) noexcept nogil:
    """The server ended before it had its connection, which keeps its slot and gets another server."""
    cdef Slot *s = &ledger.view.slots[slot]
    write_exit_record(ledger, slot, code, status, now_monotonic() - s.started, TAKEN)
    # Until the mark is cleared, the slot's pid counts as that of a server whose end is recorded (Board.adopt): so the
    # method and the pid change first.
    s.method = EXEC
    store32(<u32 *> &s.pid, 0)
    store32(&s.record_mark, 0)


cdef void write_exit_record(Ledger *ledger, u32 slot, int code, int status, u64 lasted, u32 then) noexcept nogil:
    """Count the server's exit and write its EXIT record; its slot has the state `then` at the same time."""
    cdef Slot *s = &ledger.view.slots[slot]
    cdef Record *record
    cdef Status kind = UNKNOWN
    if code == CLD_EXITED:
        kind = SUCCESS if status == 0 else FAILURE
    elif code == CLD_KILLED or code == CLD_DUMPED:
        kind = SIGNAL
    if s.log_success & (SHOW_EXIT | SHOW_DURATION):
        record = journal_next(ledger)
        record.row, record.kind, record.pid, record.fields = s.row, EXIT, s.pid, s.log_success
        record.value, record.signalled = status, kind == SIGNAL
        record.seconds = <u32> (lasted // SECOND)
        set_peer(record, s.address, s.family, s.port)
        journal_commit_with(ledger, s, then)
    else:
        s.record_mark = mark_of_last_record(ledger.view, ledger.section, then)
        set_state(s, then, ledger.section)
        wake_supervisor(ledger.view)
    own_counters(ledger, s.row).exits[<int> kind] += 1
