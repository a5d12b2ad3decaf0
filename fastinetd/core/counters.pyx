"""The counters of a section: buckets of latencies and sessions, errnos of failed starts; and the sums of all."""

from libc.string cimport memset

from fastinetd.core.layout cimport ERRNOS, LATENCIES, SESSIONS, Counters, Method, View, counters_of, sections_high
from fastinetd.system.linux cimport load64, u32, u64, u8

LATENCY_BOUNDS = (
    0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.0025,
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
)
"""Upper bounds of the start latency's buckets, in seconds; one more bucket has none."""

SESSION_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0, 86400.0)
"""Upper bounds of the session length's buckets, in seconds; one more bucket has none."""

ERRNO_NAMES = (
    "other", "EPERM", "ENOENT", "E2BIG", "ENOEXEC", "EAGAIN", "ENOMEM", "EACCES", "ENOTDIR", "EINVAL",
    "ENFILE", "EMFILE", "ETXTBSY", "ELOOP", "EIO", "ENAMETOOLONG",
)
"""The errnos that failed starts are counted under, in the order of Counters.spawn_failures."""

cdef u64 latency_bounds[LATENCIES - 1]
cdef u64 session_bounds[SESSIONS - 1]
cdef u8 errno_slots[256]


cdef void fill_tables() noexcept:
    """Bounds and errnos for the functions without Python."""
    import errno as numbers
    cdef int i
    assert len(LATENCY_BOUNDS) == LATENCIES - 1 and len(SESSION_BOUNDS) == SESSIONS - 1 and len(ERRNO_NAMES) == ERRNOS
    for i in range(LATENCIES - 1):
        latency_bounds[i] = round(LATENCY_BOUNDS[i] * 1e9)
    for i in range(SESSIONS - 1):
        session_bounds[i] = round(SESSION_BOUNDS[i] * 1e9)
    memset(errno_slots, 0, sizeof(errno_slots))
    for i in range(1, ERRNOS):
        errno_slots[getattr(numbers, ERRNO_NAMES[i])] = i


fill_tables()


cdef void count_latency(Counters *counters, Method method, u64 nanoseconds) noexcept nogil:
    """Count a start that took so long from accept."""
    cdef int i = 0
    while i < LATENCIES - 1 and nanoseconds > latency_bounds[i]:
        i += 1
    counters.latency[<int> method][i] += 1
    counters.latency_ns[<int> method] += nanoseconds


cdef void count_session(Counters *counters, u64 nanoseconds) noexcept nogil:
    """Count a server that ran for so long."""
    cdef int i = 0
    while i < SESSIONS - 1 and nanoseconds > session_bounds[i]:
        i += 1
    counters.session[i] += 1
    counters.session_ns += nanoseconds


cdef void count_spawn_failure(Counters *counters, int number) noexcept nogil:
    """Count a start that failed with the errno `number`; an errno without a name in ERRNO_NAMES counts as `other`."""
    counters.spawn_failures[errno_slots[number] if 0 <= number < 256 else 0] += 1


cdef dict summed_counters(View *b, u32 row):
    """The counters of a row, each summed over all sections: name in struct Counters -> number, or tuples of them."""
    cdef Counters total
    cdef u64 *sums = <u64 *> &total
    cdef u64 *words
    cdef u32 section, i
    memset(&total, 0, sizeof(total))
    for section in range(sections_high(b)):
        words = <u64 *> counters_of(b, section, row)
        for i in range(<u32> (sizeof(Counters) // sizeof(u64))):
            sums[i] += load64(&words[i])
    return {name: as_tuples(value) for name, value in (<dict> total).items()}


cdef object as_tuples(value):
    """A number as it is, lists within lists as tuples within tuples."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value
