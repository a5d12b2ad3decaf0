"""What each section counts for each row: starts, refusals, latencies, ends. Added to by the section's owner only."""

from fastinetd.core.layout cimport Counters, Method, View
from fastinetd.system.linux cimport u32, u64


cdef void count_latency(Counters *counters, Method method, u64 nanoseconds) noexcept nogil
cdef void count_session(Counters *counters, u64 nanoseconds) noexcept nogil
cdef void count_spawn_failure(Counters *counters, int number) noexcept nogil
cdef dict summed_counters(View *b, u32 row)
