"""The Board as Python sees it: created by the supervisor, mapped by every role, read by the monitor."""

import os
from typing import NamedTuple

from fastinetd.core.counters import CountersTuple
from fastinetd.core.layout import SlotState

from fastinetd.core.gate cimport pause_a_little
from fastinetd.core.layout cimport (
    ADMIT, ERRNOS, EXEC, FREE, LATENCIES, LAYOUT, METHODS, NO_LIMIT, POOL_STATES, REASONS, RECORDS, RECYCLINGS, RUNNING,
    SESSIONS, STATUSES, TAKEN, WAYS, Counters, Header, Record, Row, Section, Slot, SlotState, View, counters_of,
    section_of, sections_high, set_state, slot_is_sound, slots_high, state_of, told_at,
)
from fastinetd.core.limits cimport rate_cells, start_wait
from fastinetd.core.rates cimport RATE_CELLS, count_of
from fastinetd.core.sources cimport source_take
from fastinetd.system.linux cimport (
    AF_INET, AF_INET6, AF_UNIX, MAP_NORESERVE, MAP_SHARED, PROT_READ, PROT_WRITE, errno, i64, inet_ntop, load32,
    load64, load_time, mmap, munmap, now_monotonic, store32, store64, store_time, u16, u32, u64, u8,
)
from libc.string cimport memcpy, memset

cdef u64 MAGIC = 0x66617374696E6574ULL  # "fastinet"
cdef u64 PAGE = 4096


class RecordTuple(NamedTuple):
    """One journal record: `when` is Unix time in seconds; `address` is text, "" when unknown."""

    when: float
    row: int
    kind: int
    reason: int
    pid: int
    value: int
    signalled: bool
    seconds: int
    address: str
    port: int
    fields: int


class SlotTuple(NamedTuple):
    """One slot in use; `started` is CLOCK_MONOTONIC in seconds."""

    slot: int
    state: int
    section: int
    pid: int
    row: int
    started: float
    address: str
    port: int


cdef str address_text(const u8 *address, u16 family):
    cdef char text[64]
    if family == AF_INET:
        inet_ntop(AF_INET, address, text, sizeof(text))
    elif family == AF_INET6:
        inet_ntop(AF_INET6, address, text, sizeof(text))
    elif family == AF_UNIX:
        return "unix"
    else:
        return ""
    return text.decode("ascii")


cdef class Board:
    """Shared memory of the daemon. `Board.create` makes it; `Board.open` maps an existing one."""

    def __cinit__(self):
        memset(&self.view, 0, sizeof(self.view))
        self.view.wake = -1
        self.size = 0

    def __dealloc__(self):
        if self.view.base != NULL:
            munmap(self.view.base, self.size)

    @staticmethod
    def size_for(rows: int, slots: int, sections: int, buckets: int) -> int:
        """Bytes of a Board with these capacities (most of them never touched, so never allocated)."""
        cdef u64 total = PAGE
        for part in (rows * sizeof(Row), slots * sizeof(Slot), buckets * WAYS * 8, <u64> rows * RATE_CELLS * 8,
                     sections * sizeof(Section), <u64> sections * rows * sizeof(Counters)):
            total += (part + PAGE - 1) // PAGE * PAGE
        return total

    @staticmethod
    def create(rows: int, slots: int, sections: int) -> Board:
        """A new Board in a memfd of its own. `fd` is the memfd, owned by the Board's creator."""
        buckets = 64
        while buckets * 2 < slots:
            buckets *= 2
        fd = os.memfd_create("fastinetd-board", os.MFD_CLOEXEC)
        os.fchmod(fd, 0o600)  # so that who holds it for reading cannot open it for writing
        os.ftruncate(fd, Board.size_for(rows, slots, sections, buckets))
        cdef Board board = Board()
        board.fd = fd
        board.map(fd, True)
        cdef Header *h = board.view.header
        h.magic, h.layout = MAGIC, LAYOUT
        h.rows, h.slots, h.sections, h.buckets = rows, slots, sections, buckets
        h.process_limit = NO_LIMIT
        h.reload_ok = 1
        h.supervisor_pid = os.getpid()
        cdef bytes key = os.urandom(16)
        memcpy(h.hash_key, <const char *> key, 16)
        board.find_parts()
        return board

    @staticmethod
    def open(fd: int, writable: bool) -> Board:
        """Map the Board in `fd` (borrowed). Raises ValueError when its layout is another program's."""
        cdef Board board = Board()
        board.fd = fd
        board.map(fd, writable)
        if board.view.header.magic != MAGIC or board.view.header.layout != LAYOUT:
            raise ValueError("the shared memory has another layout")
        board.find_parts()
        return board

    cdef int map(self, int fd, bint writable) except -1:
        self.size = os.fstat(fd).st_size
        cdef void *base = mmap(NULL, self.size, PROT_READ | (PROT_WRITE if writable else 0), MAP_SHARED | MAP_NORESERVE,
                               fd, 0)
        if base == <void *> -1:
            raise OSError(errno, f"mmap of {self.size} bytes: {os.strerror(errno)}")
        self.view.base = <u8 *> base
        self.view.header = <Header *> base
        return 0

    cdef void find_parts(self) noexcept:
        cdef Header *h = self.view.header
        cdef u64 at = PAGE
        self.view.row_count, self.view.slot_count, self.view.section_count = h.rows, h.slots, h.sections
        self.view.bucket_mask = h.buckets - 1
        memcpy(self.view.key, h.hash_key, sizeof(self.view.key))
        self.view.rows = <Row *> (self.view.base + at)
        at += (h.rows * sizeof(Row) + PAGE - 1) // PAGE * PAGE
        self.view.slots = <Slot *> (self.view.base + at)
        at += (h.slots * sizeof(Slot) + PAGE - 1) // PAGE * PAGE
        self.view.sources = <u64 *> (self.view.base + at)
        at += (<u64> h.buckets * WAYS * 8 + PAGE - 1) // PAGE * PAGE
        self.view.rates = <u64 *> (self.view.base + at)
        at += (<u64> h.rows * RATE_CELLS * 8 + PAGE - 1) // PAGE * PAGE
        self.view.sections = <Section *> (self.view.base + at)
        at += (h.sections * sizeof(Section) + PAGE - 1) // PAGE * PAGE
        self.view.counters = <Counters *> (self.view.base + at)

    def reader(self) -> int:
        """A new descriptor of the Board that can only be read; the caller's."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)

    def unmap(self) -> None:
        """Give up the mapping (a role without privileges maps the Board anew, read-only)."""
        if self.view.base != NULL:
            munmap(self.view.base, self.size)
            memset(&self.view, 0, sizeof(self.view))

    # ---- the header ----

    @property
    def rows(self) -> int:
        return self.view.row_count

    @property
    def slots(self) -> int:
        return self.view.slot_count

    @property
    def live(self) -> int:
        """Running servers of all services."""
        return load32(&self.view.header.live)

    @property
    def wake(self) -> int:
        """The supervisor's eventfd, written when a record arrives while `asleep`."""
        return self.view.wake

    @wake.setter
    def wake(self, int fd):
        self.view.wake = fd

    def sleep(self) -> bool:
        """Ask for a wake-up at the next record. False: records are there already, nothing was asked for."""
        store32(&self.view.header.asleep, 1)
        if self.depth():
            store32(&self.view.header.asleep, 0)
            return False
        return True

    def set_process_limit(self, limit: int | None) -> None:
        store32(&self.view.header.process_limit, NO_LIMIT if limit is None else limit)

    def set_status(self, *, supervisor: int, descriptors: int, ready: bool, reload_ok: bool, reload_time: int,
                   generation: int) -> None:
        """What the monitor tells of the supervisor: its pid and descriptors, readiness, the last reload."""
        cdef Header *h = self.view.header
        store32(&h.supervisor_pid, supervisor)
        store32(&h.supervisor_fds, descriptors)
        store32(&h.ready, ready)
        store32(&h.reload_ok, reload_ok)
        store_time(&h.reload_time, reload_time)
        store64(&h.generation, generation)

    def status(self) -> dict:
        """What set_status wrote."""
        cdef Header *h = self.view.header
        return {
            "supervisor": load32(&h.supervisor_pid), "descriptors": load32(&h.supervisor_fds),
            "ready": bool(load32(&h.ready)), "reload_ok": bool(load32(&h.reload_ok)),
            "reload_time": load_time(&h.reload_time), "generation": load64(&h.generation),
        }

    # ---- rows ----

    def row_claim(self) -> int:
        """A free row, zeroed but for its counters. Raises LookupError when all are in use."""
        cdef u32 i
        for i in range(self.view.row_count):
            if not self.view.rows[i].used:
                memset(rate_cells(&self.view, i), 0, count_of(&self.view.rows[i].rate) * sizeof(u64))
                memset(&self.view.rows[i], 0, sizeof(Row))
                self.view.rows[i].used = 1
                return i
        raise LookupError(f"more than {self.view.row_count} services")

    def row_release(self, u32 row) -> None:
        """Free a row whose service is gone and whose servers have ended; its counters start at 0 for the next."""
        cdef u32 section
        for section in range(sections_high(&self.view)):
            memset(counters_of(&self.view, section, row), 0, sizeof(Counters))
        store32(&self.view.rows[row].enabled, 0)
        store32(&self.view.rows[row].used, 0)

    def row_limits(self, u32 row, *, instances: int | None, per_source: int | None, over_rate: int, u32 rate_count,
                   u64 rate_period, rate_pause: int, max_load: float) -> None:
        """Write a service's limits; None is unlimited. What is counted stays as it is.

        `rate_count` starts in `rate_period` nanoseconds, RATE_CELLS at most; 0: any number.
        """
        cdef Row *r = &self.view.rows[row]
        cdef u32 before = count_of(&r.rate), cell
        if rate_count > RATE_CELLS:
            raise ValueError(f"a rate of {rate_count} starts, and there is room for {RATE_CELLS}")
        store32(&r.instances, NO_LIMIT if instances is None else instances)
        store32(&r.per_source, NO_LIMIT if per_source is None else per_source)
        r.over_rate = over_rate
        r.rate_pause = rate_pause
        r.max_load = max_load
        store64(&r.rate.period, rate_period)
        store32(&r.rate.count, rate_count)
        for cell in range(rate_count, before):  # what is given up shall be empty if it is needed again
            store64(&rate_cells(&self.view, row)[cell], 0)
        if rate_count > before > 0:
            store32(&r.rate.next, before)
        if rate_count == 0:
            store64(&r.held_to, 0)

    def row_times(self, u32 row, i64 open_from, i64 open_until) -> None:
        """The window in which the service is open, in Unix seconds."""
        store_time(&self.view.rows[row].open_until, open_until)
        store_time(&self.view.rows[row].open_from, open_from)

    def row_enable(self, u32 row, bint enabled) -> None:
        store32(&self.view.rows[row].enabled, enabled)

    def row_live(self, u32 row) -> int:
        """Running servers of a service."""
        return load32(&self.view.rows[row].live)

    def row_closed(self, u32 row) -> int:
        """Whether over_rate = close has closed the service's port."""
        return load32(&self.view.rows[row].closed)

    def row_hears(self, u32 row, int endpoint=-1, int number=0) -> None:
        """Say that all of the service's endpoints listen, or which is the first that does not, and its errno."""
        store32(&self.view.rows[row].deaf_errno, number)
        store32(&self.view.rows[row].deaf, <u32> (endpoint + 1))

    def row_deaf(self, u32 row) -> tuple | None:
        """The first endpoint that does not listen, with its errno; None when all do."""
        cdef u32 endpoint = load32(&self.view.rows[row].deaf)
        return (endpoint - 1, load32(&self.view.rows[row].deaf_errno)) if endpoint else None

    def row_open(self, u32 row) -> None:
        """The port is open again."""
        store32(&self.view.rows[row].closed, 0)

    def rate_wait(self, u32 row) -> float:
        """Seconds until the service's rate allows a start."""
        return start_wait(&self.view, row) / 1e9

    def row_holds(self, u32 row) -> bool:
        """Whether clients of the service wait because its rate is used up."""
        return load64(&self.view.rows[row].held_to) != 0

    # ---- sections ----

    def section_claim(self, int owner) -> int:
        """A free section for process `owner` (0: to be set by section_own). Raises LookupError when all are in use."""
        cdef u32 i
        for i in range(self.view.section_count):
            if not self.view.sections[i].owner:
                self.view.sections[i].owner = owner if owner else 0xFFFFFFFF
                if i >= self.view.header.sections_high:
                    store32(&self.view.header.sections_high, i + 1)
                return i
        raise LookupError("no free section on the Board")

    def section_own(self, u32 section, u32 owner) -> None:
        store32(&self.view.sections[section].owner, owner)

    def section_release(self, u32 section) -> None:
        """Free a section whose process is gone and whose slots have been given back or adopted."""
        cdef u32 row
        for row in range(self.view.row_count):
            if self.view.rows[row].used:
                memset(counters_of(&self.view, section, row).pool, 0, POOL_STATES * sizeof(u64))
                store64(&counters_of(&self.view, section, row).held, 0)
        store32(&self.view.sections[section].inside, 0)
        store32(&self.view.sections[section].owner, 0)

    # ---- the journal ----

    def depth(self) -> int:
        """Records not yet drained, over all sections."""
        cdef u32 i
        cdef u64 total = 0
        for i in range(sections_high(&self.view)):
            total += load64(&self.view.sections[i].head) - load64(&self.view.sections[i].tail)
        return total

    def drain(self, int most=1024) -> list:
        """Take up to `most` records of each section out of the journal, oldest first. Supervisor only."""
        cdef u32 i
        cdef Section *s
        cdef Record *r
        cdef u64 tail, head
        records = []
        for i in range(sections_high(&self.view)):
            s = &self.view.sections[i]
            tail, head = s.tail, load64(&s.head)
            if head - tail > <u64> most:
                head = tail + most
            while tail != head:
                r = &s.journal[tail & (RECORDS - 1)]
                records.append(RecordTuple(r.when / 1e9, r.row, r.kind, r.reason, r.pid, r.value, bool(r.signalled), r.seconds,
                                           address_text(r.address, r.family), r.port, r.fields))
                tail += 1
            store64(&s.tail, tail)
        records.sort(key=record_time)
        return records

    # ---- slots ----

    def slots_in_use(self, section: int | None = None) -> list:
        """The slots in use, of one section or of all."""
        cdef u32 i
        cdef Slot *s
        cdef i64 only = -1 if section is None else section
        found = []
        for i in range(slots_high(&self.view)):
            s = &self.view.slots[i]
            if state_of(s) != FREE and (only < 0 or section_of(s) == only):
                found.append(SlotTuple(i, state_of(s), section_of(s), s.pid, s.row, s.started / 1e9,
                                       address_text(s.address, s.family), s.port))
        return found

    def slot_row(self, u32 slot) -> int:
        """The row of a slot in use."""
        return self.view.slots[slot].row

    def slot_of_pid(self, int pid) -> int:
        """The slot of a running server, or -1."""
        cdef u32 i
        cdef Slot *s
        for i in range(slots_high(&self.view)):
            s = &self.view.slots[i]
            if s.pid == pid and state_of(s) != FREE:
                return i
        return -1

    def handed(self, u32 section) -> list:
        """What a dead process had given to its pools without hearing who took it: (slot, inode of the connection). Before
        `adopt`."""
        cdef u32 i
        cdef Slot *s
        found = []
        for i in range(slots_high(&self.view)):
            s = &self.view.slots[i]
            if state_of(s) == TAKEN and section_of(s) == section and s.pid == 0 and s.method != EXEC:
                found.append((i, s.inode))
        return found

    def set_pid(self, u32 slot, int pid) -> None:
        """A slot of a dead process turns out to have a server."""
        self.view.slots[slot].pid = pid

    def adopt(self, u32 section, u32 heir) -> list:
        """Give the slots of a dead process to `heir` and free those without a server, but those that are `handed`: they
        stay TAKEN. Returns (slot, pid, state) of each server: TAKEN if its START record is still to be written, RUNNING if
        its EXIT record is."""
        cdef u32 i, state
        cdef Slot *s
        adopted = []
        for i in range(slots_high(&self.view)):
            s = &self.view.slots[i]
            if state_of(s) == FREE or section_of(s) != section:
                continue
            state = state_of(s)
            if s.told == told_at(&self.view, section, state):  # it died between the new state and its record
                state = TAKEN if state == RUNNING else RUNNING
                s.told = 0
            if state == TAKEN and s.pid == 0 and s.method != EXEC:
                set_state(s, TAKEN, heir)
                continue
            if state == TAKEN and (s.pid == 0 or s.told):  # told: the pid is that of a server whose end is recorded
                s.pid, s.told = 0, 0
                set_state(s, FREE, 0)
                continue
            adopted.append((i, s.pid, SlotState(state)))
            set_state(s, state, heir)
        return adopted

    def close_gate(self, dead: set) -> bool:
        """Let nobody take or give back; True once nobody does (processes in `dead`, a set of sections, do not count)."""
        cdef u32 i
        cdef u64 end = now_monotonic() + 50000000
        store32(&self.view.header.gate, 1)
        for i in range(sections_high(&self.view)):
            if i in dead:
                continue
            while self.view.sections[i].owner and load32(&self.view.sections[i].inside):
                if now_monotonic() > end:
                    return False
                pause_a_little()
        return True

    def open_gate(self) -> None:
        store32(&self.view.header.gate, 0)

    def recount(self) -> None:
        """Count rows, total and sources again from the slots. Between close_gate and open_gate only."""
        cdef u32 i, total = 0
        cdef Slot *s
        cdef View *b = &self.view
        memset(b.sources, 0, <u64> (b.bucket_mask + 1) * WAYS * 8)
        for i in range(b.row_count):
            b.rows[i].live = 0
        for i in range(slots_high(b)):
            s = &b.slots[i]
            if (state_of(s) != TAKEN and state_of(s) != RUNNING) or not slot_is_sound(b, s):
                continue
            b.rows[s.row].live += 1
            total += 1
            if s.source and source_take(b, s.source, NO_LIMIT) != ADMIT:
                s.source = 0
        store32(&b.header.live, total)

    def consistent(self) -> bool:
        """Whether rows and total agree with the slots. Under load a difference may be a start between two looks."""
        cdef u32 i, total = 0
        cdef Slot *s
        counts = {}
        for i in range(slots_high(&self.view)):
            s = &self.view.slots[i]
            if (state_of(s) == TAKEN or state_of(s) == RUNNING) and slot_is_sound(&self.view, s):
                counts[s.row] = counts.get(s.row, 0) + 1
                total += 1
        return total == load32(&self.view.header.live) and all(
            load32(&self.view.rows[i].live) == counts.get(i, 0) for i in range(self.view.row_count))

    # ---- counters ----

    def counters(self, u32 row) -> CountersTuple:
        """A row's counters, summed over all sections."""
        cdef Counters total
        cdef Counters *part
        cdef u64 *into = <u64 *> &total
        cdef u64 *of
        cdef u32 section, i
        memset(&total, 0, sizeof(total))
        for section in range(sections_high(&self.view)):
            part = counters_of(&self.view, section, row)
            of = <u64 *> part
            for i in range(<u32> (sizeof(Counters) // 8)):
                into[i] += load64(&of[i])
        return CountersTuple(
            total.accepted, total.activations, tuple([total.rejected[i] for i in range(REASONS)]),
            tuple([total.spawn_failures[i] for i in range(ERRNOS)]),
            tuple([tuple([total.latency[method][i] for i in range(LATENCIES)]) for method in range(METHODS)]),
            tuple([total.latency_ns[method] / 1e9 for method in range(METHODS)]),
            tuple([total.session[i] for i in range(SESSIONS)]), total.session_ns / 1e9,
            tuple([total.exits[i] for i in range(STATUSES)]), total.user_us / 1e6, total.system_us / 1e6,
            total.pool_hits, total.pool_misses, tuple([total.recycled[i] for i in range(RECYCLINGS)]),
            tuple([total.pool[i] for i in range(POOL_STATES)]), total.rate_waits, total.rate_wait_ns / 1e9)

    def held(self, u32 row) -> dict:
        """Where a row's zygotes are held: (a HeldAt, a system call) -> how many of them."""
        cdef dict found = {}
        cdef u64 word
        cdef u32 section
        for section in range(sections_high(&self.view)):
            word = load64(&counters_of(&self.view, section, row).held)
            if word:
                place = <u32> (word & 0xFF) - 1, <u32> (word >> 8)
                found[place] = found.get(place, 0) + 1
        return found

    def count_activation(self, u32 section, u32 row) -> None:
        """A datagram (or a client of a wait service) started a server."""
        counters_of(&self.view, section, row).activations += 1


def record_time(record):
    """The sort key of drained records."""
    return record.when
