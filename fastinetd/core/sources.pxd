"""How many servers each source has: a client's address, counted for one service.

Theory. A table of buckets with eight words each; a word is a tag of the source and its count. A source's bucket
comes from a keyed hash (siphash.pxd), so that clients cannot choose addresses that meet in one. A word is changed by
compare-and-swap alone.
"""

from fastinetd.core.layout cimport ADMIT, COUNT_BITS, PER_SOURCE, SOURCES_FULL, WAYS, Verdict, View
from fastinetd.core.siphash cimport SipState, sip_compress, sip_finalise, sip_initialise
from fastinetd.system.linux cimport cas64, load64, u16, u32, u64, u8
from libc.string cimport memcpy


cdef enum:
    SOURCE_BYTES = 22  # hashed: 16 of the address, 4 of the row, 2 of the family


cdef inline u64 source_hash(View *b, u32 row, const u8 *address, u16 family) noexcept nogil:
    """The keyed hash of a client address, which zeros fill up to 16 bytes, and of the service's row; never 0."""
    cdef SipState state
    cdef u64 words[2]
    cdef u64 found
    memcpy(words, address, sizeof(words))
    sip_initialise(&state, b.key[0], b.key[1])
    sip_compress(&state, words[0])
    sip_compress(&state, words[1])
    sip_compress(&state, <u64> SOURCE_BYTES << 56 | <u64> family << 32 | row)
    found = sip_finalise(&state)
    return found if found else 1


cdef inline u64 *bucket_of(View *b, u64 source) noexcept nogil:
    """The WAYS words that may count this source."""
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
