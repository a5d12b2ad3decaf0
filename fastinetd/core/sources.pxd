"""How many servers each source has: a client's address, counted for one service.

Theory. A table of buckets with eight words each; a word is a tag of the source and its count. Where a source belongs is
said by a keyed hash (SipHash-1-3), so that nobody can choose addresses that meet in one bucket. A word is changed by
compare-and-swap alone.
"""

from fastinetd.core.layout cimport ADMIT, COUNT_BITS, PER_SOURCE, SOURCES_FULL, WAYS, Verdict, View
from fastinetd.system.linux cimport cas64, load64, u16, u32, u64, u8


cdef inline u64 rotated(u64 x, int bits) noexcept nogil:
    return (x << bits) | (x >> (64 - bits))


cdef inline u64 source_hash(View *b, u32 row, const u8 *address, u16 family) noexcept nogil:
    """A keyed hash of service and address (SipHash-1-3's round on three words); never 0."""
    cdef u64 v0 = b.key[0] ^ 0x736F6D6570736575ULL
    cdef u64 v1 = b.key[1] ^ 0x646F72616E646F6DULL
    cdef u64 v2 = b.key[0] ^ 0x6C7967656E657261ULL
    cdef u64 v3 = b.key[1] ^ 0x7465646279746573ULL
    cdef u64 words[4]
    cdef u64 m
    cdef int i
    words[0] = (<u64 *> address)[0]
    words[1] = (<u64 *> address)[1]
    words[2] = (<u64> family << 32) | row
    words[3] = 0xFF
    for i in range(6):
        m = words[i] if i < 3 else 0
        if i == 3:
            v2 ^= words[3]
        v3 ^= m
        v0 += v1
        v1 = rotated(v1, 13) ^ v0
        v0 = rotated(v0, 32)
        v2 += v3
        v3 = rotated(v3, 16) ^ v2
        v0 += v3
        v3 = rotated(v3, 21) ^ v0
        v2 += v1
        v1 = rotated(v1, 17) ^ v2
        v2 = rotated(v2, 32)
        v0 ^= m
    m = v0 ^ v1 ^ v2 ^ v3
    return m if m else 1


cdef inline u64 *bucket_of(View *b, u64 source) noexcept nogil:
    return &b.sources[(source & b.bucket_mask) * WAYS]


cdef inline bint source_give(View *b, u64 source) noexcept nogil:
    """Subtract one from the source's count; False if it is not in the table."""
    cdef u64 *bucket = bucket_of(b, source)
    cdef u64 tag = source >> COUNT_BITS
    cdef u64 seen
    cdef int i = 0
    while i < WAYS:
        seen = load64(&bucket[i])
        if seen >> COUNT_BITS == tag and seen & ((1 << COUNT_BITS) - 1):
            if cas64(&bucket[i], seen, 0 if (seen & ((1 << COUNT_BITS) - 1)) == 1 else seen - 1):
                return True
            continue
        i += 1
    return False


cdef inline Verdict source_take(View *b, u64 source, u32 limit) noexcept nogil:
    """Add one to the source's count unless it has reached `limit`: ADMIT, PER_SOURCE or SOURCES_FULL.

    Two processes may enter a new source into two words of its bucket at the same moment. Each looks again after its
    own change; who sees the source twice takes its own back and starts over, so no count is ever split in two.
    """
    cdef u64 *bucket = bucket_of(b, source)
    cdef u64 tag = source >> COUNT_BITS
    cdef u64 seen
    cdef int i, empty, own, twice
    while True:
        own = empty = -1
        for i in range(WAYS):
            seen = load64(&bucket[i])
            if seen >> COUNT_BITS == tag and seen:
                own = i
                break
            if seen == 0 and empty < 0:
                empty = i
        if own >= 0:
            if (seen & ((1 << COUNT_BITS) - 1)) >= limit or (seen & ((1 << COUNT_BITS) - 1)) == (1 << COUNT_BITS) - 1:
                return PER_SOURCE
            if not cas64(&bucket[own], seen, seen + 1):
                continue
        elif limit == 0:
            return PER_SOURCE
        elif empty < 0:
            return SOURCES_FULL
        else:
            own = empty
            if not cas64(&bucket[own], 0, (tag << COUNT_BITS) | 1):
                continue
        twice = 0
        for i in range(WAYS):
            if i != own and load64(&bucket[i]) >> COUNT_BITS == tag and load64(&bucket[i]):
                twice = 1
        if not twice:
            return ADMIT
        source_give(b, source)
