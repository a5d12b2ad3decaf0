"""Programs: argv, environment, ids, limits and address ranges of a service as C arrays.

Theory. A program is built by the supervisor before the roles are forked and never changed, so every role has it
without copying anything. Only the variables that tell of the connection differ from start to start; they are
written into buffers of this process that the last entries of every environment point at. How many they are is nearly
always the same for one service, so these entries are hardly ever written.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset, strlen

from fastinetd.core.client cimport Client, Peer, peer_of
from fastinetd.core.layout cimport ASK, WORKER
from fastinetd.core.variables cimport write_number, write_variable
from fastinetd.system.linux cimport (
    AF_INET, AF_INET6, INET6_ADDRSTRLEN, SOL_SOCKET, SO_PEERCRED, getsockname, getsockopt, inet_ntop, sockaddr,
    sockaddr_storage, socklen_t, u32, u64, u8, ucred,
)

from typing import NamedTuple

from fastinetd.worker import protocol

cdef extern from "core/spawn_plan.h" nogil:
    enum:
        SPAWN_LIMITS
    ctypedef struct rlimit_t "struct rlimit":
        u64 rlim_cur
        u64 rlim_max
    ctypedef struct SpawnPlan "struct spawn_plan":
        const char *path
        char **argv
        const u32 *groups
        rlimit_t *limits  # arrays of SPAWN_LIMITS in C, which alone knows that number
        int *resources
        int limit_count
        int group_count
        int change_ids
        int drop_capabilities
        u32 uid
        u32 gid
        int umask
        int set_nice
        int nice
        int use_posix_spawn

cdef extern from "stage/stage.h" nogil:
    char *STAGE_PLACE(char (*array)[STAGE_ROOM], int i)
    const char *STAGE_VARIABLE
    const char *STAGE_BIND

cdef char scratch[STAGE_PLACES][STAGE_ROOM]

WORKER_VARIABLE = f"{protocol.VARIABLE}={<int> WORKER_SOCKET}".encode()
"""Tells a worker its descriptor (docs/workers.md)."""


class Pool(NamedTuple):
    """What the core must know of a service's pool. Times in nanoseconds, sizes in bytes; 0 is no limit."""

    kind: int  # a Method
    least: int
    most: int
    ready_within: int  # a process that is not ready by then is ended
    spare_after: int  # an idle worker is let go when others have served alone for so long
    count_every: int  # how often the parked children that are wanted are counted again
    workers: int = 0
    requests: int = 0
    age: int = 0
    rss: int = 0
    runtime: int = 0
    files: tuple = ()
    library: int = -1  # zygotes: descriptor of the library that holds the program (stage/library.py)
    point: bytes = b"main"  # or first_io
    errors: int = -1  # workers: the descriptor of their standard error (logs/standard_error.py)
    guard: int = -1  # zygotes: the capability that keeps others of their user out while they start (system/guard.py)


INET_VARIABLES = (
    "REMOTE_HOST", "REMOTE_ADDR", "REMOTE_PORT", "PROTO", "TCPREMOTEIP", "TCPREMOTEPORT", "TCPLOCALPORT", "TCPLOCALIP",
)
"""What a server on an Internet socket is told of its client. Where the client is unknown only REMOTE_HOST is set."""

DATAGRAM_VARIABLES = (*INET_VARIABLES[:4], "UDPREMOTEIP", "UDPREMOTEPORT", "UDPLOCALPORT", "UDPLOCALIP")
"""What a datagram server is told of the first datagram. Without UDPLOCALIP where the socket has every address."""

UNIX_VARIABLES = ("IPCREMOTEEUID", "IPCREMOTEEGID", "PROTO")
"""What a server on a unix socket is told of its client (the names of the UCSPI programs)."""

CONNECTION_VARIABLES = frozenset(INET_VARIABLES + DATAGRAM_VARIABLES + UNIX_VARIABLES)
"""Names that are never taken over from the daemon's own environment."""

if (max(map(len, (INET_VARIABLES, DATAGRAM_VARIABLES, UNIX_VARIABLES))) > STAGE_PLACES
        or max(map(len, CONNECTION_VARIABLES)) + len("=") + INET6_ADDRSTRLEN > STAGE_ROOM):
    raise ImportError("stage/stage.h has too few places for core/program.pyx, or too little room in one")


cdef u8 *ANY = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]


cdef char **environment_for_client(Target *target, const Client *client) noexcept nogil:
    """The environment of one start: writes the client's variables, returns the whole block."""
    cdef char **variable = target.envp + target.constant
    cdef u32 count = write_client_variables(target, client)
    cdef u32 i
    for i in range(count):
        if variable[i] == NULL:  # another start had fewer
            variable[i] = scratch[i]
    if variable[count] != NULL:
        variable[count] = NULL
    return target.envp


cdef u32 write_client_variables(Target *target, const Client *client) noexcept nogil:
    """Write the client's variables into the buffers; returns how many."""
    cdef const Peer *peer = &client.peer
    cdef char text[INET6_ADDRSTRLEN]
    cdef ucred credentials
    cdef socklen_t length = sizeof(credentials)
    if target.unix_socket:
        if getsockopt(client.fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0:
            credentials.uid = credentials.gid = 0xFFFFFFFF
        write_number(STAGE_PLACE(scratch, 0), "IPCREMOTEEUID=", credentials.uid)
        write_number(STAGE_PLACE(scratch, 1), "IPCREMOTEEGID=", credentials.gid)
        write_variable(STAGE_PLACE(scratch, 2), "PROTO=", "IPC")
        return 3
    if peer.family != AF_INET and peer.family != AF_INET6:
        write_variable(STAGE_PLACE(scratch, 0), "REMOTE_HOST=", "<no address>")
        return 1
    inet_ntop(peer.family, peer.address, text, sizeof(text))
    write_variable(STAGE_PLACE(scratch, 0), "REMOTE_HOST=", text)
    write_variable(STAGE_PLACE(scratch, 1), "REMOTE_ADDR=", text)
    write_number(STAGE_PLACE(scratch, 2), "REMOTE_PORT=", peer.port)
    write_variable(STAGE_PLACE(scratch, 3), "PROTO=", "UDP" if target.datagrams else "TCP")
    write_variable(STAGE_PLACE(scratch, 4), "UDPREMOTEIP=" if target.datagrams else "TCPREMOTEIP=", text)
    write_number(STAGE_PLACE(scratch, 5), "UDPREMOTEPORT=" if target.datagrams else "TCPREMOTEPORT=", peer.port)
    return 6 + write_local_variables(target, client.fd)


cdef u32 write_local_variables(Target *target, int fd) noexcept nogil:
    """Write the address and port that the client connected to; returns how many variables these are. For a datagram
    socket that is bound to every address the kernel does not tell which one the client used: the port alone."""
    cdef char text[INET6_ADDRSTRLEN]
    cdef sockaddr_storage own
    cdef socklen_t length = sizeof(own)
    cdef Peer local
    if getsockname(fd, <sockaddr *> &own, &length) < 0:
        return 0
    peer_of(&own, length, &local)
    write_number(STAGE_PLACE(scratch, 6), "UDPLOCALPORT=" if target.datagrams else "TCPLOCALPORT=", local.port)
    if (memcmp(local.address, ANY, sizeof(local.address)) == 0
            or not inet_ntop(local.family, local.address, text, sizeof(text))):
        return 1
    write_variable(STAGE_PLACE(scratch, 7), "UDPLOCALIP=" if target.datagrams else "TCPLOCALIP=", text)
    return 2


cdef size_t pack_variables(Target *target, const Client *client, char *into) noexcept nogil:
    """The client's variables one after the other, each with its NUL; at most STAGE_VARIABLES_SIZE bytes.
    Returns their length."""
    cdef size_t length = 0, n
    cdef u32 i
    for i in range(write_client_variables(target, client)):
        n = strlen(scratch[i]) + 1
        memcpy(into + length, scratch[i], n)
        length += n
    return length


cdef void *allocate_array(size_t count, size_t size) except NULL:
    """Zeroed memory, at least one element."""
    cdef void *memory = calloc(count if count else 1, size)
    if memory == NULL:
        raise MemoryError
    return memory


cdef class Ranges:
    """Sorted address ranges with a verdict each, shared by all services with the same lists."""

    def __cinit__(self, ranges4, ranges6):
        """`ranges4` and `ranges6`: (first, last, verdict) with addresses as integers, sorted and disjoint."""
        cdef u32 i
        self.asks = any(verdict == ASK for _, _, verdict in [*ranges4, *ranges6])
        self.count4, self.count6 = len(ranges4), len(ranges6)
        self.ranges4 = <Range4 *> allocate_array(self.count4, sizeof(Range4))
        self.ranges6 = <Range6 *> allocate_array(self.count6, sizeof(Range6))
        for i, (first, last, verdict) in enumerate(ranges4):
            self.ranges4[i].first, self.ranges4[i].last, self.ranges4[i].verdict = first, last, verdict
        for i, (first, last, verdict) in enumerate(ranges6):
            self.ranges6[i].first_high, self.ranges6[i].first_low = first >> 64, first & 0xFFFFFFFFFFFFFFFF
            self.ranges6[i].last_high, self.ranges6[i].last_low = last >> 64, last & 0xFFFFFFFFFFFFFFFF
            self.ranges6[i].verdict = verdict

    def __dealloc__(self):
        free(self.ranges4)
        free(self.ranges6)


cdef class Program:
    """How a service's server is started, and who may start it. Built once, read by every role."""

    def __cinit__(self):
        memset(&self.target, 0, sizeof(self.target))
        self.kept = []

    def __init__(
        self, int row, context, *, ranges=None, int log_success=0, int log_failure=0, bint unix_socket=False,
        bint datagrams=False, int builtin=0, pool=None, bint poolless=False,
    ):
        """`context`: an ExecContext (core/exec_context.py). `ranges`: a Ranges; None admits every address.
        `log_success` and `log_failure`: a sum of Field. `builtin`: the relay's service, from 1; 0: a program. `pool`: a
        Pool; `poolless`: the service asks for one and gets none."""
        cdef Target *t = &self.target
        cdef Ranges r
        t.row, t.log_success, t.log_failure, t.builtin = row, log_success, log_failure, builtin
        t.unix_socket, t.datagrams, t.poolless = unix_socket, datagrams, poolless
        if ranges is not None:
            r = ranges
            self.kept.append(r)
            t.ranges4, t.ranges6, t.count4, t.count6, t.asks = r.ranges4, r.ranges6, r.count4, r.count6, r.asks
        self.set_variables(context.environ)
        self.set_spawn_plan(context)
        t.pool.errors = -1
        if pool is not None:
            self.set_pool(pool, context.environ)

    cdef int set_variables(self, environ) except -1:
        """The environment of each start: the constant variables, then places for those of the connection."""
        cdef Target *t = &self.target
        cdef bytes text
        cdef int i
        t.constant = len(environ)
        t.envp = <char **> allocate_array(t.constant + STAGE_PLACES + 1, sizeof(char *))
        for i, text in enumerate(environ):
            self.kept.append(text)
            t.envp[i] = text
        for i in range(len(UNIX_VARIABLES if t.unix_socket else INET_VARIABLES)):
            t.envp[t.constant + i] = scratch[i]
        return 0

    cdef int set_spawn_plan(self, context) except -1:
        """What the child reads of an ExecContext, but for the environment."""
        cdef SpawnPlan *plan = <SpawnPlan *> &self.target.spawn
        cdef bytes text
        cdef int i
        if len(context.limits) > SPAWN_LIMITS:
            raise ValueError(f"more than {SPAWN_LIMITS} resource limits")
        self.kept.append(context.path)
        text = context.path
        plan.path = text
        self.argv = <char **> allocate_array(len(context.argv) + 1, sizeof(char *))
        for i, text in enumerate(context.argv):
            self.kept.append(text)
            self.argv[i] = text
        plan.argv = self.argv
        plan.group_count = -1
        if context.groups is not None:
            self.groups = <u32 *> allocate_array(len(context.groups), sizeof(u32))
            for i, group in enumerate(context.groups):
                self.groups[i] = group
            plan.groups, plan.group_count = self.groups, len(context.groups)
        if context.ids is not None:
            plan.change_ids, plan.drop_capabilities = 1, context.drop_capabilities
            plan.uid, plan.gid = context.ids
        for i, (resource, soft, hard) in enumerate(context.limits):
            plan.resources[i] = resource
            plan.limits[i].rlim_cur = soft & 0xFFFFFFFFFFFFFFFF  # RLIM_INFINITY is -1 in Python
            plan.limits[i].rlim_max = hard & 0xFFFFFFFFFFFFFFFF
        plan.limit_count = len(context.limits)
        plan.umask = -1 if context.umask is None else context.umask
        if context.nice is not None:
            plan.set_nice, plan.nice = 1, context.nice
        plan.use_posix_spawn = context.posix_spawn
        return 0

    cdef int set_pool(self, pool, environ) except -1:
        """The pool's numbers, and the environment that its processes are started with (see stage/stage.h)."""
        cdef PoolSpec *p = &self.target.pool
        cdef bytes text
        cdef int i
        cdef list block
        p.kind, p.least, p.most, p.workers = pool.kind, pool.least, pool.most, pool.workers
        p.library, p.errors, p.guard = pool.library, pool.errors, pool.guard
        p.requests, p.age, p.rss, p.runtime = pool.requests, pool.age, pool.rss, pool.runtime
        p.ready_within, p.spare_after, p.count_every = pool.ready_within, pool.spare_after, pool.count_every
        for i, text in enumerate(pool.files[:POOL_FILES]):
            self.kept.append(text)
            p.files[i] = text
            p.file_count = i + 1
        if pool.kind == WORKER:
            block = [*environ, WORKER_VARIABLE]
        else:
            theirs = [text.partition(b"=")[2] for text in environ if text.startswith(b"LD_PRELOAD=")]
            block = [text for text in environ if not text.startswith(b"LD_PRELOAD=")]
            block.append(b"LD_PRELOAD=" + b":".join([b"/proc/self/fd/%d" % STAGE_LIBRARY, *theirs]))
            if not any(text.startswith(b"LD_BIND_NOW=") for text in environ):
                block.append(STAGE_BIND)
            block += [b"=" * (STAGE_ROOM - 1) for _ in range(STAGE_PLACES)]
            block.append(STAGE_VARIABLE + b"=" + pool.point + (b":%d" % pool.guard if pool.guard >= 0 else b""))
        p.envp = <char **> allocate_array(len(block) + 1, sizeof(char *))
        for i, text in enumerate(block):
            self.kept.append(text)
            p.envp[i] = text
        return 0

    def __dealloc__(self):
        free(self.target.pool.envp)
        free(self.argv)
        free(self.groups)
        free(self.target.envp)

    @property
    def row(self) -> int:
        """The service's row on the Board."""
        return self.target.row

    @property
    def kind(self) -> int:
        """The Method of the service's pool; EXEC: it has none."""
        return self.target.pool.kind

    @property
    def errors(self) -> int:
        """The descriptor of its workers' standard error; -1: they have none of their own."""
        return self.target.pool.errors
