"""What Python reads off the Board, by name: records of the journal, slots, counters."""

from __future__ import annotations

from typing import NamedTuple

from fastinetd.core.layout import SlotState


class JournalRecord(NamedTuple):
    """One record of a section's journal."""

    when: float  # Unix time in seconds
    row: int
    kind: int  # a RecordKind
    reason: int  # FAIL: a Verdict; SPAWN_FAILED: a SpawnStep; POOL: a PoolEvent
    pid: int
    value: int  # exit status, signal number, errno, or what a POOL record says beside its reason
    signalled: bool
    seconds: int  # for which the server ran
    address: str  # of the client; "" when unknown
    port: int
    fields: int  # a sum of Field


class UsedSlot(NamedTuple):
    """A slot that is not free."""

    slot: int
    state: int  # a SlotState
    section: int
    pid: int
    row: int
    started: float  # CLOCK_MONOTONIC in seconds
    address: str
    port: int


class AdoptedServer(NamedTuple):
    """A server whose acceptor or supervisor has died, and its slot, which another process has adopted."""

    slot: int
    pid: int
    state: SlotState  # TAKEN: its START record is still to be written; RUNNING: its EXIT record is


class HandedConnection(NamedTuple):
    """A connection that a process gave to its pools; it died before it heard which process of them has it."""

    slot: int
    inode: int


class HeldPlace(NamedTuple):
    """Where a zygote is held."""

    point: int  # a HeldAt
    call: int  # number of the system call, 0xFFFFFFFF: none


class DeafEndpoint(NamedTuple):
    """The first endpoint of a service that does not listen."""

    number: int  # of the endpoint in the Plan, from 0
    errno: int


class CounterSums(NamedTuple):
    """A row's counters over all sections. Each field is the one of that name in struct Counters (layout.pxd)."""

    accepted: int
    activations: int
    rejected: tuple[int, ...]  # by Verdict
    spawn_failures: tuple[int, ...]  # by counters.ERRNO_NAMES
    latency: tuple[tuple[int, ...], ...]  # by Method, then by counters.LATENCY_BOUNDS
    latency_ns: tuple[int, ...]  # by Method
    session: tuple[int, ...]  # by counters.SESSION_BOUNDS
    session_ns: int
    exits: tuple[int, ...]  # by Status
    user_us: int
    system_us: int
    pool_hits: int
    pool_misses: int
    recycled: tuple[int, ...]  # by Recycling
    pool: tuple[int, ...]  # by PoolState
    rate_waits: int
    rate_wait_ns: int
