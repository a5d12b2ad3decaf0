"""One zygote: its process, and the sockets to it."""

from fastinetd.core.client cimport Client
from fastinetd.core.ledger cimport Ledger
from fastinetd.core.program cimport Target
from fastinetd.core.reception cimport Reception
from fastinetd.pools.pool cimport PoolState, Recycling
from fastinetd.pools.wire cimport stage_reply
from fastinetd.system.linux cimport i32, u32, u64

cdef enum ZygoteState:
    ZYGOTE_NONE = 0
    ZYGOTE_STARTING = 1
    ZYGOTE_READY = 2
    ZYGOTE_LEAVING = 3  # its sockets are closed; its processes are still to be reaped

cdef enum Reading:
    REPLY = 0
    NO_REPLY = 1  # nothing has come yet
    BAD_REPLY = 2  # a message that is no reply
    BLOCKED = 3  # a message with descriptors: it stays there, and what is behind it is lost
    SILENCE = 4  # no process has the other end any more

cdef struct Zygote:
    u32 state
    u32 turn  # how often this place was used: tells what is late for another from what is for this one
    u32 pool
    i32 pid  # 0: reaped
    i32 group  # its process group: of the zygote, and of children that have not taken a connection
    int pidfd
    int control  # where it is asked for forks, and answers
    int hand  # where its parked children wait for connections
    int voice  # where they answer
    u32 handed  # connections that it, or one of its parked children, was sent and that no process has taken
    u64 since  # it is in this state
    u64 heard  # the last answer
    u64 overdue  # not before this can a connection have waited too long for it

cdef int place_of(u32 where) noexcept nogil
cdef u32 free_zygote_place(const Zygote *zygotes, u32 count) noexcept nogil
cdef bint some_zygote_has(const Zygote *zygotes, u32 count, i32 pid) noexcept nogil
cdef void count_held(Ledger *ledger, u32 row, int place, i32 call) noexcept nogil
cdef void count_given_up(Ledger *ledger, u32 row, PoolState state, Recycling why) noexcept nogil
cdef bint send_connection(Zygote *z, Target *target, bint parked, u32 seq, const Client *client) noexcept nogil
cdef Reading read_reply(Zygote *z, bint parked, stage_reply *reply, i32 *pid) noexcept nogil
cdef int start_process_of_zygote(Zygote *z, Target *target) noexcept nogil
cdef int watch_zygote(Zygote *z, u32 number, Reception reception) noexcept nogil
cdef void stop_watching(Zygote *z, Reception reception) noexcept nogil
cdef void shut_sockets(Zygote *z) noexcept nogil
cdef void close_sockets(Zygote *z, Reception reception) noexcept nogil
cdef void kill_if_waiting(Zygote *z, i32 pid) noexcept nogil
cdef i32 reap_ended(Zygote *z, Reception reception) noexcept nogil
cdef bint reap_zygote(Zygote *z) noexcept nogil
cdef bint reap_group(Zygote *z) noexcept nogil
