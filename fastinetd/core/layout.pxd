"""The Board: shared memory of all roles. Its layout, and what reads and writes single words of it.

Theory. One memfd, mapped by every role. Rows (services), slots (running servers), a table of sources (client
addresses), and one section per process: counters and a journal that only this process writes. There are no locks:
what several processes change (a row's `live`, a cell of its rate, a source's count) is changed by compare-and-swap.

The slot is the truth. `live`, the total and the source counts are caches of it: taking and giving back a slot changes
them, and when a process died in between, the supervisor closes the gate for some microseconds, waits until no process
is between `enter_gate` and `leave_gate` (gate.pxd), and counts again from the slots.

Rules of this file
 - A slot in use is changed by the process whose section it names; by the supervisor once that process is dead.
 - take_slot, count_out and drop_slot count between enter_gate and leave_gate, and nothing there can block.
 - Counters are added to by their section's owner only; readers may see one number newer than another.
 - A journal record is complete before `head` moves past it; `head` is its section's, `tail` the supervisor's.
 - A slot's new state and its record cannot be written at once: the slot says before where its record will stand, so an
   heir knows whether it is written.
"""

from fastinetd.core.rates cimport Rate
from fastinetd.system.linux cimport i32, i64, load32, store32, u16, u32, u64, u8

cdef enum:
    LAYOUT = 4  # raised whenever a structure below changes
    REASONS = 16
    ERRNOS = 16
    LATENCIES = 18  # buckets, the last without an upper bound
    SESSIONS = 16
    STATUSES = 4
    METHODS = 4
    POOL_STATES = 4
    RECYCLINGS = 9
    WAYS = 8  # words in a bucket of the source table
    COUNT_BITS = 20  # of a source word; the rest is the source's tag
    NO_LIMIT = 0xFFFFFFFF
    RECORDS = 4096  # of a section's journal; a power of two

cpdef enum Verdict:
    """What admission says about a connection. All but ADMIT and ASK are refusals: metrics call them by these names, in
    small letters, and FAIL records as refusal_word has it."""
    ADMIT = 0
    ADDRESS = 1  # refused by only_from or no_access
    NAME = 2  # refused after the peer's name was looked up
    TIME = 3  # outside access_times
    LOAD = 4  # max_load
    RATE = 5  # cps
    INSTANCES = 6
    PER_SOURCE = 7
    PROCESS_LIMIT = 8  # -limit
    SOURCES_FULL = 9  # no room to count this source
    SLOTS_FULL = 10  # no room for another server
    DISABLED = 11  # the service was removed while the client waited
    DOORMAN = 12  # no answer about the peer's name
    LOOP = 13  # a datagram from another built-in service, which would answer the answer
    ASK = 15  # not decided: the doorman must be asked

cdef inline const char *refusal_word(Verdict verdict) noexcept nogil:
    """The word for a refusal in a FAIL record, xinetd's where it has one; NULL: it is no refusal."""
    if verdict in (ADDRESS, NAME, DOORMAN):
        return "address"
    if verdict == TIME:
        return "time"
    if verdict == LOAD:
        return "load"
    if verdict == RATE:
        return "connections per second"
    if verdict in (INSTANCES, DISABLED):
        return "service_limit"
    if verdict in (PER_SOURCE, SOURCES_FULL):
        return "per_source_limit"
    if verdict in (PROCESS_LIMIT, SLOTS_FULL):
        return "process_limit"
    if verdict == LOOP:
        return "loop"
    return NULL


cpdef enum SlotState:
    FREE = 0
    TAKEN = 1  # counted; no server yet, or one whose pid the kernel has just written
    RUNNING = 2
    ENDED = 3  # counted out and recorded; still to be reaped

cpdef enum RecordKind:
    START = 1
    EXIT = 2
    FAIL = 3
    SPAWN_FAILED = 4  # value: errno
    ACCEPT_FAILED = 5  # value: errno
    DEACTIVATED = 6  # cps with over_rate = close; value: seconds
    POOL = 7  # reason: a PoolEvent, value: what it says
    RATE_WAIT = 8  # the rate is used up, and clients wait for it from now on

cpdef enum Method:
    """How a connection comes to its server."""
    EXEC = 0
    ZYGOTE = 1
    PREFORK = 2
    WORKER = 3

cpdef enum OverRateRule:
    """What happens to connections above a service's rate."""
    OVER_WAIT = 0  # they wait in the kernel's queue
    OVER_REFUSE = 1
    OVER_CLOSE = 2  # the port is closed for a while

cpdef enum Status:
    SUCCESS = 0  # exit status 0
    FAILURE = 1  # another exit status
    SIGNAL = 2
    UNKNOWN = 3  # the server ended unseen, while its process and the supervisor were both gone

cpdef enum Field:
    """What a START, EXIT or FAIL record shows: the words of log_on_success and log_on_failure."""
    SHOW_PID = 1
    SHOW_HOST = 2
    SHOW_USERID = 4
    SHOW_EXIT = 8
    SHOW_DURATION = 16
    SHOW_TRAFFIC = 32
    SHOW_ATTEMPT = 64

cdef struct Header:
    u64 magic
    u32 layout
    u32 rows
    u32 slots
    u32 sections
    u32 buckets  # of the source table; a power of two
    u32 gate  # 1: no process may enter
    u32 process_limit
    u32 live  # running servers of all services
    u32 slots_high  # no slot at or above was ever used
    u32 sections_high  # no section at or above was ever used
    u32 asleep  # 1: the supervisor wants a wake-up for the next record
    u32 supervisor_pid
    u32 supervisor_fds
    u32 ready
    u32 reload_ok
    i64 reload_time  # Unix seconds
    u64 hash_key[2]
    u64 generation

cdef struct Row:
    u32 used
    u32 enabled
    u32 instances  # NO_LIMIT: any number
    u32 per_source
    u32 live
    u32 over_rate  # an OverRateRule
    Rate rate
    u64 rate_wait_counted_to  # clients wait for the rate, counted until this CLOCK_MONOTONIC; 0: none waits
    i64 open_from  # Unix seconds; open while open_from <= now < open_until
    i64 open_until
    double max_load  # 0: any
    u32 rate_pause  # seconds of over_rate = close
    u32 closed  # 1: the supervisor is to listen again after rate_pause
    u32 deaf  # number of the first of the service's endpoints that does not listen, plus one; 0: all do
    u32 deaf_errno  # why

cdef struct Slot:
    u32 word  # SlotState, and from bit 8 on the section of the process that answers for it: one word, changed at once
    i32 pid
    u32 row
    u32 record_mark  # of the state's record (mark_of_next_record); 0: it has none. Of TAKEN: the pid is void
    u64 source  # hash of row and address; 0: not counted
    u64 started  # CLOCK_MONOTONIC, nanoseconds
    u8 address[16]
    u16 family  # AF_INET, AF_INET6, AF_UNIX or 0
    u16 port
    u16 method  # a Method; while the state is TAKEN and the pid 0: of the pool that has the connection, or EXEC
    u16 log_success
    u64 inode  # of the connection that is with a pool

cdef struct Record:
    u64 when  # CLOCK_REALTIME, nanoseconds
    u32 row
    u16 kind
    u16 reason
    i32 pid
    i32 value  # exit status, signal number or errno
    u32 signalled
    u32 seconds
    u8 address[16]
    u16 family
    u16 port
    u32 fields  # which the service's log_on_success or log_on_failure asks for

cdef struct Counters:
    u64 accepted
    u64 activations
    u64 rejected[REASONS]
    u64 spawn_failures[ERRNOS]
    u64 latency[METHODS][LATENCIES]
    u64 latency_ns[METHODS]
    u64 session[SESSIONS]
    u64 session_ns
    u64 exits[STATUSES]
    u64 user_us
    u64 system_us
    u64 pool_hits
    u64 pool_misses
    u64 recycled[RECYCLINGS]
    u64 pool[POOL_STATES]  # processes there are now; of a section whose process is gone they are 0
    u64 rate_waits
    u64 rate_wait_ns
    u64 held  # where its zygote is held: a HeldAt + 1, and from bit 8 on the system call; 0: there is none. No sum

cdef struct Section:
    u32 owner  # pid; 0: free
    u32 inside  # 1: between enter_gate and leave_gate
    u64 head
    u64 tail
    u8 padding[40]
    Record journal[RECORDS]

cdef struct View:
    # Sizes and key are copies of the header's: processes without privileges write the Board, and nobody else's pointer
    # arithmetic may hang on what they write. For the same reason rows, pids and high-water marks are checked when read.
    u32 row_count
    u32 slot_count
    u32 section_count
    u32 bucket_mask
    u64 key[2]
    u8 *base
    Header *header
    Row *rows
    Slot *slots
    u64 *sources
    u64 *rates
    Section *sections
    Counters *counters
    int wake  # eventfd of the supervisor


cdef inline Counters *counters_of(View *b, u32 section, u32 row) noexcept nogil:
    """The counters of a section for a row."""
    return &b.counters[<u64> section * b.row_count + row]


cdef inline u32 state_of(Slot *slot) noexcept nogil:
    """The SlotState of a slot."""
    return load32(&slot.word) & 0xFF


cdef inline u32 section_of(Slot *slot) noexcept nogil:
    """The section whose process a slot belongs to."""
    return load32(&slot.word) >> 8


cdef inline void set_state(Slot *slot, u32 state, u32 section) noexcept nogil:
    """Write a slot's state and section, which are one word."""
    store32(&slot.word, state | section << 8)


cdef inline u32 slots_high(View *b) noexcept nogil:
    """How many slots have ever been in use; none beyond the Board, whatever is written there."""
    cdef u32 high = load32(&b.header.slots_high)
    return high if high < b.slot_count else b.slot_count


cdef inline u32 sections_high(View *b) noexcept nogil:
    """How many sections have ever been in use; none beyond the Board, whatever is written there."""
    cdef u32 high = load32(&b.header.sections_high)
    return high if high < b.section_count else b.section_count


cdef inline u32 mark_of_next_record(View *b, u32 section, u32 state) noexcept nogil:
    """What marks the next record of the journal as the one of a slot's state: its place, and the state."""
    return <u32> (b.sections[section].head + 1) << 2 | state


cdef inline u32 mark_of_last_record(View *b, u32 section, u32 state) noexcept nogil:
    """The mark of the last record of the journal, as if it were the state's: there is nothing to be written."""
    return <u32> b.sections[section].head << 2 | state


cdef inline bint slot_is_valid(View *b, Slot *slot) noexcept nogil:
    """Whether a slot's row is one there is."""
    return slot.row < b.row_count
