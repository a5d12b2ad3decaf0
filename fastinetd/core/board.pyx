"""The Board as Python sees it: created by the supervisor, mapped by every role, read by the monitor."""

import os
from operator import attrgetter

from fastinetd.config.model import OverRate, Service
from fastinetd.core.layout import OverRateRule, SlotState
from fastinetd.core.records import (
    AdoptedServer, CounterSums, DeafEndpoint, HandedConnection, HeldPlace, JournalRecord, UsedSlot,
)

from fastinetd.core.counters cimport summed_counters
from fastinetd.core.gate cimport pause_a_little
from fastinetd.core.layout cimport (
    ADMIT, EXEC, FREE, LAYOUT, NO_LIMIT, POOL_STATES, RECORDS, RUNNING, TAKEN, WAYS, Counters, Header, Record, Row,
    Section, Slot, SlotState, View, counters_of, mark_of_next_record, section_of, sections_high, set_state,
    slot_is_valid, slots_high, state_of,
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
cdef u64 RECORDS_IN_A_ROW = 1024

cdef dict OVER_RATE = {
    OverRate.WAIT: OverRateRule.OVER_WAIT,
    OverRate.REFUSE: OverRateRule.OVER_REFUSE,
    OverRate.CLOSE: OverRateRule.OVER_CLOSE,
}


cdef u64 whole_pages(u64 size) noexcept:
    """A size in bytes, rounded up to pages."""
    return (size + PAGE - 1) // PAGE * PAGE


cdef u64 board_size(u64 rows, u64 slots, u64 sections, u64 buckets) noexcept:
    """Bytes of a Board with these capacities: its parts in the order of Board.find_parts. Most of it is never touched,
    and so never allocated."""
    return (
        PAGE + whole_pages(rows * sizeof(Row)) + whole_pages(slots * sizeof(Slot)) + whole_pages(buckets * WAYS * 8)
        + whole_pages(rows * RATE_CELLS * 8) + whole_pages(sections * sizeof(Section))
        + whole_pages(sections * rows * sizeof(Counters))
    )


cdef str address_text(const u8 *address, u16 family):
    """An address as text: `unix` for a unix socket's peer, "" where there is none."""
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
    def create(rows: int, slots: int, sections: int) -> Board:
        """A new Board in a memfd of its own. `fd` is the memfd, owned by the Board's creator."""
        buckets = 64
        while buckets * 2 < slots:
            buckets *= 2
        fd = os.memfd_create("fastinetd-board", os.MFD_CLOEXEC)
        os.fchmod(fd, 0o600)  # so that a process that has it for reading cannot open it for writing
        os.ftruncate(fd, board_size(rows, slots, sections, buckets))
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
        """Map the Board in `fd` (borrowed). Raises OSError."""
        self.size = os.fstat(fd).st_size
        cdef void *base = mmap(NULL, self.size, PROT_READ | (PROT_WRITE if writable else 0), MAP_SHARED | MAP_NORESERVE,
                               fd, 0)
        if base == <void *> -1:
            raise OSError(errno, f"mmap of {self.size} bytes: {os.strerror(errno)}")
        self.view.base = <u8 *> base
        self.view.header = <Header *> base
        return 0

    cdef void find_parts(self) noexcept:
        """Set the view's pointers and sizes, by what the header has of the Board's parts."""
        cdef Header *h = self.view.header
        cdef u64 at = PAGE
        self.view.row_count, self.view.slot_count, self.view.section_count = h.rows, h.slots, h.sections
        self.view.bucket_mask = h.buckets - 1
        memcpy(self.view.key, h.hash_key, sizeof(self.view.key))
        self.view.rows = <Row *> (self.view.base + at)
        at += whole_pages(<u64> h.rows * sizeof(Row))
        self.view.slots = <Slot *> (self.view.base + at)
        at += whole_pages(<u64> h.slots * sizeof(Slot))
        self.view.sources = <u64 *> (self.view.base + at)
        at += whole_pages(<u64> h.buckets * WAYS * 8)
        self.view.rates = <u64 *> (self.view.base + at)
        at += whole_pages(<u64> h.rows * RATE_CELLS * 8)
        self.view.sections = <Section *> (self.view.base + at)
        at += whole_pages(<u64> h.sections * sizeof(Section))
        self.view.counters = <Counters *> (self.view.base + at)

    def reader(self) -> int:
        """A new descriptor of the Board that can only be read; the caller's."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)

    def unmap(self) -> None:
        """Unmap the Board: a role without privileges maps it anew, read-only."""
        if self.view.base != NULL:
            munmap(self.view.base, self.size)
            memset(&self.view, 0, sizeof(self.view))

    # ---- the header ----

    @property
    def rows(self) -> int:
        """How many services the Board has room for."""
        return self.view.row_count

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
        """Write the most servers of all services; None is unlimited."""
        store32(&self.view.header.process_limit, NO_LIMIT if limit is None else limit)

    def set_status(self, *, supervisor: int, descriptors: int, ready: bool, reload_ok: bool, reload_time: int,
                   generation: int) -> None:
        """Write what the monitor publishes of the supervisor: its pid and descriptors, readiness, the last reload."""
        cdef Header *h = self.view.header
        store32(&h.supervisor_pid, supervisor)
        store32(&h.supervisor_fds, descriptors)
        store32(&h.ready, ready)
        store32(&h.reload_ok, reload_ok)
        store_time(&h.reload_time, reload_time)
        store64(&h.generation, generation)

    def status(self) -> dict:
        """What `set_status` wrote last."""
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
        """Free a row whose service is gone and whose servers have ended, with its counters at 0."""
        cdef u32 section
        for section in range(sections_high(&self.view)):
            memset(counters_of(&self.view, section, row), 0, sizeof(Counters))
        store32(&self.view.rows[row].enabled, 0)
        store32(&self.view.rows[row].used, 0)

    def row_limits(self, u32 row, service: Service, rate: tuple[int, int]) -> None:
        """Write the limits of a service, of which None is unlimited. Counts stay as they are.

        `rate`: its rate as a number of starts, RATE_CELLS at most, in so many nanoseconds; 0: any number.
        """
        cdef u32 rate_count = rate[0]
        cdef Row *r = &self.view.rows[row]
        cdef u32 before = count_of(&r.rate), cell
        if rate_count > RATE_CELLS:
            raise ValueError(f"a rate of {rate_count} starts, and there is room for {RATE_CELLS}")
        store32(&r.instances, NO_LIMIT if service.instances is None else service.instances)
        store32(&r.per_source, NO_LIMIT if service.per_source is None else service.per_source)
        r.over_rate = OVER_RATE[service.over_rate]
        r.rate_pause = service.rate.pause if service.rate else 0
        r.max_load = service.max_load or 0.0
        store64(&r.rate.period, rate[1])
        store32(&r.rate.count, rate_count)
        for cell in range(rate_count, before):  # what is unused now must be free when a later limit uses it again
            store64(&rate_cells(&self.view, row)[cell], 0)
        if rate_count > before > 0:
            store32(&r.rate.next, before)
        if rate_count == 0:
            store64(&r.rate_wait_counted_to, 0)

    def row_times(self, u32 row, i64 open_from, i64 open_until) -> None:
        """The window in which the service is open, in Unix seconds."""
        store_time(&self.view.rows[row].open_until, open_until)
        store_time(&self.view.rows[row].open_from, open_from)

    def row_enable(self, u32 row, bint enabled) -> None:
        """Admit the service's clients or, when not `enabled`, refuse them as DISABLED."""
        store32(&self.view.rows[row].enabled, enabled)

    def row_live(self, u32 row) -> int:
        """Running servers of a service."""
        return load32(&self.view.rows[row].live)

    def row_closed(self, u32 row) -> int:
        """Whether over_rate = close has closed the service's port."""
        return load32(&self.view.rows[row].closed)

    def row_hears(self, u32 row, int endpoint=-1, int number=0) -> None:
        """Record that all of the service's endpoints listen, or the first that does not, and its errno."""
        store32(&self.view.rows[row].deaf_errno, number)
        store32(&self.view.rows[row].deaf, <u32> (endpoint + 1))

    def row_deaf(self, u32 row) -> DeafEndpoint | None:
        """The first endpoint that does not listen; None when all do."""
        cdef u32 endpoint = load32(&self.view.rows[row].deaf)
        return DeafEndpoint(endpoint - 1, load32(&self.view.rows[row].deaf_errno)) if endpoint else None

    def row_open(self, u32 row) -> None:
        """Record that the service's port, which over_rate = close had closed, is open again."""
        store32(&self.view.rows[row].closed, 0)

    def rate_wait(self, u32 row) -> float:
        """Seconds until the service's rate allows a start."""
        return start_wait(&self.view, row) / 1e9

    def row_awaits_rate(self, u32 row) -> bool:
        """Whether clients of the service wait because its rate is used up."""
        return load64(&self.view.rows[row].rate_wait_counted_to) != 0

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
        """Write the pid of the process that has a claimed section."""
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
        """Records that the supervisor has not taken yet, over all sections."""
        cdef u32 i
        cdef u64 total = 0
        for i in range(sections_high(&self.view)):
            total += load64(&self.view.sections[i].head) - load64(&self.view.sections[i].tail)
        return total

    def take_records(self) -> list:
        """Take up to RECORDS_IN_A_ROW records of each section out of the journal, oldest first. Supervisor only."""
        cdef u32 i
        cdef Section *s
        cdef Record *r
        cdef u64 tail, head
        taken = []
        for i in range(sections_high(&self.view)):
            s = &self.view.sections[i]
            tail, head = s.tail, load64(&s.head)
            if head - tail > RECORDS_IN_A_ROW:
                head = tail + RECORDS_IN_A_ROW
            while tail != head:
                r = &s.journal[tail & (RECORDS - 1)]
                taken.append(JournalRecord(
                    when=r.when / 1e9, row=r.row, kind=r.kind, reason=r.reason, pid=r.pid, value=r.value,
                    signalled=bool(r.signalled), seconds=r.seconds, address=address_text(r.address, r.family),
                    port=r.port, fields=r.fields,
                ))
                tail += 1
            store64(&s.tail, tail)
        taken.sort(key=attrgetter("when"))
        return taken

    # ---- slots ----

    def slots_in_use(self, section: int | None = None) -> list:
        """The slots in use, of one section or of all: UsedSlots."""
        cdef u32 i
        cdef Slot *s
        cdef i64 only = -1 if section is None else section
        found = []
        for i in range(slots_high(&self.view)):
            s = &self.view.slots[i]
            if state_of(s) != FREE and (only < 0 or section_of(s) == only):
                found.append(UsedSlot(
                    slot=i, state=state_of(s), section=section_of(s), pid=s.pid, row=s.row, started=s.started / 1e9,
                    address=address_text(s.address, s.family), port=s.port,
                ))
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
        """The HandedConnections of a dead process's section. Before `adopt`."""
        cdef u32 i
        cdef Slot *s
        found = []
        for i in range(slots_high(&self.view)):
            s = &self.view.slots[i]
            if state_of(s) == TAKEN and section_of(s) == section and s.pid == 0 and s.method != EXEC:
                found.append(HandedConnection(slot=i, inode=s.inode))
        return found

    def set_pid(self, u32 slot, int pid) -> None:
        """Record the server of a slot that its dead process left without one."""
        self.view.slots[slot].pid = pid

    def adopt(self, u32 section, u32 heir) -> list:
        """Give the slots of a dead process to the section `heir`: AdoptedServers, one for each server. Slots without a
        server become free, but for those of HandedConnections, which stay TAKEN."""
        cdef u32 i, state
        cdef Slot *s
        adopted = []
        for i in range(slots_high(&self.view)):
            s = &self.view.slots[i]
            if state_of(s) == FREE or section_of(s) != section:
                continue
            state = state_of(s)
            # It died between the new state and its record.
            if s.record_mark == mark_of_next_record(&self.view, section, state):
                state = TAKEN if state == RUNNING else RUNNING
                s.record_mark = 0
            if state == TAKEN and s.pid == 0 and s.method != EXEC:
                set_state(s, TAKEN, heir)
                continue
            if state == TAKEN and (s.pid == 0 or s.record_mark):  # marked: the pid is of a server whose end is recorded
                s.pid, s.record_mark = 0, 0
                set_state(s, FREE, 0)
                continue
            adopted.append(AdoptedServer(slot=i, pid=s.pid, state=SlotState(state)))
            set_state(s, state, heir)
        return adopted

    def close_gate(self, dead: set) -> bool:
        """Let no process take or give back a slot: True once none does, not counting those of the sections in `dead`;
        False after 50 ms. `open_gate` must follow either way."""
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
        """Let processes take and give back slots again."""
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
            if (state_of(s) != TAKEN and state_of(s) != RUNNING) or not slot_is_valid(b, s):
                continue
            b.rows[s.row].live += 1
            total += 1
            if s.source and source_take(b, s.source, NO_LIMIT) != ADMIT:
                s.source = 0
        store32(&b.header.live, total)

    def consistent(self) -> bool:
        """Whether the counts of rows and the total agree with the slots. With the gate open a start or an end meanwhile
        makes a difference."""
        cdef u32 i, total = 0
        cdef Slot *s
        counts = {}
        for i in range(slots_high(&self.view)):
            s = &self.view.slots[i]
            if (state_of(s) == TAKEN or state_of(s) == RUNNING) and slot_is_valid(&self.view, s):
                counts[s.row] = counts.get(s.row, 0) + 1
                total += 1
        return total == load32(&self.view.header.live) and all(
            load32(&self.view.rows[i].live) == counts.get(i, 0) for i in range(self.view.row_count))

    # ---- counters ----

    def counters(self, u32 row) -> CounterSums:
        """A row's counters, summed over all sections."""
        cdef dict sums = summed_counters(&self.view, row)
        return CounterSums(**{name: sums[name] for name in CounterSums._fields})

    def held(self, u32 row) -> dict:
        """Where a row's zygotes are held: HeldPlace -> how many of them."""
        cdef dict found = {}
        cdef u64 word
        cdef u32 section
        for section in range(sections_high(&self.view)):
            word = load64(&counters_of(&self.view, section, row).held)
            if word:
                place = HeldPlace(point=<u32> (word & 0xFF) - 1, call=<u32> (word >> 8))
                found[place] = found.get(place, 0) + 1
        return found

    def count_activation(self, u32 section, u32 row) -> None:
        """Count the start of a wait service's server."""
        counters_of(&self.view, section, row).activations += 1
