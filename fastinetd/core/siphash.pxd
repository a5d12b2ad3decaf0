"""SipHash-1-3: a keyed hash. Who does not know the key cannot choose messages that collide.

J.-P. Aumasson and D. J. Bernstein, SipHash: a fast short-input PRF, 2012, section 2. The names are the paper's: v0 to
v3 are the state, k0 and k1 the key's words; a message's words are its bytes in little-endian order, and the last one
ends with the message's length modulo 256. One round compresses a word and three finalise, which is SipHash-c-d with
c = 1 and d = 3: the variant of hash tables (CPython, Rust).
"""

from fastinetd.system.linux cimport u64

cdef struct SipState:
    u64 v0
    u64 v1
    u64 v2
    u64 v3


cdef inline u64 rotate_left(u64 word, int bits) noexcept nogil:
    """A word rotated to the left by 1 to 63 bits."""
    return (word << bits) | (word >> (64 - bits))


cdef inline void sip_round(SipState *s) noexcept nogil:
    """SipRound, as in figure 2.1: the left column, then the right one, of each half."""
    s.v0 += s.v1
    s.v1 = rotate_left(s.v1, 13)
    s.v1 ^= s.v0
    s.v0 = rotate_left(s.v0, 32)
    s.v2 += s.v3
    s.v3 = rotate_left(s.v3, 16)
    s.v3 ^= s.v2

    s.v0 += s.v3
    s.v3 = rotate_left(s.v3, 21)
    s.v3 ^= s.v0
    s.v2 += s.v1
    s.v1 = rotate_left(s.v1, 17)
    s.v1 ^= s.v2
    s.v2 = rotate_left(s.v2, 32)


cdef inline void sip_initialise(SipState *s, u64 k0, u64 k1) noexcept nogil:
    """The key, and the letters of "somepseudorandomlygeneratedbytes"."""
    s.v0 = k0 ^ 0x736F6D6570736575ULL
    s.v1 = k1 ^ 0x646F72616E646F6DULL
    s.v2 = k0 ^ 0x6C7967656E657261ULL
    s.v3 = k1 ^ 0x7465646279746573ULL


cdef inline void sip_compress(SipState *s, u64 word) noexcept nogil:
    """Take in one word of the message."""
    s.v3 ^= word
    sip_round(s)
    s.v0 ^= word


cdef inline u64 sip_finalise(SipState *s) noexcept nogil:
    """The hash of all words that were taken in."""
    s.v2 ^= 0xFF
    sip_round(s)
    sip_round(s)
    sip_round(s)
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3
