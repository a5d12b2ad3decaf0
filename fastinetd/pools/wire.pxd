"""The messages between an acceptor and the programs that it holds: stage/stage.h, where each is explained."""

from fastinetd.core.program cimport STAGE_VARIABLES_SIZE
from fastinetd.pools.pool cimport TURNS, send_message
from fastinetd.system.linux cimport i32, u32


cdef extern from "stage/stage.h" nogil:
    enum:
        STAGE_FORK, STAGE_PARK, STAGE_TAKE, STAGE_LEAVE
        STAGE_READY, STAGE_TOOK, STAGE_PARKED, STAGE_FAILED, STAGE_REFUSED
        STAGE_AT_MAIN, STAGE_AT_IO, STAGE_AT_OTHER, STAGE_NOT_FURTHER
        STAGE_POINT_BITS
    struct stage_request:
        u32 kind
        u32 seq
    struct stage_message:
        stage_request request
        char variables[STAGE_VARIABLES_SIZE]
    struct stage_reply:
        u32 kind
        u32 seq
        i32 value

cdef enum:
    # The seq of a request: the number of a slot or of a parked child's place, and above it how often that was used.
    FOR_PARKING = TURNS + 1  # in the turn of a PARK request: tells it from a slot's


cdef inline int send_request(int to, u32 kind, u32 seq) noexcept nogil:
    """Send a request that no connection comes with, and never wait. Returns 0 or an errno."""
    cdef stage_request request
    request.kind, request.seq = kind, seq
    return send_message(to, &request, sizeof(request), -1)
