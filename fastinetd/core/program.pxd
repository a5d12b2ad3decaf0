"""A service as the hot path needs it: C arrays, built once from the Plan and only read afterwards."""

from fastinetd.core.client cimport Client
from fastinetd.system.linux cimport u32, u64


cdef extern from "core/spawn_plan.h" nogil:
    struct spawn_plan:
        int use_posix_spawn  # the rest is filled by Program alone (program.pyx), read by the child alone (spawn.h)

cdef extern from "stage/stage.h" nogil:
    enum:
        STAGE_LIBRARY  # what the library that holds programs is loaded from
        STAGE_PLACES  # variables that tell of a connection, at most
        STAGE_ROOM  # bytes of each
        STAGE_VARIABLES_SIZE  # bytes of all


cdef struct Range4:
    u32 first
    u32 last
    u32 verdict

cdef struct Range6:
    u64 first_high
    u64 first_low
    u64 last_high
    u64 last_low
    u32 verdict

cdef enum:
    POOL_FILES = 8  # files whose change replaces a pool, at most
    WORKER_SOCKET = 3  # the daemon's socket, by its descriptor in a worker

cdef struct PoolSpec:
    u32 kind  # a Method; EXEC: no pool
    u32 least  # processes ready for a connection, over all acceptors
    u32 most
    u32 workers  # at most, over all acceptors
    u64 requests  # connections of a worker; 0: any number
    u64 age  # of a worker, in nanoseconds; 0: any
    u64 rss  # of a worker, in bytes; 0: any
    u64 runtime  # of a worker's connection, in nanoseconds; 0: any
    u64 ready_within  # a process that is not ready by then is ended, in nanoseconds as the next two
    u64 spare_after  # an idle worker is let go when others have served alone for so long
    u64 count_every  # how often the parked children that are wanted are counted again
    int library  # of a zygote: the descriptor it is preloaded from
    int errors  # of a worker: its standard error; -1: the same as its standard output
    int guard  # of a zygote: the capability that keeps others of its user out while it starts; -1: nothing does
    u32 file_count
    const char *files[POOL_FILES]
    char **envp  # of the pool's process itself, before it has a connection

cdef struct Target:
    u32 row
    u32 log_success
    u32 log_failure
    u32 builtin  # the relay's service, from 1 (relay/relay.pyx); 0: a program
    bint unix_socket
    bint datagrams
    bint poolless  # a pool was asked for and refused: each connection is a miss
    bint asks  # for some clients the doorman must be asked
    u32 count4
    u32 count6
    Range4 *ranges4
    Range6 *ranges6
    char **envp  # the constant variables, then the connection's
    u32 constant  # how many
    spawn_plan spawn
    PoolSpec pool


cdef class Ranges:
    cdef Range4 *ranges4
    cdef Range6 *ranges6
    cdef u32 count4
    cdef u32 count6
    cdef bint asks


cdef class Program:
    cdef Target target
    cdef list kept
    cdef char **argv
    cdef u32 *groups
    cdef int set_variables(self, environ) except -1
    cdef int set_spawn_plan(self, context) except -1
    cdef int set_pool(self, pool, environ) except -1


cdef char **environment_for_client(Target *target, const Client *client) noexcept nogil
cdef size_t pack_variables(Target *target, const Client *client, char *into) noexcept nogil
